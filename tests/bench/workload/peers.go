package workload

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The same question for engines that are no Rego: Cerbos and OpenFGA. What their
// clients send is JSON here, the JSON form of their protobuf messages.

//go:embed plain.rego
var plainPolicy []byte

// PlainForm is a form of the plain policy. Its answers are the same in all.
type PlainForm int

// The forms.
const (
	// Plain is what authzd's compiled evaluation takes.
	Plain PlainForm = iota
	// HandedOver reads a table by a key of another type than the table's, which the
	// compiled evaluation leaves to OPA's interpreter, call by call.
	HandedOver
	// Refused groups by a comprehension that may fail, which authzd's compiler leaves
	// to OPA's interpreter as a whole.
	Refused
)

// extra is what a form adds: a condition of allow, and the rule for it.
func (f PlainForm) extra() (condition, rules string) {
	switch f {
	case HandedOver:
		return "chain_ok", `
chain_ok if data.chain_lengths[count(credential.actors)]
`
	case Refused:
		return "location_ok", `
location_ok if lower(tool.detail.location) in locations[tool.detail.type]

locations[type] := names if {
	some d in credential.authorization_details
	type := d.type
	names := {lower(l) |
		some e in credential.authorization_details
		e.type == type
		some l in e.locations
	}
}
`
	default:
		return "", ""
	}
}

func (f PlainForm) policy() []byte {
	condition, rules := f.extra()
	if condition == "" {
		return plainPolicy
	}
	text := bytes.Replace(plainPolicy, []byte("\tcovered\n"), []byte("\tcovered\n\t"+condition+"\n"), 1)
	return append(text, rules...)
}

// plainData is data, and the table that HandedOver reads: how long a chain of
// actors may be. Its keys are text, as JSON's are.
type plainData struct {
	data
	Chains map[string]bool `json:"chain_lengths"`
}

func (w *Workload) plainData() plainData {
	return plainData{w.data, map[string]bool{"0": true, "1": true, "2": true, "3": false}}
}

// WritePlainBundle writes a plain policy for authzd into dir.
func (w *Workload) WritePlainBundle(dir string, form PlainForm) error {
	manifest := map[string]any{
		"revision": "bench-1", "roots": []string{""},
		"metadata": map[string]any{"authzd": map[string]any{"contract": 1, "untyped_tools": true, "lax_forbids": true}},
	}
	// Without its types policy sees no authorization_details.
	full := struct {
		plainData
		AuthzdTypes map[string]any `json:"authzd_types"`
	}{w.plainData(), w.data.types()}
	return write(dir, map[string]any{".manifest": manifest, "policy.rego": form.policy(), "data.json": full})
}

// WritePlainOPA writes the same policy for a stock OPA into dir. Its rule is
// data.authz.allow.
func (w *Workload) WritePlainOPA(dir string, form PlainForm) error {
	return write(dir, map[string]any{"policy.rego": form.policy(), "data.json": w.plainData()})
}

// PolicyInput is what authzd's policy sees of a query, for a stock OPA to see the
// same.
func PolicyInput(text []byte) ([]byte, error) {
	q, err := decode(text)
	if err != nil {
		return nil, err
	}
	c := &q.Credentials[0].Claims
	tokenID := sha256.Sum256([]byte(c.Issuer + "\x00" + c.TokenID))
	at := func(seconds int64) string { return time.Unix(seconds, 0).UTC().Format(time.RFC3339) }
	var actors []map[string]string
	for a := c.Act; a != nil; a = a.Act {
		actors = append(actors, map[string]string{"issuer": cmp.Or(a.Issuer, c.Issuer), "subject": a.Subject})
	}
	context := map[string]any{
		"tenant": q.Context.Tenant, "request_id": q.Context.RequestID, "session_id": q.Context.SessionID,
		"client_ip": q.Context.ClientIP, "agent": c.ClientID,
	}
	return encode(map[string]any{
		"subject": q.Subject, "action": map[string]any{"name": q.MCP.Method, "properties": map[string]any{}},
		"resource": map[string]any{"type": "tool", "id": q.MCP.Params.Name, "properties": map[string]any{}},
		"context":  context,
		"mcp": map[string]any{
			"method": q.MCP.Method, "params": q.MCP.Params, "server": q.MCP.Server,
			"transport": q.MCP.Transport, "protocol_version": q.MCP.ProtocolVersion,
		},
		"credentials": []any{map[string]any{
			"id": q.Credentials[0].ID, "verified_by": "pep", "issuer": c.Issuer, "subject": c.Subject, "client_id": c.ClientID,
			"subject_is_client": false, "audience": []string{c.Audience}, "scopes": strings.Fields(c.Scope),
			"authorization_details": c.Details, "actors": actors, "tenant": c.Tenant, "bound_by": "",
			"auth":     map[string]any{"time": at(c.AuthTime), "acr": c.ACR, "amr": c.AMR},
			"token_id": base64.RawURLEncoding.EncodeToString(tokenID[:]), "expires_at": at(c.Expires), "issued_at": at(c.Issued),
		}},
		"rejected_credentials": []any{}, "tenant": "default", "now": at(issued),
	})
}

