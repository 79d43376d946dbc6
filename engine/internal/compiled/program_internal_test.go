package compiled

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/authzd/authzd/engine/internal/contract"
	"github.com/authzd/authzd/policies"
	"github.com/authzd/authzd/rar"
)

// example is a worked policy, ready for both evaluators.
type example struct {
	name      string
	program   *Program
	documents []ast.Ref
	subject   *subject // with the query of the documents
	data      rar.Value
}

// loadExample compiles a policy of policies/examples as package engine does.
func loadExample(t testing.TB, name string, off Passes) *example {
	t.Helper()
	dir := filepath.Join("..", "..", "..", "policies", "examples", name)
	text, err := os.ReadFile(filepath.Join(dir, "policy.rego"))
	if err != nil {
		t.Fatal(err)
	}
	return newExample(t, name, string(text), readData(t, dir), off)
}

// readData joins the data.json files below a directory, each at its path.
func readData(t testing.TB, dir string) map[string]any {
	t.Helper()
	data := map[string]any{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.Name() != "data.json" {
			return err
		}
		text, err := os.ReadFile(path) //nolint:gosec // our own files
		if err != nil {
			return err
		}
		var v map[string]any
		if err := util.UnmarshalJSON(text, &v); err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, filepath.Dir(path))
		if err != nil {
			return err
		}
		at := data
		for _, p := range strings.Split(filepath.ToSlash(rel), "/") {
			if p == "." {
				continue
			}
			next, ok := at[p].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[p] = next
			}
			at = next
		}
		for k, x := range v {
			at[k] = x
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func newExample(t testing.TB, name, policy string, data map[string]any, off Passes) *example {
	t.Helper()
	modules := map[string]*ast.Module{}
	parse := func(path, text string) {
		m, err := ast.ParseModuleWithOpts(path, text, ast.ParserOptions{RegoVersion: ast.RegoV1, Capabilities: contract.Capabilities()})
		if err != nil {
			t.Fatal(err)
		}
		modules[path] = m
	}
	parse("policy.rego", policy)
	err := fs.WalkDir(policies.FS(), policies.Library, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".rego") {
			return err
		}
		text, err := fs.ReadFile(policies.FS(), path)
		parse(path, string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	x := &example{name: name, subject: &subject{now: time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)}}
	s := x.subject
	s.compiler = ast.NewCompiler().WithCapabilities(contract.Capabilities()).WithStrict(true)
	if s.compiler.Compile(modules); s.compiler.Failed() {
		t.Fatal(s.compiler.Errors)
	}
	pkg := modules["policy.rego"].Package.Path
	for _, document := range []string{"permit", "forbid", "allow", "deny"} {
		ref := pkg.Append(ast.StringTerm(document))
		if len(s.compiler.GetRulesWithPrefix(ref)) > 0 {
			x.documents = append(x.documents, ref)
		}
	}
	text, err := ast.InterfaceToValue(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.setData(t.Context(), mustObject(t, text)); err != nil {
		t.Fatal(err)
	}
	s.plain, _ = documentsQuery(x.documents)
	s.query = s.compiler.QueryCompiler()
	if s.body, err = s.query.Compile(s.plain.Copy()); err != nil {
		t.Fatal(err)
	}
	x.data = mustJSON(t, text.String())
	x.program, err = Compile(t.Context(), Options{Compiler: s.compiler, Documents: x.documents, Data: x.data, Off: off, poison: true})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return x
}

// eval runs the Program on a JSON input.
func (x *example) eval(ctx context.Context, input rar.Value) ([]Result, error) {
	in := x.program.NewInput()
	defer in.Release()
	return in.Eval(ctx, in.JSON(input), x.subject.now, nil)
}

// compare holds the results against topdown's.
func (x *example) compare(t *testing.T, input any) outcome {
	t.Helper()
	v := ast.MustInterfaceToValue(input)
	want, wantErr := x.subject.topdown(t.Context(), v)
	got, err := x.eval(t.Context(), mustJSON(t, v.String()))
	var h *HandoverError
	switch {
	case err != nil && (!errors.As(err, &h) || h.Reason == Failed):
		t.Errorf("%s: %v on %v", x.name, err, v)
		return wrong
	case err != nil && wantErr != nil:
		return bothFail
	case err != nil:
		return handedOver
	case wantErr != nil:
		t.Errorf("%s: topdown fails: %v on %v", x.name, wantErr, v)
		return wrong
	}
	solution, ok := want.Slice()[0].Value.(ast.Object)
	if !ok || want.Len() != 1 {
		t.Fatalf("topdown: %v", want)
	}
	for i := range x.documents {
		list, ok := solution.Get(ast.StringTerm("document" + string(rune('0'+i)))).Value.(*ast.Array)
		if !ok {
			t.Fatalf("topdown: %v", want)
		}
		r := Result{}
		if list.Len() == 1 {
			e := list.Elem(0).Value
			_, set := e.(ast.Set)
			r = Result{Defined: true, Set: set, Value: mustJSON(t, jsonText(t, e))}
		}
		if r.Defined != got[i].Defined || r.Set != got[i].Set || !rar.Equal(r.Value, got[i].Value) {
			t.Errorf("%s: %v is %+v, topdown %+v", x.name, x.documents[i], got[i], r)
			return wrong
		}
	}
	return same
}

func jsonText(t testing.TB, v ast.Value) string {
	t.Helper()
	if set, ok := v.(ast.Set); ok {
		v = ast.NewArray(set.Slice()...)
	}
	return v.String()
}

func readInput(t testing.TB) any {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "input.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := util.UnmarshalJSON(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func exampleNames() []string {
	return []string{"data-query", "files", "medical-records", "payments", "repositories"}
}

// TestExamples: the worked policies, through the whole API, on an input and many
// changed ones.
func TestExamples(t *testing.T) {
	t.Parallel()
	for _, name := range exampleNames() {
		for _, off := range []Passes{{}, passSets()["no passes"]} {
			x := loadExample(t, name, off)
			r := seeded(2)
			sum := map[outcome]int{}
			base := readInput(t)
			sum[x.compare(t, base)]++
			for range 200 {
				sum[x.compare(t, mutateTimes(t, r, base))]++
			}
			t.Logf("%s: %d documents, %+v, %v", name, len(x.documents), x.program.stats, sum)
			least := 100
			if off.Native {
				least = 50 // OPA's to_number makes numbers that are handed over
			}
			if sum[same] < least {
				t.Errorf("%s: %v", name, sum)
			}
		}
	}
}

// TestParallel lets many goroutines share one Program (with -race).
func TestParallel(t *testing.T) {
	t.Parallel()
	x := loadExample(t, "payments", Passes{})
	x.program.poison = false // so that memory is used again
	r := seeded(3)
	var inputs []rar.Value
	var want []string
	show := func(results []Result, err error) string {
		text := fmt.Sprint(err)
		for _, r := range results {
			text += string(r.Value.AppendCanonical(nil)) + "\n" //nolint:perfsprint // a few
		}
		return text
	}
	for range 100 {
		inputs = append(inputs, toJSON(t, mutateTimes(t, r, readInput(t))))
		want = append(want, show(x.eval(t.Context(), inputs[len(inputs)-1])))
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				k := (i*7 + g*13) % len(inputs)
				if got := show(x.eval(t.Context(), inputs[k])); got != want[k] {
					t.Errorf("input %d: %s, want %s", k, got, want[k])
				}
			}
		})
	}
	wg.Wait()
}

