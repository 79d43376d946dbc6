package policies_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

// TestDecideOracle asks random questions over the worked examples: the compiled
// policy, OPA's interpreter behind the same engine, and a plain reading of the
// contract over stock OPA agree. DECIDE_ORACLE_CASES says how many questions
// (make decide-oracle), DECIDE_ORACLE_SEED makes other ones.
func TestDecideOracle(t *testing.T) {
	t.Parallel()
	count := setting(t, "DECIDE_ORACLE_CASES", 4000)
	if testing.Short() {
		count = min(count, 1000)
	}
	names := exampleNames(t)
	for i, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := openExampleOracle(t, name)
			o.askAll(t, uint64(i), (count+i)/len(names)) //nolint:gosec // an index
			o.report(t)
		})
	}
}

// TestDecideOracleSuites asks the same of the policies of tests/failclosed and of
// testdata/steps, which have what the examples lack: permits of several ranks, all
// kinds of requirements, plain allow and deny, tools without schema, and faults,
// which compiled policy hands over.
func TestDecideOracleSuites(t *testing.T) {
	t.Parallel()
	count := setting(t, "DECIDE_ORACLE_CASES", 4000) / 5
	if testing.Short() {
		count = min(count, 500)
	}
	dirs, err := filepath.Glob("../tests/failclosed/suites/*")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no suites: %v", err)
	}
	for i, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			o := openSuiteOracle(t, dir)
			o.askAll(t, uint64(100+i), (count+i)/len(dirs)) //nolint:gosec // an index
			o.log(t)
		})
	}
	t.Run("steps", func(t *testing.T) {
		t.Parallel()
		o := openSuiteOracle(t, "testdata/steps")
		o.askAll(t, 99, count)
		if made := o.log(t); made.HandedOver["conflict"] == 0 || made.HandedOver["builtin_error"] == 0 || o.ends["remedy proof_of_possession"] == 0 {
			t.Errorf("handed over: %v; how it ended: %v", made.HandedOver, o.ends)
		}
	})
}

// toTheLetter compares all of two decisions; equal numbers may not be written
// otherwise.
var toTheLetter = cmp.Options{
	cmp.Exporter(func(reflect.Type) bool { return true }),
	cmp.Comparer(func(a, b rar.Value) bool {
		return a.Kind() == b.Kind() && bytes.Equal(a.AppendJSON(nil), b.AppendJSON(nil))
	}),
}

