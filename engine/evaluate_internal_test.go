package engine

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/rar"
)

func internalSnapshot(t *testing.T, policy string) *Snapshot {
	t.Helper()
	metadata, err := rar.DecodeStrict([]byte(`{"contract": 1, "untyped_tools": true}`), rar.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := Compile(t.Context(), []Bundle{{
		Name: "main", Revision: "1", Roots: []string{""}, Metadata: metadata, Data: rar.ObjectValue(),
		Modules: []Module{{Path: "p.rego", Text: policy}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func readQuery(id string) *Query {
	return &Query{Subject: &Subject{Type: "identity", ID: "alice-secret"}, Action: Action{Name: "read"}, Resource: Resource{Type: "page", ID: id}}
}

const permitsPages = "package authz\n\npermit[\"x\"] := {} if input.resource.id == \"p\"\n"

// A program that answers otherwise than topdown, planted, is found by the sample,
// told without what the input says, counted, and asked no more.
func TestDifferenceIsFound(t *testing.T) {
	t.Parallel()
	s, wrong := internalSnapshot(t, permitsPages), internalSnapshot(t, strings.Replace(permitsPages, `"p"`, `"q"`, 1))
	prepare(s)
	prepare(wrong)
	if state, why := s.Evaluator(); state != EvaluatorCompiled || why != "" {
		t.Fatal(state, why)
	}
	var log bytes.Buffer
	e := New(Options{VerifySample: 1, Log: slog.New(slog.NewJSONHandler(&log, nil))})
	e.Swap(s)
	ask := func(id string) bool {
		t.Helper()
		d, err := e.Decide(t.Context(), readQuery(id))
		if err != nil {
			t.Fatal(err)
		}
		return d.Allow
	}
	if !ask("p") || ask("q") || VerifyPending(t.Context(), e) != 0 {
		t.Fatal("differs before anything is planted")
	}
	s.eval.fast.Store(wrong.eval.fast.Load())
	if ask("p") || !ask("q") {
		t.Fatal("nothing is planted")
	}
	if n := VerifyPending(t.Context(), e); n != 2 {
		t.Errorf("%d differences", n)
	}
	if state, why := s.Evaluator(); state != EvaluatorDistrusted || why == "" {
		t.Error(state, why)
	}
	if !ask("p") || ask("q") {
		t.Error("the program is asked on")
	}
	next, _, err := s.WithData(t.Context(), s.made.bundles)
	if err != nil {
		t.Fatal(err)
	}
	prepare(next)
	if state, why := next.Evaluator(); state != EvaluatorDistrusted || why == "" {
		t.Error("trusted again with other data:", state, why)
	}
	prepare(s)
	if !ask("p") || ask("q") {
		t.Error("the program is back")
	}
	again := internalSnapshot(t, permitsPages)
	prepare(again)
	again.eval.fast.Store(wrong.eval.fast.Load())
	e.Swap(again)
	if !ask("p") || ask("q") {
		t.Error("the next snapshot is trusted")
	}
	text := log.String()
	if strings.Count(text, "\n") != 1 || !strings.Contains(text, `"differs":"permit"`) || strings.Contains(text, "secret") || !strings.Contains(text, "string(12)") {
		t.Error(text)
	}
	got := e.Evaluations()
	if got.Compiled != 4 || got.Interpreted != 6 || got.Verified != 4 || got.Different != 2 {
		t.Errorf("%+v", got)
	}
}

// What the program hands over is topdown's to answer, and to deny.
func TestHandover(t *testing.T) {
	t.Parallel()
	s := internalSnapshot(t, "package authz\n\npermit[\"x\"] := {} if to_number(input.resource.id) == 1\n")
	e := New(Options{VerifySample: 1})
	e.Swap(s)
	ask := func(id string) Decision {
		t.Helper()
		d, err := e.Decide(t.Context(), readQuery(id))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	before := []Decision{ask("1"), ask("2"), ask("x")}
	prepare(s)
	for i, id := range []string{"1", "2", "x"} {
		d := ask(id)
		if d.Allow != before[i].Allow || (d.Error == nil) != (before[i].Error == nil) || d.Error != nil && *d.Error != *before[i].Error {
			t.Errorf("%s: %+v, interpreted %+v", id, d, before[i])
		}
	}
	if d := before[2]; d.Error == nil || d.Error.Code != CodeBuiltinError {
		t.Errorf("%+v", d)
	}
	got := e.Evaluations()
	if got.Compiled != 2 || got.Interpreted != 3 || got.HandedOver["builtin_error"] != 1 || VerifyPending(t.Context(), e) != 0 {
		t.Errorf("%+v", got)
	}
}

// What takes too long in the program ends within the budget that topdown has.
func TestBudgetOfBoth(t *testing.T) {
	t.Parallel()
	s := internalSnapshot(t, `package authz

permit["x"] := {} if {
	list := numbers.range(1, 3000)
	every a in list {
		every b in list {
			a * b != -1
		}
	}
}
`)
	prepare(s)
	e := New(Options{Budget: 100 * time.Millisecond})
	e.Swap(s)
	began := time.Now()
	d, err := e.Decide(t.Context(), readQuery("p"))
	if err != nil || d.Allow || d.Error == nil || d.Error.Code != CodeBudget {
		t.Fatalf("%+v, %v", d, err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	if n := e.Evaluations().HandedOver; n["cancelled"]+n["budget"] != 1 {
		t.Errorf("%+v", e.Evaluations())
	}
}

// Verify compares until its context ends, and samples that nobody takes do not
// pile up.
func TestVerifyEnds(t *testing.T) {
	t.Parallel()
	s := internalSnapshot(t, permitsPages)
	prepare(s)
	e := New(Options{VerifySample: 1})
	e.Swap(s)
	for range maxSampled + 3 {
		if _, err := e.Decide(t.Context(), readQuery("p")); err != nil {
			t.Fatal(err)
		}
	}
	if got := e.Evaluations(); got.Unverified != 3 {
		t.Errorf("%+v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Verify(ctx) }()
	for e.Evaluations().Verified < maxSampled {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestShapeOf(t *testing.T) {
	t.Parallel()
	v, err := ast.InterfaceToValue(map[string]any{"a": []any{"secret", -12.5, true, nil}, "b": map[string]any{"c": "ä"}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := shapeOf(v), `{"a":[string(6),-99.9,true,null],"b":{"c":string(1)}}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func prepare(s *Snapshot) { New(Options{Compiled: true}).Prepare(s) }

// A policy that hands most over is not asked for a while, then again; what it
// answers does not change.
func TestHabit(t *testing.T) {
	t.Parallel()
	s := internalSnapshot(t, "package authz\n\npermit[\"x\"] := {} if to_number(input.resource.id) == 1\n")
	prepare(s)
	e := New(Options{})
	e.Swap(s)
	ask := func(id string, times int) {
		t.Helper()
		for range times {
			d, err := e.Decide(t.Context(), readQuery(id))
			if err != nil || d.Allow != (id == "1") || (d.Error != nil) != (id == "x") {
				t.Fatal(id, d, err)
			}
		}
	}
	expect := func(compiled, failed, habit uint64) {
		t.Helper()
		got := e.Evaluations()
		if got.Compiled != compiled || got.HandedOver["builtin_error"] != failed || got.HandedOver[string(reasonHabit)] != habit || got.Interpreted != 0 {
			t.Errorf("%+v; want %d compiled, %d failed, %d by habit", got, compiled, failed, habit)
		}
	}
	ask("1", habitWindow/2)
	ask("x", habitWindow/2) // a half is not most
	expect(habitWindow/2, habitWindow/2, 0)
	ask("x", habitWindow)
	expect(habitWindow/2, habitWindow*3/2, 0)
	ask("1", habitRest/2)
	ask("x", habitRest/2)
	expect(habitWindow/2, habitWindow*3/2, habitRest)
	ask("1", habitWindow)
	ask("1", 1)
	expect(habitWindow*3/2+1, habitWindow*3/2, habitRest)
}

// A panic of the interpreter while a sample is compared is a difference, and ends
// nothing else.
func TestSampledPanic(t *testing.T) {
	t.Parallel()
	s := internalSnapshot(t, permitsPages)
	prepare(s)
	e := New(Options{VerifySample: 1})
	e.Swap(s)
	if d, err := e.Decide(t.Context(), readQuery("p")); err != nil || !d.Allow {
		t.Fatal(d, err)
	}
	s.eval.topdown.compiler = nil // which topdown does not survive
	if n := VerifyPending(t.Context(), e); n != 1 {
		t.Errorf("%d differences", n)
	}
	if state, why := s.Evaluator(); state != EvaluatorDistrusted {
		t.Error(state, why)
	}
}
