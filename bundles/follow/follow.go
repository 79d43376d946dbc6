// Package follow keeps bundles as another server has them: another authzd, or
// any that speaks OPA's bundle protocol.
//
// What it downloads goes the way of every push (package registry): signature,
// tests and sequence are ours to judge, never the source's, and what fails
// changes nothing. It refuses plain HTTP off loopback, redirects, and archives
// beyond the bound of uploads. A source that is away changes nothing either,
// until Options.MaxAge says that what it said last is too old to decide on.
//
// It is called by cmd/authzd, which starts Run, and by package api, which asks
// Fresh before each decision. A *Followers may be used by any number of
// goroutines.
package follow

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/bundles/registry"
)

// Defaults and bounds of Options.
const (
	DefaultInterval = 10 * time.Second
	// MinMaxAge is the least MaxAge: below it one lost packet would deny.
	MinMaxAge = 5 * time.Second
	// maxWait is how long a source may keep a request that has nothing new.
	maxWait = 20 * time.Second
)

// Source is where one bundle comes from.
type Source struct {
	// Name of the bundle here.
	Name string
	// URL of its archive; with no path, that of an authzd's bundle of this Name.
	URL string
	// TokenFile holds a bearer token, and is read for each request; default none.
	TokenFile string
}

// Options configure Followers. Registry is required.
type Options struct {
	// Registry takes what is downloaded.
	Registry *registry.Registry
	Sources  []Source
	// TLS is for sources by https; default the system's authorities and no
	// certificate.
	TLS *tls.Config
	// AllowOlder admits a sequence lower than the active one's, so that a
	// rollback of the source is followed; default refused.
	AllowOlder bool
	// Interval is how often a source is asked that does not keep requests;
	// default DefaultInterval.
	Interval time.Duration
	// MaxAge is how long after the last contact Fresh refuses; default never.
	MaxAge time.Duration
	// Now is the clock of ages; default time.Now.
	Now func() time.Time
	// Log receives what changes; default nothing.
	Log *slog.Logger
}

// Followers follow sources. A nil *Followers follows none.
type Followers struct {
	opts Options
	list []*follower
}

// New checks the sources. Nothing is asked before Run.
func New(o Options) (*Followers, error) {
	if o.Registry == nil {
		return nil, errors.New("follow: Options.Registry is required")
	}
	if o.MaxAge != 0 && o.MaxAge < MinMaxAge {
		return nil, fmt.Errorf("follow: an age of %s is below %s", o.MaxAge, MinMaxAge)
	}
	if o.Interval <= 0 {
		o.Interval = DefaultInterval
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	wait := maxWait
	if o.MaxAge > 0 { // several contacts fit into it
		wait, o.Interval = min(wait, o.MaxAge/3), min(o.Interval, o.MaxAge/3)
	}
	fs := &Followers{opts: o}
	client := newClient(o.TLS, wait)
	for _, s := range o.Sources {
		u, err := ParseURL(s)
		if err != nil {
			return nil, err
		}
		fs.list = append(fs.list, &follower{source: s, url: u, wait: wait, client: client, opts: &fs.opts})
	}
	return fs, nil
}

// Run follows until ctx ends, and then returns nil. It is called once.
func (fs *Followers) Run(ctx context.Context) error {
	if fs == nil {
		return nil
	}
	var group errgroup.Group
	for _, f := range fs.list {
		group.Go(func() error { f.run(ctx); return nil })
	}
	err := group.Wait()
	if len(fs.list) > 0 {
		fs.list[0].client.CloseIdleConnections()
	}
	return err //nolint:wrapcheck // there is none
}

// Fresh tells why nothing may be decided now: a followed bundle has never been
// active here (bundle.not_received), or the last contact to its source is older
// than MaxAge (bundle.outdated). It takes no lock once all bundles are there.
func (fs *Followers) Fresh() error {
	if fs == nil {
		return nil
	}
	for _, f := range fs.list {
		if !f.received() {
			return &bundles.Error{Code: bundles.CodeNotReceived, Err: fmt.Errorf("the bundle %q has not come from its source yet", f.source.Name)}
		}
		if fs.opts.MaxAge > 0 && f.age() > fs.opts.MaxAge {
			return &bundles.Error{Code: bundles.CodeOutdated, Err: fmt.Errorf("the last contact to the source of bundle %q is longer ago than %s", f.source.Name, fs.opts.MaxAge)}
		}
	}
	return nil
}

// Status is what is known of one source.
type Status struct {
	Bundle string
	// Age is the time since the source last confirmed, to this process, that the
	// bundle that was taken is the one it has; the largest there is: never.
	Age time.Duration
	// Confirmed, Failed and Refused count answers that confirmed or brought a
	// bundle, requests without a usable answer, and archives that were not
	// taken.
	Confirmed, Failed, Refused uint64
	// Overridden: something else than what was taken from the source is active,
	// because somebody has activated it here.
	Overridden bool
}

// Never is the Age of a source that has not been heard of.
const Never = time.Duration(math.MaxInt64)

// Status of each source, in their order.
func (fs *Followers) Status() []Status {
	if fs == nil {
		return nil
	}
	out := make([]Status, 0, len(fs.list))
	for _, f := range fs.list {
		out = append(out, Status{
			Bundle: f.source.Name, Age: f.age(),
			Confirmed: f.confirmed.Load(), Failed: f.failed.Load(), Refused: f.refusals.Load(), Overridden: f.overridden(),
		})
	}
	return out
}

// newClient follows no redirect: a redirect is how a source would make us send
// our token, or our request, elsewhere. It uses no proxy, and reads no
// environment.
func newClient(config *tls.Config, wait time.Duration) *http.Client {
	return &http.Client{
		Transport:     newTransport(config, wait),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
