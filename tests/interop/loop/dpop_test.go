package loop_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"testing"
	"time"
)

// endpoint is the MCP server's address as its clients see it.
const endpoint = "https://mcp.example.com/mcp"

// proofKey is a client's key for DPoP proofs.
type proofKey struct{ private *ecdsa.PrivateKey }

// proof holds the claims of a DPoP proof (RFC 9449 section 4.2).
type proof struct {
	ID     string `json:"jti"`
	Method string `json:"htm"`
	URL    string `json:"htu"`
	Issued int64  `json:"iat"`
	Hash   string `json:"ath,omitempty"`
}

func newProofKey(t *testing.T) *proofKey {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &proofKey{private}
}

// newProof speaks of one POST, and of the access token in it if there is one.
func newProof(address, access string) proof {
	p := proof{ID: rand.Text(), Method: http.MethodPost, URL: address, Issued: time.Now().Unix()}
	if access != "" {
		hash := sha256.Sum256([]byte(access))
		p.Hash = base64.RawURLEncoding.EncodeToString(hash[:])
	}
	return p
}

// sign is done by hand, so that no code is shared with what verifies.
func (k *proofKey) sign(t *testing.T, p proof) string {
	t.Helper()
	point, err := k.private.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	header := `{"typ":"dpop+jwt","alg":"ES256","jwk":{"kty":"EC","crv":"P-256","x":"` + encode(point[1:33]) + `","y":"` + encode(point[33:]) + `"}}`
	signed := encode([]byte(header)) + "." + encode(text)
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, k.private, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return signed + "." + encode(sig)
}

// request is a token in a POST to the endpoint, with this proof.
func request(access, proof string) presented {
	return presented{Token: access, Scheme: "DPoP", Proof: proof, Method: http.MethodPost, URL: endpoint}
}

// TestRawDPoP: the server binds a token to its client's key; the token counts
// with a proof of that key for this request, once.
func TestRawDPoP(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	for name, w := range map[string]*world{
		"JWT":    rawPayments(t, mcpServer, fromJWKS),
		"opaque": rawPayments(t, opaqueServer, introspected(t)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Of another session: a second grant in one session ends the first.
			plain := newClient(t, w.as, agent, user)
			wanted := w.hinted(t, plain)
			unbound := plain.obtain(t, wanted, approve)
			c := newClient(t, w.as, agent, user)
			c.key = newProofKey(t)
			tok := c.obtain(t, wanted, approve)
			if tok.Type != "DPoP" || unbound.Type != "Bearer" {
				t.Fatalf("token types %q with a proof, %q without", tok.Type, unbound.Type)
			}
			first := c.key.sign(t, newProof(endpoint, tok.Access))
			w.passes(t, request(tok.Access, first))
			w.rejects(t, request(tok.Access, first), "token.proof")
			w.passes(t, request(tok.Access, c.key.sign(t, newProof(endpoint, tok.Access))))
			w.rejectsProofs(t, c, tok.Access, unbound.Access)
		})
	}
}

// rejectsProofs tries what a thief of the bound token could send.
func (w *world) rejectsProofs(t *testing.T, c *client, bound, unbound string) {
	t.Helper()
	good := newProof(endpoint, bound)
	changed := func(change func(*proof)) string {
		p := good
		p.ID = rand.Text()
		change(&p)
		return c.key.sign(t, p)
	}
	for name, p := range map[string]presented{
		"as Bearer":                {Token: bound},
		"as DPoP, without a proof": {Token: bound, Scheme: "DPoP"},
		"a proof under Bearer": {
			Token: bound, Scheme: "Bearer", Proof: c.key.sign(t, good), Method: http.MethodPost, URL: endpoint,
		},
		"another URL's":        request(bound, changed(func(p *proof) { p.URL = "https://other.example.com/mcp" })),
		"another method's":     request(bound, changed(func(p *proof) { p.Method = http.MethodGet })),
		"another token's":      request(bound, c.key.sign(t, newProof(endpoint, unbound))),
		"no token's":           request(bound, changed(func(p *proof) { p.Hash = "" })),
		"an old one":           request(bound, changed(func(p *proof) { p.Issued -= 3600 })),
		"another key's":        request(bound, newProofKey(t).sign(t, good)),
		"another signature":    request(bound, resigned(c.key.sign(t, good))),
		"for an unbound token": request(unbound, c.key.sign(t, newProof(endpoint, unbound))),
	} {
		t.Run(name, func(t *testing.T) { w.rejects(t, p, "token.proof") })
	}
	// Whatever failed above has used nothing up.
	w.passes(t, request(bound, c.key.sign(t, good)))
}
