package api_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/authzd/authzd/api"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

// queries are decided alike by every door; want is what REST says.
func queries() map[string]struct{ query, decision, rule string } {
	return map[string]struct{ query, decision, rule string }{
		"allow":             {query("read", `{}`, claims(`, "scope": "read"`)), "ALLOW", "read"},
		"scope missing":     {query("read", `{}`, claims(``)), "DENY", "read"},
		"details missing":   {query("pay", `{"amount": "12.50"}`, claims(`, "scope": "payments"`)), "DENY", "pay"},
		"both missing":      {query("pay", `{"amount": "12.50"}`, claims(``)), "DENY", "pay"},
		"details held":      {query("pay", `{"amount": 12.50}`, claims(`, "scope": "payments", "authorization_details": [{"type": "payment", "amount": "20"}]`)), "ALLOW", "pay"},
		"details too small": {query("pay", `{"amount": 20.01}`, claims(`, "scope": "payments", "authorization_details": [{"type": "payment", "amount": "20"}]`)), "DENY", "pay"},
		"step-up":           {query("fresh", `{}`, claims(``)), "DENY", "fresh"},
		"fresh enough":      {query("fresh", `{}`, claims(`, "acr": "mfa", "auth_time": 1795370300`)), "ALLOW", "fresh"},
		"proof missing":     {query("bound", `{}`, claims(``)), "DENY", "bound"},
		"obligations":       {query("logged", `{}`, claims(`, "scope": "read"`)), "ALLOW", "logged"},
		"forbidden":         {query("blocked", `{"who": "mallory \"the\" <b>"}`, claims(``)), "DENY", "blocked"},
		"no rule":           {query("nothing", `{}`, claims(``)), "DENY", ""},
		"bad arguments":     {query("exact", `{"n": "text"}`, claims(``)), "DENY", ""},
		"expired":           {query("read", `{}`, `{"iss": "https://as.example.com", "sub": "alice", "aud": "https://mcp.example.com", "exp": 1}`), "DENY", ""},
		"malformed claims":  {query("read", `{}`, `{"iss": 5}`), "DENY", ""},
		"no credential":     {`{"mcp": {"method": "tools/call", "params": {"name": "read"}, "transport": "http", "protocol_version": "2026-07-28"}}`, "DENY", ""},
		"subject only":      {`{"mcp": {"method": "tools/call", "params": {"name": "read"}, "transport": "http"}, "subject": {"type": "identity", "id": "alice"}}`, "DENY", "read"},
		"stdio":             {strings.Replace(query("pay", `{"amount": "12.50"}`, claims(`, "scope": "payments"`)), `"http", "protocol`, `"stdio", "protocol`, 1), "DENY", "pay"},
		"no transport":      {strings.Replace(query("pay", `{"amount": "12.50"}`, claims(`, "scope": "payments"`)), `"transport": "http",`, ``, 1), "DENY", "pay"},
		"not MCP":           {`{"subject": {"type": "identity", "id": "alice", "properties": {"issuer": "https://as.example.com"}}, "action": {"name": "read"}, "resource": {"type": "page", "id": "1"}, "context": {"a": 1e2}}`, "ALLOW", "served"},
		"escapes":           {query("blocked", `{"who": "\u00e9\ud83d\ude00\u2028\u0001"}`, claims(``)), "DENY", "blocked"},
	}
}

// volatile members differ from one decision to the next.
func settle(t *testing.T, data []byte) any {
	t.Helper()
	v, err := rar.DecodeStrict(data, rar.Limits{MaxBytes: 1 << 20})
	if err != nil {
		t.Fatalf("answer is not strict JSON: %v\n%s", err, data)
	}
	ids := map[string]string{}
	if id, ok := v.Get("decision_id"); ok {
		ids[id.Text()] = "ID"
	}
	if id, ok := v.Lookup("/remediation/authorization_context_id"); ok {
		ids[id.Text()] = "CONTEXT"
	}
	text := string(v.AppendCanonical(nil))
	for id, name := range ids {
		text = strings.ReplaceAll(text, id, name)
	}
	var out any
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestDoorsAgree(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	for name, q := range queries() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rest := d.post(t, "/v1/check", q.query)
			if rest.status != 200 {
				t.Fatalf("REST: %d %s", rest.status, rest.body)
			}
			m := rest.json(t)
			if m["decision"] != q.decision || (m["rule"] != q.rule && (m["rule"] != nil || q.rule != "")) {
				t.Errorf("REST: %v by rule %v, want %s by %q\n%s", m["decision"], m["rule"], q.decision, q.rule, rest.body)
			}
			want := settle(t, rest.body)

			resp, err := d.rpc.Check(t.Context(), request(t, q.query))
			if err != nil {
				t.Fatalf("gRPC: %v", err)
			}
			data, err := api.MarshalJSON(resp)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, settle(t, data)); diff != "" {
				t.Errorf("gRPC differs from REST (-REST +gRPC):\n%s", diff)
			}

			item := d.post(t, "/v1/check:batch", batchOf(t, q.query))
			if item.status != 200 {
				t.Fatalf("batch: %d %s", item.status, item.body)
			}
			v, _ := rar.DecodeStrict(item.body, rar.Limits{MaxBytes: 1 << 20})
			check, ok := v.Lookup("/items/0/check")
			if !ok {
				t.Fatalf("batch: %s", item.body)
			}
			if diff := cmp.Diff(want, settle(t, check.AppendJSON(nil))); diff != "" {
				t.Errorf("batch differs from REST (-REST +batch):\n%s", diff)
			}
		})
	}
}

