// Package compiled evaluates the Rego of a snapshot as Go closures. OPA's own
// planner turns the documents permit, forbid, allow and deny into OPA's
// intermediate representation (IR); each of its statements becomes a closure
// over a frame of value nodes that live in the reusable memory of one
// evaluation.
//
// It never has the last word: topdown, OPA's interpreter with strict builtin
// errors, does. What cannot be shown to come out as in topdown is refused when
// it is compiled (a *RefusalError), and any doubt of an evaluation (a conflict, an
// error of a builtin, a budget) is an error (a *HandoverError). Either means: ask
// topdown, whose answer counts. In particular no definition is skipped whose
// evaluation could fail, for where topdown evaluates it, its failure is a deny.
//
// Package engine compiles a Program with each snapshot and evaluates it in
// every decision. A Program is immutable and safe for any number of goroutines;
// an Input belongs to one.
package compiled

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/rar"
)

// Options say what to compile.
type Options struct {
	// Compiler holds the compiled modules. It is only read.
	Compiler *ast.Compiler
	// Documents are the documents to evaluate, each with rules at or below it.
	Documents []ast.Ref
	// Data are the base documents, an object; Absent is {}.
	Data rar.Value
	// Limits bound compilation and evaluations; zero fields have defaults.
	Limits Limits
	// Off switches passes off that only make evaluation faster; tests compare.
	Off Passes

	// query is what is planned.
	query ast.Body
	// few is how many members of a packed value become nodes; default fewMembers,
	// negative none.
	few int
	// poison makes released memory unusable, so that a test sees its use.
	poison bool
}

// Limits bound what a Program may take. Beyond them topdown is asked.
type Limits struct {
	// Steps bounds the loop turns and calls of one evaluation, those of builtins
	// several times; default 1 million, well below the time that a decision has, so
	// that topdown has the rest of it.
	Steps int64
	// Nodes bounds the values that one evaluation makes; default 1 million (of 40
	// bytes each, without the text of strings).
	Nodes int
	// Depth bounds nested calls; default 1,000.
	Depth int
	// DataNodes bounds the base documents, which are kept as nodes; default 2
	// million.
	DataNodes int
	// Statements bounds the plan; default 5 million.
	Statements int
}

func (l Limits) withDefaults() Limits {
	if l.Steps <= 0 {
		l.Steps = 1_000_000
	}
	if l.Nodes <= 0 {
		l.Nodes = 1_000_000
	}
	if l.Depth <= 0 {
		l.Depth = 1_000
	}
	if l.DataNodes <= 0 {
		l.DataNodes = 2_000_000
	}
	if l.Statements <= 0 {
		l.Statements = 5_000_000
	}
	return l
}

// Passes names what may be left out of compilation without a change of answers.
type Passes struct {
	// EarlyExit ends a rule with the first definition that holds, where neither it
	// nor the others can fail.
	EarlyExit bool
	// DropUnread leaves out assignments that nobody reads.
	DropUnread bool
	// Fuse makes a chain of look-ups one step.
	Fuse bool
	// Guards looks definitions up by the constant that they ask a field of the
	// input for.
	Guards bool
	// Native leaves every builtin to OPA's own implementation.
	Native bool
	// Fold builds constant arrays, sets and objects in each evaluation.
	Fold bool
}

// RefusalError is why a policy stays with topdown altogether.
type RefusalError struct {
	// What is not supported, for a log.
	What string
	// At is where; nil: it is no one place.
	At  *ast.Location
	Err error
	// Fix is what to write instead; "": that depends.
	Fix string
	// ComputedKeys: it is of a literal with computed keys, which the lint tells as well.
	ComputedKeys bool
	// Others were found with it, some of them if there are many.
	Others []*RefusalError
}

func (r *RefusalError) Error() string {
	text := r.Cause()
	if r.At != nil {
		text = r.At.String() + ": " + text
	}
	return text
}

// Cause is the reason without the place.
func (r *RefusalError) Cause() string {
	if r.Err != nil {
		return fmt.Sprintf("%s: %v", r.What, r.Err)
	}
	return r.What
}

func (r *RefusalError) Unwrap() error { return r.Err }

func (r *RefusalError) fix(text string) *RefusalError {
	r.Fix = text
	return r
}

func refuse(format string, args ...any) *RefusalError {
	return &RefusalError{What: fmt.Sprintf(format, args...)}
}

