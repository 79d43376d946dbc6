package mcp

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/authzd/authzd/rar"
)

// mappingMember is where a tool declares its own mapping (COAZ-MCP): a direct
// member of inputSchema.
const mappingMember = "x-authzen-mapping"

// Bounds of one declared mapping. Whoever writes a tool list writes mappings,
// so what they may cost does not depend on trust.
const (
	maxMappingBytes     = 32 << 10
	maxMappingDepth     = 16
	maxMappingEntries   = 16
	maxExpressions      = 64
	maxExpressionBytes  = 2048
	maxExpressionsBytes = 16 << 10
)

// Mapping is a declared mapping (x-authzen-mapping), compiled. It is immutable
// and may be used by any number of goroutines; keep it by its Digest, because
// compiling costs a hundred times as much as evaluating.
type Mapping struct {
	digest   string
	batch    bool
	defaults parts // of evaluations; of evaluation the one question
	entries  []parts
	warnings []MappingWarning
}

// parts are the members of one AuthZEN evaluation in a mapping; nil: left out.
type parts struct{ subject, action, resource, context *node }

// WarningKind names what looks mistaken in a mapping that is valid.
type WarningKind string

// The warnings. The first comes with what a mapping asks, the others with the
// mapping itself.
const (
	// WarnUnverifiedSubject: subject.id is not the subject-identity claim of the
	// token, so it is nobody's authenticated identity.
	WarnUnverifiedSubject WarningKind = "unverified_subject"
	// WarnQuotedLiteral: the quotes of 'text' are part of the value; earlier
	// drafts wrote literals so.
	WarnQuotedLiteral WarningKind = "quoted_literal"
	// WarnBarePath: token.sub without $ is a text; earlier drafts wrote
	// expressions so.
	WarnBarePath WarningKind = "bare_path"
	// WarnAgentMissing: the context does not name the agent.
	WarnAgentMissing WarningKind = "agent_missing"
)

// MappingWarning is one warning; Path is a JSON Pointer into the mapping.
type MappingWarning struct {
	Kind WarningKind
	Path string
}

// DeclaredMapping gives the mapping that a tool's inputSchema declares. It is
// declared even if it is null or malformed: the default must not stand in then.
func DeclaredMapping(inputSchema rar.Value) (rar.Value, bool) { return inputSchema.Get(mappingMember) }

