package loop_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// resourceServer is the enforcement point of an MCP server: it verifies the
// access token, asks authzd, and sends what authzd says.
type resourceServer struct {
	id  string // the audience of its tokens
	as  *authServer
	pdp *pdp
}

// answer is what a call came back with.
type answer struct {
	Status int
	Header http.Header
	// Decision is what authzd answered; a client never sees it.
	Decision decision
}

// decision is the part of authzd's answer that these tests look at.
type decision struct {
	Decision string
	Rule     string
	Code     string // of an error answer
	Reasons  []struct {
		Code   string
		Kind   string
		Detail []string
	}
	Remediation struct{ Status string }
	Denial      struct {
		HTTP *struct {
			Status  int
			Headers map[string]string
		}
	}
	Rejected []struct{ ID, Code string } `json:"rejected_credentials"`
}

// call is a tools/call.
type call struct {
	Tool string
	Args string // JSON
}

// serve answers one call as the MCP server would.
func (rs *resourceServer) serve(t *testing.T, c call, bearer string) answer {
	t.Helper()
	var claims json.RawMessage
	if bearer != "" {
		verified, err := rs.verify(t, bearer)
		if err != nil {
			return answer{Status: http.StatusUnauthorized, Header: http.Header{"Www-Authenticate": {`Bearer error="invalid_token"`}}}
		}
		claims = verified
	}
	return rs.decide(t, c, claims, "")
}

// decide asks authzd about a call and makes the answer of it. More than the
// query of a tools/call, members of a JSON object, may be given.
func (rs *resourceServer) decide(t *testing.T, c call, claims json.RawMessage, more string) answer {
	t.Helper()
	credentials := "[]"
	if claims != nil {
		credentials = `[{"id":"access-token","claims":` + string(claims) + `}]`
	}
	return rs.query(t, c, credentials, more)
}

// query is decide with any credentials, a JSON array.
func (rs *resourceServer) query(t *testing.T, c call, credentials, more string) answer {
	t.Helper()
	if more != "" {
		more = "," + more
	}
	d := rs.pdp.check(t, fmt.Sprintf(`{"mcp":{"method":"tools/call","params":{"name":%q,"arguments":%s},"server":%q,`+
		`"transport":"http","protocol_version":"2026-07-28","client_capabilities":{}},"credentials":%s%s}`,
		c.Tool, c.Args, rs.id, credentials, more))
	out := answer{Status: http.StatusInternalServerError, Header: http.Header{}, Decision: d}
	switch {
	case d.Decision == "ALLOW":
		out.Status = http.StatusOK
	case d.Decision == "DENY" && d.Denial.HTTP != nil:
		out.Status = d.Denial.HTTP.Status
		for name, value := range d.Denial.HTTP.Headers {
			out.Header.Set(name, value)
		}
	case d.Decision == "DENY":
		// Not over HTTP: the tool's result says it.
		out.Status = http.StatusForbidden
	}
	return out
}

// verify checks an access token as RFC 9068 section 4 says and returns its
// claims, letter for letter.
func (rs *resourceServer) verify(t *testing.T, bearer string) (json.RawMessage, error) {
	t.Helper()
	parts := strings.Split(bearer, ".")
	if len(parts) != 3 {
		return nil, errors.New("not a JWT")
	}
	var header struct{ Alg, Typ, Kid string }
	if err := decodePart(parts[0], &header); err != nil {
		return nil, err
	}
	if header.Alg != "ES256" || header.Typ != "at+jwt" {
		return nil, fmt.Errorf("alg %q, typ %q", header.Alg, header.Typ)
	}
	key, err := rs.key(t, header.Kid)
	if err != nil {
		return nil, err
	}
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || len(sig) != 64 {
		return nil, errors.New("not an ES256 signature")
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if !ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		return nil, errors.New("the signature does not fit")
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, err
	}
	return text, rs.accept(text)
}

// accept checks whose token it is and until when.
func (rs *resourceServer) accept(text []byte) error {
	var claims struct {
		Iss, Sub, Aud string
		Exp           int64
		ClientID      string `json:"client_id"`
	}
	if err := json.Unmarshal(text, &claims); err != nil {
		return err
	}
	switch {
	case claims.Iss != rs.as.Issuer:
		return errors.New("another issuer")
	case claims.Aud != rs.id:
		return errors.New("another audience")
	case time.Now().Unix() >= claims.Exp:
		return errors.New("expired")
	case claims.Sub == "" || claims.ClientID == "":
		return errors.New("no subject or client")
	}
	return nil
}

func (rs *resourceServer) key(t *testing.T, kid string) (*ecdsa.PublicKey, error) {
	t.Helper()
	var set struct {
		Keys []struct{ Kid, Crv, X, Y string }
	}
	rs.as.getJSON(t, rs.as.JWKS, &set)
	for _, k := range set.Keys {
		x, errX := base64.RawURLEncoding.DecodeString(k.X)
		y, errY := base64.RawURLEncoding.DecodeString(k.Y)
		if k.Kid == kid && k.Crv == "P-256" && errX == nil && errY == nil {
			return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
		}
	}
	return nil, fmt.Errorf("no key %q", kid)
}

func decodePart(part string, into any) error {
	text, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// claimsOf returns the claims of a token as they stand, without any check.
func claimsOf(t *testing.T, bearer string) json.RawMessage {
	t.Helper()
	parts := strings.Split(bearer, ".")
	if len(parts) != 3 {
		t.Fatalf("not a JWT: %q", bearer)
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// remediation is the decoded parameter of the challenge.
type remediation struct {
	Details   json.RawMessage `json:"authorization_details"`
	Reference string          `json:"authorization_reference"`
}

var (
	remediationParameter = regexp.MustCompile(`[ ,]authorization_remediation="?([A-Za-z0-9_-]+)"?`)
	scopeParameter       = regexp.MustCompile(`[ ,]scope="([^"]*)"`)
)

// challenge reads what a client is told to ask for. It fails the test if the
// answer is not the challenge of the draft.
func (a answer) challenge(t *testing.T) (remediation, string) {
	t.Helper()
	text := a.Header.Get("WWW-Authenticate")
	found := remediationParameter.FindStringSubmatch(text)
	if a.Status != http.StatusUnauthorized || !strings.HasPrefix(text, `Bearer error="insufficient_authorization"`) || found == nil {
		t.Fatalf("%d, WWW-Authenticate %q: not the challenge", a.Status, text)
	}
	if a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control %q", a.Header.Get("Cache-Control"))
	}
	var r remediation
	if err := decodePart(found[1], &r); err != nil {
		t.Fatal(err)
	}
	scope := ""
	if s := scopeParameter.FindStringSubmatch(text); s != nil {
		scope = s[1]
	}
	return r, scope
}

// pdp is a running authzd.
type pdp struct{ address string }

func (p *pdp) check(t *testing.T, body string) decision {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.address+"/v1/check", bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	text := send(t, http.DefaultClient, req, http.StatusOK, http.StatusBadRequest).Body
	var d decision
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return d
}
