package compiled

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// OPA's planner goes one call deeper for each term of a rule, and its time grows
// with the square of their number: 10,000 terms take it seconds, 40,000 a minute
// and a half. It grows with the number of rules no faster than they do: a million
// terms in small rules take about two seconds and 300 MB for as long as it lasts, less than
// OPA's own compilation of them. Lists of that size belong into data.
const (
	maxRuleTerms   = 10_000
	maxPolicyTerms = 10_000_000
	// maxPlanCost bounds the sum of the squares of the numbers of terms: four rules
	// of the greatest size.
	maxPlanCost = 4 * maxRuleTerms * maxRuleTerms
	// maxBranches bounds how many terms are planned, in all, of rules with references that
	// find whatever rules there are: what follows is planned once for each, times those of
	// the reference before.
	maxBranches = 1_000_000
)

// judgeSize refuses what would take too long to plan, before it is planned.
func judgeSize(compiler *ast.Compiler, documents []ast.Ref) error {
	seen := map[*ast.Rule]bool{}
	var open []*ast.Rule
	add := func(r *ast.Rule) {
		if !seen[r] {
			seen[r] = true
			open = append(open, r)
		}
	}
	for _, ref := range documents {
		for _, r := range rulesBelow(compiler, ref) {
			add(r)
		}
	}
	total, cost, branches := 0, 0, 0
	for len(open) > 0 {
		r := open[len(open)-1]
		open = open[:len(open)-1]
		if r.Else != nil {
			add(r.Else)
		}
		n := termsOf(r)
		total, cost = total+n, cost+n*n
		if n > maxRuleTerms || total > maxPolicyTerms || cost > maxPlanCost {
			return refuseAt(r.Location, "more than %d terms in a rule, too many rules of thousands of terms, or more than %d in all", maxRuleTerms, maxPolicyTerms).fix("put lists into data")
		}
		if branches += n * branchesOf(compiler, r); branches > maxBranches {
			return refuseAt(r.Location, "references that may find many rules, one after the other").fix("name the rules, or put what they say into data")
		}
		var needed []*ast.Rule
		for next := range compiler.Graph.Dependencies(r) {
			if next, ok := next.(*ast.Rule); ok {
				needed = append(needed, next)
			}
		}
		slices.SortFunc(needed, byPlace)
		for _, next := range needed {
			add(next)
		}
	}
	return nil
}

// branchesOf is the product of how many rules each reference of a rule may find by a
// variable that stands nowhere else; 0 if there is none. One that is known when it is
// looked up by is planned once.
func branchesOf(compiler *ast.Compiler, r *ast.Rule) int {
	named := map[ast.Var]int{} // how often
	name := func(v ast.Var) bool {
		named[v]++
		return false
	}
	ast.WalkVars(r.Head, name)
	ast.WalkVars(r.Body, name)
	n := 1
	count := func(ref ast.Ref) bool {
		free := func(t *ast.Term) bool {
			v, ok := t.Value.(ast.Var)
			return ok && named[v] == 1
		}
		if ref[0].Equal(ast.DefaultRootDocument) && n <= maxBranches && slices.ContainsFunc(ref[1:], free) {
			n *= max(1, found(compiler.RuleTree.Child(ref[0].Value), ref[1:]))
		}
		return false
	}
	ast.WalkRefs(r.Head, count)
	ast.WalkRefs(r.Body, count)
	if n == 1 {
		return 0
	}
	return n
}

// found counts the nodes with rules that a reference leads to, where it does not name them.
func found(at *ast.TreeNode, rest []*ast.Term) int {
	nodes, open := []*ast.TreeNode{at}, false
	n := 0
	for _, t := range rest {
		var next []*ast.TreeNode
		for _, node := range nodes {
			switch {
			case node == nil:
			case len(node.Values) > 0:
				n++
			case t.IsGround() && ast.IsConstant(t.Value):
				next = append(next, node.Child(t.Value))
			default:
				open = true
				for _, child := range node.Children {
					next = append(next, child)
				}
			}
		}
		nodes = next
	}
	for _, node := range nodes {
		if node != nil {
			n++
		}
	}
	if !open {
		return 0
	}
	return n
}

// termsOf counts the terms of a rule without its else branch.
func termsOf(r *ast.Rule) int {
	n := 0
	count := func(*ast.Term) bool {
		n++
		return n > maxRuleTerms
	}
	ast.WalkTerms(r.Head, count)
	ast.WalkTerms(r.Body, count)
	return n
}
