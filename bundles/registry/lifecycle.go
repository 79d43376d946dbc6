package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/store"
)

// The words for what was asked, in events.
const (
	didPush     = "push"
	didActivate = "activate"
	didRollback = "rollback"
	didData     = "data"
)

// Push is an archive and what to do with it.
type Push struct {
	Name    string
	Archive []byte
	// Activate it once it is staged.
	Activate bool
	// AllowOlder admits a sequence lower than the active bundle's, DropChanges to leave
	// the changes behind that were made to its data.
	AllowOlder, DropChanges bool
	// Followed: it comes from a server that is followed, which may have changed data
	// within writable_data without a signature.
	Followed bool
	// Tag is what that server calls it.
	Tag string
	// Who pushes, and Why in their words; both are recorded.
	Who, Why string
	// Again: this is tried once more, and recorded only if something else comes of
	// it than what the archive was rejected for the last time.
	Again bool
}

// Change asks for another active revision.
type Change struct {
	Name string
	// Digest or Revision name it; of several archives of one revision the one
	// that was uploaded last is taken. With neither, a rollback goes to what was
	// active before.
	Digest, Revision string
	AllowOlder       bool
	// DropChanges leaves the changes of the active bundle's data behind.
	DropChanges bool
	Who, Why    string
}

// Result is what became of a bundle.
type Result struct {
	Bundle store.Bundle
	Report *Report
	// Changes is the number of the last change of an active one's data.
	Changes int64
	// Unchanged: it was there, or active, already; nothing was swapped.
	Unchanged bool
}

// Push takes an archive as far as staged, and to active if asked. What fails is
// recorded as rejected and changes nothing else.
func (r *Registry) Push(ctx context.Context, p Push) (Result, error) {
	if err := r.pushable(p.Name); err != nil {
		return Result{}, err
	}
	if err := r.admits(ctx, p.Name); err != nil {
		return Result{}, err
	}
	j := &journey{registry: r, push: p, digest: store.Digest(p.Archive), began: r.opts.Now()}
	before, known, err := r.find(ctx, p.Name, func(b store.Bundle) bool { return b.Digest == j.digest && b.Kept })
	if err != nil {
		return Result{}, err
	}
	if known { // a damaged one is stored again
		_, err := r.opts.Store.Archive(j.digest)
		known = err == nil
	}
	o, err := j.verify(ctx)
	if err != nil {
		return Result{}, j.reject(ctx, err)
	}
	if o.content.Delta != nil {
		return j.delta(ctx, o)
	}
	result := Result{Bundle: before, Report: ParseReport(before.Report), Unchanged: true}
	if !known {
		if result, err = j.stage(ctx, o); err != nil {
			return Result{}, err
		}
	}
	if !p.Activate {
		return result, nil
	}
	report := result.Report
	result, err = r.activate(ctx, o, store.Event{What: didActivate, From: result.Bundle.State, Who: p.Who, Why: p.Why, AllowOlder: p.AllowOlder}, p.DropChanges)
	result.Report = report
	return result, err
}

