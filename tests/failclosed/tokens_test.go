package failclosed_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// tokenFile is tokens/tokens.json.
type tokenFile struct {
	Bundle string `json:"bundle"`
	Issuer string `json:"issuer"`
	// Query has one credential, which gets the token.
	Query  map[string]any `json:"query"`
	Header map[string]any `json:"header"`
	Claims map[string]any `json:"claims"`
	Tokens []tokenCase    `json:"tokens"`
}

// tokenCase is a change of the good token, or of how it is presented.
type tokenCase struct {
	Name string `json:"name"`
	Why  string `json:"why"`
	// Codes are what the token is rejected with; one is enough. None: it is taken.
	Codes []string `json:"codes"`
	Seal  seal     `json:"seal,omitzero"`
	Edits []edit   `json:"edits,omitempty"`
	// Credential is merged into the credential of the query.
	Credential map[string]any `json:"credential,omitempty"`
}

// inToken is the stage of edits of the compact text of a token.
const inToken = "token"

// TestNoWrongToken: no change of a good token gets an allow from the doors of the
// running binary, or a call through authzd proxy, and the good one does.
func TestNoWrongToken(t *testing.T) {
	t.Parallel()
	authzd := os.Getenv(binaryVariable)
	if testing.Short() || authzd == "" {
		t.Skip("runs the binary")
	}
	data, err := os.ReadFile("tokens/tokens.json")
	if err != nil {
		t.Fatal(err)
	}
	var file tokenFile
	decodeStrict(t, "tokens.json", data, &file)
	keys := newKeyring(t)
	issuers := keys.issuers(t, file.Issuer)
	d, _ := startBinary(t, authzd, "--bundle", "main="+file.Bundle, "--issuers", issuers)
	behind := startProxy(t, authzd, issuers)
	now := time.Now()
	for _, c := range file.Tokens {
		for _, edits := range eachPlace(c.Edits) {
			token := file.token(t, keys, c, edits, now)
			// What is presented with the token is this proxy's to say, and white space at
			// an end of it is none of it in a header (RFC 9110 section 5.5).
			if c.Credential == nil && strings.TrimSpace(token) == token {
				if did, answer := behind.call(t, token); did != (len(c.Codes) == 0) {
					t.Errorf("%s %v (%s): carried out behind the proxy: %v: %s", c.Name, edits, c.Why, did, answer)
				}
			}
			query := file.query(t, c, token)
			m, _ := message(query)
			if m == nil {
				t.Fatalf("%s cannot be said in protobuf: %s", c.Name, query)
			}
			for door, got := range map[string]outcome{"REST": d.tokenREST(t, query), "gRPC": d.tokenGRPC(t, m)} {
				switch {
				case got.code == tooSlow:
				case len(c.Codes) > 0 && got.decision == "ALLOW":
					t.Errorf("WRONG ALLOW by %s: %s %v: %s", door, c.Name, edits, query)
				case len(c.Codes) == 0 && got.decision != "ALLOW", len(c.Codes) > 0 && !slices.Contains(c.Codes, got.code):
					t.Errorf("%s %v: %s answers %v, want one of %v (%s)", c.Name, edits, door, got, c.Codes, c.Why)
				}
			}
		}
	}
}

// issuers writes a file for --issuers: the trusted key is k1 of the issuer, which
// has another one, k2.
func (k keyring) issuers(t *testing.T, name string) string {
	t.Helper()
	var list []any
	for kid, key := range map[string]keyring{"k1": k, "k2": newKeyring(t)} {
		point, err := key.trusted.PublicKey.Bytes() // 4, x, y
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, map[string]any{"kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256", "use": "sig", "x": b64(string(point[1:33])), "y": b64(string(point[33:]))})
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "issuers.json")
	for path, v := range map[string]any{
		filepath.Join(dir, "jwks.json"): map[string]any{"keys": list},
		file:                            map[string]any{"issuers": []any{map[string]any{"issuer": name, "keys": map[string]any{"file": "jwks.json"}}}},
	} {
		if err := os.WriteFile(path, []byte(jsonText(t, v)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return file
}

// token makes the token of c.
func (f tokenFile) token(t *testing.T, k keyring, c tokenCase, edits []edit, now time.Time) string {
	t.Helper()
	s := c.Seal
	s.Claims, s.Forged = timed(t, s.Claims, now), timed(t, s.Forged, now)
	return edited(t, []entry{{text: k.jws(t, s, f.Header, timed(t, f.Claims, now))}}, edits, inToken)[0].text
}

// query presents the token of c.
func (f tokenFile) query(t *testing.T, c tokenCase, token string) []byte {
	t.Helper()
	list, _ := f.Query["credentials"].([]any)
	if len(list) != 1 {
		t.Fatal("tokens.json: the query has one credential")
	}
	credential, _ := list[0].(map[string]any)
	credential = merged(merged(credential, map[string]any{"access_token": token}), c.Credential)
	return []byte(jsonText(t, merged(f.Query, map[string]any{"credentials": []any{credential}})))
}

// timed is claims with "now+60" and the like as seconds since 1970.
func timed(t *testing.T, claims map[string]any, now time.Time) map[string]any {
	t.Helper()
	if claims == nil {
		return nil
	}
	out := map[string]any{}
	for name, v := range claims {
		text, _ := v.(string)
		if offset, ok := strings.CutPrefix(text, "now"); ok {
			seconds, err := strconv.ParseInt(offset, 10, 64)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			v = now.Unix() + seconds
		}
		out[name] = v
	}
	return out
}

// tokenREST asks, with the code that the token was rejected with.
func (d *doors) tokenREST(t *testing.T, query []byte) outcome {
	t.Helper()
	decided, body, err := d.Send(t.Context(), http.MethodPost, checkPath, query)
	if err != nil {
		t.Fatal(err)
	}
	got := outcomeOf(t, decided, body)
	var answer struct {
		Rejected []struct{ Code string } `json:"rejected_credentials"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatal(err)
	}
	if len(answer.Rejected) > 0 {
		got.code = answer.Rejected[0].Code
	}
	return got
}

func (d *doors) tokenGRPC(t *testing.T, m *authzdv1.CheckRequest) outcome {
	t.Helper()
	r, err := d.grpc.Check(t.Context(), m)
	if err != nil {
		return outcome{"ERROR", codeOfStatus(t, err)}
	}
	got := outcome{"DENY", r.GetError().GetCode()}
	if r.GetDecision() == authzdv1.Decision_DECISION_ALLOW {
		got.decision = "ALLOW"
	}
	if list := r.GetRejectedCredentials(); len(list) > 0 {
		got.code = list[0].GetCode()
	}
	return got
}
