package rar

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
)

// MinReferenceKey is the least length of the secret of a ReferenceKey in bytes.
const MinReferenceKey = 32

// referenceBytes is how much of the HMAC a reference shows: 192 bits, which make
// 32 characters.
const referenceBytes = 24

// ReferenceKey makes authorization references. It is configuration: shared by
// all replicas and kept over restarts, or references would not be stable.
type ReferenceKey struct{ secret []byte }

// NewReferenceKey takes a secret of at least MinReferenceKey random bytes.
func NewReferenceKey(secret []byte) (ReferenceKey, error) {
	if len(secret) < MinReferenceKey {
		return ReferenceKey{}, fmt.Errorf("a reference key of %d bytes; at least %d are needed", len(secret), MinReferenceKey)
	}
	return ReferenceKey{secret: slices.Clone(secret)}, nil
}

// References returns the authorization_reference of details for the resource
// server, an absolute URI as tokens name it in aud: one for each key, in their
// order, so that the first is the one to send and the others are what earlier
// keys made of the same. It is opaque text of the base64url alphabet, 32
// characters long (draft-zehavi-oauth-rar-metadata-06 section 4).
//
// Details that mean the same by their types' rules have the same reference,
// whatever the order, spelling and duplicates. It tells nothing: account
// numbers and amounts could be guessed from a plain hash, hence the key.
//
// There is none (nil) without a key, without details, for an undeclared type,
// and where any object is for single use: a token for it will not serve again.
func (t *Types) References(keys []ReferenceKey, resource string, details []Value, singleUse bool) []string {
	if len(keys) == 0 || len(details) == 0 || singleUse {
		return nil
	}
	for _, d := range details {
		if name := typeOf(d); !t.Declared(name) || t.SingleUse(name) {
			return nil
		}
	}
	message := append([]byte(resource), 0)
	message = t.AppendCanonicalDetails(message, details)
	out := make([]string, 0, len(keys))
	for _, k := range keys {
		if len(k.secret) == 0 {
			return nil
		}
		mac := hmac.New(sha256.New, k.secret)
		_, _ = mac.Write(message) // a hash never fails
		out = append(out, base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:referenceBytes]))
	}
	return out
}

// AppendCanonicalDetails appends the one text that all details share which mean
// the same by their types' rules: fields under ignore left out, arrays under a
// set rule sorted and without duplicates, numbers exact and in one spelling,
// members sorted, and the objects themselves a set. Implied values are not
// folded in and defaults are not filled in, so the text changes only when what
// is asked for does, or the rules of a type.
func (t *Types) AppendCanonicalDetails(dst []byte, details []Value) []byte {
	texts := make([][]byte, len(details))
	for i, d := range details {
		var rules *node
		if ty := t.lookup(typeOf(d)); ty != nil {
			rules = ty.rules
		}
		texts[i] = rules.appendCanonical(nil, d)
	}
	return appendSet(dst, texts)
}

// appendSet appends texts as a JSON array, sorted and without duplicates.
func appendSet(dst []byte, texts [][]byte) []byte {
	slices.SortFunc(texts, bytes.Compare)
	texts = slices.CompactFunc(texts, bytes.Equal)
	dst = append(dst, '[')
	for i, text := range texts {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, text...)
	}
	return append(dst, ']')
}

// appendCanonical appends v as the rule at n sees it; n may be nil.
func (n *node) appendCanonical(dst []byte, v Value) []byte {
	r := ruleEqual
	if n != nil {
		r = n.rule
	}
	switch r {
	case ruleFields:
		if v.kind == Object {
			return n.appendObject(dst, v)
		}
	case ruleSubset, rulePrefix, ruleGlob:
		if v.kind == Array {
			texts := make([][]byte, v.Len())
			for i, e := range v.list() {
				texts[i] = n.appendElement(nil, e)
			}
			return appendSet(dst, texts)
		}
	case ruleMax, ruleMin:
		if v.kind == String && isDecimalText(v.str()) {
			// Quoted, so that it stays distinct from a number.
			dst = append(dst, '"')
			return append(parseDecimal(v.str()).appendTo(dst), '"')
		}
	case ruleEqual, ruleIgnore:
	}
	return v.AppendCanonical(dst)
}

// appendElement appends one element of a set.
func (n *node) appendElement(dst []byte, e Value) []byte {
	if n.items != nil && e.kind == Object {
		return n.items.appendObject(dst, e)
	}
	return e.AppendCanonical(dst)
}

// appendObject appends an object whose members have rules. A field under ignore
// never matters to coverage, and so not here either.
func (n *node) appendObject(dst []byte, v Value) []byte {
	dst = append(dst, '{')
	first := true
	for _, i := range v.sortedNames() {
		name := v.list()[i].str()
		rule := n.child(name)
		if rule != nil && rule.rule == ruleIgnore {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(appendQuoted(dst, name), ':')
		dst = rule.appendCanonical(dst, v.list()[i+1])
	}
	return append(dst, '}')
}

// ParseReferenceKey reads the text of a key file: at least MinReferenceKey
// random bytes in base64url or base64, padding and surrounding white space
// aside.
func ParseReferenceKey(text []byte) (ReferenceKey, error) {
	text = bytes.TrimRight(bytes.TrimSpace(text), "=")
	if bytes.ContainsAny(text, "\r\n") {
		// Decoders skip line breaks: two keys would silently become a third.
		return ReferenceKey{}, errors.New("a reference key is one line of base64url text")
	}
	for _, encoding := range []*base64.Encoding{base64.RawURLEncoding, base64.RawStdEncoding} {
		secret := make([]byte, encoding.DecodedLen(len(text)))
		if n, err := encoding.Strict().Decode(secret, text); err == nil {
			return NewReferenceKey(secret[:n])
		}
	}
	return ReferenceKey{}, errors.New("a reference key is one line of base64url text")
}