// pushable refuses names that are not for pushed bundles.
func (r *Registry) pushable(name string) error {
	if !Named(name) {
		return errorf(bundles.CodeNameInvalid, "/name", "a name is letters, digits, '.', '_' and '-', up to 128 of them, and begins with a letter or digit")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.local {
		if r.local[i].Name == name {
			return errorf(bundles.CodeNameLocal, "/name", "bundle %q is given by the operator of this server, and not pushed", name)
		}
	}
	return nil
}

// admits refuses a name too many.
func (r *Registry) admits(ctx context.Context, name string) error {
	return namesFull(r.opts.Store.Admits(ctx, r.tenant, name))
}

func namesFull(err error) error {
	if storeSays(err, store.CodeNamesFull) {
		return errorf(bundles.CodeNamesFull, "/name", "bundles of %d names were active already, which is all there may be", store.MaxNames)
	}
	return err
}

// journey is one push on its way to staged.
type journey struct {
	registry *Registry
	push     Push
	digest   string
	began    time.Time
	opened   *opened
	report   Report
	events   []store.Event
	at       store.State
}

// reached notes a state.
func (j *journey) reached(to store.State) {
	e := store.Event{
		Tenant: j.registry.tenant, Name: j.push.Name, Digest: j.digest, At: j.registry.opts.Now(), Who: j.push.Who, Why: j.push.Why,
		What: didPush, From: j.at, To: to, AllowOlder: j.push.AllowOlder,
	}
	if j.opened != nil {
		e.Revision = j.opened.revision
	}
	j.events, j.at = append(j.events, e), to
}

func (j *journey) verify(ctx context.Context) (*opened, error) {
	j.reached(store.StateUploaded)
	o, err := j.unsigned()
	if o == nil && err == nil {
		o, err = j.registry.open(ctx, j.push.Name, j.digest, j.push.Archive)
	}
	if err != nil {
		return nil, err
	}
	j.opened = o
	j.reached(store.StateVerified)
	return o, nil
}

// stage tests and stores the bundle.
func (j *journey) stage(ctx context.Context, o *opened) (Result, error) {
	r := j.registry
	if err := j.test(ctx, o); err != nil {
		return Result{}, j.reject(ctx, err)
	}
	j.reached(store.StateTested)
	upload, err := r.opts.Store.Write(j.push.Archive)
	if err != nil {
		return Result{}, err //nolint:wrapcheck // says what it did
	}
	defer upload.Discard() //nolint:errcheck // the next start removes it
	j.reached(store.StateStaged)
	// The step is not half done because the caller went away.
	if err := r.opts.Store.Stage(context.WithoutCancel(ctx), upload, j.row(), j.events); err != nil {
		return Result{}, namesFull(err)
	}
	r.recorded.ring()
	r.compiled.hold(o) // it is activated next, as a rule
	r.opts.Log.Info("bundle staged", "bundle", o.name, "revision", o.revision, "digest", o.digest, "bytes", o.content.Size, "took", r.opts.Now().Sub(j.began).String(), "who", j.push.Who)
	b, _, err := r.find(ctx, o.name, func(b store.Bundle) bool { return b.Digest == o.digest })
	return Result{Bundle: b, Report: &j.report}, err
}

func (j *journey) row() store.Bundle {
	b := store.Bundle{
		Tenant: j.registry.tenant, Name: j.push.Name, Digest: j.digest, Size: int64(len(j.push.Archive)),
		UploadedBy: j.push.Who, Report: j.report.text(),
	}
	if j.opened != nil {
		b.Revision, b.Sequence = j.opened.revision, j.opened.sequence
	}
	return b
}

// test compiles the bundle beside the other active ones, and runs its tests.
func (j *journey) test(ctx context.Context, o *opened) error {
	r := j.registry
	r.refresh(ctx)
	r.mu.Lock()
	next, decides, active := r.set(o), r.decides, r.active[o.name]
	r.mu.Unlock()
	if err := staleFor(o, active, j.push.AllowOlder); err != nil {
		return err
	}
	b, err := r.compileOrWait(ctx, next, decides, active != nil && active.missing)
	if gone := ctx.Err(); gone != nil { // whoever is gone has had no test run
		return fmt.Errorf("test %s: %w", o.name, gone)
	}
	if faults := findings(err); err != nil && len(faults) > 0 {
		j.report.compiled(o.name, faults, b.warnings)
		return j.report.reject(bundles.CodePolicyRefused)
	}
	if err != nil {
		return err
	}
	if b.snapshot == nil && len(next.missing) > 0 && len(o.content.Cases) > 0 {
		return errorf(bundles.CodeNotStaged, "", "its decision cases can not be asked before the active bundles %s are replaced: push those first",
			strings.Join(next.missing, ", "))
	}
	j.report.compiled(o.name, nil, b.warnings)
	defer r.stage(StageTest, o.name)()
	var rego []bundles.TestResult
	quietly(func() {
		rego, err = bundles.RunTests(ctx, o.content.Bundle, bundles.TestOptions{Timeout: r.opts.TestTimeout})
	})
	if err != nil {
		return err //nolint:wrapcheck // coded
	}
	j.report.rego(rego)
	if b.snapshot != nil && !b.fallback {
		cases, err := bundles.RunCases(ctx, o.content, r.opts.Ask(b.snapshot))
		if err != nil {
			return err //nolint:wrapcheck // coded
		}
		j.report.cases(cases)
	}
	if gone := ctx.Err(); gone != nil {
		return fmt.Errorf("test %s: %w", o.name, gone)
	}
	if len(j.report.Problems) > 0 {
		return j.report.reject(bundles.CodeTestFailed)
	}
	return nil
}

// staleFor is the protection against going back: a signed bundle stays signed
// after its faults are known. What a signed delta bundle has changed counts: a release
// from before that does not have it.
func staleFor(o, active *opened, allowOlder bool) error {
	if active == nil || allowOlder || o.digest == active.digest {
		return nil
	}
	last := max(active.sequence, active.latest)
	if o.sequence >= last {
		return nil
	}
	return errorf(bundles.CodeStaleRevision, ".manifest", "the sequence %d is lower than %d of the active revision %q: roll back to go back, or allow an older one",
		o.sequence, last, active.revision)
}

// reject records why the bundle goes no further, and returns it.
func (j *journey) reject(ctx context.Context, cause error) error {
	var coded *bundles.Error
	if !errors.As(cause, &coded) {
		return cause // not the bundle's fault: nothing to hold against it
	}
	if _, has := ReportOf(coded); !has {
		coded = j.report.fault(coded)
	}
	j.report.Code = coded.Code
	j.reached(store.StateRejected)
	last := &j.events[len(j.events)-1]
	last.Report = j.report.text()
	r := j.registry
	if j.push.Again {
		before, known, err := r.find(ctx, j.push.Name, func(b store.Bundle) bool { return b.Digest == j.digest && b.State == store.StateRejected })
		if report := ParseReport(before.Report); err == nil && known && report != nil && report.Code == coded.Code {
			return coded
		}
	}
	r.opts.Log.Warn("bundle rejected", "bundle", j.push.Name, "digest", j.digest, "who", j.push.Who, "code", string(coded.Code), "error", coded.Error())
	if err := r.opts.Store.Reject(context.WithoutCancel(ctx), j.row(), j.events); err != nil {
		// Who pushed it has the better use of what is wrong with the bundle.
		r.opts.Log.Error("a rejected bundle could not be recorded", "bundle", j.push.Name, "digest", j.digest, "error", err.Error())
		return coded
	}
	r.recorded.ring()
	return coded
}

// Activate makes a staged or superseded bundle the active one of its name.
func (r *Registry) Activate(ctx context.Context, c Change) (Result, error) {
	if c.Digest == "" && c.Revision == "" {
		return Result{}, errorf(bundles.CodeNotFound, "/revision", "say which: a revision or a digest")
	}
	return r.change(ctx, c, didActivate)
}

// Rollback makes a kept revision active again: the one that is named, or the
// one that was active before. A lower sequence is what a rollback is for.
func (r *Registry) Rollback(ctx context.Context, c Change) (Result, error) {
	c.AllowOlder = true
	return r.change(ctx, c, didRollback)
}

func (r *Registry) change(ctx context.Context, c Change, what string) (Result, error) {
	if err := r.pushable(c.Name); err != nil {
		return Result{}, err
	}
	b, err := r.target(ctx, c, what)
	if err != nil {
		return Result{}, err
	}
	o, err := r.ready(ctx, b)
	if err != nil {
		return Result{}, err
	}
	return r.activate(ctx, o, store.Event{What: what, From: b.State, Who: c.Who, Why: c.Why, AllowOlder: c.AllowOlder}, c.DropChanges)
}

// target finds the bundle that c means.
func (r *Registry) target(ctx context.Context, c Change, what string) (store.Bundle, error) {
	list, err := r.opts.Store.Named(ctx, r.tenant, c.Name)
	if err != nil {
		return store.Bundle{}, err //nolint:wrapcheck // says what it did
	}
	if len(list) == 0 {
		return store.Bundle{}, errorf(bundles.CodeNotFound, "/name", "no bundle %q was pushed", c.Name)
	}
	if c.Digest == "" && c.Revision == "" {
		c.Digest = previous(list)
		if c.Digest == "" {
			return store.Bundle{}, errorf(bundles.CodeNotFound, "/name", "nothing was active before the active revision of %q", c.Name)
		}
	}
	var found *store.Bundle
	for i := range list {
		b := &list[i]
		if c.Digest != "" && b.Digest != c.Digest || c.Revision != "" && b.Revision != c.Revision {
			continue
		}
		if found == nil || suits(b, what) > suits(found, what) {
			found = b
		}
	}
	switch {
	case found == nil:
		return store.Bundle{}, errorf(bundles.CodeNotFound, "/revision", "bundle %q has no such revision", c.Name)
	case !found.Kept && found.State == store.StateRejected:
		return store.Bundle{}, errorf(bundles.CodeNotStaged, "/revision", "revision %q of bundle %q was rejected", found.Revision, c.Name)
	case !found.Kept:
		return store.Bundle{}, errorf(bundles.CodeNotStaged, "/revision", "revision %q of bundle %q is no longer kept: push it again", found.Revision, c.Name)
	case what == didRollback && found.State == store.StateStaged:
		return store.Bundle{}, errorf(bundles.CodeNotStaged, "/revision", "revision %q of bundle %q has never been active: activate it", found.Revision, c.Name)
	}
	return *found, nil
}

// suits ranks archives of one revision: one that is kept before one that is
// not, and for a rollback one that has been active before one that is staged.
func suits(b *store.Bundle, what string) int {
	switch {
	case !b.Kept:
		return 0
	case what == didRollback && b.State == store.StateStaged:
		return 1
	}
	return 2
}

// previous is the digest that was active before the active one.
func previous(list []store.Bundle) string {
	for _, b := range list {
		if b.State == store.StateActive {
			return b.Previous
		}
	}
	return ""
}

// ready opens a stored bundle, verifying it again, unless it is in memory.
func (r *Registry) ready(ctx context.Context, b store.Bundle) (*opened, error) {
	r.mu.Lock()
	o := r.active[b.Name]
	r.mu.Unlock()
	if o != nil && o.digest == b.Digest && !o.missing {
		return o, nil
	}
	if o := r.compiled.opened(b.Name, b.Digest); o != nil && o.epoch == r.epoch.Load() {
		return o, nil
	}
	o, err := r.reopen(ctx, b)
	if storeSays(err, store.CodeArchiveDamaged) {
		r.opts.Log.Error("a stored bundle can not be read", "bundle", b.Name, "digest", b.Digest, "error", err.Error())
		return nil, errorf(bundles.CodeNotStaged, "/revision", "the stored archive of revision %q of bundle %q is damaged: push it again", b.Revision, b.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("activate %s: %w", b.Name, err)
	}
	return o, nil
}

// activate compiles without a lock, and commits only what was compiled with all
// that is active at that moment.
func (r *Registry) activate(ctx context.Context, o *opened, e store.Event, dropChanges bool) (Result, error) {
	for {
		var err error
		if o, err = r.current(ctx, o); err != nil {
			return Result{}, err
		}
		r.refresh(ctx)
		r.mu.Lock()
		next, decides, active := r.set(o), r.decides, r.active[o.name]
		r.mu.Unlock()
		if active != nil && !active.missing {
			r.compiled.hold(active) // for its rollback
		}
		r.compiled.hold(o)
		if err := staleFor(o, active, e.AllowOlder); err != nil {
			return Result{}, err
		}
		if active != nil && active.digest == o.digest && !active.missing {
			return r.resultOf(ctx, o, true)
		}
		if active != nil && active.changes > 0 && !dropChanges && e.What != didRollback {
			return Result{}, errorf(bundles.CodeChangesLost, "", "the data of the active revision %q was changed since its release, and this one does not have that: say that the changes are to be dropped", active.revision)
		}
		b, err := r.compileOrWait(ctx, next, decides, active != nil && active.missing)
		if err != nil {
			err = refusal(o, err)
			r.opts.Log.Warn("bundle not activated", "bundle", o.name, "revision", o.revision, "digest", o.digest, "who", e.Who, "error", err.Error())
			return Result{}, err
		}
		done, err := r.commit(ctx, o, next, b, e)
		if err != nil {
			return Result{}, err
		}
		if done {
			r.opts.Log.Info("bundle activated", "bundle", o.name, "revision", o.revision, "digest", o.digest, "who", e.Who, "what", e.What, "why", e.Why)
			return r.resultOf(ctx, o, false)
		}
	}
}

// refusal reports why a set does not compile.
func refusal(o *opened, err error) error {
	faults := findings(err)
	if len(faults) == 0 {
		return err
	}
	var report Report
	report.compiled(o.name, faults, nil)
	return report.reject(bundles.CodePolicyRefused)
}

// current verifies o again if keys have changed since it was verified: what a
// withdrawn key signed must not become live, however long it was on its way.
func (r *Registry) current(ctx context.Context, o *opened) (*opened, error) {
	if o.epoch == r.epoch.Load() {
		return r.catchUp(ctx, o)
	}
	archive, err := r.opts.Store.Archive(o.digest)
	if err != nil {
		return nil, fmt.Errorf("activate %s: %w", o.name, err)
	}
	again, err := r.open(ctx, o.name, o.digest, archive)
	if err != nil {
		return nil, fmt.Errorf("activate %s: %w", o.name, err)
	}
	return again, nil
}

// commit records and swaps, in this order: what is not recorded is never
// live. False: something else became active meanwhile.
func (r *Registry) commit(ctx context.Context, o *opened, next set, b built, e store.Event) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.generation != next.generation || o.epoch != r.epoch.Load() {
		return false, nil
	}
	e.Tenant, e.Name, e.Digest, e.Revision, e.At, e.To = r.tenant, o.name, o.digest, o.revision, r.opts.Now(), store.StateActive
	err := r.opts.Store.Activate(context.WithoutCancel(ctx), e, e.What == didRollback)
	if storeSays(err, store.CodeNotKept) {
		return false, errorf(bundles.CodeNotStaged, "/revision", "revision %q of bundle %q is no longer kept: push it again", o.revision, o.name)
	}
	if err != nil {
		return false, err //nolint:wrapcheck // says what it did
	}
	r.recorded.ring()
	r.generation++
	r.active[o.name] = o
	if b.snapshot == nil {
		r.wake() // it is active all the same
		return true, nil
	}
	r.live(b)
	return true, nil
}

func (r *Registry) resultOf(ctx context.Context, o *opened, unchanged bool) (Result, error) {
	b, _, err := r.find(context.WithoutCancel(ctx), o.name, func(b store.Bundle) bool { return b.Digest == o.digest })
	return Result{Bundle: b, Report: ParseReport(b.Report), Unchanged: unchanged, Changes: r.changesOf(&b)}, err
}

// changesOf is the number of the last change of an active bundle's data.
func (r *Registry) changesOf(b *store.Bundle) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o := r.active[b.Name]; o != nil && o.digest == b.Digest {
		return o.changes
	}
	return 0
}

