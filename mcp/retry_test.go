package mcp_test

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/mcp"
	"github.com/authzd/authzd/rar"
)

// retryVector: the members of given differ by kind; what this package has no
// part in yet is listed in skippedRetries.
type retryVector struct {
	vectorHead
	Given struct {
		Prior *struct {
			ContextID string `json:"context_id"`
			Principal string `json:"principal"`
			Tool      string `json:"tool"`
		} `json:"prior"`
		Request struct {
			Principal       string          `json:"principal"`
			Tool            string          `json:"tool"`
			Meta            json.RawMessage `json:"_meta"`
			Method          string          `json:"method"`
			ArgumentsDigest string          `json:"arguments_digest"`
		} `json:"request"`
		NowAuthorized    bool            `json:"now_authorized"`
		RequestState     json.RawMessage `json:"request_state"`
		Now              string          `json:"now"`
		Intact           bool            `json:"intact"`
		InputResponses   json.RawMessage `json:"input_responses"`
		ApprovalRecorded bool            `json:"approval_recorded"`
		ApprovalUser     string          `json:"approval_user"`
		Principal        string          `json:"principal"`
	} `json:"given"`
	Expect struct {
		Rejected   *bool   `json:"rejected_for_handle"`
		Correlates *string `json:"correlates_with"`
		Decision   string  `json:"decision"`
		LoggedMax  int     `json:"logged_bytes_max"`
		InputHas   *bool   `json:"input_contains_handle"`
		State      string  `json:"state"`
		Executes   *bool   `json:"executes"`
		Form       string  `json:"form"`
	} `json:"expect"`
}

// skippedRetries need what does not exist yet, recorded approvals. testdata/README.md says the same.
func skippedRetries() []string {
	return []string{
		"accept-is-not-completion", "accept-and-recorded", "decline", "approved-by-other-user",
	}
}

func TestRetryVectors(t *testing.T) {
	t.Parallel()
	var skipped []string
	vectors := load[retryVector](t, "retry.json", "mcp-retry/1")
	if len(vectors) != 17 {
		t.Errorf("%d vectors, want 17", len(vectors))
	}
	for _, v := range vectors {
		if v.Given.RequestState != nil && v.Expect.State != "" {
			t.Run(v.Name, func(t *testing.T) {
				t.Parallel()
				v.checkState(t)
			})
			continue
		}
		if v.Given.Prior == nil {
			skipped = append(skipped, v.Name)
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			v.check(t)
		})
	}
	if diff := cmp.Diff(skippedRetries(), skipped); diff != "" {
		t.Errorf("skipped (-want +got):\n%s", diff)
	}
}

func (v retryVector) check(t *testing.T) {
	t.Helper()
	params := rar.ObjectValue(
		rar.Member{Name: "name", Value: rar.StringValue(v.Given.Request.Tool)},
		rar.Member{Name: "_meta", Value: value(t, v.Given.Request.Meta)},
	)
	if v.Expect.InputHas != nil {
		seen := render(mcp.WithoutHandle(params))
		if got := strings.Contains(seen, v.Given.Prior.ContextID); got != *v.Expect.InputHas {
			t.Errorf("policy sees %s; %s", seen, v.Why)
		}
		return
	}
	prior := mcp.IssuedHandle{ContextID: v.Given.Prior.ContextID, Principal: v.Given.Prior.Principal}
	correlates := prior.EchoedBy(v.Given.Request.Principal, params)
	if want := v.Expect.Correlates != nil; correlates != want || want && *v.Expect.Correlates != prior.ContextID {
		t.Errorf("correlates: %v, want %v; %s", correlates, want, v.Why)
	}
	if logged := mcp.EchoedHandle(params); v.Expect.LoggedMax > 0 && len(logged) > v.Expect.LoggedMax {
		t.Errorf("%d bytes would be logged", len(logged))
	}
	// The handle changes nothing of the question, so neither the answer.
	with, err := mcp.Map("tools/call", params, mcp.MapOptions{})
	bare, bareErr := mcp.Map("tools/call", value(t, []byte(`{"name":"`+v.Given.Request.Tool+`"}`)), mcp.MapOptions{})
	if err != nil || bareErr != nil || with.ResourceID != bare.ResourceID || *v.Expect.Rejected {
		t.Errorf("asks %+v, %v, and without the handle %+v, %v", with, err, bare, bareErr)
	}
}

