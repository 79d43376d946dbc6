package engine_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/engine"
)

// explain returns the explanation as text, one line for each thing it tells.
func explain(t testing.TB, e *engine.Engine, s *engine.Snapshot, q *engine.Query, o engine.ExplainOptions) (engine.Explanation, string) {
	t.Helper()
	x, err := e.ExplainOn(t.Context(), s, q, o)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for i := range x.Evaluations {
		v := &x.Evaluations[i]
		fmt.Fprintf(&b, "%s %s %s\n", v.Action.Name, v.Resource.Type, v.Resource.ID)
		for j := range v.Permits {
			p := &v.Permits[j]
			fmt.Fprintf(&b, "permit %s %d", p.Name, p.Priority)
			for _, m := range p.Met {
				fmt.Fprintf(&b, ", %s met by %s", m.Kind, m.CredentialID)
			}
			for k := range p.Unmet {
				fmt.Fprintf(&b, ", %s: %s", p.Unmet[k].Kind, p.Unmet[k].Code)
			}
			b.WriteByte('\n')
		}
		for _, name := range v.Forbids {
			fmt.Fprintf(&b, "forbid %s\n", name)
		}
		for _, r := range v.Rules {
			fmt.Fprintf(&b, "%s %s\n", r.Path, r.Outcome)
			for _, d := range r.Definitions {
				fmt.Fprintf(&b, "  %d %s", d.Line, d.Outcome)
				if d.Evaluated != 1 {
					fmt.Fprintf(&b, " %d times", d.Evaluated)
				}
				if d.StoppedAt != nil {
					fmt.Fprintf(&b, ", line %d: %s", d.StoppedAt.Line, d.StoppedAt.Text)
				}
				if d.Error != "" {
					fmt.Fprintf(&b, "; %s", d.Error)
				}
				b.WriteByte('\n')
			}
		}
		if v.Incomplete != "" {
			fmt.Fprintf(&b, "incomplete: %s\n", v.Incomplete)
		}
	}
	return x, b.String()
}

const explainedPolicy = `package authz

import data.authzd.v1 as authzd

permit["read"] := {"require": [authzd.scopes(["files:read"])]} if {
	input.resource.id == "t"
	startswith(args.x, "/home/")
}

permit["write"] := {"priority": 5, "require": [{"kind": "scopes", "scopes": ["a"]}, {"kind": "scopes", "scopes": ["b"]}]} if {
	input.resource.id == "t"
	writer
}

permit["other"] := {} if input.resource.id == "other"

writer if input.subject.id in data.writers

writer if {
	input.tenant == "default"
	every n in [1, 2] {
		level(n) > 0
	}
}

default quiet := false

quiet if not loud

loud if count([y | some y in [1, 2, 3]; y > 5]) > 0

forbid["blocked"] := {} if {
	input.resource.id in blocked
	quiet
}

blocked contains name if some name in data.blocked

level(n) := 5 if n < 2

level(n) := 6 if n >= 2

step := "low" if {
	level(1) == 6
} else := "middle" if {
	level(2) == 6
} else := "high"

deny contains "no" if step == "high"

args := input.mcp.params.arguments
`

