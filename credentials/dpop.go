package credentials

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/url"
	"strings"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwk"

	"github.com/authzd/authzd/rar"
)

const (
	proofWindow   = 5 * time.Minute
	maxProofBytes = 8 << 10
	maxJTIBytes   = 256
)

// checkBinding is the ninth check: a token that is bound to a key comes with
// proof of that key, in the way it is bound, and a proof comes with such a
// token only (RFC 9449 section 7.1, RFC 8705 section 3). It returns how
// possession was proved.
func (v *Verifier) checkBinding(ctx context.Context, p *Presented, is *issuer, claims rar.Value, now time.Time) (string, bool) {
	cnf, bound := claims.Get("cnf")
	jkt, x5t, ok := confirmations(cnf)
	if bound && !ok || !bound && is.RequireBound {
		return "", false
	}
	dpop := strings.EqualFold(p.Scheme, "dpop") || p.Scheme == "" && p.Proof != ""
	// Bound, and sent as Bearer: a downgrade. Not bound, and sent as DPoP: the
	// proof would prove nothing. The same of a proof under the scheme Bearer.
	if dpop != (jkt != "") || (p.Proof != "") != dpop {
		return "", false
	}
	if x5t != "" && subtle.ConstantTimeCompare([]byte(x5t), []byte(p.CertThumbprint)) != 1 {
		return "", false
	}
	if dpop && !v.checkProof(ctx, p, jkt, now) {
		return "", false
	}
	return proof(jkt, x5t), true
}

// proof names the ways in which a token with these confirmations is proved.
func proof(jkt, x5t string) string {
	switch {
	case jkt != "" && x5t != "":
		return "mtls+dpop"
	case jkt != "":
		return "dpop"
	case x5t != "":
		return "mtls"
	}
	return ""
}

// confirmations reads cnf (RFC 7800): one or both of the two kinds that can be
// checked, and nothing else, since what is not understood would go unchecked.
func confirmations(cnf rar.Value) (jkt, x5t string, ok bool) {
	if cnf.Kind() != rar.Object || cnf.Len() == 0 {
		return "", "", false
	}
	for i := range cnf.Len() {
		m := cnf.Member(i)
		if !isThumbprint(m.Value.Text()) || m.Value.Kind() != rar.String {
			return "", "", false
		}
		switch m.Name {
		case "jkt":
			jkt = m.Value.Text()
		case "x5t#S256":
			x5t = m.Value.Text()
		default:
			return "", "", false
		}
	}
	return jkt, x5t, true
}

// isThumbprint: base64url of a SHA-256.
func isThumbprint(s string) bool {
	b, ok := segment(s)
	return ok && len(b) == sha256.Size
}

// checkProof holds a DPoP proof against RFC 9449 section 4.3. That it is used
// for the first time is asked last, so that no proof is used up in vain.
func (v *Verifier) checkProof(ctx context.Context, p *Presented, jkt string, now time.Time) bool {
	if len(p.Proof) > maxProofBytes {
		return false
	}
	t, code := parseJWT(p.Proof)
	if code != "" || t.mediaType() != "dpop+jwt" || t.checkHeader(algorithmNames(), "jwk") != "" {
		return false
	}
	public, thumbprint, ok := proofKey(t.header)
	if !ok || subtle.ConstantTimeCompare([]byte(thumbprint), []byte(jkt)) != 1 {
		return false
	}
	text := func(name string) string {
		m, _ := t.claims.Get(name)
		if m.Kind() != rar.String {
			return ""
		}
		return m.Text()
	}
	hash := sha256.Sum256([]byte(p.Token))
	iat, ok := date(t.claims, "iat")
	jti := text("jti")
	switch {
	case !ok || now.Sub(iat).Abs() > proofWindow:
		return false
	case p.Method == "" || text("htm") != p.Method:
		return false
	case !sameURL(text("htu"), p.URL):
		return false
	case text("ath") != base64.RawURLEncoding.EncodeToString(hash[:]):
		return false
	case jti == "" || len(jti) > maxJTIBytes:
		return false
	case !verifySignature(public, t.alg, t.signed, t.signature):
		return false
	}
	// The window is closed on both sides, and iat has whole seconds.
	until := iat.Add(proofWindow + time.Second)
	first, err := v.replay.Once(ctx, sha256.Sum256([]byte(thumbprint+"\x00"+jti)), now, until)
	return err == nil && first
}

// proofKey reads the public key in the header jwk of a proof, and its
// thumbprint (RFC 7638).
func proofKey(header rar.Value) (public any, thumbprint string, ok bool) {
	v, _ := header.Get("jwk")
	if v.Kind() != rar.Object {
		return nil, "", false
	}
	k, ok := parseKey(v)
	if !ok {
		return nil, "", false
	}
	imported, err := jwk.Import(k.public)
	if err != nil {
		return nil, "", false
	}
	sum, err := imported.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, "", false
	}
	return k.public, base64.RawURLEncoding.EncodeToString(sum), true
}

// sameURL compares htu with the address of the request without query and
// fragment. Scheme and host are compared in lower case and an empty path is
// "/"; everything else stays as it is.
func sameURL(htu, address string) bool {
	a, ok := requestTarget(htu)
	b, ok2 := requestTarget(address)
	return ok && ok2 && a == b
}

func requestTarget(s string) (string, bool) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme == "" || u.User != nil || u.Opaque != "" {
		return "", false
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	return strings.ToLower(u.Scheme) + "://" + strings.ToLower(u.Host) + path, true
}
