package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/authzd/authzd/rar"
)

// maxCombinations bounds how many choices of alternatives are compared with
// each other.
const maxCombinations = 256

// ask is what one token has to hold for a choice of permits.
type ask struct {
	scopes   []string
	details  []rar.Value
	auth     *authentication
	proof    bool
	priority int
	optimal  bool
}

// Plan finds the smallest credential that serves the calls added so far:
//
//   - the easiest kinds first (scopes, authorization_details, a sign-in, a proof
//     of possession), then the fewest authorization_details, then the fewest
//     scopes, then the priorities of the permits;
//   - it holds what calls need that the present credentials allow already,
//     because the next token comes alone;
//   - details are put together by [rar.Types.Condense], which never asks for a
//     right that no call needs.
//
// Up to 256 combinations of alternative permits are all compared. Above, one call
// after the other takes the alternative that adds least, and then each call is
// looked at once more; Optimal is false. Every call reported as obtainable has
// been checked against a credential that holds just this.
func (p *Planner) Plan(ctx context.Context) (Plan, error) {
	plan := Plan{Optimal: true, Policy: p.snapshot.policy}
	var open []int // calls that a token can serve
	need := false
	for i := range p.calls {
		if len(p.calls[i].options) > 0 {
			open = append(open, i)
			need = need || p.calls[i].call.Outcome != PlanAllowed
		}
	}
	if need {
		chosen, best, err := p.choose(ctx, open)
		if err != nil {
			return Plan{}, err
		}
		plan.Optimal = best.optimal
		if p.settle(open, chosen, best) {
			plan.Remedies = p.remedies(best)
			p.setApart()
		}
	}
	for i := range p.calls {
		plan.Calls = append(plan.Calls, p.calls[i].call)
	}
	return plan, nil
}

// setApart marks calls that are allowed with the credentials at hand and would
// not be with the one of the plan, because what they need may not be told.
func (p *Planner) setApart() {
	for i := range p.calls {
		if c := &p.calls[i]; c.call.Outcome == PlanAllowed && len(c.options) == 0 {
			c.call.Outcome = PlanSeparate
		}
	}
}

// choose picks an option for each open call; -1 leaves the call out.
func (p *Planner) choose(ctx context.Context, open []int) ([]int, *ask, error) {
	combinations := 1
	for _, i := range open {
		combinations = min(combinations*len(p.calls[i].options), maxCombinations+1)
	}
	if combinations > maxCombinations {
		return p.stepwise(ctx, open)
	}
	var best *ask
	var chosen []int
	at := make([]int, len(open))
	for range combinations {
		if err := contextError(ctx); err != nil {
			return nil, nil, err
		}
		if a := p.total(open, at); a != nil && (best == nil || a.compare(best) < 0) {
			best, chosen = a, slices.Clone(at)
		}
		for k := range at { // the next combination
			if at[k]++; at[k] < len(p.calls[open[k]].options) {
				break
			}
			at[k] = 0
		}
	}
	if best == nil {
		// No combination serves all calls: as many as go together, in order.
		return p.stepwise(ctx, open)
	}
	return chosen, best, nil
}

// stepwise lets each call in turn take what adds least, and then again.
func (p *Planner) stepwise(ctx context.Context, open []int) ([]int, *ask, error) {
	chosen := slices.Repeat([]int{-1}, len(open))
	best := p.total(open, chosen)
	for range 2 {
		for k, i := range open {
			if err := contextError(ctx); err != nil {
				return nil, nil, err
			}
			var least *ask
			pick := -1
			for o := range p.calls[i].options {
				chosen[k] = o
				if a := p.total(open, chosen); a != nil && (least == nil || a.compare(least) < 0) {
					least, pick = a, o
				}
			}
			chosen[k] = pick
			if least != nil {
				best = least
			}
		}
	}
	best.optimal = false
	return chosen, best, nil
}

