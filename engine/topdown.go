package engine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/authzd/authzd/engine/internal/base"
	"github.com/authzd/authzd/engine/internal/narrow"
	"github.com/authzd/authzd/rar"
)

// output is what policy said, not yet judged: a document that is undefined, or
// that the policy does not have, is Absent.
type output struct {
	permit, forbid, allow, deny document
}

// document is a value of policy: JSON, or a set at its top.
type document struct {
	value rar.Value
	// set marks a Rego set, whose elements value then lists.
	set bool
}

func (d document) defined() bool { return d.value.Kind() != rar.Absent }

// topdownEvaluator runs OPA's interpreter. It evaluates exactly the documents
// permit, forbid, allow and deny of the entry point that exist, and nothing else
// (contract, step 4).
type topdownEvaluator struct {
	compiler *ast.Compiler
	// written has policy as it is written. Compiler may look rows up by indexes, for
	// which it has builtins.
	written  *ast.Compiler
	indexes  []narrow.Document
	builtins map[string]*topdown.Builtin
	query    ast.QueryCompiler
	body     ast.Body
	vars     [4]ast.Var // permit, forbid, allow, deny; "" if the policy has none
	store    storage.Store
	// documents is store, but in the filter of lists, which never takes other data.
	documents *base.Store
	txn       storage.Transaction
	words     *vocabulary
}

func documentNames() [4]string { return [4]string{"permit", "forbid", "allow", "deny"} }

// newTopdown prepares the query. The store is never written to, so one read
// transaction serves the snapshot's whole life.
func newTopdown(ctx context.Context, c *ast.Compiler, entrypoint ast.Ref, data rar.Value, look lookUps) (*topdownEvaluator, error) {
	words := newVocabulary(c.Modules)
	t := &topdownEvaluator{compiler: c, written: c, words: &words}
	t.lookUp(look)
	if err := t.prepare(entrypoint, documentNames()); err != nil {
		return nil, err
	}
	documents, err := base.New(data, t.words.term, keptText())
	if err != nil {
		return nil, fmt.Errorf("open the data: %w", err)
	}
	if err := t.index(ctx, documents); err != nil {
		return nil, err
	}
	return t, t.open(ctx, documents)
}

// open has t read these documents.
func (t *topdownEvaluator) open(ctx context.Context, documents *base.Store) error {
	for _, path := range t.readWhole() {
		if err := documents.Keep(ctx, path); err != nil {
			return fmt.Errorf("read the data: %w", err)
		}
	}
	txn, err := documents.NewTransaction(ctx)
	if err != nil {
		return fmt.Errorf("open the data: %w", err)
	}
	t.documents, t.store, t.txn = documents, documents, txn
	return nil
}

// withData is t on other data.
func (t *topdownEvaluator) withData(ctx context.Context, data rar.Value) (*topdownEvaluator, error) {
	documents, err := t.documents.With(ctx, data)
	if err != nil {
		return nil, fmt.Errorf("open the data: %w", err)
	}
	next := *t
	return &next, next.open(ctx, documents)
}

const (
	// mostKeptText is how much text of data, in bytes, a snapshot keeps as AST, and
	// textShare the part of the memory limit where that is less: AST takes about thirty
	// times its text.
	mostKeptText = 64 << 20
	textShare    = 64
)

func keptText() int64 { return min(mostKeptText, debug.SetMemoryLimit(-1)/textShare) }

