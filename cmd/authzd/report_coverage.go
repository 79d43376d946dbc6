package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/cover"

	"github.com/authzd/authzd/bundles"
)

// writeCoverage tells of each file how much was evaluated, and which lines were not.
func writeCoverage(b *strings.Builder, r *bundles.CoverageReport) {
	for _, file := range slices.Sorted(maps.Keys(r.Files)) {
		f := r.Files[file]
		fmt.Fprintf(b, "coverage %s\n", coverageLine(file, f.CoveredLines, f.NotCoveredLines, f.Coverage))
		if len(f.NotCovered) > 0 {
			fmt.Fprintf(b, "    not covered: %s\n", lineRanges(f.NotCovered))
		}
	}
	fmt.Fprintf(b, "coverage %s\n", coverageLine("in all", r.CoveredLines, r.NotCoveredLines, r.Coverage))
}

func coverageLine(of string, covered, missed int, percent float64) string {
	if covered+missed == 0 {
		return of + ": nothing to evaluate"
	}
	return fmt.Sprintf("%s: %.1f %%, %d of %d lines", of, percent, covered, covered+missed)
}

// lineRanges writes the lines of ranges, which are sorted, as "3, 7-9".
func lineRanges(ranges []cover.Range) string {
	var parts []string
	start, end := 0, -1
	flush := func() {
		switch {
		case end < start:
		case start == end:
			parts = append(parts, strconv.Itoa(start))
		default:
			parts = append(parts, fmt.Sprintf("%d-%d", start, end))
		}
	}
	for _, r := range ranges {
		if r.Start.Row <= end+1 && end >= start {
			end = max(end, r.End.Row)
			continue
		}
		flush()
		start, end = r.Start.Row, r.End.Row
	}
	flush()
	return strings.Join(parts, ", ")
}