func TestExplain(t *testing.T) {
	t.Parallel()
	const data = `{"writers": ["bob"], "blocked": [], "authzd_tools": {"t": {"arguments": {"type": "object", "properties": {"x": true}}}}}`
	q := call(t, "t", `{"x": "/etc/y"}`, credential(t, "c", claims(`"scope": "b"`)), credential(t, "d", claims(`"scope": "c"`)))
	const want = `tools/call tool t
permit write 5, scopes met by c, scopes: requirement.unmet, scopes: requirement.unmet
data.authz.args defined
  51 held
data.authz.blocked empty
  37 undefined, line 37: some name in data.blocked
data.authz.deny empty
  49 undefined, line 49: step == "high"
data.authz.forbid.blocked undefined
  32 undefined, line 33: input.resource.id in blocked
data.authz.level defined
  39 held 2 times
  41 held 2 times
data.authz.permit.other undefined
  15 undefined, line 15: input.resource.id == "other"
data.authz.permit.read undefined
  5 undefined, line 7: startswith(args.x, "/home/")
data.authz.permit.write defined
  10 held
data.authz.step defined
  43 undefined, line 44: level(1) == 6
  45 held
data.authz.writer true
  17 undefined, line 17: input.subject.id in data.writers
  19 held
`
	for _, compiled := range []bool{false, true} {
		e := engine.New(engine.Options{Now: testNow, Compiled: compiled, VerifySample: 1})
		s := compile(t, explainedPolicy, data)
		e.Prepare(s)
		x, got := explain(t, e, s, q, engine.ExplainOptions{})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("compiled %v: %s", compiled, diff)
		}
		by := engine.EvaluatorInterpreted
		if compiled {
			by = engine.EvaluatorCompiled
		}
		if v := x.Evaluations[0]; v.Evaluator != by || v.HandedOver != "" || v.Trace != nil {
			t.Errorf("compiled %v: by %s, handed over %q, %d lines", compiled, v.Evaluator, v.HandedOver, len(v.Trace))
		}
		d, err := e.DecideOn(t.Context(), s, q)
		if err != nil || d.Allow || x.Decision.Allow || x.Decision.Rule != d.Rule || len(x.Decision.Reasons) != len(d.Reasons) {
			t.Errorf("explained is %+v, decided %+v, %v", x.Decision, d, err)
		}
	}
}

