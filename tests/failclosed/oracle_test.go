package failclosed_test

import (
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// oracle says whether allowing a query is permissible. It knows the intent of
// one suite, and looks at nothing but the query.
type oracle func(q *reading) bool

// reading is what a careful person takes from a query: one tool call, for one
// subject, with those credentials that count.
type reading struct {
	tool   string
	args   *node // an object; empty if left out
	creds  []claims
	agent  string
	commit string
}

// claims is one usable credential of the subject.
type claims struct {
	iss, sub, clientID, tenant, acr string
	scopes                          []string
	details                         []*node
	actors                          []actor
	authTime                        *big.Rat
}

type actor struct{ iss, sub string }

// mayAllow judges one query text by the oracle of its suite. What cannot be
// read in exactly one way permits nothing.
func mayAllow(o oracle, query []byte) bool {
	q, err := parse(query)
	if err != nil || !q.unambiguous() {
		return false
	}
	r, ok := read(q)
	return ok && o(&r)
}

func read(q *node) (reading, bool) {
	var r reading
	if !q.within("mcp", "subject", "action", "resource", "credentials", "context", "commit") {
		return r, false
	}
	server, ok := r.readCall(q)
	if !ok || !r.readCommit(q.get("commit")) {
		return r, false
	}
	subject, given, ok := readSubject(q.get("subject"))
	if !ok {
		return r, false
	}
	usable, ok := readCredentials(q.get("credentials"), server)
	if !ok || len(usable) == 0 {
		return r, false
	}
	if !given {
		subject = pair{usable[0].iss, usable[0].sub}
	}
	for _, c := range usable {
		if c.sub != subject.sub || (subject.iss != "" && c.iss != subject.iss) {
			continue
		}
		if len(r.creds) > 0 && r.creds[0].iss != c.iss {
			return r, false // one name, two issuers: two people
		}
		r.creds = append(r.creds, c)
	}
	if len(r.creds) == 0 {
		return r, false
	}
	return r, r.readAgent(q.get("context"))
}

// readCall reads what is asked: every suite is about calling one tool, so any
// other action, or a resource that is not this tool, permits nothing.
func (q *reading) readCall(doc *node) (server string, ok bool) {
	m := doc.get("mcp")
	if !m.within("method", "params", "server", "transport", "protocol_version", "client_capabilities", "tool") ||
		!m.get("method").is("tools/call") {
		return "", false
	}
	if q.tool, ok = m.get("params", "name").str(); !ok {
		return "", false
	}
	q.args = m.get("params", "arguments")
	if q.args == nil {
		q.args = obj()
	}
	if q.args.kind != object {
		return "", false
	}
	if a := doc.get("action"); a != nil && (!a.within("name", "properties") || !a.get("name").is("tools/call") || !optionalObject(a.get("properties"))) {
		return "", false
	}
	if s := doc.get("resource"); s != nil && (!s.within("type", "id", "properties") || !s.get("type").is("tool") ||
		!s.get("id").is(q.tool) || !optionalObject(s.get("properties"))) {
		return "", false
	}
	for _, name := range []string{"transport", "protocol_version"} {
		if v := m.get(name); v != nil && v.kind != text {
			return "", false
		}
	}
	if !optionalObject(m.get("client_capabilities")) || !optionalObject(m.get("tool")) {
		return "", false
	}
	server, ok = m.get("server").str()
	return server, ok && server != ""
}

func optionalObject(n *node) bool { return n == nil || n.kind == object }

func (q *reading) readCommit(n *node) bool {
	if n == nil {
		return true
	}
	key, ok := n.get("idempotency_key").str()
	q.commit = key
	return ok && key != "" && n.within("idempotency_key")
}

type pair struct{ iss, sub string }

func readSubject(n *node) (p pair, given, ok bool) {
	if n == nil {
		return p, false, true
	}
	kind, ok := n.get("type").str()
	if !ok || kind == "" || !n.within("type", "id", "properties") || !optionalObject(n.get("properties")) {
		return p, true, false
	}
	if p.sub, ok = n.get("id").str(); !ok || p.sub == "" {
		return p, true, false
	}
	if i := n.get("properties", "issuer"); i != nil {
		if p.iss, ok = i.str(); !ok || p.iss == "" {
			return p, true, false
		}
	}
	return p, true, true
}

// readAgent checks the agent that a caller names against the credential that
// names the subject.
func (q *reading) readAgent(ctx *node) bool {
	q.agent = q.creds[0].clientID
	if !optionalObject(ctx) {
		return false
	}
	given := ctx.get("agent")
	return given == nil || given.is(q.agent)
}

// readCredentials returns the credentials that count. A credential that is not
// shaped as the interface wants spoils the query; one with bad claims is as if
// it were not there.
func readCredentials(n *node, server string) ([]claims, bool) {
	if n == nil || n.kind != array {
		return nil, false
	}
	var out []claims
	for _, c := range n.items {
		id, ok := c.get("id").str()
		if !ok || id == "" || !c.within("id", "claims", "bound_by") || c.get("claims") == nil || c.get("claims").kind != object {
			return nil, false
		}
		bound, proved := readBinding(c)
		if !proved {
			return nil, false
		}
		if r, ok := readClaims(c.get("claims"), server); ok && (bound || c.get("claims", "cnf") == nil) {
			out = append(out, r)
		}
	}
	return out, true
}

// readBinding: a token bound to a key counts only with proof of that key.
func readBinding(c *node) (bound, ok bool) {
	by := c.get("bound_by")
	if by == nil || by.is("") {
		return false, true
	}
	return true, by.is("dpop") || by.is("mtls") || by.is("mtls+dpop")
}

func readClaims(n *node, server string) (claims, bool) {
	var c claims
	ok := true
	optional := func(name string) string {
		v := n.get(name)
		if v == nil {
			return ""
		}
		s, isString := v.str()
		ok = ok && isString
		return s
	}
	c.iss, c.sub, c.clientID = optional("iss"), optional("sub"), optional("client_id")
	c.tenant, c.acr = optional("tenant"), optional("acr")
	c.scopes = strings.Split(optional("scope"), " ")
	_, _ = optional("jti"), optional("txn")
	if !ok || c.iss == "" || c.sub == "" {
		return c, false
	}
	if aud := n.get("aud"); !aud.is(server) {
		all, isList := aud.strs()
		if !isList || !contains(all, server) {
			return c, false
		}
	}
	if !readTimes(n, &c) {
		return c, false
	}
	if d := n.get("authorization_details"); d != nil && d.kind == array {
		c.details = d.items
	}
	return c, readActors(n.get("act"), &c)
}

func readTimes(n *node, c *claims) bool {
	now := new(big.Rat).SetInt64(time.Now().Unix())
	soon := new(big.Rat).Add(now, big.NewRat(60, 1))
	exp := n.get("exp").rat()
	if exp == nil || exp.Cmp(now) <= 0 {
		return false
	}
	for _, name := range []string{"nbf", "iat", "auth_time"} {
		v := n.get(name)
		if v == nil {
			continue
		}
		at := v.rat()
		if at == nil || at.Sign() < 0 {
			return false
		}
		future := at.Cmp(soon) > 0
		if name != "auth_time" && future {
			return false
		}
		if name == "auth_time" && !future {
			c.authTime = at // a login that is yet to come is none
		}
	}
	return true
}

// readActors walks the chain, outermost first (RFC 8693 section 4.1).
func readActors(n *node, c *claims) bool {
	for ; n != nil; n = n.get("act") {
		sub, ok := n.get("sub").str()
		if !ok || sub == "" {
			return false
		}
		iss := c.iss
		if i := n.get("iss"); i != nil {
			if iss, ok = i.str(); !ok || iss == "" {
				return false
			}
		}
		c.actors = append(c.actors, actor{iss, sub})
	}
	return true
}

// rat is the exact value of a number that a reader can be expected to hold; nil
// for anything else.
func (n *node) rat() *big.Rat {
	if n == nil || n.kind != number {
		return nil
	}
	if _, exp, ok := strings.Cut(strings.ToLower(n.text), "e"); ok {
		if e, err := strconv.Atoi(exp); err != nil || e > 400 || e < -400 {
			return nil
		}
	}
	r, ok := new(big.Rat).SetString(n.text)
	if !ok {
		return nil
	}
	return r
}

// decimal is the exact value of a decimal string such as "12.50".
func decimal(s string) *big.Rat {
	if !regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?$`).MatchString(s) {
		return nil
	}
	r, _ := new(big.Rat).SetString(s)
	return r
}

// holds tells whether one credential has all these scopes.
func (q *reading) holds(scopes ...string) bool {
	for _, c := range q.creds {
		if c.holds(scopes...) {
			return true
		}
	}
	return false
}

func (c claims) holds(scopes ...string) bool {
	for _, s := range scopes {
		if !contains(c.scopes, s) {
			return false
		}
	}
	return true
}

// granted tells whether one credential has, for each need, a granted object
// that covers it.
func (q *reading) granted(needs int, covers func(need int, granted *node) bool) bool {
	for _, c := range q.creds {
		met := 0
		for need := range needs {
			for _, g := range c.details {
				if covers(need, g) {
					met++
					break
				}
			}
		}
		if met == needs && needs > 0 {
			return true
		}
	}
	return false
}

func matches(pattern, s string) bool {
	return regexp.MustCompile(`\A(?:` + pattern + `)\z`).MatchString(s)
}

// arg is a string argument that matches pattern.
func (q *reading) arg(name, pattern string) (string, bool) {
	s, ok := q.args.get(name).str()
	return s, ok && matches(pattern, s)
}
