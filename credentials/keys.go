package credentials

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"slices"

	"github.com/lestrrat-go/jwx/v3/jwk"

	"github.com/authzd/authzd/rar"
)

const maxKeys = 64

var (
	errNoJSON  = errors.New("is not one JSON text")
	errNoSet   = errors.New("is no JWK set")
	errNoKeys  = errors.New("holds no key that can be used")
	errTooMany = errors.New("holds too many keys")
)

// key is a public key of an issuer.
type key struct {
	kid string
	// alg restricts the key, if its JWK does.
	alg    string
	public any
}

// parseKeySet reads a JWK set (RFC 7517). Keys that are not for checking
// signatures, or of a kind that we do not use, are passed over; so is a key
// whose private half is public.
func parseKeySet(body []byte) ([]key, error) {
	set, err := rar.DecodeStrict(body, rar.Limits{MaxBytes: maxFetchBytes})
	if err != nil {
		return nil, errNoJSON
	}
	list, ok := set.Get("keys")
	if !ok || list.Kind() != rar.Array {
		return nil, errNoSet
	}
	if list.Len() > maxKeys {
		return nil, errTooMany
	}
	var keys []key
	for i := range list.Len() {
		if k, ok := parseKey(list.Index(i)); ok && k.kid != "" {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, errNoKeys
	}
	return keys, nil
}

// parseKey hands the library only the members that make the key.
func parseKey(v rar.Value) (key, bool) {
	text := func(name string) string { m, _ := v.Get(name); return m.Text() }
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, ok := v.Get(private); ok {
			return key{}, false
		}
	}
	if _, ok := v.Get("use"); ok && text("use") != "sig" {
		return key{}, false
	}
	if ops, ok := v.Get("key_ops"); ok && !hasText(ops, "verify") {
		return key{}, false
	}
	var members []rar.Member
	for _, name := range []string{"kty", "crv", "x", "y", "n", "e"} {
		if m, ok := v.Get(name); ok {
			members = append(members, rar.Member{Name: name, Value: m})
		}
	}
	parsed, err := jwk.ParseKey(rar.ObjectValue(members...).AppendJSON(nil))
	if err != nil {
		return key{}, false
	}
	k := key{kid: text("kid"), alg: text("alg")}
	if k.public, err = public(parsed); err != nil {
		return key{}, false
	}
	usable := slices.ContainsFunc(algorithmNames(), k.accepts)
	return k, usable
}

func public(k jwk.Key) (any, error) {
	var raw any
	if err := jwk.Export(k, &raw); err != nil {
		return nil, err
	}
	switch raw := raw.(type) {
	case *ecdsa.PublicKey, *rsa.PublicKey, ed25519.PublicKey:
		return raw, nil
	}
	return nil, errNoKeys
}

func hasText(list rar.Value, want string) bool {
	for i := range list.Len() {
		if list.Index(i).Text() == want {
			return true
		}
	}
	return false
}

// accepts: key and algorithm agree, and the JWK does not say otherwise.
func (k key) accepts(alg string) bool {
	return (k.alg == "" || k.alg == alg) && fits(k.public, alg)
}

// find returns the one key of that kid for that algorithm. Two of them are
// none: which one signed is not for trial.
func find(keys []key, kid, alg string) (any, bool) {
	var found any
	n := 0
	for _, k := range keys {
		if k.kid == kid && k.accepts(alg) {
			found = k.public
			n++
		}
	}
	return found, n == 1
}
