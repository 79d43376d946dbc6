package failclosed_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/engine"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

// TestFilterHidesNoAllow: of every query of the suites and every mutant that is
// allowed, FilterTools reports the tool as possible.
func TestFilterHidesNoAllow(t *testing.T) {
	t.Parallel()
	for _, s := range loadSuites(t) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			e := openLibrary(t, s.dir)
			allowed := 0
			queries := s.cases(t)
			if testing.Short() {
				queries = spread(queries, briefly)
			}
			for _, b := range s.queries {
				queries = append(queries, testCase{Name: b.Name, Query: b.Query})
			}
			for _, c := range queries {
				if askLibrary(t, e, c.Query).decision != "ALLOW" {
					continue
				}
				r, err := api.DecodeQuery(c.Query, api.Limits{})
				if err != nil {
					t.Fatal(err)
				}
				q := r.Query
				// What the filter is not told can not be judged by it.
				if q.MCP == nil || q.MCP.Method != "tools/call" || q.Action.Properties.Kind() != rar.Absent || q.Resource.Properties.Kind() != rar.Absent {
					continue
				}
				allowed++
				tool := engine.ListedTool{Name: q.Resource.ID, Entry: q.MCP.Tool}
				out, err := e.FilterTools(t.Context(), e.Snapshot(), &engine.FilterQuery{Caller: *q, Tools: []engine.ListedTool{tool}})
				if err != nil || out.Tools[0].Access != engine.ToolPossible {
					t.Errorf("%s is allowed, and the filter says %+v, %v: %s", c.Name, out.Tools, err, c.Query)
				}
			}
			if allowed == 0 && oracleAllows(t, s) {
				t.Error("nothing was allowed: this suite could not fail")
			}
		})
	}
}

// filterBody makes of a query the question which tools its caller could call.
func filterBody(t *testing.T, query []byte) *node {
	t.Helper()
	q, err := parse(query)
	if err != nil {
		t.Fatal(err)
	}
	name, _ := q.get("mcp", "params", "name").str()
	entry := obj(member{name: "name", value: str(name)})
	if tool := q.get("mcp", "tool"); tool != nil {
		entry = tool.clone()
		entry.set("name", str(name))
	}
	m := q.get("mcp").clone()
	m.drop("params")
	m.drop("tool")
	body := obj(member{name: "mcp", value: m}, member{name: "tools", value: list(entry, obj(member{name: "name", value: str("unheard")}))})
	for _, part := range []string{"subject", "credentials", "context"} {
		if v := q.get(part); v != nil {
			body.set(part, v.clone())
		}
	}
	return body
}

// filterMessage puts the text into the message of gRPC, as message does.
func filterMessage(text []byte) (m *authzdv1.FilterToolsRequest, exact bool) {
	q, err := parse(text)
	if err != nil || q.kind != object || bytes.Contains(text, []byte(`\ud800`)) {
		return nil, false
	}
	rest := q.clone()
	tools := rest.get("tools")
	rest.drop("tools")
	if tools != nil && tools.kind != array || !q.within("mcp", "subject", "credentials", "context", "tools") {
		return nil, false
	}
	check, exact := message([]byte(rest.String()))
	if check == nil {
		return nil, false
	}
	m = &authzdv1.FilterToolsRequest{Mcp: check.GetMcp(), Subject: check.GetSubject(), Credentials: check.GetCredentials(), Context: check.GetContext()}
	if tools != nil {
		for _, tool := range tools.items {
			m.Tools = append(m.Tools, []byte(tool.String()))
		}
	}
	return m, exact
}

// TestFilterDoors spoils questions about tools at every place: REST and gRPC
// answer alike, with an error that has a code or with a list in which nothing
// stands that the contract does not know, and the tool that no policy has heard
// of is in no list.
func TestFilterDoors(t *testing.T) {
	t.Parallel()
	most := 300
	if testing.Short() {
		most = briefly
	}
	for _, s := range loadSuites(t) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			d := openDoors(t, openLibrary(t, s.dir))
			n := map[bool]int{}
			for i, b := range s.queries {
				q, err := parse(b.Query)
				if err != nil || q.get("mcp", "params", "name") == nil {
					continue
				}
				body := filterBody(t, b.Query)
				n[d.compareFilter(t, b.Name, []byte(body.String()))]++
				if i > 0 {
					continue
				}
				for _, m := range sample(mutants(body), s.name, most) {
					n[d.compareFilter(t, m.name, []byte(m.query()))]++
				}
			}
			if n[true] == 0 || n[false] == 0 {
				t.Errorf("answers and errors: %v", n)
			}
		})
	}
}

// compareFilter asks both doors, and tells whether they answered.
func (d *doors) compareFilter(t *testing.T, name string, body []byte) bool {
	t.Helper()
	text, decided := d.filterREST(t, body)
	answer, err := parse(text)
	if err != nil {
		t.Errorf("%s: an answer that is no JSON: %s", name, text)
		return false
	}
	code, coded := answer.get("code").str()
	if !decided && (!coded || code == "") {
		t.Errorf("%s: an error without a code: %s", name, text)
	}
	if decided {
		for _, tool := range answer.get("tools").items {
			access, _ := tool.get("access").str()
			if access != "POSSIBLE" && access != "AFTER_REMEDIATION" && access != "HIDDEN" {
				t.Errorf("%s: access %q: %s", name, access, text)
			}
		}
	}
	m, exact := filterMessage(body)
	if m == nil {
		return decided
	}
	out, err := d.grpc.FilterTools(t.Context(), m)
	switch {
	case err != nil:
		if got := codeOfStatus(t, err); exact && got != code {
			t.Errorf("%s: gRPC answers %s, REST %s: %s", name, got, text, body)
		}
	case exact:
		same, err := api.MarshalJSON(out)
		if err != nil || string(same) != strings.TrimSpace(string(text)) {
			t.Errorf("%s: gRPC answers %s, REST %s: %s", name, same, text, body)
		}
	}
	return decided
}

func (d *doors) filterREST(t *testing.T, body []byte) ([]byte, bool) {
	t.Helper()
	decided, text, err := d.Send(t.Context(), http.MethodPost, "/v1/tools:filter", body)
	if err != nil {
		t.Fatal(err)
	}
	return text, decided
}
