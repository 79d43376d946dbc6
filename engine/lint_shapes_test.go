package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/authzd/authzd/engine"
)

// TestLintKnowsTheShapes: the lint calls those requirements malformed that the engine
// refuses, and no others.
func TestLintKnowsTheShapes(t *testing.T) {
	t.Parallel()
	const data = `{"list": ["read"], "names": ["acr_values"], "authzd_types": {"t": {"type": "t", "schema": {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "required": ["type", "actions"], "additionalProperties": false,
		"properties": {"type": {"const": "t"}, "actions": {"type": "array", "items": {"enum": ["read", "write"]}}, "level": {"enum": [1, 2]}, "amount": {"type": "string", "pattern": "^[0-9]+$"},
			"pair": {"type": "array", "prefixItems": [{"const": "a"}], "items": {"const": "b"}}}}}}}`
	many := strings.Repeat(`{"type": "t", "actions": ["read"]}, `, 64)
	for constructor, arguments := range map[string][]string{
		"approval": {
			`{"workflow": "w", "approver": "subject"}`,
			`{"workflow": "w", "approver": "subject", "title": "t", "binds": ["a", ""], "expires_in": "15m"}`,
			`{"workflow": "w", "approver": "subject", "binds": [], "expires_in": 60}`,
			`{"workflow": "w", "approver": "subject", "expires_in": ""}`,
			`{"kind": "approval", "workflow": "w", "approver": "subject"}`,
			`{"kind": "another", "workflow": "w", "approver": "subject"}`,
			`{"kind": {1}, "workflow": "w", "approver": "subject"}`,
			`{"workflow": input.action.name, "approver": input.subject.id}`,
			`{"kind": "approval"}`,
			`{}`,
			`{"workflow": "w"}`,
			`{"approver": "subject"}`,
			`{"workflow": "", "approver": "subject"}`,
			`{"workflow": "w", "approver": ""}`,
			`{"workflow": "w", "approver": ["subject"]}`,
			`{"workflow": "w", "approver": null}`,
			`{"workflow": "w", "approver": "subject", "title": ""}`,
			`{"workflow": "w", "approver": "subject", "title": null}`,
			`{"workflow": "w", "approver": "subject", "binds": "a"}`,
			`{"workflow": "w", "approver": "subject", "binds": [1]}`,
			`{"workflow": "w", "approver": "subject", "binds": {"a"}}`,
			`{"workflow": "w", "approver": "subject", "binds": {input.action.name}}`,
			`{"workflow": "w", "approver": "subject", "binds": null}`,
			`{"workflow": "w", "approver": "subject", "expires_in": true}`,
			`{"workflow": "w", "approver": "subject", "expires_in": null}`,
			`{"workflow": "w", "approver": "subject", "expire_in": 60}`,
			`{"workflow": "w", "approver": "subject", "Kind": "approval"}`,
			`{"workflow": "w", "approver": "subject", 1: 2}`,
		},
		"authentication": {
			`{"acr_values": ["a"]}`,
			`{"max_age": 0}`,
			`{"max_age": 300, "acr_values": ["a", "b"]}`,
			`{"max_age": 315360000}`,
			`{"max_age": 1e2}`,
			`{"max_age": 1.0}`,
			`{"kind": "x", "max_age": 300}`,
			`{"acr_values": [input.action.name]}`,
			`{name: ["a"] | some name in data.names}`,
			`{}`,
			`{"kind": "authentication"}`,
			`{"acr_values": []}`,
			`{"acr_values": [""]}`,
			`{"acr_values": ["a", ""]}`,
			`{"acr_values": "a"}`,
			`{"acr_values": [1]}`,
			`{"acr_values": {"a"}}`,
			`{"acr_values": {x | some x in data.list}}`,
			`{"acr_values": null}`,
			`{"acr_values": null, "max_age": 1}`,
			`{"max_age": -1}`,
			`{"max_age": 0.5}`,
			`{"max_age": 315360001}`,
			`{"max_age": 1e30}`,
			`{"max_age": "300"}`,
			`{"max_age": null}`,
			`{"max_age": 300, "acr": "a"}`,
		},
		"scopes": {
			`["a"]`,
			`["a", "https://api.example/x.y:z"]`,
			`["a", "a"]`,
			`[input.action.name]`,
			`[x | some x in data.list]`,
			`[]`,
			`[""]`,
			`["a b"]`,
			`["a", "é"]`,
			`["\""]`,
			`["a\\"]`,
			`[1]`,
			`[null]`,
			`[["a"]]`,
			`{"a"}`,
			`{"a": "b"}`,
			`"a"`,
			`null`,
		},
		"authorization_details": {
			`[{"type": "t", "actions": ["read"]}]`,
			`[{"type": "t", "actions": []}]`,
			`[{"type": "t", "actions": ["read", "write"], "level": 2, "amount": "12"}]`,
			`[{"type": "t", "actions": ["read"]}, {"type": "t", "actions": ["write"]}]`,
			`[{"type": "t", "actions": ["read"], "pair": ["a", "b"], "amount": sprintf("%d", [1])}]`,
			`[{"type": "t", "actions": ["read"], "pair": ["a", "b"]}]`,
			`[{"type": "t", "actions": [x | some x in data.list]}]`,
			`[` + strings.TrimSuffix(many, ", ") + `]`,
			`[]`,
			`[{}]`,
			`[{"actions": ["read"]}]`,
			`[{"type": "u", "actions": ["read"]}]`,
			`[{"type": "", "actions": ["read"]}]`,
			`[{"type": 1, "actions": ["read"]}]`,
			`[{"type": null, "actions": ["read"]}]`,
			`[{"type": "t"}]`,
			`[{"type": "t", "actions": "read"}]`,
			`[{"type": "t", "actions": ["delete"]}]`,
			`[{"type": "t", "actions": {"read"}}]`,
			`[{"type": "t", "actions": ["read"], "level": 3}]`,
			`[{"type": "t", "actions": ["read"], "amount": "1x"}]`,
			`[{"type": "t", "actions": ["read"], "amonut": "1"}]`,
			`[{"type": "t", "actions": ["read"], "amonut": input.action.name}]`,
			`[{"type": "t", "actions": ["read"], "pair": ["b"]}]`,
			`[{"type": "t", "actions": ["read"], 1: 2}]`,
			`[{"type": "t", "actions": ["read"]}, {"type": "u"}]`,
			`["t"]`,
			`[[]]`,
			`{"type": "t", "actions": ["read"]}`,
			`{{"type": "t", "actions": ["read"]}}`,
			`"t"`,
			`null`,
			`[` + many + `{"type": "t", "actions": ["read"]}]`,
		},
	} {
		if constructor == "authorization_details" {
			checkShapes(t, "single_use", data, arguments)
		}
		checkShapes(t, constructor, data, arguments)
	}
}

