package contract

import (
	"errors"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// policy is the text of a snapshot with every name resolved, as groups of
// rules that define one document together.
type policy struct {
	entry  ast.Ref
	groups []*group
	root   *node
}

// group is the rules that share one head: a document, a member of one, or a
// function.
type group struct {
	// path is where it lies below data. A head like permit[name] ends in, or
	// holds, a place that is only known at run time.
	path     []place
	head     string // key, made once
	function bool
	// set marks a partial set: its elements lie one place below path.
	set     bool
	library bool
	defs    []definition

	hasElse bool
	// fallback is the value of the default rule, nil without one.
	fallback *ast.Term

	facts []fact
	// value is what its rules are worth, a set's what its elements are.
	value  operand
	origin *origin // memo of valueOrigin
	busy   bool
}

// definition is one rule of a group, without its else branches.
type definition struct {
	rule *ast.Rule
	file string
	pkg  ast.Ref
}

// place is one step of a head: a name, or anything if dynamic.
type place struct {
	name    string
	dynamic bool
}

// node indexes groups by path.
type node struct {
	children map[string]*node
	dynamic  *node
	groups   []*group
}

// resolve lets OPA's own compiler resolve names, and stops it there: later
// stages rewrite away what the rules are about (some … in, every, :=). Using
// its resolver means that an alias, a shadowed name or an import cannot mean
// one thing here and another at run time.
func resolve(in Input) (*policy, []Finding) {
	c := ast.NewCompiler().SetErrorLimit(0).WithSkipStages(slices.DeleteFunc(ast.AllStages(), func(s ast.StageID) bool {
		return s == ast.StageResolveRefs
	})...)
	c.Compile(in.Modules)
	if c.Failed() {
		return nil, compileFindings(c.Errors)
	}
	p := &policy{entry: in.Entrypoint, root: &node{}}
	byHead := make(map[string]*group)
	for _, file := range sortedKeys(c.Modules) {
		m := c.Modules[file]
		library := isLibrary(in, file, m)
		for _, r := range m.Rules {
			g := newGroup(m, r)
			if known, ok := byHead[g.head]; ok {
				g = known
			} else {
				byHead[g.head] = g
				g.library = library
				p.groups = append(p.groups, g)
				p.root.add(g.path, g)
			}
			// A rule beside the library's under the same head is judged as policy.
			g.library = g.library && library
			g.add(definition{rule: r, file: file, pkg: m.Package.Path})
		}
	}
	return p, nil
}

func isLibrary(in Input, file string, m *ast.Module) bool {
	if in.IsLibrary != nil {
		return in.IsLibrary(file)
	}
	return m.Package.Path.Equal(libraryRef("")) && (file == "authzd/v1.rego" || strings.HasPrefix(file, "authzd/v1/"))
}

// libraryRef is data.authzd.v1, or one function of it.
func libraryRef(function string) ast.Ref {
	ref := ast.Ref{ast.DefaultRootDocument, ast.StringTerm("authzd"), ast.StringTerm("v1")}
	if function != "" {
		ref = append(ref, ast.StringTerm(function))
	}
	return ref
}

func compileFindings(errs ast.Errors) []Finding {
	var found []Finding
	for _, e := range errs {
		f := at(e.Location, "", CodePolicyCompile, Error, "", e.Message)
		if e.Location != nil {
			f.File = e.Location.File
		}
		found = append(found, f)
	}
	if len(found) == 0 {
		found = append(found, at(nil, "", CodePolicyCompile, Error, "", errors.New("the policy does not compile").Error()))
	}
	return found
}

func newGroup(m *ast.Module, r *ast.Rule) *group {
	g := &group{function: len(r.Head.Args) > 0}
	for _, t := range m.Package.Path[1:] {
		g.path = append(g.path, placeOf(t))
	}
	head := r.Head.Ref()
	for i, t := range head {
		if v, ok := t.Value.(ast.Var); ok && i == 0 {
			g.path = append(g.path, place{name: string(v)})
			continue
		}
		g.path = append(g.path, placeOf(t))
	}
	g.set = r.Head.Key != nil && r.Head.Value == nil
	g.head = g.key()
	return g
}

func placeOf(t *ast.Term) place {
	switch v := t.Value.(type) {
	case ast.String:
		return place{name: string(v)}
	case ast.Number, ast.Boolean, ast.Null:
		return place{name: v.String()}
	}
	return place{dynamic: true}
}

// key is equal for rules that define the same thing. Dynamic places compare by
// position: permit[a] and permit[b] are one group.
func (g *group) key() string {
	var b strings.Builder
	for _, p := range g.path {
		if p.dynamic {
			b.WriteString("\x00*")
		} else {
			b.WriteString("\x00=" + p.name)
		}
	}
	if g.function {
		b.WriteString("\x00()")
	}
	if g.set {
		b.WriteString("\x00{}")
	}
	return b.String()
}

func (g *group) add(d definition) {
	g.defs = append(g.defs, d)
	g.hasElse = g.hasElse || d.rule.Else != nil
	if d.rule.Default {
		g.fallback = d.rule.Head.Value
	}
}

// defaultsToFalse tells that being undefined and being false cannot be told
// apart by who only asks whether it holds.
func (g *group) defaultsToFalse() bool {
	if g.fallback == nil || g.hasElse {
		return false
	}
	b, ok := g.fallback.Value.(ast.Boolean)
	return ok && !bool(b)
}

// name is how a finding calls the group: permit["x"] in the entry point's
// package, else the whole path.
func (g *group) name(p *policy) string {
	path := g.path
	prefix := "data"
	if entry := entryPlaces(p.entry); len(path) > len(entry) && slices.Equal(path[:len(entry)], entry) {
		path = path[len(entry):]
		prefix = ""
	}
	var b strings.Builder
	b.WriteString(prefix)
	for i, pl := range path {
		switch {
		case pl.dynamic:
			b.WriteString("[…]")
		case prefix == "" && i == 1:
			b.WriteString("[\"" + pl.name + "\"]")
		case b.Len() == 0:
			b.WriteString(pl.name)
		default:
			b.WriteString("." + pl.name)
		}
	}
	return b.String()
}

func entryPlaces(entry ast.Ref) []place {
	out := make([]place, 0, len(entry))
	for _, t := range entry[1:] {
		out = append(out, placeOf(t))
	}
	return out
}

func (n *node) add(path []place, g *group) {
	if len(path) == 0 {
		n.groups = append(n.groups, g)
		return
	}
	n.child(path[0]).add(path[1:], g)
}

func (n *node) child(p place) *node {
	if p.dynamic {
		if n.dynamic == nil {
			n.dynamic = &node{}
		}
		return n.dynamic
	}
	if n.children == nil {
		n.children = make(map[string]*node)
	}
	c := n.children[p.name]
	if c == nil {
		c = &node{}
		n.children[p.name] = c
	}
	return c
}

// match is a group that a path may mean.
type match struct {
	group *group
	// rest counts the places of the path beyond the group's head: 0 is the
	// document itself, more is a look into its value.
	rest int
	// whole means that the path ends above the head: the document it means holds
	// the group's among others, and lacks it without a word when it is undefined.
	whole bool
}

// matches returns every group that a path below data may read, in the order of
// the policy's groups.
func (p *policy) matches(path []place) []match {
	var out []match
	p.root.match(path, &out)
	slices.SortStableFunc(out, func(a, b match) int { return strings.Compare(a.group.head, b.group.head) })
	return out
}

func (n *node) match(path []place, out *[]match) {
	if n == nil {
		return
	}
	if len(path) == 0 {
		n.collect(out, true)
		return
	}
	for _, g := range n.groups {
		m := match{group: g, rest: len(path)}
		if g.set {
			m.rest--
		}
		*out = append(*out, m)
	}
	if path[0].dynamic {
		for _, name := range sortedKeys(n.children) {
			n.children[name].match(path[1:], out)
		}
	} else {
		n.children[path[0].name].match(path[1:], out)
	}
	n.dynamic.match(path[1:], out)
}

// collect takes the groups at a path's end, and all below it.
func (n *node) collect(out *[]match, end bool) {
	if n == nil {
		return
	}
	for _, g := range n.groups {
		*out = append(*out, match{group: g, whole: !end || g.set})
	}
	for _, name := range sortedKeys(n.children) {
		n.children[name].collect(out, false)
	}
	n.dynamic.collect(out, false)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
