package compiled

import (
	"bytes"
	"context"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"

	"github.com/authzd/authzd/rar"
)

// safety knows where plan and topdown could part. The decision is topdown's with
// strict builtin errors: where it evaluates what fails, the decision is a deny.
// So the plan may leave out only what cannot fail, and where topdown evaluates
// more than the plan, or the plan means something else, the policy is refused.
type safety struct {
	compiler *ast.Compiler
	data     rar.Value
	// enumerates: a reference goes through the names of rules or packages.
	enumerates bool
	// overlays: a with puts a document among rules.
	overlays bool
	// fallible remembers whether the rules at and below a node can fail: by a
	// conflict, or by an error of a builtin.
	fallible map[*ast.TreeNode]bool
}

// judge refuses policies on which topdown and the plan are known to differ.
func judge(ctx context.Context, compiler *ast.Compiler, policy *ir.Policy, query ast.Body, data rar.Value) (*safety, error) {
	s := &safety{compiler: compiler, data: data, fallible: map[*ast.TreeNode]bool{}}
	var err error
	ast.WalkTerms(query, func(t *ast.Term) bool {
		err = judgeNumber(t)
		return err != nil
	})
	if err != nil || policy.Funcs == nil {
		return s, err
	}
	seen := map[*ast.Rule]bool{}
	var all []*ast.Rule
	var found refusals
	for _, f := range policy.Funcs.Funcs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		rules := rulesBelow(compiler, functionRef(f))
		if len(rules) == 0 {
			return nil, refuse("no rules for the planned function %s", f.Name)
		}
		if err := found.add(s.judgeHeads(f, rules), rules); err != nil {
			return nil, err
		}
		for _, r := range rules {
			if !seen[r] {
				seen[r] = true
				all = append(all, r)
				if err := found.add(s.judgeRule(r), rules); err != nil {
					return nil, err
				}
			}
		}
	}
	if err := found.err(); err != nil {
		return nil, err
	}
	if err := s.judgePartials(all, query); err != nil {
		return nil, err
	}
	if s.enumerates && s.overlays {
		return nil, refuse("a with puts a document among rules that are enumerated")
	}
	return s, nil
}

// functionRef is the document that a planned function computes. The path begins
// with a generation, which differs inside of a with.
func functionRef(f *ir.Func) ast.Ref {
	ref := ast.DefaultRootRef.Copy()
	for i, s := range f.Path {
		if i > 0 {
			ref = append(ref, ast.StringTerm(s))
		}
	}
	return ref
}

// judgeHeads: of rules that together make an object, topdown finds a conflict
// where one defines what another defines a part of. The plan, which takes the
// longer ones first, does not always see it. And where all of them have constant
// keys, topdown reads a tree of documents, of which none is left out for being
// empty. Nor does topdown ask an else of such rules, unless its index has left out what
// stands before.
func (s *safety) judgeHeads(f *ir.Func, rules []*ast.Rule) error {
	object := false
	for _, r := range rules {
		object = object || len(r.Ref()) > len(f.Path)
	}
	if !object {
		return nil
	}
	if n := s.compiler.RuleTree.Find(functionRef(f)); n == nil || len(n.Values) == 0 {
		return refuse("%s is a tree of constant keys that are no strings", functionRef(f)).fix("use text for keys")
	}
	for _, r := range rules {
		if len(r.Ref()) != len(rules[0].Ref()) || r.Head.RuleKind() != rules[0].Head.RuleKind() {
			return refuseAt(r.Location, "%s is defined by rules of different shapes", functionRef(f)).fix("give all of them heads of one form, or two names")
		}
		if r.Else != nil {
			return refuseAt(r.Location, "%s is an object with an else", functionRef(f)).fix("put the else into a rule of its own, and read that")
		}
	}
	return nil
}

//nolint:gochecknoglobals // a constant
var nextVersion = ast.Ref{ast.VarTerm("rego"), ast.StringTerm("v2")}

func (s *safety) judgeRule(r *ast.Rule) error {
	for _, i := range r.Module.Imports {
		if ref, ok := i.Path.Value.(ast.Ref); ok && ref.Equal(nextVersion) {
			return refuseAt(i.Location, "Rego of another version").fix("leave out the import")
		}
	}
	for at := r; at != nil; at = at.Else {
		if err := judgeIndex(at); err != nil {
			return err
		}
	}
	var err error
	visit := func(x any) bool {
		if err != nil {
			return true
		}
		switch x := x.(type) {
		case *ast.Term:
			if err = s.judgeComprehension(x, r); err == nil {
				err = s.judgeRef(x)
			}
			if err == nil {
				err = judgeNumber(x)
			}
			if err == nil {
				err = judgeLiteral(x)
			}
		case *ast.Expr:
			if err = judgeNegation(x); err == nil {
				err = judgeTerm(x)
			}
			if err == nil {
				err = judgeForm(x)
			}
		case *ast.With:
			err = s.judgeWith(x)
		}
		return err != nil
	}
	ast.NewGenericVisitor(visit).Walk(r)
	return err
}

