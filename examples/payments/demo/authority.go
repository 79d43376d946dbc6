package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Who is who in the tokens.
const (
	issuer   = "https://as.example.com"
	resource = "https://mcp.example.com"
	customer = "alice@example.com"
	agentID  = "https://agent.example/cimd.json"
)

// authority plays the authorization server. Its access tokens are random names
// for what was granted; the payments server looks them up (RFC 7662). It is a
// toy in one respect: it grants whatever the demo says that the customer has
// approved. A real one signs the customer in and asks.
type authority struct {
	url, secret string
	server      *http.Server

	mu      sync.Mutex
	granted map[string]map[string]any
}

func newAuthority(ctx context.Context) (*authority, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a := &authority{
		url:     "http://" + listener.Addr().String() + "/introspect",
		secret:  rand.Text(),
		granted: map[string]map[string]any{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /introspect", a.introspect)
	a.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = a.server.Serve(listener) }()
	return a, nil
}

func (a *authority) close() {
	if a != nil {
		_ = a.server.Close()
	}
}

// grant issues a token for ten minutes.
func (a *authority) grant(scopes []string, details json.RawMessage) string {
	claims := map[string]any{
		"active": true, "token_type": "Bearer",
		"iss": issuer, "sub": customer, "aud": resource, "client_id": agentID,
		"scope": strings.Join(scopes, " "),
		"iat":   time.Now().Unix(), "exp": time.Now().Add(10 * time.Minute).Unix(),
		"jti": rand.Text(),
	}
	if len(details) > 0 {
		claims["authorization_details"] = details
	}
	token := rand.Text()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.granted[token] = claims
	return token
}

func (a *authority) introspect(w http.ResponseWriter, r *http.Request) {
	_, secret, _ := r.BasicAuth()
	if subtle.ConstantTimeCompare([]byte(secret), []byte(a.secret)) != 1 {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	a.mu.Lock()
	claims, ok := a.granted[r.PostFormValue("token")]
	a.mu.Unlock()
	if !ok {
		claims = map[string]any{"active": false}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(claims)
}
