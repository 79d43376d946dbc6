package compiled

import "github.com/open-policy-agent/opa/v1/ir"

// fold compiles the making of a constant composite, which begins at stmts[0], to
// nothing but the use of one shared node. n is how many statements it takes, 0 if
// there is none.
func (c *compilation) fold(stmts []ir.Stmt) int {
	return 0
}
