package failures_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/authzd/authzd/tests/internal/binary"
	"github.com/authzd/authzd/tests/tokens"
)

// Keys that can not be fetched count on until they are too old; then no token counts,
// and the client is not told that its token were at fault. They count again once the
// issuer is back.
func TestIssuerAway(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	const name = "https://as.example.com"
	issuer, err := tokens.New(name)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := issuer.Write(dir); err != nil {
		t.Fatal(err)
	}
	keys, err := os.ReadFile(filepath.Join(dir, "jwks.json"))
	if err != nil {
		t.Fatal(err)
	}
	var away atomic.Bool
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away.Load() {
			<-r.Context().Done() // it takes the connection, and says nothing
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(keys)
	}))
	t.Cleanup(web.Close)
	t.Cleanup(web.CloseClientConnections)
	file := filepath.Join(dir, "issuers.yaml")
	write(t, file, "issuers:\n  - issuer: "+name+"\n    keys: {jwks_url: "+web.URL+", refresh_every: 300ms, min_interval: 100ms, max_age: 1s}\n")
	p := binary.Start(t, serve(t, "", "--issuers", file, "--bundle", policy(t, `package authz

import data.authzd.v1 as authzd

permit["holders"] := {"require": [authzd.scopes(["files"])]} if input.action.name == "tools/call"
`)))
	c := newClient(t, p)
	token, err := issuer.Token(map[string]any{"sub": "alice", "aud": "https://mcp.example.com", "scope": "files"})
	if err != nil {
		t.Fatal(err)
	}
	ask := func() answer {
		got, err := c.call(t.Context(), http.MethodPost, "/v1/check", `{"mcp":{"method":"tools/call","params":{"name":"read","arguments":{}},"server":"https://mcp.example.com","transport":"http",
			"protocol_version":"2025-11-25","client_capabilities":{}},"credentials":[{"id":"primary","access_token":"`+token+`"}]}`)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	allowed := func() error {
		if got := ask(); got.Decision != "ALLOW" {
			return fmt.Errorf("answers %+v", got)
		}
		return nil
	}
	usable := func() float64 { return p.Metric(t, `authzd_issuer_keys_usable{issuer="`+name+`"}`) }
	binary.WaitFor(t, patience, allowed)
	before := p.Usage(t)

	away.Store(true)
	if err := allowed(); err != nil {
		t.Errorf("keys that are not old count: %v", err)
	}
	binary.WaitFor(t, patience, func() error {
		if got := ask(); got.Decision != "DENY" || got.Error.Code != "engine.issuer_unavailable" {
			return fmt.Errorf("answers %+v", got)
		}
		return nil
	})
	if usable() != 0 {
		t.Error("the metric says that the keys are usable")
	}
	web.CloseClientConnections()
	binary.WaitFor(t, patience, func() error {
		if allowed() == nil {
			return errors.New("WRONG ALLOW by keys that are too old")
		}
		if got := p.Log.String(); !strings.Contains(got, "keys of an issuer were not read") {
			return fmt.Errorf("not logged: %s", got)
		}
		return nil
	})
	away.Store(false)
	web.CloseClientConnections()
	binary.WaitFor(t, patience, allowed)
	if usable() != 1 {
		t.Error("the metric says that the keys are not usable")
	}
	p.Calm(t, before, patience)
}
