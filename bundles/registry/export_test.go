package registry

import "context"

// Prepare is what Run does once it is told.
func (r *Registry) Prepare(ctx context.Context) { r.prepare(ctx) }
