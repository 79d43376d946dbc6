package credentials_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/authzd/authzd/credentials"
	"github.com/authzd/authzd/engine"
)

// TestDefaultTransport goes through real connections: discovery, keys and
// introspection work over loopback, a redirect leads nowhere.
func TestDefaultTransport(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	as := httptest.NewServer(mux)
	defer as.Close()
	keys := keysOf(t, "k")
	serve := func(pattern, text string) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) })
	}
	serve("GET /.well-known/oauth-authorization-server/good", `{"issuer": "`+as.URL+`/good", "jwks_uri": "`+as.URL+`/jwks"}`)
	serve("GET /jwks", keys)
	serve("GET /huge", strings.Repeat(" ", 1<<20)+keys)
	mux.Handle("GET /moved", http.RedirectHandler(as.URL+"/jwks", http.StatusFound))
	serve("POST /introspect", `{"active": true, "sub": "alice", "aud": "`+server+`", "client_id": "agent", "exp": 4102444800}`)

	config := credentials.Config{Issuers: []credentials.Issuer{
		{Issuer: as.URL + "/good", Keys: credentials.KeySource{Discover: true}},
		{Issuer: as.URL + "/moved", Keys: credentials.KeySource{JWKSURL: as.URL + "/moved"}},
		{Issuer: as.URL + "/huge", Keys: credentials.KeySource{JWKSURL: as.URL + "/huge"}},
		{Issuer: as.URL + "/opaque", Introspection: &credentials.Introspection{
			Endpoint: as.URL + "/introspect", ClientID: "authzd", ClientSecretFile: secretFile(t), Opaque: true,
		}},
	}}
	v := start(t, config, credentials.Options{})
	want(t, v, fresh(t, as.URL+"/good", "a1", "k"), "")
	want(t, v, fresh(t, as.URL+"/moved", "a1", "k"), engine.CodeIssuerUnavailable)
	want(t, v, fresh(t, as.URL+"/huge", "a1", "k"), engine.CodeIssuerUnavailable)
	want(t, v, credentials.Presented{ID: "c", Token: "opaque", Audience: server}, "")
}

// TestIntrospectionAwayIsTold: once in a while, and not by its token.
func TestIntrospectionAwayIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.text("https://opaque.example/introspect", 503, "later")
	var log bytes.Buffer
	at := time.Unix(clockStart, 0)
	v, err := credentials.New(credentials.Config{Issuers: []credentials.Issuer{{
		Issuer: "https://opaque.example",
		Introspection: &credentials.Introspection{
			Endpoint: "https://opaque.example/introspect", ClientID: "authzd", ClientSecretFile: secretFile(t), Opaque: true,
		},
	}}}, credentials.Options{Transport: w, Log: slog.New(slog.NewTextHandler(&log, nil)), Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		_, bad := v.Verify(t.Context(), credentials.Presented{ID: "a", Token: "op_secret", Audience: server})
		if bad == nil || bad.Code != engine.CodeIssuerUnavailable {
			t.Errorf("%+v", bad)
		}
	}
	told := log.String()
	if strings.Count(told, "introspection failed") != 1 || !strings.Contains(told, "https://opaque.example") || strings.Contains(told, "op_secret") {
		t.Errorf("told: %s", told)
	}
}
