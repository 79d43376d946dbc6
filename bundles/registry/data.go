package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
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
	err := r.change1(ctx, batch)
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
		if err := r.change1(ctx, []*change{c}); err != nil {
			c.err = err
		}
	}
}

// changeTime bounds one batch.
const changeTime = 30 * time.Second

// change1 makes all of a batch one snapshot. An error is that of the whole, of which
// nothing is made; what is wrong with one change alone is noted there, and the others are
// made.
func (r *Registry) change1(ctx context.Context, batch []*change) error {
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
			return dataRefusal(o, err) // nothing of the batch is judged
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
	var coded *store.Error
	if !errors.As(err, &coded) || coded.Code != store.CodeChanged {
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

// dataRefusal reports why data is not taken.
func dataRefusal(o *opened, err error) error {
	faults := findings(err)
	if len(faults) == 0 {
		return err
	}
	var report Report
	report.compiled(o.name, faults, nil)
	return report.reject(bundles.CodePolicyRefused)
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
	var coded *store.Error
	if errors.As(err, &coded) && coded.Code == store.CodeChangesFull {
		return false, errorf(bundles.CodeChangesFull, "", "%w: release a bundle with the data of now", coded.Err)
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
