package lint

import (
	"maps"
	"slices"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/rar"
)

// permitMayBeUndefined looks for arguments that a tool may leave out, and without which the
// value of a permit is undefined, though its body holds: calls that leave one out are denied
// without a word of why. An argument that the body of a permit of that tool looks at is meant
// to be a condition: missing reports the others.
func (l *linter) permitMayBeUndefined(r *ast.Rule, p *pins) {
	if len(l.tools) == 0 {
		return
	}
	tools, named := l.toolsOf(p)
	v := &valueReads{l: l, tools: tools, seen: map[*ast.Rule]bool{}, looked: map[string]bool{}}
	v.rule(r, nil)
	if !named {
		tools = []string{""}
	}
	if !l.spend(4 * len(tools) * len(v.looked)) {
		return
	}
	for _, tool := range tools {
		if l.looked[tool] == nil {
			l.looked[tool] = map[string]bool{}
		}
		maps.Copy(l.looked[tool], v.looked)
	}
	if named || !v.asksTool {
		l.missed = append(l.missed, v.found...)
	}
}

// missed is an argument that the value of a permit needs and some tools let be left out.
type missed struct {
	rule *ast.Rule
	loc  *ast.Location
	name string
	at   []missedAt
}

// missedAt is a tool, and where the argument is: path without its name.
type missedAt struct {
	tool string
	path ast.Ref
}

// missing reports arguments that no permit of a tool looks at.
func (l *linter) missing() {
	type one struct {
		rule       *ast.Rule
		tool, path string
		row        int // a comment there may say that it is meant
	}
	told := map[one]bool{}
	for _, m := range l.missed {
		i := slices.IndexFunc(m.at, func(at missedAt) bool { return !l.looked[at.tool][m.name] && !l.looked[""][m.name] })
		if i < 0 {
			continue
		}
		at, name := m.at[i], ast.StringTerm(m.name)
		this := one{m.rule, at.tool, at.path.Append(name).String(), m.loc.Row}
		if told[this] {
			continue
		}
		told[this] = true
		l.rule = m.rule
		l.add(CodeUndefined, m.loc, l.name(m.rule)+" is undefined where tool "+strconv.Quote(at.tool)+" is called without "+at.path.Append(name)[len(argumentsRef()):].String(),
			"make it required in the schema of the tool, write two rules of which one says object.get("+at.path.String()+", "+name.String()+", null) == null, or give it a default")
	}
}

// toolsOf are the declared tools that a body is about; all, if it names none.
func (l *linter) toolsOf(p *pins) (tools []string, named bool) {
	for _, path := range l.toolPaths {
		pin := p.byText[path.String()]
		if pin == nil {
			continue
		}
		named = true
		for _, v := range pin.values {
			if name, ok := v.Value.(ast.String); ok {
				if _, ok := l.tools[string(name)]; ok {
					tools = append(tools, string(name))
				}
			}
		}
	}
	if !named {
		tools = slices.Sorted(maps.Keys(l.tools))
	}
	return tools, named
}

// toolPaths are where the input names the tool that is called.
func toolPaths() []ast.Ref {
	path := func(names ...string) ast.Ref {
		ref := ast.Ref{ast.InputRootDocument}
		for _, name := range names {
			ref = append(ref, ast.StringTerm(name))
		}
		return ref
	}
	return []ast.Ref{path("resource", "id"), path("mcp", "params", "name")}
}

// valueReads looks for arguments in what the value of a permit is made of.
type valueReads struct {
	l     *linter
	tools []string
	seen  map[*ast.Rule]bool
	// looked are the names that bodies on the way look at, asksTool that they look at
	// which tool is called.
	looked   map[string]bool
	asksTool bool
	found    []missed
}