// readWhole are the paths of data that the rules of the query, and those that they refer
// to, name by constants alone: they may want all that is there. Whether data.users[id] is
// a look-up or an iteration is not known.
func (t *topdownEvaluator) readWhole() (paths [][]string) {
	visitor := ast.NewGenericVisitor(func(x any) bool {
		ref, ok := x.(ast.Ref)
		if !ok || len(ref) < 2 || !ref.HasPrefix(ast.DefaultRootRef) {
			return false
		}
		path := make([]string, 0, len(ref)-1)
		for _, t := range ref[1:] {
			s, ok := t.Value.(ast.String)
			if !ok {
				return false
			}
			path = append(path, string(s))
		}
		paths = append(paths, path)
		return false
	})
	seen := map[*ast.Rule]bool{}
	var reach func(r *ast.Rule)
	reach = func(r *ast.Rule) {
		if seen[r] {
			return
		}
		seen[r] = true
		visitor.Walk(r)
		for next := range t.compiler.Graph.Dependencies(r) {
			if rule, ok := next.(*ast.Rule); ok {
				reach(rule)
			}
		}
	}
	ast.WalkRefs(t.body, func(ref ast.Ref) bool {
		for _, r := range t.compiler.GetRulesWithPrefix(ref) {
			reach(r)
		}
		return false
	})
	slices.SortFunc(paths, slices.Compare[[]string]) // who gets the room is no accident
	return slices.CompactFunc(paths, slices.Equal[[]string])
}

// NewDataStore is a store of base data, an object, as decisions read it; nothing can be
// written to it.
func NewDataStore(data rar.Value) (storage.Store, error) {
	s, err := base.New(data, vocabulary{}.term, keptText())
	if err != nil {
		return nil, fmt.Errorf("open the data: %w", err)
	}
	return s, nil
}

// prepare compiles the query for the documents of the package that exist.
func (t *topdownEvaluator) prepare(entrypoint ast.Ref, documents [4]string) error {
	t.query = t.compiler.QueryCompiler()
	var body ast.Body
	for i, name := range documents {
		ref := entrypoint.Append(ast.StringTerm(name))
		if name == "" || !ruleExists(t.compiler.RuleTree, ref) {
			continue
		}
		// A comprehension keeps "undefined" apart from every value and never fails
		// the query, so that the other documents are still evaluated.
		x := ast.VarTerm("x_" + name)
		list := ast.ArrayComprehensionTerm(x, ast.NewBody(ast.Equality.Expr(x, ast.NewTerm(ref))))
		t.vars[i] = ast.Var("authzd_" + name)
		body.Append(ast.Equality.Expr(ast.VarTerm(string(t.vars[i])), list))
	}
	if len(body) == 0 {
		return fmt.Errorf("%s defines none of permit, forbid, allow, deny", entrypoint)
	}
	compiled, err := t.query.Compile(body)
	if err != nil {
		return fmt.Errorf("compile the query: %w", err)
	}
	for rewritten, name := range t.query.RewrittenVars() {
		for i := range t.vars {
			if t.vars[i] == name && name != "" {
				t.vars[i] = rewritten
			}
		}
	}
	t.body = compiled
	return nil
}

// ruleExists tells whether any rule lies at or below ref.
func ruleExists(tree *ast.TreeNode, ref ast.Ref) bool {
	node := tree
	for _, term := range ref {
		if node = node.Child(term.Value); node == nil {
			return false
		}
	}
	return hasRules(node)
}

func hasRules(n *ast.TreeNode) bool {
	if len(n.Values) > 0 {
		return true
	}
	for _, c := range n.Children {
		if hasRules(c) {
			return true
		}
	}
	return false
}

// seed makes rand and uuid builtins the same for one decision id, so that a
// logged decision can be evaluated again.
type seed struct {
	id  string
	src *rand.ChaCha8
}

func (s *seed) Read(p []byte) (int, error) {
	if s.src == nil {
		s.src = rand.NewChaCha8(sha256.Sum256([]byte("authzd decision seed\x00" + s.id)))
	}
	return s.src.Read(p)
}

func (t *topdownEvaluator) evaluate(ctx context.Context, in *input, steps int64, tracer topdown.QueryTracer) (output, *Fault) {
	terms, fault := t.solve(ctx, in.document(t.words), in.now, in.decisionID, steps, tracer)
	if fault != nil {
		return output{}, fault
	}
	return readOutput(terms)
}

