package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Outcome is what became of a mutant.
type Outcome string

// The outcomes. Only OutcomeKilled and OutcomeTimeout count as found; a mutant that
// does not compile is no mutant.
const (
	OutcomeKilled   Outcome = "killed"
	OutcomeTimeout  Outcome = "timeout"
	OutcomeSurvived Outcome = "SURVIVED"
	OutcomeUnrun    Outcome = "NOT REACHED"
	OutcomeInvalid  Outcome = "invalid"
)

// Mutant is one change of one place.
type Mutant struct {
	ID   int    `json:"id"`
	File string `json:"file"`
	Line int    `json:"line"`
	// From and To are the code before and after.
	From    string  `json:"from"`
	To      string  `json:"to"`
	Outcome Outcome `json:"outcome"`
	// By is the test binary that failed, with the first test that did.
	By string `json:"by,omitempty"`

	pkg *pkg
	// At offsets start and end of the file, prefix and suffix go in, in which the text
	// "$is" stands for the condition that the mutant is active.
	start, end     int
	prefix, suffix string
}

func (m *Mutant) String() string {
	return fmt.Sprintf("%s:%d: %s  =>  %s", m.File, m.Line, clip(m.From), clip(m.To))
}

func clip(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 90 {
		s = s[:87] + "..."
	}
	return s
}

// candidates are all mutants of files whose names match, in the order of the source.
func candidates(pkgs []*pkg, files *regexp.Regexp) []*Mutant {
	var all []*Mutant
	for _, p := range pkgs {
		for i := range p.files {
			f := &p.files[i]
			if !files.MatchString(filepath.Base(f.path)) {
				continue
			}
			c := collector{pkg: p, file: f}
			c.collect()
			slices.SortStableFunc(c.found, func(a, b *Mutant) int { return cmp.Compare(a.start, b.start) })
			all = append(all, c.found...)
		}
	}
	return all
}

// draw takes n of all, the same for the same seed, and numbers them from 1.
func draw(all []*Mutant, n int, seed uint64) []*Mutant {
	order := rand.New(rand.NewPCG(seed, 0)).Perm(len(all)) //nolint:gosec // a sample, no secret
	order = order[:min(n, len(order))]
	slices.Sort(order)
	sample := make([]*Mutant, len(order))
	for i, at := range order {
		sample[i] = all[at]
		sample[i].ID = i + 1
	}
	return sample
}

// collector finds the mutants of one file.
type collector struct {
	pkg   *pkg
	file  *file
	found []*Mutant
	// results are those of the function that is walked, outermost first.
	results []*types.Tuple
}

func (c *collector) collect() {
	for _, d := range c.file.syntax.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Body != nil {
				c.function(c.pkg.info.Defs[d.Name].Type(), d.Body)
			}
		case *ast.GenDecl:
			if d.Tok == token.VAR {
				c.walk(d)
			}
		}
	}
}

func (c *collector) function(t types.Type, body *ast.BlockStmt) {
	s, ok := t.(*types.Signature)
	if !ok {
		return
	}
	c.results = append(c.results, s.Results())
	c.walk(body)
	c.results = c.results[:len(c.results)-1]
}

func (c *collector) walk(root ast.Node) {
	ast.Inspect(root, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			c.function(c.pkg.info.Types[n].Type, n.Body)
			return false
		case *ast.BlockStmt:
			c.statements(n.List)
		case *ast.CaseClause:
			c.statements(n.Body)
		case *ast.CommClause:
			c.statements(n.Body)
		case *ast.ArrayType:
			return false // its length has to be constant
		case *ast.GenDecl:
			return n.Tok == token.VAR
		case *ast.IfStmt:
			c.condition(n.Cond)
		case *ast.ForStmt:
			c.condition(n.Cond)
		case *ast.BinaryExpr:
			c.binary(n)
		case *ast.UnaryExpr:
			if n.Op == token.NOT {
				c.boolean(n, c.text(n.X))
			}
		case *ast.Ident:
			c.truth(n)
		case *ast.BasicLit:
			c.literal(n)
		case *ast.ReturnStmt:
			c.returns(n)
		}
		return true
	})
}

// text is n as it is written, on one line.
func (c *collector) text(n ast.Node) string {
	start, end := c.span(n)
	s := string(c.file.text[start:end])
	if !strings.Contains(s, "\n") {
		return s
	}
	if strings.Contains(s, "//") || strings.Contains(s, "`") || strings.Contains(s, "func") {
		return "" // has no form on one line
	}
	return strings.Join(strings.Fields(s), " ")
}

func (c *collector) span(n ast.Node) (start, end int) {
	f := c.pkg.fset.File(n.Pos())
	return f.Offset(n.Pos()), f.Offset(n.End())
}

func (c *collector) add(n ast.Node, to, prefix, suffix string) {
	start, end := c.span(n)
	c.found = append(c.found, &Mutant{
		File: c.file.path, Line: c.pkg.fset.Position(n.Pos()).Line, From: string(c.file.text[start:end]), To: to,
		pkg: c.pkg, start: start, end: end, prefix: prefix, suffix: suffix,
	})
}

