package engine

import (
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/rar"
)

// input is what policy may see of a query (contract, "input"). It is made
// once a decision; the evaluator turns it into its own values.
type input struct {
	query      *Query
	subject    Subject
	agent      string
	usable     []*usable
	rejected   []RejectedCredential
	now        time.Time
	decisionID string
	// params are mcp.params with arguments present for tools/call.
	params rar.Value
	// coaz is set if a declared mapping asks.
	coaz  *coaz
	words vocabulary
}

// usable is a credential that passed every check, with the details that are
// valid under the snapshot's types.
type usable struct {
	*Credential
	details []rar.Value
	skipped []rar.Skipped
}

// inputNames are the member names and fixed texts of the input document.
func inputNames() []string {
	return []string{
		"subject", "action", "resource", "context", "mcp", "credentials", "rejected_credentials", "tenant", "now",
		"type", "id", "properties", "issuer", "name", "agent", "method", "params", "arguments", "_meta", "tool", "annotations",
		"inputSchema", "server", "transport", "protocol_version", "code", "verified_by", "client_id", "subject_is_client",
		"audience", "scopes", "authorization_details", "actors", "may_act", "auth", "time", "acr", "amr", "txn", "token_id",
		"expires_at", "issued_at", "bound_by", "identity", "coaz", "mapped", "subject_verified", "tools/call", "http", "stdio", "pep", "pdp", "introspection", "default", "",
	}
}

// fields collects the members of one object of the input document.
type fields struct {
	words   vocabulary
	members [][2]*ast.Term
}

func (in *input) fields(size int) *fields {
	return &fields{words: in.words, members: make([][2]*ast.Term, 0, size)}
}

func (f *fields) add(name string, t *ast.Term) {
	f.members = append(f.members, [2]*ast.Term{f.words.text(name), t})
}

func (f *fields) text(name, v string) { f.add(name, f.words.text(v)) }

func (f *fields) value(name string, v rar.Value) {
	if v.Kind() != rar.Absent {
		f.add(name, f.words.term(v))
	}
}

func (f *fields) object() *ast.Term { return ast.NewTerm(ast.NewObject(f.members...)) }

// document builds OPA's value of the input document. subject, action,
// resource, context, credentials, rejected_credentials, tenant and now are
// always there, so that a forbid that reads them cannot vanish.
func (in *input) document() ast.Value {
	q := in.query
	f := in.caller()
	f.text("now", in.nowText())
	f.add("resource", in.entity(q.Resource.Type, q.Resource.ID, q.Resource.Properties))
	if q.MCP != nil {
		f.add("mcp", in.mcp())
	} else if q.Action.Name == methodToolsCall {
		f.add("mcp", in.impliedMCP())
	}
	return f.object().Value
}

func (in *input) nowText() string { return in.now.UTC().Format(time.RFC3339Nano) }

// caller are the members that do not say which resource is meant, nor when.
func (in *input) caller() *fields {
	q := in.query
	f := in.fields(9)
	f.add("subject", in.entity(in.subject.Type, in.subject.ID, withIssuer(in.subject)))
	action := in.fields(2)
	action.text("name", q.Action.Name)
	action.add("properties", in.objectOrEmpty(q.Action.Properties))
	f.add("action", action.object())
	f.add("context", in.context())
	creds := make([]*ast.Term, len(in.usable))
	for i, u := range in.usable {
		creds[i] = in.credential(u)
	}
	f.add("credentials", ast.ArrayTerm(creds...))
	rejected := make([]*ast.Term, len(in.rejected))
	for i, r := range in.rejected {
		x := in.fields(2)
		x.text("id", r.ID)
		x.text("code", string(r.Code))
		rejected[i] = x.object()
	}
	f.add("rejected_credentials", ast.ArrayTerm(rejected...))
	f.text("tenant", q.tenant())
	return f
}

func (in *input) entity(typ, id string, properties rar.Value) *ast.Term {
	f := in.fields(3)
	f.text("type", typ)
	f.text("id", id)
	f.add("properties", in.objectOrEmpty(properties))
	return f.object()
}

func (in *input) objectOrEmpty(v rar.Value) *ast.Term {
	if v.Kind() != rar.Object {
		return ast.InternedEmptyObject
	}
	return in.words.term(v)
}

