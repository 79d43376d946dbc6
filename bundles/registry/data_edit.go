package registry

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/rar"
	"github.com/authzd/authzd/store"
)

// This file judges changes one by one, and makes them on data.

// apply makes the changes that can be made, one after the other. Why the others are
// refused counts once these are made.
func (r *Registry) apply(o *opened, batch []*change) (after *opened, made []*change, refused map[*change]error) {
	next := *o
	refused = map[*change]error{}
	for _, c := range batch {
		if c.err != nil || c.result.Number != 0 {
			continue
		}
		c.row = store.Change{Base: o.digest, Number: next.changes + 1, Line: o.own, Signed: c.signed, Archive: c.delta, Who: c.Who, Why: c.Why, At: r.opts.Now()}
		if err := next.take(c); err != nil {
			refused[c] = err
			continue
		}
		made = append(made, c)
	}
	return &next, made, refused
}

// take makes one change. An error leaves o as it was.
func (o *opened) take(c *change) error {
	data := o.content.Bundle.Data
	if data.Kind() != rar.Object {
		data = rar.ObjectValue()
	}
	edits := c.Edits
	if c.Put {
		edits = setting(data, edits)
	}
	if err := o.admits(data, c, edits); err != nil {
		return err
	}
	changed, err := rar.Apply(data, edits, dataLimits())
	if err != nil {
		return editError(edits, err)
	}
	next := *o
	next.content.Bundle.Data, next.changes, next.line = changed, c.row.Number, c.row.Line
	next.rename()
	c.row.Path, c.row.Removes = onePath(data, edits)
	if c.signed {
		c.row.Path = ""
		next.latest = c.row.Sequence
	}
	if c.delta == nil {
		d := bundles.Delta{Edits: edits, Base: o.digest, After: c.row.Number - 1, Number: c.row.Number}
		c.row.Archive, err = bundles.PackDelta(&d, next.revision, o.content.Roots)
		if err != nil {
			return err //nolint:wrapcheck // says what it did
		}
		// What can not be read again must not be stored.
		if c.content, err = openUnsigned(c.row.Archive); err != nil {
			return err
		}
	}
	c.row.Size = c.content.Size
	c.row.Digest = store.Digest(c.row.Archive)
	*o = next
	return nil
}

// admits refuses a change out of order, of what is not as expected, or of what needs a
// signature.
func (o *opened) admits(data rar.Value, c *change, edits []rar.Edit) error {
	if c.delta == nil {
		// First: who may not write there learns nothing of what there is.
		if err := o.mayWrite(data, edits); err != nil {
			return err
		}
		return expected(data, &c.DataChange)
	}
	d := c.content.Delta
	if err := o.follows(d, c.signed); err != nil {
		return err
	}
	if c.row.Sequence = d.Sequence; d.Number > 0 {
		c.row.Number = d.Number
	}
	if c.number > 0 {
		if c.number <= o.changes || d.Number > 0 && d.Number != c.number {
			return errorf(bundles.CodeDeltaStale, "", "the source calls it number %d, and the last one here is %d", c.number, o.changes)
		}
		c.row.Number, c.row.Line = c.number, c.line
	}
	if c.signed {
		return nil
	}
	return o.mayWrite(data, edits)
}

// setting are edits that replace the elements of arrays that are there.
func setting(data rar.Value, edits []rar.Edit) []rar.Edit {
	edits = slices.Clone(edits)
	for i := range edits {
		e := &edits[i]
		if e.Op != rar.Upsert || len(e.Path) == 0 {
			continue
		}
		parent, _ := documentAt(data, e.Path[:len(e.Path)-1])
		if _, there := documentAt(parent, e.Path[len(e.Path)-1:]); there && parent.Kind() == rar.Array {
			e.Op = rar.Replace
		}
	}
	return edits
}

// rename makes the revision of the data as it is now: that of the archive and the
// number of the last change.
func (o *opened) rename() {
	o.revision = o.revisionAt(o.changes)
	o.suffix = "#" + strconv.FormatInt(o.changes, 10)
	o.content.Bundle.Revision = o.revision
}

// dataLimits are those of data with its changes.
func dataLimits() rar.Limits {
	return rar.Limits{MaxBytes: 2 * bundles.DefaultMaxBytes, MaxDepth: bundles.DefaultMaxDataDepth}
}

// follows refuses a delta bundle that is not of this archive, or not the next one.
func (o *opened) follows(d *bundles.Delta, signed bool) error {
	switch {
	case d.Base != o.digest:
		return errorf(bundles.CodeDeltaStale, ".manifest#/metadata/authzd/base", "the delta bundle changes the archive %s, and %s is active", short(d.Base), short(o.digest))
	case signed && d.Sequence == 0:
		return errorf(bundles.CodeDeltaInvalid, ".manifest#/metadata/authzd/sequence", "is missing: a number above that of the archive, and of every delta bundle before")
	case signed && d.Sequence <= o.latest:
		return errorf(bundles.CodeDeltaStale, ".manifest#/metadata/authzd/sequence", "the sequence %d is not above %d, the last one", d.Sequence, o.latest)
	case !signed && d.After != o.changes:
		return errorf(bundles.CodeDeltaStale, ".manifest#/metadata/authzd/after", "the changes follow number %d, and the last one here is %d", d.After, o.changes)
	}
	return nil
}