// batchOf wraps a query into a batch.
func batchOf(t *testing.T, query string) string {
	t.Helper()
	v := value(t, query)
	credentials := rar.ArrayValue()
	var members []rar.Member
	for i := range v.Len() {
		if m := v.Member(i); m.Name == "credentials" {
			credentials = m.Value
		} else {
			members = append(members, m)
		}
	}
	return string(rar.ObjectValue(
		rar.Member{Name: "credentials", Value: credentials},
		rar.Member{Name: "queries", Value: rar.ArrayValue(rar.ObjectValue(members...))},
	).AppendJSON(nil))
}

// A number that a double can not hold must reach policy as itself: through
// google.protobuf.Struct the policy would see another number than the tool.
func TestDigitsReachPolicy(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	for _, c := range []struct{ tool, n, rule, scope string }{
		{"exact", "9007199254740993", "exact", ""},
		{"exact", "9007199254740992", "rounded", ""},
		{"spell", "9007199254740993", "spelled", "9007199254740993"},
		{"spell", "12000.50", "spelled", "12000.50"},
	} {
		q := query(c.tool, `{"n": `+c.n+`}`, claims(`, "scope": "`+c.scope+`"`))
		rest := d.post(t, "/v1/check", q).json(t)
		if rest["decision"] != "ALLOW" || rest["rule"] != c.rule {
			t.Errorf("REST, %s: %v by %v, want ALLOW by %s: %v", c.n, rest["decision"], rest["rule"], c.rule, rest["reasons"])
		}
		resp, err := d.rpc.Check(t.Context(), request(t, q))
		if err != nil {
			t.Fatal(err)
		}
		if resp.GetDecision() != authzdv1.Decision_DECISION_ALLOW || resp.GetRule() != c.rule {
			t.Errorf("gRPC, %s: %v by %q, want ALLOW by %s", c.n, resp.GetDecision(), resp.GetRule(), c.rule)
		}
	}
	// And back: an obligation's digits.
	rest := d.post(t, "/v1/check", query("logged", `{}`, claims(`, "scope": "read"`)))
	if !strings.Contains(string(rest.body), `"level":9007199254740993`) {
		t.Errorf("obligation: %s", rest.body)
	}
}

func TestBatch(t *testing.T) {
	t.Parallel()
	d := start(t, func(o *api.Options) { o.Limits.MaxBatch = 3 })
	call := func(tool string) *authzdv1.CheckBatchQuery {
		q := request(t, query(tool, `{}`, claims(``)))
		return &authzdv1.CheckBatchQuery{Mcp: q.GetMcp()}
	}
	good := &authzdv1.Credential{Id: "c", Claims: []byte(claims(`, "scope": "read"`))}
	bad := call("read")
	bad.Mcp.Params = []byte(`{"name": "read", "name": "pay"}`)
	resp, err := d.rpc.CheckBatch(t.Context(), &authzdv1.CheckBatchRequest{
		Credentials: []*authzdv1.Credential{good}, Queries: []*authzdv1.CheckBatchQuery{call("read"), bad, call("bound")},
	})
	if err != nil {
		t.Fatal(err)
	}
	items := resp.GetItems()
	if len(items) != 3 || items[0].GetCheck().GetDecision() != authzdv1.Decision_DECISION_ALLOW ||
		items[2].GetCheck().GetDecision() != authzdv1.Decision_DECISION_DENY {
		t.Errorf("items: %v", items)
	}
	if e := items[1].GetError(); e.GetCode() != "request.duplicate_key" || e.GetPath() != "/queries/1/mcp/params/name" || e.GetRequestId() == "" {
		t.Errorf("malformed item: %v", e)
	}

	for name, c := range map[string]struct {
		m          *authzdv1.CheckBatchRequest
		code, path string
	}{
		"no query": {&authzdv1.CheckBatchRequest{Credentials: []*authzdv1.Credential{good}}, "request.empty", "/queries"},
		"too many": {&authzdv1.CheckBatchRequest{Queries: []*authzdv1.CheckBatchQuery{call("read"), call("read"), call("read"), call("read")}}, "request.too_large", "/queries"},
		"bad credential": {&authzdv1.CheckBatchRequest{
			Credentials: []*authzdv1.Credential{{Id: "c", Claims: []byte(`[]`)}}, Queries: []*authzdv1.CheckBatchQuery{call("read")},
		}, "request.wrong_type", "/credentials/0/claims"},
	} {
		_, err := d.rpc.CheckBatch(t.Context(), c.m)
		wantFault(t, name, err, c.code, c.path)
	}
}

