package engine

import (
	"errors"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// TestFaultClasses: whatever kind of error OPA returns, it becomes a fault.
func TestFaultClasses(t *testing.T) {
	t.Parallel()
	e := &topdownEvaluator{compiler: ast.NewCompiler()}
	loc := &ast.Location{File: "p.rego", Row: 3, Col: 1}
	for _, c := range []struct {
		err  error
		want Code
	}{
		{&topdown.Error{Code: topdown.InternalErr, Message: "x"}, CodeEvalError},
		{&topdown.Error{Code: topdown.WithMergeErr, Message: "x", Location: loc}, CodeEvalError},
		{&topdown.Error{Code: topdown.ConflictErr, Message: "x", Location: loc}, CodeConflict},
		{&topdown.Error{Code: topdown.BuiltinErr, Message: "x", Location: loc}, CodeBuiltinError},
		{&topdown.Error{Code: topdown.TypeErr, Message: "x"}, CodeBuiltinError},
		{&topdown.Error{Code: topdown.CancelErr, Message: "x"}, CodeBudget},
		{&topdown.Error{Code: "eval_new_error", Message: "x"}, CodeEvalError},
		{errors.New("anything"), CodeEvalError},
	} {
		if f := e.fault(c.err); f.Code != c.want || f.Message == "" {
			t.Errorf("%v: got %+v, want %s", c.err, f, c.want)
		}
	}
}
