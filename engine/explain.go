package engine

import (
	"cmp"
	"context"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/engine/internal/compiled"
)

// Explanation is a decision with what led to it. It tells of policy, data and
// credentials what no client may see.
type Explanation struct {
	// Decision is what Decide would have answered to a call that is about to be
	// executed; nothing is consumed by it.
	Decision Decision
	// Evaluations are those of policy: none where the decision was made before
	// (blocked, no usable credential, arguments that do not fit), several where a
	// declared mapping asks several questions.
	Evaluations []Evaluation
}

// Evaluation is one evaluation of policy.
type Evaluation struct {
	// Action and Resource are what policy was asked about.
	Action   Action
	Resource Resource
	// Evaluator is EvaluatorCompiled or EvaluatorInterpreted: whose answer counted.
	Evaluator EvaluatorState
	// HandedOver is why the compiled policy left the answer to the interpreter, as
	// in Evaluations.HandedOver; empty if it did not, or was not asked.
	HandedOver string
	// Rules are those that were evaluated, by path.
	Rules []ExplainedRule
	// Permits are those that hold, by name, with their requirements; Forbids the
	// names of those that hold.
	Permits []ExplainedPermit
	Forbids []string
	// Incomplete says why Rules lack something; empty if they do not.
	Incomplete string
	// Trace is OPA's own trace, line by line, if it was asked for.
	Trace []string
}

// RuleOutcome is what a rule came out as, or one of its definitions.
type RuleOutcome string

// The outcomes. A definition is OutcomeHeld, OutcomeUndefined or OutcomeError.
const (
	OutcomeTrue  RuleOutcome = "true"
	OutcomeFalse RuleOutcome = "false"
	// OutcomeDefined: some other value.
	OutcomeDefined RuleOutcome = "defined"
	// OutcomeEmpty: a set, object or array of nothing.
	OutcomeEmpty RuleOutcome = "empty"
	// OutcomeUndefined: no definition holds; of a definition: it does not.
	OutcomeUndefined RuleOutcome = "undefined"
	// OutcomeError: a builtin failed, or definitions contradict each other.
	OutcomeError RuleOutcome = "error"
	// OutcomeHeld: the definition's body holds.
	OutcomeHeld RuleOutcome = "held"
)

// ExplainedRule is a rule, or a function, that was evaluated.
type ExplainedRule struct {
	// Path is that of its document, e.g. "data.payments.blocked".
	Path    string
	Outcome RuleOutcome
	// Definitions are in the order of file and line. They are evaluated once more,
	// by the interpreter, each of them to its end.
	Definitions []ExplainedDefinition
}

// ExplainedDefinition is one definition of a rule.
type ExplainedDefinition struct {
	// File and Line say where it begins.
	File    string
	Line    int
	Outcome RuleOutcome
	// Evaluated is how often; of a function, for example, for each of its calls.
	Evaluated int
	// StoppedAt is the expression that did not hold, of the evaluation that came
	// furthest; nil where the definition holds.
	StoppedAt *ExplainedExpression
	// Error is what failed; with OutcomeError.
	Error string
}

// ExplainedExpression is an expression of a body.
type ExplainedExpression struct {
	Line int
	// Text is as policy has it, cut off where it is long.
	Text string
}

// ExplainedPermit is a permit that holds.
type ExplainedPermit struct {
	Name     string
	Priority int
	// Met and Unmet are its requirements; of one that is unmet there is a reason
	// for each credential that does not meet it.
	Met   []Met
	Unmet []Reason
}

// ExplainOptions configure an explanation.
type ExplainOptions struct {
	// Trace adds OPA's trace.
	Trace bool
}

// ExplainOn decides q on s as DecideOn does, and tells rule by rule why. The
// decision is made as always; then the interpreter evaluates policy once more,
// within a budget of its own, to see each definition to its end. Errors are those
// of DecideOn.
func (e *Engine) ExplainOn(ctx context.Context, s *Snapshot, q *Query, o ExplainOptions) (Explanation, error) {
	if q != nil && q.Commit == nil {
		committed := *q
		committed.Commit = &Commit{} // nothing is consumed, and single use is no obstacle
		q = &committed
	}
	d, err := e.begin(ctx, s, q)
	if err != nil {
		return Explanation{}, err
	}
	d.explain = &explaining{options: o}
	decision, err := d.run(ctx)
	if err != nil {
		return Explanation{}, err
	}
	return Explanation{Decision: decision, Evaluations: d.explain.evaluations}, nil
}

