package rar_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/authzd/authzd/rar"
)

// blockPairs is how many pairs share one random declaration.
const blockPairs = 100

// oracleRun is one run over many random pairs of grants and needs.
type oracleRun struct {
	seed   uint64
	blocks int
	// acts says at every how many blocks acts are enumerated, 0 never.
	acts uint64
	// actsOnly leaves the rule oracle out.
	actsOnly bool
	// distort changes the declaration that Covers sees, and only that one: a
	// fault put in on purpose. Nil in the real run.
	distort func(declaration string) string

	next    atomic.Int64
	failed  atomic.Bool
	mu      sync.Mutex
	tally   oracleTally
	message string
}

// oracleTally is what a run met; a run that never met a reason proved nothing
// about it.
type oracleTally struct {
	pairs, covered, enumerated, converse int
	reasons, errors                      map[rar.Code]int
}

func newOracleTally() oracleTally {
	return oracleTally{reasons: map[rar.Code]int{}, errors: map[rar.Code]int{}}
}

// run works through the blocks; each has a stream of its own, so that a run is
// the same on any number of processors.
func (o *oracleRun) run() {
	o.tally = newOracleTally()
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			w, own := newActWorld(), newOracleTally()
			for !o.failed.Load() {
				b := int(o.next.Add(1)) - 1
				if b >= o.blocks {
					break
				}
				if message := o.block(uint64(b), w, &own); message != "" { //nolint:gosec // b is not negative
					o.fail(message)
				}
			}
			o.mu.Lock()
			defer o.mu.Unlock()
			o.tally.add(own)
		})
	}
	wg.Wait()
}

func (o *oracleRun) fail(message string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.failed.Swap(true) {
		o.message = message
	}
}

func (t *oracleTally) add(own oracleTally) {
	t.pairs += own.pairs
	t.covered += own.covered
	t.enumerated += own.enumerated
	t.converse += own.converse
	for code, n := range own.reasons {
		t.reasons[code] += n
	}
	for code, n := range own.errors {
		t.errors[code] += n
	}
}

// block declares types and asks about pairs of them.
func (o *oracleRun) block(b uint64, w *actWorld, tally *oracleTally) string {
	m := &maker{source: rand.New(rand.NewPCG(o.seed, b))} //nolint:gosec // repeatable on purpose
	m.declareAll()
	types, err := o.compile(m)
	if err != nil {
		return fmt.Sprintf("block %d: %s: %v", b, m.declarations(), err)
	}
	oracle := m.oracle()
	for range blockPairs {
		c := m.pair()
		message := ""
		if !o.actsOnly {
			var agreed verdict
			agreed, message = compareAnswers(types, oracle, c, m)
			tally.count(agreed)
		}
		check := func(c coverCase) string {
			_, message := compareAnswers(types, oracle, c, nil)
			return message
		}
		if message == "" && o.acts > 0 && b%o.acts == 0 {
			check = func(c coverCase) string { return compareActs(types, oracle, w, c, tally) }
			message = check(c)
		}
		if message != "" {
			small := shrink(c, func(c coverCase) bool { return check(c) != "" })
			if again := check(small); again != "" {
				message = again
			}
			return fmt.Sprintf("block %d: %s\ndeclarations %s\n%s", b, message, m.declarations(), small)
		}
	}
	return ""
}

func (o *oracleRun) compile(m *maker) (*rar.Types, error) {
	if o.distort == nil {
		return m.compiled()
	}
	var decls []rar.Declaration
	for _, d := range m.types {
		document, err := rar.DecodeStrict([]byte(o.distort(jsonText(d.document()))), rar.Limits{})
		if err != nil {
			return nil, err
		}
		decls = append(decls, rar.Declaration{Name: d.name, Document: document})
	}
	types, _, err := rar.CompileTypes(decls)
	return types, err
}

func (m *maker) declarations() string {
	var all []any
	for _, d := range m.types {
		all = append(all, d.document())
	}
	return jsonText(all)
}

func (c coverCase) String() string {
	return fmt.Sprintf("granted %s\nrequired %s\nsingle_use %v", jsonText(c.granted), jsonText(c.required), c.singleUse)
}

