package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/bundles/registry"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/engine/blocklist"
	"github.com/authzd/authzd/store"
)

// pushed is where serve keeps the bundles that are pushed to it, and its block
// list.
type pushed struct {
	store    *store.Store
	registry *registry.Registry
	blocks   *blocklist.List
	// verify holds the keys of now; never nil, so that nothing unsigned is taken.
	verify atomic.Pointer[verification]
	limits bundles.Limits
}

// openPushed opens the data directory, if there is one; nil: nothing can be
// pushed. Nothing is live yet.
func openPushed(ctx context.Context, dir string, budget memory, e *engine.Engine, log *slog.Logger) (*pushed, error) {
	if dir == "" {
		return nil, nil //nolint:nilnil // none is an answer
	}
	limits, err := budget.bundleLimits()
	if err != nil {
		return nil, err
	}
	s, err := store.Open(ctx, dir, store.Options{})
	if err != nil {
		return nil, fmt.Errorf("data-dir: %w", err)
	}
	p := &pushed{store: s, limits: limits}
	p.verify.Store(&verification{}) // without a key nothing verifies
	set, err := openDefault()
	if err == nil {
		p.registry, err = registry.New(registry.Options{
			Store: s, Engine: e, Verify: p.open, Ask: asker, Log: log,
			Fallback: []engine.Bundle{set.contents[0].Bundle},
		})
	}
	if err == nil {
		// Without the list it would allow what is blocked.
		p.blocks, err = blocklist.Open(ctx, blocklist.Options{Store: s, Engine: e, Log: log})
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return p, nil
}

// open verifies an archive by the keys of now.
func (p *pushed) open(archive []byte) (bundles.Content, error) {
	v := p.verify.Load()
	c, _, err := bundles.OpenSignedArchive(bytes.NewReader(archive), v.keys, v.options, p.limits)
	return c, err
}

// bundles is what api pushes to; nil: nothing.
func (p *pushed) bundles() *registry.Registry {
	if p == nil {
		return nil
	}
	return p.registry
}

// blockList is what api changes; nil: there is none.
func (p *pushed) blockList() *blocklist.List {
	if p == nil {
		return nil
	}
	return p.blocks
}

// run is what goes on beside the serving.
func (p *pushed) run(ctx context.Context) error {
	if p == nil {
		return nil
	}
	return p.registry.Run(ctx)
}

// close is for when no call is under way any more.
func (p *pushed) close() error {
	if p == nil {
		return nil
	}
	return p.store.Close()
}

// trust replaces the keys that pushes are verified by; nil: no key counts.
func (p *pushed) trust(v *verification) {
	if p == nil {
		return
	}
	if v == nil {
		v = &verification{}
	}
	p.verify.Store(v)
	p.registry.Forget()
}

// load makes the operator's bundles and the active pushed ones live.
func (p *pushed) load(ctx context.Context, v *verification, set *policySet) ([]engine.Finding, error) {
	if v == nil {
		return nil, errors.New("pushed bundles need --" + bundleKeyFlag)
	}
	var local []engine.Bundle
	if !set.builtin {
		for _, c := range set.contents {
			local = append(local, c.Bundle)
		}
	}
	warnings, err := p.registry.Load(ctx, local)
	var refused *engine.CompileError
	if errors.As(err, &refused) {
		err = &engine.CompileError{Findings: set.located(refused.Findings)}
	}
	return set.located(warnings), err
}

// hasCode tells whether any of the errors that err is made of has the code.
func hasCode(err error, code bundles.Code) bool {
	switch e := err.(type) { //nolint:errorlint // the tree is walked here
	case nil:
		return false
	case *bundles.Error:
		return e.Code == code
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(e.Unwrap(), func(one error) bool { return hasCode(one, code) })
	}
	return hasCode(errors.Unwrap(err), code)
}

// mayWait tells whether a server that can not make its policy live at start is
// to run without one: a pushed bundle that does not verify or compile any more
// is mended by a push. Everything else is mended by whoever starts the server.
func (p *pushed) mayWait(err error) bool {
	if hasCode(err, bundles.CodeNameLocal) {
		return false
	}
	return p != nil && p.registry.Pushed()
}
