package engine

import "slices"

// ToolNeeds is what a call needs, whether it is held already or not, as far as
// that does not depend on arguments.
type ToolNeeds struct {
	Scopes []string
	// DetailTypes are types of authorization_details.
	DetailTypes []string
	ACRValues   []string
	// MaxAge is the greatest age of the sign-in in seconds, -1: any.
	MaxAge            int64
	ProofOfPossession bool
	Approval          bool
	// Token: a usable access token.
	Token bool
}

// needs tells what p requires; nil if nothing is known. It tells no more than a
// denial would: scopes and acr_values are the vocabulary of the authorization
// server, and types are named where the hint may be shown.
func (d *deciding) needs(p *permit) *ToolNeeds {
	n := &ToolNeeds{MaxAge: -1, Token: len(d.in.usable) == 0 && len(p.requirements) > 0}
	for _, r := range p.requirements {
		least := r
		if u, ok := r.(*unsure); ok {
			n.DetailTypes = union(n.DetailTypes, u.detailTypes)
			least = u.least
		}
		switch r := least.(type) {
		case *scopes:
			n.Scopes = union(n.Scopes, r.names)
		case *details:
			if d.hidden(r) == "" {
				n.addTypes(r)
			}
		case *authentication:
			n.addAuthentication(r)
		case possession:
			n.ProofOfPossession = true
		case *approval:
			n.Approval = true
		}
	}
	switch {
	case n.empty():
		return nil
	case n.Token: // what a first token is to hold beside scopes, no denial tells
		return &ToolNeeds{Scopes: n.Scopes, MaxAge: -1, Token: true}
	}
	return n
}

func (n *ToolNeeds) addTypes(r *details) {
	for _, v := range r.required {
		if typ, _ := v.Get("type"); !slices.Contains(n.DetailTypes, typ.Text()) {
			n.DetailTypes = append(n.DetailTypes, typ.Text())
		}
	}
}

// addAuthentication joins demands on the sign-in. Where they exclude each other
// the first of them stays.
func (n *ToolNeeds) addAuthentication(a *authentication) {
	both, ok := a.and(&authentication{acrValues: n.ACRValues, maxAge: n.MaxAge})
	if ok {
		n.ACRValues, n.MaxAge = both.acrValues, both.maxAge
	}
}

func (n *ToolNeeds) empty() bool {
	return len(n.Scopes)+len(n.DetailTypes)+len(n.ACRValues) == 0 && n.MaxAge < 0 && !n.ProofOfPossession && !n.Approval && !n.Token
}
