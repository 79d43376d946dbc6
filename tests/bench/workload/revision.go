package workload

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Revision is the workload's policy and data in one of many revisions, which
// answer the same questions differently. The text of policy names its permit after
// the revision and shuts one tenant out; in data other accounts are blocked, roles
// lack other tools, and other tools require a scope that nobody has.
//
// It is read-only.
type Revision struct {
	number, changes int
	data            data
}

// Revision makes the revision of a number, from 1 on.
func (w *Workload) Revision(number int) *Revision {
	r := &Revision{number: number, data: w.data}
	r.data.Blocked = r.blocked()
	r.data.Roles, r.data.Tools = map[string]role{}, map[string]tool{}
	for i := range roleCount {
		r.data.Roles[roleName(i)] = role{withoutSome(w.data.Roles[roleName(i)].Tools, i+number)}
	}
	for i := range toolCount {
		t := w.data.Tools[toolName(i)]
		if (i+number)%6 == 0 {
			t.RequiredScopes = append(slices.Clone(t.RequiredScopes), domainOf(i)+":admin")
		}
		r.data.Tools[toolName(i)] = t
	}
	return r
}

// blocked are two thirds of the accounts that requests for blocked ones name.
func (r *Revision) blocked() []string {
	var accounts []string
	for i := range 16 {
		if (i+r.number+r.changes)%3 != 0 {
			accounts = append(accounts, account(900_000+i))
		}
	}
	return accounts
}

// withoutSome are tools but for a sixth of all.
func withoutSome(tools map[string]bool, which int) map[string]bool {
	tools = maps.Clone(tools)
	for i := range toolCount {
		if (i+which)%6 == 0 {
			delete(tools, toolName(i))
		}
	}
	return tools
}

// Changed is the revision with one more change of its data: of two roles, and of the
// blocked accounts. The patch is that change, in the form of OPA's patch.json.
func (r *Revision) Changed() (changed *Revision, patch []byte, err error) {
	c := &Revision{number: r.number, changes: r.changes + 1, data: r.data}
	c.data.Blocked, c.data.Roles = c.blocked(), maps.Clone(r.data.Roles)
	edits := []any{map[string]any{"op": "replace", "path": "/blocked_accounts", "value": c.data.Blocked}}
	for i := range 2 {
		name := roleName((2*c.changes + c.number + i) % roleCount)
		c.data.Roles[name] = role{withoutSome(r.data.Roles[name].Tools, c.changes)}
		edits = append(edits, map[string]any{"op": "upsert", "path": "/roles/" + name, "value": c.data.Roles[name]})
	}
	patch, err = encode(map[string]any{"data": edits})
	return c, patch, err
}

// Bundle is the name of the revision's bundle, without the number of its last change.
func (r *Revision) Bundle() string { return "r" + strconv.Itoa(r.number) }

// Name is what decisions call it.
func (r *Revision) Name() string {
	if r.changes == 0 {
		return r.Bundle()
	}
	return r.Bundle() + "#" + strconv.Itoa(r.changes)
}

// rule names its permit.
func (r *Revision) rule() string { return "call-tool-" + r.Bundle() }

// shutOut is the tenant that its policy shuts out.
func (r *Revision) shutOut() string { return tenantName(r.number % tenantCount) }

// WriteBundle writes the bundle, as it is without changes of its data, into dir.
func (r *Revision) WriteBundle(dir string) error {
	policy := bytes.Replace(authzdPolicy, []byte(`permit["call-tool"]`), fmt.Appendf(nil, "permit[%q]", r.rule()), 1)
	policy = bytes.Replace(policy, []byte("\ttenant_ok\n"), fmt.Appendf(nil, "\ttenant_ok\n\tinput.context.tenant != %q\n", r.shutOut()), 1)
	manifest := map[string]any{
		"revision": r.Bundle(), "roots": []string{""},
		"metadata": map[string]any{"authzd": map[string]any{
			"contract": 1, "sequence": r.number,
			"writable_data": []string{"blocked_accounts", "roles"}, "public_data": []string{"tools"},
		}},
	}
	return write(dir, map[string]any{".manifest": manifest, "policy.rego": policy, "data.json": r.data.withTypes()})
}

