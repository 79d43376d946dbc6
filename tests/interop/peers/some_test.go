package peers_test

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What the policy testdata/some leaves of the reference servers. The tools that
// need a token are in neither list: no arguments of a caller without one are
// allowed, but another token may be.
var (
	shownTools = map[string][]string{
		"everything": {"echo", "get-annotated-message", "get-sum", "get-tiny-image"},
		"files":      {"read_text_file", "list_directory", "list_allowed_directories"},
	}
	hiddenTools = map[string][]string{
		"everything": {"get-env", "get-resource-links", "gzip-file-as-resource", "toggle-simulated-logging"},
		"files":      {"write_file", "edit_file", "create_directory", "move_file", "read_multiple_files"},
	}
)

// result is the part of a response that the tests look at.
type result struct {
	Result *struct {
		Tools     []struct{ Name string }
		Resources []struct{ URI string }
		IsError   bool
		Content   []struct{ Text string }
		Meta      map[string]json.RawMessage `json:"_meta"`
	}
	Error *struct {
		Code    int
		Message string
		Data    struct {
			Meta map[string]json.RawMessage `json:"_meta"`
		}
	}
}

// envelope of a denial, SEP-2643.
type envelope struct {
	Reason      string            `json:"reason"`
	Remediation string            `json:"remediation"`
	Handle      string            `json:"authorizationContextId"`
	Hints       []json.RawMessage `json:"remediationHints"`
}

func (tr *transcript) result(t *testing.T, name string) result {
	t.Helper()
	s := tr.step(t, name)
	if len(s.Responses) != 1 {
		t.Fatalf("%s: %d responses, %s", name, len(s.Responses), s.Outcome)
	}
	var r result
	if err := json.Unmarshal([]byte(s.Responses[0].Text), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// denied returns the envelope and the words of a denied call.
func (tr *transcript) denied(t *testing.T, name string) (envelope, string) {
	t.Helper()
	r := tr.result(t, name)
	if r.Result == nil || !r.Result.IsError || len(r.Result.Content) == 0 {
		t.Fatalf("%s is no tool result with words and isError: %+v", name, tr.step(t, name))
	}
	return open(t, name, r.Result.Meta), r.Result.Content[0].Text
}

func open(t *testing.T, name string, meta map[string]json.RawMessage) envelope {
	t.Helper()
	const key = "io.modelcontextprotocol/authorization"
	text, ok := meta[key]
	if !ok {
		t.Fatalf("%s: no envelope", name)
	}
	var e envelope
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if e.Reason != "insufficient_authorization" {
		t.Errorf("%s: reason %q", name, e.Reason)
	}
	if e.Remediation != "available" && strings.Contains(string(text), "remediationHints") {
		t.Errorf("%s: hints beside %s", name, e.Remediation)
	}
	return e
}

// some plays the script before the policy that allows some.
func some(t *testing.T, script string, start func(t *testing.T, node string, s *session) server) (before, after *transcript, s session) {
	t.Helper()
	node := needPeers(t)
	run := func(w way) *transcript {
		s = session{SDK: "ts1", Steps: steps(t, script)}
		return play(t, node, w, start(t, node, &s), s)
	}
	before = run(direct())
	return before, run(guarded("some")), s
}

func checkTools(t *testing.T, server string, before, after *transcript) {
	t.Helper()
	names := func(tr *transcript) []string {
		var list []string
		for _, tool := range tr.result(t, "tools").Result.Tools {
			list = append(list, tool.Name)
		}
		return list
	}
	was, is := names(before), names(after)
	for _, name := range shownTools[server] {
		if !slices.Contains(is, name) {
			t.Errorf("%s is not listed", name)
		}
	}
	for _, name := range hiddenTools[server] {
		if !slices.Contains(was, name) {
			t.Errorf("the server has no %s", name)
		}
		if slices.Contains(is, name) {
			t.Errorf("%s is listed", name)
		}
	}
}

// checkDenials looks at the denials that are the same over stdio and HTTP.
func checkDenials(t *testing.T, before, after *transcript) {
	t.Helper()
	for _, name := range []string{"prompts", "document", "echo", "alive"} {
		if diff := cmp.Diff(before.step(t, name).Responses, after.step(t, name).Responses); diff != "" {
			t.Errorf("%s (-direct +authzd):\n%s", name, short(diff))
		}
	}
	if e, words := after.denied(t, "forbidden words"); e.Remediation != "unavailable" || !strings.Contains(words, "These words are not repeated.") {
		t.Errorf("forbidden words: %+v, %q", e, words)
	}
	if e, _ := after.denied(t, "hidden"); e.Remediation != "undisclosed" {
		t.Errorf("hidden: %+v", e)
	}
	// What is hidden must not differ from what does not exist.
	if e, _ := after.denied(t, "no such tool"); e.Remediation != "undisclosed" {
		t.Errorf("no such tool: %+v", e)
	}
	for _, r := range after.result(t, "resources").Result.Resources {
		if strings.Contains(r.URI, "architecture") {
			t.Errorf("%s is listed", r.URI)
		}
	}
	closed := after.step(t, "closed document")
	if closed.Outcome == "result" {
		t.Errorf("the closed document was read: %s", short(closed.Responses[0].Text))
	}
	leaks(t, after, `"PATH`, "Everything Server – Architecture")
}

// leaks: what was denied is nowhere in what came.
func leaks(t *testing.T, tr *transcript, secrets ...string) {
	t.Helper()
	all, err := json.Marshal(tr)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range secrets {
		quoted, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(all), strings.Trim(string(quoted), `"`)) {
			t.Errorf("%q reached the client", s)
		}
	}
}

// TestBundles runs the tests and cases of the policies themselves.
func TestBundles(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("black-box tests are skipped with -short")
	}
	program, err := authzdBinary()
	if err != nil {
		t.Fatal(err)
	}
	for _, bundle := range []string{"allow-all", "some"} {
		if out, err := exec.CommandContext(t.Context(), program, "test", "testdata/"+bundle).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", bundle, err, out)
		}
	}
}

