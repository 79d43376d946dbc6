package compiled

import (
	"flag"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"
)

// By default only seeds are run that were run before: OPA's type checker has types
// that contain themselves, and writing one in an error message ends the process.
const (
	defaultTime  = 4 * time.Second
	defaultSeeds = 400
)

var (
	digits     = regexp.MustCompile(`[0-9]+`)
	randomTime = flag.Duration("random", defaultTime, "how long TestRandomPolicies runs")
	randomSeed = flag.Int64("seed", 1, "where TestRandomPolicies begins")
)

// TestRandomPolicies compares generated policies on generated inputs with topdown
// under strict builtin errors.
func TestRandomPolicies(t *testing.T) {
	t.Parallel()
	sum := map[outcome]int{}
	policies := 0
	last := *randomSeed + defaultSeeds
	if *randomTime != defaultTime {
		last = math.MaxInt64
	}
	for seed, end := *randomSeed, time.Now().Add(*randomTime); seed < last && time.Now().Before(end); seed++ {
		if comparePolicy(t, seed, sum) {
			policies++
		}
		if t.Failed() {
			t.Logf("seed %d", seed)
			break
		}
	}
	t.Logf("%d policies, %v", policies, sum)
	if sum[same] < policies {
		t.Error("hardly anything was compared")
	}
}

// comparePolicy tells whether OPA takes the policy at all.
func comparePolicy(t *testing.T, seed int64, sum map[outcome]int) bool {
	t.Helper()
	g := &generator{r: seeded(seed)}
	modules, documents := g.policy()
	if len(documents) == 0 {
		return false
	}
	caps := ast.CapabilitiesForThisVersion()
	data := mustJSON(t, genData)
	base := mustObject(t, ast.MustParseTerm(genData).Value)
	var inputs []ast.Value
	for range 12 {
		inputs = append(inputs, ast.MustParseTerm(g.input()).Value)
	}
	sets := passSets()
	names := util.KeysSorted(sets)
	if g.chance(30) {
		inputs = append(inputs, nil) // an undefined input
	}
	offs := []Passes{{}, sets["no passes"], sets[names[g.r.Intn(len(names))]]}
	accepted := false
	for _, i := range g.r.Perm(len(documents))[:min(3, len(documents))] {
		x, err := newSubject(modules, "x = data.p."+documents[i], ast.RegoV1, caps)
		if err != nil {
			sum["does not compile in OPA"]++
			return false
		}
		accepted = true
		if err := x.setData(t.Context(), base); err != nil {
			t.Fatal(err)
		}
		for _, off := range offs {
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
				if o == handedOver || o == refused {
					sum[o+": "+outcome(digits.ReplaceAllString(why, ""))]++
				}
				if o == same {
					if s, err := x.topdown(t.Context(), in); err == nil && s.Len() > 0 {
						sum["defined"]++
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
