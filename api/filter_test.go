package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/status"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/engine"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

const filterPath = "/v1/tools:filter"

// filterBody asks about tools, a JSON array.
func filterBody(tools, claims string) string {
	return `{"mcp": {"server": "https://mcp.example.com", "transport": "http", "protocol_version": "2026-07-28", "client_capabilities": {}},
	"credentials": [{"id": "primary", "claims": ` + claims + `}], "tools": ` + tools + `}`
}

// filter asks both doors and fails where they differ; it returns what REST said.
func (d *doors) filter(t *testing.T, body string) answer {
	t.Helper()
	rest := d.post(t, filterPath, body)
	m := &authzdv1.FilterToolsRequest{}
	if err := api.UnmarshalJSON([]byte(body), m, api.Limits{}); err != nil {
		return rest // protobuf can not say it
	}
	out, err := d.rpc.FilterTools(t.Context(), m)
	if err != nil {
		var got struct{ Code, Path, Message string }
		if jsonErr := json.Unmarshal(rest.body, &got); jsonErr != nil || rest.status == 200 {
			t.Fatalf("REST answers %d %s, gRPC %v", rest.status, rest.body, err)
		}
		wantFault(t, "gRPC", err, got.Code, got.Path)
		if status.Convert(err).Message() != got.Message {
			t.Errorf("REST answers %s, gRPC %v", rest.body, err)
		}
		return rest
	}
	text, err := api.MarshalJSON(out)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != strings.TrimSpace(string(rest.body)) {
		t.Errorf("the doors differ:\nREST %s\ngRPC %s", rest.body, text)
	}
	return rest
}

func TestFilterTools(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	tools := `[{"name": "read"}, {"name": "pay"}, {"name": "fresh"}, {"name": "bound"}, {"name": "exact"}, {"name": "spell"}, {"name": "blocked"}, {"name": "unheard"},
		{"name": "own", "inputSchema": {"type": "object"}},
		{"name": "mapped", "inputSchema": {"type": "object", "x-authzen-mapping": {}}, "annotations": {"readOnlyHint": true}, "title": "T"}]`
	got := d.filter(t, filterBody(tools, claims(`, "scope": "read"`)))
	want := `{"tools":[` +
		`{"name":"read","access":"POSSIBLE","needs":{"scopes":["read"]},"rule":"read"},` +
		`{"name":"pay","access":"AFTER_REMEDIATION","needs":{"scopes":["payments"],"authorization_details_types":["payment"]},"rule":"pay"},` +
		`{"name":"fresh","access":"AFTER_REMEDIATION","needs":{"acr_values":["mfa"],"max_age":300},"rule":"fresh"},` +
		`{"name":"bound","access":"AFTER_REMEDIATION","needs":{"proof_of_possession":true},"rule":"bound"},` +
		`{"name":"exact","access":"POSSIBLE","rule":"exact"},` +
		`{"name":"spell","access":"POSSIBLE","rule":"spelled"},` +
		`{"name":"blocked","access":"HIDDEN","rule":"blocked"},` +
		`{"name":"unheard","access":"HIDDEN"},` +
		`{"name":"own","access":"HIDDEN"},` +
		`{"name":"mapped","access":"POSSIBLE"}` +
		`],"policy":{"bundle":"main","revision":"r1"},"rejected_credentials":[]}`
	if got.status != 200 || strings.TrimSpace(string(got.body)) != want {
		t.Errorf("got %d %s\nwant %s", got.status, got.body, want)
	}
	if got := d.filter(t, filterBody(`[]`, claims(""))); string(got.body) != `{"tools":[],"policy":{"bundle":"main","revision":"r1"},"rejected_credentials":[]}` {
		t.Errorf("no tools: %s", got.body)
	}
	expired := strings.Replace(claims(""), "4102444800", "1", 1)
	want = `{"tools":[{"name":"read","access":"AFTER_REMEDIATION","needs":{"token":true}},{"name":"unheard","access":"HIDDEN"}],` +
		`"policy":{"bundle":"main","revision":"r1"},"rejected_credentials":[{"id":"primary","code":"token.expired"}]}`
	if got := d.filter(t, filterBody(`[{"name": "read"}, {"name": "unheard"}]`, expired)); string(got.body) != want {
		t.Errorf("an expired token: %s", got.body)
	}
}

