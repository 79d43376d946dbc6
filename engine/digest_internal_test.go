package engine

import (
	"crypto/sha256"
	"encoding/base64"
	"testing"

	"github.com/authzd/authzd/rar"
)

// The digest is of the canonical JSON of the document that the contract names.
func TestCallDigestIsOfTheCanonicalDocument(t *testing.T) {
	t.Parallel()
	texts := []string{"", "https://idp.example", "a\"b\\c\u2028é", "\x01\x7f", "\xff"}
	for i, params := range []string{
		``, `{}`, `{"name":"pay","arguments":{"b":1.0,"a":[null,true,"é\u2028"]}}`, `{"_meta":{"x":1},"name":"n","requestState":"s","inputResponses":{}}`,
	} {
		var p rar.Value
		if params != "" {
			var err error
			if p, err = rar.DecodeStrict([]byte(params), rar.Limits{}); err != nil {
				t.Fatal(err)
			}
		}
		in := &input{query: &Query{MCP: &MCP{Method: texts[(i+1)%len(texts)], Params: p, Server: texts[i]}}}
		in.query.Audience, in.query.Tenant = texts[i], texts[(i+2)%len(texts)]
		in.subject.Issuer, in.subject.ID = texts[(i+3)%len(texts)], texts[(i+4)%len(texts)]
		var kept []rar.Member
		for j := range p.Len() {
			if m := p.Member(j); m.Name != "_meta" && m.Name != "requestState" && m.Name != "inputResponses" {
				kept = append(kept, m)
			}
		}
		doc := rar.ObjectValue(
			rar.Member{Name: "tenant", Value: rar.StringValue(in.query.tenant())},
			rar.Member{Name: "subject", Value: rar.ArrayValue(rar.StringValue(in.subject.Issuer), rar.StringValue(in.subject.ID))},
			rar.Member{Name: "server", Value: rar.StringValue(in.query.audience())},
			rar.Member{Name: "method", Value: rar.StringValue(in.query.MCP.Method)},
			rar.Member{Name: "params", Value: rar.ObjectValue(kept...)},
		)
		sum := sha256.Sum256(doc.AppendCanonical(nil))
		if want := "sha-256:" + base64.RawURLEncoding.EncodeToString(sum[:]); callDigest(in) != want {
			t.Errorf("params %s: %s, want that of %s", params, callDigest(in), doc.AppendCanonical(nil))
		}
	}
}
