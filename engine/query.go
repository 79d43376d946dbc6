package engine

import (
	"strings"

	"github.com/authzd/authzd/rar"
)

// Kind names a requirement kind (docs/policy.md, "Requirements").
type Kind string

// The requirement kinds of contract version 1, easiest first: the order in
// which unmet permits are ranked.
const (
	KindScopes               Kind = "scopes"
	KindAuthorizationDetails Kind = "authorization_details"
	KindAuthentication       Kind = "authentication"
	KindProofOfPossession    Kind = "proof_of_possession"
	KindApproval             Kind = "approval"
	// KindToken is not a requirement but a remedy: obtain a (new) token.
	KindToken Kind = "token"
)

// KindSet is a set of requirement kinds that a client can act on.
type KindSet uint8

// NewKindSet returns the set of kinds; unknown ones are ignored, so that a
// client is never offered what nobody understands.
func NewKindSet(kinds ...Kind) KindSet {
	var s KindSet
	for _, k := range kinds {
		s |= 1 << kindOrder(k)
	}
	return s &^ (1 << unknownKind)
}

// Has tells whether k is in the set.
func (s KindSet) Has(k Kind) bool { return kindOrder(k) != unknownKind && s&(1<<kindOrder(k)) != 0 }

const unknownKind = 6

// kindOrder ranks kinds by how hard they are to meet (contract, step 8).
func kindOrder(k Kind) int {
	switch k {
	case KindScopes:
		return 0
	case KindAuthorizationDetails:
		return 1
	case KindAuthentication:
		return 2
	case KindProofOfPossession:
		return 3
	case KindApproval:
		return 4
	case KindToken:
		return 5
	default:
		return unknownKind
	}
}

// Query is one question: may this subject, with these credentials, do this.
// It is filled at a door (package api) and not changed by Decide.
type Query struct {
	// Tenant is the caller's; empty means "default".
	Tenant string
	// Audience is the resource identifier configured for the caller. It stands
	// in when MCP.Server is empty.
	Audience string
	// Subject may be nil: then it is the subject of the first usable credential.
	Subject *Subject
	// Action and Resource are required (a door derives them from the MCP message
	// by the COAZ-MCP default mapping when the caller gave none).
	Action   Action
	Resource Resource
	// Context is an object, or absent. Its member agent is overruled by the
	// credential's client_id.
	Context rar.Value
	// MCP is the message that is asked about; nil when it is not an MCP call.
	MCP *MCP
	// Mapping is set by a door, never from the wire, when the called tool declares
	// a mapping of its own. Action and Resource may then be left out. Nil: none.
	Mapping Mapping
	// Credentials are verified tokens or asserted claims. Decide judges which
	// are usable; their order is the caller's preference.
	Credentials []Credential
	// Rejected are credentials that the door could not verify.
	Rejected []RejectedCredential
	// Actionable is the set of requirement kinds this client can act on.
	Actionable KindSet
	// Commit says that the PEP is about to execute.
	Commit *Commit
	// CarriesObligations says that the door can carry obligations to the PEP.
	// Where it cannot, a permit with obligations is unmet.
	CarriesObligations bool
}

// Subject is AuthZEN's subject. The identity is the pair (Issuer, ID).
type Subject struct {
	Type string
	ID   string
	// Issuer is properties.issuer; empty if not given.
	Issuer string
	// Properties is an object, or absent.
	Properties rar.Value
}

// Action is AuthZEN's action; for MCP, Name is the JSON-RPC method.
type Action struct {
	Name       string
	Properties rar.Value
}

// Resource is AuthZEN's resource.
type Resource struct {
	Type       string
	ID         string
	Properties rar.Value
}

// MCP is the MCP message of a query and what is known of its transport.
type MCP struct {
	// Method is the JSON-RPC method.
	Method string
	// Params is the object params as the client sent it.
	Params rar.Value
	// Tool is the tool's entry of tools/list, as far as the PEP gives it
	// (inputSchema, annotations); an object, or absent.
	Tool rar.Value
	// Server is the server's canonical resource identifier (RFC 8707).
	Server          string
	Transport       string
	ProtocolVersion string
}

// Commit announces execution, so that single-use authority is consumed.
type Commit struct {
	IdempotencyKey string
}

// DefaultTenant is the tenant of callers that have none of their own.
const DefaultTenant = "default"

const (
	methodToolsCall = "tools/call"
	resourceTool    = "tool"
	identityType    = "identity"
)

// validate refuses queries that cannot be decided on (contract, step 1). The
// door has checked shapes; this guards the library's callers too.
// With mapped, action and resource are the mapping's to give.
func (q *Query) validate(mapped bool) error {
	if q.Action.Name == "" && !mapped {
		return errorf(CodeMissingMember, "/action/name", "an action needs a name")
	}
	if (q.Resource.Type == "" || q.Resource.ID == "") && !mapped {
		return errorf(CodeMissingMember, "/resource", "a resource needs type and id")
	}
	if s := q.Subject; s != nil && (s.Type == "" || s.ID == "") {
		return errorf(CodeMissingMember, "/subject", "a subject needs type and id")
	}
	for _, o := range []struct {
		path string
		v    rar.Value
	}{
		{"/context", q.Context},
		{"/action/properties", q.Action.Properties},
		{"/resource/properties", q.Resource.Properties},
	} {
		if err := wantObject(o.path, o.v); err != nil {
			return err
		}
	}
	if q.Subject != nil {
		if err := wantObject("/subject/properties", q.Subject.Properties); err != nil {
			return err
		}
	}
	if _, has := q.Context.Get(coazMember); has && q.MCP != nil {
		return errorf(CodeInvalidValue, "/context/"+coazMember, "says whether a declared mapping asks, which is not the caller's to say")
	}
	return q.validateMCP(mapped)
}

