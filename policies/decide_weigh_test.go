package policies_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/authzd/authzd/engine"
)

// permit is one way to be allowed, and how it fares.
type permit struct {
	name         string
	requirements []map[string]any
	obligations  []any
	priority     int

	met   []string
	unmet []map[string]any
	// stuck: nothing that a client could obtain would help.
	stuck bool
}

func permitsOf(out output) []permit {
	var all []permit
	for name, v := range object(out.permit) {
		p := permit{name: name, obligations: array(at(v, "obligations")), priority: 100}
		if n, ok := at(v, "priority").(json.Number); ok {
			p.priority = int(rational(n).Num().Int64())
		}
		if at(v, "require") != nil {
			p.requirements = []map[string]any{}
		}
		for _, r := range array(at(v, "require")) {
			p.requirements = append(p.requirements, object(r))
		}
		all = append(all, p)
	}
	if out.allow == true {
		all = append(all, permit{name: "allow", priority: 100})
	}
	slices.SortFunc(all, func(a, b permit) int { return strings.Compare(a.name, b.name) })
	return all
}

// weigh looks for each requirement for one credential that meets it.
func (r *reading) weigh(a *asked, w *who, p *permit) {
	p.stuck = len(p.obligations) > 0 && !a.query.CarriesObligations
	for _, need := range p.requirements {
		i := slices.IndexFunc(w.usable, func(k *token) bool { return r.meets(a, need, k) })
		if i >= 0 {
			p.met = append(p.met, stringOf(need["kind"])+" by "+w.usable[i].id)
			continue
		}
		p.unmet = append(p.unmet, need)
		// Covered, and not to be used up here (ADR 0007, 4); and what nobody can approve here.
		p.stuck = p.stuck || slices.ContainsFunc(w.usable, func(k *token) bool {
			return need["kind"] == "approval" || need["kind"] == "authorization_details" && r.covered(a, need, k.details)
		})
	}
}

func (r *reading) meets(a *asked, need map[string]any, k *token) bool {
	switch need["kind"] {
	case "scopes":
		return !slices.ContainsFunc(strs(need["scopes"]), func(s string) bool { return !slices.Contains(k.scopes, s) })
	case "authorization_details":
		return !r.usedUp(need) && r.covered(a, need, k.details)
	case "authentication":
		if acr := strs(need["acr_values"]); acr != nil && !slices.Contains(acr, k.acr) {
			return false
		}
		limit, ok := need["max_age"].(json.Number)
		if !ok {
			return true
		}
		age := time.Duration(rational(limit).Num().Int64()) * time.Second
		return !k.auth.IsZero() && !k.auth.Add(age).Before(a.now) && !k.auth.After(a.now.Add(skew))
	case "proof_of_possession":
		return k.bound != ""
	}
	return false
}

// usedUp: authority for one call, which nothing records here.
func (r *reading) usedUp(need map[string]any) bool {
	return need["single_use"] == true || slices.ContainsFunc(array(need["authorization_details"]), func(d any) bool {
		return r.types[stringOf(at(d, "type"))].singleUse
	})
}

// covered: each needed object by one granted one.
func (r *reading) covered(a *asked, need map[string]any, granted []map[string]any) bool {
	for _, n := range r.located(a, need) {
		d := r.types[stringOf(at(n, "type"))]
		if !slices.ContainsFunc(granted, func(g map[string]any) bool { return d.covers(g, object(n)) }) {
			return false
		}
	}
	return true
}

// located names the server where a need leaves it open and a grant may (ADR
// 0010, 5).
func (r *reading) located(a *asked, need map[string]any) []any {
	list := object(cloned(need))["authorization_details"]
	for _, n := range array(list) {
		d := r.types[stringOf(at(n, "type"))]
		rule := d.rules["/locations"]
		if _, has := object(n)["locations"]; !has && rule.name == "subset" && rule.absentAny && serverOf(a) != "" {
			object(n)["locations"] = []any{serverOf(a)}
		}
	}
	return array(list)
}

// bestOf is the permit that allows: lowest priority, fewest obligations, name.
func bestOf(permits []permit) *permit {
	var best *permit
	for i := range permits {
		p := &permits[i]
		if p.stuck || len(p.unmet) > 0 {
			continue
		}
		if best == nil || cmp.Or(cmp.Compare(p.priority, best.priority), cmp.Compare(len(p.obligations), len(best.obligations))) < 0 {
			best = p
		}
	}
	return best
}

func hardness(need map[string]any) int {
	return slices.Index([]string{"scopes", "authorization_details", "authentication", "proof_of_possession", "approval"}, stringOf(need["kind"]))
}