// solve runs the query, within so many steps and the time of ctx, and returns what
// its variables are; nil for those that it does not have. Tracer may be nil.
func (t *topdownEvaluator) solve(ctx context.Context, document ast.Value, now time.Time, id string, steps int64, tracer topdown.QueryTracer) ([4]*ast.Term, *Fault) {
	used := newMeter(ctx, steps)
	var terms [4]*ast.Term
	solutions := 0
	err := topdown.NewQuery(t.body).
		WithQueryCompiler(t.query).WithCompiler(t.compiler).
		WithStore(t.store).WithTransaction(t.txn).
		WithInput(ast.NewTerm(document)).WithBuiltins(t.builtins).
		WithTime(now).WithSeed(&seed{id: id}).
		WithCancel(used).WithStrictBuiltinErrors(true).WithQueryTracer(tracer).
		Iter(ctx, func(qr topdown.QueryResult) error {
			solutions++
			for i, v := range t.vars {
				if v != "" {
					terms[i] = qr[v]
				}
			}
			return nil
		})
	if err != nil {
		if topdown.IsCancel(err) {
			return terms, used.fault(steps)
		}
		return terms, t.fault(err)
	}
	if used.over {
		return terms, used.fault(steps) // a builtin may end early, and say nothing
	}
	if solutions != 1 {
		return terms, &Fault{Code: CodeEvalError, Message: fmt.Sprintf("the policy query had %d solutions", solutions)}
	}
	return terms, nil
}

func readOutput(terms [4]*ast.Term) (output, *Fault) {
	var docs [4]document
	for i, term := range terms {
		if term == nil {
			continue
		}
		list, ok := term.Value.(*ast.Array)
		if !ok || list.Len() > 1 {
			return output{}, &Fault{Code: CodeConflict, Message: documentNames()[i] + " has more than one value"}
		}
		if list.Len() == 0 {
			continue
		}
		d, err := readDocument(list.Elem(0).Value)
		if err != nil {
			return output{}, &Fault{Code: CodeMalformedOutput, Message: documentNames()[i] + ": " + err.Error()}
		}
		docs[i] = d
	}
	return output{permit: docs[0], forbid: docs[1], allow: docs[2], deny: docs[3]}, nil
}

// fault classifies OPA's error; every kind is a deny.
func (t *topdownEvaluator) fault(err error) *Fault {
	var e *topdown.Error
	if !errors.As(err, &e) {
		return &Fault{Code: CodeEvalError, Message: err.Error()}
	}
	f := &Fault{Code: CodeEvalError, Message: e.Message}
	name := ""
	if e.Location != nil {
		f.Message = fmt.Sprintf("%s:%d: %s", e.Location.File, e.Location.Row, e.Message)
		name = t.documentAt(e.Location)
	}
	switch e.Code {
	case topdown.ConflictErr:
		f.Code = CodeConflict
		switch name {
		case "permit":
			f.Code = CodeAmbiguousPermit
		case "forbid":
			f.Code = CodeAmbiguousForbid
		}
	case topdown.BuiltinErr, topdown.TypeErr:
		f.Code = CodeBuiltinError
	case topdown.CancelErr:
		f.Code = CodeBudget
	}
	return f
}

// documentAt names the document whose rule stands at loc. Conflicts are
// reported at a rule's head.
func (t *topdownEvaluator) documentAt(loc *ast.Location) string {
	mod := t.compiler.Modules[loc.File]
	if mod == nil {
		return ""
	}
	for _, r := range mod.Rules {
		for ; r != nil; r = r.Else {
			if r.Location != nil && r.Location.Row == loc.Row && len(r.Head.Reference) > 0 {
				if v, ok := r.Head.Reference[0].Value.(ast.Var); ok {
					return string(v)
				}
			}
		}
	}
	return ""
}

// budgetContext bounds evaluation by the engine's own budget, told apart from
// the caller's deadline by the parent's error.
func budgetContext(ctx context.Context, budget time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, budget)
}
