package api_test

import (
	"strings"
	"testing"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/api/callers"
	"github.com/authzd/authzd/credentials"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/mcp"
	"github.com/authzd/authzd/rar"
)

// mappedPolicy permits what mappings ask in these tests. Its forbids look at the
// message, and at what no mapping can say of itself.
const mappedPolicy = `package authz

import data.authzd.v1 as authzd

permit["read"] := {"require": [authzd.scopes(["read"])], "obligations": [{"id": "log"}]} if {
	input.action.name == "read"
	input.resource.type == "file"
}

permit["write"] := {"require": [authzd.scopes(["write"])], "obligations": [{"id": "keep"}]} if {
	input.action.name == "write"
	input.resource.type == "file"
}

permit["echo"] := {"obligations": [{"id": "input", "value": input}]} if input.action.name == "echo"

permit["call"] := {} if {
	input.action.name == "tools/call"
	input.resource.id == "copy"
}

permit["server"] := {} if input.resource.type in {"mcp_server", "task"}

forbid["raw"] := {"message": "Not there."} if {
	input.mcp.params.name == "copy"
	startswith(input.mcp.params.arguments.from, "/secret")
}
`

const mappedTools = `{"authzd_tools": {"copy": {"arguments": {"type": "object", "required": ["from"],
	"properties": {"from": {"type": "string"}, "to": {"type": "string"}, "n": {"type": "number"}}}}}}`

func mappedSnapshot(t testing.TB, setting string) *engine.Snapshot {
	t.Helper()
	s, _, err := engine.Compile(t.Context(), []engine.Bundle{{
		Name: "main", Revision: "r1", Roots: []string{""},
		Metadata: value(t, `{"contract": 1, "declared_mappings": "`+setting+`"}`),
		Modules:  []engine.Module{{Path: "policy.rego", Text: mappedPolicy}},
		Data:     value(t, mappedTools),
	}})
	if err != nil {
		t.Fatalf("compile the test policy: %v", err)
	}
	return s
}

// copying is a call of the tool copy, which declares mapping; credentials is a
// JSON list, and more are members of the query, ended by a comma.
func copying(mapping, arguments, credentials, more string) string {
	return `{` + more + `"mcp": {"method": "tools/call", "params": {"name": "copy", "arguments": ` + arguments + `,
		"_meta": {"k": "from-meta", "` + mcp.HandleKey + `": "authzctx_7c5d1d79"}},
		"server": "https://mcp.example.com", "transport": "http", "protocol_version": "2026-07-28",
		"tool": {"inputSchema": {"type": "object", "x-authzen-mapping": ` + mapping + `}}}, "credentials": ` + credentials + `}`
}

func asserted(more string) string { return `[{"id": "primary", "claims": ` + claims(more) + `}]` }

const (
	readsFrom = `{"evaluation": {"subject": {"type": "identity", "id": "$token.sub"}, "action": {"name": "read"},
		"resource": {"type": "file", "id": "$params.arguments.from"}, "context": {"agent": "$token.?client_id"}}}`
	copies = `{"evaluations": {"subject": {"id": "$token.sub"}, "context": {"agent": "$token.?client_id"}, "evaluations": [
		{"action": {"name": "read"}, "resource": {"type": "file", "id": "$params.arguments.from"}},
		{"action": {"name": "write"}, "resource": {"type": "file", "id": "$params.arguments.to"}}]}}`
	asBob = `{"evaluation": {"subject": {"id": "bob"}, "action": {"name": "read"}, "resource": {"type": "file", "id": "x"}}}`
)

func echoing(context string) string {
	return `{"evaluation": {"action": {"name": "echo"}, "resource": {"type": "file", "id": "x"}, "context": ` + context + `}}`
}