func jsonText(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (t *oracleTally) count(v verdict) {
	t.pairs++
	if v.covered {
		t.covered++
	}
	for _, r := range v.because {
		t.reasons[r.Code]++
	}
	if v.err != "" {
		t.errors[v.err]++
	}
}

// compareAnswers asks both; it returns what they agree on, or how they differ.
// With a source, members come in any order and the grants at times by the way
// that tokens take, through Types.Granted.
func compareAnswers(types *rar.Types, oracle *oracleTypes, c coverCase, s source) (verdict, string) {
	want := oracle.judge(c.granted, c.required, c.singleUse)
	granted, required := rarValues(c.granted, s), rarValues(c.required, s)
	options := rar.CoverOptions{SingleUse: c.singleUse}
	if s != nil && s.IntN(4) == 0 {
		usable, skipped := types.Granted(rar.ArrayValue(granted...))
		// A claim that is no array of objects grants nothing at all; that is for
		// Granted's own tests, so Covers is asked the plain way then.
		if len(skipped) == 0 || skipped[0].Index >= 0 {
			granted, options.Skipped, options.GrantedValidated = usable, skipped, true
		}
	}
	got, err := types.Covers(granted, required, options)
	if err != nil {
		var e *rar.Error
		if !errors.As(err, &e) || e.Code != want.err || got.Covered {
			return want, fmt.Sprintf("Covers fails with %v, the oracle says %+v", err, want)
		}
		return want, ""
	}
	a, b := sorted(want.because), sorted(got.Because)
	if want.err != "" || got.Covered != want.covered || !slices.Equal(a, b) {
		return want, fmt.Sprintf("Covers says %v because %v, the oracle says %v because %v %s", got.Covered, b, want.covered, a, want.err)
	}
	return want, usedFault(types, granted, required, got, options.SingleUse)
}

// usedFault holds Used against the answer.
func usedFault(types *rar.Types, granted, required []rar.Value, got rar.Result, singleUse bool) string {
	if len(required) == 0 {
		return ""
	}
	if len(got.Used) != len(required) {
		return fmt.Sprintf("used %v for %d needs", got.Used, len(required))
	}
	taken := map[int]bool{}
	for i, j := range got.Used {
		if j < 0 {
			if got.Covered {
				return fmt.Sprintf("covered, and used %v", got.Used)
			}
			continue
		}
		name, _ := required[i].Get("type")
		if taken[j] && (singleUse || types.SingleUse(name.Text())) {
			return fmt.Sprintf("used twice: %v", got.Used)
		}
		taken[j] = true
		if one, err := types.Covers(granted[j:j+1], required[i:i+1], rar.CoverOptions{}); err != nil || !one.Covered {
			return fmt.Sprintf("used %v, but grant %d does not cover need %d", got.Used, j, i)
		}
	}
	return ""
}

// compareActs holds a yes against the enumerated acts, and, where the rules are
// complete, a no of one grant and one need too.
func compareActs(types *rar.Types, oracle *oracleTypes, w *actWorld, c coverCase, tally *oracleTally) string {
	got, err := types.Covers(rarValues(c.granted, nil), rarValues(c.required, nil), rar.CoverOptions{SingleUse: c.singleUse})
	if err != nil {
		return "" // the rule oracle says which needs are faulty
	}
	for _, r := range c.required {
		need, _ := r.(map[string]any)
		asked := w.asksMembers(oracle.rules[typeOf(need)], need)
		tally.enumerated += len(asked)
		if got.Covered && !w.allowed(oracle, c.granted, need, asked) {
			return "covered, but " + jsonText(need) + " asks for an act that no grant allows"
		}
		for _, g := range c.granted {
			allowed := w.allowed(oracle, []any{g}, need, asked)
			one, err := types.Covers([]rar.Value{rarValue(g, nil)}, []rar.Value{rarValue(need, nil)}, rar.CoverOptions{})
			if err != nil {
				return err.Error()
			}
			if one.Covered && !allowed {
				return "covered by " + jsonText(g) + ", but " + jsonText(need) + " asks for an act that it does not allow"
			}
			if len(asked) == 0 || !allowed || !oracle.rules[typeOf(need)].complete() {
				continue
			}
			tally.converse++
			if !one.Covered {
				return fmt.Sprintf("%s allows every act of %s and does not cover it: %v", jsonText(g), jsonText(need), one.Because)
			}
		}
	}
	return ""
}

// oracleNumber reads a setting of the run from the environment.
func oracleNumber(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestOracle asks Covers and the oracles about random pairs. RAR_ORACLE_PAIRS
// says how many (make oracle: 10 million), RAR_ORACLE_SEED which.
func TestOracle(t *testing.T) {
	t.Parallel()
	pairs := uint64(200_000)
	if testing.Short() {
		pairs = 20_000
	}
	pairs = oracleNumber(t, "RAR_ORACLE_PAIRS", pairs)
	o := &oracleRun{seed: oracleNumber(t, "RAR_ORACLE_SEED", 9396), blocks: int((pairs + blockPairs - 1) / blockPairs), acts: 16} //nolint:gosec // at most 2^32 pairs
	o.run()
	t.Log(o.summary())
	if o.failed.Load() {
		t.Fatalf("seed %d, %s", o.seed, o.message)
	}
	if o.tally.pairs != o.blocks*blockPairs {
		t.Fatalf("%d pairs were asked about", o.tally.pairs)
	}
	if pairs >= 20_000 {
		o.tally.checkMix(t)
	}
}

func (o *oracleRun) summary() string {
	var b strings.Builder
	fmt.Fprintf(&b, "oracle: seed %d, %d pairs, %d types, %d covered, %d acts enumerated, %d times all allowed and covered;",
		o.seed, o.tally.pairs, o.blocks, o.tally.covered, o.tally.enumerated, o.tally.converse)
	for _, counts := range []map[rar.Code]int{o.tally.reasons, o.tally.errors} {
		for _, code := range slices.Sorted(maps.Keys(counts)) {
			fmt.Fprintf(&b, " %s %d", code, counts[code])
		}
	}
	return b.String()
}

// checkMix fails a run that met too little to prove anything.
func (t *oracleTally) checkMix(tb testing.TB) {
	tb.Helper()
	if share := t.covered * 100 / t.pairs; share < 15 || share > 85 {
		tb.Errorf("%d %% of the pairs are covered", share)
	}
	if t.enumerated < t.pairs/10 || t.converse < t.pairs/100 {
		tb.Errorf("only %d acts were enumerated, %d converse checks", t.enumerated, t.converse)
	}
	all := rar.Codes()
	first := slices.Index(all, rar.CodeOpenInRequired)
	for _, code := range all[first : slices.Index(all, rar.CodeGrantedUsedUp)+1] {
		if t.reasons[code] < t.pairs/10_000 {
			tb.Errorf("%s was met %d times", code, t.reasons[code])
		}
	}
	for _, code := range []rar.Code{rar.CodeInvalidRequired, rar.CodeUnknownType} {
		if t.errors[code] < t.pairs/10_000 {
			tb.Errorf("%s was met %d times", code, t.errors[code])
		}
	}
}