// judgeComprehension: topdown may evaluate a comprehension once for all values of
// the variables that it shares with its surroundings, also for those that never
// come up, and then fail where the plan does not. As these variables are unbound
// then, any call may fail. Only look-ups and equalities are safe. And it does not know the
// variables of an every around it, whose values it then takes all for one.
func (s *safety) judgeComprehension(t *ast.Term, r *ast.Rule) error {
	index := s.compiler.ComprehensionIndex(t)
	if index == nil {
		return nil
	}
	shared := sharedVars(t, r)
	for _, k := range index.Keys {
		if v, ok := k.Value.(ast.Var); ok {
			delete(shared, v)
		}
	}
	if len(shared) > 0 {
		return refuseAt(t.Location, "topdown evaluates this comprehension once for all values of %v", shared.Sorted())
	}
	var body ast.Body
	switch v := t.Value.(type) {
	case *ast.ArrayComprehension:
		body = v.Body
	case *ast.SetComprehension:
		body = v.Body
	}
	safe := len(body) > 0 && !s.fallibleTerm(t)
	for _, x := range body {
		_, isTerm := x.Terms.(*ast.Term)
		safe = safe && !x.Negated && (isTerm || x.IsEquality())
	}
	ast.NewGenericVisitor(func(x any) bool {
		if inner, ok := x.(*ast.Term); ok && inner != t && ast.IsComprehension(inner.Value) {
			safe = false
		}
		return !safe
	}).Walk(t)
	if !safe {
		return refuseAt(t.Location, "topdown evaluates this comprehension ahead, and it can fail")
	}
	return nil
}

// sharedVars are the variables of a term that come up elsewhere in its rule.
func sharedVars(t *ast.Term, r *ast.Rule) ast.VarSet {
	inside := ast.NewVarVisitor().WithParams(ast.VarVisitorParams{SkipRefCallHead: true})
	inside.Walk(t)
	shared := ast.NewVarSet()
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.Term:
			return x == t
		case ast.Var:
			if inside.Vars().Contains(x) && !ast.ReservedVars.Contains(x) {
				shared.Add(x)
			}
		}
		return false
	}).Walk(r)
	return shared
}

// judgeRef refuses references that go through the names of rules and of base
// documents alike: topdown takes the base documents first, the plan the rules.
func (s *safety) judgeRef(t *ast.Term) error {
	ref, ok := t.Value.(ast.Ref)
	if !ok || !ref.HasPrefix(ast.DefaultRootRef) {
		return nil
	}
	if s.mixes(s.compiler.RuleTree.Child(ref[0].Value), s.data, ref[1:]) {
		return refuseAt(t.Location, "%v goes through rules and base documents", source(t.Location, t)).fix("keep rules and data under names of their own")
	}
	return nil
}

func (s *safety) mixes(node *ast.TreeNode, base rar.Value, ref ast.Ref) bool {
	if node == nil || len(node.Values) > 0 || len(ref) == 0 {
		return false
	}
	if name, ok := ref[0].Value.(ast.String); ok {
		child, _ := base.Get(string(name))
		return s.mixes(node.Child(name), child, ref[1:])
	}
	if len(node.Children) == 0 {
		return false
	}
	s.enumerates = true
	if base.Len() > 0 {
		return true
	}
	for key, child := range node.Children {
		var below rar.Value
		if name, ok := key.(ast.String); ok {
			below, _ = base.Get(string(name))
		}
		if s.mixes(child, below, ref[1:]) {
			return true
		}
	}
	return false
}

// judgeNegation: the planner plans nothing for the equality of two composites
// that cannot be equal, and so a negation of it comes out wrong.
func judgeNegation(x *ast.Expr) error {
	if x.Negated && x.IsEquality() && len(x.Operands()) == 2 && composite(x.Operand(0)) && composite(x.Operand(1)) {
		return refuseAt(x.Location, "negated equality of composites").fix("write !=")
	}
	return nil
}

