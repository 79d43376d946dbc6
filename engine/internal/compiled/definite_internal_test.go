package compiled

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
)

func localOf(l int) ir.Operand { return ir.Operand{Value: ir.Local(l)} }

func block(stmts ...ir.Stmt) *ir.Block { return &ir.Block{Stmts: stmts} }

// TestLocalsMustBeSet: plans as the planner must not make them, and the same as it
// may. Local 2 is the function's result, 3 a definition's; 4 and on are free.
func TestLocalsMustBeSet(t *testing.T) {
	t.Parallel()
	set := func(l int) ir.Stmt { return &ir.MakeNullStmt{Target: ir.Local(l)} }
	from := func(a, b int) ir.Stmt { return &ir.AssignVarStmt{Source: localOf(a), Target: ir.Local(b)} }
	reset := func(l int) ir.Stmt { return &ir.ResetLocalStmt{Target: ir.Local(l)} }
	defined := func(l int) ir.Stmt { return &ir.IsDefinedStmt{Source: ir.Local(l)} }
	maybe := &ir.IsArrayStmt{Source: localOf(0)}
	blocks := func(list ...*ir.Block) ir.Stmt { return &ir.BlockStmt{Blocks: list} }
	scan := func(stmts ...ir.Stmt) ir.Stmt {
		return &ir.ScanStmt{Source: 0, Key: 10, Value: 11, Block: block(stmts...)}
	}
	not := func(stmts ...ir.Stmt) ir.Stmt { return &ir.NotStmt{Block: block(stmts...)} }
	with := func(stmts ...ir.Stmt) ir.Stmt {
		return &ir.WithStmt{Local: 0, Value: localOf(1), Block: block(stmts...)}
	}
	for name, c := range map[string]struct {
		blocks []*ir.Block
		ok     bool
	}{
		"set before":                       {[]*ir.Block{block(set(4), from(4, 5))}, true},
		"never set":                        {[]*ir.Block{block(from(4, 5))}, false},
		"set after":                        {[]*ir.Block{block(from(4, 5), set(4))}, false},
		"set by another definition":        {[]*ir.Block{block(set(4)), block(from(4, 5))}, false},
		"set by another else branch":       {[]*ir.Block{block(blocks(block(set(4)), block(from(4, 5))))}, false},
		"asked, left by a definition":      {[]*ir.Block{block(set(4)), block(defined(4))}, false},
		"reset":                            {[]*ir.Block{block(set(4), reset(4), from(4, 5))}, false},
		"asked after a reset":              {[]*ir.Block{block(reset(4), blocks(block(maybe, set(4))), defined(4), from(4, 5))}, true},
		"perhaps set in a block":           {[]*ir.Block{block(reset(4), blocks(block(maybe, set(4))), from(4, 5))}, false},
		"set in a block for sure":          {[]*ir.Block{block(set(9), blocks(block(set(4), maybe)), from(4, 5))}, true},
		"broken out of before":             {[]*ir.Block{block(set(9), blocks(block(blocks(block(&ir.BreakStmt{Index: 1})), set(4))), from(4, 5))}, false},
		"set on all ways":                  {[]*ir.Block{block(set(9), blocks(block(blocks(block(maybe, set(4), &ir.BreakStmt{Index: 1})), set(4))), from(4, 5))}, true},
		"set in a loop":                    {[]*ir.Block{block(scan(set(4)), from(4, 5))}, false},
		"set in the turn":                  {[]*ir.Block{block(scan(set(4), from(4, 5)))}, true},
		"set in the turn before":           {[]*ir.Block{block(set(4), scan(from(4, 5), set(4)))}, false},
		"key and value":                    {[]*ir.Block{block(scan(from(10, 4), from(11, 5)))}, true},
		"key after the loop":               {[]*ir.Block{block(scan(set(4)), from(10, 5))}, false},
		"asked, left by the turn before":   {[]*ir.Block{block(reset(4), scan(blocks(block(maybe, set(4))), defined(4)))}, false},
		"asked, reset in the turn":         {[]*ir.Block{block(scan(reset(4), blocks(block(maybe, set(4))), defined(4)))}, true},
		"asked after the loop":             {[]*ir.Block{block(reset(4), scan(maybe, set(4)), defined(4))}, true},
		"set in a negation":                {[]*ir.Block{block(not(set(4), maybe), from(4, 5))}, false},
		"set in a with":                    {[]*ir.Block{block(with(set(4), maybe, from(4, 5)))}, true},
		"read in an unset array":           {[]*ir.Block{block(&ir.ArrayAppendStmt{Array: 4, Value: localOf(0)})}, false},
		"result of a call that says none":  {[]*ir.Block{block(&ir.CallStmt{Func: "print", Args: nil, Result: 4}, from(4, 5))}, false},
		"value of a definition, not reset": {[]*ir.Block{block(&ir.AssignVarOnceStmt{Source: localOf(0), Target: 3})}, false},
		"value of a definition": {[]*ir.Block{
			block(reset(3), scan(&ir.AssignVarOnceStmt{Source: localOf(0), Target: 3})),
			block(defined(3), &ir.AssignVarOnceStmt{Source: localOf(3), Target: 2}), block(&ir.ReturnLocalStmt{Source: 2}),
		}, true},
	} {
		comp := &compilation{p: &Program{}}
		err := comp.judgeLocals("f", c.blocks, []ir.Local{0, 1}, 2)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSizeIsRefusedBeforePlanning: a literal on which the planner would take very
// long is refused where nothing can be planned, for its size and not for that.
func TestSizeIsRefusedBeforePlanning(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("compiles 200,000 terms")
	}
	list := func(n int) string {
		l := make([]string, n)
		for i := range l {
			l[i] = strconv.Itoa(i)
		}
		return strings.Join(l, ", ")
	}
	var many strings.Builder
	for i := range 15 {
		fmt.Fprintf(&many, "f%d(y) if y in [%s]\n\nallow if f%d(input.a)\n\n", i, list(9000), i)
	}
	for name, c := range map[string]struct {
		policy string
		ok     bool
	}{
		"small":             {"allow if input.a in [" + list(500) + "]\n", true},
		"large":             {"allow if input.a in [" + list(20_000) + "]\n", false},
		"large in a branch": {"allow if input.b else := true if input.a in [" + list(20_000) + "]\n", false},
		"large below":       {"allow if f(input.a)\n\nf(x) if x in {" + list(20_000) + "}\n", false},
		"many":              {many.String(), false},
		"large, not used":   {"allow if input.b\n\nf(x) if x in {" + list(20_000) + "}\n", true},
	} {
		s, err := newSubject([]string{"package p\n\n" + c.policy}, "true", ast.RegoV1, ast.CapabilitiesForThisVersion())
		if err != nil {
			t.Fatal(err)
		}
		o := Options{Compiler: s.compiler, Documents: []ast.Ref{ast.MustParseRef("data.p.allow")}}
		var none context.Context // on which the planner fails
		_, err = Compile(none, o)
		var r *RefusalError
		if !errors.As(err, &r) || c.ok != (r.At == nil) {
			t.Errorf("%s, not plannable: %v", name, err)
		}
		if !c.ok {
			continue
		}
		if _, err := Compile(t.Context(), o); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