func (v retryVector) checkState(t *testing.T) {
	t.Helper()
	var state struct {
		Principal string    `json:"principal"`
		Expires   time.Time `json:"expires"`
		Method    string    `json:"method"`
		Digest    string    `json:"arguments_digest"`
	}
	if err := json.Unmarshal(v.Given.RequestState, &state); err != nil {
		t.Fatal(err)
	}
	now, err := time.Parse(time.RFC3339, v.Given.Now)
	if err != nil {
		t.Fatal(err)
	}
	key := []byte(strings.Repeat("k", 32))
	issued := mcp.RequestState{Principal: state.Principal, Method: state.Method, ArgumentsDigest: state.Digest, Expires: state.Expires}
	sealed, err := issued.Seal(key)
	if err != nil {
		t.Fatal(err)
	}
	if !v.Given.Intact {
		sealed = "A" + sealed[1:]
	}
	r := v.Given.Request
	got, err := mcp.OpenRequestState([][]byte{[]byte(strings.Repeat("n", 32)), key}, sealed, now, r.Principal, r.Method, r.ArgumentsDigest)
	if accepted := err == nil; accepted != (v.Expect.State == "accepted") {
		t.Errorf("%v, want %s; %s", err, v.Expect.State, v.Why)
	}
	if err == nil && (got.Principal != issued.Principal || got.Method != issued.Method || got.ArgumentsDigest != issued.ArgumentsDigest || !got.Expires.Equal(issued.Expires)) {
		t.Errorf("got %+v, want %+v", got, issued)
	}
}

