package contract_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/engine/internal/contract"
)

// TestReduce compiles one expression against the reduced schemas: OPA's type
// checker refuses what no tool can have, and nothing else.
func TestReduce(t *testing.T) {
	t.Parallel()
	const pay = `{"type": "object", "properties": {
		"amount": {"type": "number"}, "name": {"type": ["string", "null"]}, "id": {"type": ["string", "integer"]}, "any": {}, "yes": true,
		"list": {"type": "array", "items": {"type": "object", "properties": {"iban": {"type": "string"}}}},
		"open": {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": true},
		"closed": {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": false},
		"patterned": {"type": "object", "properties": {"a": {"type": "string"}}, "patternProperties": {"^x": {}}},
		"nothing": {"type": "object", "additionalProperties": false},
		"ref": {"$ref": "#/$defs/party"}, "ref_more": {"$ref": "#/$defs/party", "properties": {"b": {}}},
		"remote": {"$ref": "https://example.com/schema"},
		"tree": {"$ref": "#/$defs/tree"},
		"union": {"anyOf": [{"type": "object", "properties": {"a": {"type": "string"}}}, {"type": "object", "properties": {"b": {"type": "string"}}}]},
		"typed_union": {"type": "object", "anyOf": [{"properties": {"a": {"type": "string"}}}]},
		"one": {"oneOf": [{"type": "object", "properties": {"a": {"type": "string"}}}]},
		"all": {"type": "object", "properties": {"a": {"type": "string"}}, "allOf": [{"properties": {"b": {}}}]},
		"choice": {"enum": ["a", 1]}
	}, "$defs": {
		"party": {"type": "object", "properties": {"iban": {"type": "string"}}},
		"tree": {"type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}, "value": {"type": "number"}}}
	}}`
	tools := []contract.Tool{
		{Name: "pay", Arguments: decode(t, pay)},
		{Name: "status", Arguments: decode(t, `{"type": "object", "properties": {"payment": {"type": "string"}}}`)},
		{Name: "ping", Arguments: decode(t, `{"type": "object"}`)},
	}
	for expr, ok := range map[string]bool{
		"args.amount > 1": true, "args.payment == \"x\"": true, "args.amuont > 1": false, "args.payment.id == 1": false,
		"args.amount == \"x\"": false, "args.name == null": true, "args.name == \"x\"": true, "args.id == 1": true, "args.id == \"x\"": true,
		"args.id == true": false, "args.any.thing == 1": true, "args.yes.thing == 1": true,
		"args.list[0].iban == \"x\"": true, "args.list[0].bic == \"x\"": false,
		"args.open.b == 1": true, "args.closed.a == \"x\"": true, "args.closed.b == 1": false, "args.patterned.xyz == 1": true,
		"args.nothing.a == 1": false, "args.ref.iban == \"x\"": true, "args.ref.bic == \"x\"": false, "args.ref_more.b == 1": true,
		"args.remote.x == 1": true, "args.tree.left.left.left.value == 1": true, "args.tree.right == 1": false,
		"args.union.a == \"x\"": true, "args.union.b == \"x\"": true, "args.union.c == \"x\"": false,
		"args.typed_union.a == \"x\"": true, "args.typed_union.b == \"x\"": false,
		"args.one.b == 1": true, "args.all.b == 1": true, "args.choice == 1": true,
		"input.sbject.id == \"x\"": false, "input.subject.id == \"x\"": true, "input.subject.id == 1": false, "input.subject.name == 1": false,
		"input.subject.properties.anything.goes == 1": true, "input.context.anything == 1": true, "input.action.properties.x == 1": true,
		"input.mcp.params._meta.x == 1": true, "input.mcp.params.uri == \"x\"": true, "input.mcp.prams == 1": false,
		"input.mcp.tool.annotations.readOnlyHint == true": true, "input.mcp.params.name == 1": false,
		"input.credentials[0].claims.x.y == 1": true, "input.credentials[0].claim == 1": false, "input.credentials[0].scopes[0] == \"x\"": true,
		"input.credentials[0].authorization_details[0].actions[0] == \"x\"": true,
		"input.rejected_credentials[0].code == \"x\"":                       true, "input.tenant == \"x\"": true, "input.now.x == 1": false,
	} {
		t.Run(expr, func(t *testing.T) {
			t.Parallel()
			if err := compileExpr(t, tools, false, expr); (err == nil) != ok {
				t.Errorf("compiles: %v, want %v: %v", err == nil, ok, err)
			}
		})
	}
	for name, c := range map[string]struct {
		tools   []contract.Tool
		untyped bool
	}{"no tools": {}, "untyped": {tools, true}, "a schema that says nothing": {[]contract.Tool{{Name: "x", Arguments: decode(t, "{}")}}, false}} {
		if err := compileExpr(t, c.tools, c.untyped, "args.what.ever == 1"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := compileExpr(t, tools[2:], false, "args.what == 1"); err == nil {
		t.Error("a tool without arguments has one")
	}
}

func compileExpr(t *testing.T, tools []contract.Tool, untyped bool, expr string) error {
	t.Helper()
	schemas, err := contract.Reduce(tools, untyped)
	if err != nil {
		t.Fatal(err)
	}
	m, err := ast.ParseModuleWithOpts("p.rego", "package authz\nargs := input.mcp.params.arguments\nok if "+expr+"\n", ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil {
		t.Fatal(err)
	}
	c := ast.NewCompiler().WithCapabilities(contract.Capabilities()).WithSchemas(schemas)
	if c.Compile(map[string]*ast.Module{"p.rego": m}); c.Failed() {
		return fmt.Errorf("compile: %w", c.Errors)
	}
	return nil
}

// A schema that would double at each level when inlined stays small.
func TestReduceIsBounded(t *testing.T) {
	t.Parallel()
	var defs strings.Builder
	for i := range 40 {
		fmt.Fprintf(&defs, `"d%d": {"type": "object", "properties": {"a": {"$ref": "#/$defs/d%d"}, "b": {"$ref": "#/$defs/d%d"}}},`, i, i+1, i+1)
	}
	schema := `{"$ref": "#/$defs/d0", "$defs": {` + defs.String() + `"d40": {"type": "string"}}}`
	tools := []contract.Tool{{Name: "deep", Arguments: decode(t, schema)}}
	if err := compileExpr(t, tools, false, "args.a.b.a == 1"); err != nil {
		t.Error(err)
	}
}
