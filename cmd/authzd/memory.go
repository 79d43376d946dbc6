package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/authzd/authzd/bundles"
)

const (
	// memoryOff leaves Go's own defaults.
	memoryOff = "off"
	// usualPercent is how far the heap may grow over what is live before it is
	// collected (GOGC): what lives is policy and data, and decisions leave little
	// behind. It is more where less than leastGarbage would be left, and less where
	// more than mostGarbage would. Large data counts little: it is text, which the
	// collector need not look through.
	usualPercent              = 400
	leastGarbage, mostGarbage = 64 << 20, 512 << 20
	leastScanned              = 75
	mostPercent, leastPercent = 2000, 10
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

// tuneCollector sets GOGC by what is live, after each collection until ctx ends: a
// bundle of large data makes in a second more than it leaves.
func tuneCollector(ctx context.Context) error {
	collected := make(chan struct{}, 1)
	ended := ctx.Done()
	var watch func()
	watch = func() {
		runtime.AddCleanup(new(garbage), func(struct{}) {
			select {
			case <-ended:
				return
			case collected <- struct{}{}:
			default:
			}
			watch()
		}, struct{}{})
	}
	watch()
	for now := usualPercent; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-collected:
			sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/heap:bytes"}}
			metrics.Read(sample)
			if sample[0].Value.Kind() != metrics.KindUint64 || sample[1].Value.Kind() != metrics.KindUint64 {
				return nil // another Go
			}
			if next := percentFor(sample[0].Value.Uint64(), sample[1].Value.Uint64()); next < now*9/10 || next > now*11/10 {
				debug.SetGCPercent(next)
				now = next
			}
		}
	}
}

// garbage is what a collection finds; a smaller one would be of other's memory.
type garbage struct {
	_ *garbage
	_ [48]byte
}

// percentFor is the GOGC for so many live bytes, of which the collector looks through
// scanned.
func percentFor(live, scanned uint64) int {
	scanned = min(live, scanned)
	garbage := min(max(scanned*usualPercent/100, leastGarbage), mostGarbage)
	garbage = max(garbage, scanned*leastScanned/100)
	return int(min(max(garbage*100/max(live, 1), leastPercent), mostPercent))
}

// bundleLimits are those of bundles that are pushed: their files may take a quarter of
// the limit, because three revisions may be in memory while one is loaded.
func (m memory) bundleLimits() (bundles.Limits, error) {
	if m == memoryOff {
		return bundles.Limits{}, nil
	}
	limit, err := m.limit()
	if err != nil || limit == 0 {
		return bundles.Limits{}, err
	}
	const share = 4
	most := int64(min(limit/share, bundles.DefaultMaxBytes))
	return bundles.Limits{MaxBytes: most, MaxFileBytes: most}, nil
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