func TestSomeOverStdio(t *testing.T) {
	t.Parallel()
	before, after, _ := some(t, "some", func(t *testing.T, node string, _ *session) server { t.Helper(); return everything(t, node) })
	checkTools(t, "everything", before, after)
	checkDenials(t, before, after)
	// No challenge is possible, and no hint of a result asks for a scope.
	if e, _ := after.denied(t, "scope"); e.Remediation != "undisclosed" {
		t.Errorf("scope: %+v", e)
	}
	e, _ := after.denied(t, "details")
	switch e.Remediation {
	case "undisclosed": // without any token, a token is what is missing
	case "available":
		want := `{"type":"authorization_remediation","authorization_details":[{"type":"long_operation","actions":["run"]}]}`
		if len(e.Hints) != 1 || !sameJSON(t, want, string(e.Hints[0]), "authorization_reference") {
			t.Errorf("hints %s, want %s", e.Hints, want)
		}
	default:
		t.Errorf("details: %+v", e)
	}
}

func TestSomeOverHTTP(t *testing.T) {
	t.Parallel()
	before, after, _ := some(t, "some", func(t *testing.T, node string, _ *session) server { t.Helper(); return everythingHTTP(t, node) })
	checkTools(t, "everything", before, after)
	checkDenials(t, before, after)
	// What a token can remedy is a challenge, with the denial in its body.
	challenged := after.HTTP["POST tools/call"]
	if !slices.ContainsFunc(challenged, func(s string) bool {
		return (strings.HasPrefix(s, "401 ") || strings.HasPrefix(s, "403 ")) && strings.Contains(s, `scope="weather"`)
	}) {
		t.Errorf("no challenge for the scope: %q", challenged)
	}
	for _, name := range []string{"scope", "details"} {
		if s := after.step(t, name); s.Outcome == "result" {
			t.Errorf("%s: %+v", name, s)
		}
		for _, r := range after.step(t, name).Responses {
			var body result
			if err := json.Unmarshal([]byte(r.Text), &body); err != nil || body.Error == nil || body.Error.Code != -31403 {
				t.Errorf("%s: body of the challenge: %s", name, r.Text)
				continue
			}
			if e := open(t, name, body.Error.Data.Meta); e.Remediation == "unavailable" {
				t.Errorf("%s: %+v", name, e)
			}
		}
	}
}

func TestSomeFiles(t *testing.T) {
	t.Parallel()
	before, after, s := some(t, "some-files", func(t *testing.T, node string, s *session) server {
		t.Helper()
		s.Dir = fullFolder(t)
		s.Root = "file://" + s.Dir
		return files(t, node, s.Dir)
	})
	checkTools(t, "files", before, after)
	if diff := cmp.Diff(before.step(t, "read").Responses, after.step(t, "read").Responses); diff != "" {
		t.Errorf("read (-direct +authzd):\n%s", diff)
	}
	for _, name := range []string{"write", "move"} {
		if e, _ := after.denied(t, name); e.Remediation != "undisclosed" {
			t.Errorf("%s: %+v", name, e)
		}
	}
	// Nothing was done.
	if got := after.result(t, "folder").Result.Content[0].Text; got != "[FILE] secret.txt" {
		t.Errorf("%s holds %q", s.Dir, got)
	}
}

// sameJSON compares two objects, but for a member.
func sameJSON(t *testing.T, want, got, but string) bool {
	t.Helper()
	var w, g map[string]any
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		t.Fatal(err)
	}
	delete(g, but)
	return cmp.Equal(w, g)
}
