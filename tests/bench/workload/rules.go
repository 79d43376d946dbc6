package workload

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// Limits of what NewRules makes.
const (
	maxRules     = 100_000
	maxDataBytes = 64 << 20
)

const (
	rulesServer = "https://tools.example/mcp"
	rulesIssuer = "https://as.example.com"
	// rulesUsers is how many people there are. A tool has some as its members.
	rulesUsers = 100_000
	rulesTeams = 100
	// rulesExpires is the expiry of every credential, in 2100.
	rulesExpires = 4_102_444_800
)

// Rules is a policy of many rules, each for a tool of its own, with data that
// every rule looks into. It is made in any number of revisions, which answer
// alike and say which of them answered; a revision that were to see the data of
// another would deny. authzd gets one permit with so many definitions, OPA one
// allow: either finds the definition by its index.
//
// What NewRules returns is read-only.
type Rules struct {
	count   int
	members [][]int
	data    int
}

// NewRules makes count rules and about dataBytes of data, as JSON.
func NewRules(count, dataBytes int) (*Rules, error) {
	if count < 1 || count > maxRules {
		return nil, fmt.Errorf("%d rules: want 1 to %d", count, maxRules)
	}
	if dataBytes < 0 || dataBytes > maxDataBytes {
		return nil, fmt.Errorf("%d bytes of data: want 0 to %d", dataBytes, maxDataBytes)
	}
	r := &Rules{count: count, members: make([][]int, count)}
	// One member for every tool, then more in turn until there is enough.
	size := count * len(`"t00000":{"members":{}},`)
	const entry = len(`"user-00000":true,`)
	for n := 0; n < count || size < dataBytes; n++ {
		tool, nth := n%count, n/count
		if nth == rulesUsers {
			return nil, errors.New("so much data needs more rules")
		}
		r.members[tool] = append(r.members[tool], (tool*7+nth)%rulesUsers)
		size += entry
	}
	text, err := r.dataText("r0")
	if err != nil {
		return nil, err
	}
	r.data = len(text)
	return r, nil
}

// String describes them.
func (r *Rules) String() string {
	return fmt.Sprintf("%d rules, %.2f MB of data", r.count, float64(r.data)/1e6)
}

// DataBytes is the size of the data, as JSON.
func (r *Rules) DataBytes() int { return r.data }

// PermitName is what authzd names as the rule of an answer.
func PermitName(revision string) string { return "call-" + revision }

func ruleTool(i int) string { return fmt.Sprintf("t%05d", i) }

func ruleTeam(i int) string { return fmt.Sprintf("team-%d", i%rulesTeams) }

func ruleUser(i int) string { return fmt.Sprintf("user-%05d", i) }

func (r *Rules) dataText(revision string) ([]byte, error) {
	type tool struct {
		Members map[string]bool `json:"members"`
	}
	tools := make(map[string]tool, r.count)
	for i, users := range r.members {
		t := tool{make(map[string]bool, len(users))}
		for _, u := range users {
			t.Members[ruleUser(u)] = true
		}
		tools[ruleTool(i)] = t
	}
	text, err := json.Marshal(map[string]any{"release": revision, "tools": tools})
	if err != nil {
		return nil, fmt.Errorf("write the data: %w", err)
	}
	return text, nil
}

// WriteBundle writes a revision for authzd into dir, with tests and cases.
func (r *Rules) WriteBundle(dir, revision string) error {
	text, err := r.dataText(revision)
	if err != nil {
		return err
	}
	var policy strings.Builder
	policy.WriteString("package authz\n\nimport data.authzd.v1 as authzd\n")
	for i := range r.count {
		fmt.Fprintf(&policy, `
permit[%q] := {"require": [authzd.scopes([%q])]} if {
	input.action.name == "tools/call"
	input.resource.id == %q
	data.tools[%q].members[input.subject.id]
	data.release == %q
}
`, PermitName(revision), ruleTeam(i), ruleTool(i), ruleTool(i), revision)
	}
	cases, err := r.cases()
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(dir, "cases"), 0o700); err != nil {
		return fmt.Errorf("write the workload: %w", err)
	}
	return write(dir, map[string]any{
		".manifest": map[string]any{
			"revision": revision, "roots": []string{"authz", "authz_test", "release", "tools"}, "rego_version": 1,
			// Tools without schemas, so that rules and data are all that is measured.
			"metadata": map[string]any{"authzd": map[string]any{"contract": 1, "untyped_tools": true}},
		},
		"policy.rego":      []byte(policy.String()),
		"policy_test.rego": r.tests(revision),
		"data.json":        text,
		"cases/cases.yaml": cases,
	})
}