func wantObject(path string, v rar.Value) error {
	if k := v.Kind(); k != rar.Absent && k != rar.Object {
		return errorf(CodeWrongType, path, "must be an object")
	}
	return nil
}

// validateMCP ties the MCP message to action and resource, so that policy that
// looks at one cannot be led astray by the other.
func (q *Query) validateMCP(mapped bool) error {
	m := q.MCP
	if m == nil {
		if mapped {
			return errorf(CodeMCPMissing, "/mcp", "a declared mapping needs the MCP message")
		}
		if q.Action.Name == methodToolsCall && q.Resource.Type != resourceTool {
			return errorf(CodeMCPMismatch, "/resource/type", "the resource of %s is of type %s", methodToolsCall, resourceTool)
		}
		return nil
	}
	if m.Method == "" {
		return errorf(CodeMissingMember, "/mcp/method", "an MCP message needs a method")
	}
	if err := wantObject("/mcp/params", m.Params); err != nil {
		return err
	}
	if err := wantObject("/mcp/tool", m.Tool); err != nil {
		return err
	}
	if mapped && m.Method != methodToolsCall {
		return errorf(CodeMCPMismatch, "/mcp/method", "only tools declare mappings")
	}
	if q.Action.Name != m.Method && !mapped {
		return errorf(CodeMCPMismatch, "/action/name", "action %q is not the MCP method %q", q.Action.Name, m.Method)
	}
	if err := exactNames(m.Params); err != nil {
		return err
	}
	switch m.Method {
	case methodToolsCall:
		if args, ok := m.Params.Get("arguments"); ok && args.Kind() != rar.Object {
			return errorf(CodeWrongType, "/mcp/params/arguments", "arguments must be an object")
		}
		return q.tiedTo(resourceTool, "name", mapped)
	case "prompts/get":
		return q.tiedTo("prompt", "name", false)
	case "resources/read", "resources/subscribe", "resources/unsubscribe":
		return q.tiedTo("resource", "uri", false)
	}
	return nil
}

// tiedTo demands that the resource is what the message names. ADR 0005: most
// policies look at resource.id alone, so another type of resource could pass
// one tool for another.
// A mapping asks about something else; the message must still name its tool.
func (q *Query) tiedTo(resourceType, member string, mapped bool) error {
	v, ok := q.MCP.Params.Get(member)
	if !ok || v.Kind() != rar.String || v.Text() == "" {
		return errorf(CodeMissingMember, "/mcp/params/"+member, "%s needs the member %s, a string", q.MCP.Method, member)
	}
	if mapped {
		return nil
	}
	if q.Resource.Type != resourceType {
		return errorf(CodeMCPMismatch, "/resource/type", "the resource of %s is of type %s", q.MCP.Method, resourceType)
	}
	if q.Resource.ID != v.Text() {
		return errorf(CodeMCPMismatch, "/resource/id", "resource %q is not %q, which the message names", clip(q.Resource.ID, maxPlace), clip(v.Text(), maxPlace))
	}
	return nil
}

// exactNames refuses members of params that a reader without regard to case
// would take for the ones that are decided on: it would execute arguments that
// no policy has seen.
func exactNames(params rar.Value) error {
	for i := range params.Len() {
		name := params.Member(i).Name
		for _, known := range paramNames() {
			if name != known && strings.EqualFold(name, known) {
				return errorf(CodeInvalidValue, "/mcp/params/"+printablePath(name), "this is not the member %q, and could be taken for it", known)
			}
		}
	}
	return nil
}

// paramNames are the members of params in every request of MCP, revisions
// 2025-03-26 to 2026-07-28.
func paramNames() []string {
	return []string{
		"name", "arguments", "uri", "ref", "argument", "context", "level", "cursor", "task", "taskId",
		"protocolVersion", "capabilities", "clientInfo", "requestState", "inputResponses", "subscriptions", "_meta",
	}
}

// isToolCall tells whether the query asks to call a tool, by either road: the
// action or the MCP message.
func (q *Query) isToolCall() bool {
	return q.Action.Name == methodToolsCall || (q.MCP != nil && q.MCP.Method == methodToolsCall)
}

func (q *Query) tenant() string {
	if q.Tenant == "" {
		return DefaultTenant
	}
	return q.Tenant
}

// audience is the resource identifier that a credential must be meant for;
// empty means that no credential is usable.
func (q *Query) audience() string {
	if q.MCP != nil && q.MCP.Server != "" {
		return q.MCP.Server
	}
	return q.Audience
}
