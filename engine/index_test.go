package engine_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

const declaredIndexes = `"authzd_indexes": {"grants": ["user", "team"], "org/teams": ["id"]}, `

// indexedData is random data with arrays or objects of rows, some of them odd.
func indexedData(r *rand.Rand) string {
	value := func() string {
		return []string{
			`"u0"`, `"u1"`, `"u2"`, `"u3"`, `"u0"`, `"u1"`, `""`, `"s"`, `"o"`, `"1"`, `"A"`, `1`, `1.0`, `1e0`, `2`, `null`, `true`, `false`, `[]`, `["u0"]`, `{}`, `{"id": "u0"}`,
		}[r.IntN(22)]
	}
	row := func(member string) string {
		switch r.IntN(12) {
		case 0:
			return value()
		case 1:
			return `{"role": "x", "n": 1}`
		case 2:
			return `[{"` + member + `": "u0"}, "u1"]`
		}
		return fmt.Sprintf(`{%q: %s, "team": %s, "role": %q, "n": %s, "off": %v, "pad": %q}`, member, value(), value(),
			[]string{"x", "y", "Z"}[r.IntN(3)], []string{"1", "2", "0", `"q"`}[min(r.IntN(30), 3)], r.IntN(3) == 0, strings.Repeat("p", r.IntN(60)))
	}
	rows := func(member string) string {
		var out []string
		object := r.IntN(2) == 0
		for i := range []int{0, 1, 3, 12, 40}[r.IntN(5)] {
			text := row(member)
			if object {
				text = strconv.Quote([]string{"u", "k", ""}[r.IntN(3)]+strconv.Itoa(i)) + ": " + text
			}
			out = append(out, text)
		}
		if object {
			return "{" + strings.Join(out, ",") + "}"
		}
		return "[" + strings.Join(out, ",") + "]"
	}
	return `"authzd_tools": {"t": {"arguments": {"type": "object"}}}, "users": ["u0", ` + value() + `], "other": [1, "u0"], "settings": {"user": ` + value() + `}, "grants": ` + rows("user") + `, "org": {"teams": ` + rows("id") + `, "x": 1}`
}

// indexedBody is a random body of a rule, of those that are looked up and others.
func indexedBody(r *rand.Rand) string {
	term := func() string {
		return []string{
			`input.subject.id`, `input.context.v`, `input.context.v`, `input.context.v`, `input.context.missing`, `"u0"`, `"1"`, `1`, `1.0`, `null`, `true`, `uid`, `ctx`, `data.settings.user`,
		}[r.IntN(14)]
	}
	more := []string{
		`g.role == "x"`, `not g.off`, `upper(g.role) == "X"`, `g.n == 1`, `1 / g.n > 0`, `g.team == "u1"`, `g.role in ["x", "y"]`, `is_call`, `g.user != "u1"`, `loud == "U0"`,
		`count([1 | some x in data.other; x == g.user]) == 0`,
	}
	pick := func() string { return more[r.IntN(len(more))] }
	any := func(forms ...string) string { return forms[r.IntN(len(forms))] }
	switch r.IntN(22) {
	case 0, 1:
		return any(`some g in data.grants`, `g := data.grants[_]`, `some i, g in data.grants`, `g = data.grants[_]`) + "; g.user == " + term() + "; " + pick()
	case 2:
		return any(`some g in data.grants`, `g := data.grants[_]`) + "; " + term() + " == g.user; " + pick() + "; " + pick()
	case 3:
		return `data.grants[i].user == ` + term() + `; data.grants[i].role == "x"`
	case 4:
		return `some i; data.grants[i].user == ` + term() + `; not data.grants[i].off`
	case 5:
		return "some g in data.grants; " + pick() + "; g.user == " + term()
	case 6:
		return "some i, g in data.grants; g.user == " + term() + any(`; i != 1`, `; i == "u1"`, `; i`, `; i > 1`)
	case 7:
		return "some g in data.grants; g.user == " + term() + "; some t in data.org.teams; t.id == g.team; " + pick()
	case 8:
		return "some g in data.grants; some t in data.org.teams; t.id == g.team; g.user == " + term()
	case 9:
		return "count(" + any("[g | ", "[g.role | ", "[1 | ") + "some g in data.grants; g.user == " + term() + "]) > 1"
	case 10:
		return "u := " + term() + "; x := [g.role | some g in data.grants; g.user == u]; count(x) > 1; x[0] == " + any(`"x"`, `"y"`)
	case 11:
		return "u := " + term() + "; x := [upper(g.role) | some g in data.grants; g.user == u]; count(x) > 0"
	case 12:
		return "some u in data.users; x := {g | some g in data.grants; g.user == u; g.role == \"x\"}; count(x) > 0"
	case 13:
		return "x := {g.role: g.n | some g in data.grants; g.user == " + term() + "}; x.x == 1"
	case 14:
		return "every g in data.grants { g.user == " + term() + " }"
	case 15:
		return "not has_grant"
	case 16:
		return "has(" + term() + ")"
	case 17:
		return "some g in data.grants; g.user == g.team"
	case 18:
		return "some g in data.grants; g.user == " + term() + "; g.team == " + term()
	case 19:
		return "some i; data.org.teams[i].id == " + term() + "; data.grants[i].user == " + term()
	case 20:
		return "some u in data.users; some g in data.grants; g.user == u; " + pick()
	}
	return "some {\"user\": u, \"role\": \"x\"} in data.grants; u == " + term()
}

