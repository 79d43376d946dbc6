package lint

import (
	"slices"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/rar"
)

// permitMayBeUndefined reports an argument that a tool may leave out, and without which the
// value of a permit is undefined, though its body holds: calls that leave it out are denied
// without a word of why. An argument that the body looks at is meant to be a condition.
func (l *linter) permitMayBeUndefined(r *ast.Rule, p *pins) {
	tools := l.toolsOf(p)
	if len(tools) == 0 {
		return
	}
	v := &valueReads{l: l, tools: tools, seen: map[*ast.Rule]bool{}, looked: map[string]bool{}}
	v.rule(r, nil)
}

// toolsOf are the declared tools that a body is about; all, if it names none.
func (l *linter) toolsOf(p *pins) []string {
	var out []string
	named := false
	for _, path := range []string{"input.resource.id", "input.mcp.params.name"} {
		pin := p.byText[path]
		if pin == nil {
			continue
		}
		named = true
		for _, v := range pin.values {
			if name, ok := v.Value.(ast.String); ok {
				if _, ok := l.tools[string(name)]; ok {
					out = append(out, string(name))
				}
			}
		}
	}
	if !named {
		for name := range l.tools {
			out = append(out, name)
		}
		slices.Sort(out)
	}
	return out
}

// valueReads looks for arguments in what the value of a permit is made of.
type valueReads struct {
	l     *linter
	tools []string
	seen  map[*ast.Rule]bool
	// looked are the names that bodies on the way look at.
	looked map[string]bool
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
		for _, next := range v.l.demanded(e) {
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
		switch value := t.Value.(type) {
		case ast.String:
			v.looked[string(value)] = true
		case ast.Ref:
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
		for _, tool := range v.tools {
			if leavesOut(v.l.tools[tool].Arguments, path[:i+1]) {
				v.l.add(CodeUndefined, loc, v.l.name(v.l.rule)+" is undefined where tool "+strconv.Quote(tool)+" is called without "+ref[n:n+i+1].String(),
					"make it required in the schema of the tool, write two rules of which one says object.get("+ref[:n+i].String()+", "+name.String()+", null) == null, or give it a default")
				return
			}
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
