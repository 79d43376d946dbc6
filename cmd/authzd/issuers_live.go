package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/authzd/authzd/credentials"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

// issuerSource is the verifier of the file of --issuers. When the file has
// changed, a new verifier takes the place of the old one as a whole.
type issuerSource struct {
	file string
	log  *slog.Logger
	// replay outlives verifiers, so that no proof counts twice over a reload.
	replay credentials.ReplayStore
	live   atomic.Pointer[credentials.Verifier]
	fresh  chan *credentials.Verifier
	// text is what was read last. Only openIssuers and reload touch it.
	text []byte
}

// keysWait is how long a new verifier is given to fetch its keys before it takes
// over: longer would leave an issuer trusted that was removed.
const keysWait = 3 * time.Second

// openIssuers reads the file; nothing is asked of issuers before run.
func openIssuers(file string, log *slog.Logger) (*issuerSource, error) {
	s := &issuerSource{
		file: file, log: log, replay: credentials.NewMemoryReplay(credentials.DefaultReplayEntries), fresh: make(chan *credentials.Verifier),
	}
	v, text, err := s.read()
	if err != nil {
		return nil, err
	}
	s.live.Store(v)
	s.text = text
	return s, nil
}

func (s *issuerSource) read() (*credentials.Verifier, []byte, error) {
	c, text, err := readIssuers(s.file)
	if err != nil {
		return nil, nil, err
	}
	v, err := credentials.New(c, credentials.Options{Log: s.log, Replay: s.replay})
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", s.file, err)
	}
	return v, text, nil
}

// reload hands a changed file to run. A faulty one leaves the old one.
func (s *issuerSource) reload(ctx context.Context) {
	v, text, err := s.read()
	if err != nil {
		s.log.Error("issuers not loaded, the old ones stay", "error", err.Error())
		return
	}
	if bytes.Equal(text, s.text) {
		return
	}
	select {
	case s.fresh <- v:
		s.text = text
	case <-ctx.Done():
	}
}

// run keeps the live verifier going until ctx ends.
func (s *issuerSource) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	start := func(v *credentials.Verifier) context.CancelFunc {
		running, stop := context.WithCancel(ctx)
		group.Go(func() error { return v.Run(running) })
		return stop
	}
	stop := start(s.live.Load())
	for {
		select {
		case <-ctx.Done():
			stop()
			return group.Wait() //nolint:wrapcheck // names itself
		case v := <-s.fresh:
			next := start(v)
			awaitKeys(ctx, v)
			s.live.Store(v)
			stop()
			stop = next
			s.log.Info("issuers are live", "file", s.file)
		}
	}
}

// awaitKeys waits until all issuers have keys, for keysWait at most.
func awaitKeys(ctx context.Context, v *credentials.Verifier) {
	ctx, cancel := context.WithTimeout(ctx, keysWait)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !allUsable(v.Status()) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func allUsable(issuers []credentials.IssuerStatus) bool {
	for i := range issuers {
		if !issuers[i].Usable {
			return false
		}
	}
	return true
}

// Verify, Admits, Asserted and Status are those of the live verifier.
func (s *issuerSource) Verify(ctx context.Context, p credentials.Presented) (engine.Credential, *engine.RejectedCredential) {
	return s.live.Load().Verify(ctx, p)
}

func (s *issuerSource) Admits(issuer, audience string) bool {
	return s.live.Load().Admits(issuer, audience)
}

func (s *issuerSource) Asserted(id, boundBy, audience string, claims rar.Value) (engine.Credential, *engine.RejectedCredential) {
	return s.live.Load().Asserted(id, boundBy, audience, claims)
}

func (s *issuerSource) Status() []credentials.IssuerStatus { return s.live.Load().Status() }