// hardest is that of what is unmet. What only a door that carries obligations
// would help comes last.
func (p *permit) hardest() int {
	if len(p.unmet) == 0 {
		return 100
	}
	return hardness(slices.MaxFunc(p.unmet, func(a, b map[string]any) int { return hardness(a) - hardness(b) }))
}

// remedy offers the unmet permit that is easiest to meet and that this client can
// act on.
func (r *reading) remedy(a *asked, w *who, permits []permit) verdict {
	slices.SortStableFunc(permits, func(p, q permit) int {
		return cmp.Or(cmp.Compare(p.priority, q.priority), cmp.Compare(p.hardest(), q.hardest()), cmp.Compare(len(p.unmet), len(q.unmet)))
	})
	for i := range permits {
		p := &permits[i]
		if !p.stuck && p.actionable(a, w) {
			v := denied(engine.Available)
			if r.loops(a, w, p) {
				v.Status = "undisclosed"
			}
			v.Rule, v.Remedies = p.name, r.remedies(a, w, p)
			return v
		}
	}
	p := &permits[0]
	v := denied(engine.Undisclosed)
	v.Rule, v.Remedies = p.name, r.remedies(a, w, p)
	v.InWords = !p.stuck && p.hardest() < 4 && !r.loops(a, w, p)
	return v
}

func (p *permit) actionable(a *asked, w *who) bool {
	can := a.query.Actionable
	if len(w.usable) == 0 {
		return can.Has(engine.KindToken) || can.Has(engine.KindScopes) // a challenge can be sent
	}
	return !slices.ContainsFunc(p.unmet, func(n map[string]any) bool {
		return n["kind"] == "approval" || !can.Has(engine.Kind(stringOf(n["kind"])))
	})
}

// loops tells whether a credential that was rejected, or a granted object that
// was skipped, would have covered the need. A credential of somebody else, or one
// that can not be read, does not count: another one can be obtained.
func (r *reading) loops(a *asked, w *who, p *permit) bool {
	for _, k := range w.rejected {
		if slices.Contains([]string{"token.subject", "token.claims", "token.issuer", "token.actors"}, k.code) {
			continue
		}
		if !slices.ContainsFunc(p.unmet, func(n map[string]any) bool { return !r.meets(a, n, k) }) {
			return true
		}
	}
	for _, k := range w.usable {
		whole := slices.Clone(k.details)
		for _, s := range k.skipped {
			whole = append(whole, object(s))
			// A server that added what the type does not have will add it again.
			if d := r.types[stringOf(at(s, "type"))]; d != nil {
				if part := d.declaredPart(object(s)); part != nil {
					whole = append(whole, part)
				}
			}
		}
		for _, n := range p.unmet {
			if len(k.skipped) > 0 && n["kind"] == "authorization_details" && !r.usedUp(n) && r.covered(a, n, whole) {
				return true
			}
		}
	}
	return false
}

// remedies: what is unmet, and the scopes beside it (ADR 0007, 1 and 2).
func (r *reading) remedies(a *asked, w *who, p *permit) []string {
	if len(p.unmet) == 0 {
		return nil
	}
	unmet := map[any]bool{}
	for _, n := range p.unmet {
		unmet[n["kind"]] = true
	}
	var scopes []string
	var details []any
	var out, kinds []string
	once := false
	for _, n := range p.requirements {
		kind := stringOf(n["kind"])
		if !unmet[kind] && kind != "scopes" {
			continue
		}
		if !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
		switch kind {
		case "scopes":
			for _, s := range strs(n["scopes"]) {
				if !slices.Contains(scopes, s) {
					scopes = append(scopes, s)
				}
			}
		case "authorization_details":
			once = once || r.usedUp(n)
			before := slices.Clone(details)
			for _, d := range r.located(a, n) {
				if !slices.ContainsFunc(before, func(o any) bool { return same(o, d) }) {
					details = append(details, d)
				}
			}
		case "authentication":
			out = append(out, fmt.Sprintf("authentication %v %v", strs(n["acr_values"]), n["max_age"]))
		default:
			out = append(out, kind)
		}
	}
	if len(w.usable) == 0 {
		return []string{tokenRemedy(false, scopes)}
	}
	if scopes != nil {
		out = append(out, fmt.Sprintf("scopes %v held %v", scopes, !unmet["scopes"]))
	}
	if details != nil {
		out = append(out, fmt.Sprintf("authorization_details %s single use %v", canon(details), once))
	}
	slices.Sort(out)
	return out
}

func tokenRemedy(presented bool, scopes []string) string {
	return fmt.Sprintf("token %v presented %v", scopes, presented)
}

func texts(list []any) []string {
	var out []string
	for _, v := range list {
		out = append(out, canon(v))
	}
	return out
}