// mayWrite refuses what the manifest does not let be changed without a signature. Data is
// what the edits are made on: an element that is put into an array, or taken out, moves
// the others, so that they need to be writable, too.
func (o *opened) mayWrite(data rar.Value, edits []rar.Edit) error {
	for _, e := range edits {
		may := func(w []string) bool {
			if len(w) > len(e.Path) || !slices.Equal(w, e.Path[:len(w)]) {
				return false
			}
			if len(w) < len(e.Path) || e.Op == rar.Replace {
				return true
			}
			parent, _ := documentAt(data, w[:len(w)-1])
			return parent.Kind() != rar.Array
		}
		if !slices.ContainsFunc(o.writable, may) {
			return errorf(bundles.CodeNotWritable, bundles.Pointer(e.Path), "is not below one of metadata.authzd.writable_data of the signed bundle")
		}
	}
	return nil
}

// expected holds what is there against what the caller expects.
func expected(data rar.Value, d *DataChange) error {
	if d.Expect == nil && !d.ExpectAbsent {
		return nil
	}
	v, found := documentAt(data, d.Path)
	at := bundles.Pointer(d.Path)
	switch {
	case d.ExpectAbsent && found:
		return errorf(bundles.CodeDataChanged, at, "there is a document already")
	case d.ExpectAbsent:
		return nil
	case !found:
		return errorf(bundles.CodeDataChanged, at, "there is no document")
	case slices.Contains(d.Expect, "*"):
		return nil
	}
	_, tag, err := textOf(v, at)
	if err == nil && !slices.Contains(d.Expect, tag) {
		err = errorf(bundles.CodeDataChanged, at, "the document is another one by now: read it again")
	}
	return err
}

// documentAt is what stands at a path.
func documentAt(v rar.Value, path []string) (rar.Value, bool) {
	for _, name := range path {
		i := -1
		switch v.Kind() {
		case rar.Object:
			i = v.Find(name)
		case rar.Array:
			if n, err := strconv.Atoi(name); err == nil && strconv.Itoa(n) == name && n < v.Len() {
				i = n
			}
		case rar.Absent, rar.Null, rar.Bool, rar.Number, rar.String:
		}
		if i < 0 {
			return rar.Value{}, false
		}
		v, _ = v.ChildAt(i)
	}
	return v, true
}

// maxDocument bounds the documents that are handed out, and compared, in bytes.
const maxDocument = bundles.MaxDeltaBytes

// textOf is the JSON of a document, and its tag.
func textOf(v rar.Value, at string) (text []byte, tag string, err error) {
	if v.TextSize() <= maxDocument {
		text = v.AppendJSON(nil)
	}
	if text == nil || len(text) > maxDocument {
		return nil, "", errorf(bundles.CodeTooLarge, at, "the document is larger than %d bytes: ask for one below it", maxDocument)
	}
	return text, TagOf(v), nil
}

// TagOf names a value, for an If-Match.
func TagOf(v rar.Value) string { return store.Digest(v.AppendCanonical(nil)) }

// onePath is the pointer of the one document that edits set or remove, if it lies in
// objects alone.
func onePath(data rar.Value, edits []rar.Edit) (pointer string, removes bool) {
	if len(edits) != 1 || edits[0].Op == rar.Replace {
		return "", false
	}
	v, found := data, true
	for _, name := range edits[0].Path {
		if found && v.Kind() == rar.Array {
			return "", false
		}
		v, found = documentAt(v, []string{name})
	}
	return bundles.Pointer(edits[0].Path), edits[0].Op == rar.Remove
}

// editError places a fault of rar.Apply.
func editError(edits []rar.Edit, err error) error {
	at := pathsOf(edits)
	var fault *rar.Error
	if !errors.As(err, &fault) {
		return errorf(bundles.CodeDeltaInvalid, at, "%w", err)
	}
	index, _, _ := strings.Cut(strings.TrimPrefix(fault.Path, "/"), "/")
	if i, err := strconv.Atoi(index); err == nil && i < len(edits) {
		at = bundles.Pointer(edits[i].Path)
	}
	switch fault.Code { //nolint:exhaustive // the rest is what is wrong with the value
	case rar.CodeNotFound:
		return errorf(bundles.CodeDataNotFound, at, "%w", fault.Err)
	case rar.CodeTooLarge:
		return errorf(bundles.CodeTooLarge, at, "%w", fault.Err)
	}
	return errorf(bundles.CodeDeltaInvalid, at, "%w", fault)
}

// pathsOf names what edits change, for people.
func pathsOf(edits []rar.Edit) string {
	if len(edits) == 0 {
		return ""
	}
	text := clip(bundles.Pointer(edits[0].Path))
	if len(edits) > 1 {
		text += " and " + strconv.Itoa(len(edits)-1) + " more"
	}
	return text
}
