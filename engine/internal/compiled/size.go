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
	total, cost := 0, 0
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
