package api

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// sameValue compares JSON letter by letter: digits and order of members count.
func sameValue() cmp.Options {
	return cmp.Options{
		cmp.AllowUnexported(Request{}, presented{}),
		cmp.Comparer(func(a, b rar.Value) bool {
			return a.Kind() == b.Kind() && string(a.AppendJSON(nil)) == string(b.AppendJSON(nil))
		}),
		cmpopts.EquateEmpty(),
		cmpopts.IgnoreUnexported(engine.RejectedCredential{}),
	}
}

// drawing draws queries; wild ones may be malformed anywhere.
type drawing struct {
	*rapid.T
	wild bool
}

func (d drawing) pick(label string, from ...string) string {
	return rapid.SampledFrom(from).Draw(d.T, label)
}

// word is one of the strings, or of a wild query something unfit.
func (d drawing) word(label string, from ...string) string {
	if d.wild {
		from = append(from, "", "x")
	}
	return d.pick(label, from...)
}

func (d drawing) one(label string, in int) bool {
	return rapid.IntRange(1, in).Draw(d.T, label) == 1
}

func (d drawing) json(depth int) string {
	if depth > 0 && d.one("object", 3) {
		return d.object(depth - 1)
	}
	if depth > 0 && d.one("array", 3) {
		var elements []string
		for range rapid.IntRange(0, 3).Draw(d.T, "elements") {
			elements = append(elements, d.json(depth-1))
		}
		return "[" + strings.Join(elements, ", ") + "]"
	}
	leaves := []string{
		`null`, `true`, `0`, `-0`, `1e2`, `12000.50`, `9007199254740993`, `"é\u0001\n\"\\/"`, `"😀"`, `"\ud83d\ude00"`, `""`,
	}
	if d.wild {
		leaves = append(leaves, `1e401`, `01`, `"\ud800"`)
	}
	return d.pick("leaf", leaves...)
}

func (d drawing) object(depth int) string {
	names := []string{"arguments", "iss", "sub", "aud", "exp", "scope", "a/b", "x", "client_id", "act", ""}
	if d.wild {
		names = append(names, "X", "issuer", "agent")
	}
	members := rapid.IntRange(0, 4).Draw(d.T, "members")
	names = rapid.Permutation(names).Draw(d.T, "names")[:members]
	if d.wild && members > 1 && d.one("duplicate", 10) {
		names[1] = names[0]
	}
	list := make([]string, 0, members)
	for _, name := range names {
		list = append(list, `"`+name+`": `+d.json(depth))
	}
	return "{" + strings.Join(list, ",") + "}"
}

// free is an optional field of free JSON.
func (d drawing) free(label string) []byte {
	switch {
	case d.one("no "+label, 3):
		return nil
	case d.wild && d.one("any "+label, 3):
		return []byte(d.json(2))
	}
	return []byte(d.object(3))
}

