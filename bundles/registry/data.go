package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/rar"
	"github.com/authzd/authzd/store"
)

// This file changes the data of an active bundle, without policy: at the word of a
// caller, within what the signed manifest lets be changed (metadata.authzd.writable_data),
// or by a signed delta bundle. Each change is a delta bundle in the store, on top of the
// archive. All that wait at a time become one snapshot, and each is recorded by itself.

// DataChange asks for other data.
type DataChange struct {
	Name  string
	Edits []rar.Edit
	// Expect, if any, is what the document at Path has to be, by its tag; ExpectAbsent
	// that there is none.
	Path         []string
	Expect       []string
	ExpectAbsent bool
	// Put: an element of an array that is there is set, and not moved to make room.
	Put      bool
	Who, Why string
}

// Changed is what came of it.
type Changed struct {
	// Revision is that of the data now, Number that of the change on top of Digest.
	Revision, Digest string
	Number           int64
}

const (
	// maxChanging bounds the changes that wait, maxTogether those that become one
	// snapshot.
	maxChanging = 1000
	maxTogether = 256
	// changesPage is how many stored changes are read at a time, togetherBytes how much
	// of them, unpacked, is made together.
	changesPage   = 500
	togetherBytes = 4 << 20
)

// changing are the changes that wait for whoever makes them.
type changing struct {
	mu   sync.Mutex
	list []*change
	// busy: somebody makes them.
	busy bool
}

// change is one of them. Its done is closed once it is made or refused.
type change struct {
	DataChange
	// delta is the archive it came in, nil for none; signed: a key has signed it.
	delta   []byte
	content bundles.Content
	signed  bool
	done    chan struct{}
	result  Changed
	err     error
	row     store.Change
	// number and line are what its source calls it; 0 and "" for none.
	number int64
	line   string
}

// ChangeData changes data of the active bundle of a name, and returns once decisions
// are made with it. All edits are made, or none.
func (r *Registry) ChangeData(ctx context.Context, d DataChange) (Changed, error) {
	if err := r.pushable(d.Name); err != nil {
		return Changed{}, err
	}
	return r.await(ctx, &change{DataChange: d, done: make(chan struct{})})
}

// await queues a change. Who finds nobody at work makes all that wait until its own is
// made; the others wait for that.
func (r *Registry) await(ctx context.Context, c *change) (Changed, error) {
	q := &r.changing
	q.mu.Lock()
	if len(q.list) >= maxChanging {
		q.mu.Unlock()
		return Changed{}, errorf(bundles.CodeBusy, "", "%d changes of data wait already", maxChanging)
	}
	q.list = append(q.list, c)
	lead := !q.busy
	q.busy = true
	q.mu.Unlock()
	if lead {
		// Of others, too: they are not half done because this caller went away.
		go r.changeAll(context.WithoutCancel(ctx))
	}
	select {
	case <-c.done:
		return c.result, c.err
	case <-ctx.Done():
	}
	q.mu.Lock()
	at := slices.Index(q.list, c)
	if at >= 0 {
		q.list = slices.Delete(q.list, at, at+1)
	}
	q.mu.Unlock()
	if at >= 0 {
		return Changed{}, ctx.Err() //nolint:wrapcheck // classed by its identity
	}
	<-c.done // it is being made
	return c.result, c.err
}

