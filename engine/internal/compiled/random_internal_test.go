package compiled

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"
)

var (
	digits     = regexp.MustCompile(`[0-9]+`)
	randomTime = flag.Duration("random", 4*time.Second, "how long TestRandomPolicies runs")
	randomSeed = flag.Int64("seed", 1, "where TestRandomPolicies begins; 0: somewhere new")
)

const (
	// randomChild tells the process that compares from the one that starts it.
	randomChild = "AUTHZD_TEST_RANDOM_CHILD"
	seedLine    = "seed "
	sumLine     = "sum "
	// childStack is more than any of the generated policies needs, childHeap, too.
	childStack = 64 << 20
	childHeap  = 4 << 30
	// childGrace is how much longer than it was told a child may take.
	childGrace = 2 * time.Minute
)

// TestRandomPolicies compares generated policies on generated inputs with topdown
// under strict builtin errors. It does so in a child process: OPA's type checker has
// types that contain themselves, and writing one in an error message overflows the
// stack, which no process survives. Such a policy is passed over, as OPA does not
// take it.
func TestRandomPolicies(t *testing.T) {
	t.Parallel()
	if os.Getenv(randomChild) != "" {
		compareRandom(t)
		return
	}
	seed := *randomSeed
	if seed == 0 {
		seed = rand.Int63n(1 << 40) //nolint:gosec // it is printed
	}
	t.Logf("-seed %d", seed)
	sum, overflows := map[outcome]int{}, 0
	for end := time.Now().Add(*randomTime); time.Now().Before(end) && !t.Failed(); {
		last, output, err := runRandom(t, seed, time.Until(end), sum)
		seed = last + 1
		switch {
		case err == nil:
		case isTypeOverflow(output):
			overflows++
		default:
			t.Errorf("seed %d: %v\n%s", last, err, output)
		}
	}
	t.Logf("%d policies, overflows of OPA's type checker: %d, up to seed %d: %v", sum[policiesTaken], overflows, seed, sum)
	if sum[same] < sum[policiesTaken] || sum[policiesTaken] == 0 && overflows == 0 {
		t.Error("hardly anything was compared")
	}
}

// policiesTaken counts what OPA takes.
const policiesTaken outcome = "policies"

// isTypeOverflow tells whether a process ended by OPA's type checker, and not by
// anything of this package: the first function of the trace that is no library's of Go
// tells.
func isTypeOverflow(output []byte) bool {
	_, trace, overflow := bytes.Cut(output, []byte("goroutine stack exceeds"))
	_, trace, traced := bytes.Cut(trace, []byte("\ngoroutine "))
	if !overflow || !traced {
		return false
	}
	for line := range strings.Lines(string(trace)) {
		if strings.HasPrefix(line, "github.com/") {
			return strings.HasPrefix(line, "github.com/open-policy-agent/opa/v1/types.")
		}
	}
	return false
}

func TestIsTypeOverflow(t *testing.T) {
	t.Parallel()
	trace := func(function string) []byte {
		return []byte("runtime: goroutine stack exceeds 67108864-byte limit\nfatal error: stack overflow\n\ngoroutine 7 [running]:\n" +
			"runtime.newstack()\n\t/go/stack.go:1\n" + function + "(0x1)\n\t/x.go:1\ngithub.com/open-policy-agent/opa/v1/types.String(0x1)\n\t/types.go:1\n")
	}
	for function, want := range map[string]bool{
		"github.com/open-policy-agent/opa/v1/types.(*Object).String":     true,
		"github.com/authzd/authzd/engine/internal/compiled.(*machine).x": false,
		"github.com/open-policy-agent/opa/v1/topdown.(*eval).eval":       false,
	} {
		if isTypeOverflow(trace(function)) != want {
			t.Error(function)
		}
	}
	if isTypeOverflow([]byte("panic: x\n\ngoroutine 7 [running]:\ngithub.com/open-policy-agent/opa/v1/types.String(0x1)")) {
		t.Error("a panic is none")
	}
}

