package mcp

import (
	"slices"
	"strings"

	"github.com/authzd/authzd/rar"
)

// Mapped is the question that a message puts, in AuthZEN's words.
type Mapped struct {
	// PassThrough: there is nothing to ask; the message goes on. All other
	// members are then empty.
	PassThrough bool
	// SubjectType and SubjectID are empty when no token was given: the subject
	// then follows from the credentials.
	SubjectType  string
	SubjectID    string
	Action       string
	ResourceType string
	ResourceID   string
	// Context is an object: agent, and what the method's row adds.
	Context rar.Value
}

// MapOptions says what a message does not say of itself.
type MapOptions struct {
	// Token holds the claims of the validated token. Absent: subject and agent
	// are left out, and ServerID must be set for methods about the server.
	Token rar.Value
	// SubjectClaim is the claim that names the person. Empty: sub. There is no
	// falling back to sub when another claim is missing.
	SubjectClaim string
	// ServerID is this server's own resource identifier (RFC 8707).
	ServerID string
	// TrustServerID takes ServerID as it is, without finding it in aud.
	TrustServerID bool
	// ProtocolVersion limits the table to the methods of that revision. Empty or
	// unknown: every row serves.
	ProtocolVersion string
	// HasID says that the message expects an answer; one under notifications/
	// that does is no notification, and unknown.
	HasID bool
	// InputSchema of the called tool, if known. One with a mapping of its own is
	// refused, because the default must not stand in for it: see CompileMapping.
	InputSchema rar.Value
	// ExtraMethods admits the rows of our own: methods that MCP has and the table
	// of COAZ-MCP lacks. Default: they are unknown, as COAZ-MCP demands.
	ExtraMethods bool
	// ServerMethods are further methods that are asked about as actions on the
	// server itself. Default: none, so that they are unknown.
	ServerMethods []string
}

// Resource types of the default table.
const (
	resourceServer   = "mcp_server"
	resourceTool     = "tool"
	resourceResource = "resource"
	resourcePrompt   = "prompt"
	resourceTask     = "task"

	subjectIdentity = "identity"
)

// row is one line of the default table (COAZ-MCP section "default mappings").
type row struct {
	resource string // type; empty: completion's, which depends on its ref
	id       string // member of params that identifies; empty: the server
	context  string // further context member
	from     string // and the member of params that it is taken from
	required bool   // a plain selection: missing is an error
	// The first and the last revision whose table has the row.
	first, last revision
}

func defaultRow(method string) (row, bool) {
	always := func(resource, id string) (row, bool) {
		return row{resource: resource, id: id, first: revisionOld, last: revision2026}, true
	}
	until2025 := func(r row) (row, bool) {
		r.first, r.last = revisionOld, revision2025
		return r, true
	}
	switch method {
	case "initialize":
		return until2025(row{resource: resourceServer, context: "protocol_version", from: "protocolVersion", required: true})
	case "tools/list", "resources/list", "prompts/list":
		return always(resourceServer, "")
	case methodToolsCall:
		return always(resourceTool, "name")
	case methodResourcesRead:
		return always(resourceResource, "uri")
	case "resources/subscribe", "resources/unsubscribe":
		return until2025(row{resource: resourceResource, id: "uri"})
	case methodPromptsGet:
		return always(resourcePrompt, "name")
	case "completion/complete":
		return always("", "")
	case "logging/setLevel":
		return until2025(row{resource: resourceServer, context: "level", from: "level", required: true})
	case "tasks/get", "tasks/cancel":
		return row{resource: resourceTask, id: "taskId", first: revision2025, last: revision2026}, true
	case "tasks/result":
		return row{resource: resourceTask, id: "taskId", first: revision2025, last: revision2025}, true
	case "tasks/list":
		return row{resource: resourceServer, first: revision2025, last: revision2025}, true
	default:
		return row{}, false
	}
}

// extraRow is a line of our own (MapOptions.ExtraMethods).
func extraRow(method string) (row, bool) {
	switch method {
	case "resources/templates/list":
		return row{resource: resourceServer, first: revisionOld, last: revision2026}, true
	case "server/discover", "subscriptions/listen":
		return row{resource: resourceServer, first: revision2026, last: revision2026}, true
	case "tasks/update": // SEP-2663
		return row{resource: resourceTask, id: "taskId", first: revision2026, last: revision2026}, true
	}
	return row{}, false
}

