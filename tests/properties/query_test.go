package properties_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

const server = "https://mcp.example.com"

// now is the clock of every engine here.
func now() time.Time { return time.Date(2026, time.June, 1, 12, 0, 0, 0, time.UTC) }

// caller is who asks: what the queries of a batch and of a list share, and what most of
// the calls of one caller have in common.
type caller struct {
	credentials []*authzdv1.Credential
	subject     *authzdv1.Subject
	context     []byte
	mcp         *authzdv1.MCPMessage
}

// asker makes callers and their calls of the tools of one policy.
type asker struct {
	r     *rand.Rand
	tools []tool
}

func (a *asker) odds(n int) bool { return a.r.IntN(n) == 0 }

func (a *asker) one(list ...string) string { return list[a.r.IntN(len(list))] }

// caller makes one with up to two credentials, half of them able to do most things.
func (a *asker) caller() *caller {
	c := &caller{mcp: &authzdv1.MCPMessage{
		Server: server, Transport: a.one("http", "http", "http", "http", "http", "stdio", ""), ProtocolVersion: a.one("2026-07-28", "2026-07-28", "2025-11-25", ""),
		DenialForm: a.one("", "", "challenge", "result", "auto"),
	}}
	if a.odds(20) {
		c.mcp.Server = a.one("https://other.example.com", "")
	}
	if !a.odds(3) {
		c.mcp.ClientCapabilities = []byte(a.one(
			`{}`, `{"elicitation": {"url": {}}}`, `{"extensions": {"io.modelcontextprotocol/structured-authorization-denials": {}}}`,
		))
	}
	for i := range []int{0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 3}[a.r.IntN(14)] {
		c.credentials = append(c.credentials, a.credential(i))
	}
	if len(c.credentials) == 0 || a.odds(6) {
		c.subject = &authzdv1.Subject{Type: a.one("identity", "identity", "service"), Id: a.one("alice", "alice", "bob", "mallory")}
		if a.odds(2) {
			c.subject.Properties = []byte(a.one(`{"issuer": "https://as.example.com"}`, `{"issuer": "https://as.example.org"}`, `{"level": 3}`))
		}
	}
	if !a.odds(4) {
		c.context = []byte(a.one(`{"zone": "eu"}`, `{"zone": "eu"}`, `{"zone": "us"}`, `{"zone": "eu", "agent": "agent-1"}`, a.one(`{}`, `{}`, `{"agent": "agent-3"}`)))
	}
	return c
}

func (a *asker) credential(i int) *authzdv1.Credential {
	c := &authzdv1.Credential{Id: "c" + strconv.Itoa(i)}
	claims := map[string]any{
		"iss": "https://as.example.com", "sub": "alice", "aud": server, "exp": now().Add(time.Hour).Unix(), "client_id": "agent-1",
		"scope": "s1 s2 s3 mode:a mode:b t0:use t1:use", "acr": "mfa", "auth_time": now().Add(-5 * time.Second).Unix(),
		"authorization_details": []any{a.pay("100"), a.file("/home")},
	}
	if !a.odds(3) {
		c.BoundBy, claims["cnf"] = "dpop", map[string]any{"jkt": "x"}
	}
	if !a.odds(3) {
		a.lessen(claims)
	}
	text, _ := json.Marshal(claims) //nolint:errchkjson // made here
	c.Claims = text
	return c
}

func (a *asker) pay(most string) map[string]any {
	d := map[string]any{"type": "pay", "actions": []string{"start", "stop"}, "currency": a.one("EUR", "EUR", "x", "USD"), "amount": most}
	if !a.odds(4) {
		d["locations"] = []string{server}
	}
	return d
}

func (a *asker) file(path string) map[string]any {
	return map[string]any{"type": "file", "paths": []string{path, "/home/*/x", "/shared"}, "locations": []string{server}}
}

