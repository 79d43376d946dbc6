package policies_test

import (
	"encoding/json"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// generator makes questions of the decision cases of a bundle, by changes that
// stay near to them.
type generator struct {
	bases []base
	// sound are those that policy is asked about.
	sound []base
	// byName has what the cases have under a member's name, soundByName what those
	// have that policy is asked about; texts are those of policy and Rego tests.
	byName, soundByName map[string][]any
	texts               []string
	// grants are what permits require of a call, as the reading sees it.
	grants func(d *draft) [][]any
}

type base struct {
	tree map[string]any
	now  time.Time
}

// valuesByName lists what stands under each name, once.
func valuesByName(bases []base) map[string][]any {
	out, seen := map[string][]any{}, map[string]bool{}
	var collect func(v any)
	collect = func(v any) {
		for _, e := range array(v) {
			collect(e)
		}
		m := object(v)
		for _, k := range names(m) {
			if key := k + canon(m[k]); !seen[key] {
				seen[key] = true
				out[k] = append(out[k], m[k])
			}
			collect(m[k])
		}
	}
	for _, b := range bases {
		collect(b.tree)
	}
	return out
}

// draft is a question in the making.
type draft struct {
	*generator
	r    *rand.Rand
	tree map[string]any
	now  time.Time
	// What the body of a request does not say.
	tenant, audience string
	noObligations    bool
	kinds            []string // nil: what the door says
}

// draft makes a question: now and then a case as it is, else one with up to four
// changes.
func (g *generator) draft(r *rand.Rand) *draft {
	b := g.sound[r.IntN(len(g.sound))]
	if r.IntN(6) == 0 {
		b = g.bases[r.IntN(len(g.bases))]
	}
	d := &draft{generator: g, r: r, tree: object(cloned(b.tree)), now: b.now}
	for range []int{0, 1, 1, 1, 2, 2, 2, 3, 4}[r.IntN(9)] {
		d.change()
	}
	if r.IntN(2) == 0 {
		d.grant()
		switch r.IntN(8) {
		case 0:
			d.refuse()
		case 1, 2, 3:
			d.change()
		}
	}
	return d
}

func (d *draft) one(list ...string) string { return list[d.r.IntN(len(list))] }

func (d *draft) coin(n int) bool { return d.r.IntN(n) == 0 }

// other is something that the cases have under this name.
func (d *draft) other(name string) any {
	list := d.soundByName[name]
	if len(list) == 0 || d.coin(6) {
		list = d.byName[name]
	}
	if len(list) == 0 {
		return d.texts[d.r.IntN(len(d.texts))]
	}
	return cloned(list[d.r.IntN(len(list))])
}

func (d *draft) change() {
	changes := []func(){
		d.changeArguments, d.changeArguments, d.changeArguments, d.changeArguments, d.changeArguments,
		d.changeDetails, d.changeDetails, d.changeDetails, d.changeClaim, d.changeClaim, d.changeClaim, d.changeClaim,
		d.changeCredentials, d.changeCredentials, d.changeTool, d.changeParams, d.swapCredentials, d.changeSubject,
		d.changeCredentials, d.changeContext, d.changeAround, d.changeDoor, d.changeDoor,
	}
	changes[d.r.IntN(len(changes))]()
}

func (d *draft) params() map[string]any { return object(at(d.tree, "mcp", "params")) }

func (d *draft) changeArguments() {
	p := d.params()
	switch {
	case p == nil:
	case d.coin(40):
		delete(p, "arguments")
	case d.coin(40):
		p["arguments"] = d.other("arguments")
	default:
		d.changeBelow(p["arguments"])
	}
}

func (d *draft) changeTool() {
	if p := d.params(); p != nil {
		p["name"] = d.other("name")
		if d.coin(4) {
			p["name"] = d.one("unheard", "tool", "x")
		}
	}
}

// changeParams asks what another case asks, or by another method.
func (d *draft) changeParams() {
	m := object(d.tree["mcp"])
	if m == nil {
		return
	}
	other := object(at(cloned(d.bases[d.r.IntN(len(d.bases))].tree), "mcp"))
	switch {
	case other == nil:
	case d.coin(4):
		m["method"] = d.one("tools/list", "initialize", "server/discover", "resources/list", "prompts/list", "tools/call")
	case d.coin(12):
		m["method"], m["params"] = "resources/read", map[string]any{"uri": "file:///x"}
	case d.coin(12):
		m["method"], m["params"] = "prompts/get", map[string]any{"name": "p"}
	case other["params"] != nil:
		m["method"], m["params"] = other["method"], other["params"]
	}
}

// grant makes the first credential hold what a permit requires.
func (d *draft) grant() {
	list := array(d.tree["credentials"])
	if len(list) == 0 {
		return
	}
	options := d.grants(d)
	if len(options) == 0 {
		return
	}
	c := object(list[d.r.IntN(len(list))])
	claims := object(c["claims"])
	if claims == nil {
		return
	}
	for _, need := range options[d.r.IntN(len(options))] {
		switch n := object(need); n["kind"] {
		case "scopes":
			claims["scope"] = strings.Join(append(strs(n["scopes"]), strings.Fields(stringOf(claims["scope"]))...), " ")
		case "authorization_details":
			claims["authorization_details"] = cloned(n["authorization_details"])
			if d.coin(3) {
				d.changeBelow(claims["authorization_details"])
			}
		case "authentication":
			if acr := strs(n["acr_values"]); len(acr) > 0 {
				claims["acr"] = acr[0]
			}
			age := int64(d.r.IntN(150))
			if limit, ok := n["max_age"].(json.Number); ok && d.coin(2) {
				age = rational(limit).Num().Int64() + int64(d.r.IntN(3)) - 1
			}
			claims["auth_time"] = seconds(d.now.Add(-time.Duration(age) * time.Second))
		case "proof_of_possession":
			c["bound_by"] = "dpop"
		}
	}
}

// refuse makes a credential, or what it was granted, such that it does not count.
func (d *draft) refuse() {
	claims := object(d.credential()["claims"])
	switch {
	case claims == nil:
	case d.coin(2):
		claims["exp"] = seconds(d.now)
		if list := array(d.tree["credentials"]); len(list) == 1 {
			more := object(cloned(list[0]))
			more["id"] = "more"
			claims = object(more["claims"])
			claims["exp"] = seconds(d.now.Add(time.Hour))
			delete(claims, d.one("scope", "authorization_details", "acr"))
			d.tree["credentials"] = append(list, more)
		}
	default:
		for _, g := range array(claims["authorization_details"]) {
			if m := object(g); m != nil {
				m["extra"] = "x" // the type does not have it
			}
		}
	}
}

func seconds(t time.Time) json.Number { return json.Number(strconv.FormatInt(t.Unix(), 10)) }
