package engine

import (
	"sort"

	"github.com/authzd/authzd/rar"
)

// remedy ranks the unmet permits and offers the first that this client can act
// on (contract, step 8).
func (d *deciding) remedy(all []weighed, at *judgement) {
	for i := range all {
		d.decision.Reasons = append(d.decision.Reasons, all[i].reasons...)
	}
	ranked := rank(all)
	for _, w := range ranked {
		if !d.actionable(w) {
			continue
		}
		d.decision.Rule, d.decision.Require = w.permit.name, w.permit.require
		status := Available
		if !d.sendable(w) || d.wouldLoop(w, at) {
			status = Undisclosed
		}
		d.deny(status, d.remedies(w))
		return
	}
	best := ranked[0]
	d.decision.Rule, d.decision.Require = best.permit.name, best.permit.require
	d.deny(Undisclosed, d.remedies(best))
	d.decision.Remediation.InWords = !best.stuck && best.hardest() < kindOrder(KindApproval) && d.sendable(best) && !d.wouldLoop(best, at)
}

// rank orders permits by how easily they are met; all come sorted by name.
func rank(all []weighed) []*weighed {
	ranked := make([]*weighed, len(all))
	for i := range all {
		ranked[i] = &all[i]
	}
	sort.SliceStable(ranked, func(i, j int) bool { return ranked[i].easier(ranked[j]) })
	return ranked
}

// easier orders by priority, hardest unmet kind, number unmet; names are
// sorted already.
func (w *weighed) easier(o *weighed) bool {
	if w.permit.priority != o.permit.priority {
		return w.permit.priority < o.permit.priority
	}
	if a, b := w.hardest(), o.hardest(); a != b {
		return a < b
	}
	return len(w.unmet) < len(o.unmet)
}

func (w *weighed) hardest() int {
	h := -1
	for _, r := range w.unmet {
		h = max(h, kindOrder(r.kind()))
	}
	if h < 0 { // unmet for want of a door that carries obligations
		return unknownKind
	}
	return h
}

// actionable tells whether this client can act on every unmet requirement.
func (d *deciding) actionable(w *weighed) bool {
	if w.stuck {
		return false
	}
	can := d.in.query.Actionable
	if len(d.in.usable) == 0 {
		// Without a token the first step is to get one, which only a challenge can
		// say.
		return can.Has(KindToken) || can.Has(KindScopes)
	}
	for _, r := range w.unmet {
		if r.kind() == KindApproval || !can.Has(r.kind()) {
			return false
		}
	}
	return true
}

// remedies lists what to obtain for w, all credential kinds together. Scopes
// already held are named too, because the next token must hold everything the
// call needs (oauth-context section 6); Held marks them.
func (d *deciding) remedies(w *weighed) []Remedy {
	unmet := make(map[Kind]bool, len(w.unmet))
	for _, r := range w.unmet {
		unmet[r.kind()] = true
	}
	var out []Remedy
	for _, r := range w.permit.requirements {
		k := r.kind()
		if !unmet[k] && k != KindScopes || len(unmet) == 0 {
			continue
		}
		add := r.remedy()
		add.Held = !unmet[k]
		out = mergeRemedy(out, add)
	}
	if len(d.in.usable) == 0 {
		return []Remedy{tokenFor(out)}
	}
	for i := range out {
		d.engine.refer(&out[i], d.snapshot.types, d.in.query.audience())
	}
	return out
}

// refer adds the references by which a client finds the credential again that
// it obtained for the same details. One that is for single use has none.
func (e *Engine) refer(r *Remedy, types *rar.Types, server string) {
	keys := *e.keys.Load()
	if server == "" {
		return
	}
	refs := types.References(keys, server, r.Details, r.SingleUse)
	if len(refs) > 0 {
		r.Reference, r.PreviousReferences = refs[0], refs[1:]
	}
}

