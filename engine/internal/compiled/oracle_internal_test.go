package compiled

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/authzd/authzd/rar"
)

// The oracle is topdown, run as package engine runs it: strict builtin errors,
// base documents as AST. What it answers with an error must never be answered by
// a Program.

// outcome is how an evaluation by both came out.
type outcome string

const (
	same outcome = "equal"
	// bothFail: topdown ends in an error, and the Program handed over.
	bothFail outcome = "both an error"
	// refused when it was compiled.
	refused outcome = "refused"
	// handedOver at run time, where topdown has an answer.
	handedOver outcome = "handed over"
	// wrong is a bug.
	wrong outcome = "WRONG"
)

// subject is a query over modules, ready for both evaluators.
type subject struct {
	compiler *ast.Compiler
	plain    ast.Body // as parsed
	query    ast.QueryCompiler
	body     ast.Body
	program  *Program
	refusal  error
	policy   *ir.Policy
	data     ast.Object
	store    storage.Store
	txn      storage.Transaction
	now      time.Time
	// packed has the Program keep data as text.
	packed bool
}

// passSets are the passes that tests switch.
func passSets() map[string]Passes {
	return map[string]Passes{
		"all passes":     {},
		"no passes":      {EarlyExit: true, DropUnread: true, Fuse: true, Guards: true, Native: true, Fold: true},
		"no early exit":  {EarlyExit: true},
		"unread kept":    {DropUnread: true},
		"no fusion":      {Fuse: true},
		"no guards":      {Guards: true},
		"OPA's builtins": {Native: true},
		"no folding":     {Fold: true},
	}
}

func parseModules(sources []string, version ast.RegoVersion, caps *ast.Capabilities) (map[string]*ast.Module, error) {
	modules := map[string]*ast.Module{}
	for i, text := range sources {
		name := fmt.Sprintf("test-%d.rego", i)
		m, err := ast.ParseModuleWithOpts(name, text, ast.ParserOptions{RegoVersion: version, Capabilities: caps, ProcessAnnotation: true})
		if err != nil {
			return nil, err
		}
		modules[name] = m
	}
	return modules, nil
}

// newSubject compiles for topdown; an error says that OPA itself does not take it.
func newSubject(sources []string, query string, version ast.RegoVersion, caps *ast.Capabilities) (*subject, error) {
	modules, err := parseModules(sources, version, caps)
	if err != nil {
		return nil, err
	}
	s := &subject{now: time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)}
	s.compiler = ast.NewCompiler().WithCapabilities(caps).WithDefaultRegoVersion(version)
	if s.compiler.Compile(modules); s.compiler.Failed() {
		return nil, s.compiler.Errors
	}
	if s.plain, err = ast.ParseBodyWithOpts(query, ast.ParserOptions{RegoVersion: version, Capabilities: caps}); err != nil {
		return nil, err
	}
	s.query = s.compiler.QueryCompiler()
	if s.body, err = s.query.Compile(s.plain.Copy()); err != nil {
		return nil, err
	}
	return s, nil
}

// compile makes the Program; a refusal is kept.
func (s *subject) compile(ctx context.Context, data rar.Value, off Passes) {
	s.program, s.refusal = nil, nil
	var err error
	if s.policy == nil {
		s.policy, err = planQuery(ctx, s.compiler, s.plain.Copy())
	}
	if err == nil {
		o := Options{Compiler: s.compiler, Off: off, query: s.body, poison: true}
		o.Data, o.few = s.packing(data)
		s.program, err = compilePolicy(ctx, s.policy, &o)
	}
	s.refusal = err
}

// packing is how a Program gets data: with packed, each of its arrays and objects is
// large, or each of more than two members.
func (s *subject) packing(data rar.Value) (as rar.Value, few int) {
	if !s.packed {
		return data, 0
	}
	text := string(data.AppendJSON(nil))
	packed, err := rar.Packing{Above: 1, Row: 1}.Decode(text, rar.Limits{MaxBytes: 1 << 30, MaxDepth: 200})
	if err != nil {
		return rar.Value{}, 0 // another document: it shows
	}
	if len(text)%2 == 0 {
		return packed, 2
	}
	return packed, -1
}

