package mcp_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/mcp"
	"github.com/authzd/authzd/rar"
)

func TestRenderVectors(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"denials.json", "own-denials.json"} {
		for _, v := range load[denialVector](t, file, "mcp-denial/1") {
			t.Run(file+"/"+v.Name, func(t *testing.T) {
				t.Parallel()
				resp, err := mcp.Render(v.Given.denial(t))
				if got := reportedPaths(t, err); !cmp.Equal(got, v.Expect.Reported) {
					t.Errorf("reported %v, want %v", got, v.Expect.Reported)
				}
				problem := v.check(t, resp, v.Expect)
				for _, other := range v.AlsoAccept {
					if problem == nil {
						break
					}
					problem = v.check(t, resp, other)
				}
				if problem != nil {
					t.Errorf("%v\nwhy: %s\ngot: %s", problem, v.Why, dump(resp))
				}
				checkInvariants(t, resp)
			})
		}
	}
}

// reportedPaths lists where Render found something to leave out.
func reportedPaths(t testing.TB, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	var paths []string
	var walk func(error)
	walk = func(err error) {
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range joined.Unwrap() {
				walk(e)
			}
			return
		}
		var e *mcp.Error
		if !errors.As(err, &e) || e.Code != mcp.CodeDenialInvalid {
			t.Errorf("Render reported %v, want code %s", err, mcp.CodeDenialInvalid)
			return
		}
		paths = append(paths, e.Path)
	}
	walk(err)
	slices.Sort(paths)
	return paths
}

// check gives what differs from want; nil if nothing does.
func (v denialVector) check(t testing.TB, resp mcp.Response, want denialExpect) error {
	t.Helper()
	if want.Not != "" {
		return v.checkLoose(resp, want)
	}
	if want.Executes != nil {
		return errors.New("vector has executes without not")
	}
	if err := checkHTTP(t, resp, want.HTTP); err != nil {
		return err
	}
	if err := v.checkMessage(t, "result", resp.Result, want.JSONRPCResult); err != nil {
		return err
	}
	return v.checkMessage(t, "error", resp.Error, want.JSONRPCError)
}

func (v denialVector) checkLoose(resp mcp.Response, want denialExpect) error {
	if want.Not != "task" || want.Executes == nil || *want.Executes {
		return errors.New("vector asks for what this test cannot check")
	}
	if kind, _ := resp.Result.Get("resultType"); kind.Text() == "task" {
		return errors.New("a task was returned")
	}
	if !refuses(resp) {
		return errors.New("response does not refuse")
	}
	return nil
}

// checkMessage compares with the member of want, whose id the PEP adds.
func (v denialVector) checkMessage(t testing.TB, name string, got rar.Value, want json.RawMessage) error {
	t.Helper()
	if want == nil || string(want) == "null" {
		if got.Kind() != rar.Absent {
			return fmt.Errorf("unexpected JSON-RPC %s", name)
		}
		return nil
	}
	message := value(t, want)
	if message.Len() != 2 {
		return errors.New("vector has more than id and " + name)
	}
	if id, _ := message.Get("id"); !rar.Equal(id, value(t, v.Given.Request.ID)) {
		return errors.New("vector answers another request")
	}
	if content, _ := message.Get(name); !rar.Equal(got, content) {
		return fmt.Errorf("JSON-RPC %s differs: %s", name, cmp.Diff(content.Any(), got.Any()))
	}
	return nil
}

func checkHTTP(t testing.TB, resp mcp.Response, want *httpExpect) error {
	t.Helper()
	if want == nil {
		if resp.HTTPStatus != 0 || len(resp.Headers) != 0 {
			return errors.New("HTTP status or headers off HTTP")
		}
		return nil
	}
	if resp.HTTPStatus != want.Status {
		return fmt.Errorf("status %d, want %d", resp.HTTPStatus, want.Status)
	}
	for name, value := range want.Headers {
		if got := headerValues(resp, name); !slices.Equal(got, []string{value}) {
			return fmt.Errorf("header %s is %q, want %q", name, got, value)
		}
	}
	for _, name := range want.HeadersAbsent {
		if got := headerValues(resp, name); got != nil {
			return fmt.Errorf("header %s is %q, want none", name, got)
		}
	}
	challenges := headerValues(resp, "WWW-Authenticate")
	if want.WWWAuthenticate == nil {
		if challenges != nil {
			return fmt.Errorf("unexpected challenge %q", challenges)
		}
		return nil
	}
	if len(challenges) != 1 {
		return fmt.Errorf("%d challenges, want 1", len(challenges))
	}
	return checkChallenge(t, challenges[0], *want.WWWAuthenticate)
}

func checkChallenge(t testing.TB, header string, want challengeExpect) error {
	t.Helper()
	scheme, params, err := parseChallenge(header)
	if err != nil {
		return fmt.Errorf("challenge %s: %w", header, err)
	}
	if scheme != want.Scheme {
		return fmt.Errorf("scheme %q, want %q", scheme, want.Scheme)
	}
	if want.Remediation != nil {
		text, err := base64.RawURLEncoding.DecodeString(params["authorization_remediation"])
		if err != nil {
			return fmt.Errorf("authorization_remediation: %w", err)
		}
		if !rar.Equal(value(t, text), value(t, want.Remediation)) {
			return fmt.Errorf("authorization_remediation %s, want %s", text, want.Remediation)
		}
		delete(params, "authorization_remediation")
	}
	if _, asked := want.Params["error_description"]; !asked {
		delete(params, "error_description") // It may always be added.
	}
	for name, value := range want.ParamsInclude {
		if params[name] != value {
			return fmt.Errorf("parameter %s is %q, want %q", name, params[name], value)
		}
	}
	if want.ParamsInclude == nil {
		if diff := cmp.Diff(want.Params, params); diff != "" {
			return errors.New("parameters differ: " + diff)
		}
	}
	return nil
}

