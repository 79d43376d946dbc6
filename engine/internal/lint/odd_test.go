package lint_test

import (
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/authzd/authzd/engine/internal/lint"
)

// TestOddPolicies: each forbid["x"] holds of its input, as OPA says, and so nothing may be
// said against it.
func TestOddPolicies(t *testing.T) {
	t.Parallel()
	for name, c := range oddPolicies() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := input(t, "package authz\n\n"+c.policy, `{"rows": {"a": {"max": 1}}}`)
			found := lint.Run(t.Context(), in)
			for _, f := range found {
				if f.Code == lint.CodeNeverFires || f.Code == lint.CodeUndefined {
					t.Errorf("line %d: %s", f.Row, f.Message)
				}
			}
			store := inmem.NewFromObject(map[string]any{"rows": map[string]any{"a": map[string]any{"max": 1}}})
			rs, err := rego.New(rego.Compiler(in.Compiler), rego.Store(store), rego.Query(`data.authz.forbid.x`), rego.ParsedInput(ast.MustParseTerm(c.input).Value)).Eval(t.Context())
			if err != nil || len(rs) != 1 {
				t.Errorf("%v, %v of %s:\n%s", rs, err, c.input, strings.TrimSpace(c.policy))
			}
		})
	}
}

type odd struct{ policy, input string }

