package failclosed_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// frontDoor is an enforcement point before an MCP server. call sends it one text, and
// gives what it answers; carriedOut are the messages that got through to the server, as
// JSON texts of method and params, once nothing is under way.
type frontDoor interface {
	call(t *testing.T, text []byte) (answer []byte)
	carriedOut(t *testing.T) [][]byte
}

// twice is how many messages of a suite are changed at two or three places.
const twice = 150

// calls are the messages of MCP that a suite is asked for: the base query that allows
// first, as its caller would send it, and its mutants.
type calls struct {
	suite
	base *node
	good []byte
	all  []testCase
}

// callsOf is false for a suite in which nothing is allowed by one credential alone.
func callsOf(t *testing.T, s suite) (c calls, ok bool) {
	t.Helper()
	for _, b := range s.queries {
		q, err := parse(b.Query)
		if err != nil {
			t.Fatal(err)
		}
		if credentials := q.get("credentials"); b.Want != "ALLOW" || !q.within("mcp", "credentials") || len(credentials.items) != 1 {
			continue
		}
		c = calls{suite: s, base: q}
		good := obj(member{name: "jsonrpc", value: str("2.0")}, member{name: "id", value: num("1")},
			member{name: "method", value: q.get("mcp", "method").clone()}, member{name: "params", value: q.get("mcp", "params").clone()})
		c.good = []byte(good.String())
		all := mutants(good)
		if s.name != "001-payment" {
			all = thinFrame(all, s.name)
		}
		for _, m := range all {
			text := []byte(m.query())
			// JSON-RPC 2.0 has batches.
			readable := !m.broken || m.name == "text: in an array"
			c.all = append(c.all, testCase{s.name, b.Name + ": " + m.name, text, readable && c.permits(text)})
		}
		r := rand.New(rand.NewPCG(uint64(len(c.all)), 4)) //nolint:gosec // the same messages each time is the point
		for range twice {
			text := combined(t, r, c.good)
			c.all = append(c.all, testCase{s.name, b.Name + ": combined", text, c.permits(text)})
		}
		return c, true
	}
	return c, false
}

// permits tells whether every call in a message is one that the oracle permits to who
// holds the credential of the base query.
func (c calls) permits(text []byte) bool {
	m, err := parse(text)
	if err != nil || !m.unambiguous() {
		return false
	}
	list := []*node{m}
	if m.kind == array {
		list = m.items
	}
	for _, one := range list {
		q := c.base.clone()
		for _, name := range []string{"method", "params"} {
			q.get("mcp").drop(name)
			if v := one.get(name); v != nil {
				q.get("mcp").set(name, v.clone())
			}
		}
		if !mayAllow(oracleOf(c.name), []byte(q.String())) {
			return false
		}
	}
	return len(list) > 0
}

// TestNoWrongCall: whatever a client sends, no call is carried out behind the middleware,
// the proxy or the wrapper that the oracle does not permit; and the good one is.
func TestNoWrongCall(t *testing.T) {
	t.Parallel()
	for _, s := range loadSuites(t) {
		c, ok := callsOf(t, s)
		if !ok {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			checkSummary(t, s, "calls", c.all)
			if testing.Short() {
				c.all = spread(c.all, briefly)
			}
			doors := c.frontDoors(t)
			for _, name := range slices.Sorted(maps.Keys(doors)) {
				c.compare(t, name, doors[name])
			}
		})
	}
}

// compare sends everything to one door, the good call before and after all else.
func (c calls) compare(t *testing.T, name string, d frontDoor) {
	t.Helper()
	send := func(text []byte) (bool, []byte) {
		answer := d.call(t, text)
		if len(answer) > 0 {
			checkAnswer(t, name, text, answer)
		}
		return carried(answer), answer
	}
	if ok, answer := send(c.good); !ok {
		t.Fatalf("%s: the good call is refused: %s", name, answer)
	}
	for _, m := range c.all {
		// Before the middleware the SDK has read the text, in its own way: what it
		// carries out counts, below.
		if ok, _ := send(m.Query); ok && !m.MayAllow && name != "middleware" {
			t.Errorf("WRONG CALL by %s: %s: %s", name, m.Name, m.Query)
		}
	}
	if ok, answer := send(c.good); !ok {
		t.Errorf("%s: the good call is refused after all others: %s", name, answer)
	}
	through := d.carriedOut(t)
	for _, text := range through {
		if !c.permits(text) {
			t.Errorf("WRONG CALL by %s: carried out: %s", name, text)
		}
	}
	if len(through) < 2 {
		t.Errorf("%s: %d messages got through, though both good calls were answered", name, len(through))
	}
	t.Logf("%s: %d messages, %d carried out", name, len(c.all)+2, len(through))
}

// done is the text of the result of what is carried out.
const done = "carried out"

// carried tells whether an answer, or one of a batch, is the result of a call that was
// carried out.
func carried(answer []byte) bool {
	v, err := parse(answer)
	if err != nil {
		return false
	}
	for _, one := range append(slices.Clone(v.items), v) {
		if content := one.get("result", "content"); content != nil && len(content.items) > 0 && content.items[0].get("text").is(done) {
			return true
		}
	}
	return false
}

// checkAnswer: an answer is a result, or an error with a code.
func checkAnswer(t *testing.T, name string, text, answer []byte) {
	t.Helper()
	v, err := parse(answer)
	if err != nil {
		t.Errorf("%s: an answer that is no JSON: %s: %s", name, answer, text)
		return
	}
	list := []*node{v}
	if v.kind == array {
		list = v.items
	}
	for _, one := range list {
		code := one.get("error", "code")
		if _, oauth := one.get("error").str(); one.get("result") == nil && !oauth && (code == nil || code.kind != number) {
			t.Errorf("%s: neither a result nor an error with a code: %s: %s", name, answer, text)
		}
	}
}