// Whatever is changed in a sealed state, it is refused.
func TestRequestStateSealed(t *testing.T) {
	t.Parallel()
	key := []byte(strings.Repeat("k", 32))
	now := time.Unix(1_700_000_000, 0)
	sealed, err := mcp.RequestState{Principal: "alice", Method: "tools/call", ArgumentsDigest: "d", Expires: now.Add(time.Minute)}.Seal(key)
	if err != nil {
		t.Fatal(err)
	}
	open := func(keys [][]byte, text string) error {
		_, err := mcp.OpenRequestState(keys, text, now, "alice", "tools/call", "d")
		return err
	}
	if err := open([][]byte{key}, sealed); err != nil {
		t.Fatal(err)
	}
	for i := range sealed {
		if open([][]byte{key}, sealed[:i]) == nil {
			t.Errorf("%d bytes of it are taken", i)
		}
		changed := []byte(sealed)
		changed[i] ^= 1
		var coded *mcp.Error
		if err := open([][]byte{key}, string(changed)); !errors.As(err, &coded) || coded.Code != mcp.CodeRequestState {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
	for name, keys := range map[string][][]byte{"no key": nil, "another key": {[]byte(strings.Repeat("x", 32))}, "a short key": {[]byte("k")}} {
		if open(keys, sealed) == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := (mcp.RequestState{}).Seal([]byte("short")); err == nil {
		t.Error("a short key seals")
	}
	for _, other := range [][3]string{{"bob", "tools/call", "d"}, {"alice", "tools/list", "d"}, {"alice", "tools/call", "e"}} {
		if _, err := mcp.OpenRequestState([][]byte{key}, sealed, now, other[0], other[1], other[2]); err == nil {
			t.Errorf("taken for %q", other)
		}
	}
	nobody, err := mcp.RequestState{Method: "tools/call", ArgumentsDigest: "d", Expires: now.Add(time.Minute)}.Seal(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mcp.OpenRequestState([][]byte{key}, nobody, now, "", "tools/call", "d"); err == nil {
		t.Error("a state of nobody is taken")
	}
}

func TestHandle(t *testing.T) {
	t.Parallel()
	echo := func(handle string) rar.Value {
		return value(t, []byte(`{"name":"x","_meta":{"k":1,"`+mcp.HandleKey+`":`+handle+`},"z":2}`))
	}
	for _, bad := range []string{`""`, `null`, `7`, `{}`, `"a b"`, `"a\nb"`, `"` + strings.Repeat("x", 257) + `"`} {
		if got := mcp.EchoedHandle(echo(bad)); got != "" {
			t.Errorf("%s is taken for the handle %q", bad, got)
		}
	}
	for _, handle := range []string{`"authzctx_1"`, `null`, `{"id":"authzctx_1"}`} {
		if got := render(mcp.WithoutHandle(echo(handle))); got != `{"name":"x","_meta":{"k":1},"z":2}` {
			t.Errorf("without the handle %s: %s", handle, got)
		}
	}
	for _, other := range []string{`{}`, `{"_meta":null}`, `{"_meta":[]}`, `{"_meta":{}}`} {
		if got := render(mcp.WithoutHandle(value(t, []byte(other)))); got != other {
			t.Errorf("%s becomes %s", other, got)
		}
	}
	if (mcp.IssuedHandle{}).EchoedBy("", rar.Value{}) {
		t.Error("no handle is echoed by nobody")
	}
}

func TestExtraMethods(t *testing.T) {
	t.Parallel()
	params := value(t, []byte(`{"taskId":"t1"}`))
	for _, c := range []struct {
		method, resource, id string
		revisions            []string
	}{
		{"server/discover", "mcp_server", "https://mcp.example.com", []string{"2026-07-28"}},
		{"subscriptions/listen", "mcp_server", "https://mcp.example.com", []string{"2026-07-28"}},
		{"resources/templates/list", "mcp_server", "https://mcp.example.com", []string{"2025-06-18", "2025-11-25", "2026-07-28"}},
		{"tasks/update", "task", "t1", []string{"2026-07-28"}},
	} {
		for _, revision := range []string{"", "2025-06-18", "2025-11-25", "2026-07-28"} {
			o := mcp.MapOptions{ServerID: "https://mcp.example.com", ProtocolVersion: revision, HasID: true}
			if got, err := mcp.Map(c.method, params, o); err == nil {
				t.Errorf("%s of %q is mapped by default: %+v", c.method, revision, got)
			}
			o.ExtraMethods = true
			if got, err := mcp.Map("tools/list", params, o); err != nil || got.ResourceType != "mcp_server" {
				t.Errorf("beside further methods, tools/list of %q is %+v, %v", revision, got, err)
			}
			got, err := mcp.Map(c.method, params, o)
			if want := revision == "" || slices.Contains(c.revisions, revision); (err == nil) != want {
				t.Errorf("%s of %q: %+v, %v", c.method, revision, got, err)
			} else if want && (got.Action != c.method || got.ResourceType != c.resource || got.ResourceID != c.id) {
				t.Errorf("%s of %q asks %+v", c.method, revision, got)
			}
		}
	}
	for _, method := range []string{"Server/discover", "server/discover ", "tasks/delete", "sampling/createMessage"} {
		if got, err := mcp.Map(method, params, mcp.MapOptions{ServerID: "s", ExtraMethods: true}); err == nil {
			t.Errorf("%q is mapped: %+v", method, got)
		}
	}
	if got, err := mcp.Map("tasks/update", rar.Value{}, mcp.MapOptions{ServerID: "s", ExtraMethods: true}); err == nil {
		t.Errorf("tasks/update without a task is mapped: %+v", got)
	}
}

func TestDenialCode(t *testing.T) {
	t.Parallel()
	for code, valid := range map[int]bool{
		0: true, -31403: true, -32001: true, 403: true, -31999: true, -32769: true, 1: true,
		-32000: false, -32002: false, -32003: false, -32019: false, -32020: false, -32021: false, -32042: false, -32099: false,
		-32100: false, -32401: false, -32600: false, -32602: false, -32603: false, -32700: false, -32768: false,
		1 << 40: false, -1 << 40: false,
		math.MinInt32: true, math.MinInt32 - 1: false, math.MaxInt32: true, math.MaxInt32 + 1: false,
	} {
		if got := mcp.ValidDenialCode(code); got != valid {
			t.Errorf("%d is valid: %v", code, got)
		}
		want := int64(-31403)
		if valid && code != 0 {
			want = int64(code)
		}
		for _, method := range []string{"prompts/get", "tools/list"} {
			resp, err := mcp.Render(mcp.Denial{
				Remediation: mcp.Undisclosed, Message: "No.", Transport: mcp.TransportHTTP, ProtocolVersion: "2026-07-28",
				Request: mcp.Request{Method: method}, Server: mcp.Server{DenialCode: code},
			})
			if got, _ := resp.Error.Get("code"); err != nil || !rar.Equal(got, rar.IntValue(want)) {
				t.Errorf("%d: %s is denied with %s, %v, want %d", code, method, render(resp.Error), err, want)
			}
		}
	}
	unknown := &mcp.Error{Code: mcp.CodeMethodUnknown}
	for code, want := range map[int]int64{0: -32001, -32001: -32001, -31999: -31999, -32602: -32001} {
		if got, _ := (mcp.Server{DenialCode: code}).Refusal(unknown).Error.Get("code"); !rar.Equal(got, rar.IntValue(want)) {
			t.Errorf("with %d an unknown method is refused with %s, want %d", code, got.Text(), want)
		}
	}
}
