package credentials

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

// FuzzParseJWT: what parses is exactly three segments, each spelt in the one
// way that its bytes have, and header and claims that a second reader of JSON
// takes too.
func FuzzParseJWT(f *testing.F) {
	text, err := os.ReadFile("testdata/attacks.json")
	if err != nil {
		f.Fatal(err)
	}
	var file struct {
		Bases map[string]struct{ Header, Claims json.RawMessage }
	}
	if err := json.Unmarshal(text, &file); err != nil {
		f.Fatal(err)
	}
	enc := base64.RawURLEncoding
	for _, b := range file.Bases {
		f.Add(enc.EncodeToString(b.Header) + "." + enc.EncodeToString(b.Claims) + ".AAAA")
	}
	f.Add("..")
	f.Add(enc.EncodeToString([]byte(`{"alg":"none","Alg":"ES256"}`)) + ".e30.")
	f.Fuzz(func(t *testing.T, token string) {
		p, code := parseJWT(token)
		if code != "" {
			if p != nil || code != engine.CodeTokenMalformed {
				t.Fatalf("%v with %s", p, code)
			}
			return
		}
		parts := strings.Split(token, ".")
		if len(parts) != 3 || len(token) > maxTokenBytes || string(p.signed) != parts[0]+"."+parts[1] ||
			enc.EncodeToString(p.signature) != parts[2] {
			t.Fatalf("parsed %q", token)
		}
		for i, v := range []rar.Value{p.header, p.claims} {
			raw, err := enc.DecodeString(parts[i])
			if err != nil || enc.EncodeToString(raw) != parts[i] || v.Kind() != rar.Object {
				t.Fatalf("segment %d of %q", i, token)
			}
			var second map[string]json.RawMessage
			if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&second); err != nil || len(second) != v.Len() {
				t.Fatalf("a second reader sees %d members, %v", len(second), err)
			}
		}
		if p.checkHeader(algorithmNames(), "") == "" && (p.alg == "none" || strings.HasPrefix(p.alg, "HS")) {
			t.Fatalf("alg %q passes", p.alg)
		}
	})
}

// FuzzParseKeySet: a key set of any text gives public keys with a name, or an
// error.
func FuzzParseKeySet(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","kid":"k","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"RSA","kid":"k","n":"AQAB","e":"AQAB"},{"kty":"oct","kid":"o","k":"AA"}]}`))
	f.Add([]byte(`<html>`))
	f.Fuzz(func(t *testing.T, body []byte) {
		keys, err := parseKeySet(body)
		if (err == nil) != (len(keys) > 0) || len(keys) > maxKeys {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
		for _, k := range keys {
			usable := false
			for _, alg := range algorithmNames() {
				usable = usable || k.accepts(alg)
				verifySignature(k.public, alg, []byte("a.b"), make([]byte, 64))
			}
			if k.kid == "" || !usable {
				t.Fatalf("%+v", k)
			}
		}
	})
}

// FuzzProofKey: the key in the header of a DPoP proof is public and of a kind that
// proofs are made by, and its thumbprint is that of the same key written otherwise.
func FuzzProofKey(f *testing.F) {
	for _, seed := range []string{
		`{"kty":"EC","crv":"P-256","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"}`,
		`{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`,
		`{"kty":"oct","k":"c2VjcmV0"}`, `{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		v, err := rar.DecodeStrict(text, rar.Limits{MaxBytes: maxTokenBytes, MaxDepth: 8})
		if err != nil {
			return
		}
		public, thumbprint, ok := proofKey(rar.ObjectValue(rar.Member{Name: "jwk", Value: v}))
		if !ok {
			if public != nil || thumbprint != "" {
				t.Fatalf("%v and %q without a key", public, thumbprint)
			}
			return
		}
		switch public.(type) {
		case *ecdsa.PublicKey, *rsa.PublicKey, ed25519.PublicKey:
		default:
			t.Fatalf("a key of type %T: %s", public, text)
		}
		if _, private := v.Get("d"); private || !isThumbprint(thumbprint) {
			t.Fatalf("thumbprint %q of %s", thumbprint, text)
		}
		again, err := rar.DecodeStrict(v.AppendCanonical(nil), rar.Limits{MaxBytes: maxTokenBytes, MaxDepth: 8})
		if err != nil {
			t.Fatal(err)
		}
		if _, other, _ := proofKey(rar.ObjectValue(rar.Member{Name: "jwk", Value: again})); other != thumbprint {
			t.Fatalf("thumbprint %q, then %q: %s", thumbprint, other, text)
		}
	})
}
