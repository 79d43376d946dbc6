package policies_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

// TestDelegation decides by the policy that docs/policy.md shows for whose
// authority is used.
func TestDelegation(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "## Whose authority, and who acts with it\n")
	example := regexp.MustCompile("(?s)```rego\n(.*?)```").FindStringSubmatch(section)
	if example == nil {
		t.Fatal("docs/policy.md shows no policy")
	}
	strict := func(text string) rar.Value {
		v, err := rar.DecodeStrict([]byte(text), rar.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	compile := func(rego string) *engine.Snapshot {
		s, _, err := engine.Compile(t.Context(), []engine.Bundle{{
			Name: "mail", Revision: "1", Roots: []string{""}, Metadata: strict(`{"contract": 1}`),
			Modules: []engine.Module{{Path: "policy.rego", Text: "package authz\n\nimport data.authzd.v1 as authzd\n\n" + rego}},
			Data: strict(`{"approved_agents": ["https://agent.example/cimd.json"], "owners": {"https://agent.example/cimd.json": "alice"},
				"authzd_tools": {"mail.send": {"arguments": {"type": "object"}}}}`),
		}})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	const good = `"sub": "alice", "client_id": "https://agent.example/cimd.json"`
	shown := compile(example[1])
	for _, c := range []struct{ claims, want string }{
		{good, "ALLOW engine.permitted"},
		{good + `, "act": {"sub": "https://agent.example/cimd.json", "act": {"sub": "gateway"}}`, "ALLOW engine.permitted"},
		{good + `, "act": {"sub": "https://agent.example/cimd.json", "act": {"sub": "a", "act": {"sub": "b"}}}`, "DENY engine.no_permit"},
		{good + `, "act": {"sub": "other", "act": {"sub": "https://agent.example/cimd.json"}}`, "DENY engine.no_permit"},
		{`"sub": "alice", "client_id": "https://agent.example/CIMD.json"`, "DENY engine.forbidden"},
		{`"sub": "bob", "client_id": "https://agent.example/cimd.json"`, "DENY engine.forbidden"},
		{`"sub": "https://agent.example/cimd.json", "client_id": "https://agent.example/cimd.json"`, "DENY engine.forbidden"},
	} {
		if got := decided(t, shown, c.claims); got != c.want {
			t.Errorf("%s: %s, want %s", c.claims, got, c.want)
		}
	}
	wrong := compile(strings.Replace(example[1], "hops_at_most(2)", `hops_at_most("2")`, 1))
	if got := decided(t, wrong, good); got != "DENY engine.builtin_error" {
		t.Errorf("a wrong argument: %s", got)
	}
	posing := compile("permit[\"any\"] := {} if authzd.person")
	for claims, want := range map[string]string{
		good: "ALLOW engine.permitted",
		`"sub": "https://agent.example/cimd.json", "client_id": "https://agent.example/cimd.json"`: "DENY engine.no_permit",
	} {
		if got := decided(t, posing, claims); got != want {
			t.Errorf("%s: %s, want %s", claims, got, want)
		}
	}
}

// decided is the decision on one call and its first reason.
func decided(t *testing.T, s *engine.Snapshot, claims string) string {
	t.Helper()
	query := `{"mcp": {"method": "tools/call", "params": {"name": "mail.send", "arguments": {}}, "server": "https://mcp.example.com"},
		"credentials": [{"id": "a", "claims": {"iss": "https://as.example.com", "aud": "https://mcp.example.com", "exp": 4102444800, "scope": "mail", ` + claims + `}}]}`
	a := answer(t.Context(), t, s, []byte(query), time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC))
	decision, _ := a.Response.Get("decision")
	reasons, _ := a.Response.Get("reasons")
	if reasons.Len() == 0 {
		t.Fatalf("%s: no decision: %s %s", claims, a.Error, a.ErrorText)
	}
	code, _ := reasons.Index(0).Get("code")
	return decision.Text() + " " + code.Text()
}
