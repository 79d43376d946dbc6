package engine_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
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
	return `"authzd_tools": {"t": {"arguments": {"type": "object"}}}, "users": ["u0", ` + value() + `], "things": [{"k": "u0", "v": "x"}, {"k": ` + value() + `, "v": ` + value() + `}], "other": [1, "u0"], "settings": {"user": ` + value() + `}, "grants": ` + rows("user") + `, "org": {"teams": ` + rows("id") + `, "x": 1}`
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
	one := func(forms ...string) string { return forms[r.IntN(len(forms))] }
	// At once for all values: of those that no row here has, too.
	comprehension := func() string {
		open, end := one(`[c`, `{c`, `[[k, c]`), "]"
		if strings.HasPrefix(open, "{") {
			end = "}"
		}
		return open + ` | some k in data.users; c := ` + one(`[upper(t.v) | some t in data.things; t.k == k]`, `{t.v | some t in data.things; t.k == k}`, `{upper(t.v): 1 | some t in data.things; t.k == k}`) + one(``, `; count(c) > 0`) + end
	}
	switch r.IntN(25) {
	case 22:
		return "data.grants[i].user == " + term() + "; data.grants[i].team == " + comprehension()
	case 23:
		return "some g in data.grants; g.user == " + term() + "; g.team != " + comprehension()
	case 24:
		return "some i; data.grants[i].user == " + term() + "; data.grants[i].role in " + comprehension()

	case 0, 1:
		return one(`some g in data.grants`, `g := data.grants[_]`, `some i, g in data.grants`, `g = data.grants[_]`) + "; g.user == " + term() + "; " + pick()
	case 2:
		return one(`some g in data.grants`, `g := data.grants[_]`) + "; " + term() + " == g.user; " + pick() + "; " + pick()
	case 3:
		return `data.grants[i].user == ` + term() + `; data.grants[i].role == "x"`
	case 4:
		return `some i; data.grants[i].user == ` + term() + `; not data.grants[i].off`
	case 5:
		return "some g in data.grants; " + pick() + "; g.user == " + term()
	case 6:
		return "some i, g in data.grants; g.user == " + term() + one(`; i != 1`, `; i == "u1"`, `; i`, `; i > 1`)
	case 7:
		return "some g in data.grants; g.user == " + term() + "; some t in data.org.teams; t.id == g.team; " + pick()
	case 8:
		return "some g in data.grants; some t in data.org.teams; t.id == g.team; g.user == " + term()
	case 9:
		return "count(" + one("[g | ", "[g.role | ", "[1 | ") + "some g in data.grants; g.user == " + term() + "]) > 1"
	case 10:
		return "u := " + term() + "; x := [g.role | some g in data.grants; g.user == u]; count(x) > 1; x[0] == " + one(`"x"`, `"y"`)
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
		policies = 10
	}
	for seed := range uint64(policies) {
		r := rand.New(rand.NewPCG(seed, 2026)) //nolint:gosec // a test's
		policy := indexedPolicy(r)
		var plain, indexed *engine.Snapshot
		for change := range 3 {
			text := indexedData(r)
			compile := func(declared string, from *engine.Snapshot) *engine.Snapshot {
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
			plain, indexed = compile("", plain), compile(declaredIndexes, indexed)
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

const byUser = `package authz

permit["editor"] := {} if {
	some g in data.grants
	g.user == input.subject.id
	g.role == "editor"
}
`

// TestIndexDeclarations: what may be declared, and what is refused with its place.
func TestIndexDeclarations(t *testing.T) {
	t.Parallel()
	many := func(n int) string {
		var names []string
		for i := range n {
			names = append(names, fmt.Sprintf(`"m%d"`, i))
		}
		return "[" + strings.Join(names, ",") + "]"
	}
	const data = `"grants": [], "org": {"teams": {}, "name": "x", "none": null}, "10": [[]]`
	for declared, file := range map[string]string{
		`{}`:                                         "",
		`{"grants": ["user"]}`:                       "",
		`{"grants": ["user", "role"]}`:               "",
		`{"org/teams": ["id"], "org": ["x"]}`:        "",
		`{"grants": ` + many(32) + `}`:               "",
		`{"grants": ` + many(33) + `}`:               "authzd_indexes/grants",
		`{"grants": ` + many(32) + `, "org": ["x"]}`: "authzd_indexes/org",
		`[]`:                           "authzd_indexes",
		`"grants"`:                     "authzd_indexes",
		`null`:                         "authzd_indexes",
		`{"grants": []}`:               "authzd_indexes/grants",
		`{"grants": "user"}`:           "authzd_indexes/grants",
		`{"grants": ["user", 1]}`:      "authzd_indexes/grants",
		`{"grants": [""]}`:             "authzd_indexes/grants",
		`{"grants": ["user", "user"]}`: "authzd_indexes/grants",
		`{"grants": ["0"]}`:            "authzd_indexes/grants",
		`{"grants": ["1.0"]}`:          "authzd_indexes/grants",
		`{"grants": ["-7"]}`:           "authzd_indexes/grants",
		`{"": ["user"]}`:               "authzd_indexes/",
		`{"/grants": ["user"]}`:        "authzd_indexes//grants",
		`{"org//teams": ["user"]}`:     "authzd_indexes/org//teams",
		`{"org/none": ["user"]}`:       "authzd_indexes/org/none",
		`{"org/name": ["user"]}`:       "authzd_indexes/org/name",
		`{"nothing": ["user"]}`:        "authzd_indexes/nothing",
		`{"authzd_tools": ["user"]}`:   "authzd_indexes/authzd_tools",
		`{"authzd_index": ["user"]}`:   "authzd_indexes/authzd_index",
		`{"system": ["user"]}`:         "authzd_indexes/system",
	} {
		b := bundle(t, byUser, `{"authzd_indexes": `+declared+`, `+data+`}`, `{"contract": 1}`)
		_, found, err := engine.Compile(t.Context(), []engine.Bundle{b})
		if file == "" {
			if err != nil || len(found) > 0 {
				t.Errorf("%s: %v, %v", declared, found, err)
			}
			continue
		}
		wantFinding(t, err, engine.CodeBundleIndexInvalid, file)
	}
	outside := bundle(t, byUser, `{"authzd_indexes": {"grants": ["user"]}, "grants": []}`, `{"contract": 1}`)
	outside.Roots = []string{"authz", "authzd_indexes"}
	other := bundle(t, `package lists`, `{"grants": []}`, `{"contract": 1}`)
	other.Name, other.Roots, other.Modules = "other", []string{"grants"}, nil
	outside.Data = decode(t, `{"authzd_indexes": {"grants": ["user"]}}`)
	if _, _, err := engine.Compile(t.Context(), []engine.Bundle{outside, other}); err != nil {
		t.Errorf("data of another bundle: %v", err)
	}
}

func wantFinding(t *testing.T, err error, code engine.Code, file string) {
	t.Helper()
	var refused *engine.CompileError
	if !errors.As(err, &refused) {
		t.Errorf("%s: want a CompileError, got %v", file, err)
		return
	}
	for _, f := range refused.Findings {
		if f.Code == code && f.File == file && f.Message != "" {
			return
		}
	}
	t.Errorf("%s: %v", file, err)
}

// TestIndexIsNotPolicys: policy can name neither what the engine reads nor its builtin, and no
// other way leads there.
func TestIndexIsNotPolicys(t *testing.T) {
	t.Parallel()
	const data = `{"authzd_indexes": {"grants": ["user"]}, "grants": [{"user": "u0", "role": "editor"}], "authzd_tools": {"t": {"arguments": {"type": "object"}}}}`
	metadata := `{"contract": 1, "untyped_tools": true, "lax_forbids": true, "optional_data": ["authzd_index"]}`
	for _, rule := range []string{
		`permit["x"] := {} if data.authzd_index.grants.user.su0[0]`,
		`permit["x"] := {} if { some r in data.authzd_index.grants.user.su0; r }`,
		`permit["x"] := {} if data["authzd_index"]`,
		`permit["x"] := {} if { q with data.authzd_index as {} }` + "\n\nq if input.a",
		`permit["x"] := {} if authzd.index_key(input.subject.id) == "su0"`,
	} {
		b := bundle(t, byUser+"\n"+rule+"\n", data, metadata)
		if _, _, err := engine.Compile(t.Context(), []engine.Bundle{b}); err == nil {
			t.Errorf("%s is taken", rule)
		}
	}
	b := bundle(t, byUser+"\nforbid[\"x\"] := {} if data.authzd_index\n", data, metadata)
	_, _, err := engine.Compile(t.Context(), []engine.Bundle{b})
	wantFinding(t, err, engine.CodeBundleIndexInvalid, "policy.rego")

	for rule, looks := range map[string]string{
		`permit["x"] := {} if { some p, v; walk(data.grants, [p, v]); "authzd_index" in p }`: "[grants.user]",
		`forbid["x"] := {} if { some name; data[name].grants.user }`:                         "[]",
	} {
		s, _, err := engine.Compile(t.Context(), []engine.Bundle{bundle(t, byUser+"\n"+rule+"\n", data, metadata)})
		if err != nil {
			t.Fatal(err)
		}
		if got := engine.LookedUp(s); fmt.Sprint(got) != looks {
			t.Errorf("%s: %v", rule, got)
		}
		q := call(t, "t", `{}`, credential(t, "c", strings.Replace(claims(""), alice, "u0", 1)))
		if d := decide(t, newEngine(s), q); !d.Allow || d.Rule != "editor" {
			t.Errorf("%s: %+v", rule, d)
		}
	}
}

// TestIndexWithData: a change of data is read through the index; one that makes a document
// something else is compiled, or refused.
func TestIndexWithData(t *testing.T) {
	t.Parallel()
	of := func(grants string) engine.Bundle {
		return bundle(t, byUser, `{"authzd_indexes": {"grants": ["user"]}, "authzd_tools": {"t": {"arguments": {"type": "object"}}}, "grants": `+grants+`}`, `{"contract": 1}`)
	}
	s, _, err := engine.Compile(t.Context(), []engine.Bundle{of(`[]`)})
	if err != nil {
		t.Fatal(err)
	}
	q := call(t, "t", `{}`, credential(t, "c", claims("")))
	for _, c := range []struct {
		grants string
		allow  bool
	}{
		{`[{"user": "alice@example.com", "role": "editor"}]`, true},
		{`[{"user": "alice@example.com", "role": "reader"}, {"user": "bob", "role": "editor"}]`, false},
		{`{"x": {"user": "alice@example.com", "role": "editor"}}`, true},
		{`{"x": {"user": "alice", "role": "editor"}}`, false},
		{`[{"user": "bob"}, 1, {"user": "alice@example.com", "role": "editor"}]`, true},
	} {
		if s, _, err = s.WithData(t.Context(), []engine.Bundle{of(c.grants)}); err != nil {
			t.Fatal(err)
		}
		if got := engine.LookedUp(s); fmt.Sprint(got) != "[grants.user]" {
			t.Error(got)
		}
		if got := engine.LookedUpInLists(s); fmt.Sprint(got) != "[grants.user]" {
			t.Errorf("in lists: %v", got)
		}
		if d := decide(t, newEngine(s), q); d.Allow != c.allow || d.Error != nil {
			t.Errorf("%s: %+v", c.grants, d)
		}
	}
	for _, grants := range []string{`1`, `"x"`, `null`, `true`} {
		_, _, err := s.WithData(t.Context(), []engine.Bundle{of(grants)})
		wantFinding(t, err, engine.CodeBundleIndexInvalid, "authzd_indexes/grants")
	}
}

// grants is an array of so many rows, each user has ten.
func grants(t testing.TB, rows int, declared string) rar.Value {
	t.Helper()
	var b strings.Builder
	b.WriteString(`{` + declared + `"authzd_tools": {"t": {"arguments": {"type": "object"}}}, "grants": [`)
	for i := range rows {
		if i > 0 {
			b.WriteByte(',')
		}
		role := "reader"
		if i%30 == 0 {
			role = "editor"
		}
		fmt.Fprintf(&b, `{"user": "u%d", "role": %q, "team": "team-%d", "resource": "document-%d"}`, i/10, role, i%97, i)
	}
	b.WriteString(`]}`)
	v, err := rar.DecodePacked(b.String(), rar.Limits{MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestIndexSuggested: a rule that walks through a large document for one user is told so,
// with what to declare, and is not once that is done.
func TestIndexSuggested(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("compiles 20,000 rows four times")
	}
	const rows = 20_000
	for declared, want := range map[string]int{``: 1, `"authzd_indexes": {"grants": ["user"]}, `: 0} {
		b := bundle(t, byUser, `{}`, `{"contract": 1}`)
		b.Data = grants(t, rows, declared)
		s, found, err := engine.Compile(t.Context(), []engine.Bundle{b})
		if err != nil || len(found) != want {
			t.Fatalf("%v, %v", found, err)
		}
		_, again, err := s.WithData(t.Context(), []engine.Bundle{b})
		if err != nil || len(again) != want {
			t.Fatalf("%v, %v", again, err)
		}
		for _, f := range append(found, again...) {
			if f.Code != engine.CodeBundleIndexSuggested || f.Severity != engine.SeverityWarning || f.File != "policy.rego" || f.Row != 4 || !strings.Contains(f.Message, `{"grants": ["user"]}`) {
				t.Errorf("%+v", f)
			}
		}
		e := newEngine(s)
		for i, allow := range map[int]bool{0: true, 1: false, 3: true, 1999: false, 3000: false} {
			q := call(t, "t", `{}`, credential(t, "c", strings.Replace(claims(""), alice, fmt.Sprintf("u%d", i), 1)))
			if d := decide(t, e, q); d.Allow != allow || d.Error != nil {
				t.Errorf("u%d: %+v", i, d)
			}
		}
		if n := e.Evaluations(); n.HandedOver["large_data"] == 0 || n.Compiled > 0 {
			t.Errorf("%+v", n)
		}
	}
	small := bundle(t, byUser, `{"grants": [{"user": "u", "role": "x"}]}`, `{"contract": 1}`)
	if _, found, err := engine.Compile(t.Context(), []engine.Bundle{small}); err != nil || len(found) > 0 {
		t.Errorf("%v, %v", found, err)
	}
}

// BenchmarkIndex decides by the ten rows of a user, of many in an array. Without an index
// that is the budget's end, until all of them have been made in the background.
func BenchmarkIndex(b *testing.B) {
	for _, declared := range []string{`"authzd_indexes": {"grants": ["user"]}, `, ``} {
		for _, rows := range []int{1000, 100_000, 1_000_000} {
			data := grants(b, rows, declared)
			begun := time.Now()
			e := engine.New(engine.Options{Now: testNow})
			e.Swap(compileData(b, byUser, data))
			compiled := time.Since(begun)
			queries := make([]*engine.Query, 4096)
			for i := range queries {
				id := fmt.Sprintf("u%d", (i*7919+3)%(rows/10))
				queries[i] = call(b, "t", `{}`, credential(b, "c", strings.Replace(claims(""), alice, id, 1)))
			}
			b.Run(fmt.Sprintf("%d/declared=%v", rows, declared != ""), func(b *testing.B) {
				b.ReportAllocs()
				i, failed := 0, 0
				for b.Loop() {
					d, err := e.Decide(b.Context(), queries[i%len(queries)])
					if err != nil {
						b.Fatal(err)
					}
					if d.Error != nil {
						failed++
					}
					i++
				}
				b.ReportMetric(float64(failed)/float64(i), "failed/op")
				b.ReportMetric(float64(compiled.Milliseconds()), "compile-ms")
			})
		}
	}
}

// TestIndexRulesAbove: a rule that is evaluated together with one of a variable head above
// it can fail with that, and is no value that is known before.
func TestIndexRulesAbove(t *testing.T) {
	t.Parallel()
	failed := 0
	for _, above := range []string{
		`ids[k] := v if { some k in data.other; v := "another" }`,
		`ids[k] := v if { some k in data.other; v := 1 / to_number(count(data.other) - 1) }`,
		`ids[k] := upper(input.subject.id) if { k := "uid" }`,
		`ids[k].x := 1 if { some k in data.other }`,
		`ids[k] := 1 / to_number(count(data.other) - 1) if { some k in ["zz"] }`,
	} {
		for _, use := range []string{`g.role != ids.uid; g.user == input.subject.id`, `g.user == ids.uid`, `u := ids.uid; g.user == u`} {
			policy := "package authz\n\nids.uid := input.subject.id\n\n" + above +
				"\n\npermit[\"all\"] := {} if input.subject.id\n\nforbid[\"f\"] := {} if { some g in data.grants; " + use + " }\n"
			for _, grants := range []string{`[{"user": "bob", "role": "x"}, {"user": "carol"}]`, `[]`} {
				var outcomes []string
				for _, declared := range []string{"", `"authzd_indexes": {"grants": ["user"]}, `} {
					b := bundle(t, policy, `{`+declared+`"authzd_tools": {"t": {"arguments": {"type": "object"}}}, "other": ["uid"], "grants": `+grants+`}`,
						`{"contract": 1, "untyped_tools": true, "lax_forbids": true}`)
					s, _, err := engine.Compile(t.Context(), []engine.Bundle{b})
					if err != nil {
						t.Fatal(err)
					}
					q := call(t, "t", `{}`, credential(t, "c", strings.Replace(claims(""), alice, "u0", 1)))
					outcomes = append(outcomes, outcome(t, newEngine(s), s, q))
				}
				if outcomes[0] != outcomes[1] {
					t.Errorf("%s, %s, %s:\n%s\n%s", above, use, grants, outcomes[0], outcomes[1])
				}
				if strings.Contains(outcomes[0], "engine.builtin_error") || strings.Contains(outcomes[0], "engine.conflict") {
					failed++
				}
			}
		}
	}
	if failed < 5 {
		t.Errorf("%d failed", failed)
	}
}
