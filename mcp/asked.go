package mcp

import (
	"context"

	"github.com/authzd/authzd/rar"
)

// Asked is what a declared mapping asks for one message.
type Asked struct {
	// Batch: the envelope is evaluations, so Body goes to the Access Evaluations
	// API. Every evaluation has to permit, by whichever API.
	Batch   bool
	Subject Entity
	// SubjectVerified: Subject.ID is the subject-identity claim of the token.
	// Everything else of a declared mapping is its author's word.
	SubjectVerified bool
	// Evaluations are the decisions asked for, defaults applied; at least one.
	Evaluations []Evaluation
	// Warnings of this evaluation.
	Warnings []MappingWarning
	// Body is the AuthZEN request.
	Body rar.Value
}

// Entity is AuthZEN's subject or resource.
type Entity struct {
	Type, ID string
	// Properties is an object, or absent.
	Properties rar.Value
}

// Evaluation is one decision asked for.
type Evaluation struct {
	Action           string
	ActionProperties rar.Value
	Resource         Entity
	// Context is an object, or absent.
	Context rar.Value
}

// MappingOptions say what the message does not say of itself.
type MappingOptions struct {
	// Token holds the claims of the validated token.
	Token rar.Value
	// SubjectClaim is the claim that names the person. Empty: sub.
	SubjectClaim string
	// SubjectID is that person, where it was settled otherwise than by a claim's
	// name. Empty: by SubjectClaim.
	SubjectID string
	// Strict makes a subject.id that is not the claim an error; else it is a
	// warning. For enforcement points that do not trust the mapping's author.
	Strict bool
}

// Evaluate resolves the mapping for the params of a tools/call, Absent if it has
// none. Each expression sees params and token and nothing else; numbers are
// doubles. What an expression may cost is bounded, but not to the millisecond:
// ctx bounds that.
//
// It refuses with an *Error whose Path is a pointer into the mapping:
// CodeMappingSubject with Strict, else CodeMapping. Its text names expressions,
// never values.
func (m *Mapping) Evaluate(ctx context.Context, params rar.Value, o MappingOptions) (Asked, error) {
	switch params.Kind() {
	case rar.Absent:
		params = object()
	case rar.Object:
	case rar.Null, rar.Bool, rar.Number, rar.String, rar.Array:
		return Asked{}, fail(CodeMapping, "", "params are not an object")
	}
	if o.Token.Kind() != rar.Object {
		return Asked{}, fail(CodeMapping, "", "there is no validated token")
	}
	claim, err := o.subject()
	if err != nil {
		return Asked{}, err
	}
	nodes := 0
	e := &evaluating{variables: map[string]any{"params": native(params, &nodes), "token": native(o.Token, &nodes)}, claim: claim}
	if nodes > maxInputNodes {
		return Asked{}, fail(CodeMapping, "", "params and token hold too many values")
	}
	subject, err := m.subject(ctx, e)
	if err != nil {
		return Asked{}, err
	}
	a := Asked{Batch: m.batch, Subject: entity(subject)}
	a.SubjectVerified = a.Subject.ID == claim
	if !a.SubjectVerified {
		path := m.defaults.subject.path + "/id"
		if o.Strict {
			return Asked{}, fail(CodeMappingSubject, path, "the subject is not the one that the token names")
		}
		a.Warnings = []MappingWarning{{Kind: WarnUnverifiedSubject, Path: path}}
	}
	body := []rar.Member{member("subject", subject)}
	defaults, more, err := m.defaults.resolve(ctx, e)
	if err != nil {
		return Asked{}, err
	}
	body = append(body, more...)
	if !m.batch {
		a.Evaluations, a.Body = []Evaluation{defaults.evaluation()}, object(body...)
		return a, nil
	}
	entries := make([]rar.Value, len(m.entries))
	for i := range m.entries {
		own, members, err := m.entries[i].resolve(ctx, e)
		if err != nil {
			return Asked{}, err
		}
		a.Evaluations = append(a.Evaluations, own.over(defaults).evaluation())
		entries[i] = object(members...)
	}
	a.Body = object(append(body, member("evaluations", rar.ArrayValue(entries...)))...)
	return a, nil
}

// subject gives the value of the subject-identity claim.
func (o *MappingOptions) subject() (string, error) {
	if o.SubjectID != "" {
		return o.SubjectID, nil
	}
	claim := o.SubjectClaim
	if claim == "" {
		claim = "sub"
	}
	return identifier(o.Token, claim, "", "the token's subject claim")
}

// subject resolves the subject and supplies what the mapping leaves out. An
// expression that yields nothing has not left it out.
func (m *Mapping) subject(ctx context.Context, e *evaluating) (rar.Value, error) {
	given := object()
	if n := m.defaults.subject; n != nil {
		var err error
		if given, err = n.resolve(ctx, e); err != nil {
			return rar.Value{}, err
		}
		if err := subjectShape().check(given, n.path); err != nil {
			return rar.Value{}, err
		}
		if _, has := given.Get("id"); !has && n.child("id") != nil {
			return rar.Value{}, fail(CodeMapping, n.path+"/id", "is absent")
		}
	}
	supplied := object(member("type", str(subjectIdentity)), member("id", str(e.claim)))
	members := make([]rar.Member, 0, 3)
	for i := range supplied.Len() {
		if m := supplied.Member(i); !hasMember(given, m.Name) {
			members = append(members, m)
		}
	}
	for i := range given.Len() {
		members = append(members, given.Member(i))
	}
	return object(members...), nil
}

func hasMember(v rar.Value, name string) bool {
	_, has := v.Get(name)
	return has
}

// resolved are the members of one evaluation; Absent: left out.
type resolved struct{ action, resource, context rar.Value }

func (p *parts) resolve(ctx context.Context, e *evaluating) (resolved, []rar.Member, error) {
	var r resolved
	var members []rar.Member
	for _, m := range []struct {
		name  string
		node  *node
		shape *shape
		into  *rar.Value
	}{
		{"action", p.action, actionShape(), &r.action},
		{"resource", p.resource, resourceShape(), &r.resource},
		{"context", p.context, nil, &r.context},
	} {
		if m.node == nil {
			continue
		}
		v, err := m.node.resolve(ctx, e)
		if err != nil {
			return resolved{}, nil, err
		}
		if v.Kind() == rar.Absent && m.shape == nil {
			continue
		}
		if err := m.shape.check(v, m.node.path); err != nil {
			return resolved{}, nil, err
		}
		*m.into, members = v, append(members, member(m.name, v))
	}
	return r, members, nil
}

// over applies AuthZEN's defaults: a member replaces the default as a whole.
func (r resolved) over(defaults resolved) resolved {
	if r.action.Kind() == rar.Absent {
		r.action = defaults.action
	}
	if r.resource.Kind() == rar.Absent {
		r.resource = defaults.resource
	}
	if r.context.Kind() == rar.Absent {
		r.context = defaults.context
	}
	return r
}

func (r resolved) evaluation() Evaluation {
	out := Evaluation{Resource: entity(r.resource), Context: r.context}
	out.Action, _ = text(r.action, "name")
	out.ActionProperties, _ = r.action.Get("properties")
	return out
}

func entity(v rar.Value) Entity {
	var out Entity
	out.Type, _ = text(v, "type")
	out.ID, _ = text(v, "id")
	out.Properties, _ = v.Get("properties")
	return out
}