// TestExplainOutcomes holds both evaluators against each other: what the compiled
// policy keeps of its rules is what OPA's trace shows of them.
func TestExplainOutcomes(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string]string{
		"default":         "default h := false\n\nh if input.tenant == \"x\"\n\npermit[\"a\"] := {} if not h",
		"default that is": "default h := false\n\nh if input.tenant == \"default\"\n\npermit[\"a\"] := {} if h",
		"false":           "h := false if input.tenant == \"default\"\n\npermit[\"a\"] := {} if h == false",
		"empty object":    "h := {} if input.tenant == \"default\"\n\npermit[\"a\"] := {} if h == {}",
		"empty text":      "h := \"\" if input.tenant == \"default\"\n\npermit[\"a\"] := {} if h == \"\"",
		"set":             "h contains x if some x in data.list\n\npermit[\"a\"] := {} if count(h) == 1",
		"no set":          "h contains x if {\n\tsome x in data.list\n\tx == \"z\"\n}\n\npermit[\"a\"] := {} if count(h) == 0",
		"object":          "h[x] := 1 if some x in data.list\n\npermit[\"a\"] := {} if count(h) == 1",
		"no object":       "h[x] := 1 if {\n\tsome x in data.list\n\tx == \"z\"\n}\n\npermit[\"a\"] := {} if count(h) == 0",
		"else":            "h if input.tenant == \"x\"\n\nelse := false\n\npermit[\"a\"] := {} if h == false",
		"chain":           "h if g\n\ng if f\n\nf if input.tenant == \"x\"\n\npermit[\"a\"] := {} if h",
		"unused":          "h if input.tenant == \"default\"\n\npermit[\"a\"] := {} if input.tenant == \"x\"\n\nunread if h",
		"two definitions": "h if input.tenant == \"default\"\n\nh if input.action.name == \"tools/call\"\n\npermit[\"a\"] := {} if h",
		"indexed":         "h := 1 if input.tenant == \"x\"\n\nh := 2 if input.tenant == \"default\"\n\npermit[\"a\"] := {} if h == 2",
	} {
		listed := `{"list": ["y"], ` + anyTool[1:]
		e := engine.New(engine.Options{Now: testNow, Compiled: true, VerifySample: -1})
		policy := "package authz\n\n" + rules + "\n"
		fast, slow := compile(t, policy, listed), compile(t, policy, listed)
		e.Prepare(fast)
		if state, why := fast.Evaluator(); state != engine.EvaluatorCompiled {
			t.Fatalf("%s: %s", name, why)
		}
		q := call(t, "t", `{}`, credential(t, "c", claims("")))
		x, got := explain(t, e, fast, q, engine.ExplainOptions{})
		y, want := explain(t, e, slow, q, engine.ExplainOptions{})
		if x.Evaluations[0].Evaluator != engine.EvaluatorCompiled || y.Evaluations[0].Evaluator != engine.EvaluatorInterpreted {
			t.Errorf("%s: evaluated by %s and %s", name, x.Evaluations[0].Evaluator, y.Evaluations[0].Evaluator)
		}
		if diff := cmp.Diff(want, got); diff != "" || x.Decision.Allow != y.Decision.Allow {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestExplainFaults(t *testing.T) {
	t.Parallel()
	// OPA evaluates the two once more to word it.
	const twice = "rule data.authz.h produced conflicting values:\n  1 at policy.rego:3\n  2 at policy.rego:5\n"
	for name, c := range map[string]struct{ rules, want, evaluator, handedOver string }{
		"a builtin fails": {
			"h if {\n\tinput.tenant == \"default\"\n\tto_number(input.tenant) == 1\n}\n\npermit[\"a\"] := {} if h",
			"data.authz.h error\n  3 error, line 5: to_number(input.tenant); to_number: strconv.ParseFloat: parsing \"default\": invalid syntax\n" +
				"data.authz.permit.a undefined\n  8 undefined, line 8: h\n",
			"interpreted", "builtin_error",
		},
		"a builtin fails within": {
			"h if {\n\tx := [y | some z in data.list; y := to_number(z)]\n\tcount(x) == 1\n}\n\npermit[\"a\"] := {} if not h",
			"data.authz.h error\n  3 error, line 4: to_number(z); to_number: strconv.ParseFloat: parsing \"y\": invalid syntax\n" +
				"data.authz.permit.a empty\n  8 held\n",
			"interpreted", "builtin_error",
		},
		"a conflict": {
			"h := 1 if input.tenant == \"default\"\n\nh := 2 if input.action.name == \"tools/call\"\n\npermit[\"a\"] := {} if h == 1",
			"data.authz.h error\n  3 held 2 times\n  5 error 2 times; " + twice + "data.authz.permit.a empty\n  7 held\nincomplete: policy.rego:5: " + twice,
			"interpreted", "conflict",
		},
	} {
		s := compile(t, "package authz\n\n"+c.rules+"\n", `{"list": ["y"], `+anyTool[1:])
		e := newEngine(s)
		x, got := explain(t, e, s, call(t, "t", `{}`, credential(t, "c", claims(""))), engine.ExplainOptions{})
		if diff := cmp.Diff("tools/call tool t\n"+c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		v := x.Evaluations[0]
		if x.Decision.Allow || x.Decision.Error == nil || string(v.Evaluator) != c.evaluator || v.HandedOver != c.handedOver {
			t.Errorf("%s: %+v by %s, handed over %q", name, x.Decision, v.Evaluator, v.HandedOver)
		}
	}
}

// TestExplainWithoutPolicy: where policy was not asked, there is nothing of it to tell.
func TestExplainWithoutPolicy(t *testing.T) {
	t.Parallel()
	s := compile(t, paymentsPolicy, paymentsData)
	e := newEngine(s)
	setBlocks(t, e, block(engine.BlockTool, "read", ""))
	for name, c := range map[string]struct {
		query  *engine.Query
		reason engine.Code
	}{
		"blocked":    {call(t, "read", `{}`, credential(t, "c", claims(""))), engine.CodeBlocked},
		"no token":   {call(t, "pay", `{"amount": "1", "payee": "bob"}`), engine.CodeNoCredential},
		"arguments":  {call(t, "pay", `{"amount": "1"}`, credential(t, "c", claims(""))), engine.CodeArgumentsInvalid},
		"not a tool": {call(t, "nothing", `{}`, credential(t, "c", claims(""))), engine.CodeToolUnknown},
	} {
		x, got := explain(t, e, s, c.query, engine.ExplainOptions{Trace: true})
		if got != "" || x.Decision.Allow || len(x.Decision.Reasons) != 1 || x.Decision.Reasons[0].Code != c.reason {
			t.Errorf("%s: %+v\n%s", name, x.Decision, got)
		}
	}
	if _, err := e.ExplainOn(t.Context(), nil, call(t, "pay", `{}`), engine.ExplainOptions{}); codeOf(err) != engine.CodeNotReady {
		t.Errorf("without policy: %v", err)
	}
	if _, err := e.ExplainOn(t.Context(), s, nil, engine.ExplainOptions{}); codeOf(err) != engine.CodeEmptyQuery {
		t.Errorf("without query: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.ExplainOn(ended, s, call(t, "pay", `{}`), engine.ExplainOptions{}); codeOf(err) != engine.CodeCancelled {
		t.Errorf("cancelled: %v", err)
	}
}

// TestExplainAsCommitted: single use is no obstacle to an explanation, and the
// query is left as it was.
func TestExplainAsCommitted(t *testing.T) {
	t.Parallel()
	policy := strings.Replace(paymentsPolicy, `"payee": args.payee,`+"\n\t}]),", `"payee": args.payee,`+"\n\t}]),\n\t{\"kind\": \"authorization_details\", \"single_use\": true, \"authorization_details\": [{\"type\": \"payment\", \"amount\": \"1\", \"payee\": \"bob\"}]},", 1)
	s := compile(t, policy, paymentsData)
	e := newEngine(s)
	q := call(t, "pay", `{"amount": "80.50", "payee": "bob"}`, credential(t, "c", claims(`"scope": "payments", `+details8050)))
	d := decide(t, e, q)
	x, _ := explain(t, e, s, q, engine.ExplainOptions{})
	told := func(reasons []engine.Reason) string {
		var codes []string
		for i := range reasons {
			codes = append(codes, string(reasons[i].Code))
		}
		return strings.Join(codes, " ")
	}
	if !strings.Contains(told(d.Reasons), string(engine.CodeCommitRequired)) || strings.Contains(told(x.Decision.Reasons), string(engine.CodeCommitRequired)) {
		t.Errorf("decided %s, explained %s", told(d.Reasons), told(x.Decision.Reasons))
	}
	if q.Commit != nil {
		t.Error("the query was changed")
	}
}

func TestExplainForbidden(t *testing.T) {
	t.Parallel()
	s := compile(t, paymentsPolicy, paymentsData)
	x, got := explain(t, newEngine(s), s, call(t, "pay", `{"amount": "80.50", "payee": "mallory"}`, credential(t, "c", claims(`"scope": "payments"`))), engine.ExplainOptions{})
	// The permits are judged although nothing hangs on them.
	for _, want := range []string{"permit initiate 100, scopes met by c, authorization_details: requirement.unmet\n", "forbid blocked\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if x.Decision.Allow || x.Decision.Rule != "blocked" {
		t.Errorf("%+v", x.Decision)
	}
}

func TestExplainMapped(t *testing.T) {
	t.Parallel()
	e := mappedEngine(t, "verified_subject")
	x, got := explain(t, e, e.Snapshot(), mappedCall(t, byAlice(asks("read", "file", "a"), asks("write", "file", "b"), asks("drop", "file", "c"), asks("read", "file", "d"))), engine.ExplainOptions{})
	if x.Decision.Allow || len(x.Evaluations) != 3 { // the first deny is the answer
		t.Fatalf("%+v\n%s", x.Decision, got)
	}
	for i, want := range []string{"read file a", "write file b", "drop file c"} {
		v := &x.Evaluations[i]
		if v.Action.Name+" "+v.Resource.Type+" "+v.Resource.ID != want || len(v.Permits) != map[bool]int{true: 0, false: 1}[i == 2] {
			t.Errorf("evaluation %d is %+v", i, v)
		}
	}
}

func TestExplainTrace(t *testing.T) {
	t.Parallel()
	s := compile(t, paymentsPolicy, paymentsData)
	q := call(t, "pay", `{"amount": "80.50", "payee": "bob"}`, credential(t, "c", claims(`"scope": "payments"`)))
	x, _ := explain(t, newEngine(s), s, q, engine.ExplainOptions{Trace: true})
	text := strings.Join(x.Evaluations[0].Trace, "\n")
	for _, want := range []string{"policy.rego:", "Enter data.authz.permit.initiate", "Fail internal.member_2(", `["mallory"]`} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

// TestExplainBounds: a policy that runs on is explained as far as it came, and one
// of many rules by those that matter.
func TestExplainBounds(t *testing.T) {
	t.Parallel()
	q := call(t, "t", `{}`, credential(t, "c", claims("")))
	endless := `package authz

permit["a"] := {} if {
	some x in data.list
	some y in data.list
	some z in data.list
	x + y + z == -1
}
`
	numbers := `{"list": [0` + strings.Repeat(", 1", 9999) + `], ` + anyTool[1:]
	s := compile(t, endless, numbers)
	e := engine.New(engine.Options{Now: testNow, Budget: 50 * time.Millisecond})
	x, err := e.ExplainOn(t.Context(), s, q, engine.ExplainOptions{Trace: true})
	if err != nil || x.Decision.Allow || x.Decision.Error == nil || x.Decision.Error.Code != engine.CodeBudget {
		t.Fatalf("%+v, %v", x.Decision, err)
	}
	v := x.Evaluations[0]
	if v.Incomplete != "the evaluation was stopped before it ended" || len(v.Rules) != 1 || len(v.Trace) == 0 || len(v.Trace) > 20_001 {
		t.Errorf("%q, %d rules, %d lines", v.Incomplete, len(v.Rules), len(v.Trace))
	}

	var many strings.Builder
	many.WriteString("package authz\n")
	for i := range 1200 {
		fmt.Fprintf(&many, "\npermit[\"p%d\"] := {} if {\n\tinput.resource.type == \"tool\"\n\tinput.resource.id == \"t%d\"\n}\n", i, i)
	}
	many.WriteString("\npermit[\"last\"] := {} if input.resource.id == \"t\"\n")
	e = engine.New(engine.Options{Now: testNow, Budget: time.Minute})
	x, err = e.ExplainOn(t.Context(), compile(t, many.String(), anyTool), q, engine.ExplainOptions{})
	if err != nil || !x.Decision.Allow || x.Decision.Rule != "last" {
		t.Fatalf("%+v, %v", x.Decision, err)
	}
	v = x.Evaluations[0]
	if !strings.HasPrefix(v.Incomplete, "1201 definitions") || len(v.Rules) != 1000 || v.Rules[0].Path != "data.authz.permit.last" {
		t.Errorf("%q, %d rules from %s on", v.Incomplete, len(v.Rules), v.Rules[0].Path)
	}

	if testing.Short() {
		return // more than 100,000 calls follow
	}
	calls := `package authz

permit["a"] := {} if {
	some i, x in data.list
	some j, y in data.list
	f((i * 330) + j, x + y) == -1
}

f(_, y) := y
`
	x, err = e.ExplainOn(t.Context(), compile(t, calls, strings.Replace(numbers, strings.Repeat(", 1", 9670), "", 1)), q, engine.ExplainOptions{})
	if err != nil || x.Decision.Allow || x.Decision.Error != nil {
		t.Fatalf("%+v, %v", x.Decision, err)
	}
	if got := x.Evaluations[0].Incomplete; !strings.HasPrefix(got, "more than "+strconv.Itoa(100_000)) {
		t.Errorf("incomplete: %q", got)
	}
}
