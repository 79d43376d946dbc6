package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

const largePolicy = `package authz

import data.authzd.v1 as authzd

user := data.users[input.subject.id]

permit["reader"] := {"require": [authzd.scopes(["read"])]} if {
	input.resource.id == "t"
	"reader" in user.roles
	user.level >= 3
}

permit["writer"] := {} if {
	input.resource.id == "t"
	object.get(data.users, input.subject.id, {"level": 0}).level == 6
}

permit["owner"] := {} if {
	input.resource.id == "t"
	data.owners[user.number] == input.subject.id
}

forbid["blocked"] := {} if data.users[input.subject.id].blocked
`

// largeData has users of whom every third is a reader, every hundredth blocked, and a
// list of owners; packed has it kept as text.
func largeData(t testing.TB, users int, packed bool) rar.Value {
	t.Helper()
	var b strings.Builder
	b.WriteString(`{"authzd_tools": {"t": {"arguments": {"type": "object"}}}, "users": {`)
	for i := range users {
		if i > 0 {
			b.WriteByte(',')
		}
		role := "writer"
		if i%3 == 0 {
			role = "reader"
		}
		fmt.Fprintf(&b, `"u%d": {"roles": ["all", %q], "level": %d, "number": %d, "blocked": %v}`, i, role, i%7, i, i%100 == 99)
	}
	b.WriteString(`}, "owners": [`)
	for i := range users {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"u%d"`, i-i%2)
	}
	b.WriteString(`]}`)
	decode := rar.DecodeText
	if packed {
		decode = rar.DecodePacked
	}
	v, err := decode(b.String(), rar.Limits{MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	if v.Packed() != packed {
		t.Fatal("the data is too small for this test")
	}
	return v
}

func compileData(t testing.TB, policy string, data rar.Value) *engine.Snapshot {
	t.Helper()
	b := bundle(t, policy, `{}`, `{"contract": 1}`)
	b.Data = data
	s, _, err := engine.Compile(t.Context(), []engine.Bundle{b})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestLargeData: how data is kept changes no decision, compiled or not.
func TestLargeData(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("compiles 20,000 rows three times")
	}
	const users = 20_000
	data := largeData(t, users, true)
	want := engine.New(engine.Options{Now: testNow})
	want.Swap(compileData(t, largePolicy, largeData(t, users, false)))
	interpreted := engine.New(engine.Options{Now: testNow})
	interpreted.Swap(compileData(t, largePolicy, data))
	compiled := newEngine(compileData(t, largePolicy, data))
	rules := map[string]int{}
	for k := range 1000 {
		i := k * 37 % (users + 50)
		q := call(t, "t", `{}`, credential(t, "c", strings.Replace(claims(`"scope": "read"`), alice, fmt.Sprintf("u%d", i), 1)))
		w := decide(t, want, q)
		for _, e := range []*engine.Engine{interpreted, compiled} {
			if d := decide(t, e, q); d.Allow != w.Allow || d.Rule != w.Rule || d.Error != nil {
				t.Fatalf("u%d: %+v, not %+v", i, d, w)
			}
		}
		rules[w.Rule]++
	}
	n := compiled.Evaluations()
	if rules["reader"] < 75 || rules["owner"] < 250 || rules["writer"] < 25 || rules["blocked"] < 5 || rules[""] < 1 || n.Interpreted > 0 || n.HandedOver["large_data"] > 0 || n.Compiled < 500 {
		t.Errorf("%v, %+v", rules, n)
	}
}

// TestLargeDataAsAWhole: policy that walks through all of a large document is left to
// the interpreter, and to its budget.
func TestLargeDataAsAWhole(t *testing.T) {
	t.Parallel()
	const users = 20_000
	policy := `package authz

permit["a"] := {} if count(data.users) == 20000

