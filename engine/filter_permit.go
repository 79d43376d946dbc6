package engine

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/engine/internal/weaken"
	"github.com/authzd/authzd/rar"
)

// addPermit reads a permit of the weaker policy. What depends on arguments in it
// is as good as the best that it could be.
func (h *holding) addPermit(document string, name, value ast.Value, types *rar.Types) bool {
	p := permit{priority: defaultPriority}
	if text, ok := name.(ast.String); ok {
		p.name = string(text)
	} else if !weaken.HasUnknown(name) {
		return false // no decision has it either
	}
	switch {
	case document == plainAllow:
		yes, ok := value.(ast.Boolean)
		if ok && !bool(yes) {
			return true
		}
		if !ok && !weaken.HasUnknown(value) {
			return false
		}
	case !p.readUnsure(value, types):
		return false
	}
	h.permits = append(h.permits, p)
	return true
}

// readUnsure reads the value of a permit, in which parts may be unknown. It is
// false for what no decision would take for a permit.
func (p *permit) readUnsure(value ast.Value, types *rar.Types) bool {
	if _, unknown := value.(ast.Set); unknown {
		return true
	}
	o, ok := value.(ast.Object)
	if !ok {
		return false
	}
	sound := true
	o.Foreach(func(k, v *ast.Term) {
		member, ok := k.Value.(ast.String)
		if !ok {
			sound = false
			return
		}
		if member == "require" {
			sound = p.readUnsureRequirements(v.Value, types) && sound
			return
		}
		if weaken.HasUnknown(v.Value) {
			return // neither a priority nor obligations make a permit hold less
		}
		known, err := jsonValue(v.Value, 0)
		if err != nil {
			sound = false
			return
		}
		one, shape := readPermit("permit", rar.ObjectValue(rar.Member{Name: string(member), Value: known}), types)
		if shape != nil {
			sound = false
			return
		}
		if member == "priority" {
			p.priority = one.priority
		}
		p.obligations = append(p.obligations, one.obligations...)
	})
	return sound
}

func (p *permit) readUnsureRequirements(v ast.Value, types *rar.Types) bool {
	if _, unknown := v.(ast.Set); unknown {
		return true // there may be none
	}
	list, ok := v.(*ast.Array)
	if !ok {
		return false
	}
	for i := range list.Len() {
		e := list.Elem(i).Value
		if weaken.HasUnknown(e) {
			p.requirements = append(p.requirements, unsureRequirement(e, types))
			continue
		}
		known, err := jsonValue(e, 0)
		if err != nil {
			return false
		}
		r, shape := readRequirement("require", known, types)
		if shape != nil {
			return false
		}
		p.requirements = append(p.requirements, r)
	}
	return list.Len() > 0
}

// unsure is a requirement of which a part depends on arguments. It says no only
// where every requirement that it could be says no.
type unsure struct {
	of Kind // empty: not even that is known
	// least is what has to be met at the least; nil: nothing that is known.
	least requirement
	// detailTypes are types of authorization_details that have to be held, all by
	// one credential.
	detailTypes []string
	singleUse   bool
}

// unsureRequirement takes from a requirement what is known.
func unsureRequirement(v ast.Value, types *rar.Types) requirement {
	o, ok := v.(ast.Object)
	if !ok {
		return &unsure{}
	}
	get := func(name string) ast.Value {
		if t := o.Get(ast.StringTerm(name)); t != nil {
			return t.Value
		}
		return nil
	}
	kind, _ := get("kind").(ast.String)
	u := &unsure{of: Kind(kind)}
	switch u.of {
	case KindScopes:
		if names := knownTexts(get("scopes")); len(names) > 0 {
			u.least = &scopes{names: names}
		}
	case KindAuthorizationDetails:
		u.readDetails(get("authorization_details"), types)
		single, _ := get("single_use").(ast.Boolean)
		u.singleUse = u.singleUse || bool(single)
	case KindAuthentication:
		u.readAuthentication(get("acr_values"), get("max_age"))
	case KindApproval:
		u.least = &approval{}
	case KindProofOfPossession:
		u.least = possession{}
	case KindToken:
		return &unsure{}
	default:
		return &unsure{}
	}
	return u
}

// knownTexts are the strings of a list that are known.
func knownTexts(v ast.Value) []string {
	list, ok := v.(*ast.Array)
	if !ok {
		return nil
	}
	var out []string
	list.Foreach(func(e *ast.Term) {
		if s, ok := e.Value.(ast.String); ok && s != "" && !slices.Contains(out, string(s)) {
			out = append(out, string(s))
		}
	})
	return out
}

func (u *unsure) readDetails(v ast.Value, types *rar.Types) {
	list, ok := v.(*ast.Array)
	if !ok {
		return
	}
	list.Foreach(func(e *ast.Term) {
		o, ok := e.Value.(ast.Object)
		if !ok {
			return
		}
		t := o.Get(ast.StringTerm("type"))
		if t == nil {
			return
		}
		// A type that is not declared makes the permit a fault of policy, which is
		// not for this to say.
		if name, ok := t.Value.(ast.String); ok && types.Declared(string(name)) && !slices.Contains(u.detailTypes, string(name)) {
			u.detailTypes = append(u.detailTypes, string(name))
			u.singleUse = u.singleUse || types.SingleUse(string(name))
		}
	})
}

func (u *unsure) readAuthentication(values, age ast.Value) {
	a := &authentication{maxAge: -1}
	if values != nil && !weaken.HasUnknown(values) {
		a.acrValues = knownTexts(values)
	}
	if n, ok := age.(ast.Number); ok {
		if v, err := rar.NumberValue(string(n)); err == nil {
			if seconds, ok := smallInt(v, maxAuthAge); ok {
				a.maxAge = seconds
			}
		}
	}
	if len(a.acrValues) > 0 || a.maxAge >= 0 {
		u.least = a
	}
}

func (u *unsure) kind() Kind { return u.of }

func (u *unsure) meets(c *usable, at *judgement) (bool, Reason) {
	no := Reason{Code: CodeUnmet, Kind: u.of, Message: "credential " + c.ID + " cannot meet it, whatever the arguments"}
	if u.least != nil {
		if ok, reason := u.least.meets(c, at); !ok {
			return false, reason
		}
	}
	if u.singleUse { // no store records its use, so nothing meets it
		no.Code = CodeUseNotRecorded
		return false, no
	}
	for _, name := range u.detailTypes {
		if !slices.ContainsFunc(c.details, func(d rar.Value) bool { typ, _ := d.Get("type"); return typ.Text() == name }) {
			return false, no
		}
	}
	return true, Reason{}
}

func (u *unsure) remedy() Remedy { return Remedy{Kind: u.of, MaxAge: -1} }
