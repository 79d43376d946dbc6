package engine

import (
	"time"

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
	coaz *coaz
}

// usable is a credential that passed every check, with the details that are
// valid under the snapshot's types.
type usable struct {
	*Credential
	details []rar.Value
	skipped []rar.Skipped
}

// documentOf builds the input document. subject, action, resource, context,
// credentials, rejected_credentials, tenant and now are always there, so that a
// forbid that reads them cannot vanish.
func documentOf[V, O any](in *input, b builder[V, O]) V {
	q := in.query
	o := callerOf(in, b)
	o = b.set(o, wordNow, b.text(in.nowText()))
	o = b.set(o, wordResource, entityOf(b, q.Resource.Type, q.Resource.ID, q.Resource.Properties))
	if q.MCP != nil {
		o = b.set(o, wordMCP, mcpOf(in, b))
	} else if q.Action.Name == methodToolsCall {
		o = b.set(o, wordMCP, impliedMCPOf(in, b))
	}
	return b.close(o)
}

func (in *input) nowText() string { return in.now.UTC().Format(time.RFC3339Nano) }

// callerOf are the members that do not say which resource is meant, nor when.
func callerOf[V, O any](in *input, b builder[V, O]) O {
	q := in.query
	o := b.object(9)
	o = b.set(o, wordSubject, entityOf(b, in.subject.Type, in.subject.ID, withIssuer(in.subject)))
	action := b.object(2)
	action = b.set(action, wordName, b.text(q.Action.Name))
	action = b.set(action, wordProperties, objectOrEmpty(b, q.Action.Properties))
	o = b.set(o, wordAction, b.close(action))
	o = b.set(o, wordContext, contextOf(in, b))
	credentials := make([]V, len(in.usable))
	for i, u := range in.usable {
		credentials[i] = credentialOf(b, u)
	}
	o = b.set(o, wordCredentials, b.array(credentials))
	rejected := make([]V, len(in.rejected))
	for i, r := range in.rejected {
		x := b.object(2)
		x = b.set(x, wordID, b.text(r.ID))
		x = b.set(x, wordCode, b.text(string(r.Code)))
		rejected[i] = b.close(x)
	}
	o = b.set(o, wordRejectedCredentials, b.array(rejected))
	return b.set(o, wordTenant, b.text(q.tenant()))
}

func entityOf[V, O any](b builder[V, O], typ, id string, properties rar.Value) V {
	o := b.object(3)
	o = b.set(o, wordType, b.text(typ))
	o = b.set(o, wordID, b.text(id))
	return b.close(b.set(o, wordProperties, objectOrEmpty(b, properties)))
}

func objectOrEmpty[V, O any](b builder[V, O], v rar.Value) V {
	if v.Kind() != rar.Object {
		return b.close(b.object(0))
	}
	return b.json(v)
}

// withIssuer puts the issuer that was decided for into subject.properties: the
// identity is the pair, whichever way it became known.
func withIssuer(s Subject) rar.Value {
	if s.Issuer == "" {
		return s.Properties
	}
	if _, given := s.Properties.Get("issuer"); !given {
		return rar.ObjectOf(1+s.Properties.Len(), func(i int) (string, rar.Value) {
			if i == 0 {
				return "issuer", rar.StringValue(s.Issuer)
			}
			m := s.Properties.Member(i - 1)
			return m.Name, m.Value
		})
	}
	members := []rar.Member{{Name: "issuer", Value: rar.StringValue(s.Issuer)}}
	for i := range s.Properties.Len() {
		if m := s.Properties.Member(i); m.Name != "issuer" {
			members = append(members, m)
		}
	}
	return rar.ObjectValue(members...)
}

// contextOf is the caller's context, with agent overruled by the credential that
// names the subject.
func contextOf[V, O any](in *input, b builder[V, O]) V {
	c := in.query.Context
	o := b.object(c.Len() + 2)
	for i := range c.Len() {
		if m := c.Member(i); m.Name != "agent" && m.Value.Kind() != rar.Absent {
			o = b.setText(o, m.Name, b.json(m.Value))
		}
	}
	if in.agent != "" {
		o = b.set(o, wordAgent, b.text(in.agent))
	}
	if in.coaz != nil {
		x := b.object(2)
		x = b.set(x, wordMapped, b.boolean(true))
		x = b.set(x, wordSubjectVerified, b.boolean(in.coaz.subjectVerified))
		o = b.set(o, wordCoaz, b.close(x))
	}
	return b.close(o)
}

