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
	"github.com/authzd/authzd/rar"
)

// slotHeader ties an HTTP request to the MCP request in it. It never leaves the
// process, and what a client sends under the name is dropped.
const slotHeader = "Authzd-Internal-Slot"

// slot keeps a denial until the HTTP response begins.
type slot struct {
	// asked is the body of the request, which a denial answers.
	asked []byte
	mu    sync.Mutex
	held  *reply
}

// HTTPHandler lets the middleware, which works inside the SDK, answer with an
// HTTP status and headers: an OAuth challenge is not an MCP message. It stands
// directly in front of the SDK's handler. It refuses JSON-RPC batches, which one
// HTTP status can not answer.
//
// A server with an EventStore begins its responses before anything is decided:
// a denial is then a message with status 200. The SDK ties a session to the
// person who began it only where auth.RequireBearerToken tells who that is
// (TokenInfo.UserID); requests in it are decided one by one in any case.
func (e *Enforcer) HTTPHandler(sdk http.Handler) http.Handler {
	if e.opts.Observe {
		return sdk
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, s := rand.Text(), &slot{}
		if r.Method == http.MethodPost {
			var ok bool
			if s.asked, ok = e.single(w, r); !ok {
				return
			}
		}
		e.slots.Store(key, s)
		defer e.slots.Delete(key)
		r = r.Clone(r.Context())
		r.Header.Set(slotHeader, key)
		sdk.ServeHTTP(&denialWriter{ResponseWriter: w, slot: s}, r)
	})
}

// single refuses batches. It reads the body, for the SDK to read again.
func (e *Enforcer) single(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(e.opts.MaxMessage)))
	if err != nil {
		http.Error(w, "the body can not be read, or is too long", http.StatusRequestEntityTooLarge)
		return nil, false
	}
	if bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("[")) {
		http.Error(w, "JSON-RPC batches are not supported", http.StatusBadRequest)
		return nil, false
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body, true
}

// holdReply keeps what the HTTP response shall be.
func (e *Enforcer) holdReply(x *mcp.RequestExtra, out reply) {
	if x == nil || x.Header == nil {
		return
	}
	v, ok := e.slots.Load(x.Header.Get(slotHeader))
	s, isSlot := v.(*slot)
	if !ok || !isSlot {
		return
	}
	out.body = s.answer(out.body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = &out
}

// answer gives a response the id of the request; nil if that can not be read.
func (s *slot) answer(body []byte) []byte {
	v, err := rar.DecodeStrict(body, rar.Limits{MaxBytes: DefaultMaxMessage, MaxDepth: maxDepth})
	if err != nil {
		return nil
	}
	asked, err := rar.DecodeStrict(s.asked, rar.Limits{MaxBytes: len(s.asked), MaxDepth: maxDepth})
	if err != nil {
		return nil
	}
	id, ok := asked.Get("id")
	if !ok || !validID(id) {
		return nil
	}
	return with(v, "id", id).AppendJSON(nil)
}

// denialWriter sends a denial in the place of a response, if one is held when
// the response begins.
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
	if held == nil {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	h := w.Header()
	for name, value := range held.headers {
		h.Set(name, value)
	}
	// What is no success is no stream either: the body is the one response, or
	// there is none. A success is sent as the SDK writes it.
	if w.silent = held.status != http.StatusOK; w.silent {
		h.Del("Content-Type")
		h.Del("Content-Length")
		if held.body != nil {
			h.Set("Content-Type", "application/json")
		}
	}
	w.ResponseWriter.WriteHeader(held.status)
	if w.silent {
		_, _ = w.ResponseWriter.Write(held.body) // the client has gone
	}
}

// Write sends b unless a denial has been sent.
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
