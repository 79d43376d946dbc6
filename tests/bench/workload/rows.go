package workload

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
)

// maxRows is how many rows NewRows makes at most.
const maxRows = 20_000_000

// Rows is a policy of one rule over a large document, data.users, of one row a
// person, which the rule looks up by key. Rows say which revision they are of, so that
// an answer from rules of one and rows of another revision shows.
//
// What NewRows returns is read-only.
type Rows struct{ count, data int }

// NewRows makes count rows of about 82 bytes of JSON.
func NewRows(count int) (*Rows, error) {
	if count < 10 || count > maxRows {
		return nil, fmt.Errorf("%d rows: want 10 to %d", count, maxRows)
	}
	r := &Rows{count: count}
	r.data = len(r.dataText("r0"))
	return r, nil
}

// DataBytes is the size of the data, as JSON.
func (r *Rows) DataBytes() int { return r.data }

// String describes them.
func (r *Rows) String() string {
	return fmt.Sprintf("1 rule, %d rows, %.1f MB of data", r.count, float64(r.data)/1e6)
}

func rowUser(i int) string { return fmt.Sprintf("user-%08d", i) }

// Every seventh person has too low a level, every fifth not the role.
func rowAllows(i int) bool { return i%7 != 0 && i%5 != 0 }

func (r *Rows) dataText(revision string) []byte {
	text := make([]byte, 0, 100*r.count)
	text = append(text, `{"release":`...)
	text = strconv.AppendQuote(text, revision)
	text = append(text, `,"users":{`...)
	for i := range r.count {
		if i > 0 {
			text = append(text, ',')
		}
		role, level := "analyst", 3
		if i%5 == 0 {
			role = "visitor"
		}
		if i%7 == 0 {
			level = 1
		}
		text = fmt.Appendf(text, `"%s":{"roles":["%s","staff"],"tenant":"t%d","level":%d,"rev":"%s"}`, rowUser(i), role, i%100, level, revision)
	}
	return append(text, "}}"...)
}

// WriteBundle writes a revision for authzd into dir.
func (r *Rows) WriteBundle(dir, revision string) error {
	policy := fmt.Appendf(nil, `package authz

import data.authzd.v1 as authzd

permit[%q] := {"require": [authzd.scopes(["reports"])]} if {
	input.action.name == "tools/call"
	input.resource.id == %q
	user := data.users[input.subject.id]
	user.rev == %q
	user.level >= 2
	"analyst" in user.roles
}
`, PermitName(revision), ruleTool(0), revision)
	err := write(dir, map[string]any{
		".manifest": map[string]any{
			"revision": revision, "roots": []string{"authz", "release", "users"}, "rego_version": 1,
			"metadata": map[string]any{"authzd": map[string]any{"contract": 1, "untyped_tools": true, "writable_data": []string{"users"}}},
		},
		"policy.rego": policy,
	})
	return errors.Join(err, r.writeData(dir, revision))
}

// WriteOPA writes the same revision for a stock OPA into dir. Its rule is
// data.bench.decision.
func (r *Rows) WriteOPA(dir, revision string) error {
	policy := fmt.Appendf(nil, `package bench

decision := {"allow": allow, "rules": %q, "release": data.release}

default allow := false

claims := input.credentials[0].claims

credential_ok if {
	claims.aud == input.mcp.server
	claims.iss == input.subject.properties.issuer
	claims.sub == input.subject.id
	claims.exp > time.now_ns() / 1000000000
}

allow if {
	input.mcp.method == "tools/call"
	input.mcp.params.name == %q
	user := data.users[input.subject.id]
	user.rev == %q
	user.level >= 2
	"analyst" in user.roles
	credential_ok
	"reports" in split(claims.scope, " ")
}
`, revision, ruleTool(0), revision)
	err := write(dir, map[string]any{
		".manifest":   map[string]any{"revision": revision, "roots": []string{"bench", "release", "users"}, "rego_version": 1},
		"policy.rego": policy,
	})
	return errors.Join(err, r.writeData(dir, revision))
}

// Change is one row more: where it is set, what it is, and a question that is allowed
// because of it.
func (r *Rows) Change(revision string) (pointer string, row []byte, q Request, err error) {
	user := "changed-" + revision
	q.Allow = true
	if q.Query, err = json.Marshal((&Rules{}).query(0, user, "reports")); err != nil {
		return "", nil, q, fmt.Errorf("write a request: %w", err)
	}
	row = fmt.Appendf(nil, `{"roles":["analyst","staff"],"tenant":"t1","level":3,"rev":%q}`, revision)
	return "/users/" + user, row, q, nil
}

func (r *Rows) writeData(dir, revision string) error {
	if err := os.WriteFile(filepath.Join(dir, "data.json"), r.dataText(revision), 0o600); err != nil {
		return fmt.Errorf("write the workload: %w", err)
	}
	return nil
}

// Requests makes n questions about random people, the same on every call; one in ten
// lacks the scope, one in ten is about nobody.
func (r *Rows) Requests(n int) ([]Request, error) {
	random := rand.New(rand.NewPCG(8, 1)) //nolint:gosec // the same on every machine
	out := make([]Request, n)
	for i := range out {
		person := random.IntN(r.count)
		user, scope, allow := rowUser(person), "reports", rowAllows(person)
		switch i % 10 {
		case 3:
			user, allow = "nobody", false
		case 7:
			scope, allow = "other", false
		}
		text, err := json.Marshal((&Rules{}).query(0, user, scope))
		if err != nil {
			return nil, fmt.Errorf("write a request: %w", err)
		}
		out[i] = Request{Query: text, Allow: allow}
	}
	return out, nil
}
