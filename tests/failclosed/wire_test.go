package failclosed_test

import (
	"bytes"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// message puts a query text into the message of gRPC. It knows nothing of what
// is right or wrong: free JSON goes over as it is, duplicates included. Two
// things protobuf cannot say, and then exact is false: members of another type
// than the contract's, twice or unknown (nil), and the difference between an
// empty string and none.
func message(query []byte) (m *authzdv1.CheckRequest, exact bool) {
	q, err := parse(query)
	if err != nil || q.kind != object || bytes.Contains(query, []byte(`\ud800`)) { // a lone surrogate is lost in parsing
		return nil, false
	}
	c := converter{ok: true, exact: true}
	m = &authzdv1.CheckRequest{}
	for _, f := range c.members(q, "mcp", "subject", "action", "resource", "credentials", "context", "commit") {
		switch v := f.value; f.name {
		case "mcp":
			m.Mcp = c.mcp(v)
		case "subject":
			m.Subject = &authzdv1.Subject{Type: c.text(v, "type"), Id: c.text(v, "id"), Properties: c.json(v, "properties")}
			c.members(v, "type", "id", "properties")
		case "action":
			m.Action = &authzdv1.Action{Name: c.text(v, "name"), Properties: c.json(v, "properties")}
			c.members(v, "name", "properties")
		case "resource":
			m.Resource = &authzdv1.Resource{Type: c.text(v, "type"), Id: c.text(v, "id"), Properties: c.json(v, "properties")}
			c.members(v, "type", "id", "properties")
		case "credentials":
			m.Credentials = c.credentials(v)
		case "context":
			m.Context = []byte(v.String())
		case "commit":
			m.Commit = &authzdv1.Commit{IdempotencyKey: c.text(v, "idempotency_key")}
			c.members(v, "idempotency_key")
		}
	}
	if !c.ok {
		return nil, false
	}
	return m, c.exact
}

type converter struct{ ok, exact bool }

// members returns the members of an object if they are among names, and each
// once.
func (c *converter) members(n *node, names ...string) []member {
	seen := map[string]bool{}
	if !n.within(names...) {
		c.ok = false
		return nil
	}
	for _, m := range n.members {
		c.ok = c.ok && !seen[m.name]
		seen[m.name] = true
	}
	return n.members
}

func (c *converter) text(n *node, name string) string {
	v := n.get(name)
	if v == nil {
		return ""
	}
	s, ok := v.str()
	c.ok = c.ok && ok
	c.exact = c.exact && s != ""
	return s
}

func (c *converter) json(n *node, name string) []byte {
	if v := n.get(name); v != nil {
		return []byte(v.String())
	}
	return nil
}

func (c *converter) mcp(n *node) *authzdv1.MCPMessage {
	c.members(n, "method", "params", "server", "transport", "protocol_version", "client_capabilities", "tool")
	return &authzdv1.MCPMessage{
		Method: c.text(n, "method"), Params: c.json(n, "params"), Server: c.text(n, "server"), Transport: c.text(n, "transport"),
		ProtocolVersion: c.text(n, "protocol_version"), ClientCapabilities: c.json(n, "client_capabilities"), Tool: c.json(n, "tool"),
	}
}

func (c *converter) credentials(n *node) []*authzdv1.Credential {
	if n.kind != array {
		c.ok = false
		return nil
	}
	var out []*authzdv1.Credential
	for _, v := range n.items {
		c.members(v, "id", "claims", "access_token", "bound_by",
			"scheme", "dpop_proof", "http_method", "http_url", "certificate_thumbprint")
		out = append(out, &authzdv1.Credential{
			Id: c.text(v, "id"), Claims: c.json(v, "claims"), AccessToken: c.text(v, "access_token"), BoundBy: c.text(v, "bound_by"),
			Scheme: c.text(v, "scheme"), DpopProof: c.text(v, "dpop_proof"), HttpMethod: c.text(v, "http_method"),
			HttpUrl: c.text(v, "http_url"), CertificateThumbprint: c.text(v, "certificate_thumbprint"),
		})
	}
	return out
}
