package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

const (
	// memoryOff leaves Go's own defaults.
	memoryOff = "off"
	// usualPercent is how far the heap may grow over what is live before it is
	// collected (GOGC): what lives is policy and data, and decisions leave little
	// behind. It is more where less than leastGarbage would be left, and less where
	// more than mostGarbage would.
	usualPercent              = 400
	leastGarbage, mostGarbage = 64 << 20, 512 << 20
	mostPercent, leastPercent = 2000, 75
	// tuneEvery is how often that is looked at.
	tuneEvery = 5 * time.Second
	// leastMemory is the least budget: below it, collecting would be all that is done.
	leastMemory = 64 << 20
)

// memory is how much of it the process may use; "" is half of what the machine,
// or its control group, has.
type memory string

// units are the suffixes of a budget, in bytes.
func units() map[string]uint64 {
	return map[string]uint64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
}

// bytes reads a budget such as 2GiB.
func (m memory) bytes() (uint64, error) {
	text := string(m)
	for suffix, unit := range units() {
		if number, ok := strings.CutSuffix(text, suffix); ok {
			n, err := strconv.ParseUint(number, 10, 64)
			if err != nil || n > math.MaxInt64/unit || n*unit < leastMemory {
				break
			}
			return n * unit, nil
		}
	}
	return 0, fmt.Errorf("memory-budget: %q is not a number with KiB, MiB, GiB or TiB of at least 64MiB, nor %s", text, memoryOff)
}

// valid tells whether m can be used.
func (m memory) valid() error {
	if m == "" || m == memoryOff {
		return nil
	}
	_, err := m.bytes()
	return err
}

// set tells the garbage collector, and returns what keeps it in tune until its
// context ends. What the environment says by GOGC or GOMEMLIMIT stands.
func (m memory) set(std stdio, log *slog.Logger) (tune func(context.Context) error, err error) {
	idle := func(context.Context) error { return nil }
	if m == memoryOff {
		return idle, nil
	}
	limit, err := m.limit()
	if err != nil {
		return nil, err
	}
	if std.getenv("GOMEMLIMIT") == "" && limit > 0 {
		debug.SetMemoryLimit(int64(limit)) //nolint:gosec // bytes refuses more
		log.Info("memory is bounded", "limit_mib", limit>>20)
	}
	if std.getenv("GOGC") != "" {
		return idle, nil
	}
	debug.SetGCPercent(usualPercent)
	return tuneCollector, nil
}

// tuneCollector sets GOGC by what is live, until ctx ends.
func tuneCollector(ctx context.Context) error {
	tick := time.NewTicker(tuneEvery)
	defer tick.Stop()
	for now := usualPercent; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
			metrics.Read(sample)
			if sample[0].Value.Kind() != metrics.KindUint64 {
				return nil // another Go
			}
			if next := percentFor(sample[0].Value.Uint64()); next < now*9/10 || next > now*11/10 {
				debug.SetGCPercent(next)
				now = next
			}
		}
	}
}

// percentFor is the GOGC for so many live bytes.
func percentFor(live uint64) int {
	garbage := min(max(live*usualPercent/100, leastGarbage), mostGarbage)
	return int(min(max(garbage*100/max(live, 1), leastPercent), mostPercent))
}

// limit is for the heap: nine tenths of a budget, because not all memory is
// heap. 0: nobody knows.
func (m memory) limit() (uint64, error) {
	if m != "" {
		n, err := m.bytes()
		return n / 10 * 9, err
	}
	system, err := memlimit.FromSystem()
	if err != nil {
		system = math.MaxInt64
	}
	group, groupErr := memlimit.FromCgroup()
	if groupErr != nil {
		group = math.MaxInt64
	}
	if errors.Join(err, groupErr) != nil && min(system, group) == math.MaxInt64 {
		return 0, nil
	}
	return max(min(system, group)/2, leastMemory), nil
}