// total adds the chosen options up; nil if no token could hold them all.
func (p *Planner) total(open, chosen []int) *ask {
	a := &ask{optimal: true}
	var key strings.Builder // of the details, for the memory
	for k, i := range open {
		if chosen[k] < 0 {
			continue
		}
		o := &p.calls[i].options[chosen[k]]
		a.scopes = union(a.scopes, o.scopes)
		a.proof = a.proof || o.proof
		a.priority += o.permit.priority
		if len(o.details) > 0 {
			a.details = append(a.details, o.details...)
			fmt.Fprintf(&key, "%d.%d ", i, chosen[k])
		}
		if o.auth != nil {
			var ok bool
			if a.auth, ok = o.auth.and(a.auth); !ok {
				return nil
			}
		}
	}
	if len(a.details) > 0 {
		few := p.condense(key.String(), a.details)
		if a.details, a.optimal = few.details, few.optimal; !fits(a.details) {
			return nil
		}
	}
	return a
}

// condense puts details together, each combination of options once.
func (p *Planner) condense(key string, details []rar.Value) condensed {
	if c, ok := p.condensed[key]; ok {
		return c
	}
	c := condensed{details: details}
	// Required objects are valid, or policy would have been at fault. Too many of
	// them are left as they are, and no token holds them.
	if few, optimal, err := p.snapshot.types.Condense(details, &p.budget); err == nil {
		c = condensed{details: few, optimal: optimal}
	}
	p.condensed[key] = c
	return c
}

// fits reports whether the details of one token may be these: beyond the bounds
// its whole claim would not be read (rar.Limits).
func fits(details []rar.Value) bool {
	return len(details) <= rar.DefaultMaxObjects && len(rar.ArrayValue(details...).AppendJSON(nil)) <= rar.DefaultMaxBytes
}

// compare orders by what is easiest to obtain.
func (a *ask) compare(b *ask) int {
	return cmp.Or(
		cmp.Compare(a.hardest(), b.hardest()),
		cmp.Compare(len(a.details), len(b.details)),
		cmp.Compare(len(a.scopes), len(b.scopes)),
		cmp.Compare(a.priority, b.priority),
	)
}

func (a *ask) hardest() int {
	switch {
	case a.proof:
		return kindOrder(KindProofOfPossession)
	case a.auth != nil:
		return kindOrder(KindAuthentication)
	case len(a.details) > 0:
		return kindOrder(KindAuthorizationDetails)
	case len(a.scopes) > 0:
		return kindOrder(KindScopes)
	}
	return -1
}

// settle checks each chosen permit against a credential that holds what is
// asked for and nothing else, read as a token's claim is read, and reports
// whether it would serve any call.
func (p *Planner) settle(open, chosen []int, a *ask) bool {
	now := p.engine.opts.Now()
	u := a.credential(now)
	u.details, u.skipped = p.snapshot.types.Granted(rar.ArrayValue(a.details...))
	serves := false
	at := judgement{types: p.snapshot.types, now: now}
	for k, i := range open {
		c := &p.calls[i].call
		if chosen[k] < 0 {
			c.Outcome = PlanSeparate
			continue
		}
		permit := p.calls[i].options[chosen[k]].permit
		if !meetsAll(permit.requirements, u, &at) {
			continue // denied stays denied; an allow now stays one
		}
		serves = true
		if c.Outcome != PlanAllowed {
			c.Outcome, c.Rule = PlanObtainable, permit.name
		}
	}
	return serves
}

// credential is one that was granted exactly what is asked for.
func (a *ask) credential(now time.Time) *usable {
	c := &Credential{Scopes: a.scopes}
	if a.auth != nil {
		if len(a.auth.acrValues) > 0 {
			c.ACR = a.auth.acrValues[0]
		}
		c.AuthTime = now
	}
	if a.proof {
		c.BoundBy = "dpop"
	}
	return &usable{Credential: c}
}

// remedies puts the ask in the words of a denial.
func (p *Planner) remedies(a *ask) []Remedy {
	var out []Remedy
	if len(a.scopes) > 0 {
		r := (&scopes{names: a.scopes}).remedy()
		for _, u := range p.held {
			ok, _ := (&scopes{names: a.scopes}).meets(u, nil)
			r.Held = r.Held || ok
		}
		out = append(out, r)
	}
	if len(a.details) > 0 {
		r := Remedy{Kind: KindAuthorizationDetails, Details: a.details, MaxAge: -1}
		p.engine.refer(&r, p.snapshot.types, p.server)
		out = append(out, r)
	}
	if a.auth != nil {
		out = append(out, a.auth.remedy())
	}
	if a.proof {
		out = append(out, possession{}.remedy())
	}
	return out
}