// judgeTerm: the planner plans nothing for an expression that is just a composite
// or a comprehension; topdown evaluates it.
func judgeTerm(x *ast.Expr) error {
	t, ok := x.Terms.(*ast.Term)
	if !ok {
		return nil
	}
	switch t.Value.(type) {
	case ast.Ref, ast.Var, ast.Null, ast.Boolean, ast.Number, ast.String:
		return nil
	}
	return refuseAt(x.Location, "an expression that is just a value").fix("leave it out, or compare it with something")
}

// judgeLiteral refuses objects and sets of several members whose keys are no
// constants. topdown reads such a literal before it knows whether keys are equal: in
// the order of its variables, both of two equal ones, and as a pattern all keys
// before any value.
func judgeLiteral(t *ast.Term) error {
	computed := false
	key := func(k *ast.Term) { computed = computed || !ast.IsConstant(k.Value) }
	n := 0
	switch v := t.Value.(type) {
	case ast.Object:
		n = v.Len()
		v.Foreach(func(k, _ *ast.Term) { key(k) })
	case ast.Set:
		n = v.Len()
		v.Foreach(key)
	}
	if n > 1 && computed {
		r := refuseAt(t.Location, "the keys of %v are computed", source(t.Location, t)).fix("write an array, or a comprehension")
		r.ComputedKeys = true
		return r
	}
	return nil
}

// judgeForm refuses what Rego's next version adds (not, and, or over blocks): the
// planner asks for what a block left in the turn of the loop before.
func judgeForm(x *ast.Expr) error {
	switch x.Terms.(type) {
	case *ast.Term, []*ast.Term, *ast.SomeDecl, *ast.Every:
		return nil
	}
	return refuseAt(x.Location, "an expression of another version of Rego")
}

const mockFix = "leave replacing functions to tests, and give what differs as an argument"

// judgeWith refuses replaced functions, which are for tests of policies: the
// planner loses count of them in nested rules, and can fail at it.
func (s *safety) judgeWith(w *ast.With) error {
	target, ok := w.Target.Value.(ast.Ref)
	if !ok || !target.HasPrefix(ast.DefaultRootRef) && !target.HasPrefix(ast.InputRootRef) {
		return refuseAt(w.Location, "with replaces the builtin %v", w.Target).fix(mockFix)
	}
	if above := s.compiler.RuleTree.Find(target[:len(target)-1]); above != nil && len(above.Children) > 0 && len(target) > 1 {
		s.overlays = true
	}
	node := s.compiler.RuleTree.Find(target)
	if node != nil && len(node.Children) > 0 {
		// topdown leaves an empty object in the place of each package.
		return refuseAt(w.Location, "with replaces %v, below which there are rules", w.Target)
	}
	for _, r := range s.compiler.GetRulesWithPrefix(target) {
		if len(r.Head.Args) > 0 {
			return refuseAt(w.Location, "with replaces the function %v", w.Target).fix(mockFix)
		}
	}
	return nil
}

const numberFix = "write it in digits, without an exponent and without zeros at its end"

// judgeNumber refuses constants that an evaluation would hand over.
func judgeNumber(t *ast.Term) error {
	if n, ok := t.Value.(ast.Number); ok && !usual(string(n)) {
		return refuseAt(t.Location, "the number %s is not written the usual way", n).fix(numberFix)
	}
	return nil
}

// source is x as it is written, as far as that is known and short.
func source(loc *ast.Location, x fmt.Stringer) string {
	if loc != nil && len(loc.Text) > 0 && len(loc.Text) <= 80 && !bytes.ContainsRune(loc.Text, '\n') {
		return string(loc.Text)
	}
	return x.String()
}

func composite(t *ast.Term) bool {
	switch t.Value.(type) {
	case *ast.Array, ast.Object:
		return true
	}
	return false
}

// judgeNot refuses a negation whose block ends in an iteration or in blocks: what
// follows them in the policy stands inside of them in the plan, so that the block
// holds whatever comes of it.
func judgeNot(s *ir.NotStmt) error {
	b := s.Block
	for {
		if len(b.Stmts) == 0 {
			return refuse("a negation with no statement of its own")
		}
		switch last := b.Stmts[len(b.Stmts)-1].(type) {
		case *ir.ScanStmt, *ir.BlockStmt:
			return refuse("a negation of an iteration")
		case *ir.WithStmt:
			b = last.Block
		default:
			return nil
		}
	}
}

// infallible tells whether no definition of a planned function, and nothing that
// it calls, can fail.
func (s *safety) infallible(f *ir.Func) bool {
	if len(f.Path) == 0 || f.Path[0] != "g0" { // planned inside of a with, with other functions
		return false
	}
	node := s.compiler.RuleTree.Find(functionRef(f))
	return node != nil && len(node.Values) > 0 && !s.fallibleNode(node)
}

