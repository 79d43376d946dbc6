package failclosed_test

import (
	"math/rand/v2"
	"testing"
)

// TestBaseQueries: what is meant to allow does allow, or nothing here could
// ever fail; and its neighbours do not.
func TestBaseQueries(t *testing.T) {
	t.Parallel()
	for _, s := range loadSuites(t) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			e := openLibrary(t, s.dir)
			d := openDoors(t, e)
			for _, b := range s.queries {
				got := askLibrary(t, e, b.Query)
				if !b.meets(got) {
					t.Errorf("%s (%s): got %v, want %s %s", b.Name, b.Why, got, b.Want, b.Code)
				}
				compareDoors(t, d, testCase{Suite: s.name, Name: b.Name, Query: b.Query, MayAllow: b.mayAllow()}, got)
			}
		})
	}
}

func (b baseQuery) meets(got outcome) bool {
	switch b.Want {
	case "MAY":
		return got.decision != ""
	case "REFUSE":
		return got.decision == "DENY" || got.decision == "ERROR"
	}
	return got.decision == b.Want && (b.Code == "" || b.Code == got.code)
}

// TestNoWrongAllow: no mutation is allowed where the oracle of its suite does
// not permit it, by any interface, and all of them answer alike.
func TestNoWrongAllow(t *testing.T) {
	t.Parallel()
	for _, s := range loadSuites(t) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			e := openLibrary(t, s.dir)
			d := openDoors(t, e)
			n := map[string]int{}
			all := s.cases(t)
			checkSummary(t, s, "mutations", all)
			if testing.Short() {
				all = spread(all, briefly)
			}
			for _, c := range all {
				got := askLibrary(t, e, c.Query)
				n[got.decision]++
				if got.decision == "ALLOW" && !c.MayAllow {
					t.Errorf("WRONG ALLOW by the library: %s: %s", c.Name, c.Query)
				}
				compareDoors(t, d, c, got)
			}
			checkCommand(t, s, e, all)
			t.Logf("%d allowed, %d denied, %d errors", n["ALLOW"], n["DENY"], n["ERROR"])
			if n["ALLOW"] == 0 && oracleAllows(t, s) {
				t.Error("nothing was allowed: this suite could not fail")
			}
		})
	}
}

// compareDoors asks REST and, where protobuf can say it, gRPC.
func compareDoors(t *testing.T, d *doors, c testCase, want outcome) {
	t.Helper()
	if got := d.askREST(t, c.Query); got != want {
		t.Errorf("%s: REST answers %v, the library %v", c.Name, got, want)
	}
	m, exact := message(c.Query)
	if m == nil {
		return
	}
	got := d.askGRPC(t, m)
	if got.decision == "ALLOW" && !c.MayAllow {
		t.Errorf("WRONG ALLOW by gRPC: %s: %s", c.Name, c.Query)
	}
	if exact && got != want {
		t.Errorf("%s: gRPC answers %v, the library %v", c.Name, got, want)
	}
}

func (b baseQuery) mayAllow() bool { return b.Want == "ALLOW" || b.Want == "MAY" }

func oracleAllows(t *testing.T, s suite) bool {
	t.Helper()
	for _, b := range s.queries {
		if b.Want == "ALLOW" {
			return true
		}
	}
	return false
}

// TestNoWrongAllowCombined spoils base queries at two or three places at once,
// the same ones each time.
func TestNoWrongAllowCombined(t *testing.T) {
	t.Parallel()
	rounds := 300
	if testing.Short() {
		rounds = 60
	}
	for i, s := range loadSuites(t) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			e := openLibrary(t, s.dir)
			r := rand.New(rand.NewPCG(uint64(i), 2)) //nolint:gosec // the same queries each time is the point
			for range rounds {
				b := s.queries[r.IntN(len(s.queries))]
				query := combined(t, r, b.Query)
				if askLibrary(t, e, query).decision == "ALLOW" && !mayAllow(oracleOf(s.name), query) {
					t.Errorf("WRONG ALLOW: %s, combined: %s", b.Name, query)
				}
			}
		})
	}
}

// combined changes query at two or three random places.
func combined(t *testing.T, r *rand.Rand, query []byte) []byte {
	t.Helper()
	for range 2 + r.IntN(2) {
		q, err := parse(query)
		if err != nil {
			t.Fatal(err)
		}
		places := 0
		walk(q, "", func(string, func(func(*node) *node) *node, *node) { places++ })
		chosen := r.IntN(places)
		if chosen == 0 {
			if all := settings(); q.get("mcp", "params", "name") != nil {
				all[r.IntN(len(all))].apply(q)
			}
			query = []byte(q.String())
			continue
		}
		walk(q, "", func(_ string, edit func(func(*node) *node) *node, at *node) {
			if chosen == 0 {
				all := changes(at)
				query = []byte(edit(all[r.IntN(len(all))].apply).String())
			}
			chosen--
		})
	}
	return query
}