// tests are two: a member is permitted, nobody else is.
func (r *Rules) tests(revision string) []byte {
	return fmt.Appendf(nil, `package authz_test

import data.authz

call(user) := {
	"subject": {"id": user},
	"action": {"name": "tools/call"},
	"resource": {"type": "tool", "id": %q},
}

test_members if authz.permit[%q] with input as call(%q)

test_nobody_else if authz.permit == {} with input as call("nobody")
`, ruleTool(0), PermitName(revision), ruleUser(r.members[0][0]))
}

// cases are an allow and a deny, in YAML, of which JSON is a part.
func (r *Rules) cases() ([]byte, error) {
	text, err := json.Marshal(map[string]any{
		"queries": map[string]any{"call": r.query(0, ruleUser(r.members[0][0]), ruleTeam(0))},
		"cases": map[string]any{
			"a member calls": map[string]any{"query": "call", "want": map[string]any{"decision": "ALLOW"}},
			"without the scope": map[string]any{
				"query": "call", "set": map[string]any{"/credentials/0/claims/scope": "other"}, "want": map[string]any{"decision": "DENY"},
			},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("write the cases: %w", err)
	}
	return text, nil
}

// WriteOPA writes the same revision for a stock OPA into dir: policy.rego,
// data.json and .manifest. Its rule is data.bench.decision.
func (r *Rules) WriteOPA(dir, revision string) error {
	text, err := r.dataText(revision)
	if err != nil {
		return err
	}
	var policy strings.Builder
	fmt.Fprintf(&policy, `package bench

decision := {"allow": allow, "rules": %q, "release": data.release}

default allow := false

claims := input.credentials[0].claims

scopes := split(claims.scope, " ")

credential_ok if {
	claims.aud == input.mcp.server
	claims.iss == input.subject.properties.issuer
	claims.sub == input.subject.id
	claims.exp > time.now_ns() / 1000000000
}
`, revision)
	for i := range r.count {
		fmt.Fprintf(&policy, `
allow if {
	input.mcp.method == "tools/call"
	input.mcp.params.name == %q
	data.tools[%q].members[input.subject.id]
	data.release == %q
	credential_ok
	%q in scopes
}
`, ruleTool(i), ruleTool(i), revision, ruleTeam(i))
	}
	return write(dir, map[string]any{
		".manifest":   map[string]any{"revision": revision, "roots": []string{"bench", "release", "tools"}, "rego_version": 1},
		"policy.rego": []byte(policy.String()),
		"data.json":   text,
	})
}

// query asks whether user, with a credential for the team, may call a tool.
func (r *Rules) query(tool int, user, team string) map[string]any {
	return map[string]any{
		"mcp": map[string]any{
			"method": "tools/call", "server": rulesServer, "transport": "http", "protocol_version": "2026-07-28",
			"params":              map[string]any{"name": ruleTool(tool), "arguments": map[string]any{"report": "sales", "rows": 100}},
			"client_capabilities": map[string]any{},
		},
		"subject": map[string]any{"type": "identity", "id": user, "properties": map[string]any{"issuer": rulesIssuer}},
		"credentials": []any{map[string]any{"id": "primary", "claims": map[string]any{
			"iss": rulesIssuer, "sub": user, "aud": rulesServer, "exp": rulesExpires, "client_id": "agent", "scope": "openid " + team,
		}}},
		"context": map[string]any{"tenant": "acme"},
	}
}

// Requests makes n questions about random tools, the same on every call: of
// five, three by a member, one by somebody else, one without the scope.
func (r *Rules) Requests(n int) ([]Request, error) {
	random := rand.New(rand.NewPCG(6, 10_000)) //nolint:gosec // the same on every machine
	out := make([]Request, n)
	for i := range out {
		tool := random.IntN(r.count)
		users := r.members[tool]
		user, team := ruleUser(users[random.IntN(len(users))]), ruleTeam(tool)
		switch i % 5 {
		case 3:
			user = "nobody"
		case 4:
			team = "team-none"
		}
		text, err := json.Marshal(r.query(tool, user, team))
		if err != nil {
			return nil, fmt.Errorf("write a request: %w", err)
		}
		out[i] = Request{Query: text, Allow: i%5 < 3}
	}
	return out, nil
}
