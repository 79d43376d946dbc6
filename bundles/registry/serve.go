package registry

import (
	"context"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/store"
)

// Active is the digest of the active archive of a name, for whoever hands it
// on: empty where nothing is active, or what is can not be verified. Changed is
// closed once something else is live, under this name or another, or keys have
// changed.
func (r *Registry) Active(name string) (digest string, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o := r.active[name]; o != nil && !o.missing {
		digest = o.digest
	}
	return digest, r.swapped
}

// Tag names what is active under a name, with its changes: the digest of the archive,
// and behind a dot the number of the last change. Otherwise it is as Active.
func (r *Registry) Tag(name string) (tag string, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o := r.active[name]; o != nil && !o.missing {
		tag = o.tag()
	}
	return tag, r.swapped
}

// Step is the next of what a client lacks: an archive, or a delta bundle on top of what
// it has.
type Step struct {
	// Tag names what the client has once it has taken the archive.
	Tag string
	// Size is the length of the archive in bytes, Read reads it.
	Size int64
	Read func() ([]byte, error)
	// Latest names what is active, if it lacks something still.
	Latest string
}

// Next is the first step of a client that has what tag names; all that it lacks comes by
// and by. One that has nothing of the active bundle gets its archive as it was released,
// and then the changes: those that are signed one by one, as they were pushed, those that
// are not together.
func (r *Registry) Next(ctx context.Context, name, tag string) (Step, error) {
	r.mu.Lock()
	o := r.active[name]
	r.mu.Unlock()
	if o == nil || o.missing {
		return Step{}, errorf(bundles.CodeNotFound, "/name", "no pushed bundle %q is active", name)
	}
	whole := Step{Tag: o.digest, Size: r.Size(o.digest), Read: func() ([]byte, error) { return r.Archive(o.digest) }, Latest: o.beyond(0)}
	after, ok, err := r.changeOf(ctx, o, tag)
	if !ok || err != nil {
		return whole, err
	}
	rows, err := r.opts.Store.Changes(ctx, r.tenant, name, o.digest, after, changesPage)
	if err != nil || len(rows) == 0 {
		return whole, err //nolint:wrapcheck // says what it did
	}
	if rows[0].Signed {
		return stepOf(o, &rows[0], rows[0].Archive), nil
	}
	d := bundles.Delta{Base: o.digest, After: after}
	size, last := 0, 0
	for i := range rows {
		c, err := openUnsigned(rows[i].Archive)
		if rows[i].Signed || err == nil && i > 0 && (size+int(c.Size) > bundles.MaxDeltaBytes/2 || len(d.Edits)+len(c.Delta.Edits) > bundles.MaxEdits) {
			break
		}
		if err != nil {
			return Step{}, err
		}
		if i == 0 && rows[0].Number == after+1 {
			// As it is, if it is the only one.
			if len(rows) == 1 {
				return stepOf(o, &rows[0], rows[0].Archive), nil
			}
		}
		size += int(c.Size)
		d.Edits, d.Number = append(d.Edits, c.Delta.Edits...), rows[i].Number
		last = i
	}
	archive, err := bundles.PackDelta(&d, o.revisionAt(d.Number), o.content.Roots)
	return stepOf(o, &rows[last], archive), err //nolint:wrapcheck // says what it did
}

func stepOf(o *opened, at *store.Change, archive []byte) Step {
	return Step{Tag: tagOf(o.digest, at.Number, at.Line), Size: int64(len(archive)), Read: func() ([]byte, error) { return archive, nil }, Latest: o.beyond(at.Number)}
}

// beyond is the tag of o if there are changes beyond a number, else "".
func (o *opened) beyond(number int64) string {
	if number >= o.changes {
		return ""
	}
	return o.tag()
}

// changeOf is the number of the change that a tag names; false if it is not of the line
// that o has come by.
func (r *Registry) changeOf(ctx context.Context, o *opened, tag string) (int64, bool, error) {
	digest, number, line, ok := parseTag(tag)
	if !ok || digest != o.digest || number > o.changes {
		return 0, false, nil
	}
	if number == 0 {
		return 0, true, nil
	}
	last, err := r.opts.Store.EndOfLine(ctx, r.tenant, o.name, o.digest, line)
	return number, number <= last, err //nolint:wrapcheck // says what it did
}

// Size is the bytes of a stored archive; 0 if it is not there.
func (r *Registry) Size(digest string) int64 { return r.opts.Store.Size(digest) }

// Archive reads a stored archive, byte for byte as it was pushed. One that went
// away since Active named it is bundle.not_found.
func (r *Registry) Archive(digest string) ([]byte, error) {
	archive, err := r.opts.Store.Archive(digest)
	if storeSays(err, store.CodeArchiveDamaged) {
		r.opts.Log.Error("a stored bundle can not be read", "digest", digest, "error", err.Error())
		return nil, errorf(bundles.CodeNotFound, "/name", "the archive %s can not be read any more", short(digest))
	}
	return archive, err //nolint:wrapcheck // says what it did
}
