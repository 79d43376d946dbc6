package engine

import (
	"math"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/rar"
)

// TestReadWhole: documents are made ready for rules that a decision reaches alone.
func TestReadWhole(t *testing.T) {
	t.Parallel()
	modules := map[string]*ast.Module{}
	for name, text := range map[string]string{
		"a.rego": `package authz

permit["a"] := {} if helper(input.x)

forbid["b"] := {} if {
	input.subject.id in data.lists.blocked
	data.users[input.subject.id].level > 1
	some x in data.lists.iterated
	x == input.x
}

helper(x) if other.deep[x]

unused if count(data.lists.unused) > 1
`,
		"b.rego": `package other

deep[x] if {
	some x in input.list
	x in data.lists.deep
	complete == 2
}

complete := 1 if {
	"a" in data.lists.first
} else := 2 if {
	"a" in data.lists.otherwise
}

alone if count(data.lists.alone) > 1
`,
	} {
		text = strings.Replace(text, "package authz\n", "package authz\n\nimport data.other\n", 1)
		m, err := ast.ParseModuleWithOpts(name, text, ast.ParserOptions{RegoVersion: ast.RegoV1})
		if err != nil {
			t.Fatal(err)
		}
		modules[name] = m
	}
	c := ast.NewCompiler()
	if c.Compile(modules); c.Failed() {
		t.Fatal(c.Errors)
	}
	e, err := newTopdown(t.Context(), c, packageRef("authz"), rar.ObjectValue(), lookUps{})
	if err != nil {
		t.Fatal(err)
	}
	var lists []string
	for _, path := range e.readWhole() {
		if path[0] == "lists" {
			lists = append(lists, path[1])
		}
	}
	if want := []string{"blocked", "deep", "first", "otherwise"}; !slices.Equal(lists, want) {
		t.Errorf("%v, not %v", lists, want)
	}
}

// TestKeptText: AST of data takes no more than memory allows.
func TestKeptText(t *testing.T) { // it changes the limit: alone
	old := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(old)
	for limit, want := range map[int64]int64{math.MaxInt64: 64 << 20, 64 << 30: 64 << 20, 1 << 30: 16 << 20, 64 << 20: 1 << 20} {
		debug.SetMemoryLimit(limit)
		if got := keptText(); got != want {
			t.Errorf("%d: %d", limit, got)
		}
		if debug.SetMemoryLimit(-1) != limit {
			t.Error("the limit changed")
		}
	}
}