// explaining collects an Explanation while a decision is made.
type explaining struct {
	options     ExplainOptions
	evaluations []Evaluation
}

// evaluation adds one that has just taken place.
func (x *explaining) evaluation(ctx context.Context, d *deciding, from *account) {
	q := d.in.query
	one := Evaluation{Action: q.Action, Resource: q.Resource, Evaluator: EvaluatorInterpreted, HandedOver: string(from.handedOver)}
	budget, stop := budgetContext(ctx, d.engine.opts.Budget)
	defer stop()
	seen := d.snapshot.eval.topdown.trace(budget, &d.in, x.options)
	outcomes := map[string]RuleOutcome{}
	if from.compiled {
		one.Evaluator = EvaluatorCompiled
		for _, o := range from.outcomes {
			outcomes[documentPath(o.Path)] = outcomeOf(o.Held)
		}
	}
	one.Rules = seen.rules(outcomes)
	one.Incomplete, one.Trace = seen.incomplete, seen.lines
	x.evaluations = append(x.evaluations, one)
}

func documentPath(path []string) string {
	ref := ast.DefaultRootRef.Copy()
	for _, s := range path {
		ref = append(ref, ast.StringTerm(s))
	}
	return ref.String()
}

func outcomeOf(h compiled.Held) RuleOutcome {
	switch h {
	case compiled.True:
		return OutcomeTrue
	case compiled.False:
		return OutcomeFalse
	case compiled.Empty:
		return OutcomeEmpty
	case compiled.NotDefined:
		return OutcomeUndefined
	case compiled.Defined:
	}
	return OutcomeDefined
}

// weigh tells what became of permits and forbids, also where a forbid leaves no
// room for permits.
func (x *explaining) weigh(d *deciding, permits []permit, forbids []forbid) {
	if len(x.evaluations) == 0 {
		return
	}
	one := &x.evaluations[len(x.evaluations)-1]
	at := judgement{types: d.snapshot.types, now: d.in.now, commit: d.in.query.Commit}
	for i := range permits {
		w := d.weighOne(&permits[i], &at)
		one.Permits = append(one.Permits, ExplainedPermit{Name: permits[i].name, Priority: permits[i].priority, Met: w.met, Unmet: w.reasons})
	}
	for i := range forbids {
		one.Forbids = append(one.Forbids, forbids[i].name)
	}
}

// rules are what was seen, the outcomes that are known already taken as they are.
func (t *tracer) rules(known map[string]RuleOutcome) []ExplainedRule {
	byPath := map[string]*ExplainedRule{}
	for path, o := range known {
		byPath[path] = &ExplainedRule{Path: path, Outcome: o}
	}
	own := map[string]RuleOutcome{}
	for _, d := range t.shown() {
		r := byPath[d.path]
		if r == nil {
			r = &ExplainedRule{Path: d.path}
			byPath[d.path] = r
		}
		own[d.path] = worse(own[d.path], d.value)
		r.Definitions = append(r.Definitions, d.ExplainedDefinition)
	}
	out := make([]ExplainedRule, 0, len(byPath))
	for path, r := range byPath {
		if r.Outcome == "" {
			r.Outcome = own[path]
		}
		slices.SortFunc(r.Definitions, func(a, b ExplainedDefinition) int {
			return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
		})
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b ExplainedRule) int { return cmp.Compare(a.Path, b.Path) })
	return out
}

// worse puts together what the definitions of one rule came out as: an error
// counts most, then what holds.
func worse(a, b RuleOutcome) RuleOutcome {
	for _, o := range []RuleOutcome{OutcomeError, OutcomeDefined, OutcomeTrue, OutcomeFalse, OutcomeEmpty} {
		if a == o || b == o {
			return o
		}
	}
	return OutcomeUndefined
}
