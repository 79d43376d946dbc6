package engine

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Bounds of what one evaluation tells.
const (
	// maxExplained is how many definitions; those that hold, failed or came furthest
	// are preferred.
	maxExplained = 1000
	// maxBodies is how many bodies, those of comprehensions and the like too, may be
	// evaluated.
	maxBodies = 100_000
	// maxTraced is how many events of OPA's trace are kept, maxTraceBytes how much
	// their text may take.
	maxTraced     = 20_000
	maxTraceBytes = 2 << 20
	// maxExpression bounds the text of an expression, in bytes.
	maxExpression = 200
)

// tracer watches topdown evaluate, and keeps what became of each definition.
type tracer struct {
	incomplete string
	lines      []string

	locals bool
	// errors is where topdown puts those of builtins in the end; failing is who fails
	// at a place.
	errors  []topdown.Error
	failing map[spot][]failing
	// definitions are all that were entered. Each query that topdown is in belongs to
	// a definition: it evaluates its body, or something within it.
	definitions map[*ast.Rule]*definition
	bodies      map[uint64]*body
	events      []*topdown.Event
	full        bool
	stop        func()
}

// definition is one of a rule, with all its evaluations put together.
type definition struct {
	ExplainedDefinition
	path string
	rule *ast.Rule
	// value is what the rule comes out as by it.
	value RuleOutcome
	// reached is the number of the expression that StoppedAt is.
	reached int
}

// spot is a place in policy.
type spot struct {
	file     string
	row, col int
}

func spotOf(l *ast.Location) spot {
	if l == nil {
		return spot{}
	}
	return spot{l.File, l.Row, l.Col}
}

// failing is an expression that failed, at any depth of a definition's body.
type failing struct {
	of   *definition
	expr *ast.Expr
}

// body is one evaluation of a definition, or of something within its body.
type body struct {
	of *definition
	// whole: of the definition's body itself.
	whole bool
}

// trace evaluates policy once more, each definition to its end: without index and
// early exit, and without an end at the first builtin that fails. It decides
// nothing.
func (t *topdownEvaluator) trace(ctx context.Context, in *input, o ExplainOptions) (seen *tracer) {
	seen = &tracer{locals: o.Trace, definitions: map[*ast.Rule]*definition{}, bodies: map[uint64]*body{}, failing: map[spot][]failing{}}
	defer func() {
		if r := recover(); r != nil {
			seen.incomplete = fmt.Sprintf("the interpreter panics: %v", r)
		}
	}()
	cancel := topdown.NewCancel()
	seen.stop = cancel.Cancel
	defer context.AfterFunc(ctx, cancel.Cancel)()
	err := topdown.NewQuery(t.body).
		WithQueryCompiler(t.query).WithCompiler(t.compiler).
		WithStore(t.store).WithTransaction(t.txn).
		WithInput(ast.NewTerm(in.document(t.words))).WithBuiltins(t.builtins).
		WithTime(in.now).WithSeed(&seed{id: in.decisionID}).
		WithCancel(cancel).WithBuiltinErrorList(&seen.errors).
		WithIndexing(false).WithEarlyExit(false).WithQueryTracer(seen).
		Iter(ctx, func(topdown.QueryResult) error { return nil })
	seen.blame()
	if err != nil {
		seen.ended(err)
	}
	if o.Trace {
		seen.print()
	}
	return seen
}

// ended notes what ended the evaluation early, and whose fault it was.
func (t *tracer) ended(err error) {
	var e *topdown.Error
	if !errors.As(err, &e) {
		t.incomplete = err.Error()
		return
	}
	if e.Code == topdown.CancelErr {
		t.incomplete = cmp.Or(t.incomplete, "the evaluation was stopped before it ended")
		return
	}
	t.incomplete = e.Message
	if e.Location == nil {
		return
	}
	t.incomplete = fmt.Sprintf("%s:%d: %s", e.Location.File, e.Location.Row, e.Message)
	for _, d := range t.definitions {
		if d.File == e.Location.File && d.Line == e.Location.Row {
			d.fail(e.Message)
		}
	}
}

// Enabled, Config and TraceEvent make it a topdown.QueryTracer.
func (*tracer) Enabled() bool { return true }

// Config has OPA copy variables for its own trace only.
func (t *tracer) Config() topdown.TraceConfig { return topdown.TraceConfig{PlugLocalVars: t.locals} }

// TraceEvent takes one step of the evaluation.
func (t *tracer) TraceEvent(e topdown.Event) {
	if t.locals {
		if len(t.events) < maxTraced {
			t.events = append(t.events, &e)
		} else {
			t.full = true
		}
	}
	switch e.Op { //nolint:exhaustive // the others say nothing of a definition
	case topdown.EnterOp:
		t.enter(&e)
	case topdown.ExitOp:
		t.exit(&e)
	case topdown.FailOp:
		t.fail(&e)
	}
}

