package failclosed_test

import (
	"sort"
	"strings"
)

// setting changes a query as a whole. apply is false where it does not fit.
type setting struct {
	name  string
	apply func(q *node) bool
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

const otherIssuer = "https://other-as.example.com"

func settings() []setting {
	var all []setting
	add := func(name string, apply func(q *node) bool) { all = append(all, setting{name, apply}) }
	always := func(name string, apply func(q *node)) {
		add(name, func(q *node) bool { apply(q); return true })
	}
	always("arguments omitted", func(q *node) { q.get("mcp", "params").drop("arguments") })
	always("no mcp, action and resource instead", func(q *node) {
		q.set("action", obj(member{name: "name", value: str("tools/call")}))
		q.set("resource", obj(member{name: "type", value: str("tool")}, member{name: "id", value: q.get("mcp", "params", "name")}))
		q.drop("mcp")
	})
	always("no mcp", func(q *node) { q.drop("mcp") })
	always("no credentials", func(q *node) { q.drop("credentials") })
	always("only a subject", func(q *node) { q.drop("credentials"); q.set("subject", subject("alice@example.com", issuer)) })
	always("empty credentials and a subject", func(q *node) {
		q.set("credentials", list())
		q.set("subject", subject("alice@example.com", issuer))
	})
	always("commit", func(q *node) {
		q.set("commit", obj(member{name: "idempotency_key", value: str("k-9")}))
	})
	always("commit with empty key", func(q *node) { q.set("commit", obj(member{name: "idempotency_key", value: str("")})) })
	always("another agent", func(q *node) {
		q.set("context", obj(member{name: "agent", value: str("https://robot.example/cimd.json")}))
	})
	always("the listed agent", func(q *node) { q.set("context", obj(member{name: "agent", value: str(agent)})) })
	always("agent of the wrong type", func(q *node) { q.set("context", obj(member{name: "agent", value: list(str(agent))})) })
	for _, method := range []string{"tools/list", "prompts/get", "resources/read", "Tools/Call", "tools/call ", "tools\\/call", "tools/call/x", "notifications/tools/call", "x"} {
		always("method "+method, func(q *node) { q.get("mcp").set("method", str(method)) })
		always("action "+method, func(q *node) {
			q.set("action", obj(member{name: "name", value: str(method)}))
			q.set("resource", obj(member{name: "type", value: str("tool")}, member{name: "id", value: q.get("mcp", "params", "name")}))
		})
		always("method "+method+" beside action and resource of the call", func(q *node) {
			q.get("mcp").set("method", str(method))
			q.set("action", obj(member{name: "name", value: str("tools/call")}))
			q.set("resource", obj(member{name: "type", value: str("tool")}, member{name: "id", value: q.get("mcp", "params", "name")}))
		})
	}
	return append(append(append(all, resourceSettings()...), subjectSettings()...), credentialSettings()...)
}

func subject(id, iss string) *node {
	s := obj(member{name: "type", value: str("identity")}, member{name: "id", value: str(id)})
	if iss != "" {
		s.set("properties", obj(member{name: "issuer", value: str(iss)}))
	}
	return s
}

// resourceSettings ask about one thing and call another.
func resourceSettings() []setting {
	var all []setting
	for _, kind := range []string{"tool", "Tool", "tool ", "table", "prompt", ""} {
		for _, id := range []string{"", "payments.status", "payments.initiate", "store.get", "notes.read", "weather.get", "other.tool"} {
			all = append(all, setting{"resource " + kind + " " + id, func(q *node) bool {
				called := q.get("mcp", "params", "name")
				v := str(id)
				if id == "" && called != nil {
					v = called.clone()
				}
				q.set("action", obj(member{name: "name", value: str("tools/call")}))
				q.set("resource", obj(member{name: "type", value: str(kind)}, member{name: "id", value: v}))
				return true
			}})
		}
	}
	for _, name := range []string{"payments.initiate", "payments.status", "store.get", "store.put", "notes.read", "notes.delete", "other.tool"} {
		all = append(all, setting{"called " + name + " with the resource of the original", func(q *node) bool {
			q.set("action", obj(member{name: "name", value: str("tools/call")}))
			q.set("resource", obj(member{name: "type", value: str("tool")}, member{name: "id", value: q.get("mcp", "params", "name").clone()}))
			q.get("mcp", "params").set("name", str(name))
			return true
		}}, setting{"called " + name, func(q *node) bool { q.get("mcp", "params").set("name", str(name)); return true }})
	}
	return all
}

func subjectSettings() []setting {
	var all []setting
	for _, id := range []string{"alice@example.com", "bob@example.com", "root@example.com", "Alice@example.com", "alice@example.com ", agent} {
		for _, iss := range []string{"", issuer, otherIssuer, issuer + "/", "HTTPS://as.example.com"} {
			all = append(all, setting{"subject " + id + " of " + iss, func(q *node) bool { q.set("subject", subject(id, iss)); return true }})
		}
	}
	for _, v := range []*node{str("admin"), str(""), nullNode(), num("1"), list(str("identity"))} {
		all = append(all, setting{"subject type " + v.String(), func(q *node) bool {
			s := subject("alice@example.com", issuer)
			s.set("type", v.clone())
			s.get("properties").set("roles", list(str("admin"), str("editor")))
			q.set("subject", s)
			return true
		}})
	}
	return all
}

// credentialSettings change the first credential or put another beside it.
func credentialSettings() []setting {
	var all []setting
	first := func(name string, apply func(q, c *node) bool) {
		all = append(all, setting{name, func(q *node) bool {
			creds := q.get("credentials")
			if creds == nil || len(creds.items) == 0 || creds.items[0].get("claims") == nil {
				return false
			}
			return apply(q, creds.items[0])
		}})
	}
	claim := func(name, claim string, v *node) {
		first(name, func(_, c *node) bool { c.get("claims").set(claim, v.clone()); return true })
	}
	// beside puts a changed copy of the first credential beside it, or the
	// changed one alone, in both orders.
	beside := func(name string, change func(claims *node)) {
		for _, order := range []string{"alone", "behind", "before"} {
			first(name+", "+order, func(q, c *node) bool {
				other := c.clone()
				other.set("id", str("other"))
				change(other.get("claims"))
				creds := q.get("credentials")
				switch order {
				case "alone":
					creds.items[0] = other
				case "behind":
					creds.items = append(creds.items, other)
				case "before":
					creds.items = append([]*node{other}, creds.items...)
				}
				return true
			})
		}
	}
	one, past, future := num("1"), num("1700000000"), num("4102444700")
	claim("not yet valid", "nbf", future)
	claim("issued in the future", "iat", future)
	claim("logged in in the future", "auth_time", future)
	claim("nbf a string", "nbf", str("0"))
	claim("bound without proof", "cnf", obj(member{name: "jkt", value: str("abc")}))
	claim("bound by null", "cnf", nullNode())
	claim("actor", "act", obj(member{name: "sub", value: str("scheduler")}))
	claim("listed actor", "act", obj(member{name: "sub", value: str("assistant-1")}))
	claim("actor without sub", "act", obj(member{name: "iss", value: str(issuer)}))
	claim("actor a string", "act", str("assistant-1"))
	claim("actor a list", "act", list(obj(member{name: "sub", value: str("assistant-1")})))
	claim("actor null", "act", nullNode())
	deep := obj(member{name: "sub", value: str("assistant-1")})
	for range 12 {
		deep = obj(member{name: "sub", value: str("assistant-1")}, member{name: "act", value: deep})
	}
	claim("actor chain too deep", "act", deep)
	claim("scopes as scp", "scp", list(str("payments")))
	claim("empty details", "authorization_details", list())
	claim("details null", "authorization_details", nullNode())
	claim("details an object", "authorization_details", obj(member{name: "type", value: str("payment_initiation")}))
	claim("details of an undeclared type", "authorization_details", list(obj(member{name: "type", value: str("anything")})))
	claim("details with type only", "authorization_details", list(obj(member{name: "type", value: str("payment_initiation")})))
	claim("expired", "exp", past)
	claim("expired in 1970", "exp", one)
	for _, aud := range []string{"https://mcp.example.com/", "HTTPS://MCP.EXAMPLE.COM", "https://mcp.example.com/mcp", "mcp.example.com", "https://mcp.example.com.evil.example", ""} {
		claim("audience "+aud, "aud", str(aud))
		claim("audience list "+aud, "aud", list(str(aud)))
	}
	claim("audience among others", "aud", list(str("https://api.example.com"), str("https://mcp.example.com")))
	claim("audience list with a number", "aud", list(str("https://mcp.example.com"), num("1")))
	beside("of another issuer", func(c *node) { c.set("iss", str(otherIssuer)) })
	beside("of another subject", func(c *node) { c.set("sub", str("bob@example.com")) })
	beside("of root", func(c *node) { c.set("sub", str("root@example.com")) })
	beside("expired", func(c *node) { c.set("exp", past.clone()) })
	beside("without exp", func(c *node) { c.drop("exp") })
	beside("without scope", func(c *node) { c.drop("scope") })
	beside("without details", func(c *node) { c.drop("authorization_details") })
	beside("of another audience", func(c *node) { c.set("aud", str("https://api.example.com")) })
	beside("of another tenant", func(c *node) { c.set("tenant", str("other")) })
	beside("of another agent", func(c *node) { c.set("client_id", str("https://robot.example/cimd.json")) })
	beside("without client", func(c *node) { c.drop("client_id") })
	beside("with an actor", func(c *node) { c.set("act", obj(member{name: "sub", value: str("scheduler")})) })
	beside("bound", func(c *node) { c.set("cnf", obj(member{name: "jkt", value: str("abc")})) })
	beside("of the client itself", func(c *node) { c.set("sub", str(agent)) })
	first("scopes split over two credentials", func(q, c *node) bool {
		scope, ok := c.get("claims", "scope").str()
		parts := strings.Split(scope, " ")
		if !ok || len(parts) < 2 {
			return false
		}
		creds := list()
		for i, s := range parts {
			half := c.clone()
			half.set("id", str("half-"+string(rune('a'+i))))
			half.get("claims").set("scope", str(s))
			creds.items = append(creds.items, half)
		}
		q.set("credentials", creds)
		return true
	})
	first("two credentials of one id", func(q, c *node) bool {
		q.get("credentials").items = append(q.get("credentials").items, c.clone())
		return true
	})
	first("a raw token beside the claims", func(_, c *node) bool { c.set("access_token", str("a.b.c")); return true })
	first("a raw token for the claims", func(_, c *node) bool { c.drop("claims"); c.set("access_token", str("a.b.c")); return true })
	for _, v := range []string{"", "dpop", "mtls", "x"} {
		first("bound_by "+v, func(_, c *node) bool { c.set("bound_by", str(v)); return true })
	}
	return all
}
