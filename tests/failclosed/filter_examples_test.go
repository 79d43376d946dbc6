package failclosed_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

// TestFilterExamples: a filter that hides nothing would pass every other test
// here. The shipped policies hide what their own text says that nobody, or not
// this caller, may call.
func TestFilterExamples(t *testing.T) {
	t.Parallel()
	const payment = `[{"type": "payment_initiation", "actions": ["initiate"], "locations": ["https://mcp.example.com"],
		"instructedAmount": {"currency": "EUR", "amount": "1"}, "creditorAccount": {"iban": "DE02120300000000202051"}}]`
	for _, c := range []struct{ name, bundle, claims, want string }{
		{
			"payments, reading", "payments", `"scope": "payments:read"`,
			"payments.initiate after payments/payment_initiation, payments.status possible payments:read, unheard hidden",
		},
		{
			"payments, paying", "payments", `"scope": "payments", "authorization_details": ` + payment,
			"payments.initiate possible payments/payment_initiation, payments.status after payments:read, unheard hidden",
		},
		{
			"payments, the scope alone", "payments", `"scope": "payments payments:read"`,
			"payments.initiate after payments/payment_initiation, payments.status possible payments:read, unheard hidden",
		},
		{
			"files, reading", "files", `"scope": "files:read"`,
			"files.list possible files:read, files.read possible files:read, files.write after files:write/file_access, unheard hidden",
		},
		{
			"repositories", "repositories", `"scope": "repo"`,
			"repo.delete_branch after repo/repository_access, repo.merge after repo/repository_access, repo.read after repo/repository_access, unheard hidden",
		},
		{
			"medical records", "medical-records", `"scope": "records:read"`,
			"records.export after records:export/patient_record_access, records.read after records:read/patient_record_access, unheard hidden",
		},
		{"data queries", "data-query", `"scope": "db:query"`, "db.query after db:query/data_query, unheard hidden"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := "../../policies/examples/" + c.bundle
			e := openLibrary(t, dir)
			v, err := rar.DecodeStrict([]byte(`{"iss": "https://as.example.com", "sub": "alice@example.com", "aud": "https://mcp.example.com",
				"exp": 4102444800, "client_id": "agent", `+c.claims+`}`), rar.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			cred, rejected := engine.CredentialFromClaims("c", "pep", "", v)
			if rejected != nil {
				t.Fatal(rejected.Code)
			}
			q := &engine.FilterQuery{Caller: engine.Query{
				MCP: &engine.MCP{Server: "https://mcp.example.com", Transport: "http"}, Credentials: []engine.Credential{cred},
				Actionable: engine.NewKindSet(engine.KindScopes, engine.KindAuthorizationDetails, engine.KindAuthentication, engine.KindToken), CarriesObligations: true,
			}}
			tools, err := filepath.Glob(dir + "/authzd_tools/*")
			if err != nil || len(tools) == 0 {
				t.Fatalf("no tools: %v", err)
			}
			for _, tool := range append(tools, "unheard") {
				q.Tools = append(q.Tools, engine.ListedTool{Name: filepath.Base(tool)})
			}
			if diff := cmp.Diff(c.want, filtered(t, e, q)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestFilterDefaultPolicy: without a policy nothing can be called.
func TestFilterDefaultPolicy(t *testing.T) {
	t.Parallel()
	e := openLibrary(t, "../../policies/default")
	q := &engine.FilterQuery{
		Caller: engine.Query{MCP: &engine.MCP{Server: "s"}, Subject: &engine.Subject{Type: "identity", ID: "alice"}},
		Tools:  []engine.ListedTool{{Name: "any"}},
	}
	if got := filtered(t, e, q); got != "any hidden" {
		t.Errorf("got %s", got)
	}
}

// filtered writes the answers out: name, access, scopes, types of details.
func filtered(t *testing.T, e *engine.Engine, q *engine.FilterQuery) string {
	t.Helper()
	out, err := e.FilterTools(t.Context(), e.Snapshot(), q)
	if err != nil {
		t.Fatal(err)
	}
	words := map[engine.ToolAccess]string{engine.ToolHidden: "hidden", engine.ToolAfterRemediation: "after", engine.ToolPossible: "possible"}
	all := make([]string, len(out.Tools))
	for i, tool := range out.Tools {
		all[i] = tool.Name + " " + words[tool.Access]
		if n := tool.Needs; n != nil {
			all[i] += " " + strings.Join(n.Scopes, "+")
			if len(n.DetailTypes) > 0 {
				all[i] += "/" + strings.Join(n.DetailTypes, "+")
			}
		}
	}
	return strings.Join(all, ", ")
}
