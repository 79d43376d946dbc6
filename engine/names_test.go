package engine_test

import (
	"errors"
	"testing"

	"github.com/authzd/authzd/engine"
)

// A reader without regard to case takes each of these for a member that policy
// may look at, and policy does not see it.
func TestMembersInAnotherCase(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, `package authz

allow := true

forbid["no tasks"] := {} if object.get(input.mcp.params, "task", null) != null

forbid["no tokens"] := {} if object.get(object.get(input.mcp.params, "argument", {}), "name", "") == "token"
`, `{"authzd_tools": {"t": {"arguments": {"type": "object"}}}}`))
	for _, c := range []struct{ method, kind, id, plain, other string }{
		{"tools/call", "tool", "t", `{"name": "t", "task": {"ttl": 1}}`, `{"name": "t", "Task": {"ttl": 1}}`},
		{
			"completion/complete", "prompt", "p", `{"ref": {"type": "ref/prompt", "name": "p"}, "argument": {"name": "token", "value": "a"}}`,
			`{"ref": {"type": "ref/prompt", "name": "p"}, "Argument": {"name": "token", "value": "a"}}`,
		},
	} {
		allowed := func(params string) bool {
			q := call(t, "t", "{}", credential(t, "c", claims("")))
			q.Action.Name, q.Resource, q.MCP.Method = c.method, engine.Resource{Type: c.kind, ID: c.id}, c.method
			q.MCP.Params = decode(t, params)
			d, err := e.Decide(t.Context(), q)
			var coded *engine.Error
			if err != nil && !errors.As(err, &coded) {
				t.Fatal(err)
			}
			return err == nil && d.Allow
		}
		if allowed(c.plain) {
			t.Fatalf("%s: the forbid does not work", c.plain)
		}
		if allowed(c.other) {
			t.Errorf("%s is allowed, %s is not", c.other, c.plain)
		}
	}
}
