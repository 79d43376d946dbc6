package registry

import "context"

// MaxChanging is how many changes of data may wait.
const MaxChanging = maxChanging

// Prepare is what Run does once it is told.
func (r *Registry) Prepare(ctx context.Context) { r.prepare(ctx) }

// Compiled is how many snapshots are kept.
func (r *Registry) Compiled() int {
	r.compiled.mu.Lock()
	defer r.compiled.mu.Unlock()
	return len(r.compiled.list)
}
