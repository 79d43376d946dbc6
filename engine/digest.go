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
	text := append(make([]byte, 0, 512), `{"method":`...)
	text = rar.StringValue(m.Method).AppendCanonical(text)
	text = appendDigestParams(append(text, `,"params":`...), m.Params)
	text = rar.StringValue(in.query.audience()).AppendCanonical(append(text, `,"server":`...))
	text = rar.StringValue(in.subject.Issuer).AppendCanonical(append(text, `,"subject":[`...))
	text = rar.StringValue(in.subject.ID).AppendCanonical(append(text, ','))
	text = rar.StringValue(in.query.tenant()).AppendCanonical(append(text, `],"tenant":`...))
	sum := sha256.Sum256(append(text, '}'))
	return "sha-256:" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// appendDigestParams appends params without what a retry changes.
func appendDigestParams(dst []byte, p rar.Value) []byte {
	members := make([]rar.Member, 0, p.Len())
	for i := range p.Len() {
		switch m := p.Member(i); m.Name {
		case "_meta", "requestState", "inputResponses":
		default:
			members = append(members, m)
		}
	}
	return rar.ObjectOf(len(members), func(i int) (string, rar.Value) {
		return members[i].Name, members[i].Value
	}).AppendCanonical(dst)
}