// setData gives topdown its base documents.
func (s *subject) setData(ctx context.Context, data ast.Object) error {
	s.data = data
	s.store = inmem.NewFromASTObject(data)
	var err error
	s.txn, err = s.store.NewTransaction(ctx)
	return err
}

// topdown answers with the set of solutions. Where it panics, there is no answer.
func (s *subject) topdown(ctx context.Context, input ast.Value) (solutions ast.Set, err error) {
	solutions = ast.NewSet()
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("topdown panics: %v", r)
		}
	}()
	q := topdown.NewQuery(s.body).WithQueryCompiler(s.query).WithCompiler(s.compiler).
		WithStore(s.store).WithTransaction(s.txn).WithTime(s.now).WithStrictBuiltinErrors(true)
	if input != nil {
		q = q.WithInput(ast.NewTerm(input))
	}
	names := s.query.RewrittenVars()
	err = q.Iter(ctx, func(qr topdown.QueryResult) error {
		o := ast.NewObject()
		for v, t := range qr {
			if original, ok := names[v]; ok {
				v = original
			}
			if !v.IsGenerated() && !v.IsWildcard() {
				o.Insert(ast.StringTerm(string(v)), t)
			}
		}
		solutions.Add(ast.NewTerm(o))
		return nil
	})
	return solutions, err
}

// compiled answers with the set of solutions of the Program.
func (s *subject) compiled(ctx context.Context, input ast.Value) (out ast.Set, err error) {
	m := s.program.take()
	defer func() {
		if r := recover(); r != nil {
			err = handover(Failed, fmt.Errorf("%v", r))
		}
	}()
	var in *node
	if input != nil {
		in = m.arena.fromAST(input)
	}
	if h := m.evaluate(ctx, in, s.now, nil); h != nil {
		m.release()
		return nil, h
	}
	out = ast.NewSet()
	for _, r := range m.results {
		o := ast.NewObject()
		for i, k := range r.coll().keys {
			if !strings.HasPrefix(k.s, "^") { // the query's expressions, which rego captures
				o.Insert(ast.StringTerm(k.s), r.coll().vals[i].toAST())
			}
		}
		out.Add(ast.NewTerm(o))
	}
	if m.touched() { // as Eval looks at it when it has read the results
		m.release()
		return nil, handover(LargeData, nil)
	}
	m.release()
	return out, nil
}

// judge evaluates both ways.
func (s *subject) judge(ctx context.Context, input ast.Value) (outcome, string) {
	if s.program == nil {
		return refused, firstLine(s.refusal)
	}
	want, wantErr := s.topdown(ctx, input)
	return s.judgeAgainst(ctx, input, want, wantErr)
}

func (s *subject) judgeAgainst(ctx context.Context, input ast.Value, want ast.Set, wantErr error) (outcome, string) {
	got, err := s.compiled(ctx, input)
	var h *HandoverError
	switch {
	case err != nil && !errors.As(err, &h):
		return wrong, "not a handover: " + firstLine(err)
	case err != nil && h.Reason == Failed:
		return wrong, "failed: " + firstLine(err)
	case err != nil && wantErr != nil:
		return bothFail, ""
	case err != nil:
		return handedOver, string(h.Reason)
	case wantErr != nil:
		return wrong, fmt.Sprintf("topdown fails: %s; got %.200v", firstLine(wantErr), got)
	case got.Compare(want) != 0 || got.String() != want.String(): // 1 and 1.0 are equal, and read otherwise
		return wrong, fmt.Sprintf("got %.300v, topdown %.300v", got, want)
	}
	return same, ""
}

func firstLine(err error) string {
	if err == nil {
		return ""
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	return text[:min(len(text), 160)]
}

func mustObject(t testing.TB, v ast.Value) ast.Object {
	t.Helper()
	o, ok := v.(ast.Object)
	if !ok {
		t.Fatalf("%v is not an object", v)
	}
	return o
}

func mustJSON(t testing.TB, text string) rar.Value {
	t.Helper()
	v, err := rar.DecodeStrict([]byte(text), rar.Limits{MaxBytes: 64 << 20, MaxDepth: 200})
	if err != nil {
		t.Fatal(err)
	}
	return v
}
