package bundles

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

// Delta is what a delta bundle changes in the data of another one (OPA, "Delta
// Bundles": patch.json).
//
// OPA's delta bundles do not say what they change, so that an old one could be put on
// anything. Here they do, in metadata.authzd of the manifest: the archive, and either a
// sequence, or which change they follow.
type Delta struct {
	// Edits are applied in order, all of them or none.
	Edits []rar.Edit
	// Base is the digest of the archive whose data they change.
	Base string
	// Sequence orders those that are signed: above the archive's, and above that of
	// every one before it. 0 in those that a server made.
	Sequence int64
	// After and Number are which change of the base a server's own follows, and which it
	// is; 0 in those that are signed.
	After, Number int64
}

const (
	patchFile = "patch.json"
	// MaxDeltaBytes bounds patch.json, and what one request may change.
	MaxDeltaBytes = 1 << 20
	// MaxEdits bounds the edits of one delta.
	MaxEdits = 10_000
)

// The words of patch.json for what is done.
const (
	opUpsert  = "upsert"
	opReplace = "replace"
	opRemove  = "remove"
)

// Whole refuses a delta bundle, for whoever needs policy and data.
func (c *Content) Whole() error {
	if c.Delta == nil {
		return nil
	}
	return errorf(CodeUnsupported, patchFile, "a delta bundle changes the data of another one that is active: push it (authzd bundle push --activate)")
}

// assembleDelta makes the content of a delta bundle.
func assembleDelta(files []File) (Content, error) {
	var c Content
	m := manifest{roots: []string{""}, allRoots: []string{""}}
	d := &Delta{}
	for i := range files {
		f := &files[i]
		c.Size += int64(len(f.Data))
		var err error
		switch f.Path {
		case manifestFile:
			m, err = decodeManifest(f.Data)
		case signaturesFile:
			c.Signed = true
		case patchFile:
			d.Edits, err = DecodePatch(f.Data, f.Path)
		default:
			err = errorf(CodeUnsupported, f.Path, "a delta bundle holds .manifest and %s, and neither policy nor data", patchFile)
		}
		if err != nil {
			return Content{}, err
		}
	}
	if err := d.read(m.authzd); err != nil {
		return Content{}, err
	}
	c.Delta, c.Roots = d, m.allRoots
	c.Bundle = engine.Bundle{Revision: m.revision, Roots: m.roots, Metadata: m.authzd}
	return c, nil
}

// read takes in metadata.authzd.
func (d *Delta) read(m rar.Value) error {
	bad := func(name, format string, args ...any) error {
		return errorf(CodeDeltaInvalid, manifestFile+"#/metadata/authzd/"+escapeToken(name), format, args...)
	}
	for i := range m.Len() {
		name, v := m.Member(i).Name, m.Member(i).Value
		numbers := map[string]*int64{"sequence": &d.Sequence, "after": &d.After, "number": &d.Number}
		switch into := numbers[name]; {
		case into != nil:
			n, err := strconv.ParseInt(v.Text(), 10, 64)
			if v.Kind() != rar.Number || err != nil || n < 0 {
				return bad(name, "must be a whole number from 0 to 9223372036854775807")
			}
			*into = n
		case name == "base":
			if d.Base = v.Text(); v.Kind() != rar.String || !strings.HasPrefix(d.Base, digestPrefix) {
				return bad(name, "must be the digest of an archive, %q and hexadecimal", digestPrefix)
			}
		case name == "name":
			if v.Kind() != rar.String {
				return bad(name, "must be a string")
			}
		default:
			return bad(name, "is not a member of the manifest of a delta bundle")
		}
	}
	switch {
	case d.Base == "":
		return bad("base", "is missing: the digest of the archive that the delta bundle changes")
	case d.Sequence == 0 && d.Number == 0:
		return bad("sequence", "is missing: a number above that of the archive, and of every delta bundle before")
	case d.Number != 0 && (d.Sequence != 0 || d.After >= d.Number):
		return bad("number", "must be above \"after\", and stand without \"sequence\"")
	case d.Number == 0 && d.After != 0:
		return bad("after", "stands with \"number\" only")
	}
	return nil
}

// DecodePatch reads the text of a patch.json strictly, and what a request changes,
// which has the same form: {"data": [{"op": "upsert", "path": "/users/alice", "value":
// {}}, {"op": "remove", "path": "/users/bob"}]}. Paths are JSON Pointers; a missing
// slash before and one too many behind are passed over, as OPA does. File is what
// errors name.
func DecodePatch(text []byte, file string) ([]rar.Edit, error) {
	if len(text) > MaxDeltaBytes {
		return nil, errorf(CodeTooLarge, file, "changes of more than %d bytes: release a bundle instead", MaxDeltaBytes)
	}
	doc, err := rar.DecodeStrict(text, rar.Limits{MaxBytes: MaxDeltaBytes, MaxDepth: DefaultMaxDataDepth})
	if err != nil {
		return nil, decodeError(CodeDeltaInvalid, file, err)
	}
	list, _ := doc.Get("data")
	switch {
	case doc.Kind() != rar.Object || doc.Len() != 1 || list.Kind() != rar.Array || list.Len() == 0:
		return nil, errorf(CodeDeltaInvalid, file, `must be an object of "data", an array of changes`)
	case list.Len() > MaxEdits:
		return nil, errorf(CodeTooLarge, file, "more than %d changes: release a bundle instead", MaxEdits)
	}
	edits := make([]rar.Edit, list.Len())
	for i := range edits {
		if edits[i], err = DecodeEdit(list.Index(i), file+"#/data/"+strconv.Itoa(i)); err != nil {
			return nil, err
		}
	}
	return edits, nil
}

