package engine

import (
	"context"

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
	// PlanSeparate: a credential is or would be enough, but not the one that the
	// plan asks for: demands on the sign-in exclude each other, one token would
	// have to hold too much, or what the call needs may not be told and the
	// credential at hand has it.
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
	// budget bounds putting details together over the whole plan, condensed
	// remembers what was put together already.
	budget    int
	condensed map[string]condensed
}

// condensed is a result of [rar.Types.Condense].
type condensed struct {
	details []rar.Value
	optimal bool
}

// planBudget is the work of a few comparisons of the greatest allowed size.
const planBudget = 16 << 20

// NewPlanner starts a plan on s, which may not be nil.
func (e *Engine) NewPlanner(s *Snapshot) *Planner {
	return &Planner{engine: e, snapshot: s, budget: planBudget, condensed: map[string]condensed{}}
}

// prospect is one planned call with the permits that a credential could meet.
type prospect struct {
	call    PlannedCall
	options []option
}

// option is what one permit demands of a token.
type option struct {
	permit *permit
	// scopes, details, auth and proof are what its requirements add up to.
	scopes  []string
	details []rar.Value
	auth    *authentication
	proof   bool
}

// Add decides one planned call. Calls come in the order in which they will be
// made; all are of one MCP server, because one token is for one. An error is
// Decide's, and then the plan is not to be used.
func (p *Planner) Add(ctx context.Context, q *Query) error {
	d, err := p.engine.begin(ctx, p.snapshot, q)
	if err != nil {
		return err
	}
	if d.mapping {
		return errorf(CodeInvalidValue, "/mcp/tool/inputSchema", "a call of a tool that declares a mapping can not be planned")
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

// prospects finds what could allow the call. It tells no more than the call's
// denial would: where that is undisclosed, there is nothing to plan.
func (d *deciding) prospects(permits []permit) prospect {
	c := prospect{}
	if d.decision.Allow {
		c.call.Outcome, c.call.Rule = PlanAllowed, d.decision.Rule
	} else if d.decision.Remediation == nil || d.decision.Remediation.Status != Available {
		return c
	}
	at := judgement{types: d.snapshot.types, now: d.in.now, commit: d.in.query.Commit}
	// Findings about what is not offered belong to the decision, not to this.
	aside := d.decision.Reasons
	defer func() { d.decision.Reasons = aside }()
	for i := range permits {
		o, ok := optionOf(&permits[i])
		if !ok || len(o.permit.obligations) > 0 && !d.in.query.CarriesObligations {
			continue
		}
		w := d.weighOne(o.permit, &at)
		// Of a call that is allowed, the plan only repeats what it has now.
		if d.decision.Allow && len(w.unmet) > 0 {
			continue
		}
		if d.sendable(&weighed{permit: o.permit, unmet: o.permit.requirements}) && (len(w.unmet) == 0 || !d.wouldLoop(&w, &at)) {
			c.options = append(c.options, o)
		}
	}
	return c
}

// optionOf adds up what a permit requires; false where no token that may be kept
// and used again meets it: approvals, single use (which no server can record
// yet), and demands on the sign-in that exclude each other.
func optionOf(p *permit) (option, bool) {
	o := option{permit: p}
	for _, r := range p.requirements {
		switch r := r.(type) {
		case *scopes:
			o.scopes = union(o.scopes, r.names)
		case *details:
			if r.singleUse {
				return o, false
			}
			o.details = append(o.details, r.required...)
		case *authentication:
			both, ok := r.and(o.auth)
			if !ok {
				return o, false
			}
			o.auth = both
		case possession:
			o.proof = true
		default:
			return o, false
		}
	}
	return o, true
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