// MappingDigest names the content of a mapping, for a cache of compiled ones.
func MappingDigest(v rar.Value) string {
	sum := sha256.Sum256(v.AppendCanonical(make([]byte, 0, 1024)))
	return "sha-256:" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// CompileMapping reads a declared mapping: exactly one envelope, evaluation or
// evaluations, shaped as AuthZEN's requests, with literals and CEL expressions.
// What cannot yield a question with any params is refused here already.
//
// Every error is an *Error with CodeMappingInvalid and a JSON Pointer into v.
func CompileMapping(v rar.Value) (*Mapping, error) {
	if v.Kind() != rar.Object || v.Len() != 1 {
		return nil, fail(CodeMappingInvalid, "", "a mapping is an object with one member, evaluation or evaluations")
	}
	if n := len(v.AppendJSON(nil)); n > maxMappingBytes {
		return nil, invalid("", "the mapping is larger than %d bytes", maxMappingBytes)
	}
	c, err := newMappingCompiler()
	if err != nil {
		return nil, err
	}
	m := &Mapping{digest: MappingDigest(v)}
	switch envelope := v.Member(0); envelope.Name {
	case "evaluation":
		err = m.single(c, envelope.Value)
	case "evaluations":
		err = m.several(c, envelope.Value)
	default:
		err = invalid("/"+escape(envelope.Name), "is neither evaluation nor evaluations")
	}
	if err != nil {
		return nil, err
	}
	m.warnings = append(c.warnings, m.agentWarnings()...)
	return m, nil
}

// Digest names the content of the mapping.
func (m *Mapping) Digest() string { return m.digest }

// Warnings are what looks mistaken in it.
func (m *Mapping) Warnings() []MappingWarning { return append([]MappingWarning(nil), m.warnings...) }

func (m *Mapping) single(c *mappingCompiler, v rar.Value) error {
	var err error
	if m.defaults, err = c.parts(v, "/evaluation", "subject", "action", "resource", "context"); err != nil {
		return err
	}
	m.entries = []parts{m.defaults}
	return m.complete("/evaluation", 0)
}

func (m *Mapping) several(c *mappingCompiler, v rar.Value) error {
	const at = "/evaluations"
	m.batch = true
	var err error
	if m.defaults, err = c.parts(v, at, "subject", "action", "resource", "context", "evaluations"); err != nil {
		return err
	}
	// The list is structure: how many decisions there are is never a value's to
	// say, and none cannot permit.
	list, _ := v.Get("evaluations")
	if list.Kind() != rar.Array || list.Len() == 0 {
		return invalid(at+"/evaluations", "must be a list with at least one entry")
	}
	if list.Len() > maxMappingEntries {
		return invalid(at+"/evaluations", "%d entries where %d are allowed", list.Len(), maxMappingEntries)
	}
	for i := range list.Len() {
		entryAt := fmt.Sprintf("%s/evaluations/%d", at, i)
		// COAZ-MCP: no subject here, not even an equal one.
		entry, err := c.parts(list.Index(i), entryAt, "action", "resource", "context")
		if err != nil {
			return err
		}
		m.entries = append(m.entries, entry)
		if err := m.complete(entryAt, i); err != nil {
			return err
		}
	}
	return nil
}

// complete wants action and resource, by whichever way, in entry i.
func (m *Mapping) complete(at string, i int) error {
	switch e := m.entries[i]; {
	case e.action == nil && m.defaults.action == nil:
		return invalid(at+"/action", "is required")
	case e.resource == nil && m.defaults.resource == nil:
		return invalid(at+"/resource", "is required")
	}
	return nil
}

// agentWarnings looks for context.agent where it can be seen (COAZ-MCP: it must
// name the agent). A context that is one expression may have it.
func (m *Mapping) agentWarnings() []MappingWarning {
	var out []MappingWarning
	for i, e := range m.entries {
		context := e.context
		if context == nil {
			context = m.defaults.context
		}
		if context != nil && (context.kind == nodeExpression || context.has("agent")) {
			continue
		}
		at := "/evaluation/context"
		if m.batch {
			at = fmt.Sprintf("/evaluations/evaluations/%d/context", i)
		}
		out = append(out, MappingWarning{Kind: WarnAgentMissing, Path: at})
	}
	return out
}

// parts compiles the members of one evaluation; only those in names may be
// there. The member evaluations is left to the caller.
func (c *mappingCompiler) parts(v rar.Value, at string, names ...string) (parts, error) {
	var p parts
	if v.Kind() != rar.Object {
		return p, invalid(at, "must be an object")
	}
	if err := onlyMembers(v, at, names...); err != nil {
		return p, err
	}
	for _, m := range []struct {
		name  string
		into  **node
		shape *shape
	}{
		{"subject", &p.subject, subjectShape()},
		{"action", &p.action, actionShape()},
		{"resource", &p.resource, resourceShape()},
		{"context", &p.context, nil},
	} {
		member, given := v.Get(m.name)
		if !given {
			continue
		}
		n, err := c.node(member, at+"/"+m.name, 1)
		if err != nil {
			return p, err
		}
		if err := checkStatic(n, m.shape); err != nil {
			return p, err
		}
		// COAZ-MCP: $token.sub is read as the designated claim there, and only there.
		if id := n.child("id"); m.name == "subject" && id != nil && id.kind == nodeExpression && id.expr.subject {
			id.kind = nodeClaim
		}
		*m.into = n
	}
	return p, nil
}

func onlyMembers(v rar.Value, at string, names ...string) error {
	for i := range v.Len() {
		name := v.Member(i).Name
		if !contains(names, name) {
			return invalid(at+"/"+escape(name), "is not a member of this object")
		}
	}
	return nil
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func invalid(path, format string, args ...any) error {
	return &Error{Code: CodeMappingInvalid, Path: path, Err: fmt.Errorf(format, args...)}
}
