package compiled

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestOutcomes: what an evaluation keeps of rules is told by path, of the input that
// it began with.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	const policy = `package t

allow if {
	low
	few == []
	f(2)
	not high with input.n as 0
	unread
}

low if input.n < 3

high if input.n > 5

few := [] if input.n

none contains x if some x in input.list

unread if input.n

f(n) if n > count(none)

deny := no if input.n > 9

no := false
`
	x := newExample(t, "outcomes", policy, map[string]any{}, Passes{})
	for _, c := range []struct{ input, want string }{
		{`{"n": 1, "list": []}`, "allow true, deny undefined, few empty, low true, none empty"},
		{`{"n": 9, "list": [1]}`, "allow undefined, deny undefined, low undefined"},
		{`{"n": 10, "list": [1]}`, "allow undefined, deny false, low undefined, no false"},
		{`{"n": "x"}`, "allow undefined, deny false, low undefined, no false"}, // OPA orders all values
		{`{"n": 2, "list": [1, 2]}`, "allow undefined, deny undefined, few empty, low true, none defined"},
	} {
		in := x.program.NewInput()
		if _, err := in.Eval(t.Context(), in.JSON(mustJSON(t, c.input)), x.subject.now, nil); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, o := range in.Outcomes() {
			if o.Path[0] != "t" || len(o.Path) != 2 {
				t.Errorf("path %q", o.Path)
			}
			got = append(got, o.Path[1]+" "+string(o.Held))
		}
		if diff := cmp.Diff(c.want, strings.Join(got, ", ")); diff != "" {
			t.Errorf("%s: %s", c.input, diff)
		}
		in.Release()
		if in.Outcomes() != nil {
			t.Error("outcomes of an input that was released")
		}
	}
	failing := newExample(t, "failing", "package t\n\nallow if {\n\th\n\tto_number(input.n) == 1\n}\n\nh if input.n\n", map[string]any{}, Passes{})
	in := failing.program.NewInput()
	defer in.Release()
	if _, err := in.Eval(t.Context(), in.JSON(mustJSON(t, `{"n": "x"}`)), x.subject.now, nil); err == nil || in.Outcomes() != nil {
		t.Errorf("outcomes of what was handed over: %v, %v", in.Outcomes(), err)
	}
}