func checkShapes(t *testing.T, constructor, data string, arguments []string) {
	t.Helper()
	refusals := 0
	for _, argument := range arguments {
		b := bundle(t, fmt.Sprintf("package authz\n\nimport data.authzd.v1 as authzd\n\npermit[\"a\"] := {\"require\": [authzd.%s(%s)]}\n", constructor, argument), data, `{"contract": 1, "untyped_tools": true}`)
		s, findings, err := engine.Compile(t.Context(), []engine.Bundle{b})
		if err != nil {
			t.Errorf("%s(%.200s): %v", constructor, argument, err)
			continue
		}
		d, err := newEngine(s).DecideOn(t.Context(), s, call(t, "t", `{}`, credential(t, "c", claims(""))))
		refused := err != nil || d.Error != nil
		malformed := slices.ContainsFunc(findings, func(f engine.Finding) bool { return f.Code == "lint.unmeetable_requirement" })
		if malformed != refused {
			t.Errorf("%s(%.200s): malformed %t to the lint, refused %t by the engine: %v, %+v", constructor, argument, malformed, refused, err, d.Error)
		}
		if refused {
			refusals++
		}
	}
	if refusals == 0 || refusals == len(arguments) {
		t.Errorf("%s: %d of %d are refused", constructor, refusals, len(arguments))
	}
}
