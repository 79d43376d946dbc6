package compiled

import (
	"fmt"
	"math/rand"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// patterns writes random policies, as generator does, of another kind: general
// heads, patterns on both sides of unification, in arguments, in some and every,
// composites within composites as keys and operands, and with in every place. Its
// inputs have the shapes that its policies ask for, so that much is defined.
type patterns struct {
	r     *rand.Rand
	n     int
	rules []patternRule
	depth int
}

// patternRule is a rule that others may use.
type patternRule struct {
	name string
	kind string // value, set, object, deep, function
	args int
}

const patternData = `{
	"d": {
		"o": {"a": 1, "b": "x", "c": [1, "x"], "n": {"a": 1, "b": "x"}},
		"l": [{"k": "a", "v": 1}, {"k": "b", "v": "x"}, {"k": "a", "v": [1, 2]}],
		"p": [1, "x"], "s": ["a", "b", "c"], "t": {"a": {"a": 1}, "x": {"b": "x"}}
	},
	"q": {"z": {"a": 1}}
}`

func (g *patterns) pick(list ...string) string { return list[g.r.Intn(len(list))] }

func (g *patterns) chance(percent int) bool { return g.r.Intn(100) < percent }

func (g *patterns) random() *rand.Rand { return g.r }

func (*patterns) version() ast.RegoVersion { return ast.RegoV1 }

func (*patterns) data() string { return patternData }

func (g *patterns) fresh() string {
	g.n++
	return fmt.Sprintf("v%d", g.n)
}

func (g *patterns) scalar() string {
	return g.pick(`"a"`, `"b"`, `"c"`, `"x"`, "1", "1", "2", "0", "true", "false", "null", `""`, "1.5")
}

// literal is a ground value, nested.
func (g *patterns) literal(depth int) string {
	if depth <= 0 || g.chance(50) {
		return g.scalar()
	}
	a, b := g.literal(depth-1), g.literal(depth-1)
	switch g.r.Intn(7) {
	case 0:
		return "[" + a + ", " + b + "]"
	case 1:
		return "{" + a + "}"
	case 2:
		return "{" + a + ", " + b + "}"
	case 3:
		return `{"a": ` + a + "}"
	case 4:
		return `{"a": ` + a + `, "b": ` + b + "}"
	case 5:
		return "{" + a + ": " + b + "}"
	}
	return g.pick("[]", "{}", "set()", "["+a+"]")
}

// source is where patterns look: most are there, in the shape that shape says.
func (g *patterns) source(s scope) (text, shape string) {
	if len(g.rules) > 0 && g.chance(20) {
		r := g.rules[g.r.Intn(len(g.rules))]
		switch r.kind {
		case "value":
			return r.name, g.pick("pair", "object", "scalar")
		case "set", "object":
			return r.name + g.pick("", "", "[_]"), g.pick("pair", "object", "scalar")
		case "deep":
			return r.name + g.pick(".a", ".b", "[_]", "", "[_][_]"), g.pick("object", "scalar")
		}
	}
	if len(s) > 0 && g.chance(20) {
		return s[g.r.Intn(len(s))], g.pick("pair", "object", "scalar")
	}
	switch g.r.Intn(12) {
	case 0, 1:
		return g.pick("input.p", "data.d.p", "input.l[_].p"), "pair"
	case 2, 3:
		return g.pick("input.o", "data.d.o", "input.o.n"), "object"
	case 4:
		return g.pick("input.l[_]", "data.d.l[_]"), "row"
	case 5:
		return g.pick("input.l", "data.d.l"), "rows"
	case 6:
		return g.pick("input.s", "data.d.s", "input.e"), "list"
	case 7:
		return g.pick("input.o.a", "input.s[_]", "data.d.s[_]", "input.p[0]", "data.d.o.b", "input.k"), "scalar"
	case 8:
		return g.pick("input.t", "data.d.t", "data.q"), "tree"
	case 9:
		return "[" + g.term(s) + ", " + g.term(s) + "]", "pair"
	case 10:
		return `{"a": ` + g.term(s) + `, "b": ` + g.term(s) + "}", "object"
	}
	return g.term(s), "scalar"
}

// pattern matches a shape; vars are what it binds.
func (g *patterns) pattern(s scope, shape string, depth int) (text string, vars scope) {
	leaf := func() string {
		switch n := g.r.Intn(20); {
		case n < 9 || depth <= 0 && n < 12:
			v := g.fresh()
			vars = append(vars, v)
			return v
		case n < 11 && len(vars) > 0:
			return vars[g.r.Intn(len(vars))] // the same once more
		case n < 13 && len(s) > 0:
			return s[g.r.Intn(len(s))]
		case n < 15:
			return "_"
		case n < 17 && depth > 0:
			inner, more := g.pattern(s, g.pick("pair", "object", "scalar"), depth-1)
			vars = append(vars, more...)
			return inner
		}
		return g.scalar()
	}
	switch shape {
	case "pair":
		return "[" + leaf() + ", " + leaf() + "]", vars
	case "row":
		if g.chance(30) {
			return `{"k": ` + leaf() + `, "v": ` + leaf() + `, "p": ` + leaf() + "}", vars
		}
		return `{"k": ` + leaf() + `, "v": ` + leaf() + "}", vars
	case "object", "tree":
		key := `"b"`
		if len(s) > 0 && g.chance(25) {
			key = s[g.r.Intn(len(s))]
		}
		switch g.r.Intn(4) {
		case 0:
			return `{"a": ` + leaf() + "}", vars
		case 1:
			return `{"a": ` + leaf() + `, "b": ` + leaf() + `, "c": ` + leaf() + `, "n": ` + leaf() + "}", vars
		}
		return `{"a": ` + leaf() + ", " + key + ": " + leaf() + "}", vars
	case "list":
		return "[" + leaf() + ", " + leaf() + ", " + leaf() + "]", vars
	}
	return leaf(), vars
}

// term is any value, of what is bound.
func (g *patterns) term(s scope) string {
	g.depth++
	defer func() { g.depth-- }()
	if g.depth > 3 {
		return g.simple(s)
	}
	switch g.r.Intn(16) {
	case 0:
		return g.literal(2)
	case 1:
		return "[" + g.term(s) + ", " + g.simple(s) + "]"
	case 2:
		return "{" + g.term(s) + "}"
	case 3:
		return "{" + g.simple(s) + ": " + g.term(s) + "}"
	case 4:
		return `{"a": ` + g.term(s) + `, "b": ` + g.simple(s) + "}"
	case 5, 6:
		return g.comprehension(s)
	case 7, 8:
		return g.call(s)
	case 9:
		if f := g.function(s); f != "" {
			return f
		}
	case 10:
		text, _ := g.source(s)
		return strings.ReplaceAll(text, "[_]", g.pick("[0]", "[1]", ".a"))
	}
	return g.simple(s)
}

func (g *patterns) simple(s scope) string {
	switch {
	case len(s) > 0 && g.chance(60):
		v := s[g.r.Intn(len(s))]
		return v + g.pick("", "", "", "", ".a", "[0]", "[1]", "["+s[g.r.Intn(len(s))]+"]")
	case g.chance(50):
		return g.pick("input.o.a", "input.o.b", "input.k", "input.p[0]", "input.p[1]", "input.o", "input.p", "data.d.o.a", "data.d.p", "input.s")
	}
	return g.scalar()
}

func (g *patterns) comprehension(s scope) string {
	body, bound := g.body(s, 1+g.r.Intn(2), "; ")
	return comprehension(g.r, g.term(bound), g.term(bound), body)
}

func (g *patterns) function(s scope) string {
	var list []string
	for _, r := range g.rules {
		if r.kind != "function" {
			continue
		}
		args := make([]string, r.args)
		for i := range args {
			args[i] = g.pick(g.simple(s), "input.p", "input.o", "data.d.l[0]", g.scalar())
		}
		list = append(list, r.name+"("+strings.Join(args, ", ")+")")
	}
	if len(list) == 0 {
		return ""
	}
	return g.pick(list...)
}

// call is a builtin on composites, most of the time with operands of its types.
func (g *patterns) call(s scope) string {
	o := func() string { return g.pick("input.o", "data.d.o", "input.t", `{"a": `+g.simple(s)+"}", g.simple(s)) }
	l := func() string {
		return g.pick("input.s", "input.p", "data.d.l", "["+g.simple(s)+", "+g.simple(s)+"]", g.simple(s))
	}
	set := func() string {
		return g.pick("{x | some x in input.s}", "{x | x := input.p[_]}", "{"+g.simple(s)+"}", "{1, \"a\"}", "set()")
	}
	x := func() string { return g.simple(s) }
	str := func() string { return g.pick("input.k", `"a,b"`, `"aé"`, "input.o.b", x()) }
	num := func() string { return g.pick("input.o.a", "1", "2.5", "count(input.s)", x()) }
	return g.pick(
		"count("+g.pick(o(), l(), set(), str())+")", "object.get("+o()+", "+g.pick(x(), `["a", "b"]`, `"a"`, "[\"n\", \"a\"]", l())+", "+x()+")",
		"("+set()+g.pick(" & ", " | ", " - ")+set()+")", "union({"+set()+", "+set()+"})", "intersection({"+set()+", "+set()+"})",
		"array.slice("+l()+", "+num()+", "+num()+")", "array.reverse("+l()+")", "array.concat("+l()+", "+l()+")", "array.flatten("+l()+")",
		"object.keys("+o()+")", "object.remove("+o()+", "+g.pick(l(), set(), o())+")", "object.filter("+o()+", "+g.pick(l(), set(), o())+")",
		"object.union("+o()+", "+o()+")", "object.union_n(["+o()+", "+o()+"])", "object.subset("+g.pick(o(), l(), set())+", "+g.pick(o(), l(), set())+")",
		"json.filter("+o()+", "+g.pick(`["a"]`, `{"n/a", "b"}`, l())+")", "json.remove("+o()+", "+g.pick(`["a"]`, `{"n/a"}`, l())+")",
		`json.patch(`+o()+`, [{"op": "`+g.pick("add", "replace", "remove")+`", "path": "`+g.pick("/a", "b", "/n/z", "c/0")+`", "value": `+x()+`}])`,
		"json.marshal("+x()+")", "json.unmarshal(json.marshal("+x()+"))", "json.is_valid("+str()+")", "yaml.marshal("+x()+")", "base64.encode("+str()+")", "urlquery.encode("+str()+")", "hex.encode("+str()+")",
		"sprintf("+g.pick(`"%v %v"`, `"%s"`, `"%d-%v"`, `"%q"`, `"%5.2f"`)+", ["+x()+", "+x()+"])", "format_int("+num()+", "+g.pick("2", "10", "16")+")",
		"split("+str()+", "+g.pick(`","`, `""`)+")", "concat("+g.pick(`"-"`, str())+", "+g.pick("input.s", set())+")", "indexof("+str()+", "+str()+")", "indexof_n("+str()+", "+str()+")", "substring("+str()+", "+g.pick("0", "1", num())+", "+g.pick("-1", "1", num())+")",
		"upper("+str()+")", "strings.reverse("+str()+")", "strings.count("+str()+", "+str()+")", "strings.replace_n({\"a\": \"z\"}, "+str()+")", "trim_left("+str()+", \"a\")", "strings.any_prefix_match("+g.pick(str(), "input.s")+", "+g.pick(str(), set())+")",
		"regex.match(`^[ab]`, "+str()+")", "regex.split(`,`, "+str()+")", "regex.find_n(`[a-z]`, "+str()+", "+g.pick("-1", "1", num())+")", "regex.replace("+str()+", `a`, \"b\")", "glob.match(\"a*\", "+g.pick("[]", "null", "[\",\"]")+", "+str()+")",
		"abs("+num()+")", "round("+num()+")", "ceil("+num()+")", "("+num()+g.pick(" + ", " - ", " * ", " / ", " % ")+num()+")", "bits.and("+num()+", "+num()+")", "bits.lsh("+num()+", 2)", "numbers.range("+g.pick("1", "3")+", "+g.pick("2", "-1")+")", "numbers.range_step(1, 5, "+g.pick("2", "0")+")",
		"sum("+g.pick(l(), set(), "[1, 2.5]")+")", "product("+g.pick(l(), set())+")", "max("+g.pick(l(), set())+")", "min("+g.pick(l(), set())+")", "sort("+g.pick(l(), set())+")",
		"to_number("+g.pick(str(), num(), `"12"`, "true", "null")+")", "type_name("+x()+")", "is_object("+x()+")", "is_set("+set()+")", "graph.reachable({\"a\": [\"b\"], \"b\": input.s}, "+g.pick(`["a"]`, `{"b"}`, l())+")",
		"semver.compare("+g.pick(`"1.2.3"`, str())+`, "1.10.0")`, "units.parse_bytes("+g.pick(`"10KB"`, str())+")", "time.parse_duration_ns("+g.pick(`"1h"`, str())+")", "net.cidr_contains(\"10.0.0.0/8\", "+g.pick(`"10.1.2.3"`, str())+")", "crypto.sha256("+str()+")",
		"equal("+x()+", "+x()+")", "lt("+x()+", "+x()+")", "internal.member_2("+x()+", "+g.pick(l(), set(), o())+")", "startswith("+str()+", "+str()+")",
	)
}

// body is n expressions; bound is what is bound after them.
func (g *patterns) body(s scope, n int, sep string) (text string, bound scope) {
	bound = append(bound, s...)
	list := make([]string, n)
	for i := range list {
		e, vars := g.expr(bound)
		list[i] = e
		bound = append(bound, vars...)
	}
	return strings.Join(list, sep), bound
}

// with is a modifier, or nothing.
func (g *patterns) with(s scope) string {
	if !g.chance(12) {
		return ""
	}
	targets := []string{"input", "input.o", "input.o.a", "input.p", "input.k", "input.l", "input.new.x", "data.d.o", "data.d.o.a", "data.d", "data.d.s", "data.q.z.a", "data.new"}
	for _, r := range g.rules {
		if r.kind != "function" {
			targets = append(targets, "data.p."+r.name)
		}
	}
	text := " with " + targets[g.r.Intn(len(targets))] + " as " + g.pick(g.simple(s), g.literal(2), `{"a": 1, "b": "x"}`, "[1, \"x\"]", "input")
	if g.chance(25) {
		text += " with " + targets[g.r.Intn(len(targets))] + " as " + g.pick(g.simple(s), g.literal(1))
	}
	return text
}

func (g *patterns) expr(s scope) (string, scope) {
	g.depth++
	defer func() { g.depth-- }()
	n := g.r.Intn(25)
	if g.depth > 3 {
		n = g.r.Intn(12)
	}
	src, shape := g.source(s)
	switch {
	case n < 4:
		p, vars := g.pattern(s, shape, 2)
		if g.chance(20) {
			return src + " = " + p + g.with(s), vars
		}
		return p + " = " + src + g.with(s), vars
	case n < 6:
		v := g.fresh()
		return v + " := " + g.pick(src, g.term(s)) + g.with(s), scope{v}
	case n < 7:
		a, b := g.fresh(), g.fresh()
		return g.pick("["+a+", "+b+"]", `{"a": `+a+`, "b": `+b+"}", "["+a+", ["+b+", _]]") + " := " + src, scope{a, b}
	case n < 9:
		return g.some(s, src, shape)
	case n < 11:
		return g.simple(s) + g.pick(" == ", " != ", " < ", " >= ", " == ") + g.term(s) + g.with(s), nil
	case n < 12:
		return g.pick(src, g.simple(s), g.call(s)) + g.with(s), nil
	case n < 14:
		v := g.fresh()
		return v + " := " + g.term(s) + g.with(s), scope{v}
	case n < 16:
		inner, _ := g.expr(s)
		if strings.HasPrefix(inner, "some ") || strings.HasPrefix(inner, "not ") || strings.HasPrefix(inner, "every ") || strings.Contains(inner, ":=") {
			inner = g.simple(s) + " == " + g.term(s)
		}
		return "not " + inner, nil
	case n < 18:
		k, v := g.fresh(), g.fresh()
		body, _ := g.body(append(append(scope{}, s...), k, v), 1+g.r.Intn(2), "; ")
		if g.chance(40) {
			body = v + g.pick(" != ", " == ", " >= ") + g.simple(append(s, k))
		}
		return "every " + k + ", " + v + " in " + strings.ReplaceAll(src, "[_]", "") + " { " + body + " }" + g.with(s), nil
	case n < 20:
		return g.simple(s) + " in " + g.pick(src, g.term(s)) + g.with(s), nil
	case n < 21:
		return g.simple(s) + ", " + g.simple(s) + " in " + src, nil
	case n < 22:
		p, vars := g.pattern(s, "pair", 1)
		return "walk(" + g.pick("input.o", "input.t", "data.d.o", "input.p") + ", " + p + ")" + g.with(s), vars
	case n < 23:
		if r, vars := g.lookup(s); r != "" {
			return r + g.with(s), vars
		}
	case n < 24:
		if f := g.function(s); f != "" {
			p, vars := g.pattern(s, g.pick("pair", "object", "scalar"), 1)
			return g.pick(f, p+" = "+f) + g.with(s), vars
		}
	}
	v := g.fresh()
	return v + " = " + g.call(s) + g.with(s), scope{v}
}

// some declares or iterates.
func (g *patterns) some(s scope, src, shape string) (string, scope) {
	inner := map[string]string{"rows": "row", "list": "scalar", "tree": "object"}[shape]
	if inner == "" {
		inner = "scalar"
	}
	switch g.r.Intn(4) {
	case 0:
		k, v := g.fresh(), g.fresh()
		return "some " + k + ", " + v + " in " + src + g.with(s), scope{k, v}
	case 1:
		k := g.fresh()
		p, vars := g.pattern(s, inner, 1)
		return "some " + k + ", " + p + " in " + src, append(vars, k)
	case 2:
		a, b := g.fresh(), g.fresh()
		return "some " + a + ", " + b + "; " + g.pick("input.l", "input.t", "data.d.t", "data.d.l", "input.o") + "[" + a + "][" + b + "]" + g.pick("", " == "+g.scalar()), scope{a, b}
	}
	p, vars := g.pattern(s, inner, 1)
	return "some " + p + " in " + src + g.with(s), vars
}

// lookup reads a rule by keys that are patterns.
func (g *patterns) lookup(s scope) (string, scope) {
	for range 4 {
		if len(g.rules) == 0 {
			return "", nil
		}
		r := g.rules[g.r.Intn(len(g.rules))]
		key, vars := g.pattern(s, g.pick("scalar", "scalar", "scalar", "pair", "object"), 1)
		switch r.kind {
		case "set":
			return r.name + "[" + key + "]", vars
		case "object":
			p, more := g.pattern(s, g.pick("scalar", "pair"), 1)
			return r.name + "[" + key + "] = " + p, append(vars, more...)
		case "deep":
			v := g.fresh()
			return r.name + g.pick(".a", "["+key+"]") + g.pick("["+v+"]", ".b", ".a"), append(vars, v)
		}
	}
	return "", nil
}

func (g *patterns) rule(name string) (string, patternRule) {
	g.depth = 0
	var b strings.Builder
	definitions := 1 + g.r.Intn(3)
	block := func() (string, scope) {
		text, bound := g.body(nil, 1+g.r.Intn(3), "\n\t")
		return " if {\n\t" + text + "\n}\n\n", bound
	}
	kind := g.pick("value", "value", "set", "set", "object", "object", "deep", "function", "function", "else")
	args := 1 + g.r.Intn(2)
	value := g.pick("true", `"a"`, "[1, 2]", "") // what several definitions agree on
	for range definitions {
		switch kind {
		case "value":
			body, bound := block()
			switch {
			case value == "":
				b.WriteString(name + " := " + g.term(bound) + body)
			case g.chance(80):
				b.WriteString(name + " := " + value + body)
			default:
				b.WriteString(name + " = " + g.simple(bound) + body)
			}
		case "set":
			body, bound := block()
			b.WriteString(name + " contains " + g.term(bound) + body)
		case "object":
			body, bound := block()
			b.WriteString(name + "[" + g.term(bound) + "] := " + g.term(bound) + body)
		case "deep":
			body, bound := block()
			b.WriteString(name + g.pick(".a["+g.simple(bound)+"] := "+g.term(bound), "["+g.simple(bound)+"]["+g.simple(bound)+"] := "+g.simple(bound),
				"["+g.simple(bound)+"] contains "+g.term(bound), ".b["+g.simple(bound)+"] contains "+g.simple(bound), ".a.b := "+g.simple(bound)) + body)
		case "function":
			var params []string
			var s scope
			for range args {
				p, vars := g.pattern(nil, g.pick("scalar", "scalar", "pair", "object"), 1)
				params, s = append(params, p), append(s, vars...)
			}
			text, bound := g.body(s, 1+g.r.Intn(2), "\n\t")
			b.WriteString(name + "(" + strings.Join(params, ", ") + ") := " + g.pick(g.term(bound), value+"0"[:min(1, max(0, 1-len(value)))]) + " if {\n\t" + text + "\n}\n\n")
		default:
			body, bound := block()
			b.WriteString(name + " := " + g.pick(g.term(bound), g.scalar()) + strings.TrimRight(body, "\n"))
			for range 1 + g.r.Intn(2) {
				body, bound = block()
				b.WriteString(" else := " + g.pick(g.term(bound), g.scalar()) + strings.TrimRight(body, "\n"))
			}
			b.WriteString("\n\n")
		}
	}
	switch {
	case (kind == "value" || kind == "else") && g.chance(30):
		b.WriteString("default " + name + " := " + g.literal(1) + "\n\n")
	case kind == "function" && g.chance(20):
		b.WriteString("default " + name + "(" + strings.Join([]string{"_", "_"}[:args], ", ") + ") := " + g.scalar() + "\n\n")
	}
	if kind == "else" {
		kind = "value"
	}
	return b.String(), patternRule{name, kind, args}
}

func (g *patterns) policy() (modules, documents []string) {
	modules = []string{"package p\n\n"}
	for i := range 3 + g.r.Intn(5) {
		for range 12 {
			text, r := g.rule(fmt.Sprintf("r%d", i))
			before := modules[0]
			modules[0] += text
			if _, err := newSubject(modules, "true", ast.RegoV1, ast.CapabilitiesForThisVersion()); err == nil {
				g.rules = append(g.rules, r)
				break
			}
			modules[0] = before
		}
	}
	for _, r := range g.rules {
		if r.kind != "function" {
			documents = append(documents, r.name)
		}
	}
	return modules, documents
}

// input has the shapes that policies ask for, now and then not.
func (g *patterns) input() string {
	odd := g.chance(8)
	v := func() string {
		if odd && g.chance(20) {
			return g.pick("1.0", "1e0", "-0", "12345678901234567890", "0.1", `"aé"`, "[]", "{}")
		}
		if g.chance(15) {
			return g.pick("[1, 2]", `{"a": 1}`, `["x", "x"]`, `[1, "x"]`, `{"a": {"b": "x"}}`)
		}
		return g.scalar()
	}
	obj := func() string {
		return `{"a": ` + v() + `, "b": ` + v() + g.pick("", `, "c": `+v(), `, "n": {"a": `+v()+`, "b": `+v()+"}", `, "c": `+v()+`, "n": `+v()) + "}"
	}
	row := func() string {
		return `{"k": ` + v() + `, "v": ` + v() + g.pick("", `, "p": [`+v()+", "+v()+"]") + "}"
	}
	members := []string{
		`"p": [` + v() + ", " + v() + "]", `"o": ` + obj(), `"l": [` + row() + ", " + row() + g.pick("", ", "+row()) + "]",
		`"s": [` + v() + ", " + v() + ", " + v() + "]", `"k": ` + g.pick(`"a"`, `"b"`, `"a,b"`, v()), `"t": {"a": ` + obj() + `, "x": ` + obj() + "}", `"e": []`,
	}
	g.r.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	if g.chance(15) {
		members = members[1:]
	}
	return "{" + strings.Join(members, ", ") + "}"
}
