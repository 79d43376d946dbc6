package lint

import (
	"maps"
	"slices"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
)

// unknownTools reports tools that a body asks for and no bundle declares. Without any
// declared tool, and where tools may be untyped, all come with the query.
func (l *linter) unknownTools(p *pins) {
	if len(l.tools) == 0 || l.in.UntypedTools {
		return
	}
	call := false
	for path, want := range map[string]string{"input.action.name": "tools/call", "input.mcp.method": "tools/call", "input.resource.type": "tool"} {
		switch {
		case p.value(path, want):
			call = true
		case p.byText[path] != nil:
			return // something else is meant, or may be
		}
	}
	call = call && l.grants(l.rule)
	for _, pin := range p.order {
		switch pin.ref.String() {
		case "input.resource.id", "input.mcp.params.name":
		default:
			continue
		}
		for _, v := range pin.values {
			if name, ok := v.Value.(ast.String); ok {
				l.unknownTool(string(name), pin.loc, call)
			}
		}
	}
}

// unknownTool reports one. Where it is not said that a tool is meant, or nothing is granted,
// only what reads like the slip of a pen: to forbid what is not declared does no harm.
func (l *linter) unknownTool(name string, loc *ast.Location, call bool) {
	if _, ok := l.tools[name]; ok {
		return
	}
	if !l.spend(8 * len(l.tools)) {
		return
	}
	guess := l.near(name, slices.Sorted(maps.Keys(l.tools)))
	if guess == "" && !call {
		return
	}
	fix := "declare it in authzd_tools/" + name + "/data.json"
	if guess != "" {
		fix += ", or write " + strconv.Quote(guess)
	}
	f := l.add(CodeUnknownTool, loc, "tool "+strconv.Quote(name)+" is not declared: a call of it is denied, or held to a schema that its caller brings", fix)
	f.FailsOpen = l.forbids(l.rule)
}

// near is the one of names that differs least from name, by one letter of four and by two at
// most; "" if there is none.
func (l *linter) near(name string, names []string) string {
	best, at := "", min(3, len(name)/4+1)
	for _, n := range names {
		if l.guesses--; l.guesses < 0 {
			return ""
		}
		if max(len(n), len(name)) > maxGuessed {
			continue
		}
		if max(len(n), len(name))-min(len(n), len(name)) < at {
			if d := distance(name, n); d < at {
				best, at = n, d
			}
		}
	}
	return best
}

// distance is how many bytes have to be put in, left out or replaced.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := before
			if a[i] != b[j] {
				d = 1 + min(before, row[j], row[j+1])
			}
			before, row[j+1] = row[j+1], d
		}
	}
	return row[len(b)]
}