forbid["b"] := {} if {
	some id, user in data.users
	user.blocked
	id == input.subject.id
}
`
	data := largeData(t, users, true)
	e := newEngine(compileData(t, policy, data))
	for i, allow := range map[int]bool{98: true, 99: false, 100: true} {
		q := call(t, "t", `{}`, credential(t, "c", strings.Replace(claims(""), alice, fmt.Sprintf("u%d", i), 1)))
		if d := decide(t, e, q); d.Allow != allow || d.Error != nil {
			t.Errorf("u%d: %+v", i, d)
		}
	}
	if n := e.Evaluations(); n.HandedOver["large_data"] == 0 || n.Compiled > 0 {
		t.Errorf("%+v", n)
	}
	short := engine.New(engine.Options{Now: testNow, MaxSteps: 1000})
	short.Swap(compileData(t, policy, data))
	q := call(t, "t", `{}`, credential(t, "c", claims("")))
	d, err := short.Decide(t.Context(), q)
	if err != nil || d.Allow || d.Error == nil || d.Error.Code != engine.CodeBudget {
		t.Errorf("%+v, %v", d, err)
	}
}

// BenchmarkRows decides by a row that is looked up by key: of few that are kept as
// values, and of many that are kept as text.
func BenchmarkRows(b *testing.B) {
	// Without the permit that asks for all of the document.
	before, _, _ := strings.Cut(largePolicy, `permit["writer"]`)
	_, after, _ := strings.Cut(largePolicy, `permit["owner"]`)
	policy := before + `permit["owner"]` + after
	for _, rows := range []int{1000, 1_000_000} {
		s := compileData(b, policy, largeData(b, rows, rows > 10_000))
		for _, compiled := range []bool{true, false} {
			e := engine.New(engine.Options{Now: testNow, Compiled: compiled, VerifySample: -1})
			name := fmt.Sprintf("%d/interpreted", rows)
			if compiled {
				name = fmt.Sprintf("%d/compiled", rows)
			} else {
				s = compileData(b, policy, largeData(b, rows, rows > 10_000))
			}
			if compiled {
				e.Prepare(s)
			}
			e.Swap(s)
			queries := make([]*engine.Query, 4096)
			for i := range queries {
				id := fmt.Sprintf("u%d", (i*7919+3)%rows)
				queries[i] = call(b, "t", `{}`, credential(b, "c", strings.Replace(claims(`"scope": "read"`), alice, id, 1)))
			}
			b.Run(name, func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					if _, err := e.Decide(b.Context(), queries[i%len(queries)]); err != nil {
						b.Fatal(err)
					}
					i++
				}
			})
		}
	}
}

// TestLargeDeclarations: types and tool schemas that stand in a large document, and are
// kept as text themselves, mean the same.
func TestLargeDeclarations(t *testing.T) {
	t.Parallel()
	long := `"description": "` + strings.Repeat("x", 5000) + `", `
	text := strings.Replace(paymentsData, `"blocked": [`, `"padding": {"p": "`+strings.Repeat("y", rar.PackAbove)+`"}, "blocked": [`, 1)
	text = strings.Replace(text, `{"pay": {"arguments": {`, `{"pay": {"arguments": {`+long, 1)
	text = strings.Replace(text, `"schema": {`, `"schema": {`+long, 1)
	var blocked strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&blocked, `"m%d", `, i)
	}
	text = strings.Replace(text, `["mallory"]`, `[`+blocked.String()+`"mallory"]`, 1)
	large, err := rar.DecodePacked(text, rar.Limits{MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	for _, pointer := range []string{"", "/blocked", "/authzd_types/payment", "/authzd_types/payment/schema", "/authzd_tools/pay/arguments"} {
		if v, _ := large.Lookup(pointer); !v.Packed() {
			t.Errorf("%q is not packed", pointer)
		}
	}
	small := newEngine(compile(t, paymentsPolicy, strings.Replace(paymentsData, `["mallory"]`, `[`+blocked.String()+`"mallory"]`, 1)))
	packed := newEngine(compileData(t, paymentsPolicy, large))
	for _, c := range []struct{ arguments, claims string }{
		{`{"amount": "80.50", "payee": "bob"}`, `"scope": "payments", ` + details8050},
		{`{"amount": "80.51", "payee": "bob"}`, `"scope": "payments", ` + details8050},
		{`{"amount": "80.50", "payee": "bob"}`, `"scope": "payments"`},
		{`{"amount": "1"}`, `"scope": "payments"`},
		{`{"amount": "1", "payee": "mallory"}`, `"scope": "payments"`},
		{`{"amount": "1", "payee": "m1999"}`, `"scope": "payments"`},
		{`{"amount": "x", "payee": "bob"}`, `"scope": "payments"`},
	} {
		q := call(t, "pay", c.arguments, credential(t, "c", claims(c.claims)))
		want, got := decide(t, small, q), decide(t, packed, q)
		if got.Allow != want.Allow || got.Rule != want.Rule || got.Message != want.Message || len(got.Reasons) != len(want.Reasons) || (got.Error == nil) != (want.Error == nil) {
			t.Errorf("%s: %+v, not %+v", c.arguments, got, want)
		}
	}
}