// CerbosRequest is a query as a CheckResourcesRequest of Cerbos.
func CerbosRequest(text []byte) ([]byte, error) {
	q, err := decode(text)
	if err != nil {
		return nil, err
	}
	c := &q.Credentials[0].Claims
	return encode(map[string]any{
		"requestId": q.Context.RequestID,
		"principal": map[string]any{
			"id": q.Subject.ID, "roles": q.Subject.Properties.Roles,
			"attr": map[string]any{"claims": c, "scopes": strings.Fields(c.Scope)},
		},
		"resources": []any{map[string]any{
			"actions": []string{q.MCP.Params.Name},
			"resource": map[string]any{
				"kind": "mcp_tool", "id": q.MCP.Params.Name,
				"attr": map[string]any{
					"server": q.MCP.Server, "arguments": q.MCP.Params.Arguments,
					"authorization_details": c.Details, "context": q.Context,
				},
			},
		}},
	})
}

// cerbosConditions is plain.rego but for the role, which is a rule's.
func cerbosConditions() []any {
	var of []any
	for _, expr := range []string{
		`R.attr.context.tenant == P.attr.claims.tenant`,
		`R.attr.context.tenant in V.tool.tenants`,
		`!has(P.attr.claims.act) || P.attr.claims.act.sub in C.agents`,
		`V.tool.required_scopes.all(s, s in P.attr.scopes)`,
		`R.attr.authorization_details.exists(d, d.type == V.tool.detail.type && V.tool.detail.location in d.locations && ` +
			`V.tool.detail.actions.all(a, a in d.actions) && d.limit.currency == R.attr.arguments.currency && ` +
			`double(R.attr.arguments.amount) <= double(d.limit.amount))`,
		`!(R.attr.arguments.account in C.blocked)`,
	} {
		of = append(of, map[string]any{"expr": expr})
	}
	return of
}

// WriteCerbos writes the policy for Cerbos into dir: a rule for each role, with
// its tools as actions.
func (w *Workload) WriteCerbos(dir string) error {
	var rules []any
	for i := range roleCount {
		rules = append(rules, map[string]any{
			"name": roleName(i), "roles": []string{roleName(i)}, "actions": w.toolsOf(roleName(i)), "effect": "EFFECT_ALLOW",
			"condition": map[string]any{"match": map[string]any{"all": map[string]any{"of": cerbosConditions()}}},
		})
	}
	return write(dir, map[string]any{"mcp_tool.json": map[string]any{
		"apiVersion": "api.cerbos.dev/v1",
		"resourcePolicy": map[string]any{
			"resource": "mcp_tool", "version": "default", "rules": rules,
			"constants": map[string]any{"local": map[string]any{"tools": w.data.Tools, "agents": w.data.Agents, "blocked": w.data.Blocked}},
			"variables": map[string]any{"local": map[string]any{"tool": "C.tools[R.id]"}},
		},
	}})
}

