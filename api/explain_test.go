package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/api/callers"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

const explainPath = "/v1/check:explain"

// explain asks both doors and fails where they differ; it returns what REST said.
func (d *doors) explain(t *testing.T, body string) answer {
	t.Helper()
	rest := d.post(t, explainPath, body)
	m := &authzdv1.ExplainRequest{}
	if err := api.UnmarshalJSON([]byte(body), m, api.Limits{}); err != nil {
		return rest // protobuf can not say it
	}
	out, err := d.rpc.Explain(t.Context(), m)
	if err != nil {
		var got struct{ Code, Path string }
		if jsonErr := json.Unmarshal(rest.body, &got); jsonErr != nil || rest.status == 200 {
			t.Fatalf("REST answers %d %s, gRPC %v", rest.status, rest.body, err)
		}
		wantFault(t, "gRPC", err, got.Code, got.Path)
		return rest
	}
	viaREST := &authzdv1.ExplainResponse{}
	if err := api.UnmarshalJSON(rest.body, viaREST, api.Limits{}); err != nil {
		t.Fatalf("%v: %s", err, rest.body)
	}
	for _, o := range []*authzdv1.ExplainResponse{out, viaREST} { // made anew by each call
		o.Check.DecisionId = ""
		if r := o.GetCheck().GetRemediation(); r != nil {
			r.AuthorizationContextId = ""
		}
		o.Check.Denial = nil
	}
	if !proto.Equal(out, viaREST) {
		t.Errorf("the doors differ:\nREST %v\ngRPC %v", viaREST, out)
	}
	return rest
}

func TestExplain(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	got := d.explain(t, `{"query": `+query("read", `{}`, claims(`, "scope": "read"`))+`}`)
	var x struct {
		Check struct {
			Decision, Rule string
			CallDigest     string `json:"call_digest"`
			ExpiresAt      string `json:"expires_at"`
		}
		Evaluations []struct {
			Action    struct{ Name string }
			Resource  struct{ Type, ID string }
			Evaluator string
			Rules     []struct {
				Path, Outcome string
				Definitions   []struct {
					File, Outcome string
					Line          int
					StoppedAt     *struct {
						Line int
						Text string
					} `json:"stopped_at"`
				}
			}
			Permits []struct {
				Rule     string
				Priority int
				Met      []struct{ Kind string }
			}
			Trace []string
		}
	}
	if err := json.Unmarshal(got.body, &x); err != nil || got.status != 200 {
		t.Fatalf("%d %s: %v", got.status, got.body, err)
	}
	if x.Check.Decision != "ALLOW" || x.Check.Rule != "read" || x.Check.CallDigest != "" || x.Check.ExpiresAt != "" {
		t.Errorf("the decision: %+v", x.Check)
	}
	if len(x.Evaluations) != 1 {
		t.Fatalf("%s", got.body)
	}
	e := x.Evaluations[0]
	if e.Action.Name != "tools/call" || e.Resource.Type != "tool" || e.Resource.ID != "read" || e.Evaluator != "interpreted" || len(e.Trace) != 0 {
		t.Errorf("the evaluation: %+v", e)
	}
	if len(e.Permits) != 1 || e.Permits[0].Rule != "read" || e.Permits[0].Priority != 100 || len(e.Permits[0].Met) != 1 {
		t.Errorf("the permits: %+v", e.Permits)
	}
	held, stopped := 0, 0
	for _, r := range e.Rules {
		for _, def := range r.Definitions {
			switch {
			case def.Outcome == "held" && def.StoppedAt == nil && def.Line > 0 && def.File != "":
				held++
			case def.Outcome == "undefined" && def.StoppedAt != nil && def.StoppedAt.Text != "":
				stopped++
			default:
				t.Errorf("%s: %+v", r.Path, def)
			}
		}
	}
	if held == 0 || stopped == 0 {
		t.Errorf("%d hold, %d do not: %s", held, stopped, got.body)
	}

	traced := d.explain(t, `{"query": `+query("read", `{}`, claims(`, "scope": "read"`))+`, "trace": true}`)
	if err := json.Unmarshal(traced.body, &x); err != nil || len(x.Evaluations[0].Trace) == 0 {
		t.Errorf("the trace: %v, %s", err, traced.body)
	}
	denied := d.explain(t, `{"query": `+query("read", `{}`, claims(""))+`}`)
	if err := json.Unmarshal(denied.body, &x); err != nil || x.Check.Decision != "DENY" {
		t.Errorf("%v, %s", err, denied.body)
	}
	if text := d.logs.String(); strings.Count(text, "a decision was explained") < 6 {
		t.Errorf("the log: %s", text)
	}
}

