package compiled

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
)

// A refusal says its cause, its place and nothing in names that OPA's compiler made.
func TestRefusalSaysWhy(t *testing.T) {
	t.Parallel()
	c := ast.NewCompiler()
	c.RewrittenVars = map[ast.Var]ast.Var{"__local1__": "amount", "__local2__": "__local0__"}
	first, second := refuse("OPA does not plan %s", "__local1__"), refuse("%s and $12", "__local2__")
	first.Err = errors.New("var __local3__ is unsafe")
	rules := []*ast.Rule{{Location: &ast.Location{File: "a.rego", Row: 3, Col: 1}}}
	var found refusals
	for _, r := range []*RefusalError{first, second, first} {
		if err := found.add(r, rules); err != nil {
			t.Fatal(err)
		}
	}
	var refused *RefusalError
	if !errors.As(asWritten(found.err(), c), &refused) || len(refused.Others) != 1 {
		t.Fatalf("%+v", found)
	}
	want := []string{"a.rego:3: OPA does not plan amount: var a value is unsafe", "a.rego:3: a value and a value"}
	if diff := cmp.Diff(want, []string{refused.Error(), refused.Others[0].Error()}); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if err := found.add(context.Canceled, rules); !errors.Is(err, context.Canceled) {
		t.Errorf("%v is kept", err)
	}
}

// Of the policies that are refused, each is refused with the same words every time:
// OPA keeps rules in maps, and a report that changes from run to run can not be held
// against an earlier one.
func TestRefusalsStay(t *testing.T) {
	t.Parallel()
	refusedCases := 0
	for _, s := range suites() {
		for _, tc := range loadCases(t, s) {
			if !usable(&tc) {
				continue
			}
			x, err := newCase(&tc, s.version)
			if err != nil {
				continue
			}
			data := toJSON(t, caseData(&tc))
			x.compile(t.Context(), data, Passes{})
			if x.refusal == nil {
				continue
			}
			refusedCases++
			want := x.refusal.Error()
			for range 5 {
				x.policy = nil // planned anew
				if x.compile(t.Context(), data, Passes{}); x.refusal == nil || x.refusal.Error() != want {
					t.Errorf("%s %s: refused by %q, then by %v", s.name, tc.Note, want, x.refusal)
					break
				}
			}
		}
	}
	if refusedCases < 100 {
		t.Errorf("only %d cases are refused", refusedCases)
	}
}
