package api

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"time"
)

// reloadEvery is how often the files of Access are looked at: a key that is
// revoked ends within that time.
const reloadEvery = 250 * time.Millisecond

// watched is a set of files that are loaded together when one changes.
type watched struct {
	what string
	load func() error
	// mu is held while they are loaded, by the watcher or by Reload.
	mu    sync.Mutex
	names []string
	seen  []os.FileInfo
}

func watch(what string, load func() error, names ...string) *watched {
	w := &watched{what: what, load: load}
	for _, n := range names {
		if n != "" {
			w.names = append(w.names, n)
		}
	}
	w.seen = make([]os.FileInfo, len(w.names))
	return w
}

// look tells whether a file is not as it was when last looked at. A change
// while the file is read shows the next time.
func (w *watched) look() (changed bool) {
	for i, name := range w.names {
		info, err := os.Stat(name)
		if err != nil {
			info = nil
		}
		old := w.seen[i]
		switch {
		case info == nil || old == nil:
			changed = changed || info != old
		case !os.SameFile(info, old) || !info.ModTime().Equal(old.ModTime()) || info.Size() != old.Size() || info.Mode() != old.Mode():
			changed = true
		}
		w.seen[i] = info
	}
	return changed
}

// Reload reads certificates, keys and callers again now, also where the files
// look the same. What can not be read is logged and counted, and stays as it
// was; but a file of keys or callers that is gone, or may not be read, lets nobody
// in.
func (s *Server) Reload(ctx context.Context) {
	for _, w := range s.access.files {
		w.mu.Lock()
		w.look()
		s.reload(ctx, w)
		w.mu.Unlock()
	}
}

// CountReload counts files that the owner of the server loaded again, or could
// not, beside those of the server: files names them, such as "bundles".
func (s *Server) CountReload(files string, loaded bool) {
	outcome := "failed"
	if loaded {
		outcome = "loaded"
	}
	s.metrics.reloads.WithLabelValues(files, outcome).Inc()
}

func (s *Server) reload(ctx context.Context, w *watched) {
	if err := w.load(); err != nil {
		s.metrics.reloads.WithLabelValues(w.what, "failed").Inc()
		s.log.LogAttrs(ctx, slog.LevelError, "files not loaded", slog.String("what", w.what), slog.String("error", err.Error()))
		return
	}
	s.metrics.reloads.WithLabelValues(w.what, "loaded").Inc()
	s.log.LogAttrs(ctx, slog.LevelInfo, "files loaded", slog.String("what", w.what))
}

// watchFiles loads files that change, until ctx ends.
func (s *Server) watchFiles(ctx context.Context) {
	tick := time.NewTicker(reloadEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for _, w := range s.access.files {
			w.mu.Lock()
			if w.look() {
				s.reload(ctx, w)
			}
			w.mu.Unlock()
		}
	}
}