// TestExplainRefuses: nothing is explained to what is malformed, and the place is
// named from the top of the request.
func TestExplainRefuses(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	good := `{"query": ` + query("read", `{}`, claims("")) + `}`
	replace := func(old, with string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in the test's body", old)
		}
		return strings.Replace(good, old, with, 1)
	}
	for name, c := range map[string]struct{ body, code, path string }{
		"nothing":          {``, "request.empty", ""},
		"no query":         {`{}`, "request.missing_member", "/query"},
		"an empty query":   {`{"query": {}}`, "request.empty", "/query"},
		"an unknown name":  {replace(`"query"`, `"x": 1, "query"`), "request.unknown_member", "/x"},
		"a name within":    {replace(`"mcp"`, `"x": 1, "mcp"`), "request.unknown_member", "/query/x"},
		"trace of text":    {replace(`"query"`, `"trace": "yes", "query"`), "request.wrong_type", "/trace"},
		"no method":        {`{"query": {"mcp": {}}}`, "request.missing_member", "/query/mcp/method"},
		"another revision": {replace(`"mcp"`, `"require_revision": {"bundle": "main"}, "mcp"`), "request.missing_member", "/query/require_revision/revision"},
		"another agent":    {replace(`"mcp"`, `"context": {"agent": "x"}, "mcp"`), "request.agent_mismatch", "/query/context/agent"},
	} {
		got := d.explain(t, c.body)
		var f struct{ Code, Path string }
		if err := json.Unmarshal(got.body, &f); err != nil || got.status == 200 || f.Code != c.code || f.Path != c.path {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
}

// TestExplainNeedsItsRight: whoever may ask for decisions may not see why, and the
// other way round.
func TestExplainNeedsItsRight(t *testing.T) {
	t.Parallel()
	s := secure(t, nil)
	all := makeKey(t, s.keysFile, callers.Key{Name: "all", Rights: callers.All &^ callers.Explain})
	only := makeKey(t, s.keysFile, callers.Key{Name: "only", Rights: callers.Explain | callers.Assert})
	unheard := makeKey(t, s.keysFile, callers.Key{Name: "unheard", Rights: callers.Explain})
	s.server.Reload(t.Context())
	d := s.as(t, nil)
	q := query("read", `{}`, claims(`, "scope": "read"`))
	for name, c := range map[string]struct{ key, path, body, code, decision string }{
		"all others":     {all, explainPath, `{"query": ` + q + `}`, "api.right_missing", ""},
		"explain":        {only, explainPath, `{"query": ` + q + `}`, "", "ALLOW"},
		"not check":      {only, "/v1/check", q, "api.right_missing", ""},
		"without assert": {unheard, explainPath, `{"query": ` + q + `}`, "api.right_missing", ""},
	} {
		got := d.do(t, http.MethodPost, c.path, c.body, keyHeader(c.key))
		var f struct {
			Code  string
			Check struct{ Decision string }
		}
		if err := json.Unmarshal(got.body, &f); err != nil || f.Code != c.code || f.Check.Decision != c.decision {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	_, err := d.rpc.Explain(withHeaders(t.Context(), keyHeader(all)), &authzdv1.ExplainRequest{Query: request(t, q)})
	if got := reasonOf(t, err); got != "api.right_missing" {
		t.Errorf("gRPC: %v", err)
	}
}
