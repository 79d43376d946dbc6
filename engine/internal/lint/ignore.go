package lint

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

const (
	ignorePrefix = "lint:ignore"
	ignoreForm   = "# lint:ignore RULE REASON"
)

// ignore is a comment that says why a finding is none. It is about the line that it stands
// in, or, on a line of its own, about the next line that is no comment.
type ignore struct {
	loc  *ast.Location
	code string
	row  int
	used bool
}

// kept leaves out what comments say is meant, and adds what is wrong with the comments.
func (l *linter) kept(found []Finding) []Finding {
	ignores := map[string][]*ignore{}
	var out []Finding
	for file, m := range l.in.Compiler.Modules {
		if !l.in.IsLibrary(file) {
			list, faults := ignoresOf(m)
			ignores[file] = list
			out = append(out, faults...)
		}
	}
	for _, f := range found {
		if !slices.ContainsFunc(ignores[f.File], func(i *ignore) bool {
			hit := i.code == f.Code && i.row == f.Row
			i.used = i.used || hit
			return hit
		}) {
			out = append(out, f)
		}
	}
	for _, list := range ignores {
		for _, i := range list {
			if !i.used {
				out = append(out, badIgnore(i.loc, strings.TrimPrefix(i.code, codePrefix)+" is not found here: there is nothing to ignore", "remove the comment"))
			}
		}
	}
	return out
}

func badIgnore(loc *ast.Location, message, fix string) Finding {
	return Finding{Code: CodeBadIgnore, File: loc.File, Row: loc.Row, Col: loc.Col, Message: message, Fix: fix}
}

func ignoresOf(m *ast.Module) (list []*ignore, faults []Finding) {
	comments := map[int]bool{}
	var code map[int]bool
	for _, c := range m.Comments {
		comments[c.Location.Row] = true
	}
	for _, c := range m.Comments {
		text, ok := strings.CutPrefix(strings.TrimSpace(string(c.Text)), ignorePrefix)
		if !ok {
			continue
		}
		words := strings.Fields(text)
		switch {
		case len(words) == 0 || !slices.ContainsFunc(Codes(), func(x Code) bool { return x.Name == codePrefix+words[0] && x.Name != CodeBadIgnore }):
			faults = append(faults, badIgnore(c.Location, "this comment names no rule of the lint, and ignores nothing", "write "+ignoreForm))
		case len(words) == 1:
			faults = append(faults, badIgnore(c.Location, "this comment gives no reason, and ignores nothing", "write "+ignoreForm))
		default:
			row := c.Location.Row
			if code == nil {
				code = codeRows(m)
			}
			for comments[row] && !code[row] {
				row++
			}
			list = append(list, &ignore{loc: c.Location, code: codePrefix + words[0], row: row})
		}
	}
	return list, faults
}

// codeRows are the lines in which anything but a comment stands.
func codeRows(m *ast.Module) map[int]bool {
	rows := map[int]bool{}
	note := func(loc *ast.Location) {
		if loc != nil {
			rows[loc.Row] = true
		}
	}
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.Rule:
			note(x.Location)
		case *ast.Head:
			note(x.Location)
		case *ast.Expr:
			note(x.Location)
		case *ast.Term:
			note(x.Location)
		}
		return false
	}).Walk(m)
	return rows
}
