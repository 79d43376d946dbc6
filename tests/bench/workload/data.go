package workload

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// data is what both engines hold.
type data struct {
	Tools   map[string]tool `json:"tools"`
	Roles   map[string]role `json:"roles"`
	Agents  []string        `json:"agents"`
	Blocked []string        `json:"blocked_accounts"`
}

type tool struct {
	RequiredScopes []string   `json:"required_scopes"`
	Tenants        []string   `json:"tenants"`
	Detail         toolDetail `json:"detail"`
}

type toolDetail struct {
	Type     string   `json:"type"`
	Actions  []string `json:"actions"`
	Location string   `json:"location"`
}

type role struct {
	Tools map[string]bool `json:"tools"`
}

func domains() []string {
	return []string{"payments", "ledger", "crm", "files", "mail", "tickets", "deploy", "hr", "search", "reports"}
}

func domainOf(i int) string   { return domains()[i%len(domains())] }
func toolName(i int) string   { return fmt.Sprintf("%s.tool%03d", domainOf(i), i) }
func roleName(i int) string   { return fmt.Sprintf("role-%02d", i) }
func tenantName(i int) string { return fmt.Sprintf("tenant-%02d", i) }
func account(n int) string    { return fmt.Sprintf("DE89370400440532%06d", n) }
func detailType(domain string) string {
	return domain + "_operation"
}

func newData() data {
	r := rand.New(rand.NewPCG(1, 1)) //nolint:gosec // the same on every machine, and no secret
	d := data{Tools: map[string]tool{}, Roles: map[string]role{}}
	for i := range toolCount {
		domain := domainOf(i)
		var tenants []string
		for t := range tenantCount {
			if (t+i)%4 != 0 {
				tenants = append(tenants, tenantName(t))
			}
		}
		d.Tools[toolName(i)] = tool{
			RequiredScopes: []string{"mcp:tools.call", domain + ":write"},
			Tenants:        tenants,
			Detail: toolDetail{
				Type: detailType(domain), Actions: []string{"initiate", "status"},
				Location: "https://" + domain + ".tools.example/mcp",
			},
		}
	}
	for i := range roleCount {
		tools := map[string]bool{}
		for j := range toolCount {
			if r.IntN(10) < 3 {
				tools[toolName(j)] = true
			}
		}
		d.Roles[roleName(i)] = role{Tools: tools}
	}
	for i := range 16 {
		d.Agents = append(d.Agents, fmt.Sprintf("agent-planner-%d", i))
		d.Blocked = append(d.Blocked, account(900_000+i))
	}
	return d
}

// allows is the answer, worked out by hand from the typed query.
func (d *data) allows(q *query) bool {
	return !d.blocks(q) && d.applies(q) && d.scoped(q) && d.covered(q)
}

// blocks tells whether the account of the call is blocked.
func (d *data) blocks(q *query) bool {
	return slices.Contains(d.Blocked, q.MCP.Params.Arguments.Account)
}

// applies tells whether the tool is permitted to the roles, the tenant and the actor.
func (d *data) applies(q *query) bool {
	claims, name := &q.Credentials[0].Claims, q.MCP.Params.Name
	t, known := d.Tools[name]
	return known &&
		slices.ContainsFunc(q.Subject.Properties.Roles, func(r string) bool { return d.Roles[r].Tools[name] }) &&
		q.Context.Tenant == claims.Tenant && slices.Contains(t.Tenants, q.Context.Tenant) &&
		slices.Contains(d.Agents, claims.Act.Subject)
}

// scoped tells whether the credential has every scope that the tool requires.
func (d *data) scoped(q *query) bool {
	for _, s := range d.Tools[q.MCP.Params.Name].RequiredScopes {
		if !slices.Contains(q.Credentials[0].Claims.scopes, s) {
			return false
		}
	}
	return true
}

// covered tells whether one of the credential's details covers the call.
func (d *data) covered(q *query) bool {
	t, args := d.Tools[q.MCP.Params.Name], &q.MCP.Params.Arguments
	return slices.ContainsFunc(q.Credentials[0].Claims.Details, func(x detail) bool {
		for _, a := range t.Detail.Actions {
			if !slices.Contains(x.Actions, a) {
				return false
			}
		}
		return x.Type == t.Detail.Type && slices.Contains(x.Locations, t.Detail.Location) &&
			x.Limit.Currency == args.Currency && args.cents <= x.Limit.cents
	})
}

// withTypes is the data with what authzd is told of tools and types.
func (d *data) withTypes() any {
	return struct {
		*data
		AuthzdTools map[string]any `json:"authzd_tools"`
		AuthzdTypes map[string]any `json:"authzd_types"`
	}{d, d.toolSchemas(), d.types()}
}

// toolSchemas declares the arguments of every tool.
func (d *data) toolSchemas() map[string]any {
	text := func(n int) any { return map[string]any{"type": "string", "minLength": 1, "maxLength": n} }
	out := map[string]any{}
	for name := range d.Tools {
		out[name] = map[string]any{"arguments": map[string]any{
			"type": "object",
			"properties": map[string]any{
				"account":     map[string]any{"type": "string", "pattern": "^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$"},
				"amount":      decimalSchema(),
				"currency":    map[string]any{"enum": []string{"EUR", "GBP", "USD"}},
				"beneficiary": text(70),
				"reference":   text(140),
				"urgent":      map[string]any{"type": "boolean"},
			},
			"required": []string{"account", "amount", "currency"},
		}}
	}
	return out
}

func decimalSchema() any {
	return map[string]any{"type": "string", "pattern": `^(0|[1-9][0-9]*)(\.[0-9]+)?$`}
}

// types declares the type of every domain, and the one that no tool needs.
func (d *data) types() map[string]any {
	names := []string{accountInformation}
	for _, domain := range domains() {
		names = append(names, detailType(domain))
	}
	texts := map[string]any{"type": "array", "items": map[string]any{"type": "string", "minLength": 1}, "minItems": 1}
	out := map[string]any{}
	for _, name := range names {
		out[name] = map[string]any{
			"type": name,
			"schema": map[string]any{
				"$schema": "https://json-schema.org/draft/2020-12/schema",
				"type":    "object",
				"properties": map[string]any{
					"type": map[string]any{"const": name}, "identifier": map[string]any{"type": "string"},
					"actions": texts, "locations": texts,
					"limit": map[string]any{
						"type":                 "object",
						"properties":           map[string]any{"currency": map[string]any{"type": "string", "pattern": "^[A-Z]{3}$"}, "amount": decimalSchema()},
						"required":             []string{"currency", "amount"},
						"additionalProperties": false,
					},
				},
				"required":             []string{"type", "actions", "locations", "limit"},
				"additionalProperties": false,
			},
			"compare": map[string]any{
				"/identifier": "ignore", "/actions": "subset", "/locations": "subset",
				"/limit/currency": "equal", "/limit/amount": "max",
			},
		}
	}
	return out
}
