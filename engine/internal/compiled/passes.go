package compiled

import "github.com/open-policy-agent/opa/v1/ir"

// earlyExit marks the assignments after which a function's value is settled:
// where every definition of a complete rule has one and the same constant value
// and none can fail, the first that holds decides.
type earlyExit struct {
	result ir.Local
	at     map[*ir.AssignVarOnceStmt]bool
}

func findEarlyExit(f *ir.Func) *earlyExit {
	value := ir.Local(-1) // the local that definitions assign to, and the function's result from
	uniform := true
	var once []*ir.AssignVarOnceStmt
	walk(f.Blocks, func(s ir.Stmt) {
		a, ok := s.(*ir.AssignVarOnceStmt)
		if !ok {
			return
		}
		if a.Target != f.Return {
			once = append(once, a)
			return
		}
		if l, ok := a.Source.Value.(ir.Local); ok {
			uniform = uniform && (value < 0 || l == value)
			value = l
		}
	})
	if !uniform || value < 0 || len(once) == 0 {
		return nil
	}
	e := &earlyExit{result: f.Return, at: map[*ir.AssignVarOnceStmt]bool{}}
	for _, a := range once {
		if a.Target != value || a.Source.Value != once[0].Source.Value {
			return nil
		}
		switch a.Source.Value.(type) {
		case ir.Bool, ir.StringIndex:
		default:
			return nil
		}
		e.at[a] = true
	}
	return e
}

// inner are the blocks inside of a statement.
func inner(s ir.Stmt) []*ir.Block {
	switch s := s.(type) {
	case *ir.BlockStmt:
		return s.Blocks
	case *ir.ScanStmt:
		return []*ir.Block{s.Block}
	case *ir.NotStmt:
		return []*ir.Block{s.Block}
	case *ir.WithStmt:
		return []*ir.Block{s.Block}
	}
	return nil
}

// walk visits every statement, outer ones first.
func walk(blocks []*ir.Block, f func(ir.Stmt)) {
	for _, b := range blocks {
		for _, s := range b.Stmts {
			f(s)
			walk(inner(s), f)
		}
	}
}

// reads counts the reads of each local; what a statement changes in place (a set
// that is added to) counts as read.
func reads(s ir.Stmt, n map[ir.Local]int) {
	operands := func(list ...ir.Operand) {
		for _, o := range list {
			if l, ok := o.Value.(ir.Local); ok {
				n[l]++
			}
		}
	}
	switch s := s.(type) {
	case *ir.ReturnLocalStmt:
		n[s.Source]++
	case *ir.CallStmt:
		operands(s.Args...)
	case *ir.CallDynamicStmt:
		operands(s.Path...)
		for _, l := range s.Args {
			n[l]++
		}
	case *ir.DotStmt:
		operands(s.Source, s.Key)
	case *ir.LenStmt:
		operands(s.Source)
	case *ir.ScanStmt:
		n[s.Source]++
	case *ir.AssignVarStmt:
		operands(s.Source)
	case *ir.AssignVarOnceStmt:
		operands(s.Source)
		n[s.Target]++
	case *ir.EqualStmt:
		operands(s.A, s.B)
	case *ir.NotEqualStmt:
		operands(s.A, s.B)
	case *ir.IsArrayStmt:
		operands(s.Source)
	case *ir.IsObjectStmt:
		operands(s.Source)
	case *ir.IsSetStmt:
		operands(s.Source)
	case *ir.IsDefinedStmt:
		n[s.Source]++
	case *ir.IsUndefinedStmt:
		n[s.Source]++
	default:
		readsOfBuilding(s, n, operands)
	}
}

func readsOfBuilding(s ir.Stmt, n map[ir.Local]int, operands func(...ir.Operand)) {
	switch s := s.(type) {
	case *ir.ArrayAppendStmt:
		operands(s.Value)
		n[s.Array]++
	case *ir.ObjectInsertStmt:
		operands(s.Key, s.Value)
		n[s.Object]++
	case *ir.ObjectInsertOnceStmt:
		operands(s.Key, s.Value)
		n[s.Object]++
	case *ir.ObjectMergeStmt:
		n[s.A]++
		n[s.B]++
	case *ir.SetAddStmt:
		operands(s.Value)
		n[s.Set]++
	case *ir.WithStmt:
		operands(s.Value)
		n[s.Local]++
	case *ir.ResultSetAddStmt:
		n[s.Value]++
	}
}

// changes counts the statements that change the value of each local in place.
func changes(s ir.Stmt, n map[ir.Local]int) {
	switch s := s.(type) {
	case *ir.ArrayAppendStmt:
		n[s.Array]++
	case *ir.SetAddStmt:
		n[s.Set]++
	case *ir.ObjectInsertStmt:
		n[s.Object]++
	case *ir.ObjectInsertOnceStmt:
		n[s.Object]++
	}
}

// writes counts the statements that set each local, not those that change its
// value in place.
func writes(s ir.Stmt, n map[ir.Local]int) {
	switch s := s.(type) {
	case *ir.CallStmt:
		n[s.Result]++
	case *ir.CallDynamicStmt:
		n[s.Result]++
	case *ir.DotStmt:
		n[s.Target]++
	case *ir.LenStmt:
		n[s.Target]++
	case *ir.ScanStmt:
		n[s.Key]++
		n[s.Value]++
	case *ir.AssignVarStmt:
		n[s.Target]++
	case *ir.AssignVarOnceStmt:
		n[s.Target]++
	case *ir.AssignIntStmt:
		n[s.Target]++
	case *ir.MakeNumberIntStmt:
		n[s.Target]++
	case *ir.MakeNumberRefStmt:
		n[s.Target]++
	case *ir.MakeNullStmt:
		n[s.Target]++
	case *ir.MakeArrayStmt:
		n[s.Target]++
	case *ir.MakeObjectStmt:
		n[s.Target]++
	case *ir.MakeSetStmt:
		n[s.Target]++
	case *ir.ResetLocalStmt:
		n[s.Target]++
	case *ir.ObjectMergeStmt:
		n[s.Target]++
	case *ir.WithStmt:
		n[s.Local]++
	}
}