// boolean replaces a condition. Only one of both is evaluated.
func (c *collector) boolean(n ast.Expr, to string) {
	if to != "" && c.text(n) != "" {
		c.add(n, to, "($is && ("+to+") || !$is && (", "))")
	}
}

// value replaces an expression of a basic type.
func (c *collector) value(n ast.Expr, to string) {
	t := c.pkg.info.Types[n].Type
	if b, ok := t.(*types.Basic); ok && to != "" && b.Info()&types.IsUntyped == 0 {
		c.add(n, to, "func() "+b.Name()+" { if $is { return "+to+" }; return ", "}()")
	}
}

// statement puts one before another.
func (c *collector) statement(n ast.Stmt, to string) {
	c.add(n, to, "if $is { "+to+" }; ", "")
}

// condition negates what is no comparison of its own.
func (c *collector) condition(n ast.Expr) {
	switch e := n.(type) {
	case nil:
		return
	case *ast.UnaryExpr:
		return
	case *ast.BinaryExpr:
		if e.Op == token.EQL || e.Op == token.NEQ {
			return
		}
	}
	if text := c.text(n); text != "" {
		c.boolean(n, "!("+text+")")
	}
}

func (c *collector) binary(n *ast.BinaryExpr) {
	other := map[token.Token]string{
		token.EQL: "!=", token.NEQ: "==", token.LSS: "<=", token.LEQ: "<", token.GTR: ">=", token.GEQ: ">",
		token.ADD: "-", token.SUB: "+", token.MUL: "/", token.QUO: "*", token.REM: "*",
	}
	x, y := c.text(n.X), c.text(n.Y)
	if x == "" || y == "" || c.pkg.info.Types[n].Value != nil {
		return
	}
	switch n.Op { //nolint:exhaustive // the others are left as they are
	case token.LAND, token.LOR:
		c.boolean(n, x)
		c.boolean(n, y)
	case token.EQL, token.NEQ, token.LSS, token.LEQ, token.GTR, token.GEQ:
		c.boolean(n, x+" "+other[n.Op]+" "+y)
	case token.ADD, token.SUB, token.MUL, token.QUO, token.REM:
		if b, ok := c.pkg.info.Types[n].Type.(*types.Basic); ok && b.Info()&types.IsInteger != 0 {
			c.value(n, "("+x+") "+other[n.Op]+" ("+y+")")
		}
	}
}

// truth turns true into false.
func (c *collector) truth(n *ast.Ident) {
	switch c.pkg.info.Uses[n] {
	case types.Universe.Lookup("true"):
		c.value(n, "false")
	case types.Universe.Lookup("false"):
		c.value(n, "true")
	}
}

// literal adds one to a number.
func (c *collector) literal(n *ast.BasicLit) {
	if v := c.pkg.info.Types[n].Value; v != nil && v.Kind() == constant.Int {
		c.value(n, n.Value+" + 1")
	}
}

// returns forgets an error, or what is returned. Booleans are negated.
func (c *collector) returns(n *ast.ReturnStmt) {
	want := c.results[len(c.results)-1]
	if len(n.Results) != want.Len() {
		return
	}
	for i, e := range n.Results {
		to := zero(want.At(i).Type())
		if tv := c.pkg.info.Types[e]; to == "" || tv.IsNil() || tv.Value != nil {
			continue
		}
		if to == "false" {
			if _, isCall := e.(*ast.CallExpr); isCall && c.text(e) != "" {
				c.boolean(e, "!"+c.text(e))
			}
			continue
		}
		all := make([]string, len(n.Results))
		for k, r := range n.Results {
			all[k] = c.text(r)
		}
		all[i] = to
		if !slices.Contains(all, "") {
			c.statement(n, "return "+strings.Join(all, ", "))
		}
	}
}

// zero is how the zero value of t is written, empty for structs and arrays.
func zero(t types.Type) string {
	switch u := t.Underlying().(type) {
	case *types.Basic:
		switch {
		case u.Info()&types.IsBoolean != 0:
			return "false"
		case u.Info()&types.IsNumeric != 0:
			return "0"
		case u.Info()&types.IsString != 0:
			return `""`
		}
	case *types.Pointer, *types.Slice, *types.Map, *types.Interface, *types.Signature, *types.Chan:
		if _, generic := t.(*types.TypeParam); !generic {
			return "nil"
		}
	}
	return ""
}

// statements leaves out each that can be left out.
func (c *collector) statements(list []ast.Stmt) {
	for _, s := range list {
		switch s := s.(type) {
		case *ast.ExprStmt, *ast.IncDecStmt:
		case *ast.BranchStmt:
			if s.Tok != token.CONTINUE && s.Tok != token.BREAK {
				continue
			}
		case *ast.AssignStmt:
			if s.Tok == token.DEFINE {
				continue
			}
		default:
			continue
		}
		c.add(s, "", "if !$is { ", " }")
	}
}
