package api

import (
	"context"
	"slices"

	"github.com/authzd/authzd/engine"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// Plan decides each call on a worker of the pool, all on one snapshot, and then
// puts together what they need.
func (d *detailsService) Plan(ctx context.Context, m *authzdv1.PlanRequest) (*authzdv1.PlanResponse, error) {
	s := d.server
	shared, err := s.plannedParts(m)
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
	planner := s.opts.Engine.NewPlanner(snapshot)
	for i, q := range m.GetCalls() {
		if full := s.pool.onWorker(ctx, func() { err = s.planCall(ctx, planner, shared, q) }); full != nil {
			return nil, full
		}
		if err != nil {
			return nil, within("/calls", i, err)
		}
	}
	var plan engine.Plan
	if full := s.pool.onWorker(ctx, func() { plan, err = planner.Plan(ctx) }); full != nil {
		return nil, full
	}
	if err != nil {
		return nil, err
	}
	return planProto(&plan), nil
}

// plannedParts decodes what the calls have in common.
func (s *Server) plannedParts(m *authzdv1.PlanRequest) (parts, error) {
	switch n := len(m.GetCalls()); {
	case n == 0:
		return parts{}, errorf(CodeEmpty, "/calls", "a plan needs at least one call")
	case n > s.opts.Limits.MaxBatch:
		return parts{}, errorf(CodeTooLarge, "/calls", "%d calls where %d are allowed", n, s.opts.Limits.MaxBatch)
	}
	if err := checkKnown(m.ProtoReflect(), ""); err != nil {
		return parts{}, err
	}
	w := wire{limits: s.opts.Limits}
	p := parts{require: w.require(m.GetRequireRevision()), credentials: w.credentials(m.GetCredentials())}
	if w.err != nil {
		return parts{}, w.err
	}
	return p, p.check()
}

func (s *Server) planCall(ctx context.Context, planner *engine.Planner, shared parts, q *authzdv1.CheckBatchQuery) error {
	if q.GetCommit() != nil {
		return errorf(CodeInvalidValue, "/commit", "a planned call is not about to be executed")
	}
	p := shared
	w := wire{limits: s.opts.Limits}
	w.query(&p, q)
	if w.err != nil {
		return w.err
	}
	r, err := p.request()
	if err != nil {
		return err
	}
	r.Query.Audience = s.opts.Audience
	return planner.Add(ctx, r.Query)
}

// Values of PlanResponse.status.
const (
	planAllowed    = "allowed"
	planObtainable = "obtainable"
	planPartial    = "partial"
	planDenied     = "denied"
)

func planProto(plan *engine.Plan) *authzdv1.PlanResponse {
	out := &authzdv1.PlanResponse{Status: planStatus(plan), Optimal: plan.Optimal, Policy: policyProto(plan.Policy)}
	for i := range plan.Remedies {
		out.Hints = append(out.Hints, hintProto(&plan.Remedies[i]))
	}
	for i := range plan.Calls {
		c := &plan.Calls[i]
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

func planStatus(plan *engine.Plan) string {
	has := func(o engine.PlanOutcome) bool {
		return slices.ContainsFunc(plan.Calls, func(c engine.PlannedCall) bool { return c.Outcome == o })
	}
	helped, lost := has(engine.PlanObtainable), has(engine.PlanDenied) || has(engine.PlanSeparate)
	switch {
	case !helped && !lost:
		return planAllowed
	case !lost:
		return planObtainable
	case helped:
		return planPartial
	default:
		return planDenied
	}
}