func mcpOf[V, O any](in *input, b builder[V, O]) V {
	m := in.query.MCP
	o := b.object(6)
	o = b.set(o, wordMethod, b.text(m.Method))
	o = b.set(o, wordParams, objectOrEmpty(b, in.params))
	if m.Tool.Kind() == rar.Object {
		o = b.set(o, wordTool, b.json(m.Tool))
	}
	o = b.set(o, wordServer, b.text(in.query.audience()))
	o = b.set(o, wordTransport, b.text(m.Transport))
	return b.close(b.set(o, wordProtocolVersion, b.text(m.ProtocolVersion)))
}

// impliedMCPOf stands in for the message of a tools/call that came without one
// (untyped_tools), so that a forbid that reads the arguments does not vanish.
func impliedMCPOf[V, O any](in *input, b builder[V, O]) V {
	params := b.object(2)
	params = b.set(params, wordName, b.text(in.query.Resource.ID))
	params = b.set(params, wordArguments, b.close(b.object(0)))
	o := b.object(3)
	o = b.set(o, wordMethod, b.word(wordToolsCall))
	o = b.set(o, wordParams, b.close(params))
	return b.close(b.set(o, wordServer, b.text(in.query.audience())))
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

// credentialOf is what policy sees of one: no token, no unlisted claims.
func credentialOf[V, O any](b builder[V, O], u *usable) V {
	o := b.object(21)
	o = b.set(o, wordID, b.text(u.ID))
	o = b.set(o, wordVerifiedBy, b.text(u.VerifiedBy))
	o = b.set(o, wordIssuer, b.text(u.Issuer))
	o = b.set(o, wordSubject, b.text(u.Subject))
	o = b.set(o, wordClientID, b.text(u.ClientID))
	o = b.set(o, wordSubjectIsClient, b.boolean(u.SubjectIsClient))
	o = b.set(o, wordAudience, b.texts(u.Audience))
	o = b.set(o, wordScopes, b.texts(u.Scopes))
	details := make([]V, len(u.details))
	for i, d := range u.details {
		details[i] = b.json(d)
	}
	o = b.set(o, wordAuthorizationDetails, b.array(details))
	actors := make([]V, len(u.Actors))
	for i, a := range u.Actors {
		x := b.object(2)
		x = b.set(x, wordIssuer, b.text(a.Issuer))
		x = b.set(x, wordSubject, b.text(a.Subject))
		actors[i] = b.close(x)
	}
	o = b.set(o, wordActors, b.array(actors))
	if u.MayAct.Kind() != rar.Absent {
		o = b.set(o, wordMayAct, b.json(u.MayAct))
	}
	o = b.set(o, wordAuth, authOf(b, u))
	if u.Txn != "" {
		o = b.set(o, wordTxn, b.text(u.Txn))
	}
	if u.TokenID != "" {
		o = b.set(o, wordTokenID, b.text(u.TokenID))
	}
	o = b.set(o, wordExpiresAt, b.text(u.ExpiresAt.UTC().Format(time.RFC3339)))
	if !u.IssuedAt.IsZero() {
		o = b.set(o, wordIssuedAt, b.text(u.IssuedAt.UTC().Format(time.RFC3339)))
	}
	o = b.set(o, wordBoundBy, b.text(u.BoundBy))
	if u.Tenant != "" {
		o = b.set(o, wordTenant, b.text(u.Tenant))
	}
	if u.Claims.Kind() != rar.Absent {
		o = b.set(o, wordClaims, b.json(u.Claims))
	}
	return b.close(o)
}

func authOf[V, O any](b builder[V, O], u *usable) V {
	o := b.object(3)
	if !u.AuthTime.IsZero() {
		o = b.set(o, wordTime, b.text(u.AuthTime.UTC().Format(time.RFC3339)))
	}
	if u.ACR != "" {
		o = b.set(o, wordACR, b.text(u.ACR))
	}
	return b.close(b.set(o, wordAMR, b.texts(u.AMR)))
}
