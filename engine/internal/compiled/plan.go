package compiled

import (
	"context"
	"errors"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
	"github.com/open-policy-agent/opa/v1/rego"
)

// planTarget names the evaluation target under which OPA hands us its plans. Its
// planner cannot be imported, and v1/compile would compile all modules again and
// write the plan as JSON.
const planTarget = "authzd.compiled"

func init() { //nolint:gochecknoinits // OPA reads its table of targets without a lock
	rego.RegisterPlugin(planTarget, planner{})
}

// planner is a target plugin that keeps nothing: the plan goes where the context
// of its making says.
type planner struct{}

type planKey struct{}

var errNotEvaluated = errors.New("plans are not evaluated here")

// IsTarget implements rego.TargetPlugin.
func (planner) IsTarget(target string) bool { return target == planTarget }

// PrepareForEval implements rego.TargetPlugin.
func (planner) PrepareForEval(ctx context.Context, policy *ir.Policy, _ ...rego.PrepareOption) (rego.TargetPluginEval, error) {
	if to, ok := ctx.Value(planKey{}).(*planned); ok {
		to.policy = policy
	}
	return planner{}, nil
}

// Eval implements rego.TargetPluginEval.
func (planner) Eval(context.Context, *rego.EvalContext, ast.Value) (ast.Value, error) {
	return nil, errNotEvaluated
}

type planned struct{ policy *ir.Policy }

// planQuery has OPA plan a query against compiled modules.
func planQuery(ctx context.Context, compiler *ast.Compiler, query ast.Body) (policy *ir.Policy, err error) {
	defer func() {
		if r := recover(); r != nil {
			policy, err = nil, refuse("OPA fails to plan the policy: %v", r)
		}
	}()
	// rego.New writes the evaluation mode into its compiler. The copy shares all
	// that is compiled.
	private := *compiler
	var to planned
	_, err = rego.New(
		rego.Compiler(&private), rego.ParsedQuery(query), rego.Target(planTarget), rego.Capabilities(compiler.Capabilities()),
	).PrepareForEval(context.WithValue(ctx, planKey{}, &to))
	if err != nil {
		return nil, &RefusalError{What: "OPA does not plan the policy", Err: err}
	}
	if to.policy == nil || to.policy.Plans == nil || len(to.policy.Plans.Plans) != 1 {
		return nil, refuse("OPA made no plan")
	}
	return to.policy, nil
}

// documentsQuery asks for each document by an array comprehension, which keeps
// "undefined" apart from every value. It is the query that topdown is asked.
func documentsQuery(documents []ast.Ref) (query ast.Body, names []string) {
	for i, ref := range documents {
		name := "document" + strconv.Itoa(i)
		x := ast.VarTerm("x_" + name)
		list := ast.ArrayComprehensionTerm(x, ast.NewBody(ast.Equality.Expr(x, ast.NewTerm(ref.Copy()))))
		query.Append(ast.Equality.Expr(ast.VarTerm(name), list))
		names = append(names, name)
	}
	return query, names
}
