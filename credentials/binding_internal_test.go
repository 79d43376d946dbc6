package credentials

import (
	"testing"

	"github.com/authzd/authzd/rar"
)

// TestProofKey holds thumbprints against the examples of RFC 7638 section 3.1
// and RFC 9449 section 6.1, and refuses what is no public key.
func TestProofKey(t *testing.T) {
	t.Parallel()
	const rsaKey = `"kty":"RSA","e":"AQAB","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"`
	const ecKey = `"kty":"EC","crv":"P-256","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"`
	for _, c := range []struct{ name, jwk, want string }{
		{"RFC 7638", `{` + rsaKey + `,"alg":"RS256","kid":"2011-04-29"}`, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"},
		{"RFC 9449", `{` + ecKey + `}`, "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"},
		{"with a private member", `{` + ecKey + `,"d":"AA"}`, ""},
		{"another point", `{"kty":"EC","crv":"P-256","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs"}`, ""},
		{"symmetric", `{"kty":"oct","k":"AAAA"}`, ""},
		{"for encryption", `{` + ecKey + `,"use":"enc"}`, ""},
		{"no object", `"k"`, ""},
		{"empty", `{}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			header, err := rar.DecodeStrict([]byte(`{"jwk":`+c.jwk+`}`), rar.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			_, got, ok := proofKey(header)
			if got != c.want || ok != (c.want != "") {
				t.Errorf("thumbprint %q, %v", got, ok)
			}
		})
	}
}

// TestSameURL: only scheme, host and an empty path have a second spelling.
func TestSameURL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		htu, address string
		want         bool
	}{
		{"https://a.example/m", "https://a.example/m?x=1#y", true},
		{"HTTPS://A.example/m", "https://a.example/m", true},
		{"https://a.example", "https://a.example/", true},
		{"https://a.example/m?x=1", "https://a.example/m", true},
		{"http://a.example/m", "https://a.example/m", false},
		{"https://a.example:443/m", "https://a.example/m", false},
		{"https://a.example/m/", "https://a.example/m", false},
		{"https://a.example/%6d", "https://a.example/m", false},
		{"https://a.example/x/../m", "https://a.example/m", false},
		{"https://u@a.example/m", "https://a.example/m", false},
		{"/m", "https://a.example/m", false},
		{"", "", false},
		{"https:a.example/m", "https:a.example/m", false},
		{"https://a.example/\x00", "https://a.example/\x00", false},
	} {
		if got := sameURL(c.htu, c.address); got != c.want {
			t.Errorf("%q for %q: %v", c.htu, c.address, got)
		}
	}
}
