package registry

import (
	"errors"

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

// Size is the bytes of a stored archive; 0 if it is not there.
func (r *Registry) Size(digest string) int64 { return r.opts.Store.Size(digest) }

// Archive reads a stored archive, byte for byte as it was pushed. One that went
// away since Active named it is bundle.not_found.
func (r *Registry) Archive(digest string) ([]byte, error) {
	archive, err := r.opts.Store.Archive(digest)
	var damaged *store.Error
	if errors.As(err, &damaged) {
		r.opts.Log.Error("a stored bundle can not be read", "digest", digest, "error", err.Error())
		return nil, errorf(bundles.CodeNotFound, "/name", "the archive %s can not be read any more", short(digest))
	}
	return archive, err //nolint:wrapcheck // says what it did
}
