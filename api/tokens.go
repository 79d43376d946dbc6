package api

import (
	"context"
	"slices"

	"github.com/authzd/authzd/api/callers"
	"github.com/authzd/authzd/credentials"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

// Verifier settles what a query presents: *credentials.Verifier is one. Of both
// results the second counts if it is not nil.
type Verifier interface {
	// Verify checks a token as the client sent it.
	Verify(context.Context, credentials.Presented) (engine.Credential, *engine.RejectedCredential)
	// Admits tells whether claims of an issuer may be asserted at all.
	Admits(issuer, audience string) bool
	// Asserted checks claims whose token a caller has verified.
	Asserted(id, boundBy, audience string, claims rar.Value) (engine.Credential, *engine.RejectedCredential)
}

// presented is one credential as either door found it.
type presented struct {
	id, accessToken, boundBy, scheme string
	proof, method, url, certificate  string
	claims                           rar.Value
}

// evidence names the first member that goes with a token alone.
func (p *presented) evidence() string {
	for _, m := range []struct{ name, value string }{
		{"scheme", p.scheme},
		{"dpop_proof", p.proof},
		{"http_method", p.method},
		{"http_url", p.url},
		{"certificate_thumbprint", p.certificate},
	} {
		if m.value != "" {
			return m.name
		}
	}
	return ""
}

// settled are the outcomes of one request by audience: a proof counts once, and
// the queries of a batch share it.
type settled struct {
	byAudience map[string]outcomes
	// lists: the answers shorten a list and authorize nothing. A proof that the
	// caller has used up a moment ago for the request itself then counts again.
	lists bool
}

func settling(lists bool) settled { return settled{byAudience: map[string]outcomes{}, lists: lists} }

type outcomes struct {
	good []engine.Credential
	bad  []engine.RejectedCredential
}

// settle verifies what r presents, in its order. It may wait for an issuer, so
// it does not belong on a worker. What the caller may not assert is rejected
// here without a look.
func (s *Server) settle(ctx context.Context, c call, r *Request, seen settled) error {
	q := r.Query
	q.Audience = s.audience(c)
	if err := c.meant(q, len(r.presented)); err != nil {
		return err
	}
	audience := q.Audience
	if q.MCP != nil && q.MCP.Server != "" {
		audience = q.MCP.Server
	}
	// Who could not assert claims of a person can not leave them out instead.
	if sub := q.Subject; sub != nil && len(r.presented) == 0 && !s.opts.Verifier.Admits(sub.Issuer, audience) {
		return errorf(CodeInvalidValue, "/subject/properties/issuer", "no credential is given, and this issuer admits no subject on a caller's word")
	}
	out, done := seen.byAudience[audience]
	if !done && seen.lists {
		out, done = s.shown.find(c, audience, r.presented)
	}
	if !done {
		for i := range r.presented {
			if err := ctx.Err(); err != nil {
				return err //nolint:wrapcheck // classed by its identity
			}
			good, bad := s.verify(ctx, c, &r.presented[i], audience)
			if bad != nil {
				out.bad = append(out.bad, *bad)
				s.metrics.presented.WithLabelValues(string(bad.Code)).Inc()
			} else {
				out.good = append(out.good, good)
				s.metrics.presented.WithLabelValues("ok").Inc()
			}
		}
		if !seen.lists && len(out.bad) == 0 {
			s.shown.keep(c, audience, r.presented, out)
		}
	}
	seen.byAudience[audience] = out
	// Clipped, because the queries of a batch share them.
	q.Credentials, q.Rejected, r.presented = slices.Clip(out.good), slices.Clip(out.bad), nil
	return nil
}

func (s *Server) verify(ctx context.Context, c call, p *presented, audience string) (engine.Credential, *engine.RejectedCredential) {
	trusted := c.caller.Rights.Has(callers.Assert)
	switch {
	case p.accessToken != "":
		t := credentials.Presented{
			ID: p.id, Token: p.accessToken, Scheme: p.scheme, Audience: audience,
			Proof: p.proof, Method: p.method, URL: p.url,
		}
		// A proof proves itself; a thumbprint is somebody's word.
		if trusted {
			t.CertThumbprint = p.certificate
		}
		return s.opts.Verifier.Verify(ctx, t)
	case !trusted:
		return engine.Credential{}, &engine.RejectedCredential{ID: p.id, Code: engine.CodeTokenAsserter}
	}
	return s.opts.Verifier.Asserted(p.id, p.boundBy, audience, p.claims)
}

// prepare decodes a query off the workers, where that is needed: it waits for a
// revision, or has credentials that have to be verified. Those take the call's seat.
func (s *Server) prepare(ctx context.Context, c call, at *seat, decode func() (Request, error), seen settled) (Request, error) {
	r, err := decode()
	if err != nil {
		return Request{}, err
	}
	if err := s.awaitRevision(ctx, r.Require); err != nil {
		return Request{}, err
	}
	if !s.verifying() {
		return r, nil
	}
	// Whoever is over what may wait is told before a proof is used up.
	if err := at.take(ctx); err != nil {
		return Request{}, err
	}
	if err := s.settle(ctx, c, &r, seen); err != nil {
		return Request{}, err
	}
	return r, nil
}

func (s *Server) verifying() bool { return s.opts.Verifier != nil }