func oddPolicies() map[string]odd {
	return map[string]odd{
		"every of nothing": {`forbid["x"] := {} if {
	every g in input.groups {
		g == "a"
		g == "b"
	}
}`, `{"groups": []}`},
		"every and some": {`forbid["x"] := {} if {
	some g in input.groups
	g == "a"
	every h in input.others { h == "b" }
}`, `{"groups": ["a"], "others": ["b"]}`},
		"every by a key": {`forbid["x"] := {} if {
	every k, v in input.m { k == v }
	some k, v in input.n
	k == "a"
	v == "b"
}`, `{"m": {"c": "c"}, "n": {"a": "b"}}`},
		"some of keys and values": {`forbid["x"] := {} if {
	some k1, "v" in input.m
	some k2, "v" in input.m
	k1 == "a"
	k2 == "b"
}`, `{"m": {"a": "v", "b": "v"}}`},
		"some with a pattern": {`forbid["x"] := {} if {
	some {"k": x} in input.l
	some {"k": y} in input.l
	x == 1
	y == 2
}`, `{"l": [{"k": 1}, {"k": 2}]}`},
		"with of the input": {`forbid["x"] := {} if {
	input.a == 1
	two with input.a as 2
}

two if input.a == 2`, `{"a": 1}`},
		"with of a document": {`forbid["x"] := {} if {
	kind == "a"
	is_b with data.authz.kind as "b"
}

is_b if {
	kind == "b"
	input.kind == "a"
}

kind := input.kind`, `{"kind": "a"}`},
		"with of a function": {`forbid["x"] := {} if deep with data.authz.asks as data.authz.other

deep if {
	asks("a")
	input.id == "b"
}

asks(x) if input.id == x

other(_) := true`, `{"id": "b"}`},
		"with of a builtin": {`forbid["x"] := {} if deep with count as 3

deep if {
	count(input.l) == 3
	input.l == []
}`, `{"l": []}`},
		"with of a package": {`forbid["x"] := {} if deep with data.authz.sub as {"kind": "b"}

deep if {
	sub.kind == "b"
	input.kind == "a"
}

sub.kind := input.kind`, `{"kind": "a"}`},
		"else": {`forbid["x"] := {} if level == 2

level := 1 if {
	input.a == 1
} else := 2 if {
	input.a == 2
}`, `{"a": 2}`},
		"else of a function": {`forbid["x"] := {} if {
	level(input.a) == 2
	level(input.b) == 1
}

level(n) := 1 if {
	n == 1
} else := 2 if {
	n == 2
}`, `{"a": 2, "b": 1}`},
		"else by one name": {`forbid["x"] := {} if {
	y = input.a
	y == 1
} else := {} if {
	y = input.b
	y == 2
}`, `{"a": 2, "b": 2}`},
		"default": {`default level := 0

level := 3 if input.a == 1

forbid["x"] := {} if {
	level == 0
	input.a == 2
}`, `{"a": 2}`},
		"default of a function": {`default rank(_) := 0

rank(x) := 1 if x == "a"

forbid["x"] := {} if {
	rank(input.a) == 0
	input.a == "b"
}`, `{"a": "b"}`},
		"several bodies": {`forbid["x"] := {} if {
	asks("b")
	input.a == 2
}

asks("a") if input.a == 1

asks("b") if input.a == 2`, `{"a": 2}`},
		"a function by a pattern": {`forbid["x"] := {} if {
	pair([input.a, 1])
	pair([input.b, 2])
}

pair([x, y]) if x == y`, `{"a": 1, "b": 2}`},
		"a function by an object": {`forbid["x"] := {} if {
	named({"name": input.a}, "a")
	named({"name": input.b}, "b")
}

named(o, n) if o.name == n`, `{"a": "a", "b": "b"}`},
		"a function by an element": {`forbid["x"] := {} if {
	named(input.l[_], "a")
	named(input.l[_], "b")
}

named(o, n) if {
	m := o.name
	m == n
}`, `{"l": [{"name": "a"}, {"name": "b"}]}`},
		"negation": {`forbid["x"] := {} if {
	not a_or_b
	input.id != "a"
	input.id != "b"
}

a_or_b if input.id == "a"

a_or_b if input.id == "b"`, `{"id": "c"}`},
		"negation of a rule": {`forbid["x"] := {} if {
	not is_a
	input.id == "b"
}

is_a if input.id == "a"`, `{"id": "b"}`},
		"comprehensions": {`forbid["x"] := {} if {
	ones := [x | some x in input.l; x == "a"]
	twos := [x | some x in input.l; x == "b"]
	count(ones) == 1
	count(twos) == 1
}`, `{"l": ["a", "b"]}`},
		"a comprehension around an element": {`forbid["x"] := {} if {
	some x in input.l
	x == "a"
	{y | some y in input.l; y == "b"; y != x} == {"b"}
}`, `{"l": ["a", "b"]}`},
		"an object comprehension": {`forbid["x"] := {} if {
	m := {k: v | some k, v in input.m; v == "a"}
	m == {}
	input.m.k == "b"
}`, `{"m": {"k": "b"}}`},
		"object.get": {`forbid["x"] := {} if {
	object.get(input, "a", 0) < 5
	object.get(input, "a", 9) > 5
}`, `{}`},
		"object.get of a row": {`forbid["x"] := {} if object.get(data.rows, [input.a, "max"], 0) < input.n`, `{"a": "b", "n": 1}`},
		"a row beside a rule for none": {`forbid["x"] := {} if data.rows[input.a].max < input.n

forbid["x"] := {} if not data.rows[input.a]`, `{"a": "b", "n": 1}`},
		"walk": {`forbid["x"] := {} if {
	walk(input.t, [_, x])
	walk(input.t, [_, y])
	x == 1
	y == 2
}`, `{"t": {"a": 1, "b": 2}}`},
		"walk by its path": {`forbid["x"] := {} if {
	walk(input.t, [p, v])
	p[0] == "a"
	walk(input.t, [q, w])
	q[0] == "b"
	v != w
}`, `{"t": {"a": 1, "b": 2}}`},
		"a partial object": {`forbid["x"] := {} if {
	count(roles) == 0
	input.action == "read"
}

roles[name] := 1 if {
	input.action == "write"
	some name in input.l
}`, `{"action": "read"}`},
		"a partial object of objects": {`forbid["x"] := {} if {
	tree.read.a == 1
	tree.write.b == 2
	not tree.write.a
}

tree.read[k] := v if some k, v in input.read

tree.write[k] := v if some k, v in input.write`, `{"read": {"a": 1}, "write": {"b": 2}}`},
		"elements of one set": {`forbid["x"] := {} if {
	some a in pairs
	some b in pairs
	a.n == 1
	b.n == 2
}

pairs contains {"n": n} if some n in input.l`, `{"l": [1, 2]}`},
		"keys of one set": {`forbid["x"] := {} if {
	names["a"]
	names["b"]
}

names contains n if {
	some o in input.l
	n := o.name
}`, `{"l": [{"name": "a"}, {"name": "b"}]}`},
		"a set whose bodies exclude each other": {`forbid["x"] := {} if {
	marks["a"]
	input.n == 1
}

marks contains "a" if input.n == 1

marks contains "b" if input.n == 2`, `{"n": 1}`},
		"another package": {`forbid["x"] := {} if data.authz.forbid_if.deep

forbid_if.deep if {
	input.a in [1, 2]
	input.a in [2, 3]
}`, `{"a": 2}`},
		"unification of arrays": {`forbid["x"] := {} if {
	[a, b] = [input.a, input.b]
	a == 1
	b == 2
}`, `{"a": 1, "b": 2}`},
		"unification both ways": {`forbid["x"] := {} if {
	[1, b] = [input.a, 2]
	b = input.b
}`, `{"a": 1, "b": 2}`},
		"one index in two lists": {`forbid["x"] := {} if {
	some i
	input.l[i] == "a"
	input.m[i] == "b"
}`, `{"l": ["a"], "m": ["b"]}`},
		"an index that is used again": {`forbid["x"] := {} if {
	count([1 | some i; input.l[i] == "a"]) == 1
	some i
	input.l[i] == "b"
}`, `{"l": ["a", "b"]}`},
		"numbers that are equal": {`forbid["x"] := {} if {
	input.n == 1.0
	input.n == 1
	input.n in {1e0, 2}
}`, `{"n": 1}`},
		"types in order": {`forbid["x"] := {} if {
	input.a > null
	input.a < 1
}`, `{"a": true}`},
		"a shadowed name": {`forbid["x"] := {} if {
	x := input.a
	x == 1
	f(input.b)
}

f(x) if x == 2`, `{"a": 1, "b": 2}`},
		"a name of two rules": {`forbid["x"] := {} if {
	one
	two
}

one if {
	o = json.unmarshal(input.a)
	o.k == 1
}

two if {
	o = json.unmarshal(input.b)
	o.k == 2
}`, `{"a": "{\"k\": 1}", "b": "{\"k\": 2}"}`},
		"an index of two rules": {`forbid["x"] := {} if {
	one
	two
}

one if input.l[i] == input.first

two if {
	input.l[i] == "b"
	input.l[i] != input.first
}`, `{"l": ["a", "b"], "first": "a"}`},
		"what a comprehension tests": {`forbid["x"] := {} if {
	some i
	input.l[i]
	[1 | i = input.k] == []
	i < 1
	input.k == 1
}`, `{"l": ["a"], "k": 1}`},
		"what an every tests": {`forbid["x"] := {} if {
	some x in input.l
	not same(x)
	x == "a"
	input.id == "b"
}

same(x) if every y in input.m {
	y = x
	x = input.id
}`, `{"l": ["a"], "m": ["a"], "id": "b"}`},
		"a comparison that is an answer": {`forbid["x"] := {} if {
	more := input.n > 5
	more == false
	input.n < 3
}`, `{"n": 1}`},
		"a membership that is an answer": {`forbid["x"] := {} if {
	listed := input.id in {"a"}
	listed == false
	input.id == "b"
}`, `{"id": "b"}`},
		"recursion by data": {`forbid["x"] := {} if {
	some name in ["a", "b"]
	checks[name]
	input.id == "b"
}

checks.a if input.id == "a"

checks.b if input.id == "b"`, `{"id": "b"}`},
		"a template": {`forbid["x"] := {} if {
	sprintf("%v", [input.a]) == "1"
	sprintf("%v", [input.b]) == "2"
}`, `{"a": 1, "b": 2}`},
	}
}