// changeAll makes what waits until nothing does.
func (r *Registry) changeAll(ctx context.Context) {
	q := &r.changing
	for {
		q.mu.Lock()
		var batch []*change
		rest := q.list[:0:0]
		for _, c := range q.list {
			if len(batch) < maxTogether && (len(batch) == 0 || batch[0].Name == c.Name) {
				batch = append(batch, c)
			} else {
				rest = append(rest, c)
			}
		}
		q.list = rest
		if len(batch) == 0 {
			q.busy = false
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		r.makeBatch(ctx, batch)
	}
}

// makeBatch makes changes of one name, and tells those who wait.
func (r *Registry) makeBatch(ctx context.Context, batch []*change) {
	ctx, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	defer func() {
		v := recover()
		for _, c := range batch {
			if v != nil && c.err == nil && c.result.Number == 0 {
				c.err = fmt.Errorf("change the data of %s: %v", c.Name, v)
			}
			if c.err != nil {
				r.counts.refused.Add(1)
			} else {
				r.counts.made.Add(1)
			}
			close(c.done)
		}
	}()
	err := r.makeTogether(ctx, batch)
	if err == nil {
		return
	}
	// One of them may be at fault.
	for _, c := range batch {
		if c.err != nil || c.result.Number != 0 {
			continue
		}
		if len(batch) == 1 {
			c.err = err
			continue
		}
		if err := r.makeTogether(ctx, []*change{c}); err != nil {
			c.err = err
		}
	}
}

// changeTime bounds one batch.
const changeTime = 30 * time.Second

// makeTogether makes all of a batch one snapshot. An error is that of the whole, of which
// nothing is made; what is wrong with one change alone is noted there, and the others are
// made.
func (r *Registry) makeTogether(ctx context.Context, batch []*change) error {
	began := r.opts.Now()
	for {
		r.mu.Lock()
		o := r.active[batch[0].Name]
		r.mu.Unlock()
		if o == nil || o.missing {
			return errorf(bundles.CodeNotFound, "/name", "no pushed bundle %q is active", batch[0].Name)
		}
		r.refresh(ctx)
		next, made, refused := r.apply(o, batch)
		if len(made) == 0 {
			refuse(refused)
			return nil
		}
		r.mu.Lock()
		stale := r.active[next.name] != o
		before, set, decides := r.set(o), r.set(next), r.decides
		r.mu.Unlock()
		if stale {
			continue
		}
		b, err := r.rebuild(ctx, set, decides)
		if err == nil {
			err = r.tryCases(ctx, o, b, made)
		}
		if err != nil {
			return refusal(o, err) // nothing of the batch is judged
		}
		done, err := r.commitData(ctx, next, before, set, b, made)
		if err != nil {
			if again, failed := r.ahead(ctx, o, err); !again {
				return failed
			}
			continue
		}
		if done {
			refuse(refused)
			last := made[len(made)-1]
			r.opts.Log.Info("data changed", "bundle", next.name, "revision", next.revision, "changes", len(made), "number", next.changes,
				"path", clip(pathsOf(last.Edits)), "who", last.Who, "why", last.Why, "took", r.opts.Now().Sub(began).String())
			return nil
		}
	}
}

// ahead takes in what the store has of o beyond what is here, as after a change that was
// stored and whose answer was lost. False: that is not what err says.
func (r *Registry) ahead(ctx context.Context, o *opened, err error) (bool, error) {
	if !storeSays(err, store.CodeChanged) {
		return false, err
	}
	now, failed := r.catchUp(ctx, o)
	if failed != nil || now == o {
		return false, errors.Join(err, failed)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.active[o.name] == o {
		r.generation++
		r.active[o.name] = now
	}
	return true, nil
}

func refuse(refused map[*change]error) {
	for c, err := range refused {
		c.err = err
	}
}

// rebuild makes the snapshot of a set whose data differs from what is live. It is not
// kept before it is recorded: another change may get the same number.
func (r *Registry) rebuild(ctx context.Context, s set, decides bool) (built, error) {
	live := r.opts.Engine.Snapshot()
	if live == nil || !decides || len(s.missing) > 0 {
		return r.make(ctx, s, decides)
	}
	snapshot, warnings, err := live.WithData(ctx, s.bundles)
	return built{snapshot: snapshot, warnings: warnings}, err
}

// tryCases asks the decision cases of the bundle, if one of the changes was released
// as a signed delta bundle.
func (r *Registry) tryCases(ctx context.Context, o *opened, b built, made []*change) error {
	if b.fallback || !slices.ContainsFunc(made, func(c *change) bool { return c.signed }) {
		return nil
	}
	cases, err := bundles.RunCases(ctx, o.content, r.opts.Ask(b.snapshot))
	if err != nil {
		return err //nolint:wrapcheck // coded
	}
	var report Report
	if report.cases(cases); len(report.Problems) > 0 {
		return report.reject(bundles.CodeTestFailed)
	}
	return nil
}

// commitData records and swaps, in this order. False: something else became active
// meanwhile.
func (r *Registry) commitData(ctx context.Context, next *opened, before, now set, b built, made []*change) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.generation != now.generation || next.epoch != r.epoch.Load() {
		return false, nil
	}
	rows, events := make([]store.Change, len(made)), make([]store.Event, len(made))
	for i, c := range made {
		rows[i] = c.row
		events[i] = store.Event{
			Tenant: r.tenant, Name: next.name, Digest: next.digest, Revision: next.revision, At: c.row.At, Who: c.Who, Why: c.Why,
			What: didData, From: store.StateActive, To: store.StateActive, Path: clip(pathsOf(c.Edits)),
		}
	}
	err := r.opts.Store.AddChanges(context.WithoutCancel(ctx), r.tenant, next.name, rows, events)
	if full, ok := errors.AsType[*store.Error](err); ok && full.Code == store.CodeChangesFull {
		return false, errorf(bundles.CodeChangesFull, "", "%w: release a bundle with the data of now", full.Err)
	}
	if err != nil {
		return false, err //nolint:wrapcheck // says what it did
	}
	for _, c := range made {
		c.result = Changed{Revision: next.revision, Digest: next.digest, Number: c.row.Number}
	}
	r.recorded.ring()
	r.generation++
	r.active[next.name] = next
	if !b.fallback {
		r.compiled.put(cached{now.key, b, now.size}, keeps(len(now.bundles)), before.key)
	}
	r.decides = !b.fallback
	r.opts.Engine.Swap(b.snapshot)
	ring(r.redata)
	r.wake()
	return true, nil
}
