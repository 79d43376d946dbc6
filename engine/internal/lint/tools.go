package lint

import (
	"maps"
	"slices"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
)

// minGuess is how long a name must be for one that differs in two letters to be a slip.
const minGuess = 6

// unknownTools reports tools that a body asks for and no bundle declares. Without any
// declared tool, and where tools may be untyped, all come with the query.
func (l *linter) unknownTools(p *pins) {
	if len(l.tools) == 0 || l.in.UntypedTools {
		return
	}
	call := l.grants(l.rule) && (p.value("input.action.name", "tools/call") || p.value("input.mcp.method", "tools/call") || p.value("input.resource.type", "tool"))
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

// near is the one of names that differs least from name, in two letters at most; "" if
// there is none, or name is too short to tell.
func (l *linter) near(name string, names []string) string {
	best, at := "", 3
	for _, n := range names {
		if l.guesses--; l.guesses < 0 {
			return ""
		}
		if len(name) >= minGuess && max(len(n), len(name))-min(len(n), len(name)) < at {
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