// TestBuilder: an input that is built by hand is the same as from JSON.
func TestBuilder(t *testing.T) {
	t.Parallel()
	x := newExample(t, "built", "package p\n\nallow if input == {\"a\": [\"x\", 1, true, null], \"b\": {\"c\": \"d\"}, \"e\": [\"f\"]}\n\n"+
		"deny contains k if some k, _ in input\n", map[string]any{}, Passes{})
	a := x.program.Name("a")
	in := x.program.NewInput()
	inner := in.Object(1)
	inner.SetText("c", in.Text("wrong"))
	inner.SetText("c", in.Text("d"))
	o := in.Object(3)
	o.SetText("e", in.Texts([]string{"f"}))
	o.SetText("b", inner.Value())
	o.Set(a, in.Array(in.Text("x"), in.JSON(rar.IntValue(1)), in.Bool(true), in.Null()))
	results, err := in.Eval(t.Context(), o.Value(), time.Now(), nil)
	in.Release()
	in.Release() // twice is harmless
	if err != nil {
		t.Fatal(err)
	}
	if !results[0].Value.Bool() {
		t.Error("not allowed")
	}
	if got := string(results[1].Value.AppendJSON(nil)); !results[1].Set || got != `["a","b","e"]` {
		t.Errorf("deny is %s", got)
	}
	if _, err := in.Eval(t.Context(), Value{}, time.Now(), nil); err == nil {
		t.Error("an input was used after its release")
	}
	// An undefined input.
	in = x.program.NewInput()
	defer in.Release()
	if results, err = in.Eval(t.Context(), Value{}, time.Now(), nil); err != nil || results[0].Defined || string(results[1].Value.AppendJSON(nil)) != "[]" {
		t.Errorf("%+v %v", results, err)
	}
}

