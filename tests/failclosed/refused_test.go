package failclosed_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/engine"
)

// refusal is want.json of a bundle that must not go live.
type refusal struct {
	// Codes are findings that refuse it (or should, below traps); one of them is
	// enough, since two rules may see the same fault.
	Codes []string `json:"codes"`
	Why   string   `json:"why"`
	// Trap is a query that this policy allows wrongly where it does go live.
	Trap json.RawMessage `json:"trap,omitempty"`
}

// TestRefusedBundles: policies that a person might write, and that would allow
// what nobody meant, are refused before they decide anything.
func TestRefusedBundles(t *testing.T) {
	t.Parallel()
	eachRefusal(t, "refused/*", func(t *testing.T, dir string, want refusal) {
		t.Helper()
		s, err := compile(t.Context(), dir)
		if err == nil {
			t.Fatalf("accepted, want %v (%s); its trap: %v", want.Codes, want.Why, askSnapshot(t, s, want.Trap))
		}
		got := codes(err)
		if !slices.ContainsFunc(want.Codes, func(c string) bool { return slices.Contains(got, c) }) {
			t.Errorf("refused with %v, want one of %v (%s): %v", got, want.Codes, want.Why, err)
		}
	})
}

// TestTraps keeps the list of what the contract does not catch true: policies
// that are accepted and allow what nobody meant. Once a rule catches one, its
// folder moves to refused.
func TestTraps(t *testing.T) {
	t.Parallel()
	eachRefusal(t, "traps/*", func(t *testing.T, dir string, want refusal) {
		t.Helper()
		s, err := compile(t.Context(), dir)
		if err != nil {
			t.Fatalf("refused by now with %v: move this folder to refused (%s)", codes(err), want.Why)
		}
		if got := askSnapshot(t, s, want.Trap); got.decision != "ALLOW" {
			t.Fatalf("its trap is shut by now, %v: move this folder to refused or suites (%s)", got, want.Why)
		}
	})
}

func eachRefusal(t *testing.T, pattern string, check func(t *testing.T, dir string, want refusal)) {
	t.Helper()
	dirs, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(filepath.Join(dir, "want.json"))
			if err != nil {
				t.Fatal(err)
			}
			var want refusal
			decodeStrict(t, dir, data, &want)
			check(t, dir, want)
		})
	}
}

func askSnapshot(t *testing.T, s *engine.Snapshot, query []byte) outcome {
	t.Helper()
	e := engine.New(engine.Options{})
	e.Swap(s)
	return askLibrary(t, e, query)
}

// codes are those of an error that refuses a bundle.
func codes(err error) []string {
	var unreadable *bundles.Error
	if errors.As(err, &unreadable) {
		return []string{string(unreadable.Code)}
	}
	var refused *engine.CompileError
	if !errors.As(err, &refused) {
		return nil
	}
	var out []string
	for _, f := range refused.Findings {
		if f.Severity == engine.SeverityError {
			out = append(out, string(f.Code))
		}
	}
	return out
}
