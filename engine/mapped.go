package engine

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/authzd/authzd/rar"
)

// DeclaredMappings is a policy's answer to mappings that tools declare
// (metadata.authzd.declared_mappings). A mapping replaces action, resource and
// context, so whoever writes a tool list could lead policy away from the call:
// the zero value, and any other than the two below, refuses them.
type DeclaredMappings string

// The settings.
const (
	RefuseDeclared DeclaredMappings = "refuse"
	// VerifiedSubject: the subject stays the one that the credential names.
	VerifiedSubject DeclaredMappings = "verified_subject"
	// AnySubject: a mapping may name another, whom nobody has authenticated.
	AnySubject DeclaredMappings = "any_subject"
)

// DeclaredMappings tells how the snapshot's policy takes declared mappings.
func (s *Snapshot) DeclaredMappings() DeclaredMappings {
	switch s.declared {
	case VerifiedSubject, AnySubject:
		return s.declared
	case RefuseDeclared:
	}
	return RefuseDeclared
}

// Mapping evaluates the mapping that the called tool declares. An error is the
// call's, and no decision is made; the context bounds its time. With Mode RefuseDeclared it always fails.
type Mapping func(context.Context, MappingInput) (Mapped, error)

// MappingInput is all that a mapping may look at.
type MappingInput struct {
	Mode DeclaredMappings
	// Params are the message's.
	Params rar.Value
	// Claims are all those of the credential that names the subject; absent
	// without one.
	Claims rar.Value
	// SubjectID is whom the credential names.
	SubjectID string
}

// Mapped is what a mapping asks: every one of the Evaluations has to be allowed.
type Mapped struct {
	// Subject has no issuer of its own.
	Subject     Subject
	Evaluations []MappedEvaluation
}

// MappedEvaluation is one decision of several about one call.
type MappedEvaluation struct {
	Action   Action
	Resource Resource
	Context  rar.Value
}

const maxMappedEvaluations = 16

// mapped makes the decision about a call whose tool declares a mapping, after
// steps 1 to 3: one decision for each evaluation on the one snapshot, of which
// the first deny is the answer.
func (d *deciding) mapped(ctx context.Context) (Decision, error) {
	// The mapping and all that it asks share the time of one evaluation.
	until := time.Now().Add(d.engine.opts.Budget)
	budget, stop := context.WithDeadline(ctx, until)
	defer stop()
	queries, subject, err := d.mappedQueries(budget)
	if err := contextError(ctx); err != nil {
		return Decision{}, err
	}
	if err != nil {
		return Decision{}, err
	}
	if b := d.engine.blockList().subject(&subject, d.in.now); b != nil {
		d.block(b) // the mapping has named another subject than the credential
		return d.decision, nil
	}
	var joined Decision
	for i := range queries {
		one := *d
		one.known = nil
		one.in.query, one.in.subject = &queries[i], subject
		one.decision.Reasons = slices.Clip(d.decision.Reasons)
		out, err := one.ask(ctx, until)
		if err != nil {
			return Decision{}, err
		}
		if out != nil {
			one.judge(out)
		}
		if !one.decision.Allow {
			return one.decision, nil
		}
		if i == 0 {
			joined = one.decision
		} else {
			joined.join(&one.decision, len(d.decision.Reasons))
		}
	}
	return joined, nil
}

// join adds a further allow. Rule stays the first one's; all are in Reasons, and
// nothing that the PEP has to do is lost. The reasons of before are common.
func (dec *Decision) join(o *Decision, common int) {
	dec.Reasons = append(dec.Reasons, o.Reasons[common:]...)
	for _, m := range o.Met {
		if !slices.Contains(dec.Met, m) {
			dec.Met = append(slices.Clip(dec.Met), m)
		}
	}
	for _, obligation := range o.Obligations {
		if !slices.ContainsFunc(dec.Obligations, func(v rar.Value) bool { return rar.Equal(v, obligation) }) {
			dec.Obligations = append(slices.Clip(dec.Obligations), obligation)
		}
	}
	if o.ExpiresAt.Before(dec.ExpiresAt) {
		dec.ExpiresAt = o.ExpiresAt
	}
}