// TestReleased: what is kept over a release is found out.
func TestReleased(t *testing.T) {
	t.Parallel()
	x := newExample(t, "released", "package p\n\nallow if input.a == [\"x\", 2000]\n", map[string]any{}, Passes{})
	in := x.program.NewInput()
	kept := in.JSON(mustJSON(t, `{"a": ["x", 2000]}`))
	in.Release()
	again := x.program.NewInput()
	defer again.Release()
	results, err := again.Eval(t.Context(), kept, time.Now(), nil)
	if err == nil && results[0].Defined {
		t.Error("memory was read after its release")
	}
}

// TestLimits: what takes too long or too much ends in a handover, soon.
func TestLimits(t *testing.T) {
	t.Parallel()
	var deep strings.Builder
	deep.WriteString("package p\n\nf0(x) := x\n\n")
	for i := range 49 {
		fmt.Fprintf(&deep, "f%d(x) := f%d(x)\n\n", i+1, i)
	}
	loop := "package p\n\nallow if {\n\tsome i in input.list\n\tsome j in input.list\n\tsome k in input.list\n\ti + j + k == -1\n}\n"
	for name, c := range map[string]struct {
		policy string
		limits Limits
		want   Reason
	}{
		"steps":           {loop, Limits{Steps: 1000}, Budget},
		"nodes in a loop": {"package p\n\nallow if count([[i, j] | some i in input.list; some j in input.list]) == 1\n", Limits{Nodes: 2000}, Budget},
		"nodes of OPA's":  {"package p\n\nallow if count(numbers.range(1, 100000)) == 1\n", Limits{Nodes: 2000}, Budget},
		"depth":           {deep.String() + "allow if f49(input.list) == 1\n", Limits{Depth: 20}, Budget},
		"depth is enough": {deep.String() + "allow if f49(input.list) == 1\n", Limits{Depth: 60}, ""},
	} {
		x := newExample(t, name, c.policy, map[string]any{}, Passes{})
		p, err := Compile(t.Context(), Options{Compiler: x.subject.compiler, Documents: x.documents, Limits: c.limits, poison: true})
		if err != nil {
			t.Fatal(err)
		}
		in := p.NewInput()
		list := "[0" + strings.Repeat(", 1", 200) + "]"
		_, err = in.Eval(t.Context(), in.JSON(mustJSON(t, `{"list": `+list+`}`)), time.Now(), nil)
		in.Release()
		var h *HandoverError
		if c.want == "" && err != nil || c.want != "" && (!errors.As(err, &h) || h.Reason != c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLazyInput: a number that must be handed over is, wherever it comes to light,
// and what nobody looks at costs nothing.
func TestLazyInput(t *testing.T) {
	t.Parallel()
	for policy, c := range map[string]struct {
		want  Reason
		nodes int // that may be made
	}{
		"allow if input.k == 1":                     {"", 15},
		"allow if input.odd.n > 7":                  {OddNumber, 0},
		"allow if count(input.odd) == 1":            {OddNumber, 0},
		"allow := input.odd":                        {OddNumber, 0},
		"allow := input.deep":                       {OddNumber, 0},
		"allow if input.deep.odd":                   {"", 15},
		"allow if count({x | some x in input}) > 0": {OddNumber, 0},
		"allow := [x | some x in [input.deep]][0]":  {OddNumber, 0},
	} {
		x := newExample(t, policy, "package p\n\n"+policy+"\n", map[string]any{}, Passes{})
		in := x.program.NewInput()
		_, err := in.Eval(t.Context(), in.JSON(mustJSON(t, `{"k": 1, "odd": {"n": 1.0}, "deep": {"odd": [[1.0]]}, "many": [[1], [2], {"a": [3, 4, 5]}]}`)), time.Now(), nil)
		made := in.m.arena.used()
		in.Release()
		var h *HandoverError
		if c.want == "" && (err != nil || made > c.nodes) || c.want != "" && (!errors.As(err, &h) || h.Reason != c.want) {
			t.Errorf("%s: %v, %d nodes", policy, err, made)
		}
	}
}

// TestCancel: a cancelled context ends a loop and a long builtin soon.
func TestCancel(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{
		"package p\n\nallow if {\n\tsome i in numbers.range(1, 3000)\n\tsome j in numbers.range(1, 3000)\n\ti == j + 5000\n}\n",
		"package p\n\nallow if count(numbers.range(1, 200000000)) == 1\n",
		"package p\n\nallow if count([1 | walk(numbers.range(1, 300000), [p, v]); p == v; walk(numbers.range(1, 300000), [q, w]); q == w]) == 1\n",
	} {
		x := newExample(t, "cancel", policy, map[string]any{}, Passes{})
		x.program.limits.Steps = 1 << 60
		x.program.limits.Nodes = 1 << 40
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		begin := time.Now()
		_, err := x.eval(ctx, rar.ObjectValue())
		cancel()
		var h *HandoverError
		if !errors.As(err, &h) || h.Reason != Cancelled || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if d := time.Since(begin); d > 5*time.Second {
			t.Errorf("ended after %v", d)
		}
	}
	x := newExample(t, "cancel", "package p\n\nallow := true\n", map[string]any{}, Passes{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := x.eval(ctx, rar.ObjectValue()); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestManyCalls: functions that call functions twice take linear time, as they do
// in topdown, however many arguments they have.
func TestManyCalls(t *testing.T) {
	t.Parallel()
	for _, more := range []string{"", ", b", ", b, c, d, e, f"} {
		testManyCalls(t, more)
	}
}

func testManyCalls(t *testing.T, more string) {
	t.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, "package p\n\nf0(x%s) := [x%s][0]\n\n", more, more)
	for i := range 60 {
		fmt.Fprintf(&text, "f%d(x%s) := y if {\n\ty := f%d(x%s)\n\tf%d(x%s) == y\n}\n\n", i+1, more, i, more, i, more)
	}
	fmt.Fprintf(&text, "allow if f60(input.a%s) == 2000\n", strings.Repeat(", input.a", strings.Count(more, ",")))
	x := newExample(t, "calls", text.String(), map[string]any{}, Passes{})
	for range 3 { // memory is used again
		results, err := x.eval(t.Context(), mustJSON(t, `{"a": 2000}`))
		if err != nil || !results[0].Defined {
			t.Fatalf("%+v %v", results, err)
		}
	}
	if results, err := x.eval(t.Context(), mustJSON(t, `{"a": 2001}`)); err != nil || results[0].Defined {
		t.Fatalf("%+v %v", results, err)
	}
}

// TestRefused: what is not supported is known when it is compiled.
func TestRefused(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`http.send({"method": "get", "url": "http://x"}).status_code == 200`: "needs the interpreter",
		`opa.runtime().env.X == "y"`:                                         "needs the interpreter",
		`rand.intn("x", 5) == 1`:                                             "order of calls",
		`uuid.rfc4122("x") == "y"`:                                           "order of calls",
		`net.lookup_ip_addr("x") == set()`:                                   "needs the interpreter",
		`trace("x")`:                                                         "needs the interpreter",
		`count(input.a) == 1 with count as 5`:                                "replaces the builtin",
		`f(1) == 1 with f as 5`:                                              "replaces the function",
		`json.match_schema(input.a, {}) == [true, []]`:                       "network",
		`not {input.a: 1} == {"a": 1, "b": 2}`:                               "negated equality",
		`o == {}`:                                                            "different shapes",
		`x := "no.such.builtin"; x == input.a`:                               "",
		`data.p.tree == {}`:                                                  "constant keys",
		`time.now_ns() > 5`:                                                  "",
		`io.jwt.decode_verify(input.t, {})[0]`:                               "",
	} {
		modules := []string{"package p\n\nallow if {\n\t" + body + "\n}\n\nf(x) := x\n\no[k] := 1 if some k in input.list\n\no[k].b := 1 if some k in input.list\n\ntree[1] := 2 if input.a\n"}
		x, err := newSubject(modules, "v = data.p.allow", ast.RegoV1, ast.CapabilitiesForThisVersion())
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		ref := ast.MustParseRef("data.p.allow")
		_, err = Compile(t.Context(), Options{Compiler: x.compiler, Documents: []ast.Ref{ref}})
		var refusal *RefusalError
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", body, err)
		case want != "" && (!errors.As(err, &refusal) || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %s", body, err, want)
		}
	}
	if _, err := Compile(t.Context(), Options{}); err == nil {
		t.Error("nothing was compiled")
	}
	x := newExample(t, "data", "package p\n\nallow := true\n", map[string]any{}, Passes{})
	for data, want := range map[string]string{`{"system": 1}`: "system", `[]`: "not an object", `{"a": [1, 2, 3]}`: "values"} {
		o := Options{Compiler: x.subject.compiler, Documents: x.documents, Data: mustJSON(t, data), Limits: Limits{DataNodes: 4}}
		if _, err := Compile(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", data, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Compile(ctx, Options{Compiler: x.subject.compiler, Documents: x.documents}); err == nil {
		t.Error("compiled in a context that has ended")
	}
}

// TestResultForms: what has no JSON form is handed over.
func TestResultForms(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		`{"a": [1.5, "x", null, true]}`: `{"a":[1.5,"x",null,true]}`,
		`{3, 1, "a"}`:                   `[1,3,"a"]`,
		`{"a": {1}}`:                    "",
		`{1: 2}`:                        "",
		`[{1}]`:                         "",
		`"é"`:                           `"é"`,
	} {
		x := newExample(t, value, "package p\n\npermit := "+value+"\n", map[string]any{}, Passes{})
		results, err := x.eval(t.Context(), rar.ObjectValue())
		var h *HandoverError
		switch {
		case want == "" && (!errors.As(err, &h) || h.Reason != MalformedOutput):
			t.Errorf("%s: %v %v", value, results, err)
		case want != "" && (err != nil || string(results[0].Value.AppendJSON(nil)) != want):
			t.Errorf("%s: %v %v", value, results, err)
		}
	}
}

// TestManyMembers: members that are added last are found in an object of many that
// came in no order.
func TestManyMembers(t *testing.T) {
	t.Parallel()
	x := newExample(t, "many", "package p\n\nallow if not input.agent\n\ndeny contains input.agent\n", map[string]any{}, Passes{})
	agent := x.program.Name("agent")
	for _, n := range []int{5, 24, 25, 26, 27, 60} {
		in := x.program.NewInput()
		o := in.Object(n + 1)
		for i := n; i > 0; i-- {
			o.SetText("m"+strconv.Itoa(i), in.Bool(true))
		}
		o.Add(agent, in.Text("a"))
		results, err := in.Eval(t.Context(), o.Value(), time.Now(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(results[1].Value.AppendJSON(nil)); results[0].Value.Bool() || got != `["a"]` {
			t.Errorf("%d members: allow %v, deny %s", n, results[0].Value.Bool(), got)
		}
		in.Release()
	}
}

// TestGuards: the field that tells most definitions apart finds them, though all ask another one first.
func TestGuards(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	text.WriteString("package p\n\n")
	for i := range 2500 { // more than guardMax
		text.WriteString(strings.ReplaceAll("allow if {\n\tinput.action == \"call\"\n\tinput.tool == \"tN\"\n\tinput.role == \"rN\"\n}\n\n", "N", strconv.Itoa(i)))
	}
	x := newExample(t, "guards", text.String(), map[string]any{}, Passes{})
	if got := x.program.stats.guarded; got != 2500 {
		t.Errorf("%d definitions are found by a look-up, want all", got)
	}
	for input, want := range map[string]bool{
		`{"action": "call", "tool": "t7", "role": "r7"}`: true, `{"action": "call", "tool": "t1500", "role": "r1500"}`: true, `{"action": "call", "tool": "t2499", "role": "r2499"}`: true, `{"action": "call", "tool": "t7", "role": "r8"}`: false,
		`{"action": "other", "tool": "t7", "role": "r7"}`: false, `{"tool": "t7", "role": "r7"}`: false, `{"action": "call", "role": "r7"}`: false,
	} {
		results, err := x.eval(t.Context(), mustJSON(t, input))
		if err != nil || (results[0].Defined && results[0].Value.Bool()) != want {
			t.Errorf("%s: %+v, %v", input, results, err)
		}
	}
}

// TestLargePolicies: what would take too long to plan is refused before, and many
// definitions that ask fields in turn are compiled at once.
func TestLargePolicies(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("compiles millions of terms")
	}
	text := func(n int, definition func(i int) string) string {
		var b strings.Builder
		b.WriteString("package p\n\n")
		for i := range n {
			b.WriteString(definition(i))
		}
		return b.String()
	}
	long := func(terms int) string { return "allow if input.n in [" + strings.Repeat("1, ", terms) + "2]\n\n" }
	for name, c := range map[string]struct {
		policy   string
		compiled bool
	}{
		"a rule of 10,000 terms": {text(1, func(int) string { return long(11_000) }), false},
		"a rule of 2,000 terms":  {text(1, func(int) string { return long(2_000) }), true},
		"many rules of 5,000":    {text(20, func(int) string { return long(5_000) }), false},
		"450 rules of 1,000":     {text(450, func(int) string { return long(1_000) }), false},
		"half a million terms":   {text(2_600, func(int) string { return long(200) }), true},
		"6,000, and pairs of them": {text(6_000, func(i int) string {
			return "allow if {\n\tinput.a == \"x\"\n\tinput." + string(rune('b'+i/2%9)) + " == \"" + strconv.Itoa(i) + "\"\n}\n\n"
		}), true},
	} {
		_, err := Compile(t.Context(), Options{Compiler: compilerOf(t, c.policy), Documents: []ast.Ref{ast.MustParseRef("data.p.allow")}, Data: rar.ObjectValue()})
		var refused *RefusalError
		if (err == nil) != c.compiled || err != nil && (!errors.As(err, &refused) || !strings.Contains(refused.What, "terms in a rule")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTopdownIsNotTouched: compiling leaves the compiler as it was, for topdown.
func TestTopdownIsNotTouched(t *testing.T) {
	t.Parallel()
	x := loadExample(t, "payments", Passes{})
	s := x.subject
	qc := s.compiler.QueryCompiler()
	body := ast.MustParseBody(`x = input.ks[_]; n = [1 | input.list[_] = x]`)
	compiled, err := qc.Compile(body)
	if err != nil {
		t.Fatal(err)
	}
	indexed := 0
	ast.WalkTerms(compiled, func(term *ast.Term) bool {
		if qc.ComprehensionIndex(term) != nil {
			indexed++
		}
		return false
	})
	if indexed == 0 {
		t.Error("the compiler was switched to plans")
	}
}

func BenchmarkEval(b *testing.B) {
	plain := "package p\n\ndefault allow := false\n\nallow if {\n\tinput.action.name == \"tools/call\"\n\tinput.resource.id == \"payments.initiate\"\n\t\"payments\" in input.credentials[_].scopes\n}\n"
	input := toJSON(b, readInput(b))
	for _, x := range []*example{loadExample(b, "payments", Passes{}), newExample(b, "plain", plain, map[string]any{}, Passes{})} {
		x.program.poison = false
		b.Run(x.name+"/compiled", func(b *testing.B) { benchCompiled(b, x, input) })
		b.Run(x.name+"/topdown", func(b *testing.B) { benchTopdown(b, x, input) })
	}
}

// BenchmarkDefinitions: many definitions that ask one field of the input.
func BenchmarkDefinitions(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		var text strings.Builder
		text.WriteString("package p\n\ndefault allow := false\n\n")
		for i := range n {
			text.WriteString(strings.ReplaceAll("allow if {\n\tinput.action == \"aN\"\n\tinput.role == \"rN\"\n}\n\n", "N", strconv.Itoa(i)))
		}
		x := newExample(b, strconv.Itoa(n), text.String(), map[string]any{}, Passes{})
		x.program.poison = false
		input := mustJSON(b, `{"action": "a`+strconv.Itoa(n-1)+`", "role": "r`+strconv.Itoa(n-1)+`"}`)
		b.Run(x.name+"/compiled", func(b *testing.B) { benchCompiled(b, x, input) })
		b.Run(x.name+"/topdown", func(b *testing.B) { benchTopdown(b, x, input) })
	}
}

func benchCompiled(b *testing.B, x *example, input rar.Value) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := x.eval(b.Context(), input); err != nil {
			b.Fatal(err)
		}
	}
}

func benchTopdown(b *testing.B, x *example, input rar.Value) {
	b.Helper()
	v := ast.NewTerm(ast.MustParseTerm(string(input.AppendJSON(nil))).Value)
	store := inmem.NewFromASTObject(x.subject.data)
	txn, err := store.NewTransaction(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		err := topdown.NewQuery(x.subject.body).WithQueryCompiler(x.subject.query).WithCompiler(x.subject.compiler).
			WithStore(store).WithTransaction(txn).WithInput(v).WithTime(x.subject.now).WithStrictBuiltinErrors(true).
			Iter(b.Context(), func(topdown.QueryResult) error { return nil })
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	x := loadExample(b, "payments", Passes{})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(b.Context(), Options{Compiler: x.subject.compiler, Documents: x.documents, Data: x.data}); err != nil {
			b.Fatal(err)
		}
	}
}

// TestOrdinaryForms: what policies are mostly made of is compiled, and what is
// refused is known.
func TestOrdinaryForms(t *testing.T) {
	t.Parallel()
	workload, err := os.ReadFile(filepath.Join("..", "..", "..", "tests", "bench", "workload", "authzd.rego"))
	if err != nil {
		t.Fatal(err)
	}
	const blocked = "package p\n\nblocked contains id if data.accounts[id].blocked\n\n"
	for name, c := range map[string]struct {
		policy   string
		compiled bool
	}{
		"the workload":                            {string(workload), true},
		"a set over data, as a whole":             {blocked + "allow if input.id in blocked\n", true},
		"a set over data, iterated":               {blocked + "allow if {\n\tsome id in blocked\n\tstartswith(id, \"x\")\n}\n", true},
		"an object over data, iterated":           {"package p\n\nlimits[id] := n if some id, n in data.limits\n\nallow if {\n\tsome id, n in limits\n\tn > input.n\n}\n", true},
		"a set over data, by a key":               {blocked + "allow if blocked[input.id]\n", false},
		"a set over data, by a constant key":      {blocked + "allow if blocked.x\n", false},
		"a set over data, by a function":          {blocked + "f(id) if id in blocked\n\nallow if f(input.id)\n", true},
		"a set over input, by a key":              {"package p\n\nroles contains r if some r in input.roles\n\nallow if roles.admin\n", true},
		"a set from data by constants, by a key":  {"package p\n\nroles contains r if {\n\tsome r in input.roles\n\tr in data.roles\n}\n\nallow if roles.admin\n", true},
		"data by a key":                           {"package p\n\nallow if data.roles[input.role].write\n", true},
		"a set of rules of constant names":        {"package p\n\nallow if count(deny_reasons) == 0\n\ndeny_reasons contains \"late\" if input.late\n", true},
		"a decimal":                               {"package p\n\nallow if input.n < 0.5\n", true},
		"a decimal that ends in 0":                {"package p\n\nallow if input.n < 0.50\n", false},
		"every in every, comprehension and other": {"package p\n\nallow if {\n\tevery x in input.xs { every y in x.ys { y in data.known } }\n\tcount({x.a | some x in input.xs}) == 1\n}\n", true},
	} {
		x := compilerOf(t, c.policy)
		ref := ast.MustParseRef("data.p.allow")
		if name == "the workload" {
			ref = ast.MustParseRef("data.authz.permit")
		}
		_, err := Compile(t.Context(), Options{Compiler: x, Documents: []ast.Ref{ref}, Data: rar.ObjectValue()})
		if (err == nil) != c.compiled {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// compilerOf compiles a policy with the library.
func compilerOf(t testing.TB, policy string) *ast.Compiler {
	t.Helper()
	modules := map[string]*ast.Module{"policy.rego": ast.MustParseModuleWithOpts(policy, ast.ParserOptions{RegoVersion: ast.RegoV1})}
	err := fs.WalkDir(policies.FS(), policies.Library, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".rego") {
			return err
		}
		text, err := fs.ReadFile(policies.FS(), path)
		modules[path] = ast.MustParseModuleWithOpts(string(text), ast.ParserOptions{RegoVersion: ast.RegoV1})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	c := ast.NewCompiler().WithCapabilities(contract.Capabilities())
	if c.Compile(modules); c.Failed() {
		t.Fatal(c.Errors)
	}
	return c
}
