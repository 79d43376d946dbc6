// Package credentials turns raw access tokens into credentials of package
// engine: JWTs (RFC 9068) by the keys of their issuer, opaque tokens by
// introspection (RFC 7662), bound ones only with proof of possession (DPoP,
// RFC 9449; mutual TLS, RFC 8705).
//
// It refuses whatever is not surely an access token of a configured issuer for
// the resource in question: the twelve checks run in a fixed order, and the
// first that fails gives the code. No key and no algorithm is ever taken from
// a token, and no answer in doubt is a yes: an issuer that is away, slow or
// talks nonsense makes its own tokens unusable, and nobody else's.
//
// Package api calls Verify for each token of a query; cmd/authzd keeps Run
// going, which alone fetches keys. A Verifier may be used by any number of
// goroutines. Tokens appear in no error and no log.
package credentials

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/authzd/authzd/engine"
)

// Options are what a Verifier needs of its surroundings.
type Options struct {
	// Now is the clock; default time.Now.
	Now func() time.Time
	// Transport carries requests to issuers; default one without proxy, with
	// bounded times. Redirects are never followed.
	Transport http.RoundTripper
	// Replay remembers DPoP proofs; default NewMemoryReplay(0).
	Replay ReplayStore
	// Log receives what Run finds, and introspections that failed; default nothing.
	Log *slog.Logger
}

// Presented is a token as it reached the enforcement point.
type Presented struct {
	// ID is the caller's name for it.
	ID    string
	Token string
	// Scheme of the Authorization header, Bearer or DPoP; left out: DPoP if there
	// is a Proof.
	Scheme string
	// Proof is the header DPoP of the request; Method and URL are what it has to
	// name, the URL as the client sees it.
	Proof, Method, URL string
	// CertThumbprint is the SHA-256 of the client's certificate in base64url, as
	// whoever ended TLS saw it.
	CertThumbprint string
	// Audience is the resource identifier of the MCP server.
	Audience string
}

// Format prints the id alone, whatever the verb: a token is never printed.
func (p Presented) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "credential %q", p.ID) }

// LogValue is Format for package slog.
func (p Presented) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(p)) }

// MarshalText is Format for encoders, which look past LogValue where a
// Presented lies within another value.
func (p Presented) MarshalText() ([]byte, error) { return []byte(fmt.Sprint(p)), nil }

// Verifier checks tokens. Make it by New; its zero value refuses everything.
type Verifier struct {
	issuers map[string]*issuer
	// opaque are the issuers that are asked about opaque tokens.
	opaque  []*issuer
	replay  ReplayStore
	now     func() time.Time
	running sync.Mutex
}

// issuer is a configured one, ready for use.
type issuer struct {
	Issuer
	// expose are the names of Mapping.Expose in order.
	expose       []string
	keys         *keySource    // nil: only introspection
	introspector *introspector // nil: none
}

// New makes a Verifier. It opens nothing and asks nobody: that is Run's.
func New(c Config, o Options) (*Verifier, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Replay == nil {
		o.Replay = NewMemoryReplay(0)
	}
	v := &Verifier{issuers: map[string]*issuer{}, replay: o.Replay, now: o.Now}
	for _, given := range c.Issuers {
		is := prepare(given, o)
		v.issuers[is.Issuer.Issuer] = is
		if is.introspector != nil && is.introspector.config.Opaque {
			v.opaque = append(v.opaque, is)
		}
	}
	return v, nil
}

// ErrRunning tells that a Verifier's Run was called while another one goes on.
var ErrRunning = errors.New("credentials: Run is running already")

// Run fetches the keys of all issuers, again at intervals and when a token
// names a key that is not known, until ctx ends. Each issuer has a goroutine
// of its own, which Run waits for. Without it no JWT verifies. It returns nil
// when ctx ends.
func (v *Verifier) Run(ctx context.Context) error {
	if !v.running.TryLock() {
		return ErrRunning
	}
	defer v.running.Unlock()
	var all sync.WaitGroup
	for _, is := range v.issuers {
		if is.keys != nil {
			all.Go(func() { is.keys.run(ctx) })
		}
	}
	<-ctx.Done()
	all.Wait()
	for _, is := range v.issuers {
		if is.introspector != nil {
			is.introspector.client.CloseIdleConnections()
		}
	}
	return nil
}

// IssuerStatus is what is known of an issuer's keys.
type IssuerStatus struct {
	Issuer string
	// Keys is how many there are; Usable: they are not older than MaxAge.
	Keys      int
	Usable    bool
	FetchedAt time.Time
	// Err is why the last fetch failed; nil if it did not.
	Err error
}

// Status tells of each issuer that has keys, in no order, for readiness and
// metrics.
func (v *Verifier) Status() []IssuerStatus {
	var out []IssuerStatus
	for _, is := range v.issuers {
		if is.keys != nil {
			out = append(out, is.keys.status())
		}
	}
	return out
}

func rejected(id string, code engine.Code) (engine.Credential, *engine.RejectedCredential) {
	return engine.Credential{}, &engine.RejectedCredential{ID: id, Code: code}
}