// mappedQueries evaluates the mapping and checks what it asks against the
// message, the credentials and what the caller gave itself.
func (d *deciding) mappedQueries(ctx context.Context) ([]Query, Subject, error) {
	q, in := d.in.query, &d.in
	call := MappingInput{Mode: d.snapshot.DeclaredMappings(), Params: q.MCP.Params, SubjectID: in.subject.ID}
	if len(in.usable) > 0 {
		call.Claims = in.usable[0].AllClaims
	}
	m, err := q.Mapping(ctx, call)
	if err != nil {
		return nil, Subject{}, err
	}
	if n := len(m.Evaluations); n == 0 || n > maxMappedEvaluations {
		return nil, Subject{}, errorf(CodeMCPMismatch, "/mcp/tool/inputSchema", "a declared mapping asks %d questions where 1 to %d are possible", n, maxMappedEvaluations)
	}
	subject, err := d.mappedSubject(&m.Subject, call.Mode)
	if err != nil {
		return nil, Subject{}, err
	}
	queries := make([]Query, len(m.Evaluations))
	for i := range m.Evaluations {
		e := &m.Evaluations[i]
		if err := q.admits(e, len(m.Evaluations)); err != nil {
			return nil, Subject{}, err
		}
		queries[i] = *q
		queries[i].Mapping = nil
		queries[i].Action, queries[i].Resource = e.Action, e.Resource
		if queries[i].Context, err = joinMembers(q.Context, e.Context, "/context"); err != nil {
			return nil, Subject{}, err
		}
		if agent, named := e.Context.Get("agent"); named && (agent.Kind() != rar.String || agent.Text() != in.agent) {
			return nil, Subject{}, errorf(CodeAgentMismatch, "/context/agent", "the tool's mapping names another agent than the credential")
		}
	}
	in.coaz = &coaz{subjectVerified: m.Subject.ID == in.subject.ID}
	if !in.coaz.subjectVerified {
		d.decision.Reasons = append(d.decision.Reasons, Reason{
			Code: CodeSubjectUnverified, Message: "the tool's mapping names a subject that the credential does not",
		})
	}
	return queries, subject, nil
}

// mappedSubject is what policy sees of the subject. Of a mapping, at most the id
// is authenticated; what the caller itself said of the subject stands.
func (d *deciding) mappedSubject(m *Subject, mode DeclaredMappings) (Subject, error) {
	own, given := d.in.subject, d.in.query.Subject
	if m.Type == "" || m.ID == "" {
		return Subject{}, errorf(CodeMCPMismatch, "/subject", "the tool's mapping names no subject")
	}
	if err := wantObject("/subject/properties", m.Properties); err != nil {
		return Subject{}, err
	}
	if _, has := m.Properties.Get("issuer"); has {
		return Subject{}, errorf(CodeMCPMismatch, "/subject/properties/issuer", "the tool's mapping names an issuer, which a credential does")
	}
	if m.ID != own.ID {
		if mode != AnySubject || given != nil {
			return Subject{}, errorf(CodeMCPMismatch, "/subject/id", "the tool's mapping names another subject")
		}
		return *m, nil
	}
	if given == nil {
		return Subject{Type: m.Type, ID: own.ID, Issuer: own.Issuer, Properties: m.Properties}, nil
	}
	if m.Type != given.Type && m.Type != identityType {
		return Subject{}, errorf(CodeMCPMismatch, "/subject/type", "the tool's mapping names another type of subject")
	}
	properties, err := joinMembers(given.Properties, m.Properties, "/subject/properties")
	own.Properties = properties
	return own, err
}

