package failclosed_test

import (
	"bytes"
	"encoding/json"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// suite is one bundle and the base queries to it.
type suite struct {
	name, dir string
	queries   []baseQuery
}

// baseQuery is one entry of queries.json.
type baseQuery struct {
	Name string `json:"name"`
	// Want is ALLOW, DENY or ERROR (no decision, with Code), REFUSE where DENY
	// and ERROR are both good, or MAY where ALLOW would be good too.
	Want string `json:"want"`
	// Code is the error's code where the query or the arguments are at fault.
	Code  string          `json:"code,omitempty"`
	Why   string          `json:"why"`
	Query json.RawMessage `json:"query"`
}

func loadSuites(t testing.TB) []suite {
	t.Helper()
	dirs, err := filepath.Glob("suites/*")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no suites: %v", err)
	}
	var out []suite
	for _, dir := range dirs {
		data, err := os.ReadFile(filepath.Join(dir, "queries.json"))
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			Queries []baseQuery `json:"queries"`
		}
		decodeStrict(t, dir, data, &file)
		out = append(out, suite{filepath.Base(dir), dir, file.Queries})
	}
	return out
}

func decodeStrict(t testing.TB, what string, data []byte, into any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// testCase is one line of what another engine may run: a query, and whether
// allowing it is permissible.
type testCase struct {
	Suite    string `json:"suite"`
	Name     string `json:"name"`
	Query    []byte `json:"query"` // base64 of the text, since not all of it is JSON
	MayAllow bool   `json:"may_allow"`
}

// How many mutants of a base query are kept. The first base query that allows
// keeps all but those of the frame, which is the same in every suite: it keeps
// all of these in the first suite, and one of frameShare in the others.
const (
	sampled    = 36
	frameShare = 8
)

// cases returns the mutants of all base queries of s, the same ones each time.
func (s suite) cases(t testing.TB) []testCase {
	t.Helper()
	judge := oracleOf(s.name)
	if judge == nil {
		t.Fatalf("suite %s has no oracle", s.name)
	}
	var out []testCase
	whole := true
	for i, b := range s.queries {
		q, err := parse(b.Query)
		if err != nil {
			t.Fatalf("%s/%s: %v", s.name, b.Name, err)
		}
		all := mutants(q)
		switch {
		case !whole || b.Want != "ALLOW" && i < len(s.queries)-1:
			all = sample(all, s.name+"/"+b.Name, sampled)
		case s.name != "001-payment":
			all = thinFrame(all, s.name)
			whole = false
		default:
			whole = false
		}
		for _, m := range all {
			query := []byte(m.query())
			out = append(out, testCase{s.name, b.Name + ": " + m.name, query, !m.broken && mayAllow(judge, query)})
		}
	}
	return out
}

// thinFrame keeps what is particular to the suite: changes of the arguments and
// of the claims that its policy looks at, and the settings.
func thinFrame(all []mutant, name string) []mutant {
	own := regexp.MustCompile(`^(/mcp)?/params/(arguments|name)|^/credentials/\d+/claims/(scope|authorization_details|act|tenant|acr|auth_time)|^setting: `)
	var kept, frame []mutant
	for _, m := range all {
		if own.MatchString(m.name) {
			kept = append(kept, m)
		} else {
			frame = append(frame, m)
		}
	}
	return append(kept, sample(frame, name, len(frame)/frameShare)...)
}

func sample(all []mutant, name string, n int) []mutant {
	if len(all) <= n {
		return all
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))             // a hash takes everything
	r := rand.New(rand.NewPCG(h.Sum64(), 1)) //nolint:gosec // the same sample each time is the point
	out := make([]mutant, 0, n)
	for _, i := range r.Perm(len(all))[:n] {
		out = append(out, all[i])
	}
	return out
}