// mergeRemedy joins scopes with scopes and details with details: one token
// must hold them all.
func mergeRemedy(list []Remedy, add Remedy) []Remedy {
	for i := range list {
		have := &list[i]
		if have.Kind != add.Kind {
			continue
		}
		switch add.Kind {
		case KindScopes:
			have.Scopes = union(have.Scopes, add.Scopes)
			return list
		case KindAuthorizationDetails:
			have.Details = unionDetails(have.Details, add.Details)
			have.SingleUse = have.SingleUse || add.SingleUse
			return list
		case KindAuthentication, KindProofOfPossession, KindApproval, KindToken:
		}
	}
	return append(list, add)
}

func union(a, b []string) []string {
	out := append([]string(nil), a...)
	for _, s := range b {
		if !contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// unionDetails keeps repeated objects of one requirement (single use needs one
// grant each) and drops only what another requirement already asks for.
func unionDetails(a, b []rar.Value) []rar.Value {
	out := append([]rar.Value(nil), a...)
	for _, v := range b {
		found := false
		for _, have := range a {
			found = found || rar.Equal(have, v)
		}
		if !found {
			out = append(out, v)
		}
	}
	return out
}

// tokenFor asks for a first token with the scopes that the call needs.
func tokenFor(remedies []Remedy) Remedy {
	t := Remedy{Kind: KindToken, MaxAge: -1}
	for _, r := range remedies {
		t.Scopes = union(t.Scopes, r.Scopes)
	}
	return t
}

// sendable checks each hint before it is sent: details that would not satisfy
// their own requirement, and values that the caller may not know, are dropped
// and reported, and the deny stands.
func (d *deciding) sendable(w *weighed) bool {
	for _, r := range w.unmet {
		why := ""
		if det, ok := r.(*details); ok && !det.selfCovers() {
			why = "the required authorization_details do not satisfy their own requirement, so no hint is sent"
		} else if what := d.hidden(r); what != "" {
			why = what + " comes neither from the call nor from the text of policy, so no hint shows it; " +
				"name its data in metadata.authzd.public_data if any caller may read it"
		}
		if why != "" {
			d.decision.Reasons = append(d.decision.Reasons, Reason{Code: CodeHintDropped, Kind: r.kind(), Rule: w.permit.name, Message: why})
			return false
		}
	}
	return true
}

// wouldLoop tells whether a credential that was rejected, or a granted object
// that was skipped, covers the need: then another token of the same kind would
// be refused again, and a hint would send the client in circles.
func (d *deciding) wouldLoop(w *weighed, at *judgement) bool {
	for i := range d.in.rejected {
		c := d.in.rejected[i].would
		if c == nil {
			continue
		}
		u := &usable{Credential: c}
		if c.Details.Kind() != rar.Absent {
			u.details, _ = d.snapshot.types.Granted(c.Details)
		}
		if meetsAll(w.unmet, u, at) {
			return d.loop(w, "rejected credential "+c.ID+" ("+string(d.in.rejected[i].Code)+") would have met the need")
		}
	}
	for _, u := range d.in.usable {
		if len(u.skipped) == 0 {
			continue
		}
		whole := &usable{Credential: u.Credential, details: append([]rar.Value(nil), u.details...)}
		for _, s := range u.skipped {
			if s.Value.Kind() == rar.Object {
				whole.details = append(whole.details, s.Value)
			}
			// A server that added what the type does not have will add it again.
			if part, ok := d.snapshot.types.DeclaredPart(s.Value); ok {
				whole.details = append(whole.details, part)
			}
		}
		for _, r := range w.unmet {
			if r.kind() != KindAuthorizationDetails {
				continue
			}
			if ok, _ := r.meets(whole, at); ok {
				return d.loop(w, "a granted object of credential "+u.ID+" that was skipped would have covered the need")
			}
		}
	}
	return false
}

func meetsAll(reqs []requirement, u *usable, at *judgement) bool {
	for _, r := range reqs {
		if ok, _ := r.meets(u, at); !ok {
			return false
		}
	}
	return true
}

func (d *deciding) loop(w *weighed, why string) bool {
	d.decision.Reasons = append(d.decision.Reasons, Reason{Code: CodeHintDropped, Rule: w.permit.name, Message: why})
	return true
}
