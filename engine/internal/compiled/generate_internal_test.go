package compiled

import (
	"fmt"
	"math/rand"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// seeded gives the same numbers in each run.
func seeded(seed int64) *rand.Rand {
	return rand.New(rand.NewSource(seed)) //nolint:gosec // tests repeat
}

// generator writes random policies. They need not make sense; what counts is
// that they reach every form of the language in every mixture, that much of it
// is defined, and that builtins fail and rules conflict often enough.
type generator struct {
	r     *rand.Rand
	rules []genRule // of package p, earlier ones only may be used
	lib   []genRule // of package lib, used by p
	n     int       // variables so far
	depth int
	main  bool  // package p is being written
	odd   int   // per cent of the numbers that are not written the usual way
	first bool  // the first rule of package p is being written
	free  scope // variables of the rule at hand that nothing declares
}

type genRule struct {
	name   string
	scalar bool   // a complete rule with constant values
	kind   string // complete, set, object, nested, sets, function1, function2, tree
}

const genData = `{
	"base": {
		"o": {"a": 1, "b": "x", "0": "zero", "1": true, "": "empty", "c": {"a": 1}},
		"a": [1, "a", {"a": 1}, ["b"], null],
		"keys": {"0": true, "1": "one", "+1": 1, "a": ["x"]}, "s": "a", "n": 1, "list": ["a", "b", "c"], "nums": [3, 1, 2, 2.5]
	},
	"mix": {"a": 1, "z": {"a": "x"}, "b": ["a"]},
	"a": {"b": {"c": 1}}
}`

func (g *generator) random() *rand.Rand { return g.r }

func (*generator) version() ast.RegoVersion { return ast.RegoV1 }

func (*generator) data() string { return genData }

func (g *generator) pick(list ...string) string { return list[g.r.Intn(len(list))] }

func (g *generator) chance(percent int) bool { return g.r.Intn(100) < percent }

func (g *generator) fresh() string {
	g.n++
	return fmt.Sprintf("v%d", g.n)
}

// scope holds the variables that are bound.
type scope []string

func (g *generator) scalar() string {
	if g.chance(g.odd) {
		return g.pick("1.0", "1.0", "1e0", "1e400", "10e399", "-0", "0.50", "9007199254740993.0")
	}
	return g.pick(`"a"`, `"b"`, `"c"`, `"x"`, `"0"`, `"1"`, `""`, "0", "1", "2", "2.5", "3", "-1", "1.5", "true", "false", "null", `"zero"`)
}

func (g *generator) key(s scope) string {
	if len(s) > 0 && g.chance(45) {
		return s[g.r.Intn(len(s))]
	}
	return g.pick(`"a"`, `"b"`, `"c"`, `"0"`, "0", "1", `"o"`, `"list"`, "true", "2.5", `"z"`, `"1"`, `"+1"`, "_")
}

// ground is a key that is not a wildcard.
func (g *generator) ground(s scope) string {
	for {
		if k := g.key(s); k != "_" {
			return k
		}
	}
}

// headKey is the key of a partial object: mostly a variable, so that OPA does not
// make a tree of constant keys.
func (g *generator) headKey(s scope) string {
	if len(s) > 0 && g.chance(85) {
		return s[g.r.Intn(len(s))]
	}
	if g.chance(10) {
		return g.ground(s)
	}
	return g.pick(`"a"`, `"b"`, `input.k`, `input.a`, `["a", "b"][_]`)
}

func (g *generator) path(s scope, wild bool) string {
	var b strings.Builder
	for range g.r.Intn(3) {
		k := g.ground(s)
		if wild {
			k = g.key(s)
		}
		switch k {
		case `"a"`, `"b"`, `"c"`:
			b.WriteString("." + strings.Trim(k, `"`))
		default:
			b.WriteString("[" + k + "]")
		}
	}
	return b.String()
}

// ref is a reference to input, base documents, rules or a mixture.
func (g *generator) ref(s scope, wild bool) string {
	switch n := g.r.Intn(20); {
	case n < 7:
		return "input" + g.pick(".a", ".b", ".c", ".list", ".nums", ".o", "") + g.path(s, wild)
	case n < 10:
		return "data.base" + g.pick(".o", ".a", ".list", ".nums", ".s") + g.path(s, wild)
	case n < 11 && g.main:
		return "data.mix" + g.packagePath(s, wild, ".v", ".a", ".z", ".b")
	case n < 12 && g.main:
		return "data.lib" + g.packagePath(s, wild, ".l0", ".l1")
	case n < 13 && len(s) > 0:
		return s[g.r.Intn(len(s))] + g.path(s, wild)
	default:
		name, r := g.anyDocument()
		switch r.kind {
		case "overbase":
			if g.chance(70) {
				return name + g.partialKey(s)
			}
		case "complete":
			if r.scalar {
				return name
			}
		case "tree":
			return name + g.packagePath(s, wild, ".a", ".b", ".c")
		}
		return name + g.path(s, wild)
	}
}

// partialKey reads a partial rule by a key, ground, bound or free.
func (g *generator) partialKey(s scope) string {
	k := g.ground(s)
	switch g.r.Intn(10) {
	case 0:
		return `[["a", ` + k + `]]`
	case 1:
		return `[{"r": ` + k + `}]`
	case 2:
		return "[{" + k + "}]"
	case 3:
		return "[" + k + "][" + g.ground(s) + "]"
	case 4:
		return "[_]"
	case 5:
		return "[" + g.undeclared() + "]"
	}
	return "[" + g.pick(k, `"0"`, `"1"`, `"+1"`, "0", "1") + "]"
}

// undeclared is a variable that nothing declares, often the same one.
func (g *generator) undeclared() string {
	if len(g.free) > 0 && g.chance(70) {
		return g.free[g.r.Intn(len(g.free))]
	}
	v := "u" + g.fresh()
	g.free = append(g.free, v)
	return v
}

// stale is a body that fills many locals, or reads what nobody set.
func (g *generator) stale() string {
	field := func() string {
		return g.pick("input.a", "input.b", "input.k", "input.list", "data.base.n", "data.base.s")
	}
	list := func() string { return g.pick("input.list", "input.nums", "data.base.list", "data.base.nums", "[1, 2]") }
	p, q, v, w := g.fresh(), g.fresh(), g.fresh(), g.fresh()
	ask := p + g.pick(" == ", " != ") + g.pick(g.scalar(), field())
	switch g.r.Intn(6) {
	case 0, 1:
		list := []string{p + " := " + field()}
		for range 2 + g.r.Intn(5) {
			next := g.fresh()
			list = append(list, next+" := "+g.pick(p, field()))
			p = next
		}
		return strings.Join(list, "\n\t") + "\n\t" + p + g.pick(" == ", " != ") + g.scalar()
	case 2:
		return "[" + p + ", " + q + "] = [" + q + ", " + field() + "]\n\t" + ask
	case 3:
		return `{"a": ` + p + `, "b": ` + q + `} = {"a": ` + q + `, "b": ` + field() + "}\n\t" + ask
	case 4:
		a, b := list(), list()
		return "every " + v + " in [" + a + "[" + g.pick("0", "1") + "]] { " + a + "[" + q + "] == " + v + " }\n\tevery " + w + " in [" + b + "[" + g.pick("0", "1") + "]] { " + b + "[" + q + "] == " + w + " }"
	}
	a, b := list(), list()
	return "every " + v + " in [" + a + "[" + g.pick("0", "1") + "]] { " + a + "[" + q + "] == " + v + " }\n\tcount([" + q + " | " + b + "[" + q + "] == " + g.pick(g.scalar(), b+"[1]") + "]) == " + g.pick("0", "1")
}

// overBase is the body of a partial rule that finds base documents by its key.
func (g *generator) overBase() (body string, key []string) {
	i, j := g.fresh(), g.fresh()
	at := "data.base" + g.pick(".o", ".a", ".list", ".nums", ".keys")
	switch g.r.Intn(6) {
	case 0:
		body = "some " + i + ", " + j + " in " + at
	case 1:
		body = "data.base[" + i + "][" + j + "]"
	case 2:
		body = at + "[" + i + "]; " + j + " := data.base.o[" + i + "]"
	case 3:
		body = j + " := " + at + "[" + i + "]; " + j + g.pick(` == "zero"`, " != 7", " == true")
	case 4:
		body = at + "[" + i + "]; " + j + " := " + g.pick("upper("+i+")", i+" + 1", "["+i+" | data.base.a["+i+"]]")
	default:
		body = j + " := " + at + "[" + i + "]"
	}
	return body, []string{i, j}
}

// packagePath goes on from what has the members names only.
func (g *generator) packagePath(s scope, wild bool, names ...string) string {
	switch g.r.Intn(6) {
	case 0:
		return ""
	case 1:
		if len(s) > 0 {
			return "[" + s[g.r.Intn(len(s))] + "]"
		}
	case 2:
		if wild {
			return "[_]"
		}
	}
	return g.pick(names...)
}

// document is one of the rules, or input.
func (g *generator) document() string {
	name, _ := g.anyDocument()
	return name
}

func (g *generator) anyDocument() (string, genRule) {
	for range 4 {
		if len(g.rules) > 0 && g.chance(70) {
			r := g.rules[g.r.Intn(len(g.rules))]
			if !strings.HasPrefix(r.kind, "function") {
				return g.pick("", "data.p.") + r.name, r
			}
		}
		if len(g.lib) > 0 {
			r := g.lib[g.r.Intn(len(g.lib))]
			if !strings.HasPrefix(r.kind, "function") {
				return "data.lib." + r.name, r
			}
		}
	}
	return "input.a", genRule{}
}

func (g *generator) term(s scope) string {
	g.depth++
	defer func() { g.depth-- }()
	if g.depth > 3 {
		if len(s) > 0 && g.chance(50) {
			return s[g.r.Intn(len(s))]
		}
		return g.scalar()
	}
	switch n := g.r.Intn(24); {
	case n < 5:
		return g.scalar()
	case n < 8 && len(s) > 0:
		return s[g.r.Intn(len(s))]
	case n < 13:
		return g.ref(s, false)
	case n < 14:
		return "[" + g.term(s) + ", " + g.term(s) + "]"
	case n < 15:
		return "{" + g.term(s) + ", " + g.term(s) + "}"
	case n < 16:
		return `{"a": ` + g.term(s) + ", " + g.ground(s) + ": " + g.term(s) + "}"
	case n < 18:
		return g.comprehension(s)
	case n < 20:
		return g.call(s)
	default:
		return g.function(s)
	}
}

func (g *generator) comprehension(s scope) string {
	inner, bound := g.body(s, 1+g.r.Intn(2), "; ")
	return comprehension(g.r, g.ground(bound), g.term(bound), inner)
}

// comprehension is one of the three.
func comprehension(r *rand.Rand, key, value, body string) string {
	switch r.Intn(3) {
	case 0:
		return "[" + value + " | " + body + "]"
	case 1:
		return "{" + value + " | " + body + "}"
	}
	return "{" + key + ": " + value + " | " + body + "}"
}

// operand is a term that the type checker lets pass where like is wanted, but
// which at run time may be anything.
func (g *generator) operand(s scope, like string) string {
	switch n := g.r.Intn(20); {
	case n < 11:
		return "input" + g.pick(".a", ".b", ".c", ".list", ".nums", ".o") + g.path(s, false)
	case n < 15:
		return "data.base" + g.pick(".o", ".a", ".list", ".nums", ".s", ".n") + g.path(s, false)
	case n < 16 && len(s) > 0:
		return s[g.r.Intn(len(s))]
	case n < 17 && len(g.rules) > 0:
		return g.document()
	}
	switch like {
	case "number":
		return g.pick("0", "1", "2", "1.5", "count(input.list)")
	case "string":
		return g.pick(`"a"`, `"ab"`, `"1"`, `""`)
	case "array":
		return g.pick(`["a", "b"]`, "[1, 2]", "[input.a, input.b]", "[]")
	case "set":
		return g.pick(`{"a", "b"}`, "{1, 2}", "{input.a, input.b}", "set()")
	case "object":
		return g.pick(`{"a": 1}`, `{"b": input.a}`, "{}")
	}
	return g.term(s)
}

// call is a call of a builtin, most of which fail on some operands.
func (g *generator) call(s scope) string {
	t := func(like string) string { return g.operand(s, like) }
	collection := g.pick("array", "set")
	switch g.r.Intn(32) {
	case 28:
		return "json.unmarshal(" + g.pick(`"[1, 1.0]"`, `"1.0"`, `"[1e400, 10e399]"`, `"1"`, `"[2, 1]"`, `"9223372036854775807"`) + ")"
	case 29:
		return "count({" + t("any") + ", " + t("any") + "})"
	case 30:
		return "to_number(" + g.pick(`"1.0"`, `"0.50"`, `"100.00"`, `"1.5"`, t("string")) + ")"
	case 0:
		return "to_number(" + t("string") + ")"
	case 1:
		return "count(" + t(collection) + ")"
	case 2, 3:
		return "(" + t("number") + g.pick(" + ", " - ", " * ", " / ", " % ") + t("number") + ")"
	case 4:
		return g.pick("upper", "lower", "trim_space") + "(" + t("string") + ")"
	case 5:
		return "object.get(" + t("object") + ", " + t("any") + ", " + t("any") + ")"
	case 6:
		return g.pick("sum", "product") + "(" + t(collection) + ")"
	case 7:
		return g.pick("max", "min") + "(" + t(collection) + ")"
	case 8:
		return "sprintf(" + g.pick(`"%v"`, `"%s"`, `"%d"`, `"a%vb%v"`) + ", [" + t("any") + "])"
	case 9:
		return "concat(\",\", " + t(collection) + ")"
	case 10:
		return "array.concat(" + t("array") + ", " + t("array") + ")"
	case 11:
		return "(" + t("set") + g.pick(" | ", " & ", " - ") + t("set") + ")"
	case 12:
		return "split(" + t("string") + ", " + t("string") + ")"
	case 13:
		return "object.union(" + t("object") + ", " + t("object") + ")"
	case 14:
		return "type_name(" + t("any") + ")"
	case 15:
		return g.pick("is_string", "is_number", "is_set", "is_null", "is_object", "is_array", "is_boolean") + "(" + t("any") + ")"
	case 16:
		return "sort(" + t(collection) + ")"
	case 17:
		return "object.keys(" + t("object") + ")"
	case 18, 19:
		return g.pick("startswith", "endswith", "contains") + "(" + t("string") + ", " + t("string") + ")"
	case 20:
		return "numbers.range(0, min([20, " + t("number") + "]))" // topdown, without bounds here, would make any list
	case 21:
		return g.pick("trim", "trim_left", "trim_right", "trim_prefix", "trim_suffix") + "(" + t("string") + ", \"a\")"
	case 22:
		return "json.marshal(" + t("any") + ")"
	case 23:
		return "replace(" + t("string") + ", \"a\", " + t("string") + ")"
	case 26:
		return `$"x{` + t("any") + `}y"`
	case 27:
		return "(" + g.scalar() + ", " + g.ref(s, false) + " in " + g.ref(s, false) + ")"
	case 24:
		return "regex.match(" + g.pick(`"^[a-b]"`, t("string")) + ", " + t("string") + ")"
	case 25:
		return "glob.match(" + g.pick(`"a*"`, t("string")) + ", [], " + t("string") + ")"
	}
	return "abs(" + t("number") + ")"
}

// function is a call of a function of the policy.
func (g *generator) function(s scope) string {
	var list []string
	for _, r := range g.rules {
		switch r.kind {
		case "function1":
			list = append(list, r.name+"("+g.operand(s, "any")+")")
		case "function2":
			list = append(list, r.name+"("+g.operand(s, "any")+", "+g.operand(s, "any")+")")
		}
	}
	for _, r := range g.lib {
		if r.kind == "function1" {
			list = append(list, "data.lib."+r.name+"("+g.operand(s, "any")+")")
		}
	}
	if len(list) == 0 {
		return g.call(s)
	}
	return g.pick(list...)
}

// body is n expressions; bound are the variables after them.
func (g *generator) body(s scope, n int, sep string) (text string, bound scope) {
	bound = append(scope(nil), s...)
	var list []string
	for range n {
		var x string
		x, bound = g.expr(bound)
		if g.chance(7) {
			x += g.with(s)
		}
		list = append(list, x)
	}
	for _, v := range bound[len(s):] { // OPA refuses variables that nobody uses
		if g.chance(50) {
			list = append(list, v+" == "+v)
		} else {
			list = append(list, "type_name("+v+") != "+g.pick(`"null"`, `"x"`))
		}
	}
	return strings.Join(list, sep), bound
}

func (g *generator) with(s scope) string {
	n := g.r.Intn(6)
	if g.chance(8) {
		n = 6 + g.r.Intn(3)
	}
	switch n {
	case 0:
		return " with input as " + g.term(s)
	case 1, 2:
		return " with input." + g.pick("a", "b", "c", "list", "a.b") + " as " + g.term(s)
	case 3:
		return " with data.base." + g.pick("o", "n", "o.a", "o.c", "o.c", "o.new.a", "list", "a") + " as " + g.term(s)
	case 4:
		return " with data." + g.pick("base", "mix", "lib", "a.b", "mix.z", "new") + " as " + g.term(s)
	case 5:
		return " with " + g.document() + " as " + g.term(s)
	case 6:
		return " with " + g.pick("count", "to_number", "upper", "type_name") + " as " + g.scalar()
	case 7:
		for _, r := range g.rules {
			if r.kind == "function1" && g.chance(60) {
				return " with " + g.pick("count", "to_number", "upper", "lower") + " as " + r.name
			}
		}
		return " with input.a as 1 with input.b as 2"
	}
	for _, r := range g.rules {
		if strings.HasPrefix(r.kind, "function") && g.chance(60) {
			return " with " + r.name + " as " + g.scalar()
		}
	}
	return " with data.mix.a as " + g.scalar()
}

func (g *generator) expr(s scope) (string, scope) {
	g.depth++
	defer func() { g.depth-- }()
	switch n := g.r.Intn(43); {
	case n == 42:
		v, u := g.fresh(), g.undeclared()
		return "every " + v + " in " + g.ref(s, false) + " { " + g.ref(s, false) + "[" + u + "] " + g.pick("==", "=", "!=") + " " + v + " }", s
	case n == 41:
		p, q := g.fresh(), g.fresh()
		x := g.term(s)
		return g.pick("["+p+", "+q+"] = ["+q+", "+x+"]", `{"a": `+p+`, "b": `+q+`} = {"a": `+q+`, "b": `+x+"}", p+" = "+q+"; "+q+" = "+x), append(s, p, q)
	case n == 40:
		u := g.undeclared()
		return g.ref(s, false) + "[" + u + "] == " + g.term(s), s
	case n < 6:
		v := g.fresh()
		return v + " := " + g.term(s), append(s, v)
	case n < 10:
		v := g.fresh()
		return v + " := " + g.ref(s, true), append(s, v)
	case n < 15:
		return g.ref(s, false) + g.pick(" == ", " != ", " == ", " < ", " >= ", " > ") + g.term(s), s
	case n < 16:
		return g.simple(), s
	case n < 17:
		return `input.` + g.pick("a", "b", "k") + ` == ` + g.pick(`"a"`, `"b"`, `"x"`, "1"), s
	case n < 20:
		v := g.fresh()
		return "some " + v + " in " + g.ref(s, false), append(s, v)
	case n < 22:
		k, v := g.fresh(), g.fresh()
		return "some " + k + ", " + v + " in " + g.ref(s, false), append(s, k, v)
	case n < 24:
		k := g.fresh()
		return "some " + k + "; " + g.ref(s, false) + "[" + k + "] == " + g.term(s), append(s, k)
	case n < 25 && g.chance(30):
		a, b := g.fresh(), g.fresh()
		return "some " + g.pick("["+a+", "+b+"]", `{"a": `+a+`, "b": `+b+`}`) + " in " + g.ref(s, false), append(s, a, b)
	case n < 26:
		return "not " + g.negated(s), s
	case n < 28:
		return g.every(s), s
	case n < 30:
		return g.term(s) + " in " + g.ref(s, false), s
	case n < 31 && g.chance(12):
		return g.term(s), s
	case n < 32:
		return g.ref(s, true), s
	case n < 34:
		return g.call(s), s
	case n < 35:
		return g.function(s), s
	case n < 36:
		a, b := g.fresh(), g.fresh()
		return "[" + a + ", " + b + "] = " + g.ref(s, false), append(s, a, b)
	case n < 37:
		a := g.fresh()
		return `{"a": ` + a + `} = ` + g.ref(s, false), append(s, a)
	case n < 38:
		p, v := g.fresh(), g.fresh()
		return "walk(" + g.ref(s, false) + ", [" + p + ", " + v + "])", append(s, p, v)
	case n < 39:
		v := g.fresh()
		return v + " := " + g.comprehension(s), append(s, v)
	}
	return "[" + g.ref(s, false) + ", " + g.ref(s, false) + "] = [" + g.term(s) + ", " + g.ref(s, false) + "]", s
}

// simple is an expression that cannot fail.
func (g *generator) simple() string {
	field := g.pick("input.a", "input.b", "input.c", "input.list", "input.nums", "data.base.n", "data.base.list")
	switch g.r.Intn(6) {
	case 0:
		v := g.fresh()
		return "some " + v + " in " + field + "; " + v + g.pick(" == ", " > ", " != ") + g.scalar()
	case 1:
		v := g.fresh()
		return "every " + v + " in " + field + " { " + v + " != " + g.scalar() + " }"
	case 2:
		return g.scalar() + " in " + field
	case 3:
		return "not " + field + " == " + g.scalar()
	}
	return field + g.pick(" == ", " != ", " < ", " >= ") + g.scalar()
}

func (g *generator) negated(s scope) string {
	switch g.r.Intn(7) {
	case 0:
		return g.term(s) + g.pick(" == ", " != ", " < ") + g.term(s)
	case 1:
		return g.term(s) + " in " + g.term(s)
	case 2:
		return g.call(s)
	case 3:
		return g.function(s)
	}
	return g.ref(s, false)
}

func (g *generator) every(s scope) string {
	v := g.fresh()
	inner := append(append(scope(nil), s...), v)
	head := "every " + v + " in " + g.ref(s, false)
	if g.chance(30) {
		k := g.fresh()
		inner = append(inner, k)
		head = "every " + k + ", " + v + " in " + g.ref(s, false)
	}
	body, _ := g.body(inner, 1+g.r.Intn(2), "; ")
	uses := make([]string, 0, 2)
	for _, v := range inner[len(s):] {
		uses = append(uses, v+" == "+v)
	}
	return head + " { " + body + "; " + strings.Join(uses, "; ") + " }"
}

// rule writes all definitions of one rule.
func (g *generator) rule(name string) (string, genRule) {
	var b strings.Builder
	r := genRule{name: name}
	ruleBody := func(s scope) (string, scope) {
		g.free = nil
		text, bound := g.body(s, 1+g.r.Intn(3), "\n\t")
		return " if {\n\t" + text + "\n}", bound
	}
	definitions := 1 + g.r.Intn(3)
	value := g.scalar()
	uniform := g.chance(60)
	r.kind = g.pick("guarded", "guarded", "complete", "complete", "complete", "complete", "set", "set", "object", "object", "nested", "sets", "overbase", "overbase", "reader", "reader", "reader", "stale", "stale", "stale", "numbers", "numbers", "function1", "function1", "function2", "tree", "general", "mixed", "mixed")
	if g.main && g.first && g.chance(35) {
		r.kind = "overbase"
	}
	switch r.kind {
	case "guarded":
		r.scalar = true
		if g.chance(50) {
			fmt.Fprintf(&b, "default %s := %s\n\n", name, g.scalar())
		}
		field := g.pick("input.k", "input.a", "input.o.a")
		for range 3 + g.r.Intn(4) {
			v := value
			if g.chance(10) {
				v = g.scalar()
			}
			more := ""
			if g.chance(40) {
				more = "\n\t" + g.simple()
			}
			if g.chance(25) {
				text, _ := g.body(nil, 1, "\n\t")
				more += "\n\t" + text
			}
			guard := field + " == " + g.pick(`"a"`, `"a"`, `"b"`, `"x"`)
			if g.chance(10) {
				guard = g.simple()
			}
			fmt.Fprintf(&b, "%s := %s if {\n\t%s%s\n}\n\n", name, v, guard, more)
		}
	case "complete":
		r.scalar = uniform
		if g.chance(45) {
			fmt.Fprintf(&b, "default %s := %s\n\n", name, g.scalar())
		}
		if g.chance(10) {
			definitions += 14
		}
		for range definitions {
			body, bound := ruleBody(nil)
			v := value
			if !uniform {
				v = g.term(bound)
			}
			fmt.Fprintf(&b, "%s := %s%s", name, v, body)
			for g.chance(20) {
				body, bound = ruleBody(nil)
				v = value
				if !uniform {
					v = g.term(bound)
				}
				fmt.Fprintf(&b, " else := %s%s", v, body)
			}
			b.WriteString("\n\n")
		}
	case "set":
		for range definitions {
			body, bound := ruleBody(nil)
			fmt.Fprintf(&b, "%s contains %s%s\n\n", name, g.term(bound), body)
		}
	case "object":
		for range definitions {
			body, bound := ruleBody(nil)
			fmt.Fprintf(&b, "%s[%s] := %s%s\n\n", name, g.headKey(bound), g.term(bound), body)
		}
	case "numbers": // equal ones, perhaps written differently
		form := g.pick("json.marshal({X, Y})", "count({X, Y})", "count({v | some v in [X, Y]})", "json.marshal({X} & {Y, 2})", "json.marshal({X, 2} | {Y})",
			"[json.marshal(y) | s := {1, 2, [1]}; y := s[X]]", "json.marshal({k: 1 | some k in [X, Y]})", "[json.marshal(y) | y := [X, Y][_]; y == 1]",
			"X in {Y}", "[r | some k in [X, Y]; r := [json.marshal(k) | input.odd[_] == k]]", "object.get({Y: 1}, X, 0)", "to_number(\"1.0\") == X", "json.marshal(NAME_(X)) == json.marshal(NAME_(Y))")
		x, y := "input.odd["+g.pick("0", "1")+"]", g.pick("input.odd[0]", "input.odd[1]", "1", "input.nums[0]", `to_number("1.0")`, `to_number("1.0")`)
		fmt.Fprintf(&b, "%s := %s\n\n", name, strings.NewReplacer("X", x, "Y", y, "NAME", name).Replace(form))
		fmt.Fprintf(&b, "%s_(a) := [a]\n\n", name)
	case "stale": // what one definition or every leaves in the locals of the next
		for range 2 + g.r.Intn(3) {
			if uniform {
				value = g.scalar()
			}
			body := g.stale()
			if g.chance(50) {
				body += "\n\t" + g.simple()
			}
			fmt.Fprintf(&b, "%s := %s if {\n\t%s\n}", name, value, body)
			for g.chance(30) {
				fmt.Fprintf(&b, " else := %s if {\n\t%s\n}", g.scalar(), g.stale())
			}
			b.WriteString("\n\n")
		}
	case "reader": // of one such rule by a key
		from := "input.o"
		for _, r := range g.r.Perm(len(g.rules)) {
			if g.rules[r].kind == "overbase" {
				from = g.rules[r].name
			}
		}
		key := g.pick("i := "+g.pick(`input.k`, `["0", 1, "+1"][_]`, `"1"`, "1")+"; ", "i = input.a; ", "")
		at := from + "[i]"
		if key == "" || g.chance(30) {
			key, at = "", from+g.partialKey(nil)
		}
		fmt.Fprintf(&b, "%s := %s if {\n\t%s%s\n}\n\n", name, g.scalar(), key, g.pick(at, "not "+at, "count([1 | "+at+"]) == "+g.pick("0", "1"), "every w in [1] { "+at+"; w == 1 }"))
	case "overbase":
		form := g.pick("NAME contains I if { BODY }", "NAME contains [\"a\", I] if { BODY }", "NAME contains {\"r\": I} if { BODY }", "NAME contains {I} if { BODY }",
			"NAME[I] := J if { BODY }", "NAME[I] := VALUE if { BODY }", "NAME[I][J] := VALUE if { BODY }", "NAME[I] contains J if { BODY }", "NAME contains J if { BODY; I == I }")
		for range definitions {
			body, keys := g.overBase()
			b.WriteString(strings.NewReplacer("NAME", name, "VALUE", g.scalar(), "I", keys[0], "J", keys[1], "BODY", body).Replace(form) + "\n\n")
		}
	case "nested":
		for range definitions {
			body, bound := ruleBody(nil)
			fmt.Fprintf(&b, "%s[%s][%s] := %s%s\n\n", name, g.headKey(bound), g.headKey(bound), g.term(bound), body)
		}
	case "sets":
		for range definitions {
			body, bound := ruleBody(nil)
			fmt.Fprintf(&b, "%s[%s] contains %s%s\n\n", name, g.headKey(bound), g.term(bound), body)
		}
	case "mixed":
		for range definitions {
			body, bound := ruleBody(nil)
			fmt.Fprintf(&b, "%s[%s] := %s%s\n\n", name, g.headKey(bound), g.term(bound), body)
			body, bound = ruleBody(nil)
			fmt.Fprintf(&b, "%s.%s := %s%s\n\n", name, g.pick("a", "b"), g.term(bound), body)
		}
	case "general":
		for range definitions {
			body, bound := ruleBody(nil)
			fmt.Fprintf(&b, "%s[%s]%s := %s%s\n\n", name, g.headKey(bound), g.pick("", ".a", ".a", ".b"), g.term(bound), body)
		}
	case "tree":
		for _, k := range []string{"a", "b", "c"} {
			body, bound := ruleBody(nil)
			if g.chance(30) {
				fmt.Fprintf(&b, "default %s.%s := %s\n\n", name, k, g.scalar())
			}
			fmt.Fprintf(&b, "%s.%s := %s%s\n\n", name, k, g.term(bound), body)
		}
	default:
		arity := int(r.kind[len(r.kind)-1] - '0')
		if g.chance(25) {
			fmt.Fprintf(&b, "default %s(%s) := %s\n\n", name, strings.Join([]string{"_", "_"}[:arity], ", "), g.scalar())
		}
		for range definitions {
			var args []string
			var s scope
			for range arity {
				a := g.fresh()
				switch g.r.Intn(6) {
				case 0:
					args = append(args, g.scalar())
					continue
				case 1:
					args = append(args, "["+a+", _]")
				default:
					args = append(args, a)
				}
				s = append(s, a)
			}
			body, bound := ruleBody(s)
			v := value
			if !uniform {
				v = g.term(bound)
			}
			fmt.Fprintf(&b, "%s(%s) := %s%s", name, strings.Join(args, ", "), v, body)
			for g.chance(15) {
				body, bound := ruleBody(s)
				if !uniform {
					v = g.term(bound)
				}
				fmt.Fprintf(&b, " else := %s%s", v, body)
			}
			b.WriteString("\n\n")
		}
	}
	return b.String(), r
}

// policy writes the modules; documents are the rules of package p that are not
// functions. Rules that OPA's compiler does not take are written anew.
func (g *generator) policy() (modules, documents []string) {
	if g.chance(4) {
		g.odd = 3
	}
	modules = []string{"package p\n\n", "package lib\n\n", "package mix\n\n"}
	add := func(module int, name string) (genRule, bool) {
		for range 8 {
			text, r := g.rule(name)
			before := modules[module]
			modules[module] += text
			if _, err := newSubject(modules, "true", ast.RegoV1, ast.CapabilitiesForThisVersion()); err == nil {
				return r, true
			}
			modules[module] = before
		}
		return genRule{}, false
	}
	for i := range 1 + g.r.Intn(2) {
		if r, ok := add(1, fmt.Sprintf("l%d", i)); ok {
			g.lib = append(g.lib, r)
		}
	}
	if g.chance(50) {
		add(2, g.pick("v", "v", "a", "z", "b"))
		if g.chance(30) {
			add(2, "w")
		}
	}
	g.main = true
	for i := range 3 + g.r.Intn(4) {
		g.first = i == 0
		if r, ok := add(0, fmt.Sprintf("r%d", i)); ok {
			g.rules = append(g.rules, r)
		}
	}
	for _, r := range g.rules {
		if !strings.HasPrefix(r.kind, "function") {
			documents = append(documents, r.name)
		}
	}
	return modules, documents
}

// value writes a random JSON value.
func (g *generator) value(depth int) string {
	n := g.r.Intn(10)
	if depth <= 0 {
		n = g.r.Intn(6)
	}
	switch {
	case n < 6:
		return g.scalar()
	case n < 8:
		list := make([]string, g.r.Intn(4))
		for i := range list {
			list[i] = g.value(depth - 1)
		}
		return "[" + strings.Join(list, ", ") + "]"
	}
	var list []string
	for _, k := range []string{"a", "b", "c", "0", "1", ""} {
		if g.chance(45) {
			list = append(list, fmt.Sprintf("%q: %s", k, g.value(depth-1)))
		}
	}
	return "{" + strings.Join(list, ", ") + "}"
}

// input writes a random input document.
func (g *generator) input() string {
	if g.odd = 0; g.chance(15) {
		g.odd = 10
	}
	if g.chance(3) {
		return g.value(1)
	}
	var list []string
	for _, k := range []string{"a", "b", "c", "o", "k"} {
		if g.chance(85) {
			list = append(list, fmt.Sprintf("%q: %s", k, g.value(2)))
		}
	}
	if g.chance(80) {
		pair := g.pick("1, 1", "2, 1", "1, 3")
		if g.chance(20) {
			pair = g.pick("1, 1.0", "1.0, 1", "1e400, 10e399", "10e399, 1e400", "0, -0", "1e0, 1", "2.5, 2.50")
		}
		list = append(list, `"odd": [`+pair+"]")
	}
	if g.chance(80) {
		list = append(list, `"list": [`+g.scalar()+", "+g.scalar()+", "+g.scalar()+"]")
	}
	if g.chance(80) {
		list = append(list, `"nums": [`+g.pick("1", "2", "1.5", `"x"`)+", "+g.pick("1", "2", "0")+"]")
	}
	return "{" + strings.Join(list, ", ") + "}"
}