// TestBatchOneSnapshot swaps policies while batches run: no batch may mix them.
func TestBatchOneSnapshot(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	one, two := snapshot(t, "r1"), snapshot(t, "r2")
	ctx, cancel := context.WithCancel(t.Context())
	swapped := make(chan struct{})
	go func() {
		defer close(swapped)
		for ctx.Err() == nil {
			d.engine.Swap(two)
			d.engine.Swap(one)
		}
	}()
	q := request(t, query("read", `{}`, claims(``)))
	m := &authzdv1.CheckBatchRequest{Credentials: q.GetCredentials()}
	for range 8 {
		m.Queries = append(m.Queries, &authzdv1.CheckBatchQuery{Mcp: q.GetMcp()})
	}
	for range 30 {
		resp, err := d.rpc.CheckBatch(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range resp.GetItems() {
			if got, want := i.GetCheck().GetPolicy().GetRevision(), resp.GetItems()[0].GetCheck().GetPolicy().GetRevision(); got != want {
				t.Fatalf("one batch, two revisions: %s and %s", got, want)
			}
		}
	}
	cancel()
	<-swapped
}

func TestRequireRevision(t *testing.T) {
	t.Parallel()
	d := start(t, func(o *api.Options) { o.MaxDuration = 30 * time.Second })
	q := request(t, query("read", `{}`, claims(`, "scope": "read"`)))
	q.RequireRevision = &authzdv1.PolicyRevision{Bundle: "main", Revision: "r2"}

	// Of the time that the server gives: the client waits, so that a busy machine may
	// answer late.
	short := start(t, func(o *api.Options) { o.MaxDuration = time.Second })
	_, err := short.rpc.Check(t.Context(), q)
	wantFault(t, "not active", err, "api.revision_not_active", "/require_revision")
	if got := status.Code(err); got != codes.FailedPrecondition {
		t.Errorf("status %v", got)
	}

	later := time.AfterFunc(100*time.Millisecond, func() { d.engine.Swap(snapshot(t, "r2")) })
	defer later.Stop()
	resp, err := d.rpc.Check(t.Context(), q)
	if err != nil || resp.GetPolicy().GetRevision() != "r2" {
		t.Fatalf("after activation: %v, %v", resp.GetPolicy(), err)
	}
	// It has been active: a later revision answers too.
	d.engine.Swap(snapshot(t, "r3"))
	rest := d.post(t, "/v1/check", strings.Replace(query("read", `{}`, claims(`, "scope": "read"`)), `{"mcp"`,
		`{"require_revision": {"bundle": "main", "revision": "r2"}, "mcp"`, 1))
	if rest.status != 200 || !strings.Contains(string(rest.body), `"revision":"r3"`) {
		t.Errorf("after a later one: %d %s", rest.status, rest.body)
	}
}

func TestRequireRevisionTimesOutOverREST(t *testing.T) {
	t.Parallel()
	d := start(t, func(o *api.Options) { o.MaxDuration = 200 * time.Millisecond })
	q := strings.Replace(query("read", `{}`, claims(``)), `{"mcp"`, `{"require_revision": {"bundle": "main", "revision": "none"}, "mcp"`, 1)
	got := d.post(t, "/v1/check", q)
	if got.status != 409 || got.json(t)["code"] != "api.revision_not_active" {
		t.Errorf("%d %s", got.status, got.body)
	}
}