// lessen takes from a token what it can do, or gives it another holder.
func (a *asker) lessen(claims map[string]any) {
	around := func(steps ...int) int64 {
		return now().Add(time.Duration(steps[a.r.IntN(len(steps))]) * time.Second).Unix()
	}
	for range 1 + a.r.IntN(3) {
		switch a.r.IntN(14) {
		case 0, 1, 11, 12:
			claims["scope"] = a.one("s1", "s1 s2", "s2 s3", "t0:use mode:a", "other", "")
		case 2, 13:
			delete(claims, "authorization_details")
		case 3, 4:
			claims["authorization_details"] = []any{
				[]any{a.pay(a.one("0", "9.99", "10"))},
				[]any{a.file(a.one("/home/alice", "/home/alice/x", "/shared"))},
				[]any{map[string]any{"type": "pay", "actions": []string{"stop"}}},
				[]any{map[string]any{"type": "unknown"}, a.pay("10.00")},
			}[a.r.IntN(4)]
		case 5:
			claims["acr"] = a.one("pwd", "key", "")
		case 6:
			claims["auth_time"] = around(-301, -300, -61, -60, -59, 30)
		case 7:
			claims["exp"] = around(-1, 0, 1, 29, 60)
		case 8:
			claims["sub"] = a.one("bob", "bob", "mallory", "agent-1", "carol")
		case 9:
			claims[a.one("iss", "aud", "client_id")] = a.one("https://as.example.org", "https://other.example.com", "agent-2")
		case 10:
			claims["act"] = map[string]any{"sub": a.one("agent-2", "agent-9"), "act": map[string]any{"sub": "agent-1"}}
			if a.odds(2) {
				claims["act"] = map[string]any{"sub": "agent-2"}
			}
		}
	}
}

// call makes a query of c: mostly a call of a tool, near to what rules compare with.
func (a *asker) call(c *caller) *authzdv1.CheckRequest {
	q := &authzdv1.CheckRequest{
		Credentials: c.credentials, Subject: c.subject, Context: c.context, Mcp: proto.CloneOf(c.mcp),
	}
	if a.odds(12) {
		q.Context = []byte(a.one(`{"zone": "us"}`, `{}`, `{"zone": 1}`))
	}
	if a.odds(5) {
		q.Commit = &authzdv1.Commit{IdempotencyKey: "k"}
	}
	switch a.r.IntN(18) {
	case 0:
		q.Mcp.Method, q.Mcp.Params = a.one("initialize", "tools/list"), []byte(`{}`)
	case 1:
		q.Mcp.Method = a.one("resources/read", "resources/read", "resources/read", "prompts/get", "tasks/update", "unheard/of", "ping")
		q.Mcp.Params = []byte(a.one(`{"uri": "file:///pub/a"}`, `{"uri": "file:///etc"}`, `{"name": "p"}`))
	case 2:
		q.Mcp, q.Action = nil, &authzdv1.Action{Name: a.one("read", "write", "tools/call")}
		q.Resource = &authzdv1.Resource{Type: a.one("page", "tool"), Id: a.one("t0", "p1"), Properties: []byte(a.one("", `{"owner": "alice"}`))}
	default:
		a.toolCall(q)
	}
	return q
}

func (a *asker) toolCall(q *authzdv1.CheckRequest) {
	t := a.tools[a.r.IntN(len(a.tools))]
	if a.odds(25) {
		t = tool{name: "unheard"}
	}
	meta := ""
	if a.odds(8) {
		meta = `, "_meta": {"k": "a"}`
	}
	q.Mcp.Method, q.Mcp.Params = "tools/call", fmt.Appendf(nil, `{"name": %q, "arguments": %s%s}`, t.name, a.arguments(&t), meta)
	switch {
	case a.odds(20):
		q.Mcp.Tool = a.mappedTool()
	case a.odds(2):
		q.Mcp.Tool = fmt.Appendf(nil, `{"name": %q, "inputSchema": %s, "annotations": {"readOnlyHint": %t}}`, t.name, t.argumentSchema(), a.odds(2))
	}
	if a.odds(15) {
		q.Action = &authzdv1.Action{Name: a.one("tools/call", "tools/call", "tools/call", "read")}
	}
	if a.odds(15) {
		q.Resource = &authzdv1.Resource{Type: "tool", Id: a.one(t.name, t.name, t.name, "t9"), Properties: []byte(a.one("", `{"a": 1}`))}
	}
}

