package follow

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/bundles/registry"
	"github.com/authzd/authzd/store"
)

const (
	// Requests that nobody answered are repeated soon, so that a source that is
	// back is heard of within two seconds.
	firstRetry = 100 * time.Millisecond
	maxRetry   = 1500 * time.Millisecond
	// Who answers something else is not asked as often.
	firstDeclined = 500 * time.Millisecond
	maxDeclined   = 15 * time.Second
	// quick is an answer that has not waited; the next request is then held back
	// for pause.
	quick = 500 * time.Millisecond
	pause = time.Second
	// A source that has something new more than often times within busyTime, such
	// as two servers behind one address that differ, is asked at its interval only.
	often    = 3
	busyTime = time.Minute
	// refusedFor is how long an archive that was not taken is not tried again,
	// unless something here has changed. It is also how often a source whose tags
	// say nothing of the content is asked for all of it, so that one wrong tag does
	// not hold for good.
	refusedFor = 5 * time.Minute
	// tagAfter is the useless answer in a row from which requests carry no tag: a tag may
	// be what the source does not take.
	tagAfter = 3
	// pushTime bounds verifying, compiling and tests.
	pushTime = 2 * time.Minute
)

// follower follows one source. Only its run changes it.
type follower struct {
	source Source
	url    *url.URL
	wait   time.Duration
	client *http.Client
	opts   *Options

	// have is what was taken last, refused what was not.
	have, refused version
	refusedAt     time.Time
	// changed is closed once something here has changed since refused was not
	// taken: it may be taken now.
	changed <-chan struct{}
	// asked is the tag that the source was asked with, if it was an authzd's.
	asked string
	// unsure: an archive came that is here with changes of its data, and whether the
	// source has them, too, is to be asked at once.
	unsure bool
	// wholeAt is when an archive came, and not only word of it.
	wholeAt time.Time
	// taken are the last times that something new was taken.
	taken []time.Time
	// keeps: the source keeps requests until there is something new.
	keeps bool
	// more: the source has something still, which it was not asked for yet.
	more bool
	// failures in a row, and answers among them that are of no use.
	failures, declines int

	// contact is when the source last confirmed what was taken from it; nil: never.
	contact                     atomic.Pointer[time.Time]
	confirmed, failed, refusals atomic.Uint64
	// present: an archive has been active.
	present atomic.Bool
	// behind is the digest of an archive that came as the first, and lacks changes still
	// that its source has; nil for none.
	behind atomic.Pointer[string]
	// digest is the tag of what was taken last, nil for nothing; taking: what is active may
	// be what comes next.
	digest atomic.Pointer[string]
	taking atomic.Bool
}

// version is an archive as its source names it.
type version struct{ etag, digest string }

// run asks until ctx ends.
func (f *follower) run(ctx context.Context) {
	for {
		began := time.Now()
		news, err := f.round(ctx)
		if ctx.Err() != nil {
			return
		}
		delay := f.after(err)
		if err == nil {
			delay = f.afterAnswer(news, time.Since(began))
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return
		}
	}
}

// round asks once. News: an archive came that was not here.
func (f *follower) round(ctx context.Context) (news bool, err error) {
	again := f.refused != (version{}) && (time.Since(f.refusedAt) > refusedFor || isClosed(f.changed))
	if again {
		f.refused = version{}
	}
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	if f.refused != (version{}) {
		go cancelOn(asking, f.changed, cancel)
	}
	known := f.known()
	f.asked, _ = digestTag(known)
	got, err := f.ask(asking, known)
	waits := !f.unsure
	f.unsure = false
	switch {
	case err != nil && f.refused != (version{}) && isClosed(f.changed) && ctx.Err() == nil:
		return false, nil // asked again at once, without the wait
	case err != nil:
		return false, err
	case got.archive == nil: // not modified
		if f.refused == (version{}) {
			f.confirm(got.at)
		}
		return false, nil
	}
	f.more, f.wholeAt = false, time.Now()
	if waits {
		f.keeps = got.keeps
	}
	v := version{etag: got.etag, digest: store.Digest(got.archive)}
	if here, err := f.hasChanged(v); here || err != nil {
		return false, err
	}
	switch v.digest {
	case f.refused.digest:
		f.refused = v
		return false, nil
	case f.have.digest:
		f.have, f.refused = v, version{}
		f.unlessMore(got)
		return false, nil
	}
	return true, f.take(ctx, v, got, again)
}

