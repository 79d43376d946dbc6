package callers_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"strings"
	"testing"

	"github.com/authzd/authzd/api/callers"
)

func TestNameOf(t *testing.T) {
	t.Parallel()
	type certificate struct {
		name string
		uris []string
	}
	nameOf := func(c certificate) (string, error) {
		cert := &x509.Certificate{Subject: pkix.Name{CommonName: c.name}}
		for _, text := range c.uris {
			u, err := url.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			cert.URIs = append(cert.URIs, u)
		}
		return callers.NameOf(cert)
	}
	for want, c := range map[string]certificate{
		"agent-1":                      {name: "agent-1"},
		"Äpfel & Birnen, Abt. 3":       {name: "Äpfel & Birnen, Abt. 3"},
		"with-another-uri":             {name: "with-another-uri", uris: []string{"https://example.org/x"}},
		"spiffer://x":                  {name: "spiffer://x"},
		"spiffe://example.org":         {name: "other", uris: []string{"spiffe://example.org"}},
		"spiffe://a_b-c.d1/Ns/x_y/z.1": {uris: []string{"spiffe://a_b-c.d1/Ns/x_y/z.1"}},
	} {
		if got, err := nameOf(c); got != want || err != nil {
			t.Errorf("%v: %q, %v", c, got, err)
		}
	}
	long := strings.Repeat("a", 256)
	for name, c := range map[string]certificate{
		"nothing":             {},
		"control character":   {name: "a\x00b"},
		"line break":          {name: "a\nb"},
		"long name":           {name: strings.Repeat("a", 2049)},
		"SPIFFE as name":      {name: "spiffe://example.org/a"},
		"in another case":     {name: "SPIFFE://example.org/a"},
		"two ids":             {uris: []string{"spiffe://a/b", "spiffe://a/c"}},
		"an id and a URI":     {uris: []string{"https://a", "spiffe://a/c"}},
		"no domain":           {uris: []string{"spiffe:///a"}},
		"opaque":              {uris: []string{"spiffe:a/b"}},
		"upper-case domain":   {uris: []string{"spiffe://A/b"}},
		"port":                {uris: []string{"spiffe://a:1/b"}},
		"user":                {uris: []string{"spiffe://u@a/b"}},
		"query":               {uris: []string{"spiffe://a/b?c"}},
		"empty query":         {uris: []string{"spiffe://a/b?"}},
		"fragment":            {uris: []string{"spiffe://a/b#c"}},
		"trailing slash":      {uris: []string{"spiffe://a/b/"}},
		"only a slash":        {uris: []string{"spiffe://a/"}},
		"empty segment":       {uris: []string{"spiffe://a//b"}},
		"dot segment":         {uris: []string{"spiffe://a/./b"}},
		"parent":              {uris: []string{"spiffe://a/../b"}},
		"percent":             {uris: []string{"spiffe://a/%62"}},
		"another alphabet":    {uris: []string{"spiffe://a/ü"}},
		"space":               {uris: []string{"spiffe://a/b c"}},
		"long domain":         {uris: []string{"spiffe://" + long + "/b"}},
		"long id":             {uris: []string{"spiffe://a/" + strings.Repeat(long+"/", 9) + "b"}},
		"malformed and named": {name: "agent-1", uris: []string{"spiffe://a/b/"}},
	} {
		if got, err := nameOf(c); got != "" || err == nil {
			t.Errorf("%s: named %q", name, got)
		}
	}
}
