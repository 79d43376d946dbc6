// Package callers says who may ask the service, and what: the callers that an
// operator knows by a static key or by the name in a client certificate, each
// with its rights.
//
// It refuses keys that are unknown, revoked or expired, names that are not
// listed, and files that do not say exactly one thing. It serves nothing and
// verifies no certificate chain: package api does, and asks a [Book] for the
// caller of each call. cmd/authzd makes, lists and revokes keys with it.
//
// A Book is immutable and may be asked by any number of goroutines.
package callers

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/rar"
)

// Caller is who asks. The zero Caller has no right.
type Caller struct {
	Name   string
	Rights Rights
	// Audience is the resource identifier of the MCP server that this caller
	// enforces for, for queries that name none; empty: not configured.
	Audience string
}

// Reason says why somebody is not let in, for logs and metrics. The caller is
// told nothing of it.
type Reason string

// Reasons of a Book and of who asks it. The empty Reason is none: let in.
const (
	ReasonNone        Reason = "no_credential"
	ReasonMalformed   Reason = "malformed"
	ReasonUnknownKey  Reason = "unknown_key"
	ReasonWrongSecret Reason = "wrong_secret"
	ReasonRevoked     Reason = "revoked"
	ReasonExpired     Reason = "expired"
	ReasonCertificate Reason = "certificate"
	ReasonUnlisted    Reason = "unlisted"
	ReasonRight       Reason = "right_missing"
)

// Reasons lists every reason, for metrics that start at 0.
func Reasons() []Reason {
	return []Reason{
		ReasonNone, ReasonMalformed, ReasonUnknownKey, ReasonWrongSecret, ReasonRevoked,
		ReasonExpired, ReasonCertificate, ReasonUnlisted, ReasonRight,
	}
}

// Book holds the callers of a file of keys and of a file of names. The zero
// Book knows nobody.
type Book struct {
	keys  map[string]Key
	names map[string]Caller
}

// Load reads both files; an empty name is none. A file that is absent gives an
// error that is fs.ErrNotExist.
func Load(keysFile, namesFile string) (*Book, error) {
	b := &Book{keys: map[string]Key{}, names: map[string]Caller{}}
	var faults []error
	if keysFile != "" {
		keys, err := ReadKeys(keysFile)
		faults = append(faults, err)
		for _, k := range keys {
			b.keys[k.ID] = k
		}
	}
	if namesFile != "" {
		var err error
		b.names, err = readNames(namesFile)
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return b, nil
}

// ByKey finds the caller of a key as it was sent. With a reason there is no
// caller, and the name, if there is one, is for the log only.
func (b *Book) ByKey(text string, now time.Time) (c Caller, name string, why Reason) {
	id, ok := parseKey(text)
	if !ok {
		return Caller{}, "", ReasonMalformed
	}
	k, known := b.keys[id]
	// An unknown id costs what a known one does.
	sum := sha256.Sum256([]byte(text))
	same := subtle.ConstantTimeCompare(sum[:], k.Hash[:]) == 1
	switch {
	case !known:
		return Caller{}, "", ReasonUnknownKey
	case !same:
		return Caller{}, k.Name, ReasonWrongSecret
	case !k.Revoked.IsZero():
		return Caller{}, k.Name, ReasonRevoked
	case !k.Expires.IsZero() && !now.Before(k.Expires):
		return Caller{}, k.Name, ReasonExpired
	}
	return Caller{Name: k.Name, Rights: k.Rights, Audience: k.Audience}, k.Name, ""
}

// ByName finds the caller of a verified name, compared byte by byte.
func (b *Book) ByName(name string) (Caller, Reason) {
	c, ok := b.names[name]
	if !ok || name == "" {
		return Caller{}, ReasonUnlisted
	}
	return c, ""
}

const (
	maxFileBytes = 4 << 20
	maxNameBytes = 2048
)

// readFile reads a file that decides who has rights. One that everybody may
// write to decides nothing.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err //nolint:wrapcheck // names the file itself
	}
	defer f.Close() //nolint:errcheck // read only, nothing to lose
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err //nolint:wrapcheck // names the file itself
	case info.IsDir():
		return nil, fmt.Errorf("%s: is a folder", name)
	case info.Mode().Perm()&0o002 != 0:
		return nil, fmt.Errorf("%s: everybody may write to it, and so give rights: chmod o-w", name)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("%s: larger than %d bytes", name, maxFileBytes)
	}
	return data, nil
}

// readNames reads a map of names to rights, in YAML or JSON.
func readNames(file string) (map[string]Caller, error) {
	data, err := readFile(file)
	if err != nil {
		return nil, err
	}
	doc, err := bundles.DecodeYAML(data, bundles.Limits{MaxYAMLBytes: maxFileBytes})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if doc.Kind() != rar.Object {
		return nil, fmt.Errorf("%s: must be a map of names", file)
	}
	out := make(map[string]Caller, doc.Len())
	var faults []error
	for i := range doc.Len() {
		m := doc.Member(i)
		c, err := readCaller(m.Name, m.Value)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %q: %w", file, m.Name, err))
			continue
		}
		out[m.Name] = c
	}
	return out, errors.Join(faults...)
}

func readCaller(name string, v rar.Value) (Caller, error) {
	if err := checkName(name); err != nil {
		return Caller{}, err
	}
	if v.Kind() != rar.Object {
		return Caller{}, errors.New("must be a map with rights, and audience if wanted")
	}
	c := Caller{Name: name}
	for i := range v.Len() {
		m := v.Member(i)
		var err error
		switch m.Name {
		case "rights":
			c.Rights, err = readRights(m.Value)
		case "audience":
			c.Audience, err = readText(m.Value)
		default:
			err = errors.New("no such member")
		}
		if err != nil {
			return Caller{}, fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	if c.Rights == 0 {
		return Caller{}, errors.New("has no rights")
	}
	return c, nil
}

func readText(v rar.Value) (string, error) {
	if v.Kind() != rar.String || v.Text() == "" || len(v.Text()) > maxNameBytes {
		return "", errors.New("must be a text that is not empty")
	}
	return v.Text(), nil
}

func readRights(v rar.Value) (Rights, error) {
	if v.Kind() != rar.Array {
		return 0, errors.New("must be a list of rights")
	}
	names := make([]string, v.Len())
	for i := range names {
		if v.Index(i).Kind() != rar.String {
			return 0, errors.New("must be a list of rights")
		}
		names[i] = v.Index(i).Text()
	}
	return ParseRights(names)
}

// checkName admits what a log line and a list can show.
func checkName(name string) error {
	if name == "" || len(name) > maxNameBytes || !utf8.ValidString(name) {
		return fmt.Errorf("a name has 1 to %d bytes of UTF-8", maxNameBytes)
	}
	for _, r := range name {
		if !unicode.IsPrint(r) {
			return errors.New("a name has printable characters only")
		}
	}
	return nil
}