// Question is a query whose right answer is known for each revision.
type Question struct {
	// Query is its text, as in Request.
	Query json.RawMessage
	query *query
	// misfit: its arguments do not fit the schema.
	misfit bool
}

// Questions are the workload's requests, and a few with arguments that do not fit
// the schema of their tool.
func (w *Workload) Questions() ([]Question, error) {
	var all []Question
	for i, q := range w.queries {
		all = append(all, Question{Query: w.Requests[i].Query, query: q})
		if i%40 != 0 {
			continue
		}
		misfit := *q
		misfit.MCP.Params.Arguments.Amount = "1e3"
		text, err := encode(misfit)
		if err != nil {
			return nil, err
		}
		all = append(all, Question{Query: text, query: &misfit, misfit: true})
	}
	return all, nil
}

// Batch are questions with the credential of one: itself, with an amount that
// nothing covers, and about another tool.
func (w *Workload) Batch(q *Question) ([]Question, error) {
	above, other := *q.query, *q.query
	above.MCP.Params.Arguments.cents += 10_000_000
	above.MCP.Params.Arguments.Amount = decimal(above.MCP.Params.Arguments.cents)
	i, err := strconv.Atoi(strings.TrimLeft(q.query.MCP.Params.Name, "abcdefghijklmnopqrstuvwxyz."))
	if err != nil {
		return nil, fmt.Errorf("tool %q: %w", q.query.MCP.Params.Name, err)
	}
	other.MCP.Params.Name = toolName((i + 1) % toolCount)
	all := []Question{*q, {query: &above}, {query: &other, misfit: q.misfit}}
	for i := range all[1:] {
		if all[i+1].Query, err = encode(all[i+1].query); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Outcome is what an answer has to say. It can be compared.
type Outcome struct {
	Allow bool
	// Rule is the one that decided, if one did; Code that of the first reason.
	Rule, Code string
	// Hints is what Hint makes of each hint, by Join.
	Hints string
}

// Hint writes a hint of a kind: scopes, or authorization_details as JSON.
func Hint(kind string, scopes []string, details string, held bool) string {
	return fmt.Sprintf("%s %q %s held=%t", kind, scopes, details, held)
}

// Join makes one text of hints, the same in whatever order they come.
func Join(hints []string) string {
	slices.Sort(hints)
	return strings.Join(hints, "\n")
}

// Outcome is the right answer to a question, worked out by hand.
func (r *Revision) Outcome(q *Question) (Outcome, error) {
	d := &r.data
	switch {
	case q.misfit:
		return Outcome{Code: "request.arguments_invalid"}, nil
	case d.blocks(q.query):
		return Outcome{Rule: "blocked-account", Code: "engine.forbidden"}, nil
	case !d.applies(q.query), q.query.Context.Tenant == r.shutOut():
		return Outcome{Code: "engine.no_permit"}, nil
	case d.scoped(q.query) && d.covered(q.query):
		return Outcome{Allow: true, Rule: r.rule(), Code: "engine.permitted"}, nil
	}
	o := Outcome{Rule: r.rule(), Code: "requirement.unmet"}
	t := d.Tools[q.query.MCP.Params.Name]
	hints := []string{Hint("scopes", t.RequiredScopes, "", d.scoped(q.query))}
	if !d.covered(q.query) {
		details, err := needed(&t, &q.query.MCP.Params.Arguments)
		if err != nil {
			return o, err
		}
		hints = append(hints, Hint("authorization_details", nil, details, false))
	}
	o.Hints = Join(hints)
	return o, nil
}

// needed are the details that a call needs, as a hint has them.
func needed(t *tool, args *arguments) (string, error) {
	text, err := encode([]any{map[string]any{
		"actions": t.Detail.Actions, "limit": map[string]string{"amount": args.Amount, "currency": args.Currency},
		"locations": []string{t.Detail.Location}, "type": t.Detail.Type,
	}})
	return string(text), err
}
