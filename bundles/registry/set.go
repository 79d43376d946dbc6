package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/store"
)

// set is bundles that make one snapshot, as of one generation.
type set struct {
	generation uint64
	bundles    []engine.Bundle
	// key names the set's content.
	key string
	// size is how many bytes the files of the pushed ones have.
	size int64
	// missing are names whose archives could not be read.
	missing []string
}

// set is the bundles that are live once with is active under its name. The
// caller holds mu.
func (r *Registry) set(with *opened) set {
	next := maps.Clone(r.active)
	next[with.name] = with
	return setOf(r.generation, r.localRevision, r.local, next)
}

func setOf(generation, localRevision uint64, local []engine.Bundle, active map[string]*opened) set {
	s := set{generation: generation, bundles: slices.Clone(local)}
	var key strings.Builder
	fmt.Fprintf(&key, "%d", localRevision)
	for _, name := range slices.Sorted(maps.Keys(active)) {
		o := active[name]
		if o.missing {
			s.missing = append(s.missing, name)
			continue
		}
		fmt.Fprintf(&key, " %s@%s", name, o.tag())
		s.bundles = append(s.bundles, o.content.Bundle)
		s.size += o.content.Size
	}
	s.key = key.String()
	return s
}

// named are the bundles, for people.
func (s *set) named() string {
	names := make([]string, len(s.bundles))
	for i := range s.bundles {
		names[i] = s.bundles[i].Name
	}
	return clip(strings.Join(names, " "))
}

// built is a snapshot that is ready to be live.
type built struct {
	snapshot *engine.Snapshot
	// fallback: no bundle of the set has an entry point.
	fallback bool
	warnings []engine.Finding
}

// compile makes the snapshot of s, or finds it. A set without an entry point is
// the fallback, unless it would follow one that decides.
func (r *Registry) compile(ctx context.Context, s set, decides bool) (built, error) {
	if len(s.missing) == 0 {
		if b, ok := r.compiled.get(s.key); ok && (!b.fallback || !decides) {
			return b, nil
		}
	}
	b, err := r.make(ctx, s, decides)
	if err == nil {
		r.compiled.put(cached{s.key, b, s.size}, keeps(len(s.bundles)))
	}
	return b, err
}

// make is compile without what was found or is kept.
func (r *Registry) make(ctx context.Context, s set, decides bool) (built, error) {
	if len(s.missing) > 0 {
		return built{}, errorf(bundles.CodeNotStaged, "", "the active bundles %s could not be read or verified: push them again", strings.Join(s.missing, ", "))
	}
	defer r.stage(StageCompile, s.named())()
	b, err := r.build(ctx, s.bundles)
	if len(s.bundles) == 0 || !decides && lacksEntrypoint(err) {
		said := append(b.warnings, findings(err)...)
		b, err = r.build(ctx, r.opts.Fallback)
		b.fallback, b.warnings = true, said
	}
	if err != nil {
		return b, err
	}
	warm(ctx, b.snapshot)
	return b, nil
}

// compileOrWait is compile, but where nothing is live because several active
// bundles could not be loaded: they are replaced one after the other, and the
// last one makes policy. Until then there is no snapshot. With replaces the set
// has a bundle in the place of one of them.
func (r *Registry) compileOrWait(ctx context.Context, s set, decides, replaces bool) (built, error) {
	if len(s.missing) > 0 && replaces && r.opts.Engine.Snapshot() == nil {
		r.opts.Log.Warn("nothing is live until these active bundles are pushed again, too", "bundles", s.missing)
		return built{}, nil
	}
	return r.compile(ctx, s, decides)
}

// refresh verifies again what was active before keys changed. What does not
// verify any more becomes part of nothing new.
func (r *Registry) refresh(ctx context.Context) {
	epoch := r.epoch.Load()
	r.mu.Lock()
	var old []*opened
	for _, o := range r.active {
		if !o.missing && o.epoch != epoch {
			old = append(old, o)
		}
	}
	r.mu.Unlock()
	for _, o := range old {
		now := &opened{name: o.name, digest: o.digest, revision: o.revision, sequence: o.sequence, latest: o.latest, changes: o.changes, missing: true, epoch: epoch}
		archive, err := r.opts.Store.Archive(o.digest)
		if err == nil {
			var again *opened
			if again, err = r.open(ctx, o.name, o.digest, archive); err == nil {
				now = again
			}
		}
		if err != nil {
			r.opts.Log.Error("an active bundle does not verify any more; it decides on until something else is activated or loaded",
				"bundle", o.name, "digest", o.digest, "error", err.Error())
		}
		r.mu.Lock()
		if r.active[o.name] == o {
			r.active[o.name] = now
		}
		r.mu.Unlock()
	}
}