func (s *safety) fallibleNode(n *ast.TreeNode) bool {
	if known, ok := s.fallible[n]; ok {
		return known
	}
	s.fallible[n] = true // while it is being found out
	out := s.fallibleRules(n.Values)
	for _, child := range n.Children {
		out = out || s.fallibleNode(child)
	}
	s.fallible[n] = out
	return out
}

func (s *safety) fallibleRules(rules []*ast.Rule) bool {
	var value *ast.Term // of all definitions that are not default
	definitions, uniform := 0, true
	for _, first := range rules {
		if !first.Default {
			definitions++
		}
		for r := first; r != nil; r = r.Else {
			if s.fallibleRule(r) {
				return true
			}
			if r.Default || r.Head.RuleKind() == ast.MultiValue {
				continue
			}
			uniform = uniform && (value == nil || value.Equal(r.Head.Value))
			value = r.Head.Value
		}
	}
	return definitions > 1 && !uniform
}

func (s *safety) fallibleRule(r *ast.Rule) bool {
	if !r.Ref().IsGround() {
		return true // objects have conflicts
	}
	for _, a := range r.Head.Args {
		if s.fallibleTerm(a) {
			return true
		}
	}
	if r.Head.RuleKind() == ast.MultiValue {
		return s.fallibleTerm(r.Head.Key) || s.fallibleBody(r.Body)
	}
	return !ast.IsScalar(r.Head.Value.Value) || s.fallibleBody(r.Body)
}

func (s *safety) fallibleBody(body ast.Body) bool {
	for _, x := range body {
		if s.fallibleExpr(x) {
			return true
		}
	}
	return false
}

func (s *safety) fallibleExpr(x *ast.Expr) bool {
	if len(x.With) > 0 {
		return true // other functions, other documents
	}
	switch t := x.Terms.(type) {
	case *ast.Term:
		return s.fallibleTerm(t)
	case *ast.SomeDecl:
		return false
	case *ast.Every:
		return s.fallibleTerm(t.Domain) || s.fallibleBody(t.Body)
	case []*ast.Term:
		return s.fallibleCall(t)
	}
	return true
}

func (s *safety) fallibleCall(terms []*ast.Term) bool {
	operator, ok := terms[0].Value.(ast.Ref)
	if !ok {
		return true
	}
	if operator.HasPrefix(ast.DefaultRootRef) {
		if s.fallibleRef(operator) {
			return true
		}
	} else if !infallibleBuiltin(operator.String()) {
		return true
	}
	for _, t := range terms[1:] {
		if s.fallibleTerm(t) {
			return true
		}
	}
	return false
}

// infallibleBuiltin: these take operands of any type.
func infallibleBuiltin(name string) bool {
	switch name {
	case "eq", "assign", "equal", "neq", "lt", "lte", "gt", "gte", "internal.member_2", "internal.member_3", "type_name",
		"is_array", "is_boolean", "is_null", "is_number", "is_object", "is_set", "is_string":
		return true
	}
	return false
}

func (s *safety) fallibleTerm(t *ast.Term) bool {
	if t == nil {
		return false
	}
	switch v := t.Value.(type) {
	case ast.Null, ast.Boolean, ast.Number, ast.String, ast.Var:
		return false
	case ast.Ref:
		return s.fallibleRef(v)
	case *ast.Array:
		return v.Until(s.fallibleTerm)
	case ast.Set:
		return v.Until(s.fallibleTerm)
	case ast.Object:
		return v.Until(func(k, x *ast.Term) bool { return s.fallibleTerm(k) || s.fallibleTerm(x) })
	case *ast.ArrayComprehension:
		return s.fallibleTerm(v.Term) || s.fallibleBody(v.Body)
	case *ast.SetComprehension:
		return s.fallibleTerm(v.Term) || s.fallibleBody(v.Body)
	}
	return true // an object comprehension has conflicts
}

// fallibleRef tells whether reading a reference evaluates rules that can fail.
func (s *safety) fallibleRef(ref ast.Ref) bool {
	for _, t := range ref[1:] {
		if s.fallibleTerm(t) {
			return true
		}
	}
	if !ref.HasPrefix(ast.DefaultRootRef) {
		return false
	}
	node := s.compiler.RuleTree.Child(ref[0].Value)
	for _, t := range ref[1:] {
		if node == nil {
			return false // base documents
		}
		if len(node.Values) > 0 || !t.IsGround() {
			break
		}
		node = node.Child(t.Value)
	}
	return node != nil && s.fallibleNode(node)
}
