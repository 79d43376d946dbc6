package api

import (
	"strconv"
	"unsafe"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/authzd/authzd/engine"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

// wire decodes the parts of gRPC messages under the same limits, with the same
// codes and pointers, as JSON from REST. The first error stays.
type wire struct {
	limits    Limits
	verifying bool
	ask       asker
	// received: the messages came over the wire, so nobody else has their bytes,
	// and values may be views of them. A caller within the process may write to its
	// own.
	received bool
	err      *Error
}

func (s *Server) wire(c call) wire {
	return wire{limits: s.opts.Limits, verifying: s.verifying(), ask: s.asker(), received: c.door == doorGRPC}
}

func (w *wire) fail(err *Error) {
	if w.err == nil {
		w.err = err
	}
}

// text takes a string; protobuf has checked that it is UTF-8.
func (w *wire) text(s, at, name string) string {
	if len(s) > maxText(name) {
		w.fail(tooLong(at + "/" + name))
	}
	return s
}

// object decodes JSON text that stands below outer containers in REST.
func (w *wire) object(data []byte, below int, at, name string) rar.Value {
	if len(data) == 0 || w.err != nil {
		return rar.Value{}
	}
	v, err := w.decode(data, w.limits.strict(below))
	if err != nil {
		w.fail(requestError(err, at+"/"+name))
		return rar.Value{}
	}
	if v.Kind() != rar.Object {
		w.fail(wrongType(at+"/"+name, "an object", v))
	}
	return v
}

func (w *wire) decode(data []byte, l rar.Limits) (rar.Value, error) {
	if !w.received {
		return rar.DecodeStrict(data, l) //nolint:wrapcheck // named by the caller
	}
	return rar.DecodeText(unsafe.String(unsafe.SliceData(data), len(data)), l) //nolint:wrapcheck,gosec // nobody writes to it
}

// queryMessage is what a single query and one of a batch have in common.
type queryMessage interface {
	proto.Message
	GetMcp() *authzdv1.MCPMessage
	GetSubject() *authzdv1.Subject
	GetAction() *authzdv1.Action
	GetResource() *authzdv1.Resource
	GetContext() []byte
	GetCommit() *authzdv1.Commit
}

// request decodes a CheckRequest.
func (w *wire) request(m *authzdv1.CheckRequest) (Request, error) {
	if !onlyKnown(m) {
		if err := checkKnown(m.ProtoReflect(), ""); err != nil {
			return Request{}, err
		}
	}
	p := parts{require: w.require(m.GetRequireRevision()), ask: w.ask}
	w.query(&p, m)
	p.credentials = w.credentials(m.GetCredentials())
	if w.err != nil {
		return Request{}, w.err
	}
	return p.request()
}

// query fills in the parts that m gives.
func (w *wire) query(p *parts, m queryMessage) {
	if q := m.GetMcp(); q != nil {
		p.mcp = &engine.MCP{
			Method:          w.text(q.GetMethod(), "/mcp", "method"),
			Params:          w.object(q.GetParams(), 2, "/mcp", "params"),
			Tool:            w.object(q.GetTool(), 2, "/mcp", "tool"),
			Server:          w.text(q.GetServer(), "/mcp", "server"),
			Transport:       w.text(q.GetTransport(), "/mcp", "transport"),
			ProtocolVersion: w.text(q.GetProtocolVersion(), "/mcp", "protocol_version"),
		}
		p.capabilities = w.object(q.GetClientCapabilities(), 2, "/mcp", "client_capabilities")
		p.denialForm = w.text(q.GetDenialForm(), "/mcp", "denial_form")
	}
	if s := m.GetSubject(); s != nil {
		p.subject = &engine.Subject{
			Type:       w.text(s.GetType(), "/subject", "type"),
			ID:         w.text(s.GetId(), "/subject", "id"),
			Properties: w.object(s.GetProperties(), 2, "/subject", "properties"),
		}
	}
	if a := m.GetAction(); a != nil {
		p.action = &engine.Action{
			Name:       w.text(a.GetName(), "/action", "name"),
			Properties: w.object(a.GetProperties(), 2, "/action", "properties"),
		}
	}
	if r := m.GetResource(); r != nil {
		p.resource = &engine.Resource{
			Type:       w.text(r.GetType(), "/resource", "type"),
			ID:         w.text(r.GetId(), "/resource", "id"),
			Properties: w.object(r.GetProperties(), 2, "/resource", "properties"),
		}
	}
	p.context = w.object(m.GetContext(), 1, "", "context")
	if c := m.GetCommit(); c != nil {
		p.commit = &engine.Commit{IdempotencyKey: w.text(c.GetIdempotencyKey(), "/commit", "idempotency_key")}
	}
}

func (w *wire) require(r *authzdv1.PolicyRevision) *engine.PolicyRef {
	if r == nil {
		return nil
	}
	const at = "/require_revision"
	return &engine.PolicyRef{Bundle: w.text(r.GetBundle(), at, "bundle"), Revision: w.text(r.GetRevision(), at, "revision")}
}

func (w *wire) credentials(list []*authzdv1.Credential) credentialSet {
	set := credentialSet{verifying: w.verifying}
	for n, c := range list {
		at := "/credentials/" + strconv.Itoa(n)
		p := presented{
			id:          w.text(c.GetId(), at, "id"),
			accessToken: w.text(c.GetAccessToken(), at, "access_token"),
			boundBy:     w.text(c.GetBoundBy(), at, "bound_by"),
			claims:      w.object(c.GetClaims(), 3, at, "claims"),
			scheme:      w.text(c.GetScheme(), at, "scheme"),
			proof:       w.text(c.GetDpopProof(), at, "dpop_proof"),
			method:      w.text(c.GetHttpMethod(), at, "http_method"),
			url:         w.text(c.GetHttpUrl(), at, "http_url"),
			certificate: w.text(c.GetCertificateThumbprint(), at, "certificate_thumbprint"),
		}
		if w.err != nil {
			return set
		}
		if err := set.add(n, p); err != nil {
			w.fail(err)
			return set
		}
	}
	return set
}

// onlyKnown tells without walking by reflection that checkKnown finds nothing in
// a CheckRequest; every message below it is named here.
func onlyKnown(m *authzdv1.CheckRequest) bool {
	for _, c := range m.GetCredentials() {
		if len(c.ProtoReflect().GetUnknown()) > 0 {
			return false
		}
	}
	return len(m.ProtoReflect().GetUnknown()) == 0 &&
		len(m.GetMcp().ProtoReflect().GetUnknown()) == 0 &&
		len(m.GetSubject().ProtoReflect().GetUnknown()) == 0 &&
		len(m.GetAction().ProtoReflect().GetUnknown()) == 0 &&
		len(m.GetResource().ProtoReflect().GetUnknown()) == 0 &&
		len(m.GetCommit().ProtoReflect().GetUnknown()) == 0 &&
		len(m.GetRequireRevision().ProtoReflect().GetUnknown()) == 0
}

// checkKnown refuses fields that the contract does not have, as REST refuses
// unknown members: what a newer caller asks for must not be skipped silently.
func checkKnown(m protoreflect.Message, at string) error {
	if raw := m.GetUnknown(); len(raw) > 0 {
		if isMalformed(raw) {
			return errorf(CodeMalformed, "", "the message is not protobuf of its type")
		}
		return errorf(CodeUnknownMember, at, "the message has a field that is not in this version of the contract")
	}
	var found error
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Kind() != protoreflect.MessageKind || fd.IsMap():
		case fd.IsList():
			list := v.List()
			for i := 0; i < list.Len() && found == nil; i++ {
				found = checkKnown(list.Get(i).Message(), at+"/"+string(fd.Name())+"/"+strconv.Itoa(i))
			}
		default:
			found = checkKnown(v.Message(), at+"/"+string(fd.Name()))
		}
		return found == nil
	})
	return found
}