// draw makes a query as REST and as gRPC would send it.
func draw(t *rapid.T) (string, *authzdv1.CheckRequest) {
	d := drawing{t, rapid.Bool().Draw(t, "wild")}
	m := &authzdv1.CheckRequest{Context: d.free("context")}
	if !d.one("no mcp", 8) {
		m.Mcp = &authzdv1.MCPMessage{
			Method: d.word("method", "tools/call", "resources/read", "tools/list"),
			Params: []byte(`{"name": "pay", "uri": "file:///x", "arguments": ` + d.object(3) + `}`),
			Tool:   d.free("tool"), ClientCapabilities: d.free("capabilities"),
			Server: d.word("server", "https://mcp.example.com"), Transport: d.word("transport", "http", "stdio"),
			ProtocolVersion: d.word("version", "2026-07-28", "2025-11-25"),
			DenialForm:      d.word("form", "", "challenge", "result", "auto"),
		}
		if d.wild {
			m.Mcp.Params = d.free("params")
		}
	}
	if d.one("subject", 2) {
		m.Subject = &authzdv1.Subject{Type: d.word("type", "identity"), Id: d.word("id", "alice"), Properties: d.free("properties")}
	}
	if m.Mcp == nil || d.one("action", 4) {
		m.Action = &authzdv1.Action{Name: d.word("action name", "tools/call", "read"), Properties: d.free("action properties")}
	}
	if m.Mcp == nil || d.one("resource", 4) {
		m.Resource = &authzdv1.Resource{Type: d.word("resource type", "tool"), Id: d.word("resource id", "pay"), Properties: d.free("resource properties")}
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "credentials") {
		c := &authzdv1.Credential{Id: strconv.Itoa(i), Claims: []byte(d.object(3)), BoundBy: d.word("bound", "dpop", "mtls", "")}
		if d.one("token", 3) {
			c = &authzdv1.Credential{
				Id: c.GetId(), AccessToken: d.word("access token", "a.b.c"), Scheme: d.word("scheme", "", "dpop", "Bearer"),
				DpopProof: d.word("proof", "", "d.e.f"), HttpMethod: d.word("method", "", "POST"),
				HttpUrl: d.word("url", "", "https://mcp.example.com/"), CertificateThumbprint: d.word("certificate", "", "t"),
			}
		} else if d.one("good", 2) {
			c.Claims = []byte(`{"iss": "https://as.example.com", "sub": "alice", "exp": 4102444800, "scope": "a b", "act": {"sub": "x"}, "aud": ["s"]}`)
		}
		m.Credentials = append(m.Credentials, c)
	}
	if d.one("commit", 4) {
		m.Commit = &authzdv1.Commit{IdempotencyKey: d.word("key", "k")}
	}
	if d.one("require", 4) {
		m.RequireRevision = &authzdv1.PolicyRevision{Bundle: d.word("bundle", "main"), Revision: d.word("revision", "1")}
	}
	text, err := MarshalJSON(m)
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	return string(text), m
}

// Whatever is asked, both doors make the same query of it, or refuse it with
// the same code at the same place.
func TestDoorsDecodeAlike(t *testing.T) {
	t.Parallel()
	decoded, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		text, m := draw(t)
		verifying := rapid.Bool().Draw(t, "verifying")
		rest, restErr := decodeQuery([]byte(text), Limits{}.withDefaults(), verifying, asker{})
		w := wire{limits: Limits{}.withDefaults(), verifying: verifying}
		rpc, rpcErr := w.request(m)
		if (restErr == nil) != (rpcErr == nil) {
			t.Fatalf("REST: %v\ngRPC: %v\n%s", restErr, rpcErr, text)
		}
		if restErr != nil {
			refused++
			return // which of several faults is told may differ
		}
		decoded++
		if diff := cmp.Diff(rest, rpc, sameValue()); diff != "" {
			t.Fatalf("the doors differ (-REST +gRPC):\n%s\n%s", diff, text)
		}
	})
	if !testing.Short() && (decoded < 10 || refused < 10) { // -short draws too few to say
		t.Errorf("%d queries accepted and %d refused: the test compares too little", decoded, refused)
	}
}

