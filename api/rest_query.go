package api

import (
	"strconv"
	"strings"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

// read takes the members of a CheckRequest from JSON. It is written out, not
// driven by the descriptor: this is the hot path of REST. A property test holds
// it against the codec and the gRPC door.
func (p *parts) read(v rar.Value) error {
	return errOrNil(eachMember(v, "", func(m rar.Member) *Error {
		switch m.Name {
		case "mcp":
			return p.readMCP(m.Value)
		case "subject":
			return p.readSubject(m.Value)
		case "action":
			return p.readAction(m.Value)
		case "resource":
			return p.readResource(m.Value)
		case "credentials":
			return p.readCredentials(m.Value)
		case "context":
			return objectMember(&p.context, "", m)
		case "commit":
			p.commit = &engine.Commit{}
			return eachMember(m.Value, "/commit", func(m rar.Member) *Error {
				if m.Name == "idempotency_key" {
					return textMember(&p.commit.IdempotencyKey, "/commit", m)
				}
				return unknown("/commit", m.Name)
			})
		case "require_revision":
			return p.readRequire(m.Value)
		default:
			return unknown("", m.Name)
		}
	}))
}

func (p *parts) readMCP(v rar.Value) *Error {
	const at = "/mcp"
	q := &engine.MCP{}
	p.mcp = q
	return eachMember(v, at, func(m rar.Member) *Error {
		switch m.Name {
		case "method":
			return textMember(&q.Method, at, m)
		case "params":
			return objectMember(&q.Params, at, m)
		case "server":
			return textMember(&q.Server, at, m)
		case "transport":
			return textMember(&q.Transport, at, m)
		case "protocol_version":
			return textMember(&q.ProtocolVersion, at, m)
		case "client_capabilities":
			return objectMember(&p.capabilities, at, m)
		case "tool":
			return objectMember(&q.Tool, at, m)
		case "denial_form":
			return textMember(&p.denialForm, at, m)
		default:
			return unknown(at, m.Name)
		}
	})
}

func (p *parts) readSubject(v rar.Value) *Error {
	s := &engine.Subject{}
	p.subject = s
	return readEntity(v, "/subject", &s.Type, &s.ID, &s.Properties)
}

func (p *parts) readResource(v rar.Value) *Error {
	r := &engine.Resource{}
	p.resource = r
	return readEntity(v, "/resource", &r.Type, &r.ID, &r.Properties)
}

func readEntity(v rar.Value, at string, kind, id *string, properties *rar.Value) *Error {
	return eachMember(v, at, func(m rar.Member) *Error {
		switch m.Name {
		case "type":
			return textMember(kind, at, m)
		case "id":
			return textMember(id, at, m)
		case "properties":
			return objectMember(properties, at, m)
		default:
			return unknown(at, m.Name)
		}
	})
}

func (p *parts) readAction(v rar.Value) *Error {
	const at = "/action"
	a := &engine.Action{}
	p.action = a
	return eachMember(v, at, func(m rar.Member) *Error {
		switch m.Name {
		case "name":
			return textMember(&a.Name, at, m)
		case "properties":
			return objectMember(&a.Properties, at, m)
		default:
			return unknown(at, m.Name)
		}
	})
}

func (p *parts) readRequire(v rar.Value) *Error {
	const at = "/require_revision"
	r := &engine.PolicyRef{}
	p.require = r
	return eachMember(v, at, func(m rar.Member) *Error {
		switch m.Name {
		case "bundle":
			return textMember(&r.Bundle, at, m)
		case "revision":
			return textMember(&r.Revision, at, m)
		default:
			return unknown(at, m.Name)
		}
	})
}

func (p *parts) readCredentials(v rar.Value) *Error {
	if v.Kind() != rar.Array {
		return wrongType("/credentials", "an array", v)
	}
	for n := range v.Len() {
		var c presented
		err := eachMember(v.Index(n), "", func(m rar.Member) *Error {
			switch m.Name {
			case "id":
				return textMember(&c.id, "", m)
			case "claims":
				return objectMember(&c.claims, "", m)
			case "access_token":
				return textMember(&c.accessToken, "", m)
			case "bound_by":
				return textMember(&c.boundBy, "", m)
			case "scheme":
				return textMember(&c.scheme, "", m)
			case "dpop_proof":
				return textMember(&c.proof, "", m)
			case "http_method":
				return textMember(&c.method, "", m)
			case "http_url":
				return textMember(&c.url, "", m)
			case "certificate_thumbprint":
				return textMember(&c.certificate, "", m)
			default:
				return unknown("", m.Name)
			}
		})
		if err != nil {
			// The place is composed here, so that no path is built on the way
			// to a good credential.
			err.Path = "/credentials/" + strconv.Itoa(n) + err.Path
			return err
		}
		if err := p.credentials.add(n, c); err != nil {
			return err
		}
	}
	return nil
}

func eachMember(v rar.Value, at string, read func(rar.Member) *Error) *Error {
	if v.Kind() != rar.Object {
		return wrongType(at, "an object", v)
	}
	for i := range v.Len() {
		if err := read(v.Member(i)); err != nil {
			return err
		}
	}
	return nil
}

func textMember(dst *string, at string, m rar.Member) *Error {
	if m.Value.Kind() != rar.String {
		return wrongType(at+"/"+m.Name, "a string", m.Value)
	}
	if len(m.Value.Text()) > maxText(m.Name) {
		return tooLong(at + "/" + m.Name)
	}
	*dst = m.Value.Text()
	return nil
}

func objectMember(dst *rar.Value, at string, m rar.Member) *Error {
	if m.Value.Kind() != rar.Object {
		return wrongType(at+"/"+m.Name, "an object", m.Value)
	}
	*dst = m.Value
	return nil
}

// maxText bounds names and identifiers, which end up in messages and logs. An
// access token or a proof is no name.
func maxText(member string) int {
	switch member {
	case "access_token":
		return 16 << 10
	case "dpop_proof":
		return 8 << 10
	}
	return maxName
}

func tooLong(path string) *Error {
	return errorf(CodeTooLarge, path, "is longer than a name may be")
}

func wrongType(path, want string, got rar.Value) *Error {
	return errorf(CodeWrongType, path, "must be %s, not %s", want, got.Kind())
}

func unknown(at, name string) *Error {
	// A name may be a secret that slipped into its place.
	if len(name) > maxToldName {
		name = strings.ToValidUTF8(name[:maxToldName], "") + "…"
	}
	return errorf(CodeUnknownMember, at+"/"+escape(name), "no such member in this version of the contract")
}

const maxToldName = 64

// escape writes name as a reference token of a JSON Pointer (RFC 6901).
func escape(name string) string {
	if strings.ContainsAny(name, "~/") {
		name = strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
	}
	return name
}
