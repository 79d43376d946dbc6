package lint_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/authzd/authzd/engine/internal/lint"
)

// many is policy of n rules: permits of one tool each, a forbid for every tenth, and the
// helpers that policy has.
func many(n int) string {
	var b strings.Builder
	b.WriteString("package authz\n\nimport data.authzd.v1 as authzd\n\nargs := input.mcp.params.arguments\n\ncalls(tool) if {\n\tinput.action.name == \"tools/call\"\n\tinput.resource.id == tool\n}\n")
	for i := range n {
		if i%10 == 0 {
			fmt.Fprintf(&b, "\nforbid[\"f%d\"] := {} if {\n\tcalls(\"t%d\")\n\tobject.get(data.limits, [args.account, \"max\"], 0) < args.amount\n}\n", i, i)
			continue
		}
		fmt.Fprintf(&b, "\npermit[\"p%d\"] := {\"require\": [authzd.scopes([\"s%d\"]), authzd.authorization_details([{\"type\": \"t\", \"amount\": authzd.decimal(args.amount)}])]} if {\n\tcalls(\"t%d\")\n\tsome g in data.grants\n\tg.user == input.subject.id\n\tnot args.amount in data.blocked\n}\n", i, i, i)
	}
	return b.String()
}

// BenchmarkRun is what a push pays for the lint of so many rules, which has to grow as they
// do, and what OPA takes to parse and compile them.
func BenchmarkRun(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		b.Run("compile/"+strconv.Itoa(n), func(b *testing.B) {
			for b.Loop() {
				input(b, many(n), `{}`)
			}
		})
		b.Run("lint/"+strconv.Itoa(n), func(b *testing.B) {
			in := input(b, many(n), `{"authzd_tools": {"t1": {"arguments": {"type": "object"}}}}`)
			for b.Loop() {
				lint.Run(b.Context(), in)
			}
		})
	}
}
