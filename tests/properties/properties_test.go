// Package properties_test asks random policies random questions through every
// interface of authzd, and holds their answers against each other:
//
//   - OPA's interpreter and compiled policy give one decision;
//   - the library, REST, gRPC, the service in process and authzd check give one answer,
//     letter by letter;
//   - a query in a batch, whatever stands beside it, is answered as it is alone;
//   - an explanation is of the decision that is made;
//   - a list of tools hides none of which a call is allowed.
//
// None of it knows what the right answer is: tests/failclosed and policies do.
package properties_test

import (
	"flag"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/authzd/authzd/tests/internal/binary"
)

const (
	// policies is how many policies are asked where PROPERTIES_TIME does not say how long.
	policies = 12
	// callers ask each policy, each of them so many calls.
	callers, calls = 6, 6
	// checked is how many queries of each policy are given to authzd check, a process each,
	// more or less.
	checked = 1
	// reported is how many differences are told before the test gives up.
	reported = 5
)

// authzd is the built program, empty where only short tests run.
var authzd string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(binary.Run(m, func(path string) { authzd = path }))
}

// TestProperties asks a fixed number of policies, or those of PROPERTIES_TIME, from the
// seed PROPERTIES_SEED on (make properties). A policy and what is asked about it follow
// from its seed.
func TestProperties(t *testing.T) {
	t.Parallel()
	end, seed := settings(t)
	t.Logf("PROPERTIES_SEED=%d", seed)
	w := &world{doors: openDoors(t, newEngine(true)), interpreted: newEngine(false), sum: map[string]int{}}
	differences := 0
	for n := range uint64(1 << 62) {
		if end.IsZero() && n == policies || !end.IsZero() && time.Now().After(end) || differences == reported {
			break
		}
		p := newPolicy(rand.New(rand.NewPCG(seed+n, 1)))                 //nolint:gosec // the same each time, and no secret
		a := &asker{r: rand.New(rand.NewPCG(seed+n, 2)), tools: p.tools} //nolint:gosec // as above
		if err := w.ask(t.Context(), p, a); err != nil {
			differences++
			t.Errorf("PROPERTIES_SEED=%d: %v\n%s", seed+n, err, p)
		}
	}
	t.Logf("%v; %+v", w.sum, w.doors.engine.Evaluations())
	if !t.Failed() {
		w.judge(t)
	}
}

// settings is when to end, never if zero, and the first seed.
func settings(t *testing.T) (end time.Time, seed uint64) {
	t.Helper()
	seed = 1
	if text := os.Getenv("PROPERTIES_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	if seed == 0 {
		seed = rand.Uint64N(1 << 40) //nolint:gosec // it is printed
	}
	if text := os.Getenv("PROPERTIES_TIME"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		end = time.Now().Add(d)
	}
	return end, seed
}
