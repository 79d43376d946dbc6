package failclosed_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/authzd/authzd/tests/tokens"
)

// tokenFile is tokens.json: a good token, and how it is changed.
type tokenFile struct {
	Issuer string         `json:"issuer"`
	Header map[string]any `json:"header"`
	Claims map[string]any `json:"claims"`
	// Times are claims in seconds from now.
	Times  map[string]int64 `json:"times"`
	Tokens []tokenCase      `json:"tokens"`
}

type tokenCase struct {
	Name string `json:"name"`
	Why  string `json:"why"`
	// Header and Claims replace members, Times does all times; Without leaves members
	// out, as claims.exp. HeaderText and ClaimsText are taken as they are.
	Header     map[string]any   `json:"header"`
	Claims     map[string]any   `json:"claims"`
	Times      map[string]int64 `json:"times"`
	Without    []string         `json:"without"`
	HeaderText string           `json:"header_text"`
	ClaimsText string           `json:"claims_text"`
	// Sign is who signs: issuer, the default, other, hmac (HS256 with the issuer's
	// public key as secret), or good: the signature of the token as it was.
	Sign string `json:"sign"`
	// Form puts header, claims and signature together; default {h}.{b}.{s}. {s:cut} is
	// half of the signature.
	Form *string `json:"form"`
	// Allowed: it is as good as the token as it was.
	Allowed bool `json:"allowed"`
}

// policy of the tokens: who has the scope.
const tokenPolicy = `package authz

import data.authzd.v1 as authzd

permit["holders"] := {"require": [authzd.scopes(["files"])]}
`

// TestTokens: a token that its issuer would not have made for this server counts for
// nothing, by REST, by gRPC and at the proxy.
func TestTokens(t *testing.T) {
	t.Parallel()
	authzd := os.Getenv(binaryVariable)
	if testing.Short() || authzd == "" {
		t.Skip("runs the binary")
	}
	data, err := os.ReadFile("tokens.json")
	if err != nil {
		t.Fatal(err)
	}
	var file tokenFile
	decodeStrict(t, "tokens.json", data, &file)
	issuer, err := tokens.New(file.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	other, err := tokens.New(file.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	settings, err := issuer.Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		".manifest":   `{"revision":"r","roots":["authz"],"metadata":{"authzd":{"contract":1,"untyped_tools":true}}}`,
		"policy.rego": tokenPolicy,
	} {
		if err := os.MkdirAll(filepath.Join(dir, "bundle"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "bundle", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := startServe(t, authzd, "--issuers", settings, "--bundle", "main="+filepath.Join(dir, "bundle"))
	behind := startProxy(t, authzd, "https://mcp.example.com", settings, filepath.Join(dir, "bundle"))
	for i := range file.Tokens {
		c := &file.Tokens[i]
		token := file.token(t, c, issuer, other)
		// In a header, white space at an end of a token is none of it (RFC 9110 section 5.5).
		if did, answer := behind.call(t, token); did != c.Allowed && strings.TrimSpace(token) == token {
			t.Errorf("%s (%s): carried out behind the proxy: %v, want %v: %s", c.Name, c.Why, did, c.Allowed, answer)
		}
		query := tokenQuery(t, token)
		answers := map[string]outcome{"REST": d.askREST(t, query)}
		if m, _ := message(query); m != nil {
			answers["gRPC"] = d.askGRPC(t, m)
		} else {
			t.Errorf("%s can not be asked by gRPC", c.Name)
		}
		for door, got := range answers {
			switch {
			case got.decision == "ALLOW" && !c.Allowed:
				t.Errorf("WRONG ALLOW by %s: %s (%s)", door, c.Name, c.Why)
			case got.decision != "ALLOW" && c.Allowed:
				t.Errorf("%s: %s is answered %v, want it allowed", door, c.Name, got)
			case got.decision == "" && got.code == "":
				t.Errorf("%s: %s: neither a decision nor a coded error", door, c.Name)
			}
		}
	}
}

// token makes the token that a case says.
func (f *tokenFile) token(t *testing.T, c *tokenCase, issuer, other *tokens.Issuer) string {
	t.Helper()
	good := &tokenCase{}
	if c.Times == nil {
		c.Times = f.Times
	}
	head, body := f.parts(t, c)
	signed := head + "." + body
	if c.Sign == "good" {
		good.Times = f.Times
		head, body := f.parts(t, good)
		signed = head + "." + body
	}
	signature := signToken(t, c.Sign, signed, issuer, other)
	form := "{h}.{b}.{s}"
	if c.Form != nil {
		form = *c.Form
	}
	return strings.NewReplacer("{h}", head, "{b}", body, "{s}", signature, "{s:cut}", signature[:len(signature)/2]).Replace(form)
}

// parts encodes header and claims.
func (f *tokenFile) parts(t *testing.T, c *tokenCase) (head, body string) {
	t.Helper()
	header, claims := maps.Clone(f.Header), maps.Clone(f.Claims)
	for name, ahead := range c.Times {
		claims[name] = time.Now().Unix() + ahead
	}
	maps.Copy(header, c.Header)
	maps.Copy(claims, c.Claims)
	for _, path := range c.Without {
		of, name, _ := strings.Cut(path, ".")
		from := map[string]map[string]any{"header": header, "claims": claims}[of]
		if _, is := from[name]; !is {
			t.Fatalf("%s: there is no %s to leave out", c.Name, path)
		}
		delete(from, name)
	}
	text := func(members map[string]any, instead string) string {
		if instead == "" {
			b, err := json.Marshal(members)
			if err != nil {
				t.Fatal(err)
			}
			instead = string(b)
		}
		return base64.RawURLEncoding.EncodeToString([]byte(instead))
	}
	return text(header, c.HeaderText), text(claims, c.ClaimsText)
}

func signToken(t *testing.T, by, text string, issuer, other *tokens.Issuer) string {
	t.Helper()
	var signature []byte
	var err error
	switch by {
	case "hmac":
		secret, keyErr := issuer.PublicKey()
		if keyErr != nil {
			t.Fatal(keyErr)
		}
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(text))
		signature = mac.Sum(nil)
	case "other":
		signature, err = other.Sign([]byte(text))
	case "", "good":
		signature, err = issuer.Sign([]byte(text))
	default:
		t.Fatalf("who is %q?", by)
	}
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(signature)
}

// tokenQuery asks with a token as it came.
func tokenQuery(t *testing.T, token string) []byte {
	t.Helper()
	query, err := json.Marshal(map[string]any{
		"mcp": map[string]any{
			"method": "tools/call", "params": map[string]any{"name": "read", "arguments": map[string]any{}},
			"server": "https://mcp.example.com", "transport": "http", "protocol_version": "2025-11-25", "client_capabilities": map[string]any{},
		},
		"credentials": []any{map[string]any{"id": "primary", "access_token": token}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return query
}
