package workload

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

const accountInformation = "account_information"

// query is a CheckRequest as it stands in JSON.
type query struct {
	MCP         message      `json:"mcp"`
	Subject     subject      `json:"subject"`
	Credentials []credential `json:"credentials"`
	Context     context      `json:"context"`
}

type message struct {
	Method          string   `json:"method"`
	Params          params   `json:"params"`
	Server          string   `json:"server"`
	Transport       string   `json:"transport"`
	ProtocolVersion string   `json:"protocol_version"`
	Capabilities    struct{} `json:"client_capabilities"`
}

type params struct {
	Name      string    `json:"name"`
	Arguments arguments `json:"arguments"`
}

type arguments struct {
	Account     string `json:"account"`
	Amount      string `json:"amount"`
	Currency    string `json:"currency"`
	Beneficiary string `json:"beneficiary"`
	Reference   string `json:"reference"`
	Urgent      bool   `json:"urgent"`
	cents       int
}

type subject struct {
	Type       string     `json:"type"`
	ID         string     `json:"id"`
	Properties properties `json:"properties"`
}

type properties struct {
	Issuer string   `json:"issuer"`
	Roles  []string `json:"roles"`
}

type credential struct {
	ID     string `json:"id"`
	Claims claims `json:"claims"`
}

type claims struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience string   `json:"aud"`
	Expires  int64    `json:"exp"`
	Issued   int64    `json:"iat"`
	TokenID  string   `json:"jti"`
	ClientID string   `json:"client_id"`
	Tenant   string   `json:"tenant"`
	Scope    string   `json:"scope"`
	ACR      string   `json:"acr"`
	AMR      []string `json:"amr"`
	AuthTime int64    `json:"auth_time"`
	Act      *actor   `json:"act"`
	Details  []detail `json:"authorization_details"`
	scopes   []string
}

type actor struct {
	Subject string `json:"sub"`
	Issuer  string `json:"iss,omitempty"`
	Act     *actor `json:"act,omitempty"`
}

type detail struct {
	Type       string   `json:"type"`
	Identifier string   `json:"identifier"`
	Actions    []string `json:"actions"`
	Locations  []string `json:"locations"`
	Limit      limit    `json:"limit"`
}

type limit struct {
	Currency string `json:"currency"`
	Amount   string `json:"amount"`
	cents    int
}

type context struct {
	Tenant    string `json:"tenant"`
	RequestID string `json:"request_id"`
	SessionID string `json:"session_id"`
	ClientIP  string `json:"client_ip"`
}

func decimal(cents int) string { return fmt.Sprintf("%d.%02d", cents/100, cents%100) }

func upTo(cents int) limit { return limit{Currency: "EUR", Amount: decimal(cents), cents: cents} }

// A token's times lie around the generator's own, far from any clock's now, so
// that the workload never expires.
const (
	issued  = 1_700_000_000
	expires = 4_102_444_800
)

// Each request is plain, or spoilt in one of five ways.
const (
	wrongRole = iota
	missingScope
	wrongTenant
	overLimit
	blockedAccount
	variants = 24
)

type generator struct {
	r *rand.Rand
	d *data
	n int64
}

func newGenerator(d *data) *generator {
	return &generator{r: rand.New(rand.NewPCG(2, 2)), d: d} //nolint:gosec // as in newData
}

func (g *generator) next() *query {
	r := g.r
	g.n++
	spoilt := r.IntN(variants)
	roleID := roleName(r.IntN(roleCount))
	name := g.tool(roleID, spoilt != wrongRole)
	t := g.d.Tools[name]
	domain, _, _ := strings.Cut(name, ".")
	tenant := t.Tenants[r.IntN(len(t.Tenants))]

	c := claims{
		Issuer: "https://idp.example/realms/" + tenant, Subject: fmt.Sprintf("u-%06d", r.IntN(1_000_000)),
		Audience: "https://gateway.example/mcp", Expires: expires + g.n, Issued: issued + g.n,
		TokenID: fmt.Sprintf("%016x", r.Uint64()), ClientID: "https://agent.example/cimd.json", Tenant: tenant,
		scopes: []string{"openid", "mcp:tools.call", domain + ":read", "search:read", domain + ":write"},
		ACR:    "urn:example:acr:mfa", AMR: []string{"pwd", "hwk"}, AuthTime: issued + g.n,
		Act: &actor{
			Subject: g.d.Agents[r.IntN(len(g.d.Agents))], Issuer: "https://agents.example",
			Act: &actor{Subject: "mcp-gateway-eu1"},
		},
		Details: g.details(t),
	}
	args := arguments{
		Account: account(r.IntN(900_000)), cents: 100 + r.IntN(490_000), Currency: "EUR",
		Beneficiary: "Example Supplies GmbH", Reference: fmt.Sprintf("INV-2026-%06d", r.IntN(1_000_000)),
	}
	switch spoilt {
	case missingScope:
		c.scopes = c.scopes[:4]
	case wrongTenant:
		c.Tenant = "tenant-99"
	case overLimit:
		args.cents += 10_000_000
	case blockedAccount:
		args.Account = g.d.Blocked[r.IntN(len(g.d.Blocked))]
	}
	args.Amount = decimal(args.cents)
	c.Scope = strings.Join(c.scopes, " ")
	return &query{
		MCP: message{
			Method: "tools/call", Params: params{Name: name, Arguments: args},
			Server: c.Audience, Transport: "http", ProtocolVersion: "2026-07-28",
		},
		Subject:     subject{Type: "identity", ID: c.Subject, Properties: properties{Issuer: c.Issuer, Roles: []string{"employee", roleID}}},
		Credentials: []credential{{ID: "primary", Claims: c}},
		Context: context{
			Tenant: tenant, RequestID: fmt.Sprintf("%08x-%08x", r.Uint32(), r.Uint32()),
			SessionID: fmt.Sprintf("mcp-%016x", r.Uint64()), ClientIP: "10.20.30.40",
		},
	}
}

// tool picks one that the role may call, or may not.
func (g *generator) tool(roleID string, allowed bool) string {
	for {
		name := toolName(g.r.IntN(toolCount))
		if g.d.Roles[roleID].Tools[name] == allowed {
			return name
		}
	}
}

// details are three objects, of which the last covers a call up to 5000.00.
func (g *generator) details(t tool) []detail {
	id := func() string { return fmt.Sprintf("ad-%08x", g.r.Uint32()) }
	return []detail{
		{
			Type: accountInformation, Identifier: id(), Actions: []string{"list", "read"},
			Locations: []string{"https://accounts.tools.example/mcp"}, Limit: upTo(0),
		},
		{
			Type: t.Detail.Type, Identifier: id(), Actions: []string{"status"},
			Locations: []string{t.Detail.Location}, Limit: upTo(10_000),
		},
		{
			Type: t.Detail.Type, Identifier: id(), Actions: []string{"initiate", "status", "cancel"},
			Locations: []string{"https://backup.tools.example/mcp", t.Detail.Location}, Limit: upTo(500_000),
		},
	}
}