func TestDeclaredMappings(t *testing.T) {
	t.Parallel()
	const (
		unsupported = "mcp.mapping_unsupported /mcp"
		place       = " /mcp/tool/inputSchema/x-authzen-mapping"
		invalid     = "mcp.mapping_invalid" + place
		failed      = "mcp.mapping" + place
		mismatch    = "request.mcp_mismatch "
		both        = `, "scope": "read write"`
		args        = `{"from": "/a", "to": "/b"}`
	)
	entry := func(action, resource, id string) string {
		return `{"evaluation": {"action": {"name": "` + action + `"}, "resource": {"type": "` + resource + `", "id": "` + id + `"}}}`
	}
	bySetting := map[string]*doors{}
	for _, setting := range []string{"refuse", "verified_subject", "any_subject"} {
		bySetting[setting] = start(t, nil)
		bySetting[setting].engine.Swap(mappedSnapshot(t, setting))
	}
	for name, c := range map[string]struct {
		query string
		// What policy that admits verified subjects and any subject answers; any
		// empty: the same.
		verified, any string
	}{
		"one question":             {query: copying(readsFrom, args, asserted(both), ""), verified: "ALLOW"},
		"two questions":            {query: copying(copies, args, asserted(both), ""), verified: "ALLOW"},
		"the second is unmet":      {query: copying(copies, args, asserted(`, "scope": "read"`), ""), verified: "DENY"},
		"the first is unmet":       {query: copying(copies, args, asserted(`, "scope": "write"`), ""), verified: "DENY"},
		"a forbid on the message":  {query: copying(entry("read", "file", "x"), `{"from": "/secret/1"}`, asserted(both), ""), verified: "DENY"},
		"arguments fail":           {query: copying(entry("read", "file", "x"), `{"to": "/b"}`, asserted(both), ""), verified: "DENY"},
		"an argument is missing":   {query: copying(copies, `{"from": "/a"}`, asserted(both), ""), verified: failed + "/evaluations/evaluations/1/resource/id"},
		"no permit":                {query: copying(entry("burn", "file", "x"), args, asserted(both), ""), verified: "DENY"},
		"another subject":          {query: copying(asBob, args, asserted(both), ""), verified: "mcp.mapping_subject" + place + "/evaluation/subject/id", any: "ALLOW"},
		"null":                     {query: copying(`null`, args, asserted(both), ""), verified: invalid},
		"empty":                    {query: copying(`{}`, args, asserted(both), ""), verified: invalid},
		"a text":                   {query: copying(`"evaluation"`, args, asserted(both), ""), verified: invalid},
		"unknown variable":         {query: copying(echoing(`{"x": "$credentials"}`), args, asserted(both), ""), verified: invalid + "/evaluation/context/x"},
		"coaz":                     {query: copying(echoing(`{"coaz": {"subject_verified": true}}`), args, asserted(both), ""), verified: invalid + "/evaluation/context/coaz"},
		"coaz from the arguments":  {query: copying(echoing(`"${'coaz': 1}"`), args, asserted(both), ""), verified: failed + "/evaluation/context/coaz"},
		"another agent":            {query: copying(echoing(`{"agent": "evil"}`), args, asserted(both), ""), verified: "request.agent_mismatch /context/agent"},
		"passes for another tool":  {query: copying(entry("tools/call", "tool", "harmless"), args, asserted(both), ""), verified: mismatch + "/action/name"},
		"passes for the server":    {query: copying(entry("tools/list", "mcp_server", "https://mcp.example.com"), args, asserted(both), ""), verified: mismatch + "/action/name"},
		"a resource of the server": {query: copying(entry("read", "mcp_server", "x"), args, asserted(both), ""), verified: mismatch + "/resource/type"},
		"what the default asks":    {query: copying(entry("tools/call", "tool", "copy"), args, asserted(both), ""), verified: "ALLOW"},
		"a subject's issuer": {
			query:    copying(`{"evaluation": {"subject": {"properties": {"issuer": "x"}}, "action": {"name": "read"}, "resource": {"type": "file", "id": "x"}}}`, args, asserted(both), ""),
			verified: mismatch + "/subject/properties/issuer",
		},
		"the same action and resource": {
			query:    copying(readsFrom, args, asserted(both), `"action": {"name": "read"}, "resource": {"type": "file", "id": "/a"}, `),
			verified: "ALLOW",
		},
		"another action":         {query: copying(readsFrom, args, asserted(both), `"action": {"name": "tools/call"}, `), verified: mismatch + "/action"},
		"another resource":       {query: copying(readsFrom, args, asserted(both), `"resource": {"type": "tool", "id": "copy"}, `), verified: mismatch + "/resource"},
		"another context":        {query: copying(echoing(`{"ip": "1"}`), args, asserted(both), `"context": {"ip": "2"}, `), verified: mismatch + "/context/ip"},
		"a number that is exact": {query: copying(echoing(`{"n": "$params.arguments.n"}`), `{"from": "/a", "n": 9007199254740992}`, asserted(both), ""), verified: "ALLOW"},
		"a number that is not": {
			query:    copying(echoing(`{"n": "$params.arguments.n"}`), `{"from": "/a", "n": 9007199254740993}`, asserted(both), ""),
			verified: failed + "/evaluation/context/n",
		},
		"a token for another server": {
			query:    strings.Replace(copying(readsFrom, args, asserted(both), ""), `"aud": "https://mcp`, `"aud": "https://evil`, 1),
			verified: "DENY primary=token.audience",
		},
		"no credential": {query: copying(readsFrom, args, `[]`, ""), verified: "DENY"},
		"a bare subject": {
			query:    copying(readsFrom, args, `[]`, `"subject": {"type": "identity", "id": "alice"}, `),
			verified: failed,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.any == "" {
				c.any = c.verified
			}
			// Policy that admits no mappings answers who says itself what is asked.
			refused := unsupported
			if strings.Contains(c.query, `"action": {"name": "read"}, "resource": {"type": "file", "id": "/a"}, "mcp"`) {
				refused = mismatch + "/action/name"
			}
			for setting, want := range map[string]string{"refuse": refused, "verified_subject": c.verified, "any_subject": c.any} {
				t.Run(setting, func(t *testing.T) {
					t.Parallel()
					bySetting[setting].everywhere(t, "", want, func(string) string { return c.query })
				})
			}
		})
	}
}