// parseChallenge reads one challenge of RFC 9110 section 11.6.1 and refuses
// everything that is not strictly that.
func parseChallenge(s string) (scheme string, params map[string]string, err error) {
	scheme, rest, _ := strings.Cut(s, " ")
	params = map[string]string{}
	for rest != "" {
		name, after, ok := strings.Cut(rest, `="`)
		if !ok || name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") != "" {
			return "", nil, fmt.Errorf("bad parameter at %q", rest)
		}
		if _, twice := params[name]; twice {
			return "", nil, fmt.Errorf("parameter %s twice", name)
		}
		var b strings.Builder
		i := 0
		for ; i < len(after) && after[i] != '"'; i++ {
			if after[i] == '\\' {
				i++
			}
			if i == len(after) || after[i] < ' ' || after[i] > '~' {
				return "", nil, fmt.Errorf("bad character in %s", name)
			}
			b.WriteByte(after[i])
		}
		if i >= len(after) {
			return "", nil, fmt.Errorf("%s is not closed", name)
		}
		params[name] = b.String()
		rest = after[i+1:]
		if rest != "" {
			if rest, ok = strings.CutPrefix(rest, ", "); !ok || rest == "" {
				return "", nil, errors.New("bad separator")
			}
		}
	}
	return scheme, params, nil
}

func headerValues(resp mcp.Response, name string) []string {
	var values []string
	for _, h := range resp.Headers {
		if strings.EqualFold(h.Name, name) {
			values = append(values, h.Value)
		}
	}
	return values
}

// refuses reports whether no client could take the response for success.
func refuses(resp mcp.Response) bool {
	if resp.Error.Kind() == rar.Object {
		return resp.Result.Kind() == rar.Absent
	}
	if resp.Result.Kind() == rar.Absent {
		return resp.HTTPStatus == 401 || resp.HTTPStatus == 403
	}
	if isError, ok := resp.Result.Get("isError"); ok && isError.Bool() {
		return true
	}
	kind, _ := resp.Result.Get("resultType")
	return kind.Text() == "input_required" || kind.Text() == "task"
}

func envelopeOf(resp mcp.Response) (rar.Value, bool) {
	holder := resp.Result
	if data, ok := resp.Error.Get("data"); ok {
		holder = data
	}
	meta, ok := holder.Get("_meta")
	if !ok {
		return rar.Value{}, false
	}
	return meta.Get(mcp.EnvelopeKey)
}

// checkInvariants holds for every response, whatever was given.
func checkInvariants(t testing.TB, resp mcp.Response) {
	t.Helper()
	if !refuses(resp) {
		t.Errorf("response does not refuse: %s", dump(resp))
	}
	for _, h := range resp.Headers {
		for i := range len(h.Value) {
			if h.Value[i] < ' ' || h.Value[i] > '~' {
				t.Errorf("header %s has byte %#x: %q", h.Name, h.Value[i], h.Value)
			}
		}
	}
	for _, c := range headerValues(resp, "WWW-Authenticate") {
		checkChallengeData(t, c)
	}
	envelope, ok := envelopeOf(resp)
	if resp.Form == mcp.FormChallenge && (ok || resp.Result.Kind() != rar.Absent || resp.Error.Kind() != rar.Absent) {
		t.Error("a challenge carries a message")
	}
	if !ok {
		return
	}
	if err := mcp.ValidateEnvelope(envelope); err != nil {
		t.Errorf("%v: %s", err, render(envelope))
	}
	if said, _ := envelope.Get("remediation"); said.Text() != string(resp.Remediation) {
		t.Errorf("envelope says %s, response %s", said.Text(), resp.Remediation)
	}
	if reason, _ := envelope.Get("reason"); reason.Text() != "insufficient_authorization" {
		t.Errorf("reason is %q", reason.Text())
	}
	if _, hints := envelope.Get("remediationHints"); hints && resp.Remediation != mcp.Available {
		t.Errorf("hints with %s", resp.Remediation)
	}
	if content, ok := resp.Result.Lookup("/content/0/text"); resp.Form == mcp.FormFinal && (!ok || content.Text() == "") {
		t.Error("no words")
	}
}

// checkChallengeData: what a challenge carries must survive the way.
func checkChallengeData(t testing.TB, header string) {
	t.Helper()
	_, params, err := parseChallenge(header)
	if err != nil {
		t.Errorf("challenge %q: %v", header, err)
		return
	}
	if strings.ContainsAny(params["error_description"], `"\`) {
		t.Errorf("error_description %q is not that of RFC 6750", params["error_description"])
	}
	data, ok := params["authorization_remediation"]
	if !ok {
		return
	}
	text, err := base64.RawURLEncoding.Strict().DecodeString(data)
	if err != nil {
		t.Errorf("authorization_remediation: %v", err)
		return
	}
	if details, ok := value(t, text).Get("authorization_details"); !ok || details.Len() == 0 {
		t.Errorf("no authorization_details in %s", text)
	}
}

func dump(resp mcp.Response) string {
	return fmt.Sprintf("form %s, remediation %s, status %d, headers %q, result %s, error %s",
		resp.Form, resp.Remediation, resp.HTTPStatus, resp.Headers, render(resp.Result), render(resp.Error))
}