func (t *tracer) enter(e *topdown.Event) {
	if len(t.bodies) >= maxBodies {
		t.incomplete = fmt.Sprintf("more than %d bodies of rules and comprehensions were evaluated", maxBodies)
		t.stop()
		return
	}
	rule, isRule := e.Node.(*ast.Rule)
	if !isRule {
		if outer := t.bodies[e.ParentID]; outer != nil {
			t.bodies[e.QueryID] = &body{of: outer.of}
		}
		return
	}
	d := t.definitions[rule]
	if d == nil {
		d = &definition{path: rule.Ref().ConstantPrefix().String(), rule: rule, value: OutcomeUndefined, reached: -1}
		d.Outcome = OutcomeUndefined
		if collects(rule) {
			d.value = OutcomeEmpty
		}
		if l := rule.Location; l != nil {
			d.File, d.Line = l.File, l.Row
		}
		t.definitions[rule] = d
	}
	d.Evaluated++
	t.bodies[e.QueryID] = &body{of: d, whole: true}
}

func (t *tracer) exit(e *topdown.Event) {
	rule, isRule := e.Node.(*ast.Rule)
	if !isRule {
		return
	}
	d := t.definitions[rule]
	if d == nil {
		return
	}
	d.Outcome, d.StoppedAt = OutcomeHeld, nil
	d.value = worse(d.value, valueOf(rule, e))
}

// collects tells a rule whose document is there without any definition that holds.
func collects(rule *ast.Rule) bool {
	return rule.Head.RuleKind() == ast.MultiValue || rule.Head.Key != nil || !rule.Ref().IsGround()
}

// valueOf is what the rule comes out as by a definition that holds.
func valueOf(rule *ast.Rule, e *topdown.Event) RuleOutcome {
	if collects(rule) {
		return OutcomeDefined
	}
	switch v := e.Plug(rule.Head.Value).Value.(type) {
	case ast.Boolean:
		if v {
			return OutcomeTrue
		}
		return OutcomeFalse
	case *ast.Array:
		if v.Len() == 0 {
			return OutcomeEmpty
		}
	case ast.Object:
		if v.Len() == 0 {
			return OutcomeEmpty
		}
	case ast.Set:
		if v.Len() == 0 {
			return OutcomeEmpty
		}
	}
	return OutcomeDefined
}

func (t *tracer) fail(e *topdown.Event) {
	b := t.bodies[e.QueryID]
	if b == nil {
		return
	}
	expr, isExpr := e.Node.(*ast.Expr)
	if !isExpr {
		return
	}
	d, at := b.of, spotOf(expr.Location)
	if one := (failing{d, expr}); !slices.Contains(t.failing[at], one) {
		t.failing[at] = append(t.failing[at], one)
	}
	if b.whole && d.Outcome == OutcomeUndefined && expr.Index >= d.reached {
		d.reached, d.StoppedAt = expr.Index, expression(expr)
	}
}

// blame gives the errors of builtins to the definitions in which they came up.
func (t *tracer) blame() {
	for i := range t.errors {
		e := &t.errors[i]
		for _, f := range t.failing[spotOf(e.Location)] {
			if f.of.Outcome != OutcomeError {
				f.of.fail(e.Message)
				f.of.StoppedAt = expression(f.expr)
			}
		}
	}
}

func (d *definition) fail(message string) {
	d.Outcome, d.value, d.Error = OutcomeError, OutcomeError, clip(message, maxPlace)
}

// expression is what policy has at the place of e. What the compiler has put in
// has the place of what it was made of.
func expression(e *ast.Expr) *ExplainedExpression {
	l := e.Location
	if l == nil {
		return &ExplainedExpression{Text: clip(e.String(), maxExpression)}
	}
	text, _, more := strings.Cut(strings.TrimSpace(string(l.Text)), "\n")
	if more {
		text = strings.TrimRight(text, " \t\r") + " …"
	}
	return &ExplainedExpression{Line: l.Row, Text: clip(text, maxExpression)}
}

// shown are the definitions to tell.
func (t *tracer) shown() []*definition {
	all := make([]*definition, 0, len(t.definitions))
	for _, d := range t.definitions {
		all = append(all, d)
	}
	rank := func(d *definition) int {
		switch d.Outcome { //nolint:exhaustive // those of definitions
		case OutcomeError:
			return 0
		case OutcomeHeld:
			return 1
		}
		return 2
	}
	slices.SortFunc(all, func(a, b *definition) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(b.reached, a.reached), cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	if len(all) > maxExplained {
		if t.incomplete == "" {
			t.incomplete = fmt.Sprintf("%d definitions were evaluated; those that hold, failed or came furthest are told", len(all))
		}
		all = all[:maxExplained]
	}
	return all
}

// print writes OPA's trace.
func (t *tracer) print() {
	var b bytes.Buffer
	topdown.PrettyTraceWithOpts(&b, t.events, topdown.PrettyTraceOptions{Locations: true, ExprVariables: true})
	cut := t.full
	if b.Len() > maxTraceBytes {
		b.Truncate(maxTraceBytes)
		b.Truncate(bytes.LastIndexByte(b.Bytes(), '\n') + 1)
		cut = true
	}
	for line := range strings.Lines(b.String()) {
		t.lines = append(t.lines, strings.TrimRight(line, " \r\n"))
	}
	if cut {
		t.lines = append(t.lines, "… the trace goes on and is cut off here")
	}
	t.events = nil
}