func (r *Registry) build(ctx context.Context, list []engine.Bundle) (built, error) {
	if len(list) == 0 {
		return built{}, nil
	}
	var snapshot *engine.Snapshot
	var warnings []engine.Finding
	var err error
	quietly(func() { snapshot, warnings, err = engine.Compile(ctx, list) })
	return built{snapshot: snapshot, warnings: warnings}, err //nolint:wrapcheck // a *engine.CompileError, or the context's
}

// lacksEntrypoint tells the one fault that another bundle can mend.
func lacksEntrypoint(err error) bool {
	faults := findings(err)
	for _, f := range faults {
		if f.Code != engine.CodeBundleEntrypointMissing {
			return false
		}
	}
	return len(faults) > 0
}

// warmQueries is how many decisions a snapshot makes before it is live.
const warmQueries = 20

// warm makes decisions that nobody asked for, so that the first real ones are
// not slower. What they answer does not matter; their engine is thrown away.
func warm(ctx context.Context, s *engine.Snapshot) {
	e := engine.New(engine.Options{})
	q := engine.Query{
		Subject: &engine.Subject{Type: "identity", ID: "warm-up"},
		Action:  engine.Action{Name: "tools/list"}, Resource: engine.Resource{Type: "mcp_server", ID: "warm-up"},
	}
	for range warmQueries {
		if _, err := e.DecideOn(ctx, s, &q); err != nil && ctx.Err() != nil {
			return
		}
	}
}

// cache holds the last snapshots, so that a rollback compiles nothing.
type cache struct {
	mu   sync.Mutex
	list []cached // the newest last
	held []*opened
}

type cached struct {
	key   string
	built built
	// size is how many bytes its bundles had.
	size int64
}

// keeps is how many snapshots of sets of n bundles stay: the active one, one for
// the rollback of each bundle, and one that is being pushed, but not more than
// maxCompiled, for they are large. Another rollback compiles.
func keeps(n int) int { return min(n+2, maxCompiled) }

const maxCompiled = store.Keep + 2

func (c *cache) get(key string) (built, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, e := range c.list {
		if e.key == key {
			c.list = append(slices.Delete(c.list, i, i+1), e)
			return e.built, true
		}
	}
	return built{}, false
}

// put keeps one, in the place of those of the other keys.
func (c *cache) put(one cached, most int, others ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = slices.DeleteFunc(c.list, func(e cached) bool { return e.key == one.key || slices.Contains(others, e.key) })
	c.list = append(c.list, one)
	c.list = newest(c.list, most, func(e cached) int64 { return e.size })
}

// newest are at most so many of the last, fewer if they are large, but two at least:
// what is active, and what it is rolled back to.
func newest[T any](list []T, most int, size func(T) int64) []T {
	const atLeast = 2
	var sum int64
	kept := 0
	for i := len(list) - 1; i >= 0 && kept < most; i-- {
		if sum += size(list[i]); sum > maxHeldBytes && kept >= atLeast {
			break
		}
		kept++
	}
	return slices.Delete(list, 0, len(list)-kept)
}

// maxHeldBytes is how much of bundles is kept ready, by the size of their files.
const maxHeldBytes = 64 << 20

// hold keeps a verified archive, which needs no verifying when it is activated
// again.
func (c *cache) hold(o *opened) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = slices.DeleteFunc(c.held, func(h *opened) bool { return h.name == o.name && h.digest == o.digest })
	c.held = newest(append(c.held, o), maxCompiled, func(o *opened) int64 { return o.content.Size })
}

func (c *cache) opened(name, digest string) *opened {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.held {
		if o.name == name && o.digest == digest {
			return o
		}
	}
	return nil
}

// size is how many bytes the bundles of the snapshots have that are kept.
func (c *cache) size() (sum int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.list {
		sum += e.size
	}
	return sum
}

func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list, c.held = nil, nil
}

// findings are the faults in a compile error.
func findings(err error) []engine.Finding {
	var refused *engine.CompileError
	if errors.As(err, &refused) {
		return refused.Findings
	}
	return nil
}