// Map applies the default table of COAZ-MCP to one message: what is to be asked
// before it may take effect. Params are those of the message, Absent if it has
// none. The arguments of a tool are not part of the mapping; policy sees them
// elsewhere.
//
// It refuses with an *Error: CodeMethodUnknown for a method without a row
// (exact spelling, the list of what passes is closed), CodeMapping for params or
// claims that do not yield the question, CodeMappingUnsupported for a tool with
// a declared mapping. An identifier is a string or an error; nothing is coerced.
func Map(method string, params rar.Value, opts MapOptions) (Mapped, error) {
	if passes(method, opts.HasID) {
		return Mapped{PassThrough: true}, nil
	}
	r, known := defaultRow(method)
	if !known && opts.ExtraMethods {
		r, known = extraRow(method)
	}
	if rev := revisionOf(opts.ProtocolVersion); known && rev != revisionUnknown {
		known = r.first <= rev && rev <= r.last
	}
	if !known && method != "" && slices.Contains(opts.ServerMethods, method) {
		r, known = row{resource: resourceServer}, true
	}
	if !known {
		return Mapped{}, fail(CodeMethodUnknown, "/method", "no mapping for this method")
	}
	if _, declared := DeclaredMapping(opts.InputSchema); declared && method == methodToolsCall {
		return Mapped{}, fail(CodeMappingUnsupported, "", "the tool declares a mapping of its own")
	}
	switch params.Kind() {
	case rar.Absent, rar.Object:
	case rar.Null, rar.Bool, rar.Number, rar.String, rar.Array:
		return Mapped{}, fail(CodeMapping, "/params", "params are not an object")
	}
	m := Mapped{Action: method}
	if err := m.setSubject(opts); err != nil {
		return Mapped{}, err
	}
	if err := m.setResource(r, method, params, opts); err != nil {
		return Mapped{}, err
	}
	if err := m.setContext(r, params, opts); err != nil {
		return Mapped{}, err
	}
	return m, nil
}

// passes: ping and true notifications need no decision (COAZ-MCP); with an id
// the latter would be a request in disguise.
func passes(method string, hasID bool) bool {
	return method == "ping" || strings.HasPrefix(method, "notifications/") && !hasID
}

func (m *Mapped) setSubject(opts MapOptions) error {
	if opts.Token.Kind() == rar.Absent {
		return nil
	}
	claim := opts.SubjectClaim
	if claim == "" {
		claim = "sub"
	}
	id, err := identifier(opts.Token, claim, "", "the token's subject claim")
	if err != nil {
		return err
	}
	m.SubjectType, m.SubjectID = subjectIdentity, id
	return nil
}

func (m *Mapped) setResource(r row, method string, params rar.Value, opts MapOptions) error {
	m.ResourceType = r.resource
	var err error
	switch {
	case method == "completion/complete":
		m.ResourceType, m.ResourceID, err = completionResource(params)
	case r.id != "":
		m.ResourceID, err = identifier(params, r.id, "/params/"+r.id, "params."+r.id)
	default:
		m.ResourceID, err = serverID(opts)
	}
	return err
}

func completionResource(params rar.Value) (kind, id string, err error) {
	ref, _ := params.Get("ref")
	refType, ok := text(ref, "type")
	if !ok {
		return "", "", fail(CodeMapping, "/params/ref/type", "params.ref.type is not a string")
	}
	kind, name := resourceResource, "uri"
	if refType == "ref/prompt" {
		kind, name = resourcePrompt, "name"
	}
	id, err = identifier(ref, name, "/params/ref/"+name, "params.ref."+name)
	return kind, id, err
}

// serverID gives the one identifier of this server. An audience of several must
// contain the configured one; an audience is never joined or picked from.
func serverID(opts MapOptions) (string, error) {
	if opts.TrustServerID || opts.Token.Kind() == rar.Absent {
		if opts.ServerID == "" {
			return "", fail(CodeMapping, "", "no identifier of the server is configured")
		}
		return opts.ServerID, nil
	}
	aud, _ := opts.Token.Get("aud")
	if aud.Kind() == rar.Array {
		return fromAudiences(aud, opts.ServerID)
	}
	return identifier(opts.Token, "aud", "", "the token's audience")
}

func fromAudiences(aud rar.Value, own string) (string, error) {
	if own == "" && aud.Len() == 1 {
		own = aud.Index(0).Text()
	}
	for i := range aud.Len() {
		if own != "" && rar.Equal(aud.Index(i), str(own)) {
			return own, nil
		}
	}
	return "", fail(CodeMapping, "", "the token's audience does not yield exactly one identifier of this server")
}

func (m *Mapped) setContext(r row, params rar.Value, opts MapOptions) error {
	var members []rar.Member
	if agent, present := opts.Token.Get("client_id"); present {
		members = append(members, member("agent", agent))
	}
	if r.from != "" {
		value, present := params.Get(r.from)
		if !present && r.required {
			return fail(CodeMapping, "/params/"+r.from, "params."+r.from+" is required")
		}
		if present {
			members = append(members, member(r.context, value))
		}
	}
	m.Context = object(members...)
	return nil
}

// identifier gives the member if it is a string with something in it.
func identifier(v rar.Value, name, path, what string) (string, error) {
	id, _ := text(v, name)
	if id == "" {
		return "", fail(CodeMapping, path, what+" is not a string, or empty")
	}
	return id, nil
}