// runRandom runs a child from seed on and adds up what it counted. last is the seed
// that it ended with.
func runRandom(t *testing.T, seed int64, d time.Duration, sum map[outcome]int) (last int64, output []byte, err error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), d+childGrace)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, "-test.run=^TestRandomPolicies$", "-test.timeout=0",
		"-random", max(d, time.Second).String(), "-seed", strconv.FormatInt(seed, 10))
	cmd.Env = append(os.Environ(), randomChild+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last = seed
	counted := map[outcome]int{}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		line := lines.Text()
		if text, ok := strings.CutPrefix(line, seedLine); ok {
			if n, err := strconv.ParseInt(text, 10, 64); err == nil {
				last = n
				continue
			}
		}
		if text, ok := strings.CutPrefix(line, sumLine); ok {
			if err := json.Unmarshal([]byte(text), &counted); err != nil {
				t.Error(err)
			}
			continue
		}
		output = append(append(output, line...), '\n')
	}
	err = cmd.Wait()
	for k, n := range counted { // the last that was told, and it is told of all before
		sum[k] += n
	}
	return last, slices.Concat(output, errs.Bytes()), err
}

// compareRandom is the child.
func compareRandom(t *testing.T) {
	t.Helper()
	debug.SetMaxStack(childStack)
	go func() { // topdown has no bound: a builtin may fill the machine
		for range time.Tick(100 * time.Millisecond) {
			var m runtime.MemStats
			if runtime.ReadMemStats(&m); m.HeapAlloc > childHeap {
				fmt.Fprintln(os.Stderr, "the policy takes too much memory")
				os.Exit(1)
			}
		}
	}()
	sum := map[outcome]int{}
	tell := func() {
		text, err := json.Marshal(sum)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("\n%s%s\n", sumLine, text)
	}
	for seed, end := *randomSeed, time.Now().Add(*randomTime); time.Now().Before(end) && !t.Failed(); seed++ {
		fmt.Printf("\n%s%d\n", seedLine, seed)
		if comparePolicy(t, seed, sum) {
			sum[policiesTaken]++
		}
		if seed%50 == 0 {
			tell()
		}
	}
	tell()
}

// writer writes policies, and inputs for them.
type writer interface {
	random() *rand.Rand
	version() ast.RegoVersion // once policy has been asked
	data() string
	policy() (modules, documents []string)
	input() string
}

// comparePolicy tells whether OPA takes the policy at all.
func comparePolicy(t *testing.T, seed int64, sum map[outcome]int) bool {
	t.Helper()
	var g writer
	var of outcome
	switch seed % 3 {
	case 0:
		g, of = newTemplates(t, seed), "grammar: "
	case 1:
		g, of = &generator{r: seeded(seed)}, "mixture: "
	default:
		g, of = &patterns{r: seeded(seed)}, "patterns: "
	}
	modules, documents := g.policy()
	if len(documents) == 0 {
		return false
	}
	caps := ast.CapabilitiesForThisVersion()
	data := mustJSON(t, g.data())
	base := mustObject(t, ast.MustParseTerm(g.data()).Value)
	var inputs []ast.Value
	for range 12 {
		inputs = append(inputs, ast.MustParseTerm(g.input()).Value)
	}
	sets := passSets()
	names := util.KeysSorted(sets)
	if g.random().Intn(100) < 30 {
		inputs = append(inputs, nil) // an undefined input
	}
	offs := []Passes{{}, sets["no passes"], sets[names[g.random().Intn(len(names))]]}
	accepted := false
	for _, i := range g.random().Perm(len(documents))[:min(3, len(documents))] {
		ref := documents[i]
		if ref != "data" && !strings.HasPrefix(ref, "data.") {
			ref = "data.p." + ref
		}
		x, err := newSubject(modules, "x = "+ref, g.version(), caps)
		if err != nil {
			sum["does not compile in OPA"]++
			return false
		}
		accepted = true
		if err := x.setData(t.Context(), base); err != nil {
			t.Fatal(err)
		}
		for i, off := range offs {
			x.packed = i == 2 && seed%2 == 0
			x.compile(t.Context(), data, off)
			if x.program != nil {
				s := x.program.stats
				sum["passes: early exits"] += s.earlyExits
				sum["passes: guarded"] += s.guarded
				sum["passes: folded"] += s.folded
				sum["passes: fused"] += s.fused
			}
			for _, in := range inputs {
				o, why := x.judge(t.Context(), in)
				sum[o]++
				sum[of+o]++
				if o == handedOver || o == refused {
					sum[of+o+": "+outcome(digits.ReplaceAllString(why, ""))]++
				}
				if o == same {
					if s, err := x.topdown(t.Context(), in); err == nil && s.Len() > 0 {
						sum[of+"defined"]++
					}
				}
				if o == wrong {
					t.Errorf("seed %d, document %s, %+v off: %s\ninput %v\n%s", seed, documents[i], off, why, in, strings.Join(modules, "\n"))
					return true
				}
			}
		}
	}
	return accepted
}
