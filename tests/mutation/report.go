package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
)

// report tells what survived, and how much did not. Mutants that no test reaches
// have survived.
func report(c config, all int, sample []*Mutant) []byte {
	var b bytes.Buffer
	counts := map[Outcome]int{}
	for _, m := range sample {
		counts[m.Outcome]++
	}
	for _, o := range []Outcome{OutcomeUnrun, OutcomeSurvived} {
		for _, m := range sample {
			if m.Outcome == o {
				fmt.Fprintf(&b, "%s  %s\n", o, m)
			}
		}
	}
	found := counts[OutcomeKilled] + counts[OutcomeTimeout]
	of := found + counts[OutcomeSurvived] + counts[OutcomeUnrun]
	fmt.Fprintf(&b, "%d of all %d mutants, seed %d: %d killed, %d timed out, %d survived, %d not reached, %d do not compile\n",
		len(sample), all, c.seed, counts[OutcomeKilled], counts[OutcomeTimeout], counts[OutcomeSurvived], counts[OutcomeUnrun], counts[OutcomeInvalid])
	if of > 0 {
		low, high := interval(found, of)
		fmt.Fprintf(&b, "score %.1f %% (95 %% confidence: %.1f to %.1f)\n", 100*float64(found)/float64(of), 100*low, 100*high)
	}
	return b.Bytes()
}

// writeJSON writes every mutant to a file, if one is named.
func writeJSON(file string, sample []*Mutant) error {
	if file == "" {
		return nil
	}
	text, err := json.MarshalIndent(sample, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return os.WriteFile(file, append(text, '\n'), 0o600)
}

// interval is Wilson's score interval of k of n at 95 %.
func interval(k, n int) (low, high float64) {
	const z = 1.959964
	p, m := float64(k)/float64(n), float64(n)
	middle := (p + z*z/(2*m)) / (1 + z*z/m)
	half := z / (1 + z*z/m) * math.Sqrt(p*(1-p)/m+z*z/(4*m*m))
	return middle - half, middle + half
}