// toolsOf are the names of a role's tools, in order.
func (w *Workload) toolsOf(role string) []string {
	var names []string
	for name := range w.data.Roles[role].Tools {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// OpenFGARequest is a query as a CheckRequest of OpenFGA, and its answer. The
// question is a smaller one: the limit of the detail that covers the call's tool
// is looked up here, and nobody is blocked.
func (w *Workload) OpenFGARequest(text []byte, store, model string) (request []byte, allow bool, err error) {
	q, err := decode(text)
	if err != nil {
		return nil, false, err
	}
	claims, name := &q.Credentials[0].Claims, q.MCP.Params.Name
	cents, t := 0, w.data.Tools[name]
	for i := range claims.Details {
		d := &claims.Details[i]
		if d.Type == t.Detail.Type && slices.Contains(d.Actions, "initiate") && slices.Contains(d.Locations, t.Detail.Location) {
			cents = d.Limit.cents
		}
	}
	members := []any{}
	for _, r := range q.Subject.Properties.Roles {
		members = append(members, map[string]any{"user": "user:" + q.Subject.ID, "relation": "member", "object": "role:" + r})
	}
	request, err = encode(map[string]any{
		"store_id": store, "authorization_model_id": model,
		"tuple_key":         map[string]any{"user": "user:" + q.Subject.ID, "relation": "can_call", "object": "tool:" + name},
		"contextual_tuples": map[string]any{"tuple_keys": members},
		"context": map[string]any{
			"tenant": q.Context.Tenant, "claim_tenant": claims.Tenant, "scopes": claims.scopes,
			"amount": float64(q.MCP.Params.Arguments.cents) / 100, "limit": float64(cents) / 100,
		},
	})
	unblocked := *q
	unblocked.MCP.Params.Arguments.Account = account(0)
	return request, w.data.allows(&unblocked), err
}

// OpenFGAModel is the body of WriteAuthorizationModel, but for the store.
func OpenFGAModel() ([]byte, error) {
	text := map[string]any{"type_name": "TYPE_NAME_STRING"}
	number := map[string]any{"type_name": "TYPE_NAME_DOUBLE"}
	texts := map[string]any{"type_name": "TYPE_NAME_LIST", "generic_types": []any{text}}
	relation := func(typeName, relation string, user map[string]any) map[string]any {
		return map[string]any{
			"type": typeName, "relations": map[string]any{relation: map[string]any{"this": map[string]any{}}},
			"metadata": map[string]any{"relations": map[string]any{relation: map[string]any{"directly_related_user_types": []any{user}}}},
		}
	}
	return encode(map[string]any{
		"schema_version": "1.1",
		"type_definitions": []any{
			map[string]any{"type": "user"},
			relation("role", "member", map[string]any{"type": "user"}),
			relation("tool", "can_call", map[string]any{"type": "role", "relation": "member", "condition": "in_bounds"}),
		},
		"conditions": map[string]any{"in_bounds": map[string]any{
			"name":       "in_bounds",
			"expression": "tenant == claim_tenant && tenant in tenants && required.all(s, s in scopes) && amount <= limit",
			"parameters": map[string]any{
				"tenant": text, "claim_tenant": text, "amount": number, "limit": number, "tenants": texts, "required": texts, "scopes": texts,
			},
		}},
	})
}

// OpenFGATuples are the grants of tools to roles, each with its condition's
// parameters.
func (w *Workload) OpenFGATuples() []any {
	var out []any
	for i := range roleCount {
		for _, name := range w.toolsOf(roleName(i)) {
			t := w.data.Tools[name]
			out = append(out, map[string]any{
				"user": "role:" + roleName(i) + "#member", "relation": "can_call", "object": "tool:" + name,
				"condition": map[string]any{"name": "in_bounds", "context": map[string]any{"tenants": t.Tenants, "required": t.RequiredScopes}},
			})
		}
	}
	return out
}

// decode reads a query of this workload, and fills in what JSON leaves out.
func decode(text []byte) (*query, error) {
	var q query
	if err := json.Unmarshal(text, &q); err != nil {
		return nil, fmt.Errorf("read a request: %w", err)
	}
	if len(q.Credentials) != 1 {
		return nil, fmt.Errorf("read a request: %d credentials", len(q.Credentials))
	}
	c := &q.Credentials[0].Claims
	c.scopes = strings.Fields(c.Scope)
	var err error
	if q.MCP.Params.Arguments.cents, err = cents(q.MCP.Params.Arguments.Amount); err != nil {
		return nil, err
	}
	for i := range c.Details {
		if c.Details[i].Limit.cents, err = cents(c.Details[i].Limit.Amount); err != nil {
			return nil, err
		}
	}
	return &q, nil
}

// cents reads what decimal writes.
func cents(amount string) (int, error) {
	var whole, part int
	if _, err := fmt.Sscanf(amount, "%d.%02d", &whole, &part); err != nil || decimal(100*whole+part) != amount {
		return 0, fmt.Errorf("read a request: amount %q", amount)
	}
	return 100*whole + part, nil
}

func encode(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("write a request: %w", err)
	}
	return text, nil
}