// TestDeclaredMappingAnswer: what two decisions leave of each, and what policy
// has seen.
func TestDeclaredMappingAnswer(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	d.engine.Swap(mappedSnapshot(t, "any_subject"))
	got := value(t, string(d.post(t, "/v1/check", copying(copies, `{"from": "/a", "to": "/b"}`, asserted(`, "scope": "read write"`), "")).body))
	for pointer, want := range map[string]string{
		"/decision": `"ALLOW"`, "/rule": `"read"`, "/obligations": `[{"id":"log"},{"id":"keep"}]`, "/credential_ids": `["primary"]`,
		"/reasons/0/rule": `"read"`, "/reasons/1/rule": `"write"`,
	} {
		if v, _ := got.Lookup(pointer); !rar.Equal(v, value(t, want)) {
			t.Errorf("%s is %s, want %s", pointer, v.AppendJSON(nil), want)
		}
	}
	mapping := `{"evaluation": {"subject": {"id": "bob", "properties": {"mail": "$token.?email"}}, "action": {"name": "echo"}, "resource": {"type": "file", "id": "x"},
		"context": {"meta": "$params._meta.k", "handle": "$params._meta.?` + "`" + mcp.HandleKey + "`" + `.hasValue()"}}}`
	body := string(d.post(t, "/v1/check", copying(mapping, `{"from": "/a"}`, asserted(`, "email": "a@example.com"`), `"context": {"door": "front"}, `)).body)
	got = value(t, body)
	for pointer, want := range map[string]string{
		"/reasons/0/code": `"engine.subject_unverified"`,
		"/obligations/0/value/context": `{"door":"front","meta":"from-meta","handle":false,"agent":"https://agent.example/cimd.json",
			"coaz":{"mapped":true,"subject_verified":false}}`,
		"/obligations/0/value/subject":          `{"type":"identity","id":"bob","properties":{"mail":"a@example.com"}}`,
		"/obligations/0/value/mcp/params/_meta": `{"k":"from-meta"}`,
	} {
		if v, _ := got.Lookup(pointer); !rar.Equal(v, value(t, want)) {
			t.Errorf("%s is %s, want %s", pointer, v.AppendJSON(nil), want)
		}
	}
	logs := d.logs.String()
	for _, want := range []string{
		`"echoed_handle":"authzctx_7c5d1d79"`, `"kind":"agent_missing"`, `"path":"/evaluation/context"`,
	} {
		if !strings.Contains(logs, want) {
			t.Errorf("the log lacks %s", want)
		}
	}
	if strings.Contains(logs, "a@example.com") {
		t.Error("the log has a claim")
	}
}

