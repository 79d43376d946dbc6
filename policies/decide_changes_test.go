package policies_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// credential picks one; nil if there are none.
func (d *draft) credential() map[string]any {
	list := array(d.tree["credentials"])
	if len(list) == 0 {
		return nil
	}
	return object(list[d.r.IntN(len(list))])
}

func (d *draft) changeDetails() {
	claims := object(d.credential()["claims"])
	if claims == nil {
		return
	}
	switch {
	case d.coin(8):
		delete(claims, "authorization_details")
	case d.coin(6):
		claims["authorization_details"] = d.other("authorization_details")
	case d.coin(6):
		more := array(d.other("authorization_details"))
		claims["authorization_details"] = append(slices.Clone(array(claims["authorization_details"])), more...)
	case d.coin(40):
		claims["authorization_details"] = []any{"a", d.other("actions")}
	case d.coin(6):
		for _, g := range array(claims["authorization_details"]) {
			if m := object(g); m != nil {
				m["extra"] = d.one("x", "y") // the type does not have it
			}
		}
	default:
		d.changeBelow(claims["authorization_details"])
	}
}

// changeClaim gives one claim another value, at a border if it has one.
func (d *draft) changeClaim() {
	c := d.credential()
	claims := object(c["claims"])
	if claims == nil {
		return
	}
	around := func(steps ...int) json.Number {
		return seconds(d.now.Add(time.Duration(steps[d.r.IntN(len(steps))]) * time.Second))
	}
	const server = "https://other.example.com"
	switch d.r.IntN(16) {
	case 0, 1, 2:
		d.changeScope(claims)
	case 3:
		claims["exp"] = around(-1, -1, 0, 1, 3600)
	case 4:
		claims[d.one("nbf", "iat")] = around(-1, 0, 59, 60, 61, 120)
	case 5, 6:
		claims["auth_time"] = around(-601, -600, -301, -300, -299, -121, -120, -119, -1, 0, 59, 60, 61)
	case 7, 8:
		claims["acr"] = d.one("urn:example:acr:mfa", "urn:example:acr:hardware-key", "urn:example:acr:password", "")
		if d.coin(2) {
			claims["acr"] = d.other("acr")
		}
	case 9:
		claims["sub"] = d.other("sub")
	case 10:
		claims["iss"] = d.one("https://as.example.com", "https://as.example.org", "")
	case 11:
		claims["aud"] = []any{claims["aud"], server, []any{server, claims["aud"]}, []any{}, json.Number("1")}[d.r.IntN(5)]
	case 12:
		claims["client_id"] = d.one("https://agent.example/cimd.json", "https://other.example/cimd.json", stringOf(claims["sub"]))
	case 13:
		if d.coin(2) {
			claims["cnf"] = map[string]any{"jkt": "x"}
		}
		if d.coin(2) {
			c["bound_by"] = d.one("dpop", "mtls", "mtls+dpop")
		}
	case 14:
		all := names(claims)
		name := all[d.r.IntN(len(all))]
		if d.coin(3) {
			claims[name] = []any{json.Number("7"), true, []any{"a"}, "", nil}[d.r.IntN(5)]
		} else {
			delete(claims, name)
		}
	case 15:
		claims["act"] = map[string]any{"sub": d.one("assistant-1", "assistant-9", "")}
		claims["tenant"] = d.one("acme", "globex")
	}
}

func (d *draft) changeScope(claims map[string]any) {
	all := strings.Fields(stringOf(claims["scope"]))
	other := strings.Fields(stringOf(d.other("scope")))
	switch d.r.IntN(5) {
	case 0:
		delete(claims, "scope")
	case 1:
		all = all[:len(all)/2]
	case 2:
		all = append(all, d.one("openid", "profile"))
	case 3:
		all = append(all, other...)
	case 4:
		all = other
	}
	if len(all) > 0 {
		claims["scope"] = strings.Join(all, d.one(" ", " ", " ", "  "))
	}
}

