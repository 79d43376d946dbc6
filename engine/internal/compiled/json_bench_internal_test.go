package compiled

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/authzd/authzd/rar"
	"github.com/authzd/authzd/tests/bench/workload" //nolint:depguard // for its policy and requests alone
)

// BenchmarkJSON evaluates the plain policy of tests/bench/workload from the text of an
// input document to the text of the answer: compiled, and in the best form of topdown,
// which reads strictly too, makes terms directly and is asked without package rego.
func BenchmarkJSON(b *testing.B) {
	w, err := workload.New()
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	if err := w.WritePlainOPA(dir, workload.Plain); err != nil {
		b.Fatal(err)
	}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			b.Fatal(err)
		}
		return string(text)
	}
	inputs := make([][]byte, len(w.Requests))
	for i := range w.Requests {
		if inputs[i], err = workload.PolicyInput(w.Requests[i].Query); err != nil {
			b.Fatal(err)
		}
	}
	x := &subject{compiler: compilerOf(b, read("policy.rego"))}
	data, ref := mustJSON(b, read("data.json")), ast.MustParseRef("data.authz.allow")
	p, err := Compile(b.Context(), Options{Compiler: x.compiler, Documents: []ast.Ref{ref}, Data: data})
	if err != nil {
		b.Fatal(err)
	}
	compiled := func(v rar.Value, out []byte) ([]byte, error) {
		in := p.NewInput()
		defer in.Release()
		results, err := in.Eval(b.Context(), in.JSON(v), x.now, nil)
		if err != nil {
			return nil, err
		}
		return results[0].Value.AppendJSON(out), nil
	}
	store := inmem.NewFromASTObject(mustObject(b, ast.MustParseTerm(read("data.json")).Value))
	txn, err := store.NewTransaction(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	qc := x.compiler.QueryCompiler()
	body, err := qc.Compile(ast.NewBody(ast.Equality.Expr(ast.VarTerm("x"), ast.NewTerm(ref))))
	if err != nil {
		b.Fatal(err)
	}
	interpreted := func(v rar.Value, out []byte) ([]byte, error) {
		err := topdown.NewQuery(body).WithQueryCompiler(qc).WithCompiler(x.compiler).WithStore(store).WithTransaction(txn).
			WithInput(termOf(v)).WithTime(x.now).WithStrictBuiltinErrors(true).
			Iter(b.Context(), func(qr topdown.QueryResult) error {
				for _, t := range qr {
					out = append(out, t.String()...)
				}
				return nil
			})
		return out, err
	}
	for _, c := range []struct {
		name   string
		answer func(v rar.Value, out []byte) ([]byte, error)
	}{{"compiled", compiled}, {"topdown", interpreted}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			var out []byte
			for i := 0; b.Loop(); i = (i + 1) % len(inputs) {
				v, err := rar.DecodeStrict(inputs[i], rar.Limits{})
				if err != nil {
					b.Fatal(err)
				}
				if out, err = c.answer(v, out[:0]); err != nil || string(out) != strconv.FormatBool(w.Requests[i].Allow) {
					b.Fatalf("request %d: %s, %v", i, out, err)
				}
			}
		})
	}
}

// termOf makes terms as package engine does, but for the strings that it keeps.
func termOf(v rar.Value) *ast.Term {
	switch v.Kind() {
	case rar.Bool:
		return ast.InternedTerm(v.Bool())
	case rar.String:
		return ast.StringTerm(v.Text())
	case rar.Number:
		return ast.NewTerm(ast.Number(v.Text()))
	case rar.Array:
		terms := make([]*ast.Term, v.Len())
		for i := range terms {
			terms[i] = termOf(v.Index(i))
		}
		return ast.ArrayTerm(terms...)
	case rar.Object:
		kv := make([][2]*ast.Term, v.Len())
		for i := range kv {
			m := v.Member(i)
			kv[i] = [2]*ast.Term{ast.StringTerm(m.Name), termOf(m.Value)}
		}
		return ast.NewTerm(ast.NewObject(kv...))
	default:
		return ast.NullTerm()
	}
}
