package callers

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/authzd/authzd/rar"
)

// Key is a static key as it is stored: its hash, never its secret.
type Key struct {
	// ID is part of the key and no secret.
	ID       string
	Name     string
	Rights   Rights
	Audience string
	// Hash is of the whole key as it is sent. The secret in it has 256 random
	// bits, so that no slow hash is needed: there is nothing to guess.
	Hash    [sha256.Size]byte
	Created time.Time
	// Expires is zero if the key does not; Revoked is zero if it is not.
	Expires, Revoked time.Time
}

// A key is "authzd_", the id in hex, "_" and the secret in base64url.
const (
	keyPrefix   = "authzd_"
	idBytes     = 8
	secretBytes = 32
)

func keyLength() int {
	return len(keyPrefix) + hex.EncodedLen(idBytes) + 1 + base64.RawURLEncoding.EncodedLen(secretBytes)
}

// parseKey finds the id in a key. Every key has one length, so that what is
// far longer costs nothing.
func parseKey(text string) (id string, ok bool) {
	if len(text) != keyLength() || !strings.HasPrefix(text, keyPrefix) {
		return "", false
	}
	id, _, ok = strings.Cut(text[len(keyPrefix):], "_")
	return id, ok && len(id) == hex.EncodedLen(idBytes)
}

// NewKey makes a key with the given name and rights. It returns the key as it
// is to be sent, which nothing can show again. random gives the id and secret.
func NewKey(k Key, random io.Reader) (Key, string, error) {
	if err := checkName(k.Name); err != nil {
		return Key{}, "", err
	}
	if k.Rights == 0 {
		return Key{}, "", errors.New("a key needs rights")
	}
	if !k.Expires.IsZero() && !k.Expires.After(k.Created) {
		return Key{}, "", errors.New("a key can not expire before it is made")
	}
	var bytes [idBytes + secretBytes]byte
	if _, err := io.ReadFull(random, bytes[:]); err != nil {
		return Key{}, "", fmt.Errorf("make a key: %w", err)
	}
	k.ID = hex.EncodeToString(bytes[:idBytes])
	text := keyPrefix + k.ID + "_" + base64.RawURLEncoding.EncodeToString(bytes[idBytes:])
	k.Hash = sha256.Sum256([]byte(text))
	k.Revoked = time.Time{}
	return k, text, nil
}

const keyFileVersion = "1"

// decodeKeys reads the text of a file of keys, strictly.
func decodeKeys(data []byte) ([]Key, error) {
	doc, err := rar.DecodeStrict(data, rar.Limits{MaxBytes: maxFileBytes, RejectCaseVariants: true})
	if err != nil {
		return nil, err //nolint:wrapcheck // says what and where
	}
	list := rar.Value{}
	version := ""
	err = members(doc, func(m rar.Member) error {
		switch m.Name {
		case "version":
			version = m.Value.Text()
		case "keys":
			list = m.Value
		default:
			return errors.New("no such member")
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case version != keyFileVersion:
		return nil, fmt.Errorf("version %q is not %s", version, keyFileVersion)
	case list.Kind() != rar.Array:
		return nil, errors.New("keys must be a list")
	}
	keys := make([]Key, 0, list.Len())
	seen := map[string]bool{}
	for i := range list.Len() {
		k, err := decodeKey(list.Index(i))
		if err == nil && seen[k.ID] {
			err = errors.New("another key has the same id")
		}
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i, err)
		}
		seen[k.ID] = true
		keys = append(keys, k)
	}
	return keys, nil
}

func members(v rar.Value, read func(rar.Member) error) error {
	if v.Kind() != rar.Object {
		return errors.New("must be an object")
	}
	for i := range v.Len() {
		if err := read(v.Member(i)); err != nil {
			return fmt.Errorf("%s: %w", v.Member(i).Name, err)
		}
	}
	return nil
}

func decodeKey(v rar.Value) (k Key, err error) {
	hashed := false
	err = members(v, func(m rar.Member) (err error) {
		switch m.Name {
		case "id":
			k.ID, err = readID(m.Value)
		case "name":
			if k.Name, err = readText(m.Value); err == nil {
				err = checkName(k.Name)
			}
		case "rights":
			k.Rights, err = readRights(m.Value)
		case "audience":
			k.Audience, err = readText(m.Value)
		case "sha256":
			hashed = true
			k.Hash, err = readHash(m.Value)
		case "created":
			k.Created, err = readTime(m.Value)
		case "expires":
			k.Expires, err = readTime(m.Value)
		case "revoked":
			k.Revoked, err = readTime(m.Value)
		default:
			err = errors.New("no such member")
		}
		return err
	})
	if err == nil && (k.ID == "" || k.Name == "" || k.Rights == 0 || !hashed || k.Created.IsZero()) {
		err = errors.New("lacks id, name, rights, sha256 or created")
	}
	return k, err
}

func readID(v rar.Value) (string, error) {
	id := v.Text()
	raw, err := hex.DecodeString(id)
	if err != nil || v.Kind() != rar.String || len(raw) != idBytes || strings.ToLower(id) != id {
		return "", fmt.Errorf("must be %d bytes in lower-case hex", idBytes)
	}
	return id, nil
}

func readHash(v rar.Value) (sum [sha256.Size]byte, err error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(v.Text())
	if err != nil || v.Kind() != rar.String || len(raw) != len(sum) {
		return sum, errors.New("must be a SHA-256 in base64url")
	}
	copy(sum[:], raw)
	return sum, nil
}

// readTime refuses the zero time, which would read as "never".
func readTime(v rar.Value) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, v.Text())
	if err != nil || v.Kind() != rar.String || t.IsZero() {
		return time.Time{}, errors.New("must be a time of RFC 3339")
	}
	return t, nil
}

// encodeKeys writes the text of a file of keys.
func encodeKeys(keys []Key) []byte {
	text := []byte("{\"version\": " + keyFileVersion + ", \"keys\": [")
	for i, k := range keys {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(text, "\n  "...)
		text = keyValue(k).AppendJSON(text)
	}
	return append(text, "\n]}\n"...)
}

func keyValue(k Key) rar.Value {
	names := k.Rights.Names()
	rights := make([]rar.Value, len(names))
	for i, name := range names {
		rights[i] = rar.StringValue(name)
	}
	out := []rar.Member{
		{Name: "id", Value: rar.StringValue(k.ID)},
		{Name: "name", Value: rar.StringValue(k.Name)},
		{Name: "rights", Value: rar.ArrayValue(rights...)},
		{Name: "sha256", Value: rar.StringValue(base64.RawURLEncoding.EncodeToString(k.Hash[:]))},
	}
	if k.Audience != "" {
		out = append(out, rar.Member{Name: "audience", Value: rar.StringValue(k.Audience)})
	}
	for _, at := range []struct {
		name string
		time time.Time
	}{{"created", k.Created}, {"expires", k.Expires}, {"revoked", k.Revoked}} {
		if !at.time.IsZero() {
			out = append(out, rar.Member{Name: at.name, Value: rar.StringValue(at.time.UTC().Format(time.RFC3339))})
		}
	}
	return rar.ObjectValue(out...)
}