// hasChanged tells whether an archive is here already, with changes of its data. An
// error: it is not what its tag says, or its source has lost changes.
func (f *follower) hasChanged(v version) (bool, error) {
	said, is := digestTag(v.etag)
	here, _ := f.opts.Registry.Tag(f.source.Name)
	switch {
	case !is:
		return false, nil
	case said != v.digest && !strings.Contains(said, "."):
		return false, errors.New("the archive is not the one that its tag names")
	case !strings.HasPrefix(here, v.digest+"."):
		return false, nil
	case f.asked == here:
		return false, errors.New("the source does not have the changes of data that were taken from it")
	}
	// They are not to come again.
	f.have, f.refused = version{etag: `"` + here + `"`, digest: v.digest}, version{}
	f.digest.Store(&here)
	f.declines, f.unsure = 0, true
	return true, nil
}

// known is the tag of what is not wanted again.
func (f *follower) known() string {
	v := f.have
	if f.refused != (version{}) {
		v = f.refused
	}
	if _, exact := digestTag(v.etag); !exact && time.Since(f.wholeAt) > refusedFor || f.declines >= tagAfter {
		return ""
	}
	return v.etag
}

// digestTag is the digest that an authzd has as the tag of an archive.
func digestTag(etag string) (digest string, is bool) {
	digest = strings.Trim(strings.TrimPrefix(etag, "W/"), `"`)
	return digest, strings.HasPrefix(digest, "sha256:")
}

