package compiled

import (
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

// form is one form of the grammar in testdata/grammar.txt: its alternatives, each
// as often as it is likely.
type form struct {
	all    [][]token
	leaves [][]token // those without forms inside of them
}

// token is a text, or in angle brackets a form or an action with an argument.
type token struct{ text, name, arg string }

type grammar map[string]*form

var readGrammar = sync.OnceValues(func() (grammar, error) {
	text, err := os.ReadFile("testdata/grammar.txt")
	if err != nil {
		return nil, err
	}
	g := grammar{}
	var at *form
	for i, line := range strings.Split(string(text), "\n") {
		switch {
		case line == "" || line[0] == '#':
		case line[0] != '\t':
			at = g[line]
			if at == nil {
				at = &form{}
				g[line] = at
			}
		default:
			if at == nil {
				return nil, fmt.Errorf("line %d: an alternative of nothing", i+1)
			}
			at.add(line[1:])
		}
	}
	return g, nil
})

func (f *form) add(text string) {
	weight := 1
	if first, rest, ok := strings.Cut(text, " "); ok {
		if n, err := strconv.Atoi(first); err == nil {
			weight, text = n, rest
		}
	}
	tokens, leaf := tokensOf(text)
	for range weight {
		f.all = append(f.all, tokens)
		if leaf {
			f.leaves = append(f.leaves, tokens)
		}
	}
}

// tokensOf cuts an alternative into tokens; a leaf is one that ends the recursion.
func tokensOf(text string) (tokens []token, leaf bool) {
	leaf = true
	for text != "" {
		i := strings.IndexByte(text, '<')
		if i < 0 || i+1 == len(text) || text[i+1] < 'a' || text[i+1] > 'z' {
			if i >= 0 && i+1 < len(text) { // a comparison
				tokens, text = append(tokens, token{text: text[:i+1]}), text[i+1:]
				continue
			}
			return append(tokens, token{text: text}), leaf
		}
		if i > 0 {
			tokens = append(tokens, token{text: text[:i]})
		}
		inner, rest, _ := strings.Cut(text[i+1:], ">")
		name, arg, _ := strings.Cut(inner, " ")
		tokens = append(tokens, token{name: name, arg: arg})
		leaf = leaf && (name == "var" || name == "odd" || name == "name" || name == "digit")
		text = rest
	}
	return tokens, leaf
}

// templates writes policies of the grammar. It says what the others do not:
// patterns on both sides, general heads, all builtins, values nested in each
// other. Expressions have types, mostly kept, so that much of it is defined.
type templates struct {
	r       *rand.Rand
	grammar grammar
	docs    []templateDoc
	old     bool // version 0 of Rego
	odd     bool // numbers that are not written the usual way may come up
	n       int
	depth   int
	scopes  []templateScope
	free    []string
	base    string    // what data answers
	last    [2]string // the variables that were made last
}

type templateDoc struct{ name, kind string }

type templateScope struct {
	known   []templateVar
	pending []templateVar
	later   []templateLater
}

type templateVar struct{ name, kind string }

// templateLater is a place in the text that is filled when the scope ends.
type templateLater struct {
	form string
	at   string
}

func newTemplates(t testing.TB, seed int64) *templates {
	t.Helper()
	g, err := readGrammar()
	if err != nil {
		t.Fatal(err)
	}
	return &templates{r: seeded(seed), grammar: g, scopes: []templateScope{{}}}
}

func (p *templates) chance(percent int) bool { return p.r.Intn(100) < percent }

func (p *templates) pick(list ...string) string { return list[p.r.Intn(len(list))] }

// maxTemplateDepth is how deep forms are nested before only leaves are taken.
const maxTemplateDepth = 9

// write writes one form.
func (p *templates) write(name string) string {
	f := p.grammar[name]
	if f == nil {
		panic("testdata/grammar.txt has no form " + name)
	}
	p.depth++
	defer func() { p.depth-- }()
	switch name {
	case "str", "num", "bool", "arr", "set", "obj":
		if p.chance(4) {
			return p.write("any")
		}
	default:
	}
	list := f.all
	if len(f.leaves) > 0 && (p.depth > maxTemplateDepth || p.depth > 5 && p.chance(40)) {
		list = f.leaves
	}
	return p.tokens(list[p.r.Intn(len(list))])
}

func (p *templates) tokens(list []token) string {
	var b strings.Builder
	outer := len(p.scopes)
	for _, t := range list {
		if t.name == "" {
			b.WriteString(t.text)
			continue
		}
		if t.name == "pop" {
			text := p.close(b.String())
			b.Reset()
			b.WriteString(text)
			continue
		}
		b.WriteString(p.action(t))
	}
	for len(p.scopes) > outer {
		text := p.close(b.String())
		b.Reset()
		b.WriteString(text)
	}
	return b.String()
}

// close fills what was left for later, and ends the scope.
func (p *templates) close(text string) string {
	p.bind()
	s := p.scope()
	for i := 0; i < len(s.later); i++ {
		text = strings.Replace(text, s.later[i].at, p.write(s.later[i].form), 1)
	}
	p.scopes = p.scopes[:len(p.scopes)-1]
	return text
}

func (p *templates) scope() *templateScope { return &p.scopes[len(p.scopes)-1] }

func (p *templates) bind() {
	s := p.scope()
	s.known, s.pending = append(s.known, s.pending...), nil
}

func (p *templates) action(t token) string {
	switch t.name {
	case "push":
		p.scopes = append(p.scopes, templateScope{})
	case "bind":
		p.bind()
	case "line":
		return "\n\t"
	case "new":
		return p.declare(t.arg, false)
	case "param":
		return p.declare(t.arg, true)
	case "same":
		return p.last[0]
	case "same2":
		return p.last[1]
	case "var":
		return p.variable(t.arg)
	case "later":
		p.n++
		at := fmt.Sprintf("\x00%d\x00", p.n)
		p.scope().later = append(p.scope().later, templateLater{form: t.arg, at: at})
		return at
	case "free":
		if len(p.free) == 0 || p.chance(40) {
			p.n++
			p.free = append(p.free, fmt.Sprintf("u%d", p.n))
		}
		return p.free[p.r.Intn(len(p.free))]
	case "free0":
		return p.declare("any", false)
	case "odd":
		if !p.odd {
			return "1"
		}
		return p.write("odd")
	case "doc", "docof", "docname", "fnof", "fn1", "fn2":
		return p.document(t.name, t.arg)
	default:
		return p.write(t.name)
	}
	return ""
}

func (p *templates) declare(kind string, now bool) string {
	p.n++
	v := templateVar{name: fmt.Sprintf("v%d", p.n), kind: kind}
	if p.chance(12) { // the same names in several rules
		v.name = p.pick("x", "y", "z", "k") + strconv.Itoa(p.r.Intn(4))
		for _, s := range p.scopes {
			for _, other := range append(s.known, s.pending...) {
				if other.name == v.name {
					v.name = fmt.Sprintf("v%d", p.n)
				}
			}
		}
	}
	s := p.scope()
	if now {
		s.known = append(s.known, v)
	} else {
		s.pending = append(s.pending, v)
	}
	p.last = [2]string{v.name, p.last[0]}
	return v.name
}

func (p *templates) variable(kind string) string {
	var list []string
	for _, s := range p.scopes {
		for _, v := range s.known {
			if v.kind == kind || kind == "any" {
				list = append(list, v.name)
			}
		}
	}
	if len(list) == 0 {
		return p.field(kind)
	}
	return list[max(p.r.Intn(len(list)), p.r.Intn(len(list)))]
}

// field stands for what there is none of.
func (p *templates) field(kind string) string {
	switch kind {
	case "str":
		return p.pick("input.s", "input.t", `"a"`, "data.base.s")
	case "num":
		return p.pick("input.n", "input.m", "1", "data.base.n")
	case "bool":
		return p.pick("input.b", "true", "input.s == input.t")
	case "arr":
		return p.pick("input.list", "input.strs", "data.base.list")
	case "set":
		return p.pick(`{"a", "b"}`, "{1, 2}", "{x | some x in input.list}")
	case "obj":
		return p.pick("input.o", "data.base.o", "input.oo")
	case "nest", "tree", "bykey":
		return p.pick("input.oo", "data.base.oo")
	case "fn1":
		return p.pick("type_name", "is_string", "json.marshal")
	case "fn2":
		return "array.concat"
	}
	return p.pick("input.any", "input.s", "input.n", "data.base.o", "input.list[0]", p.write("scalar"))
}

// document names a rule of a kind.
func (p *templates) document(action, kind string) string {
	function := action == "fn1" || action == "fn2" || action == "fnof"
	if function {
		if kind = action; action == "fnof" {
			kind = "fn1"
		}
	}
	var list []string
	for _, d := range p.docs {
		switch {
		case function != strings.HasPrefix(d.kind, "fn"):
		case d.kind == kind, kind == "any", kind == "obj" && (d.kind == "nest" || d.kind == "bykey"), p.chance(3) && !function:
			list = append(list, d.name)
		}
	}
	if len(list) == 0 {
		if action == "docname" {
			return "r0"
		}
		return p.field(kind)
	}
	name := list[p.r.Intn(len(list))]
	if action == "docname" {
		return strings.TrimPrefix(strings.TrimPrefix(name, "data.p."), "data.lib.")
	}
	if !strings.HasPrefix(name, "data.") && !strings.HasPrefix(name, "aliased.") && p.chance(25) {
		return "data.p." + name
	}
	return name
}

// kind picks the kinds of rules, and how their definitions are written.
func (p *templates) kind() (kind string, definition, fallback string, most int) {
	switch p.r.Intn(24) {
	case 0, 1, 2, 3:
		return "any", "complete", "default", 2
	case 4, 5:
		return "bool", "constant", "default", 6
	case 6, 7:
		return "num", "numrule", "default", 1
	case 8:
		return "str", "strrule", "default", 1
	case 9, 10:
		return "arr", "arrrule", "default", 1
	case 11, 12, 13:
		return "set", "set_rule", "", 3
	case 14, 15, 16:
		return "obj", "obj_rule", "", 3
	case 17, 18:
		return "nest", "nest_rule", "", 2
	case 19:
		return "bykey", "bykey_rule", "", 2
	case 20:
		return "tree", "tree_rule", "", 3
	case 21, 22:
		return "fn1", "fn1_rule", "fn_default", 3
	}
	return "fn2", "fn2_rule", "fn2_default", 3
}

// rule writes the definitions of a rule. Often they all are of one form.
func (p *templates) rule(name string) (text string, d templateDoc) {
	kind, definition, fallback, most := p.kind()
	if p.old && p.chance(40) && !strings.HasPrefix(kind, "fn") {
		kind, definition, fallback = "any", "old_rule", ""
	}
	var b strings.Builder
	write := func(tokens []token) {
		p.depth, p.scopes, p.free = 0, []templateScope{{}}, nil
		b.WriteString(strings.ReplaceAll(p.tokens(tokens), "$", name) + "\n\n")
	}
	if fallback != "" && p.chance(35) {
		list := p.grammar[fallback].all
		write(list[p.r.Intn(len(list))])
	}
	list := p.grammar[definition].all
	one := list[p.r.Intn(len(list))]
	uniform := p.chance(60)
	for range 1 + p.r.Intn(most) {
		if write(one); !uniform {
			one = list[p.r.Intn(len(list))]
		}
	}
	// $" begins a template string, which no name belongs into.
	return strings.ReplaceAll(b.String(), name+`"`, `$"`), templateDoc{name: name, kind: kind}
}

// version is that of the modules; patterns and generator write v1.
func (p *templates) version() ast.RegoVersion {
	if p.old {
		return ast.RegoV0
	}
	return ast.RegoV1
}

// policy writes the modules: package p, one below it, a library, and two that share
// a tree with base documents. Rules that OPA does not take are written anew.
func (p *templates) policy() (modules, documents []string) {
	p.old = p.chance(12)
	caps := ast.CapabilitiesForThisVersion()
	head := ""
	if p.old {
		head = "import future.keywords\n\n"
	}
	modules = []string{"package p\n\n" + head + "import data.lib as aliased\nimport input.o as given\n\n", "package lib\n\n" + head, "package p.sub\n\n" + head, "package mixed\n\n" + head, "package tree.a\n\n" + head}
	add := func(module int, name, known string) {
		for range 6 {
			text, d := p.rule(name)
			before := modules[module]
			modules[module] += text
			if _, err := newSubject(modules, "true", p.version(), caps); err == nil {
				d.name = known
				p.docs = append(p.docs, d)
				return
			}
			modules[module] = before
		}
	}
	for i := range 1 + p.r.Intn(2) {
		name := fmt.Sprintf("l%d", i)
		add(1, name, p.pick("data.lib.", "aliased.")+name)
		for j := range p.docs {
			p.docs[j].name = strings.Replace(p.docs[j].name, "aliased.", "data.lib.", 1)
		}
	}
	for j := range p.docs {
		if p.chance(40) {
			p.docs[j].name = strings.Replace(p.docs[j].name, "data.lib.", "aliased.", 1)
		}
	}
	before := len(p.docs)
	if p.chance(25) {
		add(2, "s0", "data.p.sub.s0")
	}
	if p.chance(15) {
		add(3, "v", "data.mixed.v")
	}
	if p.chance(15) {
		add(4, p.pick("b", "c"), "data.tree.a")
	}
	p.docs = p.docs[:before]
	for i := range 3 + p.r.Intn(5) {
		name := fmt.Sprintf("r%d", i)
		add(0, name, name)
	}
	for _, d := range p.docs {
		if !strings.HasPrefix(d.kind, "fn") && !strings.Contains(d.name, ".") {
			documents = append(documents, d.name)
		}
	}
	if p.chance(10) {
		documents = append(documents, p.pick("data.p", "data.lib", "data.mixed", "data.tree", "data"))
	}
	return modules, documents
}

// members writes an object of some of the members, in any order.
func (p *templates) members(percent int) string {
	list := p.grammar["members"].all
	var b strings.Builder
	for _, i := range p.r.Perm(len(list)) {
		if p.chance(percent) {
			p.depth = 0
			if b.Len() > 0 {
				b.WriteString(", ")
			}
			b.WriteString(p.tokens(list[i]))
		}
	}
	return "{" + b.String() + "}"
}

// input writes an input document.
func (p *templates) input() string {
	if p.odd = p.chance(12); p.chance(3) {
		return p.write("top")
	}
	return p.members(p.pick2(100, 92, 80))
}

func (p *templates) pick2(list ...int) int { return list[p.r.Intn(len(list))] }

// random, data, policy and input make it a writer.
func (p *templates) random() *rand.Rand { return p.r }

// data is the base documents, written once.
func (p *templates) data() string {
	if p.base == "" {
		p.odd = p.chance(1)
		p.base = `{"base": ` + p.members(95) + `, "mixed": {"base": {"a": 1, "k": "b"}}, "tree": {"x": 1, "a": ` + p.pick("{}", `{"z": 1}`, `{"b": {"a": 2}}`) + `}}`
	}
	return p.base
}