func setting(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// oracle is one example, ready to be asked in three ways.
type oracle struct {
	*reading
	generator              *generator
	compiled, interpreted  *engine.Engine
	now                    time.Time
	asked, atDoor, allowed int
	// ends counts how decisions end, rules which rule they name.
	ends, rules      map[string]int
	permits, forbids []string
}

// question makes of a draft what the engine and the reading are asked; nil if the
// door refuses it.
func (d *draft) question() *asked {
	text, err := json.Marshal(d.tree)
	if err != nil {
		return nil
	}
	r, err := api.DecodeQuery(text, api.Limits{})
	if err != nil {
		return nil
	}
	q := r.Query
	q.Tenant, q.Audience, q.CarriesObligations = d.tenant, d.audience, !d.noObligations
	if d.kinds != nil {
		kinds := make([]engine.Kind, len(d.kinds))
		for i, k := range d.kinds {
			kinds[i] = engine.Kind(k)
		}
		q.Actionable = engine.NewKindSet(kinds...)
	}
	return &asked{tree: d.tree, query: q, now: d.now}
}

// required are the requirements of each permit that the policy gives this call.
func (o *oracle) required(ctx context.Context, d *draft) [][]any {
	a := d.question()
	if a == nil || o.malformed(a) != "" || o.arguments(a) != "" {
		return nil
	}
	w, code := o.whoAsks(a)
	if code != "" {
		return nil
	}
	out, err := o.evaluate(ctx, a, w)
	if err != nil {
		return nil
	}
	var all [][]any
	for _, name := range names(object(out.permit)) {
		all = append(all, array(at(object(out.permit)[name], "require")))
	}
	return all
}

func (o *oracle) askAll(t *testing.T, which uint64, count int) {
	t.Helper()
	seed := uint64(setting(t, "DECIDE_ORACLE_SEED", 1)) //nolint:gosec // a seed
	for n := range uint64(count) {                      //nolint:gosec // not negative
		if o.ask(t, seed<<16|which, n); t.Failed() {
			return
		}
	}
}

// ask asks one question in three ways.
func (o *oracle) ask(t *testing.T, seed, n uint64) {
	t.Helper()
	d := o.generator.draft(rand.New(rand.NewPCG(seed, n))) //nolint:gosec // the same each time, and no secret
	a := d.question()
	o.asked++
	if a == nil {
		o.atDoor++
		return
	}
	fail := func(what, diff string) {
		t.Helper()
		text, _ := json.Marshal(d.tree) //nolint:errchkjson // was marshalled before
		t.Errorf("DECIDE_ORACLE_SEED %d, question %d: %s (%s):\n%s\nat %s, tenant %q, audience %q, obligations %v, kinds %v", seed>>16, n, what, diff, text,
			a.now.Format(time.RFC3339), d.tenant, d.audience, !d.noObligations, d.kinds)
	}
	o.now = a.now
	fast, err1 := o.compiled.Decide(t.Context(), a.query)
	slow, err2 := o.interpreted.Decide(t.Context(), a.query)
	if fmt.Sprint(err1) != fmt.Sprint(err2) || !cmp.Equal(fast, slow, toTheLetter) {
		fail("compiled and interpreted differ", fmt.Sprintf("%+v, %v\n%+v, %v", fast, err1, slow, err2))
		return
	}
	oneFault(&slow)
	want, err := o.judge(t.Context(), a)
	if err != nil {
		fail("the reading fails", err.Error())
		return
	}
	got := verdictOf(t, &slow, err2)
	if diff := cmp.Diff(want, got); diff != "" {
		fail("engine and reading differ", "-reading +engine\n"+diff)
		return
	}
	o.count(&got)
}

// oneFault forgets which of several faults of the arguments a decision names: the
// reading asks the JSON Schema library, which finds them in no order.
func oneFault(d *engine.Decision) {
	if d.Error == nil || d.Error.Code != engine.CodeArgumentsInvalid {
		return
	}
	const where = "The arguments do not fit the tool's schema at "
	if d.Error.Message == "" || len(d.Reasons) == 0 || !strings.HasPrefix(d.Message, where) {
		return
	}
	d.Error.Message, d.Error.Path, d.Message = "", "", where
	d.Reasons[len(d.Reasons)-1].Message = ""
}

func (o *oracle) count(v *verdict) {
	switch {
	case v.Error != "":
		o.ends["error "+v.Error]++
		return
	case v.Allow:
		o.allowed++
		o.ends["allow"]++
		if slices.ContainsFunc(v.Met, func(m string) bool { return strings.Fields(m)[2] != strings.Fields(v.Met[0])[2] }) {
			o.ends["met by two credentials"]++
		}
		o.rules["allow "+v.Rule]++
		return
	case v.Fault != "":
		o.ends[v.Fault]++
		return
	}
	o.rules["deny "+v.Rule]++
	o.ends["deny "+v.Status]++
	for _, r := range v.Remedies {
		kind, _, _ := strings.Cut(r, " ")
		if o.ends["remedy "+kind]++; strings.HasSuffix(r, " presented false") {
			o.ends["no credential"]++
		}
	}
	switch {
	case v.InWords:
		o.ends["in words"]++
	case v.Status == "undisclosed" && len(v.Remedies) > 0:
		o.ends["known and not told"]++
	}
}

func (o *oracle) log(t *testing.T) engine.Evaluations {
	t.Helper()
	made := o.compiled.Evaluations()
	handed := 0
	for _, n := range made.HandedOver {
		handed += int(n) //nolint:gosec // small
	}
	t.Logf("%d questions, %d refused at the door, %d allowed; %d evaluated by compiled policy, %d handed over: %v\n%v\n%v",
		o.asked, o.atDoor, o.allowed, made.Compiled, handed, made.HandedOver, o.ends, o.rules)
	return made
}

// report fails if the questions were such that a difference could hide.
func (o *oracle) report(t *testing.T) {
	t.Helper()
	made := o.log(t)
	if o.atDoor*5 > o.asked || o.allowed*20 < o.asked || made.Compiled*4 < uint64(o.asked) { //nolint:gosec // not negative
		t.Error("too many are refused at the door, or too few allowed or evaluated by compiled policy")
	}
	want := []string{
		"allow", "deny available", "deny undisclosed", "remedy token", "remedy scopes", "remedy authorization_details", "in words",
		"known and not told", "no credential", "met by two credentials",
		"request.arguments_invalid", "request.tool_unknown", "error request.mcp_mismatch", "error request.agent_mismatch",
	}
	for _, end := range want {
		if o.ends[end] == 0 && o.asked >= 800 {
			t.Errorf("no question ended with %s", end)
		}
	}
	for _, name := range o.permits {
		if o.rules["allow "+name] == 0 {
			t.Errorf("nothing was allowed by %s", name)
		}
	}
	for _, name := range o.forbids {
		if o.rules["deny "+name] == 0 {
			t.Errorf("nothing was denied by %s", name)
		}
	}
}