func (r *Registry) find(ctx context.Context, name string, is func(store.Bundle) bool) (store.Bundle, bool, error) {
	list, err := r.opts.Store.Named(ctx, r.tenant, name)
	if err != nil {
		return store.Bundle{}, false, err //nolint:wrapcheck // says what it did
	}
	for _, b := range list {
		if is(b) {
			return b, true, nil
		}
	}
	return store.Bundle{}, false, nil
}

// List returns up to limit bundles behind a place, by name, the newest upload
// first.
func (r *Registry) List(ctx context.Context, after store.Place, limit int) ([]Result, error) {
	list, err := r.opts.Store.Bundles(ctx, r.tenant, after, limit)
	if err != nil {
		return nil, err //nolint:wrapcheck // says what it did
	}
	return r.results(list), nil
}

func (r *Registry) results(list []store.Bundle) []Result {
	out := make([]Result, len(list))
	for i, b := range list {
		out[i] = Result{Bundle: b, Report: ParseReport(b.Report), Changes: r.changesOf(&b)}
	}
	return out
}

// maxEvents is how many events Show returns.
const maxEvents = 200

// Show returns what is known of one name, the newest first.
func (r *Registry) Show(ctx context.Context, name string) ([]Result, []store.Event, error) {
	list, err := r.opts.Store.Named(ctx, r.tenant, name)
	if err != nil {
		return nil, nil, err //nolint:wrapcheck // says what it did
	}
	if len(list) == 0 {
		return nil, nil, errorf(bundles.CodeNotFound, "/name", "no bundle %q was pushed", name)
	}
	events, err := r.opts.Store.Events(ctx, r.tenant, name, maxEvents)
	if err != nil {
		return nil, nil, err //nolint:wrapcheck // says what it did
	}
	return r.results(list), events, nil
}