// rule reads the expressions that make the value of r, and the rules that they name. at is
// the place in the permit; nil for the permit itself.
func (v *valueReads) rule(r *ast.Rule, at *ast.Location) {
	if v.seen[r] || !v.l.step() {
		return
	}
	v.seen[r] = true
	start := bodyStart(r)
	for _, e := range r.Body {
		if e.Location == nil || e.Location.Offset >= start {
			v.look(e, 0)
		}
	}
	s := v.l.scope(r)
	for _, e := range r.Body {
		if e.Location == nil || e.Location.Offset >= start || e.Negated || len(e.With) > 0 || !e.IsCall() {
			continue
		}
		loc := at
		if loc == nil {
			loc = e.Location
		}
		for _, t := range e.Operands() {
			v.term(t, s, loc)
		}
		for _, next := range v.l.demanded(e, s) {
			if only, _ := v.l.onlyRule(next.Ref()); only != nil {
				v.rule(next, loc)
			}
		}
	}
}

// bodyStart is where the body of a rule begins in its file, which its head stands before.
func bodyStart(r *ast.Rule) int {
	start := int(^uint(0) >> 1)
	for _, e := range r.Body {
		if !e.Generated && e.Location != nil {
			start = min(start, e.Location.Offset)
		}
	}
	return start
}

// look notes every text that an expression of a body holds, as a name that it may look at,
// also in the rules that it names.
func (v *valueReads) look(x any, depth int) {
	ast.WalkTerms(x, func(t *ast.Term) bool {
		if !v.l.spend(4) {
			return true
		}
		switch value := t.Value.(type) {
		case ast.String:
			v.looked[string(value)] = true
		case ast.Ref:
			v.asksTool = v.asksTool || slices.ContainsFunc(v.l.toolPaths, func(path ast.Ref) bool { return value.HasPrefix(path) || path.HasPrefix(value) })
			if rules, _ := v.l.rulesOf(value); depth < maxDepth && value[0].Equal(ast.DefaultRootDocument) {
				for _, r := range rules[:min(len(rules), maxDepth)] {
					if v.l.step() && !v.l.in.IsLibrary(r.Location.File) {
						v.look(r, depth+1)
					}
				}
			}
		}
		return false
	})
}

func (v *valueReads) term(t *ast.Term, s *scope, loc *ast.Location) {
	if _, ok := t.Value.(ast.Ref); !ok || v.l.steps < 0 {
		return // a variable has its expression; without steps, bodies were not looked at
	}
	ref, ok := v.l.resolve(t, s).Value.(ast.Ref)
	if !ok || !ref.HasPrefix(argumentsRef()) {
		return
	}
	n := len(argumentsRef())
	path := ref[n:]
	for i, key := range path {
		name, ok := key.Value.(ast.String)
		if !ok || v.looked[string(name)] {
			return
		}
		var at []missedAt
		for _, tool := range v.tools {
			if leavesOut(v.l.tools[tool].Arguments, path[:i+1]) {
				at = append(at, missedAt{tool, ref[:n+i]})
			}
		}
		if len(at) > 0 {
			v.found = append(v.found, missed{v.l.rule, loc, string(name), at})
			return
		}
	}
}

func argumentsRef() ast.Ref {
	return ast.Ref{ast.InputRootDocument, ast.StringTerm("mcp"), ast.StringTerm("params"), ast.StringTerm("arguments")}
}

// leavesOut tells whether a schema declares the last member of path, and lets it be left
// out, while those before it are there. Of schemas that are more than properties it says no.
func leavesOut(schema rar.Value, path []*ast.Term) bool {
	for i, key := range path {
		name, ok := key.Value.(ast.String)
		if !ok || !plainObject(schema) {
			return false
		}
		properties, _ := schema.Get("properties")
		next, declared := properties.Get(string(name))
		if !declared {
			return false
		}
		required, _ := schema.Get("required")
		if i == len(path)-1 {
			return !holdsText(required, string(name))
		}
		schema = next
	}
	return false
}

func holdsText(list rar.Value, text string) bool {
	for i := range list.Len() {
		if list.Index(i).Text() == text {
			return true
		}
	}
	return false
}

// plainObject tells a schema that says with properties and required what an object has.
func plainObject(schema rar.Value) bool {
	if schema.Kind() != rar.Object {
		return false
	}
	for _, keyword := range []string{"$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "not", "if", "dependentRequired", "dependentSchemas", "minProperties"} {
		if _, ok := schema.Get(keyword); ok {
			return false
		}
	}
	return true
}
