package engine_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/authzd/authzd/engine"
)

// TestHostileSchemas: a schema that comes with a query must not cost more than
// a decision may. Each of these took seconds, or the process, when it was
// validated as it is.
func TestHostileSchemas(t *testing.T) {
	t.Parallel()
	doubling := func(keyword string, n int) string {
		var b strings.Builder
		b.WriteString(`{"$ref": "#/$defs/d0", "$defs": {`)
		for i := range n {
			fmt.Fprintf(&b, `"d%d": {"%s": [{"$ref": "#/$defs/d%d"}, {"$ref": "#/$defs/d%d"}]},`, i, keyword, i+1, i+1)
		}
		fmt.Fprintf(&b, `"d%d": {"type": "object"}}}`, n)
		return b.String()
	}
	chain := func(n int) string {
		var b strings.Builder
		b.WriteString(`{"$ref": "#/$defs/d0", "$defs": {`)
		for i := range n {
			fmt.Fprintf(&b, `"d%d": {"$ref": "#/$defs/d%d"},`, i, i+1)
		}
		fmt.Fprintf(&b, `"d%d": {"properties": {"a": {"$ref": "#/$defs/d0"}}}}}`, n)
		return b.String()
	}
	e := newEngine(compile(t, "package authz\nallow := true", anyTool))
	for name, schema := range map[string]string{
		"allOf doubles":        doubling("allOf", 27),
		"anyOf doubles":        doubling("anyOf", 27),
		"references in a row":  chain(1000),
		"recursion":            `{"properties": {"a": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}}}`,
		"a long pattern":       `{"properties": {"a": {"pattern": "` + strings.Repeat("x?", 4000) + `"}}}`,
		"many patterns":        `{"patternProperties": {` + manyPatterns(500) + `}}`,
		"larger than a schema": `{"description": "` + strings.Repeat("x", 70_000) + `"}`,
		"an anchor":            `{"properties": {"a": {"$ref": "#x"}}, "$defs": {"x": {"$anchor": "x"}}}`,
	} {
		q := call(t, "unknown", `{"a": {"a": {"a": {}}}}`, credential(t, "c", claims("")))
		q.MCP.Tool = decode(t, `{"inputSchema": `+schema+`}`)
		began := time.Now()
		d := decide(t, e, q)
		if d.Allow || d.Error == nil || d.Error.Code != engine.CodeToolUnknown {
			t.Errorf("%s: allow %v, error %+v", name, d.Allow, d.Error)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s took %v", name, took)
		}
	}
}

func manyPatterns(n int) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = fmt.Sprintf(`"a%d": {}`, i)
	}
	return strings.Join(parts, ",")
}

// TestHostileArguments: many values against many choices is refused before it
// is begun.
func TestHostileArguments(t *testing.T) {
	t.Parallel()
	choices := strings.TrimSuffix(strings.Repeat("1,", 200), ",")
	e := newEngine(compile(t, "package authz\nallow := true", `{"authzd_tools": {"t": {"arguments": {
		"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer", "enum": [`+choices+`]}}}}}}}`))
	cred := credential(t, "c", claims(""))
	many := `{"a": [` + strings.Repeat("1,", 60_000) + `1]}`
	if d := decide(t, e, call(t, "t", many, cred)); d.Allow || d.Error == nil || d.Error.Code != engine.CodeBudget {
		t.Errorf("60,000 values of 200 choices: allow %v, error %+v", d.Allow, d.Error)
	}
	if d := decide(t, e, call(t, "t", `{"a": [1, 1, 1]}`, cred)); !d.Allow {
		t.Errorf("three values: %+v", d.Error)
	}
}

// TestLookAlikeMembers: what a reader without regard to case would take for
// the arguments must not pass beside a decision on none.
func TestLookAlikeMembers(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, "package authz\nallow := true", anyTool))
	for _, name := range []string{"Arguments", "ARGUMENTS", "argument\u017f", "Name", "_Meta"} {
		q := call(t, "t", "", credential(t, "c", claims("")))
		q.MCP.Params = decode(t, `{"name": "t", "`+name+`": {"all": true}}`)
		d, err := e.Decide(t.Context(), q)
		if err == nil || d.Allow {
			t.Errorf("%q: %+v", name, d)
		}
	}
}

// TestOneClient: the agent that policy sees is the client of every usable
// credential, or there is no decision.
func TestOneClient(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, `package authz
import data.authzd.v1 as authzd
permit["r"] := {"require": [authzd.scopes(["read"])]} if input.context.agent == "agent"`, anyTool))
	trusted := credential(t, "trusted", claims(""))
	other := credential(t, "other", strings.Replace(claims(`"scope": "read"`), `"agent"`, `"evil"`, 1))
	for _, order := range [][]engine.Credential{{trusted, other}, {other, trusted}} {
		d, err := e.Decide(t.Context(), call(t, "t", "", order...))
		wantError(t, d, err, engine.CodeAgentMismatch, "/credentials")
	}
}

// TestNoControlsInMessages: names in the arguments are the caller's text.
func TestNoControlsInMessages(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, "package authz\nallow := true", anyTool))
	d := decide(t, e, call(t, "t", `{"x\u001b[31m\r\nEvil": 1, "`+strings.Repeat("y", 5000)+`": 2}`, credential(t, "c", claims(""))))
	if d.Allow || d.Message == "" || strings.ContainsAny(d.Message+d.Error.Message+d.Error.Path, "\x1b\r\n") || len(d.Message) > 600 {
		t.Errorf("message %q, error %+v", d.Message, d.Error)
	}
}
