package contract

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
)

// checkDocuments judges by which rules the four documents of the entry point
// are made, whatever those say.
func (p *policy) checkDocuments(lax bool) []Finding {
	var found []Finding
	for _, doc := range documents() {
		path := p.documentPath(doc)
		for _, m := range p.matches(path) {
			if m.group.library {
				continue
			}
			for _, d := range m.group.defs {
				found = append(found, p.checkDefinition(doc, len(path), m.group, d, lax)...)
			}
		}
	}
	return found
}

func (p *policy) checkDefinition(doc string, depth int, g *group, d definition, lax bool) []Finding {
	finding := func(code string, severity Severity, format string, args ...any) []Finding {
		return []Finding{at(lineOf(d.rule), d.file, code, severity, g.name(p), fmt.Sprintf(format, args...))}
	}
	if !d.pkg.Equal(p.entry) {
		// package authz.permit, or a rule authz[x] of the package above: its rules
		// would be permits that nobody looking at package authz sees.
		return finding(CodeEntrypointShadowed, Error, "%s of the entry point may be defined only in package %s", doc, p.entry)
	}
	deeper := len(g.path) - depth
	if g.set {
		deeper++
	}
	named := doc == "permit" || doc == "forbid"
	if named && deeper > 1 && len(g.path) > depth {
		return finding(CodeDocumentInPieces, Error,
			"a %s is given whole: %s[NAME] := {…}. Of one put together from several rules, a part may be undefined", doc, doc)
	}
	if doc == "permit" && d.rule.Default && (deeper > 0 || !emptyObject(d.rule.Head.Value)) {
		return finding(CodeDefaultPermit, Error, "a default would permit when every rule is undefined, for a missing argument, too")
	}
	if doc == "allow" && d.rule.Default && !isConstFalse(d.rule.Head.Value) {
		return finding(CodeDefaultPermit, errorUnless(lax), "a default would allow when every rule is undefined, for a missing argument, too")
	}
	return nil
}

func errorUnless(lax bool) Severity {
	if lax {
		return Warning
	}
	return Error
}

func emptyObject(t *ast.Term) bool {
	if t == nil {
		return false
	}
	o, ok := t.Value.(ast.Object)
	return ok && o.Len() == 0
}

func isConstFalse(t *ast.Term) bool {
	if t == nil {
		return false
	}
	b, ok := t.Value.(ast.Boolean)
	return ok && !bool(b)
}