func indexedPolicy(r *rand.Rand) string {
	var b strings.Builder
	b.WriteString(`package authz

uid := input.subject.id

ctx := input.context.v

is_call if input.action.name == "tools/call"

loud := upper(input.subject.id)
`)
	text := func() string { return indexedBody(r) }
	fmt.Fprintf(&b, "\nhas_grant if { some g in data.grants; g.user == %s; g.role == \"x\" }\n", []string{"input.subject.id", "ctx", `"u0"`}[r.IntN(3)])
	b.WriteString("\nhas(u) if { some g in data.grants; g.user == u; not g.off }\n")
	fmt.Fprintf(&b, "\npermit[\"a\"] := {} if { %s }\n", text())
	fmt.Fprintf(&b, "\npermit[\"b\"] := {\"priority\": 200} if { %s }\n", text())
	fmt.Fprintf(&b, "\npick := 3 if { %s } else := 5 if { %s }\n", text(), text())
	b.WriteString("\npermit[\"c\"] := {\"priority\": pick} if { pick > 1 }\n")
	fmt.Fprintf(&b, "\npermit[k] := {\"priority\": 300} if { some g in data.grants; g.user == input.context.v; k := g.role }\n")
	fmt.Fprintf(&b, "\nforbid[\"d\"] := {} if { input.context.f == 1; %s }\n", text())
	return b.String()
}

// outcome is all that is the same of a decision, however it was made. What a fault says may
// name a line.
func outcome(t testing.TB, e *engine.Engine, s *engine.Snapshot, q *engine.Query) string {
	t.Helper()
	d, err := e.DecideOn(t.Context(), s, q)
	var fault *engine.Error
	if err != nil && !errors.As(err, &fault) {
		t.Fatal(err)
	}
	code := ""
	if d.Error != nil {
		code = string(d.Error.Code) + " " + d.Error.Message
	}
	return fmt.Sprint(d.Allow, d.Rule, d.Reasons, code, err)
}

// TestIndexOracle: an index that is declared changes no decision, and none comes out
// otherwise after data has changed.
func TestIndexOracle(t *testing.T) {
	t.Parallel()
	compared, looked, allowed, failed, refused := 0, 0, 0, 0, 0
	metadata := `{"contract": 1, "untyped_tools": true, "lax_forbids": true}`
	interpreted := engine.New(engine.Options{Now: testNow, Budget: time.Minute})
	compiled := engine.New(engine.Options{Now: testNow, Compiled: true, Budget: time.Minute})
	policies := 170
	if testing.Short() {
		policies = 30
	}
	first, _ := strconv.ParseUint(os.Getenv("INDEX_SEED"), 10, 64)
	for seed := range uint64(policies) {
		seed += first                          //nolint:gosec // not negative
		r := rand.New(rand.NewPCG(seed, 2026)) //nolint:gosec // a test's
		policy := indexedPolicy(r)
		var plain, indexed *engine.Snapshot
		for change := range 3 {
			text := indexedData(r)
			make := func(declared string, from *engine.Snapshot) *engine.Snapshot {
				b := bundle(t, policy, `{}`, metadata)
				data, err := rar.DecodeText("{"+declared+text+"}", rar.Limits{})
				if change > 0 {
					data, err = (rar.Packing{Above: 1, Row: 1 + r.IntN(100)}).Decode("{"+declared+text+"}", rar.Limits{})
				}
				if err != nil {
					t.Fatal(err, text)
				}
				b.Data = data
				var s *engine.Snapshot
				if from != nil {
					s, _, err = from.WithData(t.Context(), []engine.Bundle{b})
				} else {
					s, _, err = engine.Compile(t.Context(), []engine.Bundle{b})
				}
				if err != nil {
					t.Logf("%v", err)
					return nil
				}
				return s
			}
			plain, indexed = make("", plain), make(declaredIndexes, indexed)
			if (plain == nil) != (indexed == nil) {
				t.Fatalf("one is refused:\n%s", policy)
			}
			if plain == nil {
				refused++
				break
			}
			if change > 0 {
				compiled.Prepare(indexed)
			}
			if len(engine.LookedUp(indexed)) == 0 {
				t.Fatalf("nothing is looked up:\n%s", policy)
			}
			looked++
			for range 24 {
				subject := []string{"u0", "u1", "u2", "s", "1", "zz"}[r.IntN(6)]
				q := call(t, "t", `{}`, credential(t, "c", strings.Replace(claims(""), alice, subject, 1)))
				v := []string{`"u0"`, `"u1"`, `"u3"`, `""`, `"1"`, `1`, `1.0`, `2`, `null`, `true`, `[]`, `["u0"]`, `{}`, `{"id": "u0"}`, `"o"`}[r.IntN(15)]
				q.Context = decode(t, []string{`{"v": ` + v + `, "f": 1}`, `{"v": ` + v + `}`, `{"f": 2}`, `{"v": ` + v + `}`}[r.IntN(4)])
				want := outcome(t, interpreted, plain, q)
				for k, got := range []string{outcome(t, interpreted, indexed, q), outcome(t, compiled, indexed, q)} {
					if compared++; got != want {
						t.Fatalf("seed %d, change %d, interpreted %v: %s\nwithout: %s\n%s\n%s\n%s", seed, change, k == 0, got, want, policy, text, string(q.Context.AppendJSON(nil))+subject)
					}
				}
				if strings.HasPrefix(want, "true") {
					allowed++
				}
				if strings.Contains(want, "error") || strings.Contains(want, "conflict") {
					failed++
				}
			}
		}
	}
	t.Logf("%d comparisons of %d snapshots; %d allowed, %d failed; %d policies refused", compared, looked, allowed, failed, refused)
	if !testing.Short() && (compared < 20_000 || allowed < 1000 || failed < 100 || refused > policies/20) {
		t.Error("too few of a kind")
	}
}