func refuseAt(loc *ast.Location, format string, args ...any) *RefusalError {
	r := refuse(format, args...)
	r.At = loc
	return r
}

// maxRefusals is how many refusals are told at once.
const maxRefusals = 20

// refusals are those of one stage of the compilation.
type refusals []*RefusalError

// add keeps a refusal of rules, and returns any other error.
func (r *refusals) add(err error, rules []*ast.Rule) error {
	var refused *RefusalError
	if !errors.As(located(err, rules), &refused) {
		return err
	}
	told := slices.ContainsFunc(*r, func(x *RefusalError) bool {
		return x.Error() == refused.Error() || x.ComputedKeys && refused.ComputedKeys // the lint tells all of those
	})
	if len(*r) < maxRefusals && !told {
		*r = append(*r, refused)
	}
	return nil
}

// located gives a refusal of no one place that of the first of rules.
func located(err error, rules []*ast.Rule) error {
	var refused *RefusalError
	if errors.As(err, &refused) && refused.At == nil && len(rules) > 0 {
		refused.At = rules[0].Location
	}
	return err
}

// rulesBelow are the rules below ref in the order of their text. OPA has them in that
// of a map, and what is refused first would be told with another place each time.
func rulesBelow(compiler *ast.Compiler, ref ast.Ref) []*ast.Rule {
	rules := compiler.GetRulesWithPrefix(ref)
	slices.SortStableFunc(rules, byPlace)
	return rules
}

func byPlace(a, b *ast.Rule) int {
	return cmp.Or(a.Location.Compare(b.Location), a.Ref().Compare(b.Ref()))
}

// err is the first of them, with the others; nil if there is none.
func (r *refusals) err() error {
	if len(*r) == 0 {
		return nil
	}
	first := (*r)[0]
	first.Others = (*r)[1:]
	return first
}

// Program is a compiled policy with its data.
type Program struct {
	vars   []Name // the result's member of each document
	limits Limits
	stats  stats
	poison bool

	strs   []*node // the plan's string constants
	intern map[string]*node
	funcs  map[string]*function
	byPath *pathNode
	memos  int
	ruled  []*function // those whose outcome can be told
	plan   []code
	locals int
	data   *node
	larges *larges // nil if no document is large
	// capabilities are what builtins may be told of OPA's features.
	capabilities *ast.Capabilities
	pool         sync.Pool
}

// stats count what passes did, so that a test can tell that they ran.
type stats struct {
	statements, dropped, earlyExits, fused, guarded, folded int
}

// Compile plans and compiles the documents. An error is a *RefusalError, or the
// context's.
func Compile(ctx context.Context, o Options) (p *Program, err error) {
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, refuse("the compilation failed: %v", r)
		}
	}()
	if o.Compiler == nil || len(o.Documents) == 0 {
		return nil, refuse("no policy")
	}
	if err := judgeSize(o.Compiler, o.Documents); err != nil {
		return nil, err
	}
	body, names := documentsQuery(o.Documents)
	o.query = body
	policy, err := planQuery(ctx, o.Compiler, body)
	if err == nil {
		p, err = compilePolicy(ctx, policy, &o)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err() //nolint:wrapcheck // the caller's
	}
	if err != nil {
		return nil, asWritten(err, o.Compiler)
	}
	for _, name := range names {
		p.vars = append(p.vars, p.Name(name))
	}
	return p, nil
}

// rewritten finds the variables that OPA's compiler made.
var rewritten = regexp.MustCompile(`__local\d+__|\$\d+`)

// asWritten names variables in refusals as policy does, and what has no name there a value.
func asWritten(err error, compiler *ast.Compiler) error {
	var refused *RefusalError
	if !errors.As(err, &refused) {
		return err
	}
	name := func(text string) string {
		return rewritten.ReplaceAllStringFunc(text, func(v string) string {
			if from, ok := compiler.RewrittenVars[ast.Var(v)]; ok && !from.IsGenerated() && !from.IsWildcard() && !rewritten.MatchString(string(from)) {
				return string(from)
			}
			return "a value"
		})
	}
	for _, r := range append([]*RefusalError{refused}, refused.Others...) {
		r.What = name(r.What)
		if r.Err != nil {
			if text := name(r.Err.Error()); text != r.Err.Error() {
				r.Err = errors.New(text)
			}
		}
	}
	return err
}
