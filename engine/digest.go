package engine

import (
	"crypto/sha256"
	"encoding/base64"

	"github.com/authzd/authzd/rar"
)

// callDigest binds an answer to what was asked: "sha-256:" and the base64url
// SHA-256 of the canonical JSON of {tenant, subject: [issuer, id], server,
// method, params}, params without the members that a retry changes.
func callDigest(in *input) string {
	m := in.query.MCP
	if m == nil {
		return ""
	}
	doc := rar.ObjectValue(
		rar.Member{Name: "tenant", Value: rar.StringValue(in.query.tenant())},
		rar.Member{Name: "subject", Value: rar.ArrayValue(rar.StringValue(in.subject.Issuer), rar.StringValue(in.subject.ID))},
		rar.Member{Name: "server", Value: rar.StringValue(in.query.audience())},
		rar.Member{Name: "method", Value: rar.StringValue(m.Method)},
		rar.Member{Name: "params", Value: digestParams(m.Params)},
	)
	sum := sha256.Sum256(doc.AppendCanonical(make([]byte, 0, 512)))
	return "sha-256:" + base64.RawURLEncoding.EncodeToString(sum[:])
}

func digestParams(p rar.Value) rar.Value {
	members := make([]rar.Member, 0, p.Len())
	for i := range p.Len() {
		switch m := p.Member(i); m.Name {
		case "_meta", "requestState", "inputResponses":
		default:
			members = append(members, m)
		}
	}
	return rar.ObjectValue(members...)
}
