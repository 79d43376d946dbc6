// Package lint reads compiled policy for rules that do not do what their text says: that
// never fire, that vanish, that demand what nobody can have, or that are slower than they
// need be. It refuses nothing: package contract does. It is precise before it is complete:
// what it does not understand it passes over, because a lint that is wrong is switched off.
//
// It works on what OPA has compiled, in which names are resolved, variables are unique and
// expressions are in the order in which they are evaluated. Time grows with the size of the
// policy, since each rule may follow only so many others (maxSteps).
//
// Only package engine calls it. All functions are pure and leave the policy alone.
package lint

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/engine/internal/contract"
	"github.com/authzd/authzd/rar"
)

// Input is the policy to read, and what its bundles declare.
type Input struct {
	Compiler *ast.Compiler
	// IsLibrary tells which modules are the engine's own, which are not read.
	IsLibrary func(path string) bool
	// Entrypoint is the package that decides.
	Entrypoint ast.Ref
	// Tools are those that are declared; UntypedTools admits others.
	Tools        []contract.Tool
	UntypedTools bool
	// Types are the declared types of authorization_details.
	Types *rar.Types
	// Data is the base data.
	Data rar.Value
}

// Finding is one thing that is probably meant otherwise.
type Finding struct {
	Code     string
	File     string
	Row, Col int
	// Rule is the Rego rule that it stands in.
	Rule    string
	Message string
	// Fix says what to write instead.
	Fix string
	// FailsOpen: a call that policy means to forbid may not be.
	FailsOpen bool
}

const (
	// maxPlaces is how many findings of one code are listed; one more says how many
	// there are beside.
	maxPlaces = 100
	// maxSteps is how many expressions and terms one rule may follow into others.
	maxSteps = 2000
	// maxGuesses is how many names are compared in all, to guess what was meant.
	maxGuesses = 100_000
	// maxWork and ruleWork for each rule bound all of it, in units of some tens of
	// nanoseconds.
	maxWork, ruleWork = 30_000_000, 5_000
	// stepWork and findingWork are what a step and a finding count for.
	stepWork, findingWork = 50, 100
	// maxGuessed is the longest name, in bytes, for which that is done.
	maxGuessed = 128
)

// Run reads the policy of in. Once ctx is done it stops, and finds nothing; nor does it of
// what is too much, but says so (CodeIncomplete).
func Run(ctx context.Context, in Input) []Finding {
	l := &linter{in: in, done: ctx.Done(), tools: map[string]contract.Tool{}, scopes: map[*ast.Rule]*scope{}, names: map[*ast.Rule]string{}, guesses: maxGuesses, work: maxWork, looked: map[string]map[string]bool{}, toolPaths: toolPaths()}
	for _, t := range in.Tools {
		l.tools[t.Name] = t
	}
	l.everyRule(func(*ast.Rule) { l.work += ruleWork })
	l.replacements()
	l.everyRule(l.inRule)
	l.missing()
	l.forbidsMayBeUndefined()
	l.unreadRules()
	l.manyRules()
	switch { // what comments say can not be held against a part of it
	case l.work < 0:
		return []Finding{{Code: CodeIncomplete, Message: "this policy is too much to be read, so that nothing is told of it", Fix: "put long lists into data, and give what is used often a rule of its own"}}
	case l.stopped():
		return nil
	}
	return l.bounded(l.kept(l.found))
}

