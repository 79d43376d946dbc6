package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"github.com/authzd/authzd/api/callers"
	"github.com/authzd/authzd/engine"
)

// call is one request on its way through the chain.
type call struct {
	door      door
	requestID string
	caller    callers.Caller
	// arrival is that of a call that wants decisions.
	arrival *arrival
	// refused is the status that a call over gRPC gets before anything of it is read.
	refused error
}

// guard is the chain that every call of every door goes through: in-flight
// count, deadline, recovery that denies, and the account of errors.
func (s *Server) guard(ctx context.Context, c call, run func(context.Context) error) error {
	return s.guardFor(ctx, c, s.opts.MaxDuration, run)
}

// guardFor is guard for calls that may take longer than a decision.
func (s *Server) guardFor(ctx context.Context, c call, bound time.Duration, run func(context.Context) error) (err error) {
	m := s.metrics.doors[c.door]
	m.inFlight.Inc()
	defer m.inFlight.Dec()
	within := &deadline{Context: ctx, at: time.Now().Add(bound)}
	defer within.end()
	defer func() {
		if v := recover(); v != nil {
			err = panicError(v)
		}
		if err != nil {
			err = s.account(ctx, c, err)
		}
	}()
	return run(within) //nolint:contextcheck // it is ctx, with an end
}

// panicError makes an internal error of a panic, keeping the stack that it
// happened on, which may be a worker's.
func panicError(v any) error {
	if p, ok := v.(*panicked); ok {
		return p
	}
	return &panicked{value: v, stack: debug.Stack()}
}

// faultError is an error that is classed and accounted for already.
type faultError struct{ fault fault }

func (f *faultError) Error() string { return f.fault.code + ": " + f.fault.message }

// account classes err, counts and logs it.
func (s *Server) account(ctx context.Context, c call, err error) error {
	f := faultOf(err)
	s.metrics.errors.WithLabelValues(f.code, string(c.door)).Inc()
	level := slog.LevelDebug
	if f.cause != nil {
		level = slog.LevelError
	}
	if !s.log.Enabled(ctx, level) {
		return &faultError{fault: f}
	}
	attrs := []slog.Attr{
		slog.String("request_id", c.requestID), slog.String("door", string(c.door)), slog.String("code", f.code),
	}
	if c.caller.Name != "" {
		attrs = append(attrs, slog.String("caller", c.caller.Name))
	}
	if f.path != "" {
		attrs = append(attrs, slog.String("path", f.path))
	}
	if f.cause != nil {
		attrs = append(attrs, slog.String("error", f.cause.Error()))
	}
	s.log.LogAttrs(ctx, level, "no decision", attrs...)
	return &faultError{fault: f}
}

// decide answers one query on snapshot: the decision function behind every
// door.
func (s *Server) decide(ctx context.Context, c call, snapshot *engine.Snapshot, r Request) (*Response, error) {
	if len(r.presented) > 0 {
		return nil, errors.New("a query came past the check of its credentials")
	}
	r.Query.Audience = s.audience(c)
	if err := c.believe(&r); err != nil {
		return nil, err
	}
	began := time.Now()
	d, err := s.opts.Engine.DecideOn(ctx, snapshot, r.Query)
	if err != nil {
		return nil, fmt.Errorf("decide: %w", err)
	}
	resp := Respond(d, r, s.opts.Denial)
	took := time.Since(began)
	m := s.metrics.doors[c.door]
	m.decided(d.Allow)
	if stopped(&d) {
		s.metrics.stopped.WithLabelValues(d.Policy.Bundle).Inc()
	}
	m.duration.Observe(took.Seconds())
	s.logDecision(ctx, c, &resp, took)
	return &resp, nil
}

// stopped tells whether a decision is a deny for want of time or steps.
func stopped(d *engine.Decision) bool {
	return !d.Allow && slices.ContainsFunc(d.Reasons, func(r engine.Reason) bool { return r.Code == engine.CodeBudget })
}

// decideLive is decide on what is live now.
func (s *Server) decideLive(ctx context.Context, c call, r Request) (*Response, error) {
	snapshot, err := s.liveSnapshot()
	if err != nil {
		return nil, err
	}
	return s.decide(ctx, c, snapshot, r)
}

// logDecision writes names and codes only: no token, claim or argument.
func (s *Server) logDecision(ctx context.Context, c call, r *Response, took time.Duration) {
	if r.Fault != nil {
		s.metrics.rendering.Inc()
		s.log.LogAttrs(ctx, slog.LevelWarn, "a part of a denial could not be sent",
			slog.String("request_id", c.requestID), slog.String("decision_id", r.Decision.ID), slog.String("error", r.Fault.Error()))
	}
	if !s.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	d := &r.Decision
	answer, code := "DENY", ""
	if d.Allow {
		answer = "ALLOW"
	}
	if len(d.Reasons) > 0 {
		code = string(d.Reasons[0].Code)
	}
	s.log.LogAttrs(ctx, slog.LevelDebug, "decision",
		slog.String("request_id", c.requestID), slog.String("door", string(c.door)),
		slog.String("caller", c.caller.Name),
		slog.String("decision", answer), slog.String("decision_id", d.ID),
		slog.String("rule", d.Rule), slog.String("code", code), slog.String("echoed_handle", r.Handle), slog.Any("rejected", rejectedCodes(d)),
		slog.String("bundle", d.Policy.Bundle), slog.String("revision", d.Policy.Revision),
		slog.Duration("took", took))
}

func rejectedCodes(d *engine.Decision) []string {
	codes := make([]string, 0, len(d.Rejected))
	for i := range d.Rejected {
		codes = append(codes, string(d.Rejected[i].Code))
	}
	return codes
}
