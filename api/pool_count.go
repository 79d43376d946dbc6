package api

import "time"

const (
	// countTime is for how long it is counted what comes and goes.
	countTime = 100 * time.Millisecond
	// freshTime and up to twice that is how long a call counts that has arrived: who
	// sends slowly, or is decided for long, holds up nobody.
	freshTime = 250 * time.Millisecond
)

// fresh counts what came in an interval of freshTime and in the one before.
type fresh struct {
	at        int64
	now, past int
}

// epoch is the interval that now is in, by a clock that nobody sets.
func (p *pool) epoch(now time.Time) int64 { return int64(now.Sub(p.began) / freshTime) }

// add counts n more that came in interval at.
func (f *fresh) add(at int64, n int) {
	switch at {
	case f.at:
		f.now += n
	case f.at - 1:
		f.past += n
	}
}

// turn goes on to the interval that is now, and returns the count.
func (f *fresh) turn(now int64) int {
	switch {
	case now == f.at+1:
		f.past, f.now = f.now, 0
	case now > f.at+1:
		f.past, f.now = 0, 0
	}
	f.at = max(f.at, now)
	return f.now + f.past
}

// count learns from what came and went for twice countTime whether the line is to be
// short: each time a quarter more has come than was decided, and some would have waited
// too long. Callers that wait for their answers do not come that often, and what comes
// at once after the process stood still comes once. It takes as long to be over.
func (p *pool) count(n int, now time.Time) {
	if d := now.Sub(p.counted); d >= countTime {
		switch {
		case d >= 2*countTime && p.waiting == 0: // nobody came for a while
			p.excess = 0
		case 4*p.came > 5*(p.went+p.workers):
			p.excess = min(p.excess+1, 2)
		default:
			p.excess = max(p.excess-1, 0)
		}
		p.hot = p.excess > 0 && (p.hot || p.excess == 2 && now.Sub(p.over) < countTime)
		p.came, p.went, p.counted = 0, 0, now
	}
	p.came += n
}

// asked is who has come, and when.
type asked struct {
	caller string
	at     time.Time
}

// askedBy notes who has come last, and who of the others.
func (p *pool) askedBy(caller string, now time.Time) {
	if p.recent[0].caller != caller {
		p.recent[1] = p.recent[0]
	}
	p.recent[0] = asked{caller, now}
}

// others tells whether anybody else has come within the last second.
func (p *pool) others(caller string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for _, a := range p.recent {
		if a.caller != caller && now.Sub(a.at) < time.Second {
			return true
		}
	}
	return false
}