// TestDeclaredMappingToken: the claims are those of the token that was verified,
// the ones that policy does not see included.
func TestDeclaredMappingToken(t *testing.T) {
	t.Parallel()
	i := newIssuing(t)
	// The person of this issuer's tokens is in another claim than sub.
	i.config.Issuers[0].Mapping = credentials.Mapping{SubjectClaim: "obo"}
	d := i.start(t, nil)
	d.engine.Swap(mappedSnapshot(t, "verified_subject"))
	query := func(mapping string, change object) string {
		token := i.token(t, change)
		return copying(mapping, `{"from": "/a"}`, `[{"id": "primary", "access_token": "`+token+`"}]`, "")
	}
	good := object{"sub": "agent-7", "obo": "alice", "team": "red"}
	mapping := `{"evaluation": {"subject": {"id": "$token.sub"}, "action": {"name": "echo"}, "resource": {"type": "file", "id": "$token.team"}, "context": {"raw": "$token.sub"}}}`
	d.everywhere(t, "", "ALLOW", func(string) string { return query(mapping, good) })
	got := value(t, string(d.post(t, "/v1/check", query(mapping, good)).body))
	for pointer, want := range map[string]string{
		"/obligations/0/value/subject/id": `"alice"`, "/obligations/0/value/resource/id": `"red"`, "/obligations/0/value/context/raw": `"agent-7"`,
	} {
		if v, _ := got.Lookup(pointer); !rar.Equal(v, value(t, want)) {
			t.Errorf("%s is %s, want %s", pointer, v.AppendJSON(nil), want)
		}
	}
	byRawSub := strings.Replace(mapping, `"id": "$token.sub"`, `"id": "$token.sub + ''"`, 1)
	d.everywhere(t, "", "mcp.mapping_subject /mcp/tool/inputSchema/x-authzen-mapping/evaluation/subject/id", func(string) string { return query(byRawSub, good) })
	d.everywhere(t, "", "mcp.mapping /mcp/tool/inputSchema/x-authzen-mapping/evaluation/resource/id",
		func(string) string { return query(mapping, object{"sub": "agent-7", "obo": "alice"}) })
	d.everywhere(t, "", "DENY primary=token.signature", func(string) string {
		q := query(mapping, good)
		at := strings.LastIndex(q, `"}]}`)
		return q[:at-6] + "AAAAAA" + q[at:]
	})
}

// TestDeclaredMappingNeedsAssert: the tool's entry is the caller's word.
func TestDeclaredMappingNeedsAssert(t *testing.T) {
	t.Parallel()
	i := newIssuing(t)
	dir := t.TempDir() + "/keys.json"
	reader := makeKey(t, dir, callers.Key{Name: "reader", Rights: callers.Check, Audience: "https://mcp.example.com"})
	gateway := makeKey(t, dir, callers.Key{Name: "gateway", Rights: callers.Check | callers.Assert})
	d := i.start(t, func(o *api.Options) { o.Access.KeysFile = dir })
	query := func(string) string {
		token := i.token(t, nil)
		return copying(readsFrom, `{"from": "/a"}`, `[{"id": "primary", "access_token": "`+token+`"}]`, "")
	}
	d.engine.Swap(mappedSnapshot(t, "any_subject"))
	d.everywhere(t, gateway, "ALLOW", query)
	d.everywhere(t, reader, "api.right_missing /mcp/tool/inputSchema/x-authzen-mapping", query)
	d.engine.Swap(mappedSnapshot(t, "refuse"))
	d.everywhere(t, reader, "mcp.mapping_unsupported /mcp", query)
}