func cancelOn(ctx context.Context, changed <-chan struct{}, cancel context.CancelFunc) {
	select {
	case <-changed:
		cancel()
	case <-ctx.Done():
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// take pushes and activates.
func (f *follower) take(ctx context.Context, v version, got answer, again bool) error {
	ctx, cancel := context.WithTimeout(ctx, pushTime)
	defer cancel()
	tagged, is := digestTag(v.etag)
	if latest, _ := digestTag(got.latest); is && latest != "" && !strings.Contains(tagged, ".") {
		// A release without the changes that it has is not what its source decides by.
		f.behind.Store(&tagged)
	}
	_, changed := f.opts.Registry.Active(f.source.Name) // before it is tried
	f.taking.Store(true)
	defer f.taking.Store(false)
	_, err := f.opts.Registry.Push(ctx, registry.Push{
		Name: f.source.Name, Archive: got.archive, Activate: true, AllowOlder: f.opts.AllowOlder,
		DropChanges: true, Followed: true, Tag: tagged, // the source has the word
		Who: "follow " + f.url.Host, Why: "its source has it", Again: again,
	})
	var coded *bundles.Error
	if errors.As(err, &coded) {
		f.refusals.Add(1)
		f.refused, f.refusedAt, f.changed = v, time.Now(), changed
		if f.have.etag == v.etag {
			f.have.etag = "" // the source has two archives of one tag
		}
		f.opts.Log.Error("a followed bundle is not taken, the active one stays", "bundle", f.source.Name, "source", f.url.Host,
			"digest", v.digest, "code", string(coded.Code), "error", coded.Error())
		return nil // the source has answered
	}
	if err != nil {
		return err //nolint:wrapcheck // says what it did
	}
	// What was taken, and not what is active: that may be somebody's by hand already.
	tag := v.digest
	if strings.Contains(tagged, ".") && is {
		tag = tagged
	} else if here, _ := f.opts.Registry.Tag(f.source.Name); strings.HasPrefix(here, v.digest+".") {
		// It was here before, with changes that are not to come again.
		tag, v.etag = here, `"`+here+`"`
	}
	f.have, f.refused = v, version{}
	f.digest.Store(&tag)
	if !is || !strings.Contains(tagged, ".") { // changes only go on
		f.taken = append(f.taken, time.Now())
	}
	f.unlessMore(got)
	return nil
}

// unlessMore confirms, if the source has nothing more than what is here.
func (f *follower) unlessMore(got answer) {
	tag, _ := f.opts.Registry.Tag(f.source.Name)
	if latest, _ := digestTag(got.latest); latest != "" && latest != tag {
		f.more = true
		return
	}
	f.confirm(got.at)
}

// confirm notes that the source has what was taken from it, as of the time when
// it said so.
func (f *follower) confirm(at time.Time) {
	if f.failures > 0 || f.contact.Load() == nil {
		f.opts.Log.Info("bundle is as its source has it", "bundle", f.source.Name, "source", f.url.Host, "digest", f.have.digest)
	}
	f.failures, f.declines = 0, 0
	f.contact.Store(&at)
	f.confirmed.Add(1)
	f.present.Store(true)
	f.behind.Store(nil)
}

// after is how long to wait after a failure; it counts it.
func (f *follower) after(err error) time.Duration {
	if err == nil {
		return 0
	}
	f.failed.Add(1)
	f.failures++
	if f.failures == 1 {
		f.opts.Log.Warn("the source of a bundle does not answer as it should, the active one stays", "bundle", f.source.Name, "source", f.url.Host, "error", err.Error())
	}
	var away *url.Error
	var declined *declinedError
	if errors.As(err, &declined) {
		f.declines++
	}
	if errors.As(err, &away) || errors.As(err, &declined) && declined.status > http.StatusInternalServerError {
		return backoff(firstRetry, maxRetry, f.failures)
	}
	return backoff(firstDeclined, maxDeclined, f.failures)
}

// afterAnswer is how long to wait after an answer that took as long as told.
func (f *follower) afterAnswer(news bool, took time.Duration) time.Duration {
	f.taken = slices.DeleteFunc(f.taken, func(at time.Time) bool { return time.Since(at) > busyTime })
	switch {
	case f.unsure:
		return 0
	case news && f.more:
		return jitter(pause / 10)
	case !f.keeps, news && len(f.taken) > often:
		return jitter(f.opts.Interval)
	case !news && took >= quick:
		return 0
	}
	return jitter(pause)
}

// backoff doubles from first to most, and is not the same for all.
func backoff(first, most time.Duration, failures int) time.Duration {
	return jitter(min(most, first<<min(failures-1, 10)))
}

// jitter takes off up to half, so that many followers do not ask at one moment.
func jitter(d time.Duration) time.Duration {
	return d - time.Duration(rand.Int64N(int64(d)/2+1)) //nolint:gosec // moments, no secret
}

// age is the time since the last contact: by the clock that nobody sets, or by
// the wall's if that is longer, because the other one may stand still while the
// machine sleeps. A contact in the future was none.
func (f *follower) age() time.Duration {
	at := f.contact.Load()
	if at == nil {
		return Never
	}
	now := f.opts.Now()
	age := max(now.Sub(*at), now.Round(0).Sub(at.Round(0)))
	if age < 0 {
		return Never
	}
	return age
}

// overridden tells that somebody has activated something else here by hand.
func (f *follower) overridden() bool {
	taken := f.digest.Load()
	if taken == nil || f.taking.Load() {
		return false
	}
	tag, _ := f.opts.Registry.Tag(f.source.Name)
	return tag != *taken
}

// received tells whether the bundle is here, from the source or from the disk.
func (f *follower) received() bool {
	behind := f.behind.Load()
	if behind == nil && f.present.Load() {
		return true
	}
	digest, _ := f.opts.Registry.Active(f.source.Name)
	if behind != nil && *behind == digest {
		return false
	}
	if digest != "" {
		f.present.Store(true)
	}
	return digest != ""
}
