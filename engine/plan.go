package engine

import (
	"context"
	"slices"

	"github.com/authzd/authzd/rar"
)

// PlanOutcome says how one planned call would end. The zero value is a deny.
type PlanOutcome string

// The outcomes of a planned call.
const (
	// PlanAllowed: the credentials at hand are enough.
	PlanAllowed PlanOutcome = "allowed"
	// PlanObtainable: the one credential that the plan asks for would be enough.
	PlanObtainable PlanOutcome = "obtainable"
	// PlanSeparate: a credential would be enough, but not the one that serves the
	// other calls: their demands on the sign-in exclude each other.
	PlanSeparate PlanOutcome = "separate"
	// PlanDenied: no credential helps, or none that may be told.
	PlanDenied PlanOutcome = "denied"
)

// PlannedCall is one call of a plan.
type PlannedCall struct {
	Outcome PlanOutcome
	// Rule is the permit that would allow; empty with PlanDenied.
	Rule string
	// Decision is the answer to the call as things are now.
	Decision Decision
}

// Plan says what one access token has to hold so that every planned call that
// can be allowed is allowed with that token alone.
type Plan struct {
	Calls []PlannedCall
	// Remedies are needed together; none if the credentials at hand are enough,
	// or if no call can be helped.
	Remedies []Remedy
	// Optimal: nothing smaller would do. Otherwise there were too many
	// alternatives to try them all (see [Planner.Plan]).
	Optimal bool
	Policy  PolicyRef
}

// Planner collects the calls of one plan. It belongs to one goroutine.
type Planner struct {
	engine   *Engine
	snapshot *Snapshot
	server   string
	calls    []prospect
	held     []*usable
}

// NewPlanner starts a plan on s, which may not be nil.
func (e *Engine) NewPlanner(s *Snapshot) *Planner { return &Planner{engine: e, snapshot: s} }

// prospect is one planned call with the permits that a credential could meet.
type prospect struct {
	call    PlannedCall
	options []option
}

// option is what one permit demands of a token.
type option struct {
	permit *permit
	// scopes, details and single are what its requirements add up to. Details
	// can be shared by calls; each of single is good for one use.
	scopes          []string
	details, single []rar.Value
	auth            *authentication
	proof           bool
}

// Add decides one planned call. Calls come in the order in which they will be
// made; all are of one MCP server, because one token is for one. An error is
// Decide's, and then the plan is not to be used.
func (p *Planner) Add(ctx context.Context, q *Query) error {
	d, err := p.engine.begin(ctx, p.snapshot, q)
	if err != nil {
		return err
	}
	if len(p.calls) > 0 && q.audience() != p.server {
		return errorf(CodeInvalidValue, "/mcp/server", "the planned calls are of two MCP servers, and an access token is for one")
	}
	p.server = q.audience()
	out, err := d.evaluate(ctx)
	if err != nil {
		return err
	}
	c := prospect{}
	if out != nil {
		if permits, forbids, ok := d.read(out); ok {
			d.weigh(permits, forbids)
			if len(forbids) == 0 {
				c = d.prospects(permits)
			}
		}
	}
	if len(p.calls) == 0 {
		p.held = d.in.usable
	}
	c.call.Decision = d.decision
	if c.call.Outcome == "" {
		c.call.Outcome = PlanDenied
	}
	p.calls = append(p.calls, c)
	return nil
}

// prospects finds what could allow the call. Single use is judged as if
// committed: a plan consumes nothing.
func (d *deciding) prospects(permits []permit) prospect {
	c := prospect{}
	at := judgement{types: d.snapshot.types, now: d.in.now, planning: true}
	// Findings about what is not offered belong to the decision, not to this.
	aside := d.decision.Reasons
	defer func() { d.decision.Reasons = aside }()
	var best *permit
	for i := range permits {
		w := d.weighOne(&permits[i], &at)
		if w.stuck || !obtainable(w.permit) || !d.sendable(&weighed{permit: w.permit, unmet: w.permit.requirements}) {
			continue
		}
		switch {
		case len(w.unmet) > 0 && d.wouldLoop(&w, &at):
			continue
		case len(w.unmet) == 0 && (best == nil || w.better(&weighed{permit: best})):
			best = w.permit
		}
		c.options = append(c.options, optionOf(w.permit))
	}
	switch {
	case d.decision.Allow:
		c.call.Outcome, c.call.Rule = PlanAllowed, d.decision.Rule
	case best != nil:
		c.call.Outcome, c.call.Rule = PlanAllowed, best.name
	}
	return c
}

// obtainable tells whether an access token can meet all that p requires.
func obtainable(p *permit) bool {
	return !slices.ContainsFunc(p.requirements, func(r requirement) bool { return r.kind() == KindApproval })
}

func optionOf(p *permit) option {
	o := option{permit: p}
	for _, r := range p.requirements {
		switch r := r.(type) {
		case *scopes:
			o.scopes = union(o.scopes, r.names)
		case *details:
			o.addDetails(r)
		case *authentication:
			both, ok := r.and(o.auth)
			if !ok {
				both = r // no token meets both; the check of the plan finds it
			}
			o.auth = both
		case possession:
			o.proof = true
		}
	}
	return o
}

func (o *option) addDetails(r *details) {
	for _, v := range r.required {
		name, _ := v.Get("type")
		if r.matchEach || r.types.SingleUse(name.Text()) {
			o.single = append(o.single, v)
		} else {
			o.details = append(o.details, v)
		}
	}
}

// and is what satisfies both demands on the sign-in; b may be nil. It is false
// where no acr does.
func (a *authentication) and(b *authentication) (*authentication, bool) {
	if b == nil {
		return a, true
	}
	both := &authentication{acrValues: b.acrValues, maxAge: b.maxAge}
	if both.maxAge < 0 || a.maxAge >= 0 && a.maxAge < both.maxAge {
		both.maxAge = a.maxAge
	}
	switch {
	case both.acrValues == nil:
		both.acrValues = a.acrValues
	case a.acrValues != nil:
		both.acrValues = nil
		for _, v := range b.acrValues {
			if contains(a.acrValues, v) {
				both.acrValues = append(both.acrValues, v)
			}
		}
		return both, len(both.acrValues) > 0
	}
	return both, true
}
