package compiled

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/authzd/authzd/rar"
)

// TestRowsCost: a row of a large document costs steps by its length, and no more than
// what is made of it.
func TestRowsCost(t *testing.T) {
	t.Parallel()
	const rows, steps = 300, 6000
	var ids strings.Builder
	for i := range rows {
		fmt.Fprintf(&ids, `, "u%d"`, i)
	}
	input := `{"ids": [` + ids.String()[2:] + `]}`
	members := func(n int, value string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `, "u%d": %s`, i, value)
		}
		return "{" + b.String()[2:] + "}"
	}
	x := newExample(t, "rows", "package p\n\nallow if {\n\tsome id in input.ids\n\tdata.users[id].n == 999\n}\n", map[string]any{}, Passes{})
	for name, c := range map[string]struct {
		row  string
		over bool
	}{
		"short":                  {`{"n": 1, "text": "` + strings.Repeat("x", 100) + `"}`, false},
		"long":                   {`{"n": 1, "text": "` + strings.Repeat("x", 3000) + `"}`, true},
		"large, of many members": {members(fewMembers+1, `{"n": [1, 2, 3, 4, 5]}`), false},
		"large, of few members":  {`{"n": 1, "texts": ["` + strings.Repeat("x", 3000) + `", "` + strings.Repeat("x", 3000) + `"]}`, true},
		"large, of large ones":   {`{"n": 1, "kids": ` + members(fewMembers+1, `{"text": "`+strings.Repeat("x", 100)+`"}`) + `}`, true},
		"nothing":                {"null", false},
	} {
		data, err := rar.Packing{Above: 1}.Decode(`{"users": `+members(rows, c.row)+`}`, rar.Limits{MaxBytes: 1 << 30})
		if err != nil {
			t.Fatal(err)
		}
		p, err := Compile(t.Context(), Options{Compiler: x.subject.compiler, Documents: x.documents, Data: data, Limits: Limits{Steps: steps}})
		if err != nil {
			t.Fatal(err)
		}
		in := p.NewInput()
		results, err := in.Eval(t.Context(), in.JSON(mustJSON(t, input)), time.Now(), nil)
		var h *HandoverError
		switch {
		case c.over && (!errors.As(err, &h) || h.Reason != Budget):
			t.Errorf("%s: %v, %v", name, results, err)
		case !c.over && err != nil:
			t.Errorf("%s: %v", name, err)
		}
		in.Release()
	}
}