// DecodeEdit reads one change of a patch.json. At is what errors name.
func DecodeEdit(v rar.Value, at string) (rar.Edit, error) {
	op, _ := v.Get("op")
	pointer, _ := v.Get("path")
	value, hasValue := v.Get("value")
	e := rar.Edit{Value: value}
	members := 2
	switch {
	case v.Kind() != rar.Object || op.Kind() != rar.String || pointer.Kind() != rar.String:
		return e, errorf(CodeDeltaInvalid, at, `must be an object with "op" and "path", strings`)
	case op.Text() == opUpsert:
		e.Op = rar.Upsert
	case op.Text() == opReplace:
		e.Op = rar.Replace
	case op.Text() == opRemove:
		e.Op = rar.Remove
	default:
		return e, errorf(CodeDeltaInvalid, at+"/op", "must be %s, %s or %s, not %s", opUpsert, opReplace, opRemove, op.AppendJSON(nil))
	}
	if hasValue {
		members++
	}
	switch {
	case e.Op != rar.Remove && !hasValue:
		return e, errorf(CodeDeltaInvalid, at, `"value" is missing`)
	case e.Op == rar.Remove && hasValue && value.Kind() != rar.Null: // OPA writes it
		return e, errorf(CodeDeltaInvalid, at+"/value", "what is removed has no value")
	case v.Len() != members:
		return e, errorf(CodeDeltaInvalid, at, `holds more than "op", "path" and "value"`)
	}
	if e.Op == rar.Remove {
		e.Value = rar.Value{}
	}
	var err error
	e.Path, err = SplitPointer(pointer.Text(), at+"/path")
	return e, err
}

// SplitPointer makes member names of a JSON Pointer (RFC 6901) to a document of base
// data, which is not its root. At is what errors name.
func SplitPointer(pointer, at string) ([]string, error) {
	trimmed := strings.Trim(pointer, "/")
	if trimmed == "" {
		return nil, errorf(CodeDeltaInvalid, at, "must lead to a document, not to all data")
	}
	names := strings.Split(trimmed, "/")
	for i, name := range names {
		for rest := name; ; {
			tilde := strings.IndexByte(rest, '~')
			if tilde < 0 {
				break
			}
			if rest = rest[tilde+1:]; !strings.HasPrefix(rest, "0") && !strings.HasPrefix(rest, "1") {
				return nil, errorf(CodeDeltaInvalid, at, "is no JSON Pointer: ~ stands before 0 or 1 only")
			}
		}
		if name == "" {
			return nil, errorf(CodeDeltaInvalid, at, "has an empty step")
		}
		names[i] = strings.ReplaceAll(strings.ReplaceAll(name, "~1", "/"), "~0", "~")
	}
	return names, nil
}

// Pointer is the JSON Pointer of member names.
func Pointer(path []string) string {
	var b strings.Builder
	for _, name := range path {
		b.WriteString("/" + escapeToken(name))
	}
	return b.String()
}

// OpName is the word of patch.json for an operation.
func OpName(op rar.EditOp) string {
	switch op {
	case rar.Replace:
		return opReplace
	case rar.Remove:
		return opRemove
	case rar.Upsert:
	}
	return opUpsert
}

// AppendPatch appends the text of a patch.json.
func AppendPatch(dst []byte, edits []rar.Edit) []byte {
	list := make([]rar.Value, len(edits))
	for i, e := range edits {
		members := []rar.Member{{Name: "op", Value: rar.StringValue(OpName(e.Op))}, {Name: "path", Value: rar.StringValue(Pointer(e.Path))}}
		if e.Op != rar.Remove {
			members = append(members, rar.Member{Name: "value", Value: e.Value})
		}
		list[i] = rar.ObjectValue(members...)
	}
	return rar.ObjectValue(rar.Member{Name: "data", Value: rar.ArrayValue(list...)}).AppendJSON(dst)
}

// PackDelta makes the archive of a change that no key has signed: of a bundle with
// these revision and roots. D says what it changes and where it stands.
func PackDelta(d *Delta, revision string, roots []string) ([]byte, error) {
	list := make([]rar.Value, len(roots))
	for i, r := range roots {
		list[i] = rar.StringValue(r)
	}
	member := func(name string, v rar.Value) rar.Member { return rar.Member{Name: name, Value: v} }
	m := rar.ObjectValue(
		member("revision", rar.StringValue(revision)),
		member("roots", rar.ArrayValue(list...)),
		member("metadata", rar.ObjectValue(member("authzd", rar.ObjectValue(
			member("base", rar.StringValue(d.Base)),
			member("after", rar.IntValue(d.After)),
			member("number", rar.IntValue(d.Number)),
		)))),
	)
	var out bytes.Buffer
	err := pack(&out, []File{{Path: manifestFile, Data: m.AppendJSON(nil)}, {Path: patchFile, Data: AppendPatch(nil, d.Edits)}})
	return out.Bytes(), err
}