// With one fault only, both doors tell the same.
func TestDoorsRefuseAlike(t *testing.T) {
	t.Parallel()
	places := []struct {
		at  string
		put func(m *authzdv1.CheckRequest, text []byte)
	}{
		{"/mcp/params", func(m *authzdv1.CheckRequest, b []byte) { m.Mcp.Params = b }},
		{"/mcp/tool", func(m *authzdv1.CheckRequest, b []byte) { m.Mcp.Tool = b }},
		{"/mcp/client_capabilities", func(m *authzdv1.CheckRequest, b []byte) { m.Mcp.ClientCapabilities = b }},
		{"/context", func(m *authzdv1.CheckRequest, b []byte) { m.Context = b }},
		{"/subject/properties", func(m *authzdv1.CheckRequest, b []byte) { m.Subject.Properties = b }},
		{"/credentials/0/claims", func(m *authzdv1.CheckRequest, b []byte) { m.Credentials[0].Claims = b }},
	}
	faults := []string{
		`[]`, `null`, `"x"`, `{"a": 1, "a": 2}`, `{"a": {"B": 1, "b": 2}}`, `{"a": 1e999}`, `{"a": "\ud800"}`, `{"a": [01]}`, "{\"a\": \"\xff\"}",
	}
	for _, place := range places {
		for _, text := range faults {
			m := &authzdv1.CheckRequest{
				Mcp:     &authzdv1.MCPMessage{Method: "tools/call", Params: []byte(`{"name": "pay"}`)},
				Subject: &authzdv1.Subject{Type: "identity", Id: "alice"},
				Credentials: []*authzdv1.Credential{
					{Id: "a", Claims: []byte(`{}`)},
				},
			}
			place.put(m, []byte(text))
			body, err := MarshalJSON(m)
			if err != nil {
				t.Fatal(err)
			}
			_, restErr := DecodeQuery(body, Limits{})
			w := wire{limits: Limits{}.withDefaults()}
			_, rpcErr := w.request(m)
			if restErr == nil || rpcErr == nil {
				t.Fatalf("%s %s: accepted: %v, %v", place.at, text, restErr, rpcErr)
			}
			rest, rpc := faultOf(restErr), faultOf(rpcErr)
			// A document that is not UTF-8 has no places in REST.
			if strings.Contains(text, "\xff") {
				rest.path, rpc.path = "", ""
			}
			if rest.code != rpc.code || rest.path != rpc.path {
				t.Errorf("%s %s: REST %s at %q, gRPC %s at %q", place.at, text, rest.code, rest.path, rpc.code, rpc.path)
			}
		}
	}
}

// The hand-written reader of REST knows exactly the members that the contract
// has.
func TestRESTReadsTheContract(t *testing.T) {
	t.Parallel()
	m := &authzdv1.CheckRequest{
		Mcp: &authzdv1.MCPMessage{
			Method: "tools/call", Params: []byte(`{"name":"pay"}`), Server: "s", Transport: "http", ProtocolVersion: "v",
			ClientCapabilities: []byte(`{}`), Tool: []byte(`{}`), DenialForm: "auto",
		},
		Subject:  &authzdv1.Subject{Type: "identity", Id: "alice", Properties: []byte(`{}`)},
		Action:   &authzdv1.Action{Name: "tools/call", Properties: []byte(`{}`)},
		Resource: &authzdv1.Resource{Type: "tool", Id: "pay", Properties: []byte(`{}`)},
		Credentials: []*authzdv1.Credential{{Id: "a", Claims: []byte(`{}`), BoundBy: "dpop"}, {
			Id: "b", AccessToken: "t", Scheme: "DPoP", DpopProof: "p", HttpMethod: "POST", HttpUrl: "u", CertificateThumbprint: "c",
		}},
		Context:         []byte(`{}`),
		Commit:          &authzdv1.Commit{IdempotencyKey: "k"},
		RequireRevision: &authzdv1.PolicyRevision{Bundle: "b", Revision: "r"},
	}
	everyFieldSet(t, m.ProtoReflect(), "credentials")
	both := proto.Clone(m.GetCredentials()[0]) // no credential may have all members
	proto.Merge(both, m.GetCredentials()[1])
	everyFieldSet(t, both.ProtoReflect())
	text, err := MarshalJSON(m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodeQuery(text, Limits{}.withDefaults(), true, asker{}); err != nil {
		t.Errorf("%v: %s", err, text)
	}
	var back authzdv1.CheckRequest
	if err := UnmarshalJSON(text, &back, Limits{}); err != nil || !proto.Equal(m, &back) {
		t.Errorf("round trip: %v\n%v\n%v", err, m, &back)
	}
}
