package api

import (
	"context"
	"errors"
	"slices"

	"github.com/authzd/authzd/api/callers"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/mcp"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// Plan decides each call on a worker of the pool, all on one snapshot, and then
// puts together what they need.
func (d *detailsService) Plan(ctx context.Context, m *authzdv1.PlanRequest) (*authzdv1.PlanResponse, error) {
	s := d.server
	at := s.pool.seat(callFrom(ctx).caller.Name, len(m.GetCalls())+1)
	defer at.leave()
	p := plan{ask: s.asker(), engine: s.opts.Engine, limits: s.opts.Limits, call: callFrom(ctx), run: at.onWorker}
	if s.verifying() {
		seen := settling(false)
		p.settle = func(ctx context.Context, r *Request) error { return s.settle(ctx, p.call, r, seen) }
	}
	p.audience = s.audience(p.call)
	shared, err := p.parts(m)
	if err != nil {
		return nil, err
	}
	if shared.require != nil {
		if err := s.awaitRevision(ctx, *shared.require); err != nil {
			return nil, err
		}
	}
	snapshot, err := s.liveSnapshot()
	if err != nil {
		return nil, err
	}
	if err := at.take(ctx); err != nil {
		return nil, err
	}
	return p.answer(ctx, snapshot, shared, m)
}

// PlanCalls answers AuthorizationDetailsService.Plan on s, on the calling
// goroutine; require_revision has to be one of its bundles. Errors are those of
// Check, with a JSON Pointer into the request.
func PlanCalls(ctx context.Context, e *engine.Engine, s *engine.Snapshot, m *authzdv1.PlanRequest, l Limits) (*authzdv1.PlanResponse, error) {
	p := plan{ask: asker{extraMethods: true}, engine: e, limits: l.withDefaults(), call: call{caller: callers.Caller{Rights: callers.All}}, run: func(ctx context.Context, f func(context.Context)) error { f(ctx); return nil }}
	shared, err := p.parts(m)
	if err != nil {
		return nil, err
	}
	if r := shared.require; r != nil && !slices.Contains(s.Bundles(), *r) {
		return nil, errorf(CodeRevisionNotActive, "/require_revision", "revision %q of bundle %q is not the one at hand", r.Revision, r.Bundle)
	}
	return p.answer(ctx, s, shared, m)
}

// plan is one call of Plan.
type plan struct {
	ask      asker
	engine   *engine.Engine
	limits   Limits
	audience string
	// call has the caller; local plans have one with every right.
	call call
	// run runs a step where there is room for it.
	run func(context.Context, func(context.Context)) error
	// settle verifies the credentials of a call; nil: there is no verifier.
	settle func(context.Context, *Request) error
}

// parts decodes what the calls have in common.
func (p *plan) parts(m *authzdv1.PlanRequest) (parts, error) {
	switch n := len(m.GetCalls()); {
	case n == 0:
		return parts{}, errorf(CodeEmpty, "/calls", "a plan needs at least one call")
	case n > p.limits.MaxBatch:
		return parts{}, errorf(CodeTooLarge, "/calls", "%d calls where %d are allowed", n, p.limits.MaxBatch)
	}
	if err := checkKnown(m.ProtoReflect(), ""); err != nil {
		return parts{}, err
	}
	w := wire{limits: p.limits, verifying: p.settle != nil}
	shared := parts{ask: p.ask, require: w.require(m.GetRequireRevision()), credentials: w.credentials(m.GetCredentials())}
	if w.err != nil {
		return parts{}, w.err
	}
	return shared, shared.check()
}

func (p *plan) answer(ctx context.Context, s *engine.Snapshot, shared parts, m *authzdv1.PlanRequest) (*authzdv1.PlanResponse, error) {
	planner := p.engine.NewPlanner(s)
	var err error
	for i, q := range m.GetCalls() {
		var r Request
		if p.settle != nil {
			r, err = p.request(ctx, shared, q)
		}
		if err == nil {
			if full := p.run(ctx, func(ctx context.Context) {
				if p.settle == nil {
					r, err = p.request(ctx, shared, q)
				}
				if err == nil {
					err = planner.Add(ctx, r.Query)
				}
			}); full != nil {
				return nil, full
			}
		}
		if err != nil {
			return nil, within("/calls", i, err)
		}
	}
	var out engine.Plan
	if full := p.run(ctx, func(ctx context.Context) { out, err = planner.Plan(ctx) }); full != nil {
		return nil, full
	}
	if err != nil {
		return nil, err
	}
	return planProto(&out), nil
}

// request decodes one call, and verifies what it presents.
func (p *plan) request(ctx context.Context, shared parts, q *authzdv1.CheckBatchQuery) (Request, error) {
	if q.GetCommit() != nil {
		return Request{}, errorf(CodeInvalidValue, "/commit", "a planned call is not about to be executed")
	}
	own := shared
	w := wire{limits: p.limits}
	w.query(&own, q)
	if w.err != nil {
		return Request{}, w.err
	}
	r, err := own.request()
	if err != nil {
		return Request{}, err
	}
	if q := r.Query; q.Mapping != nil && (q.Action.Name == "" || q.Resource.ID == "") {
		return Request{}, &mcp.Error{
			Code: mcp.CodeMappingUnsupported, Path: "/mcp", Err: errors.New("the tool declares a mapping of its own, and what that asks is not planned"),
		}
	}
	if p.settle != nil {
		if err := p.settle(ctx, &r); err != nil {
			return Request{}, err
		}
	}
	r.Query.Audience = p.audience
	// A plan is for whoever can ask an authorization server, by whatever way.
	r.Query.Actionable = engine.NewKindSet(engine.KindScopes, engine.KindAuthorizationDetails,
		engine.KindAuthentication, engine.KindProofOfPossession, engine.KindToken)
	return r, p.call.believe(&r)
}

// Values of PlanResponse.status.
const (
	PlanAllowed    = "allowed"
	PlanObtainable = "obtainable"
	PlanPartial    = "partial"
	PlanDenied     = "denied"
)

func planProto(p *engine.Plan) *authzdv1.PlanResponse {
	out := &authzdv1.PlanResponse{Status: planStatus(p), Optimal: p.Optimal, Policy: policyProto(p.Policy)}
	for i := range p.Remedies {
		out.Hints = append(out.Hints, hintProto(&p.Remedies[i]))
	}
	for i := range p.Calls {
		c := &p.Calls[i]
		call := &authzdv1.PlannedCall{Outcome: string(c.Outcome), Rule: valid(c.Rule)}
		if !c.Decision.Allow {
			for j := range c.Decision.Reasons {
				call.Reasons = append(call.Reasons, reasonProto(&c.Decision.Reasons[j]))
			}
		}
		out.Calls = append(out.Calls, call)
	}
	return out
}

func planStatus(p *engine.Plan) string {
	has := func(o engine.PlanOutcome) bool {
		return slices.ContainsFunc(p.Calls, func(c engine.PlannedCall) bool { return c.Outcome == o })
	}
	helped, lost := has(engine.PlanObtainable), has(engine.PlanDenied) || has(engine.PlanSeparate)
	switch {
	case !helped && !lost:
		return PlanAllowed
	case !lost:
		return PlanObtainable
	case helped:
		return PlanPartial
	default:
		return PlanDenied
	}
}
