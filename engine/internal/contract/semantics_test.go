package contract_test

import (
	"encoding/json"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

// TestSemanticsOfRego pins what OPA does where a wrong allow could hide. The
// rules of this package were written for these answers; one that changes in a
// later OPA changes a rule.
func TestSemanticsOfRego(t *testing.T) {
	t.Parallel()
	body := func(b string) string { return "package authz\npermit[\"x\"] := {} if {\n" + b + "\n}\n" }
	const granted, none, failed = `{"x":{}}`, `{}`, "error"
	for name, c := range map[string]struct{ policy, input, data, want string }{
		// every is undefined over what is missing or a scalar, and true over nothing:
		// a schema has to say minItems.
		"every over what is missing":   {body("every p in input.xs { p > 0 }"), `{}`, "", none},
		"every over a number":          {body("every p in input.xs { p > 0 }"), `{"xs":5}`, "", none},
		"every over a string":          {body("every p in input.xs { p > 0 }"), `{"xs":"a"}`, "", none},
		"every over null":              {body("every p in input.xs { p > 0 }"), `{"xs":null}`, "", none},
		"every over nothing":           {body("every p in input.xs { p > 0 }"), `{"xs":[]}`, "", granted},
		"every over an object":         {body("every p in input.xs { p > 0 }"), `{"xs":{"a":0}}`, "", none},
		"every with an undefined body": {body("every p in input.xs { p.v > 0 }"), `{"xs":[{}]}`, "", none},
		"some over an object":          {body("some p in input.xs; p > 0"), `{"xs":{"a":1}}`, "", granted},
		// Undefined under not is sometimes a yes and sometimes undefines the rule, by
		// how OPA rewrites the expression: neither a permit nor a forbid may rely on it.
		"not of a missing reference":    {body("not input.a == 1"), `{}`, "", granted},
		"not below null":                {body("not input.a.b"), `{"a":null}`, "", granted},
		"not of a call":                 {body(`not startswith(input.a, "x")`), `{}`, "", none},
		"not of in":                     {body(`not input.a in {"x"}`), `{}`, "", none},
		"not of in missing data":        {body(`not "x" in data.nope`), `{}`, "", none},
		"not of a function":             {body("not f(input.a)") + "f(x) if x == 1\n", `{}`, "", none},
		"counting an empty set":         {body("count(bad) == 0") + "bad contains 1 if input.a > 1\n", `{}`, "", granted},
		"counting a comprehension":      {body("count([1 | input.a > 1]) == 0"), `{}`, "", granted},
		"default hides undefined":       {body("h == false") + "default h := false\nh if input.a > 1\n", `{}`, "", granted},
		"else hides undefined":          {body("h") + "h := false if {\ninput.a > 1\n} else := true\n", `{}`, "", granted},
		"template prints undefined":     {body(`$"{input.a}" != "blocked"`), `{}`, "", granted},
		"or passes over undefined":      {"package authz\nimport future.keywords.or\npermit[\"x\"] := {} if { input.a == 1 or input.b == 2 }", `{"b":2}`, "", granted},
		"object.get of no object":       {body(`object.get(input.a, "b", 7) == 7`), `{"a":"text"}`, "", failed},
		"object.get by a path":          {body(`object.get(input, ["a", "b"], 7) == 7`), `{"a":"text"}`, "", granted},
		"object.get keeps null":         {body(`object.get(input, "a", 7) == null`), `{"a":null}`, "", granted},
		"in over an object sees values": {body(`"a" in input.a`), `{"a":{"a":true}}`, "", none},
		"in over a string":              {body(`"a" in input.a`), `{"a":"a"}`, "", none},
		"not in null":                   {body(`not 1 in input.a`), `{"a":null}`, "", granted},
		"null is less than a number":    {body("input.a < 100"), `{"a":null}`, "", granted},
		// The documents.
		"constant and dynamic names conflict": {"package authz\npermit[\"x\"] := {\"require\":[1]}\npermit[n] := {} if some n in [\"x\", \"y\"]", `{}`, "", failed},
		"dynamic and constant names conflict": {"package authz\npermit[n] := {} if some n in [\"x\"]\npermit[\"x\"] := {\"require\":[1]}", `{}`, "", failed},
		"two constants conflict":              {"package authz\npermit[\"x\"] := {\"a\":1}\npermit[\"x\"] := {\"a\":2}", `{}`, "", failed},
		"equal values do not conflict":        {"package authz\npermit[\"x\"] := {}\npermit[\"x\"] := {} if input.a", `{"a":1}`, "", granted},
		"complete and partial conflict":       {"package authz\npermit := {\"x\":{}}\npermit[\"y\"] := {}", `{}`, "", failed},
		"default document":                    {"package authz\ndefault permit := {\"x\":{}}", `{}`, "", granted},
		"default beside members":              {"package authz\ndefault permit := {}\npermit[\"x\"] := {}", `{}`, "", failed},
		"default member":                      {"package authz\ndefault permit[\"x\"] := {}\npermit[\"x\"] := {\"require\":[1]} if input.a", `{}`, "", granted},
		"pieces survive each other":           {"package authz\npermit.x.require := [1] if input.a\npermit.x.priority := 1", `{}`, "", `{"x":{"priority":1}}`},
		"data becomes a permit":               {"package authz\nother := 1", `{}`, `{"authz":{"permit":{"x":{}}}}`, granted},
		"data joins constant names":           {"package authz\npermit[\"y\"] := {} if input.a", `{}`, `{"authz":{"permit":{"x":{}}}}`, granted},
		"data against dynamic names":          {"package authz\npermit[n] := {} if some n in [\"y\"]", `{}`, `{"authz":{"permit":{"x":{}}}}`, failed},
		"a package becomes a permit":          {"package authz.permit\nx := {}", `{}`, "", granted},
		"with replaces the subject":           {body("g with input.subject as input.a") + "g if input.subject[_] == 1\n", `{"a":[2,1]}`, "", granted},
		"existential over a batch":            {body("some p in input.xs; p < 100"), `{"xs":[1,1000000]}`, "", granted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := evaluate(t, c.policy, c.input, c.data); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func evaluate(t *testing.T, policy, input, data string) string {
	t.Helper()
	var in any
	if err := json.Unmarshal([]byte(input), &in); err != nil {
		t.Fatal(err)
	}
	base := map[string]any{}
	if data != "" {
		if err := json.Unmarshal([]byte(data), &base); err != nil {
			t.Fatal(err)
		}
	}
	rs, err := rego.New(
		rego.Module("policy.rego", policy), rego.Query("data.authz.permit"), rego.Input(in), rego.Store(inmem.NewFromObject(base)),
		rego.StrictBuiltinErrors(true), rego.SetRegoVersion(ast.RegoV1),
	).Eval(t.Context())
	if err != nil {
		return "error"
	}
	if len(rs) == 0 {
		return "undefined"
	}
	out, err := json.Marshal(rs[0].Expressions[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
