package loop_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// request asks authzd for anything but a decision.
func (p *pdp) request(t *testing.T, method, path, body string, into any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+p.address+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(send(t, http.DefaultClient, req, http.StatusOK).Body, into); err != nil {
		t.Fatal(err)
	}
}

// plan is what authzd answers to planned calls.
type plan struct {
	Status  string
	Optimal bool
	Hints   []struct {
		Type      string
		Scopes    []string
		Details   json.RawMessage `json:"authorization_details"`
		Reference string          `json:"authorization_reference"`
	}
	Calls []struct{ Outcome, Rule string }
}

// TestPlanned: a client plans three calls, asks its user once, and the one token
// allows all three and nothing beside them.
func TestPlanned(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	w := files(t)
	c := newClient(t, w.as, agent, user)
	first := c.obtain(t, ask{Scope: w.first, Resource: w.rs.id}, approve)
	calls := []call{
		file("files.read", "/projects/a/notes.txt"), file("files.read", "/projects/b/notes.txt"), file("files.write", "/projects/c"),
	}
	var planned []string
	for _, one := range calls {
		planned = append(planned, fmt.Sprintf(`{"mcp":{"method":"tools/call","params":{"name":%q,"arguments":%s},"server":%q,"transport":"http","protocol_version":"2026-07-28"}}`,
			one.Tool, one.Args, w.rs.id))
	}
	var p plan
	w.rs.pdp.request(t, http.MethodPost, "/v1/authorization-details:plan",
		`{"credentials":[{"id":"access-token","claims":`+string(claimsOf(t, first.Access))+`}],"calls":[`+strings.Join(planned, ",")+`]}`, &p)
	if p.Status != "obtainable" || !p.Optimal {
		t.Fatalf("%+v", p)
	}
	wanted := ask{Resource: w.rs.id}
	for _, h := range p.Hints {
		if h.Type == "scopes" {
			wanted.Scope = strings.Join(h.Scopes, " ")
		}
		if h.Type == "authorization_details" {
			wanted.Details = string(h.Details)
			if h.Reference == "" {
				t.Error("the plan has no authorization_reference, although a key is configured")
			}
		}
	}
	var objects []json.RawMessage
	if err := json.Unmarshal([]byte(wanted.Details), &objects); err != nil || len(objects) != 2 {
		t.Fatalf("asked for %s, want one object to read and one to write", wanted.Details)
	}
	tok := c.obtain(t, wanted, approve)
	for _, one := range calls {
		allowed.judge(t, w.rs.serve(t, one, tok.Access).Decision)
	}
	for _, beside := range []call{
		file("files.write", "/projects/a/notes.txt"), file("files.read", "/projects/a"), file("files.write", "/projects/d"),
	} {
		want{decision: "DENY"}.judge(t, w.rs.serve(t, beside, tok.Access).Decision)
	}
}

// TestTypesFromAuthzd: the authorization server learns its types from what
// authzd says of them, and refuses what authzd would.
func TestTypesFromAuthzd(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	declaring := startAuthzd(t, "files=testdata/files")
	var list struct {
		Supported []string        `json:"authorization_details_types_supported"`
		Types     json.RawMessage `json:"types_metadata"`
		Resource  struct {
			Resource string
			Types    []string `json:"authorization_details_types_supported"`
		} `json:"resource_metadata"`
	}
	declaring.request(t, http.MethodGet, "/v1/authorization-details/types?resource="+mcpServer, "", &list)
	if list.Resource.Resource != mcpServer || len(list.Resource.Types) != len(list.Supported) {
		t.Errorf("resource metadata %+v of %q", list.Resource, list.Supported)
	}
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(list.Types)
	}))
	t.Cleanup(endpoint.Close)
	c := newClient(t, startAuthServer(t, "--types", endpoint.URL), agent, user)
	for details, valid := range map[string]bool{
		`[{"type":"file_access","actions":["read"],"paths":["/a"]}]`:           true,
		`[{"type":"file_access","actions":["delete"],"paths":["/a"]}]`:         false,
		`[{"type":"file_access","actions":["read"],"paths":["/a"],"extra":1}]`: false,
		`[{"type":"file_access","actions":["read"]}]`:                          false,
		`[{"type":"car"}]`: false,
	} {
		pushed := c.push(t, ask{Details: details, Resource: mcpServer})
		var answer struct {
			Valid bool
			Error string
		}
		declaring.request(t, http.MethodPost, "/v1/authorization-details:validate", `{"authorization_details":`+details+`}`, &answer)
		if (pushed.URI != "") != valid || answer.Valid != valid || answer.Error != pushed.Code {
			t.Errorf("%s: the authorization server says %+v, authzd %+v", details, pushed.oauthError, answer)
		}
	}
}