// TestFilterToolsRefuses: nothing is answered to what is malformed, and the place
// is named.
func TestFilterToolsRefuses(t *testing.T) {
	t.Parallel()
	d := start(t, func(o *api.Options) { o.Limits.MaxTools = 3 })
	good := filterBody(`[{"name": "read"}]`, claims(""))
	replace := func(old, with string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in the test's body", old)
		}
		return strings.Replace(good, old, with, 1)
	}
	tools := func(list string) string { return filterBody(list, claims("")) }
	for name, c := range map[string]struct{ body, code, path string }{
		"nothing":             {``, "request.empty", ""},
		"unknown member":      {replace(`"mcp"`, `"x": 1, "mcp"`), "request.unknown_member", "/x"},
		"no mcp":              {`{"tools": []}`, "request.missing_member", "/mcp"},
		"another method":      {replace(`"server"`, `"method": "tools/list", "server"`), "request.invalid_value", "/mcp/method"},
		"params":              {replace(`"server"`, `"params": {"name": "read"}, "server"`), "request.invalid_value", "/mcp/params"},
		"tool":                {replace(`"server"`, `"tool": {}, "server"`), "request.invalid_value", "/mcp/tool"},
		"transport":           {replace(`"transport": "http"`, `"transport": "pigeon"`), "request.invalid_value", "/mcp/transport"},
		"too many":            {tools(`[{"name": "a"}, {"name": "b"}, {"name": "c"}, {"name": "d"}]`), "request.too_large", "/tools"},
		"a tool of text":      {tools(`[{"name": "a"}, "b"]`), "request.wrong_type", "/tools/1"},
		"a tool of null":      {tools(`[null]`), "request.wrong_type", "/tools/0"},
		"no name":             {tools(`[{"name": "a"}, {"title": "b"}]`), "request.missing_member", "/tools/1/name"},
		"an empty name":       {tools(`[{"name": ""}]`), "request.missing_member", "/tools/0/name"},
		"a number for a name": {tools(`[{"name": "a"}, {"name": 5}]`), "request.wrong_type", "/tools/1/name"},
		"a name twice":        {tools(`[{"name": "a"}, {"name": "b"}, {"name": "a"}]`), "request.invalid_value", "/tools/2/name"},
		"a long name":         {tools(`[{"name": "` + strings.Repeat("a", 5000) + `"}]`), "request.too_large", "/tools/0/name"},
		"a member twice":      {tools(`[{"name": "a", "name": "b"}]`), "request.duplicate_key", "/tools/0/name"},
		"a member in case":    {tools(`[{"name": "a", "Name": "b"}]`), "request.case_variant_key", "/tools/0/Name"},
		"too deep":            {tools(`[{"name": "a", "inputSchema": ` + strings.Repeat(`{"not":`, 70) + `{}` + strings.Repeat(`}`, 70) + `}]`), "request.too_deep", ""},
		"context":             {replace(`"tools"`, `"context": [], "tools"`), "request.wrong_type", "/context"},
		"another agent":       {replace(`"tools"`, `"context": {"agent": "x"}, "tools"`), "request.agent_mismatch", "/context/agent"},
		"credential":          {replace(`"id": "primary"`, `"id": ""`), "request.missing_member", "/credentials/0/id"},
		"token":               {replace(`"id": "primary", "claims": `+claims(""), `"id": "primary", "access_token": "x"`), "request.access_token_unsupported", "/credentials/0/access_token"},
		"revision":            {replace(`"tools"`, `"require_revision": {"bundle": "main"}, "tools"`), "request.missing_member", "/require_revision/revision"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := d.filter(t, c.body).json(t)
			path, _ := got["path"].(string)
			if got["code"] != c.code || !strings.HasPrefix(path, c.path) {
				t.Errorf("got %v, want %s at %s", got, c.code, c.path)
			}
		})
	}
}

// TestFilterToolsBytes: gRPC can say what REST can not, and is refused alike.
func TestFilterToolsBytes(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	for name, c := range map[string]struct{ tool, code, path string }{
		"empty":    {``, "request.missing_member", "/tools/1"},
		"no JSON":  {`{`, "request.syntax", "/tools/1"},
		"trailing": {`{"name": "b"} x`, "request.trailing_data", "/tools/1"},
	} {
		_, err := d.rpc.FilterTools(t.Context(), &authzdv1.FilterToolsRequest{
			Mcp: &authzdv1.MCPMessage{Server: "https://mcp.example.com"}, Tools: [][]byte{[]byte(`{"name": "a"}`), []byte(c.tool)},
		})
		wantFault(t, name, err, c.code, c.path)
	}
}

// TestFilterToolsMany: a list longer than what a worker answers at once comes
// back whole and in order.
func TestFilterToolsMany(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	var list []string
	for i := range 100 {
		list = append(list, fmt.Sprintf(`{"name": "t%d"}`, i))
	}
	list[50] = `{"name": "read"}`
	got := d.filter(t, filterBody("["+strings.Join(list, ",")+"]", claims(`, "scope": "read"`)))
	var out struct {
		Tools []struct{ Name, Access string }
	}
	if err := json.Unmarshal(got.body, &out); err != nil || len(out.Tools) != 100 {
		t.Fatalf("%v: %s", err, got.body)
	}
	for i, tool := range out.Tools {
		name, access := fmt.Sprintf("t%d", i), "HIDDEN"
		if i == 50 {
			name, access = "read", "POSSIBLE"
		}
		if tool.Name != name || tool.Access != access {
			t.Errorf("place %d: %+v", i, tool)
		}
	}
}

func TestFilterToolsNotReady(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	d.engine.Swap(nil)
	if got := d.filter(t, filterBody(`[]`, claims(""))); got.status != 503 || got.json(t)["code"] != string(engine.CodeNotReady) {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

// TestFilterToolsWithTokens: tokens are verified as those of a query are.
func TestFilterToolsWithTokens(t *testing.T) {
	t.Parallel()
	i := newIssuing(t)
	d := i.start(t, nil)
	body := func(token string) string {
		return `{"mcp": {"server": "https://mcp.example.com", "transport": "http"}, "tools": [{"name": "read"}],
			"credentials": [{"id": "a", "access_token": "` + token + `"}]}`
	}
	good := i.token(t, nil)
	if got := d.post(t, filterPath, body(good)); !strings.Contains(string(got.body), `"POSSIBLE"`) {
		t.Errorf("a good token: %s", got.body)
	}
	if got := d.post(t, filterPath, body(good+"x")); !strings.Contains(string(got.body), `"needs":{"token":true}`) || !strings.Contains(string(got.body), `"code":"token.`) {
		t.Errorf("a spoiled token: %s", got.body)
	}
}
