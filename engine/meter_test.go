package engine_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/authzd/authzd/engine"
)

// loops takes some 90,000 steps, and allows.
const loops = `package authz
allow if count([1 | some i in numbers.range(1, 300); some j in numbers.range(1, 300); i + j > 0]) > 0`

// TestSteps: the number of steps denies whatever the time, the policy is named in
// the log, and a policy within it is allowed.
func TestSteps(t *testing.T) {
	t.Parallel()
	s := compile(t, loops, `{"authzd_tools": {"t": {"arguments": {"type": "object"}}}}`)
	for _, c := range []struct {
		steps int64
		allow bool
	}{{1000, false}, {10_000_000, true}, {0, true}} {
		var log strings.Builder
		e := engine.New(engine.Options{Now: testNow, Budget: time.Minute, MaxSteps: c.steps, Log: slog.New(slog.NewTextHandler(&log, nil))})
		e.Swap(s)
		d, err := e.Decide(t.Context(), call(t, "t", "", credential(t, "c", claims(""))))
		if err != nil || d.Allow != c.allow {
			t.Errorf("%d steps: allow=%v, %v, %+v", c.steps, d.Allow, err, d.Error)
		}
		if c.allow {
			continue
		}
		if d.Error == nil || d.Error.Code != engine.CodeBudget || !strings.Contains(d.Error.Message, "1000 steps") {
			t.Errorf("%d steps: fault %+v", c.steps, d.Error)
		}
		for _, want := range []string{"engine.budget", "resource=t", d.ID, s.Policy().Bundle} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log has no %q: %s", want, &log)
			}
		}
	}
}

// TestPace: an evaluation that takes long asks, on both evaluators; an error of it
// is the decision's, and there is no allow. A short one never asks.
func TestPace(t *testing.T) {
	t.Parallel()
	errTooMuch := errors.New("too much")
	for _, compiled := range []bool{false, true} {
		for _, c := range []struct {
			name, policy string
			err          error
			allow, asked bool
		}{
			{"long", loops, nil, true, true},
			{"refused", loops, errTooMuch, false, true},
			{"short", "package authz\nallow if true", errTooMuch, true, false},
		} {
			s := compile(t, c.policy, `{"authzd_tools": {"t": {"arguments": {"type": "object"}}}}`)
			e := engine.New(engine.Options{Now: testNow, Budget: time.Minute, Compiled: compiled, VerifySample: -1})
			e.Prepare(s)
			e.Swap(s)
			asked := 0
			after := time.Minute // however busy the machine is
			if c.asked {
				after = time.Microsecond
			}
			ctx := engine.WithPace(t.Context(), after, func(context.Context) error { asked++; return c.err })
			d, err := e.Decide(ctx, call(t, "t", "", credential(t, "c", claims(""))))
			if c.asked && !errors.Is(err, c.err) || !c.asked && err != nil || d.Allow != c.allow {
				t.Errorf("%s, compiled %v: allow=%v, %v, %+v", c.name, compiled, d.Allow, err, d.Error)
			}
			if (asked > 0) != c.asked {
				t.Errorf("%s, compiled %v: asked %d times", c.name, compiled, asked)
			}
			if c.err != nil && asked > 1 {
				t.Errorf("%s, compiled %v: asked %d times, after an error", c.name, compiled, asked)
			}
		}
	}
}
