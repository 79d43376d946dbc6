package follow

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/url"
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
	// quick is an answer that has not waited; without a new bundle, the next
	// request is held back for pause.
	quick = 500 * time.Millisecond
	pause = time.Second
	// refusedFor is how long an archive that was not taken is not tried again:
	// keys may have changed, and each try is recorded.
	refusedFor = 5 * time.Minute
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
	// keeps: the source keeps requests until there is something new.
	keeps bool
	// failures in a row.
	failures int

	// contact is when the source last confirmed what is here, in nanoseconds of
	// Unix; 0: never.
	contact                     atomic.Int64
	confirmed, failed, refusals atomic.Uint64
	// present: an archive has been active.
	present atomic.Bool
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
	if f.refused != (version{}) && time.Since(f.refusedAt) > refusedFor {
		f.refused = version{}
	}
	known := f.have.etag
	if f.refused != (version{}) {
		known = f.refused.etag
	}
	got, err := f.ask(ctx, known)
	if err != nil {
		return false, err
	}
	if got.archive == nil { // not modified
		if f.refused == (version{}) {
			f.confirm()
		}
		return false, nil
	}
	f.keeps = got.keeps
	v := version{etag: got.etag, digest: store.Digest(got.archive)}
	switch v.digest {
	case f.refused.digest:
		f.refused = v
		return false, nil
	case f.have.digest:
		f.have, f.refused = v, version{}
		f.confirm()
		return false, nil
	}
	return true, f.take(ctx, v, got.archive)
}

// take pushes and activates.
func (f *follower) take(ctx context.Context, v version, archive []byte) error {
	ctx, cancel := context.WithTimeout(ctx, pushTime)
	defer cancel()
	_, err := f.opts.Registry.Push(ctx, registry.Push{
		Name: f.source.Name, Archive: archive, Activate: true, AllowOlder: f.opts.AllowOlder,
		Who: "follow " + f.url.Host, Why: "its source has it",
	})
	var coded *bundles.Error
	if errors.As(err, &coded) {
		f.refusals.Add(1)
		f.refused, f.refusedAt = v, time.Now()
		f.opts.Log.Error("a followed bundle is not taken, the active one stays", "bundle", f.source.Name, "source", f.url.Host,
			"digest", v.digest, "code", string(coded.Code), "error", coded.Error())
		return nil // the source has answered
	}
	if err != nil {
		return err //nolint:wrapcheck // says what it did
	}
	f.have, f.refused = v, version{}
	f.confirm()
	return nil
}

// confirm notes that the source has what is here.
func (f *follower) confirm() {
	if f.failures > 0 || f.contact.Load() == 0 {
		f.opts.Log.Info("bundle is as its source has it", "bundle", f.source.Name, "source", f.url.Host, "digest", f.have.digest)
	}
	f.failures = 0
	f.contact.Store(f.opts.Now().UnixNano())
	f.confirmed.Add(1)
	f.present.Store(true)
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
	if errors.As(err, &away) || errors.As(err, &declined) && declined.status > http.StatusInternalServerError {
		return backoff(firstRetry, maxRetry, f.failures)
	}
	return backoff(firstDeclined, maxDeclined, f.failures)
}

// afterAnswer is how long to wait after an answer that took as long as told.
func (f *follower) afterAnswer(news bool, took time.Duration) time.Duration {
	switch {
	case !f.keeps:
		return jitter(f.opts.Interval)
	case news && f.refused == (version{}), took >= quick:
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

// age is the time since the last contact.
func (f *follower) age() time.Duration {
	at := f.contact.Load()
	if at == 0 {
		return Never
	}
	return max(0, f.opts.Now().Sub(time.Unix(0, at)))
}

// received tells whether the bundle is here, from the source or from the disk.
func (f *follower) received() bool {
	if f.present.Load() {
		return true
	}
	digest, _ := f.opts.Registry.Active(f.source.Name)
	if digest != "" {
		f.present.Store(true)
	}
	return digest != ""
}
