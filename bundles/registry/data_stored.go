package registry

import (
	"bytes"
	"context"
	"fmt"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/rar"
	"github.com/authzd/authzd/store"
)

// This file makes stored changes again, takes those that come as archives, and reads
// documents.

// catchUp makes the changes that are stored on top of an archive.
func (r *Registry) catchUp(ctx context.Context, o *opened) (*opened, error) {
	next := *o
	for {
		rows, err := r.opts.Store.Changes(ctx, r.tenant, o.name, o.digest, next.changes, changesPage)
		if err != nil {
			return nil, err //nolint:wrapcheck // says what it did
		}
		if len(rows) == 0 {
			if next.changes == o.changes {
				return o, nil
			}
			return &next, nil
		}
		var edits []rar.Edit
		var size int64
		for i := range rows {
			d, err := r.stored(&next, &rows[i])
			if err != nil {
				return nil, fmt.Errorf("change %d of the data: %w", rows[i].Number, err)
			}
			edits, size = append(edits, d.Edits...), size+rows[i].Size
			next.changes, next.line = rows[i].Number, rows[i].Line
			if size < togetherBytes && i+1 < len(rows) {
				continue
			}
			data := next.content.Bundle.Data
			if data.Kind() != rar.Object {
				data = rar.ObjectValue()
			}
			if next.content.Bundle.Data, err = rar.Apply(data, edits, dataLimits()); err != nil {
				return nil, fmt.Errorf("changes of the data up to %d: %w", next.changes, editError(edits, err))
			}
			edits, size = nil, 0
		}
		next.rename()
	}
}

// stored opens a stored change and judges it again: by the keys of now, and by what may
// be written.
func (r *Registry) stored(o *opened, row *store.Change) (*bundles.Delta, error) {
	if !row.Signed {
		c, err := openUnsigned(row.Archive)
		if err != nil {
			return nil, err
		}
		if c.Delta.Base != o.digest {
			return nil, o.follows(c.Delta, false)
		}
		// What lay there then, and not only by its path, was judged when it was made.
		return c.Delta, o.mayWrite(rar.Value{}, c.Delta.Edits)
	}
	c, err := r.opts.Verify(row.Archive)
	if err != nil {
		return nil, err //nolint:wrapcheck // coded
	}
	if c.Delta == nil {
		return nil, errorf(bundles.CodeDeltaInvalid, "", "is no delta bundle")
	}
	if err := o.follows(c.Delta, true); err != nil {
		return nil, err
	}
	o.latest = c.Delta.Sequence
	return c.Delta, nil
}

// openUnsigned opens a delta bundle that a server made.
func openUnsigned(archive []byte) (bundles.Content, error) {
	c, err := bundles.OpenArchive(bytes.NewReader(archive), bundles.Limits{MaxBytes: 2 * bundles.MaxDeltaBytes, MaxFileBytes: bundles.MaxDeltaBytes})
	switch {
	case err != nil:
		return c, err //nolint:wrapcheck // coded
	case c.Delta == nil || c.Signed || c.Delta.Number == 0:
		return c, errorf(bundles.CodeDeltaInvalid, "", "is no change that a server made")
	}
	return c, nil
}

// unsigned opens what a followed server has changed without a signature; nil: that is
// not what it is.
func (j *journey) unsigned() (*opened, error) {
	if !j.push.Followed || len(j.push.Archive) > bundles.MaxDeltaBytes {
		return nil, nil //nolint:nilnil // none is an answer
	}
	epoch := j.registry.epoch.Load()
	c, err := openUnsigned(j.push.Archive)
	if err != nil {
		return nil, nil //nolint:nilerr,nilnil // it is verified, then
	}
	return openedOf(j.push.Name, j.digest, c, epoch)
}

// delta makes the changes of a delta bundle live.
func (j *journey) delta(ctx context.Context, o *opened) (Result, error) {
	r := j.registry
	if !j.push.Activate {
		return Result{}, j.reject(ctx, errorf(bundles.CodeUnsupported, "", "a delta bundle changes what is active, and is not staged: push it with activate"))
	}
	done, err := r.hasChange(ctx, j.push.Name, j.digest)
	if err != nil {
		return Result{}, err
	}
	if !done {
		c := &change{
			DataChange: DataChange{Name: j.push.Name, Edits: o.content.Delta.Edits, Who: j.push.Who, Why: j.push.Why},
			delta:      j.push.Archive, content: o.content, signed: o.content.Signed, done: make(chan struct{}),
		}
		if digest, number, line, ok := parseTag(j.push.Tag); ok && j.push.Followed && digest == o.content.Delta.Base {
			c.number, c.line = number, line
		}
		_, err = r.await(ctx, c)
		if err != nil {
			return Result{}, j.reject(ctx, err)
		}
	}
	digest, _ := r.Active(j.push.Name)
	b, _, err := r.find(context.WithoutCancel(ctx), j.push.Name, func(b store.Bundle) bool { return b.Digest == digest })
	return Result{Bundle: b, Report: ParseReport(b.Report), Unchanged: done, Changes: r.changesOf(&b)}, err
}

// hasChange tells whether the last change of the active bundle is this archive.
func (r *Registry) hasChange(ctx context.Context, name, digest string) (bool, error) {
	r.mu.Lock()
	o := r.active[name]
	r.mu.Unlock()
	if o == nil || o.changes == 0 {
		return false, nil
	}
	rows, err := r.opts.Store.Changes(ctx, r.tenant, name, o.digest, o.changes-1, 1)
	if err != nil {
		return false, err //nolint:wrapcheck // says what it did
	}
	return len(rows) == 1 && rows[0].Digest == digest, nil
}

// Document is a document of the active data of a bundle.
type Document struct {
	// JSON is its text, Tag what it is called in an If-Match.
	JSON []byte
	Tag  string
	Changed
}

// Document reads a document of the data of the active bundle of a name, as changed.
func (r *Registry) Document(name string, path []string) (Document, error) {
	r.mu.Lock()
	o := r.active[name]
	r.mu.Unlock()
	if o == nil || o.missing {
		return Document{}, errorf(bundles.CodeNotFound, "/name", "no pushed bundle %q is active", name)
	}
	at := bundles.Pointer(path)
	v, found := documentAt(o.content.Bundle.Data, path)
	if !found {
		return Document{}, errorf(bundles.CodeDataNotFound, at, "there is no such document")
	}
	text, tag, err := textOf(v, at)
	return Document{JSON: text, Tag: tag, Changed: Changed{Revision: o.revision, Digest: o.digest, Number: o.changes}}, err
}
