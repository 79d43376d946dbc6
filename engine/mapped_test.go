package engine_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

// mappedPolicy permits what declared mappings ask in these tests, and forbids on
// the message, which no mapping changes.
const mappedPolicy = `package authz

import data.authzd.v1 as authzd

permit["read"] := {"require": [authzd.scopes(["read"])], "obligations": [{"id": "log", "of": input.resource.id}, {"id": "both"}]} if {
	input.action.name == "read"
	input.resource.type == "file"
}

permit["write"] := {"require": [authzd.scopes(["write"])], "obligations": [{"id": "both"}, {"id": "keep"}]} if {
	input.action.name == "write"
	input.resource.type == "file"
}

permit["echo"] := {"obligations": [{"id": "input", "value": input}]} if input.action.name == "echo"

permit["call"] := {} if {
	input.action.name == "tools/call"
	input.resource.id == "copy"
}

permit["listing"] := {} if input.resource.type == "mcp_server"

forbid["raw"] := {"message": "Not {/mcp/params/arguments/who}, and {/resource/id}."} if {
	input.mcp.params.arguments.who == "mallory"
}

forbid["unverified"] := {"message": "Unverified."} if {
	input.resource.id == "for-alice"
	not object.get(input.context, ["coaz", "subject_verified"], true)
}
`

const mappedTool = `{"authzd_tools": {
	"copy": {"arguments": {"type": "object", "properties": {"who": {"type": "string"}}, "required": ["who"]}},
	"other": {"arguments": {"type": "object"}}}}`

func mappedEngine(t testing.TB, setting string) *engine.Engine {
	t.Helper()
	metadata := `{"contract": 1}`
	if setting != "" {
		metadata = `{"contract": 1, "declared_mappings": "` + setting + `"}`
	}
	return newEngine(compileWith(t, mappedPolicy, mappedTool, metadata))
}

// mappedCall is a call of the tool copy whose mapping asks m.
func mappedCall(t testing.TB, m engine.Mapped) *engine.Query {
	t.Helper()
	q := call(t, "copy", `{"who": "carol"}`, credential(t, "c", claims(`"scope": "read write"`)))
	q.Action, q.Resource = engine.Action{}, engine.Resource{}
	q.Mapping = func(_ context.Context, in engine.MappingInput) (engine.Mapped, error) {
		if in.Mode == engine.RefuseDeclared {
			return engine.Mapped{}, errRefused
		}
		return m, nil
	}
	return q
}

var errRefused = errors.New("refused by the door")

func asks(action, resource, id string) engine.MappedEvaluation {
	return engine.MappedEvaluation{Action: engine.Action{Name: action}, Resource: engine.Resource{Type: resource, ID: id}}
}

func byAlice(evaluations ...engine.MappedEvaluation) engine.Mapped {
	return engine.Mapped{Subject: engine.Subject{Type: "identity", ID: alice}, Evaluations: evaluations}
}

func TestMappedNeedsPolicy(t *testing.T) {
	t.Parallel()
	q := mappedCall(t, byAlice(asks("read", "file", "a")))
	for _, setting := range []string{"", "refuse"} {
		d, err := mappedEngine(t, setting).Decide(t.Context(), q)
		if !errors.Is(err, errRefused) || d.Allow {
			t.Errorf("%q: %+v, %v", setting, d, err)
		}
	}
	// Nor does a part of what is asked make the whole.
	for _, part := range []func(){
		func() { q.Action, q.Resource = engine.Action{Name: "tools/call"}, engine.Resource{Type: "tool"} },
		func() { q.Resource = engine.Resource{ID: "copy"} },
		func() { q.Action, q.Resource = engine.Action{}, engine.Resource{Type: "tool", ID: "copy"} },
	} {
		part()
		if d, err := mappedEngine(t, "").Decide(t.Context(), q); !errors.Is(err, errRefused) || d.Allow {
			t.Errorf("%+v %+v: %+v, %v", q.Action, q.Resource, d, err)
		}
	}
	q.Action, q.Resource = engine.Action{}, engine.Resource{}
	// A door that lets a mapping answer all the same changes nothing.
	q.Mapping = func(context.Context, engine.MappingInput) (engine.Mapped, error) {
		return byAlice(asks("read", "file", "a")), nil
	}
	if d, err := mappedEngine(t, "").Decide(t.Context(), q); codeOf(err) != engine.CodeMCPMismatch || d.Allow {
		t.Errorf("with a careless door: %+v, %v", d, err)
	}
	for _, setting := range []string{"verified_subject", "any_subject"} {
		e := mappedEngine(t, setting)
		if got := e.Snapshot().DeclaredMappings(); string(got) != setting {
			t.Errorf("setting %s, want %s", got, setting)
		}
		if d := decide(t, e, q); !d.Allow || d.Rule != "read" {
			t.Errorf("%s: %+v", setting, d)
		}
	}
	if got := mappedEngine(t, "").Snapshot().DeclaredMappings(); got != engine.RefuseDeclared {
		t.Errorf("by default %s", got)
	}
}

