package policies_test

import "time"

// document is the input (docs/policy.md, "What policy sees").
func document(a *asked, w *who) map[string]any {
	entity := func(part, typ, id string) map[string]any {
		out := map[string]any{"type": typ, "id": id, "properties": map[string]any{}}
		if p := at(a.tree, part, "properties"); p != nil {
			out["properties"] = p
		}
		return out
	}
	subject := entity("subject", w.subjectType, w.subject)
	if w.issuer != "" {
		properties := object(cloned(subject["properties"]))
		properties["issuer"] = w.issuer
		subject["properties"] = properties
	}
	action := entity("action", "", "")
	delete(action, "type")
	delete(action, "id")
	action["name"] = a.query.Action.Name
	around := map[string]any{}
	for k, v := range object(a.tree["context"]) {
		around[k] = v
	}
	delete(around, "agent")
	if w.agent != "" {
		around["agent"] = w.agent
	}
	credentials, rejected := []any{}, []any{}
	for _, c := range w.usable {
		credentials = append(credentials, c.document())
	}
	for _, c := range w.rejected {
		rejected = append(rejected, map[string]any{"id": c.id, "code": c.code})
	}
	doc := map[string]any{
		"subject": subject, "action": action, "resource": entity("resource", a.query.Resource.Type, a.query.Resource.ID),
		"context": around, "credentials": credentials, "rejected_credentials": rejected,
		"tenant": tenantOf(a), "now": a.now.UTC().Format(time.RFC3339Nano),
	}
	if m := object(a.tree["mcp"]); m != nil {
		message := map[string]any{"method": m["method"], "params": map[string]any{}, "server": serverOf(a), "transport": stringOf(m["transport"]), "protocol_version": stringOf(m["protocol_version"])}
		if p := object(m["params"]); p != nil {
			message["params"] = p
		}
		if m["method"] == "tools/call" {
			params := object(cloned(message["params"]))
			params["arguments"] = argumentsOf(a)
			message["params"] = params
		}
		if tool := m["tool"]; tool != nil {
			message["tool"] = tool
		}
		doc["mcp"] = message
	} else if a.query.Action.Name == "tools/call" {
		doc["mcp"] = map[string]any{
			"method": "tools/call", "server": serverOf(a),
			"params": map[string]any{"name": a.query.Resource.ID, "arguments": map[string]any{}},
		}
	}
	return doc
}

func tenantOf(a *asked) string {
	if a.query.Tenant == "" {
		return "default"
	}
	return a.query.Tenant
}

// serverOf is who a credential has to be meant for.
func serverOf(a *asked) string {
	if s := stringOf(at(a.tree, "mcp", "server")); s != "" {
		return s
	}
	return a.query.Audience
}