// admits holds one evaluation of a mapping against the message, so that it can
// not pass for a question that the default table asks, and against what the
// caller gave.
func (q *Query) admits(e *MappedEvaluation, evaluations int) error {
	if e.Action.Name == "" || e.Resource.Type == "" || e.Resource.ID == "" {
		return errorf(CodeMCPMismatch, "/mcp/tool/inputSchema", "the tool's mapping leaves out action or resource")
	}
	for _, o := range []struct {
		path string
		v    rar.Value
	}{
		{"/context", e.Context},
		{"/action/properties", e.Action.Properties},
		{"/resource/properties", e.Resource.Properties},
	} {
		if err := wantObject(o.path, o.v); err != nil {
			return err
		}
	}
	if _, has := e.Context.Get(coazMember); has {
		return errorf(CodeMCPMismatch, "/context/"+coazMember, "is not a mapping's to set")
	}
	name, _ := q.MCP.Params.Get("name")
	ownTool := e.Resource.Type == resourceTool && e.Resource.ID == name.Text()
	if protocolAction(e.Action.Name) && (e.Action.Name != methodToolsCall || !ownTool) {
		return errorf(CodeMCPMismatch, "/action/name", "the tool's mapping passes the call off as %q", clip(e.Action.Name, maxPlace))
	}
	if protocolResource(e.Resource.Type) && !ownTool {
		return errorf(CodeMCPMismatch, "/resource/type", "the tool's mapping passes the tool off as another %s", e.Resource.Type)
	}
	return q.repeats(e, evaluations)
}

// repeats: action and resource that the caller gave beside a mapping are those
// of the mapping, or two would say what is asked.
func (q *Query) repeats(e *MappedEvaluation, evaluations int) error {
	a, r := &q.Action, &q.Resource
	if given := a.Name != "" || r.Type != "" || r.ID != ""; given && evaluations > 1 {
		return errorf(CodeMCPMismatch, "/action", "the tool's mapping asks several questions: leave action and resource out")
	}
	if a.Name != "" && (a.Name != e.Action.Name || !rar.Equal(orEmpty(a.Properties), orEmpty(e.Action.Properties))) {
		return errorf(CodeMCPMismatch, "/action", "the tool's mapping asks about another action")
	}
	if (r.Type != "" || r.ID != "") && (r.Type != e.Resource.Type || r.ID != e.Resource.ID ||
		!rar.Equal(orEmpty(r.Properties), orEmpty(e.Resource.Properties))) {
		return errorf(CodeMCPMismatch, "/resource", "the tool's mapping asks about another resource")
	}
	return nil
}

func orEmpty(v rar.Value) rar.Value {
	if v.Kind() == rar.Absent {
		return rar.ObjectValue()
	}
	return v
}

// protocolAction tells names that only MCP methods have in a query. Policy that
// permits one of them has not looked at tools.
func protocolAction(name string) bool {
	switch family, _, method := strings.Cut(name, "/"); family {
	case "initialize", "ping":
		return true
	case "tools", "resources", "prompts", "tasks", "completion", "logging", "notifications",
		"server", "subscriptions", "sampling", "roots", "elicitation":
		return method
	}
	return false
}

// protocolResource tells the types of the default table.
func protocolResource(name string) bool {
	switch name {
	case resourceTool, "mcp_server", "resource", "prompt", "task":
		return true
	}
	return false
}

// joinMembers puts together what the caller and a mapping say; where both speak,
// they must say the same.
func joinMembers(given, mapped rar.Value, path string) (rar.Value, error) {
	if mapped.Len() == 0 {
		return given, nil
	}
	members := make([]rar.Member, 0, given.Len()+mapped.Len())
	for i := range given.Len() {
		members = append(members, given.Member(i))
	}
	for i := range mapped.Len() {
		m := mapped.Member(i)
		have, has := given.Get(m.Name)
		switch {
		case !has:
			members = append(members, m)
		case !rar.Equal(have, m.Value):
			return rar.Value{}, errorf(CodeMCPMismatch, path+"/"+escapeToken(printablePath(m.Name)), "the tool's mapping says something else")
		}
	}
	return rar.ObjectValue(members...), nil
}

// coazMember of the context is policy's to read and nobody's to set.
const coazMember = "coaz"

// coaz is what policy is told of a declared mapping.
type coaz struct{ subjectVerified bool }