// TestMappedRefusedByPolicyStillDecides: where policy takes no mappings, a caller
// that says itself what is asked gets the answer to that.
func TestMappedRefusedByPolicyStillDecides(t *testing.T) {
	t.Parallel()
	q := mappedCall(t, byAlice(asks("echo", "file", "a")))
	q.Action, q.Resource = engine.Action{Name: "tools/call"}, engine.Resource{Type: "tool", ID: "copy"}
	if d := decide(t, mappedEngine(t, "refuse"), q); !d.Allow || d.Rule != "call" {
		t.Errorf("%+v", d)
	}
	q.Resource.ID = "other"
	if _, err := mappedEngine(t, "refuse").Decide(t.Context(), q); codeOf(err) != engine.CodeMCPMismatch {
		t.Errorf("another tool: %v", err)
	}
}

func TestMappedSettingIsClosed(t *testing.T) {
	t.Parallel()
	for _, v := range []string{`true`, `null`, `""`, `"any"`, `"Refuse"`, `["refuse"]`, `1`} {
		_, _, err := engine.Compile(t.Context(), []engine.Bundle{bundle(t, mappedPolicy, mappedTool, `{"contract": 1, "declared_mappings": `+v+`}`)})
		if err == nil || !strings.Contains(err.Error(), string(engine.CodeBundleMetadata)) {
			t.Errorf("%s: %v", v, err)
		}
	}
}

func TestMappedAnySubjectIsWarnedAbout(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]int{"refuse": 0, "verified_subject": 0, "any_subject": 1} {
		_, found, err := engine.Compile(t.Context(), []engine.Bundle{bundle(t, mappedPolicy, mappedTool, `{"contract": 1, "declared_mappings": "`+setting+`"}`)})
		lax := 0
		for _, f := range found {
			if f.Code == engine.CodeBundleLaxContract {
				lax++
			}
		}
		if err != nil || lax != want {
			t.Errorf("%s: %v, %v", setting, found, err)
		}
	}
}