func TestDeclaredMappingIsNotPlanned(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	for setting, want := range map[string]string{"refuse": "mcp.mapping_unsupported /calls/0/mcp", "any_subject": "mcp.mapping_unsupported /calls/0/mcp"} {
		d.engine.Swap(mappedSnapshot(t, setting))
		call := copying(readsFrom, `{"from": "/a"}`, "@", "")
		call = strings.Replace(call, `, "credentials": @`, "", 1)
		got := d.post(t, "/v1/authorization-details:plan", `{"credentials": `+asserted("")+`, "calls": [`+call+`]}`)
		if outcome(t, got.body) != want {
			t.Errorf("%s: %s, want %s", setting, got.body, want)
		}
	}
}

// TestMappingCache: more mappings than are kept, each again, and a bad one.
func TestMappingCache(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	d.engine.Swap(mappedSnapshot(t, "verified_subject"))
	for range 2 {
		for n := range 130 {
			mapping := echoing(`{"n": ` + strings.Repeat("1", 1+n%15) + `, "x": "` + strings.Repeat("y", n) + `"}`)
			if got := d.post(t, "/v1/check", copying(mapping, `{"from": "/a"}`, asserted(""), "")); !strings.Contains(string(got.body), `"ALLOW"`) {
				t.Fatalf("%d: %s", n, got.body)
			}
			if got := d.post(t, "/v1/check", copying(`{"x": `+strings.Repeat("1", 1+n%3)+`}`, `{"from": "/a"}`, asserted(""), "")); !strings.Contains(string(got.body), "mcp.mapping_invalid") {
				t.Fatalf("%d: %s", n, got.body)
			}
		}
	}
}

func TestExtraMethods(t *testing.T) {
	t.Parallel()
	on, off := start(t, nil), start(t, func(o *api.Options) { o.StrictMethods = true })
	on.engine.Swap(mappedSnapshot(t, "refuse"))
	off.engine.Swap(mappedSnapshot(t, "refuse"))
	for method, params := range map[string]string{
		"server/discover": `{}`, "subscriptions/listen": `{}`, "resources/templates/list": `{}`, "tasks/update": `{"taskId": "t"}`,
	} {
		query := func(string) string {
			return `{"mcp": {"method": "` + method + `", "params": ` + params + `, "server": "https://mcp.example.com", "transport": "http",
				"protocol_version": "2026-07-28"}, "credentials": ` + asserted("") + `}`
		}
		on.everywhere(t, "", "ALLOW", query)
		off.everywhere(t, "", "mcp.method_unknown /mcp/method", query)
	}
	for _, d := range []*doors{on, off} {
		d.everywhere(t, "", "ALLOW", func(string) string {
			return `{"mcp": {"method": "tools/list", "server": "https://mcp.example.com"}, "credentials": ` + asserted("") + `}`
		})
		d.everywhere(t, "", "mcp.method_unknown /mcp/method", func(string) string {
			return `{"mcp": {"method": "tools/burn", "server": "https://mcp.example.com"}, "credentials": ` + asserted("") + `}`
		})
	}
}

func TestDenialCode(t *testing.T) {
	t.Parallel()
	query := `{"mcp": {"method": "prompts/get", "params": {"name": "p"}, "server": "https://mcp.example.com", "transport": "http",
		"protocol_version": "2026-07-28"}, "credentials": ` + asserted("") + `}`
	for code, want := range map[int]string{0: "-31403", -32001: "-32001", -31999: "-31999", -32401: "-31403"} {
		d := start(t, func(o *api.Options) { o.Denial.DenialCode = code })
		got, _ := value(t, string(d.post(t, "/v1/check", query).body)).Lookup("/denial/mcp_error/code")
		if got.Text() != want {
			t.Errorf("with %d the denial has code %s, want %s", code, got.Text(), want)
		}
	}
}
