package pep

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// slotHeader ties an HTTP request to the MCP request in it. It never leaves the
// process, and what a client sends under the name is dropped.
const slotHeader = "Authzd-Internal-Slot"

// slot keeps a denial until the HTTP response begins.
type slot struct {
	mu   sync.Mutex
	held *reply
}

// HTTPHandler lets the middleware, which works inside the SDK, answer with an
// HTTP status and headers: an OAuth challenge is not an MCP message. It stands
// directly in front of the SDK's handler. It refuses JSON-RPC batches, which one
// HTTP status can not answer.
func (e *Enforcer) HTTPHandler(sdk http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && !e.single(w, r) {
			return
		}
		key, s := rand.Text(), &slot{}
		e.slots.Store(key, s)
		defer e.slots.Delete(key)
		r = r.Clone(r.Context())
		r.Header.Set(slotHeader, key)
		sdk.ServeHTTP(&denialWriter{ResponseWriter: w, slot: s}, r)
	})
}

// single refuses batches. It reads the body, for the SDK to read again.
func (e *Enforcer) single(w http.ResponseWriter, r *http.Request) bool {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(e.opts.MaxMessage)))
	if err != nil {
		http.Error(w, "the body can not be read, or is too long", http.StatusRequestEntityTooLarge)
		return false
	}
	if bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("[")) {
		http.Error(w, "JSON-RPC batches are not supported", http.StatusBadRequest)
		return false
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return true
}

// holdReply keeps what the HTTP response shall be.
func (e *Enforcer) holdReply(x *mcp.RequestExtra, out reply) {
	if x == nil || x.Header == nil {
		return
	}
	v, ok := e.slots.Load(x.Header.Get(slotHeader))
	if s, isSlot := v.(*slot); ok && isSlot {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.held = &out
	}
}

// denialWriter replaces the head of a response, and for a challenge drops its
// body, if a denial is held when the response begins.
type denialWriter struct {
	http.ResponseWriter
	slot   *slot
	begun  bool
	silent bool
}

// Unwrap lets net/http find what the writer can do.
func (w *denialWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader sends the status given, or the denial's.
func (w *denialWriter) WriteHeader(status int) {
	if w.begun {
		return
	}
	w.begun = true
	w.slot.mu.Lock()
	held := w.slot.held
	w.slot.mu.Unlock()
	if held != nil {
		status, w.silent = held.status, held.body == nil
		if w.silent {
			w.Header().Del("Content-Type")
		}
		for name, value := range held.headers {
			w.Header().Set(name, value)
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write sends b unless the response is a challenge.
func (w *denialWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.silent {
		return len(b), nil
	}
	return w.ResponseWriter.Write(b) //nolint:wrapcheck // net/http's own
}

// Flush sends what is written so far.
func (w *denialWriter) Flush() {
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w.ResponseWriter).Flush() // where it can
}

// BearerToken is the access token of the HTTP request as it came, for the
// service to verify. A DPoP proof goes with it if [WithProofs] tells the URL.
func BearerToken(_ context.Context, req mcp.Request) ([]*authzdv1.Credential, *authzdv1.Subject, error) {
	return bearer(req, "")
}

// WithProofs is [BearerToken] for a server whose endpoint clients know as url:
// DPoP proofs name it (RFC 9449).
func WithProofs(url string) func(context.Context, mcp.Request) ([]*authzdv1.Credential, *authzdv1.Subject, error) {
	return func(_ context.Context, req mcp.Request) ([]*authzdv1.Credential, *authzdv1.Subject, error) {
		return bearer(req, url)
	}
}

func bearer(req mcp.Request, url string) ([]*authzdv1.Credential, *authzdv1.Subject, error) {
	x := extraOf(req)
	if x == nil || x.Header == nil {
		return nil, nil, nil
	}
	values := x.Header.Values("Authorization")
	if len(values) == 0 {
		return nil, nil, nil
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if token = strings.TrimSpace(token); !ok || len(values) > 1 || token == "" {
		return nil, nil, errors.New("the header Authorization is not one scheme and one token")
	}
	c := &authzdv1.Credential{Id: "access-token", AccessToken: token, Scheme: scheme}
	proofs := x.Header.Values("DPoP")
	switch {
	case len(proofs) > 1:
		return nil, nil, errors.New("the header DPoP is repeated")
	case len(proofs) == 1 && url != "":
		c.DpopProof, c.HttpMethod, c.HttpUrl = proofs[0], http.MethodPost, url
	}
	return []*authzdv1.Credential{c}, nil, nil
}

func extraOf(req mcp.Request) *mcp.RequestExtra {
	if d, ok := req.(described); ok {
		return d.GetExtra()
	}
	return nil
}

// VerifiedToken is the token that the SDK's auth.RequireBearerToken has
// verified, as claims: those that the verifier put into TokenInfo.Extra under
// "claims" (a JSON object: json.RawMessage or a map), else what TokenInfo itself
// says, under this issuer and audience. The service must be told to believe them
// (docs/security.md, "Callers").
func VerifiedToken(issuer, audience string) func(context.Context, mcp.Request) ([]*authzdv1.Credential, *authzdv1.Subject, error) {
	return func(_ context.Context, req mcp.Request) ([]*authzdv1.Credential, *authzdv1.Subject, error) {
		x := extraOf(req)
		if x == nil || x.TokenInfo == nil {
			return nil, nil, nil
		}
		claims, err := claimsOf(x.TokenInfo, issuer, audience)
		if err != nil {
			return nil, nil, err
		}
		return []*authzdv1.Credential{{Id: "access-token", Claims: claims}}, nil, nil
	}
}

func claimsOf(t *auth.TokenInfo, issuer, audience string) ([]byte, error) {
	if claims, ok := t.Extra["claims"]; ok {
		return encode(claims)
	}
	if t.UserID == "" || t.Expiration.IsZero() {
		return nil, errors.New("the verified token names no user, or no end")
	}
	claims := map[string]any{
		"iss": issuer, "sub": t.UserID, "aud": audience, "exp": t.Expiration.Unix(), "iat": time.Now().Unix(),
		"scope": strings.Join(t.Scopes, " "),
	}
	for name, value := range t.Extra {
		if _, ours := claims[name]; !ours {
			claims[name] = value
		}
	}
	return encode(claims)
}