// withIssuer puts the issuer that was decided for into subject.properties: the
// identity is the pair, whichever way it became known.
func withIssuer(s Subject) rar.Value {
	if s.Issuer == "" {
		return s.Properties
	}
	members := []rar.Member{{Name: "issuer", Value: rar.StringValue(s.Issuer)}}
	for i := range s.Properties.Len() {
		if m := s.Properties.Member(i); m.Name != "issuer" {
			members = append(members, m)
		}
	}
	return rar.ObjectValue(members...)
}

// context is the caller's, with agent overruled by the credential that names
// the subject.
func (in *input) context() *ast.Term {
	c := in.query.Context
	f := in.fields(c.Len() + 2)
	for i := range c.Len() {
		if m := c.Member(i); m.Name != "agent" {
			f.value(m.Name, m.Value)
		}
	}
	if in.agent != "" {
		f.text("agent", in.agent)
	}
	if in.coaz != nil {
		x := in.fields(2)
		x.add("mapped", ast.InternedTerm(true))
		x.add("subject_verified", ast.InternedTerm(in.coaz.subjectVerified))
		f.add(coazMember, x.object())
	}
	return f.object()
}

func (in *input) mcp() *ast.Term {
	m := in.query.MCP
	f := in.fields(6)
	f.text("method", m.Method)
	f.add("params", in.objectOrEmpty(in.params))
	if m.Tool.Kind() == rar.Object {
		f.value("tool", m.Tool)
	}
	f.text("server", in.query.audience())
	f.text("transport", m.Transport)
	f.text("protocol_version", m.ProtocolVersion)
	return f.object()
}

// impliedMCP stands in for the message of a tools/call that came without one
// (untyped_tools), so that a forbid that reads the arguments does not vanish.
func (in *input) impliedMCP() *ast.Term {
	params := in.fields(2)
	params.text("name", in.query.Resource.ID)
	params.add("arguments", ast.InternedEmptyObject)
	f := in.fields(3)
	f.text("method", methodToolsCall)
	f.add("params", params.object())
	f.text("server", in.query.audience())
	return f.object()
}

// presentedParams adds arguments {} to a tools/call that left them out.
func presentedParams(m *MCP) rar.Value {
	if m == nil {
		return rar.Value{}
	}
	if m.Method != methodToolsCall {
		return m.Params
	}
	if _, ok := m.Params.Get("arguments"); ok {
		return m.Params
	}
	members := make([]rar.Member, 0, m.Params.Len()+1)
	for i := range m.Params.Len() {
		members = append(members, m.Params.Member(i))
	}
	return rar.ObjectValue(append(members, rar.Member{Name: "arguments", Value: rar.ObjectValue()})...)
}

// credential is what policy sees of one: no token, no unlisted claims.
func (in *input) credential(u *usable) *ast.Term {
	f := in.fields(21)
	f.text("id", u.ID)
	f.text("verified_by", u.VerifiedBy)
	f.text("issuer", u.Issuer)
	f.text("subject", u.Subject)
	f.text("client_id", u.ClientID)
	f.add("subject_is_client", ast.InternedTerm(u.SubjectIsClient))
	f.add("audience", in.words.texts(u.Audience))
	f.add("scopes", in.words.texts(u.Scopes))
	details := make([]*ast.Term, len(u.details))
	for i, d := range u.details {
		details[i] = in.words.term(d)
	}
	f.add("authorization_details", ast.ArrayTerm(details...))
	actors := make([]*ast.Term, len(u.Actors))
	for i, a := range u.Actors {
		x := in.fields(2)
		x.text("issuer", a.Issuer)
		x.text("subject", a.Subject)
		actors[i] = x.object()
	}
	f.add("actors", ast.ArrayTerm(actors...))
	f.value("may_act", u.MayAct)
	f.add("auth", in.auth(u))
	if u.Txn != "" {
		f.text("txn", u.Txn)
	}
	if u.TokenID != "" {
		f.text("token_id", u.TokenID)
	}
	f.text("expires_at", u.ExpiresAt.UTC().Format(time.RFC3339))
	if !u.IssuedAt.IsZero() {
		f.text("issued_at", u.IssuedAt.UTC().Format(time.RFC3339))
	}
	f.text("bound_by", u.BoundBy)
	if u.Tenant != "" {
		f.text("tenant", u.Tenant)
	}
	f.value("claims", u.Claims)
	return f.object()
}

func (in *input) auth(u *usable) *ast.Term {
	f := in.fields(3)
	if !u.AuthTime.IsZero() {
		f.text("time", u.AuthTime.UTC().Format(time.RFC3339))
	}
	if u.ACR != "" {
		f.text("acr", u.ACR)
	}
	f.add("amr", in.words.texts(u.AMR))
	return f.object()
}