// changeCredentials adds one, takes one away, or splits one in two.
func (d *draft) changeCredentials() {
	list := slices.Clone(array(d.tree["credentials"]))
	if len(list) == 0 {
		d.tree["credentials"] = d.other("credentials")
		return
	}
	switch i := d.r.IntN(len(list)); d.r.IntN(6) {
	case 0:
		if d.coin(2) {
			delete(d.tree, "credentials")
			return
		}
		d.tree["credentials"] = []any{}
		return
	case 1:
		list = slices.Delete(list, i, i+1)
	case 2:
		slices.Reverse(list)
	default:
		more := object(cloned(list[i]))
		more["id"] = fmt.Sprintf("more-%d", len(list))
		if part := d.one("scope", "authorization_details", "acr", ""); part != "" {
			delete(object(more["claims"]), part)
		}
		if part := d.one("scope", "authorization_details", "acr", ""); part != "" {
			delete(object(object(list[i])["claims"]), part)
		}
		list = slices.Insert(list, d.r.IntN(len(list)+1), any(more))
		d.tree["credentials"] = list
		if d.coin(2) {
			d.changeClaim()
		}
		return
	}
	d.tree["credentials"] = list
}

func (d *draft) swapCredentials() {
	if other := d.bases[d.r.IntN(len(d.bases))].tree["credentials"]; other != nil {
		d.tree["credentials"] = cloned(other)
	}
}

func (d *draft) changeSubject() {
	claims := object(d.credential()["claims"])
	s := map[string]any{"type": d.one("identity", "identity", "service"), "id": stringOf(claims["sub"])}
	if s["id"] == "" || d.coin(4) {
		s["id"] = d.one("alice@example.com", "bob@example.com", "mallory@example.com", "adams@clinic.example")
	}
	if d.coin(2) {
		s["properties"] = map[string]any{"issuer": d.one("https://as.example.com", "https://as.example.com", "https://as.example.org")}
		if d.coin(3) {
			s["properties"] = map[string]any{"level": json.Number("3")}
		}
	}
	d.tree["subject"] = s
	if d.coin(3) {
		delete(d.tree, "credentials")
	}
}

func (d *draft) changeContext() {
	around := map[string]any{"note": "x"}
	switch d.r.IntN(5) {
	case 0, 1:
		around["agent"] = stringOf(at(d.credential(), "claims", "client_id"))
	case 2:
		around["agent"] = "https://other.example/cimd.json"
	case 3:
		around["agent"] = json.Number("1")
	}
	d.tree["context"] = around
}

// changeAround changes what is around message and credentials.
func (d *draft) changeAround() {
	m := object(d.tree["mcp"])
	switch d.r.IntN(8) {
	case 0:
		d.tenant = d.one("default", "globex", "acme")
	case 1, 2:
		d.now = d.now.Add(time.Duration([]int{1, 60, 119, 121, 299, 301, 599, 601, 3600, -61}[d.r.IntN(10)]) * time.Second)
	case 3:
		d.tree["action"] = map[string]any{"name": d.one("tools/call", "tools/call", "tools/list", "read")}
	case 4:
		name := stringOf(at(m, "params", "name"))
		d.tree["resource"] = map[string]any{"type": d.one("tool", "tool", "tool", "file"), "id": d.one(name, name, name, "x"), "properties": map[string]any{"a": "b"}}
	case 5:
		d.audience = stringOf(m["server"])
		if m != nil {
			delete(m, "server")
		}
		if d.coin(4) {
			d.audience = ""
		}
	case 6:
		if d.coin(3) {
			delete(d.tree, "mcp")
			d.tree["action"] = map[string]any{"name": d.one("tools/call", "read", "initialize")}
			d.tree["resource"] = map[string]any{"type": d.one("tool", "mcp_server"), "id": "x"}
		}
	case 7:
		if m != nil {
			m["server"] = d.one("https://other.example.com", stringOf(m["server"])+"/")
		}
	}
}

// changeDoor changes what the door adds.
func (d *draft) changeDoor() {
	switch d.r.IntN(5) {
	case 0:
		d.noObligations = true
	case 1:
		d.tree["commit"] = map[string]any{"idempotency_key": "k-1"}
	case 2:
		if m := object(d.tree["mcp"]); m != nil {
			m["transport"] = d.one("stdio", "http")
		}
	default:
		d.kinds = []string{}
		for _, k := range []string{"scopes", "authorization_details", "authentication", "proof_of_possession", "token"} {
			if !d.coin(3) {
				d.kinds = append(d.kinds, k)
			}
		}
	}
}