// mappedTool is the entry of a tool that says itself what is asked about its calls.
func (a *asker) mappedTool() []byte {
	return fmt.Appendf(nil, `{"inputSchema": {"type": "object", "x-authzen-mapping": {"evaluation": {
		"subject": {"type": "identity", "id": %q}, "action": {"name": "read"}, "resource": {"type": "page", "id": %q}, "context": {"zone": "eu"%s}}}}}`,
		a.one("$token.sub", "$token.sub", "$token.sub", "$token.sub", "bob", "$token.none"), a.one("$params.arguments.mode", "p1", "p1", "$params.arguments.?n", "$1 +"),
		a.one(``, `, "agent": "$token.?client_id"`))
}

// arguments are mostly such that the tool takes them.
func (a *asker) arguments(t *tool) string {
	var members []string
	for _, arg := range t.arguments {
		if a.odds(30) || !arg.required && a.odds(3) {
			continue
		}
		members = append(members, fmt.Sprintf("%q: %s", arg.name, a.value(&arg)))
	}
	if a.odds(40) {
		members = append(members, `"more": 1`)
	}
	return "{" + strings.Join(members, ", ") + "}"
}

func (a *asker) value(arg *argument) string {
	if a.odds(60) || arg.lax && a.odds(4) {
		return a.one(`null`, `""`, `[]`, `{}`, `"1e2"`, `-1`, `true`, `"é\u0000"`, `["x", 1]`)
	}
	switch arg.name {
	case "mode":
		return a.one(`"a"`, `"a"`, `"b"`, `"c"`, `"A"`)
	case "path":
		return a.one(`"/home/alice/x"`, `"/home/alice/x"`, `"/home/alice"`, `"/home/bob/y"`, `"/shared/z"`, `"/home/alice/../x"`)
	case "amount":
		return a.one(`"5"`, `"9.99"`, `"10"`, `"10.00"`, `"10.01"`, `"0"`, `"1000"`)
	case "n":
		return a.one(`0`, `2.5`, `5`, `5`, `6`, `9007199254740992`, `9007199254740993`, a.one(`5.0`, `5e0`, `2.50`))
	case "urgent":
		return a.one(`true`, `false`)
	}
	return a.one(`[]`, `["x"]`, `["x", "y"]`, `["z"]`, `["EUR"]`, `["x", "x", "z"]`)
}

// spoil makes one thing of a query wrong.
func (a *asker) spoil(q *authzdv1.CheckRequest) {
	bad := []byte(a.one(`[]`, `null`, `"x"`, `{"a": 1, "a": 2}`, `{"a": {"B": 1, "b": 2}}`, `{"a": 1e999}`, `{"a": "\ud800"}`, `{"a": [01]}`))
	if q.GetMcp() == nil {
		q.Action.Name = ""
		return
	}
	switch a.r.IntN(8) {
	case 0:
		q.Mcp.Params = bad
	case 1:
		q.Mcp.Tool = bad
	case 2:
		q.Context = bad
	case 3:
		q.Mcp.ClientCapabilities = bad
	case 4:
		q.Mcp.Method = ""
	case 5:
		q.Mcp.Transport = "pigeon"
	case 6:
		q.Commit = &authzdv1.Commit{}
	case 7:
		q.Subject = &authzdv1.Subject{Type: "identity"}
	}
}

// spoilCredentials makes a fault of what the queries of a caller share.
func (a *asker) spoilCredentials(c *caller) {
	first := &authzdv1.Credential{Id: "c0", Claims: []byte(`{"iss": "x"}`)}
	switch a.r.IntN(4) {
	case 0:
		first.Claims = []byte(a.one(`[]`, `{"a": 1, "a": 2}`, `{"a": 1e999}`))
	case 1:
		first.Claims, first.AccessToken = nil, "a.b.c"
	case 2:
		first.Id = ""
	case 3:
		first.BoundBy = "honour"
	}
	c.credentials = []*authzdv1.Credential{first}
}