// stopped tells whether nobody waits for findings any more, or all of maxWork is done.
func (l *linter) stopped() bool {
	if l.work < 0 {
		return true
	}
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// eachRule calls f with every rule that is not the library's, and every else, but not with
// those that say what is so where no other holds.
func (l *linter) eachRule(f func(*ast.Rule)) {
	l.everyRule(func(r *ast.Rule) {
		if !r.Default {
			f(r)
		}
	})
}

// everyRule calls f with these, too.
func (l *linter) everyRule(f func(*ast.Rule)) {
	for _, file := range slices.Sorted(maps.Keys(l.in.Compiler.Modules)) {
		if l.in.IsLibrary(file) {
			continue
		}
		for _, r := range l.in.Compiler.Modules[file].Rules {
			for ; r != nil; r = r.Else {
				if l.stopped() {
					return
				}
				f(r)
			}
		}
	}
}

// walkExprs calls f with the expressions of a rule, nested ones too, without those of its
// else, which is a rule of its own.
func walkExprs(r *ast.Rule, f func(*ast.Expr)) {
	visit := func(e *ast.Expr) bool {
		f(e)
		return false
	}
	ast.WalkExprs(r.Head, visit)
	ast.WalkExprs(r.Body, visit)
}

type linter struct {
	done  <-chan struct{}
	in    Input
	tools map[string]contract.Tool
	// scopes are those of rules that were looked into.
	scopes map[*ast.Rule]*scope
	// names are the documents that rules are part of.
	names map[*ast.Rule]string
	found []Finding

	// rule is the one that is read, steps what is left of maxSteps for it, guesses what
	// is left of maxGuesses.
	rule    *ast.Rule
	steps   int
	guesses int
	// work is what is left of maxWork.
	work int
	// nested is how deep in names and in keys of references resolve is, frames how many
	// evaluations have a number.
	nested, frames int
	// looked are the names that permits of a tool look at, those of any tool under "", and
	// missed the arguments that are to be held against them.
	looked    map[string]map[string]bool
	missed    []missed
	toolPaths []ast.Ref
	// replaced are the documents and builtins that a with replaces.
	replaced []ast.Ref
}

func (l *linter) inRule(r *ast.Rule) {
	l.rule, l.steps = r, maxSteps
	if r.Default {
		l.slowLiterals(r)
		return
	}
	p := l.neverFires(r)
	l.unknownTools(p)
	l.requirements(r)
	l.guardOrder(r)
	l.slowForms(r)
	if l.grants(r) {
		l.permitMayBeUndefined(r, p)
	}
}

// spend takes n of what is left of maxWork.
func (l *linter) spend(n int) bool {
	l.work -= n
	return l.work >= 0
}

// step tells whether one more may be taken for the rule that is read.
func (l *linter) step() bool {
	l.steps--
	l.spend(stepWork)
	return l.steps >= 0 && !l.stopped()
}

// add reports what is found at loc in the rule that is read.
func (l *linter) add(code string, loc *ast.Location, message, fix string) *Finding {
	if !l.spend(findingWork) {
		return &Finding{}
	}
	f := Finding{Code: code, Rule: l.name(l.rule), Message: l.short(message), Fix: l.short(fix)}
	if loc != nil {
		f.File, f.Row, f.Col = loc.File, loc.Row, loc.Col
	}
	l.found = append(l.found, f)
	return &l.found[len(l.found)-1]
}

// name is how findings call a rule: permit["x"] in the entry point's package, else its path.
func (l *linter) name(r *ast.Rule) string {
	ref, n := r.Ref(), len(l.in.Entrypoint)
	if l.document(r) == "" {
		return ref.String()
	}
	var name strings.Builder
	name.WriteString(l.document(r))
	for _, t := range ref[n+1:] {
		name.WriteString("[" + t.String() + "]")
	}
	return name.String()
}

// document is the document of the entry point that a rule is part of, such as permit; ""
// if it is none of its package.
func (l *linter) document(r *ast.Rule) string {
	name, ok := l.names[r]
	if !ok {
		ref, n := r.Ref(), len(l.in.Entrypoint)
		if len(ref) > n && ref.HasPrefix(l.in.Entrypoint) {
			text, _ := ref[n].Value.(ast.String)
			name = string(text)
		}
		l.names[r] = name
	}
	return name
}

func (l *linter) grants(r *ast.Rule) bool {
	d := l.document(r)
	return d == "permit" || d == "allow"
}

func (l *linter) forbids(r *ast.Rule) bool {
	d := l.document(r)
	return d == "forbid" || d == "deny"
}

// short leaves the entry point's package out of text.
func (l *linter) short(text string) string {
	return strings.ReplaceAll(text, l.in.Entrypoint.String()+".", "")
}

// bounded sorts findings, and lists no more than maxPlaces of each code.
func (l *linter) bounded(found []Finding) []Finding {
	slices.SortStableFunc(found, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Row, b.Row), cmp.Compare(a.Col, b.Col), strings.Compare(a.Code, b.Code))
	})
	found = slices.CompactFunc(found, func(a, b Finding) bool { return a == b })
	n, failsOpen := map[string]int{}, map[string]bool{}
	var out []Finding
	for _, f := range found {
		if n[f.Code]++; n[f.Code] <= maxPlaces {
			out = append(out, f)
		} else if f.FailsOpen {
			failsOpen[f.Code] = true
		}
	}
	for _, code := range slices.Sorted(maps.Keys(n)) {
		if more := n[code] - maxPlaces; more > 0 {
			out = append(out, Finding{Code: code, FailsOpen: failsOpen[code], Message: fmt.Sprintf("%d more findings of this kind are not listed", more)})
		}
	}
	return out
}
