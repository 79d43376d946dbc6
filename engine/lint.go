package engine

import (
	"context"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/engine/internal/lint"
	"github.com/authzd/authzd/rar"
)

// LintRule is one kind of finding of the lint, by its code, and its meaning in one line.
type LintRule struct {
	Code    Code
	Meaning string
}

// LintRules lists what Compile lints for (docs/lint.md). Its findings are warnings.
func LintRules() []LintRule {
	codes := lint.Codes()
	out := make([]LintRule, len(codes))
	for i, c := range codes {
		out[i] = LintRule{Code: Code(c.Name), Meaning: c.Meaning}
	}
	return out
}

// lint warns of policy that does not do what its text says.
func (c *compilation) lint(ctx context.Context, compiler *ast.Compiler, main settings, types *rar.Types) {
	defer func() {
		if v := recover(); v != nil { // advice must not keep policy from being loaded
			c.add(Finding{Code: CodePolicyCompile, Severity: SeverityWarning, Message: fmt.Sprintf("the lint failed, a fault of its own: %v", v)})
		}
	}()
	found := lint.Run(ctx, lint.Input{
		Compiler: compiler, IsLibrary: func(path string) bool { return c.library[path] },
		Entrypoint: packageRef(main.entrypoint), Tools: c.tools, UntypedTools: main.untypedTools,
		Types: types, Data: c.data,
	})
	for _, f := range found {
		c.add(Finding{
			Code: Code(f.Code), Severity: SeverityWarning, File: f.File, Row: f.Row, Col: f.Col,
			Rule: f.Rule, Message: f.Message, Fix: f.Fix, FailsOpen: f.FailsOpen,
		})
	}
}