func TestMappedDecisions(t *testing.T) {
	t.Parallel()
	e := mappedEngine(t, "verified_subject")
	q := mappedCall(t, byAlice(asks("read", "file", "a"), asks("write", "file", "b"), asks("read", "file", "b")))
	d := decide(t, e, q)
	if !d.Allow || d.Rule != "read" {
		t.Fatalf("%+v", d)
	}
	var obligations, rules []string
	for _, o := range d.Obligations {
		obligations = append(obligations, string(o.AppendJSON(nil)))
	}
	for _, r := range d.Reasons {
		rules = append(rules, r.Rule)
	}
	if diff := cmp.Diff([]string{`{"id":"log","of":"a"}`, `{"id":"both"}`, `{"id":"keep"}`, `{"id":"log","of":"b"}`}, obligations); diff != "" {
		t.Errorf("obligations (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"read", "write", "read"}, rules); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	if len(d.Met) != 1 || d.Met[0].CredentialID != "c" || d.ExpiresAt.IsZero() || d.CallDigest == "" {
		t.Errorf("%+v", d)
	}
	plain := call(t, "copy", `{"who": "carol"}`, q.Credentials...)
	if other := decide(t, e, plain); other.CallDigest != d.CallDigest {
		t.Error("the digest is that of the message, and a mapping changes it")
	}
	for name, c := range map[string]struct {
		asked []engine.MappedEvaluation
		rule  string
	}{
		"the second is not permitted": {[]engine.MappedEvaluation{asks("read", "file", "a"), asks("burn", "file", "a")}, ""},
		"the first is not":            {[]engine.MappedEvaluation{asks("burn", "file", "a"), asks("read", "file", "a")}, ""},
		"none is":                     {[]engine.MappedEvaluation{asks("burn", "file", "a"), asks("burn", "file", "b")}, ""},
	} {
		d := decide(t, e, mappedCall(t, byAlice(c.asked...)))
		if d.Allow || d.Rule != c.rule || len(d.Obligations)+len(d.Met) > 0 || !d.ExpiresAt.IsZero() || d.Reasons[0].Code != engine.CodeNoPermit {
			t.Errorf("%s: %+v", name, d)
		}
	}
	// A requirement that one of them has is offered, as for any call.
	q = mappedCall(t, byAlice(asks("read", "file", "a"), asks("write", "file", "b")))
	q.Credentials = []engine.Credential{credential(t, "c", claims(`"scope": "read"`))}
	if d = decide(t, e, q); d.Allow || d.Rule != "write" || d.Remediation.Status != engine.Available {
		t.Errorf("an unmet requirement: %+v", d)
	}
}

func TestMappedForbidOnTheMessage(t *testing.T) {
	t.Parallel()
	for _, setting := range []string{"verified_subject", "any_subject"} {
		q := mappedCall(t, byAlice(asks("read", "file", "a")))
		q.MCP.Params = decode(t, `{"name": "copy", "arguments": {"who": "mallory"}}`)
		d := decide(t, mappedEngine(t, setting), q)
		if d.Allow || d.Rule != "raw" || d.Message != "Not mallory, and –." {
			t.Errorf("%s: %+v", setting, d)
		}
		// Arguments are still held against the schema of the tool that is called.
		q.MCP.Params = decode(t, `{"name": "copy", "arguments": {}}`)
		if d = decide(t, mappedEngine(t, setting), q); d.Allow || d.Error == nil || d.Error.Code != engine.CodeArgumentsInvalid {
			t.Errorf("%s: without the argument: %+v", setting, d)
		}
		q.MCP.Params = decode(t, `{"name": "unheard", "arguments": {}}`)
		if d = decide(t, mappedEngine(t, setting), q); d.Allow || d.Error == nil || d.Error.Code != engine.CodeToolUnknown {
			t.Errorf("%s: an unknown tool: %+v", setting, d)
		}
	}
}

func TestMappedInput(t *testing.T) {
	t.Parallel()
	m := byAlice(engine.MappedEvaluation{
		Action:   engine.Action{Name: "echo", Properties: decode(t, `{"lvl": 3}`)},
		Resource: engine.Resource{Type: "customer", ID: "k", Properties: decode(t, `{"p": 1}`)},
		Context:  decode(t, `{"why": "x", "agent": "agent", "ip": "::1"}`),
	})
	m.Subject.Properties = decode(t, `{"team": "red"}`)
	q := mappedCall(t, m)
	q.Context = decode(t, `{"ip": "::1", "door": "front"}`)
	var seen engine.MappingInput
	inner := q.Mapping
	q.Mapping = func(ctx context.Context, in engine.MappingInput) (engine.Mapped, error) {
		seen = in
		return inner(ctx, in)
	}
	d := decide(t, mappedEngine(t, "verified_subject"), q)
	if !d.Allow {
		t.Fatalf("%+v", d)
	}
	in, _ := d.Obligations[0].Get("value")
	for pointer, want := range map[string]string{
		"/subject":                 `{"type":"identity","id":"` + alice + `","properties":{"issuer":"` + testIssuer + `","team":"red"}}`,
		"/action":                  `{"name":"echo","properties":{"lvl":3}}`,
		"/resource":                `{"type":"customer","id":"k","properties":{"p":1}}`,
		"/context":                 `{"agent":"agent","ip":"::1","door":"front","why":"x","coaz":{"mapped":true,"subject_verified":true}}`,
		"/mcp/params":              `{"name":"copy","arguments":{"who":"carol"}}`,
		"/mcp/method":              `"tools/call"`,
		"/credentials/0/id":        `"c"`,
		"/credentials/0/client_id": `"agent"`,
	} {
		if got, _ := in.Lookup(pointer); !rar.Equal(got, decode(t, want)) {
			t.Errorf("%s is %s, want %s", pointer, got.AppendJSON(nil), want)
		}
	}
	if _, shown := in.Lookup("/credentials/0/claims"); shown {
		t.Error("policy sees claims that nobody exposed")
	}
	if seen.SubjectID != alice || seen.Mode != engine.VerifiedSubject || !rar.Equal(seen.Params, q.MCP.Params) {
		t.Errorf("the mapping is given %+v", seen)
	}
	if iss, _ := seen.Claims.Get("iss"); iss.Text() != testIssuer {
		t.Errorf("the mapping is given the claims %s", seen.Claims.AppendJSON(nil))
	}
}

// TestMappedRefusals: what a mapping, or a caller beside it, may not say.
func TestMappedRefusals(t *testing.T) {
	t.Parallel()
	with := func(change func(*engine.MappedEvaluation)) engine.Mapped {
		e := asks("read", "file", "a")
		change(&e)
		return byAlice(e)
	}
	subject := func(change func(*engine.Subject)) engine.Mapped {
		m := byAlice(asks("read", "file", "a"))
		change(&m.Subject)
		return m
	}
	good := byAlice(asks("read", "file", "a"))
	for name, c := range map[string]struct {
		m    engine.Mapped
		edit func(*engine.Query)
		code engine.Code
		path string
	}{
		"no question":      {m: byAlice(), path: "/mcp/tool/inputSchema"},
		"many questions":   {m: byAlice(slices.Repeat(good.Evaluations, 17)...), path: "/mcp/tool/inputSchema"},
		"no action":        {m: byAlice(asks("", "file", "a")), path: "/mcp/tool/inputSchema"},
		"no resource type": {m: byAlice(asks("read", "", "a")), path: "/mcp/tool/inputSchema"},
		"no resource id":   {m: byAlice(asks("read", "file", "")), path: "/mcp/tool/inputSchema"},
		"no subject":       {m: engine.Mapped{Evaluations: good.Evaluations}, path: "/subject"},
		"another subject":  {m: subject(func(s *engine.Subject) { s.ID = "bob" }), path: "/subject/id"},
		"an issuer": {
			m:    subject(func(s *engine.Subject) { s.Properties = decode(t, `{"issuer": "https://evil.example"}`) }),
			path: "/subject/properties/issuer",
		},
		"the very issuer": {
			m:    subject(func(s *engine.Subject) { s.Properties = decode(t, `{"issuer": "`+testIssuer+`"}`) }),
			path: "/subject/properties/issuer",
		},
		"subject properties are a list": {
			m: subject(func(s *engine.Subject) { s.Properties = decode(t, `[]`) }), code: engine.CodeWrongType, path: "/subject/properties",
		},
		"context is a text": {
			m: with(func(e *engine.MappedEvaluation) { e.Context = decode(t, `"x"`) }), code: engine.CodeWrongType, path: "/context",
		},
		"coaz by the mapping": {
			m: with(func(e *engine.MappedEvaluation) { e.Context = decode(t, `{"coaz": {"mapped": false}}`) }), path: "/context/coaz",
		},
		"another agent": {
			m:    with(func(e *engine.MappedEvaluation) { e.Context = decode(t, `{"agent": "other"}`) }),
			code: engine.CodeAgentMismatch, path: "/context/agent",
		},
		"an agent that is no text": {
			m:    with(func(e *engine.MappedEvaluation) { e.Context = decode(t, `{"agent": null}`) }),
			code: engine.CodeAgentMismatch, path: "/context/agent",
		},
		"passes for another tool":      {m: byAlice(asks("tools/call", "tool", "other")), path: "/action/name"},
		"passes for a listing":         {m: byAlice(asks("tools/list", "mcp_server", testServer)), path: "/action/name"},
		"passes for a prompt":          {m: byAlice(asks("prompts/get", "prompt", "p")), path: "/action/name"},
		"passes for initialize":        {m: byAlice(asks("initialize", "file", "a")), path: "/action/name"},
		"calls, of a file":             {m: byAlice(asks("tools/call", "file", "copy")), path: "/action/name"},
		"reads another tool":           {m: byAlice(asks("read", "tool", "other")), path: "/resource/type"},
		"reads the server":             {m: byAlice(asks("read", "mcp_server", testServer)), path: "/resource/type"},
		"reads a task":                 {m: byAlice(asks("read", "task", "t")), path: "/resource/type"},
		"the second passes for a tool": {m: byAlice(asks("read", "file", "a"), asks("read", "tool", "other")), path: "/resource/type"},

		"coaz by the caller": {
			m: good, edit: func(q *engine.Query) { q.Context = decode(t, `{"coaz": {"mapped": true}}`) },
			code: engine.CodeInvalidValue, path: "/context/coaz",
		},
		"the caller's credentials share an id": {
			m: good, edit: func(q *engine.Query) { q.Credentials = append(q.Credentials, q.Credentials[0]) },
			code: engine.CodeInvalidValue, path: "/credentials",
		},
		"the caller's context differs": {
			m:    with(func(e *engine.MappedEvaluation) { e.Context = decode(t, `{"ip": "10.0.0.1"}`) }),
			edit: func(q *engine.Query) { q.Context = decode(t, `{"ip": "::1"}`) }, path: "/context/ip",
		},
		"the caller's action differs":   {m: good, edit: func(q *engine.Query) { q.Action.Name = "tools/call" }, path: "/action"},
		"the caller's resource differs": {m: good, edit: func(q *engine.Query) { q.Resource = engine.Resource{Type: "tool", ID: "copy"} }, path: "/resource"},
		"the caller's properties differ": {
			m: good, edit: func(q *engine.Query) {
				q.Resource = engine.Resource{Type: "file", ID: "a", Properties: decode(t, `{"x": 1}`)}
			}, path: "/resource",
		},
		"an action beside several": {
			m: byAlice(asks("read", "file", "a"), asks("read", "file", "a")), edit: func(q *engine.Query) { q.Action.Name = "read" }, path: "/action",
		},
		"the caller's subject type differs": {
			m:    subject(func(s *engine.Subject) { s.Type = "admin" }),
			edit: func(q *engine.Query) { q.Subject = &engine.Subject{Type: "identity", ID: alice} }, path: "/subject/type",
		},
		"the caller's subject property differs": {
			m: subject(func(s *engine.Subject) { s.Properties = decode(t, `{"role": "admin"}`) }),
			edit: func(q *engine.Query) {
				q.Subject = &engine.Subject{Type: "identity", ID: alice, Properties: decode(t, `{"role": "user"}`)}
			}, path: "/subject/properties/role",
		},
		"no message": {m: good, edit: func(q *engine.Query) { q.MCP = nil }, code: engine.CodeMCPMissing, path: "/mcp"},
		"another method": {
			m: good, edit: func(q *engine.Query) { q.MCP.Method = "prompts/get" }, path: "/mcp/method",
		},
		"no tool named": {
			m: good, edit: func(q *engine.Query) { q.MCP.Params = decode(t, `{"arguments": {"who": "x"}}`) },
			code: engine.CodeMissingMember, path: "/mcp/params/name",
		},
		"a member like name": {
			m: good, edit: func(q *engine.Query) {
				q.MCP.Params = decode(t, `{"name": "copy", "Name": "x", "arguments": {"who": "x"}}`)
			},
			code: engine.CodeInvalidValue, path: "/mcp/params/Name",
		},
	} {
		q := mappedCall(t, c.m)
		if c.edit != nil {
			c.edit(q)
		}
		if c.code == "" {
			c.code = engine.CodeMCPMismatch
		}
		d, err := mappedEngine(t, "verified_subject").Decide(t.Context(), q)
		var e *engine.Error
		if !errors.As(err, &e) || e.Code != c.code || e.Path != c.path || d.Allow {
			t.Errorf("%s: got %v, want %s at %s", name, err, c.code, c.path)
		}
	}
}

func TestMappedRepeats(t *testing.T) {
	t.Parallel()
	e := mappedEngine(t, "verified_subject")
	q := mappedCall(t, byAlice(asks("read", "file", "a")))
	q.Action, q.Resource = engine.Action{Name: "read"}, engine.Resource{Type: "file", ID: "a"}
	q.Subject = &engine.Subject{Type: "staff", ID: alice, Properties: decode(t, `{"role": "user"}`)}
	if d := decide(t, e, q); !d.Allow {
		t.Errorf("the caller says the same: %+v", d)
	}
	own := mappedCall(t, byAlice(asks("tools/call", "tool", "copy")))
	if d := decide(t, e, own); !d.Allow || d.Rule != "call" {
		t.Errorf("the mapping asks what the default asks: %+v", d)
	}
}

func TestMappedAnySubject(t *testing.T) {
	t.Parallel()
	e := mappedEngine(t, "any_subject")
	m := byAlice(asks("echo", "file", "a"))
	m.Subject = engine.Subject{Type: "customer", ID: "bob"}
	d := decide(t, e, mappedCall(t, m))
	if !d.Allow || d.Reasons[0].Code != engine.CodeSubjectUnverified || d.Subject.ID != alice {
		t.Fatalf("%+v", d)
	}
	in, _ := d.Obligations[0].Get("value")
	for pointer, want := range map[string]string{
		"/subject":               `{"type":"customer","id":"bob","properties":{}}`,
		"/context/coaz":          `{"mapped":true,"subject_verified":false}`,
		"/credentials/0/subject": `"` + alice + `"`,
	} {
		if got, _ := in.Lookup(pointer); !rar.Equal(got, decode(t, want)) {
			t.Errorf("%s is %s, want %s", pointer, got.AppendJSON(nil), want)
		}
	}
	m.Evaluations[0].Resource.ID = "for-alice"
	if d = decide(t, e, mappedCall(t, m)); d.Allow || d.Rule != "unverified" {
		t.Errorf("a forbid on coaz: %+v", d)
	}
	q := mappedCall(t, m)
	q.Subject = &engine.Subject{Type: "identity", ID: alice}
	if _, err := e.Decide(t.Context(), q); codeOf(err) != engine.CodeMCPMismatch {
		t.Errorf("beside a subject that the caller gives: %v", err)
	}
}

// TestMappedWithoutCredential: a mapping is not even asked before the
// credentials are settled.
func TestMappedWithoutCredential(t *testing.T) {
	t.Parallel()
	e := mappedEngine(t, "any_subject")
	q := mappedCall(t, byAlice(asks("read", "file", "a")))
	asked := false
	q.Mapping = func(_ context.Context, in engine.MappingInput) (engine.Mapped, error) {
		asked = true
		if in.Claims.Kind() != rar.Absent {
			t.Errorf("claims of nobody: %s", in.Claims.AppendJSON(nil))
		}
		return engine.Mapped{}, errRefused
	}
	q.Credentials = []engine.Credential{credential(t, "c", strings.Replace(claims(""), testServer, "https://elsewhere.example", 1))}
	d := decide(t, e, q)
	if asked || d.Allow || d.Remediation.Remedies[0].Kind != engine.KindToken {
		t.Errorf("with a token for another server: asked %v, %+v", asked, d)
	}
	q.Credentials = nil
	if d = decide(t, e, q); asked || d.Allow {
		t.Errorf("without anything: asked %v, %+v", asked, d)
	}
	q.Subject = &engine.Subject{Type: "identity", ID: alice}
	if d, err := e.Decide(t.Context(), q); !asked || !errors.Is(err, errRefused) || d.Allow {
		t.Errorf("with a bare subject: asked %v, %v, %+v", asked, err, d)
	}
}

// TestCoazIsNotTheCallers: also where no mapping asks.
func TestCoazIsNotTheCallers(t *testing.T) {
	t.Parallel()
	q := call(t, "copy", `{"who": "carol"}`, credential(t, "c", claims("")))
	q.Context = decode(t, `{"coaz": {"subject_verified": true}}`)
	if _, err := mappedEngine(t, "any_subject").Decide(t.Context(), q); codeOf(err) != engine.CodeInvalidValue {
		t.Errorf("got %v", err)
	}
}

func TestMappedIsNotPlanned(t *testing.T) {
	t.Parallel()
	e := mappedEngine(t, "any_subject")
	err := e.NewPlanner(e.Snapshot()).Add(t.Context(), mappedCall(t, byAlice(asks("read", "file", "a"))))
	if codeOf(err) != engine.CodeInvalidValue {
		t.Errorf("got %v", err)
	}
}

// TestMappedBudget: the evaluations of a mapping share the time of one.
func TestMappedBudget(t *testing.T) {
	t.Parallel()
	s := compileWith(t, `package authz
permit["x"] := {} if { every i in numbers.range(1, 3000) { every j in numbers.range(1, 1000) { i + j > 0 } } }`, mappedTool, `{"contract": 1, "declared_mappings": "any_subject"}`)
	e := engine.New(engine.Options{Now: testNow, Budget: 50 * time.Millisecond})
	e.Swap(s)
	began := time.Now()
	d := decide(t, e, mappedCall(t, byAlice(slices.Repeat([]engine.MappedEvaluation{asks("read", "file", "a")}, 16)...)))
	if d.Allow || d.Error == nil || d.Error.Code != engine.CodeBudget || time.Since(began) > 5*time.Second {
		t.Errorf("%v: %+v", time.Since(began), d)
	}
}

func codeOf(err error) engine.Code {
	var e *engine.Error
	if !errors.As(err, &e) {
		return ""
	}
	return e.Code
}
