package engine_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

const redataPolicy = `package authz

import data.authzd.v1 as authzd

permit["reader"] := {"require": [authzd.scopes(["read"])]} if {
	input.resource.id == "t"
	"reader" in data.users[input.subject.id].roles
}

permit["counted"] := {} if {
	input.resource.id == "t"
	count(data.owners) > 3
}

permit["each"] := {} if {
	input.resource.id == "t"
	some owner in data.owners
	owner == input.subject.id
}

forbid["blocked"] := {"message": data.why.text} if input.subject.id in data.lists.blocked
`

// redata is random data for redataPolicy, which now and then lacks something.
func redata(r *rand.Rand) string {
	var users []string
	for i := range r.IntN(6) {
		users = append(users, fmt.Sprintf(`"u%d": {"roles": ["all", %q]}`, i, []string{"reader", "writer"}[r.IntN(2)]))
	}
	list := func(most int) string {
		var out []string
		for range r.IntN(most) {
			out = append(out, fmt.Sprintf("%q", "u"+strconv.Itoa(r.IntN(6))))
		}
		return "[" + strings.Join(out, ",") + "]"
	}
	blocked := `"blocked": ` + list(3)
	if r.IntN(8) == 0 {
		blocked = []string{`"other": 1`, `"blocked": "u1"`, `"blocked": null`}[r.IntN(3)]
	}
	tool := `{"type": "object"}`
	if r.IntN(4) == 0 {
		tool = `{"type": "object", "properties": {"n": {"type": "integer"}}}`
	}
	return fmt.Sprintf(`{"authzd_tools": {"t": {"arguments": %s}}, "users": {%s}, "owners": %s, "lists": {%s}, "why": {"text": "w%d"}}`,
		tool, strings.Join(users, ","), list(6), blocked, r.IntN(3))
}

// TestWithData: a snapshot of other data is what Compile makes of it, or is refused
// with the same findings, and the first one is as before.
func TestWithData(t *testing.T) {
	t.Parallel()
	metadata := `{"contract": 1, "public_data": ["why"]}`
	refused, made := 0, 0
	seeds := uint64(20)
	if testing.Short() {
		seeds = 6
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 8)) //nolint:gosec // a test's
		first := bundle(t, redataPolicy, redata(r), metadata)
		live, _, err := engine.Compile(t.Context(), []engine.Bundle{first})
		if err != nil {
			continue
		}
		before := answers(t, live)
		for range 3 {
			next := bundle(t, redataPolicy, redata(r), metadata)
			next.Revision = "next"
			if r.IntN(2) == 0 {
				// Kept as text, of any size.
				if next.Data, err = (rar.Packing{Above: 1, Row: 1 + r.IntN(60)}).Decode(string(next.Data.AppendJSON(nil)), rar.Limits{}); err != nil {
					t.Fatal(err)
				}
			}
			want, wantFound, wantErr := engine.Compile(t.Context(), []engine.Bundle{next})
			got, gotFound, err := live.WithData(t.Context(), []engine.Bundle{next})
			if diff := cmp.Diff(fmt.Sprint(wantErr, withoutLint(wantFound)), fmt.Sprint(err, withoutLint(gotFound))); diff != "" {
				t.Fatal(diff)
			}
			if err != nil {
				refused++
				continue
			}
			made++
			if diff := cmp.Diff(answers(t, want), answers(t, got)); diff != "" {
				t.Fatalf("seed %d: %s", seed, diff)
			}
			if got.Policy().Revision != "next" {
				t.Error(got.Policy())
			}
			if diff := cmp.Diff(before, answers(t, live)); diff != "" {
				t.Fatal("the first one has changed:", diff)
			}
			if live = got; r.IntN(2) == 0 {
				newEngine(live).Prepare(live)
			}
			before = answers(t, live)
		}
	}
	if !testing.Short() && (made < 25 || refused < 3) {
		t.Errorf("%d made, %d refused", made, refused)
	}
}

// withoutLint leaves out what is only looked for when policy is compiled (ADR 0028).
func withoutLint(found []engine.Finding) []engine.Finding {
	return slices.DeleteFunc(slices.Clone(found), func(f engine.Finding) bool { return strings.HasPrefix(string(f.Code), "lint.") })
}

// answers are decisions of all subjects, in short, interpreted and compiled.
func answers(t testing.TB, s *engine.Snapshot) []string {
	t.Helper()
	var out []string
	for _, compiled := range []bool{false, true} {
		o := engine.Options{Now: testNow, Compiled: compiled}
		e := engine.New(o)
		if compiled {
			e.Prepare(s)
		}
		for i := range 7 {
			q := call(t, "t", `{"n": 1}`, credential(t, "c", claims(`"scope": "read"`)))
			q.Subject = &engine.Subject{Type: "identity", ID: "u" + strconv.Itoa(i)}
			d, err := e.DecideOn(t.Context(), s, q)
			var fault *engine.Error
			if err != nil && !errors.As(err, &fault) {
				t.Fatal(err)
			}
			out = append(out, fmt.Sprint(d.Allow, d.Reasons, d.Error, err))
		}
	}
	return out
}

// TestWithDataOfOtherPolicy: what differs in policy is compiled.
func TestWithDataOfOtherPolicy(t *testing.T) {
	t.Parallel()
	data := `{"authzd_tools": {"t": {"arguments": {"type": "object"}}}, "owners": []}`
	first := bundle(t, "package authz\n\npermit[\"a\"] := {} if input.subject.id == \"u1\"\n", data, `{"contract": 1}`)
	live, _, err := engine.Compile(t.Context(), []engine.Bundle{first})
	if err != nil {
		t.Fatal(err)
	}
	second := bundle(t, "package authz\n\npermit[\"a\"] := {} if input.subject.id == \"u2\"\n", data, `{"contract": 1}`)
	got, _, err := live.WithData(t.Context(), []engine.Bundle{second})
	if err != nil {
		t.Fatal(err)
	}
	want, _, err := engine.Compile(t.Context(), []engine.Bundle{second})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(answers(t, want), answers(t, got)); diff != "" {
		t.Error(diff)
	}
}

// TestWritableData: which paths of a manifest let data be changed, and which are refused.
func TestWritableData(t *testing.T) {
	t.Parallel()
	for list, want := range map[string][][]string{
		`[]`:                         {},
		`["lists/blocked", "users"]`: {{"lists", "blocked"}, {"users"}},
		`["data.lists.blocked"]`:     {{"lists", "blocked"}},
		`["/lists/a.b/"]`:            {{"lists", "a.b"}},
		`[""]`:                       nil,
		`["/"]`:                      nil,
		`["lists//a"]`:               nil,
		`["authzd_tools"]`:           nil,
		`["authzd_types/payment"]`:   nil,
		`["system"]`:                 nil,
		`["authzd.v1"]`:              nil,
		`["lists", 1]`:               nil,
		`"lists"`:                    nil,
	} {
		b := bundle(t, "package authz\n\npermit[\"a\"] := {}\n", `{}`, `{"contract": 1, "untyped_tools": true, "writable_data": `+list+`}`)
		got := b.WritableData()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", list, diff)
		}
		if _, _, err := engine.Compile(t.Context(), []engine.Bundle{b}); (err != nil) != (want == nil) {
			t.Errorf("%s: %v", list, err)
		}
	}
}
