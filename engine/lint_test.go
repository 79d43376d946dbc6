package engine_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/authzd/authzd/engine"
)

// What the lint finds warns, and refuses nothing.
func TestCompileLints(t *testing.T) {
	t.Parallel()
	b := bundle(t, `package authz

forbid["over"] := {} if data.limits[input.subject.id].max < 5

permit["all"] := {} if input.action.name == "read"
`, `{"limits": {"alice": {"max": 1}}}`, `{"contract": 1}`)
	s, findings, err := engine.Compile(t.Context(), []engine.Bundle{b})
	if err != nil || s == nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(findings, func(f engine.Finding) bool { return f.Code == "lint.may_be_undefined" })
	if i < 0 {
		t.Fatalf("findings %v", findings)
	}
	f := findings[i]
	if f.Severity != engine.SeverityWarning || !f.FailsOpen || f.File != "policy.rego" || f.Row != 3 || f.Rule != `forbid["over"]` {
		t.Errorf("finding %+v", f)
	}
	if want := `. Fix: say what a missing one means: object.get(data.limits, [input.subject.id, "max"], DEFAULT)`; !strings.HasSuffix(f.Text(), want) {
		t.Errorf("text %q", f.Text())
	}
}

// A forbid that lax_forbids lets pass fails open, which --lint counts.
func TestLaxForbidFailsOpen(t *testing.T) {
	t.Parallel()
	b := bundle(t, `package authz

forbid["over"] := {} if input.mcp.params.arguments.amount > 5
`, `{"authzd_tools": {"pay": {"arguments": {"type": "object", "properties": {"amount": {"type": "number"}}}}}}`, `{"contract": 1, "lax_forbids": true}`)
	_, findings, err := engine.Compile(t.Context(), []engine.Bundle{b})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(findings, func(f engine.Finding) bool { return f.Code == "engine.forbid_may_be_undefined" && f.FailsOpen }) {
		t.Errorf("findings %v", findings)
	}
}
