package lint

import (
	"github.com/open-policy-agent/opa/v1/ast"
)

// neverFires reports a rule whose body can not hold, and returns what the body demands.
func (l *linter) neverFires(r *ast.Rule) *pins {
	p := &pins{l: l, byText: map[string]*pin{}, limits: map[string][]limit{}}
	p.conflict = func(loc *ast.Location, why string) {
		f := l.add(CodeNeverFires, loc, l.name(r)+" never holds: "+why, "remove the rule, or what contradicts itself")
		f.FailsOpen = l.forbids(r)
	}
	p.body(r.Body, l.scope(r))
	return p
}

// documents are what the engine reads of the entry point's package.
func documents() []string { return []string{"allow", "deny", "forbid", "permit"} }

// unreadRules reports rules of the entry point's package under a name that nothing reads: a
// helper that is left over, or a document of the engine whose name is mistaken.
func (l *linter) unreadRules() {
	base := l.in.Compiler.RuleTree.Find(l.in.Entrypoint)
	if base == nil {
		return
	}
	read := map[*ast.TreeNode]bool{}
	for _, name := range documents() {
		read[base.Child(ast.String(name))] = true
	}
	all := false
	for _, m := range l.in.Compiler.Modules {
		for _, r := range m.Rules {
			all = l.reads(r, base, read) || all
		}
	}
	if all {
		return
	}
	reported := map[*ast.TreeNode]bool{}
	l.eachRule(func(r *ast.Rule) {
		name := l.document(r)
		node := base.Child(ast.String(name))
		if name == "" || read[node] || reported[node] {
			return
		}
		reported[node] = true
		l.rule = r
		fix := "remove it"
		guess := l.near(name, documents())
		if guess != "" {
			fix = "write " + guess + ", or remove it"
		}
		f := l.add(CodeNeverFires, r.Head.Location, "nothing reads "+name+": the engine asks for permit, forbid, allow and deny, and no rule names it", fix)
		f.FailsOpen = guess == "forbid" || guess == "deny"
	})
}

// reads notes which members of the entry point's package r names outside of itself. All of
// them: its result is true.
func (l *linter) reads(r *ast.Rule, base *ast.TreeNode, read map[*ast.TreeNode]bool) bool {
	n := len(l.in.Entrypoint)
	all := false
	own := ""
	if !l.in.IsLibrary(r.Location.File) {
		own = l.document(r)
	}
	ast.WalkRefs(r, func(ref ast.Ref) bool {
		if !ref[0].Equal(ast.DefaultRootDocument) {
			return false
		}
		for i, t := range ref[:min(len(ref), n)] {
			if _, ok := t.Value.(ast.String); i > 0 && ok && !t.Equal(l.in.Entrypoint[i]) {
				return false
			}
		}
		if len(ref) <= n {
			all = true
			return false
		}
		if name, ok := ref[n].Value.(ast.String); !ok {
			all = true
		} else if string(name) != own {
			read[base.Child(name)] = true
		}
		return false
	})
	return all
}
