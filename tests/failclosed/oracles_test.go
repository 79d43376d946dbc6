package failclosed_test

import "math/big"

const (
	issuer = "https://as.example.com"
	agent  = "https://agent.example/cimd.json"
)

// oracleOf returns the oracle of a suite, nil if there is none.
func oracleOf(suite string) oracle {
	switch suite {
	case "001-payment":
		return payment
	case "002-batch":
		return batch
	case "003-optional-argument":
		return search
	case "004-role-tool-scope":
		return notes
	case "005-amount-tiers":
		return transfer
	case "006-blocklist":
		return mail
	case "007-delegation":
		return calendar
	case "008-tenant-match":
		return records
	case "009-read-only-mode":
		return store
	case "010-data-access":
		return rows
	case "011-alternatives":
		return merge
	case "012-plain":
		return weather
	case "013-single-use":
		return wire
	case "014-operations":
		return operations
	case "015-untyped-tool":
		return take
	case "016-resource-id":
		return resourceID
	}
	return nil
}

const (
	moneyPattern = `(0|[1-9][0-9]{0,11})(\.[0-9]{1,2})?`
	ibanPattern  = `[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}`
	blockedIBAN  = "GB33BUKB20201555555555"
)

// covered: a granted payment_initiation that lets its holder initiate this
// payment, and says nothing that we would have to ignore.
func covered(g *node, amount *big.Rat, currency, iban string) bool {
	actions, ok := g.get("actions").strs()
	if !ok || !contains(actions, "initiate") ||
		!g.within("type", "actions", "instructedAmount", "creditorAccount", "creditorName") ||
		!g.get("instructedAmount").within("currency", "amount") || !g.get("creditorAccount").within("iban") {
		return false
	}
	limit, ok := g.get("instructedAmount", "amount").str()
	return ok && g.get("type").is("payment_initiation") && decimal(limit) != nil && amount.Cmp(decimal(limit)) <= 0 &&
		g.get("instructedAmount", "currency").is(currency) && g.get("creditorAccount", "iban").is(iban)
}

func payment(q *reading) bool {
	switch q.tool {
	case "payments.status":
		_, ok := q.arg("paymentId", `[a-z0-9-]{1,36}`)
		return ok && q.args.within("paymentId") && q.holds("payments:read")
	case "payments.initiate":
	default:
		return false
	}
	amount, ok1 := q.arg("amount", moneyPattern)
	currency, ok2 := q.arg("currency", `[A-Z]{3}`)
	iban, ok3 := q.arg("creditorAccount", ibanPattern)
	if !ok1 || !ok2 || !ok3 || !q.args.within("amount", "currency", "creditorAccount") || iban == blockedIBAN {
		return false
	}
	return q.holds("payments") && q.granted(1, func(_ int, g *node) bool {
		return covered(g, decimal(amount), currency, iban)
	})
}

// batch: every payment is above zero, below 100, to nobody blocked, and covered.
func batch(q *reading) bool {
	payments := q.args.get("payments")
	if q.tool != "payments.batch" || !q.args.within("payments") || payments == nil || payments.kind != array ||
		len(payments.items) == 0 || len(payments.items) > 5 {
		return false
	}
	for _, p := range payments.items {
		amount := p.get("amount").rat()
		if !p.within("amount", "currency", "creditorAccount") || amount == nil || amount.Sign() <= 0 ||
			amount.Cmp(big.NewRat(100, 1)) >= 0 || p.get("creditorAccount").is(blockedIBAN) {
			return false
		}
	}
	return q.holds("payments") && q.granted(len(payments.items), func(i int, g *node) bool {
		p := payments.items[i]
		currency, ok1 := p.get("currency").str()
		iban, ok2 := p.get("creditorAccount").str()
		return ok1 && ok2 && covered(g, p.get("amount").rat(), currency, iban)
	})
}

// search: a path must be said, outside the private tree; hidden files need both
// scopes.
func search(q *reading) bool {
	words, ok1 := q.args.get("query").str()
	path, ok2 := q.arg("path", `(/[a-z0-9_-]+)+`)
	if q.tool != "files.search" || !ok1 || words == "" || !ok2 || !q.args.within("query", "path", "hidden") ||
		matches(`/private(/.*)?`, path) {
		return false
	}
	hidden := q.args.get("hidden")
	if hidden == nil || hidden.text == "false" && hidden.kind == boolean {
		return q.holds("files:read")
	}
	return hidden.kind == boolean && q.holds("files:read", "files:hidden")
}

func notes(q *reading) bool {
	may := map[string][]string{
		"alice@example.com": {"notes.read", "notes.write"},
		"bob@example.com":   {"notes.read"},
		"root@example.com":  {"notes.read", "notes.write", "notes.delete"},
	}
	scope := map[string]string{"notes.read": "notes:read", "notes.write": "notes:write", "notes.delete": "notes:delete"}
	if _, ok := q.arg("id", `[a-z0-9-]{1,36}`); !ok {
		return false
	}
	if q.tool == "notes.write" {
		if _, ok := q.arg("text", `(?s:.*)`); !ok || !q.args.within("id", "text") {
			return false
		}
	} else if !q.args.within("id") {
		return false
	}
	who := q.creds[0]
	return who.iss == issuer && contains(may[who.sub], q.tool) && q.holds(scope[q.tool])
}

func transfer(q *reading) bool {
	amount := q.args.get("amount").rat()
	to, ok := q.arg("to", `acc-[0-9]{1,12}`)
	if q.tool != "transfer" || !q.args.within("amount", "to") || !ok || to == "acc-666" || amount == nil || amount.Sign() <= 0 ||
		!q.holds("transfer") {
		return false
	}
	if amount.Cmp(big.NewRat(100, 1)) < 0 {
		return true
	}
	if amount.Cmp(big.NewRat(1000, 1)) >= 0 {
		return false
	}
	for _, c := range q.creds {
		if c.acr == "urn:example:strong" && c.authTime != nil && c.authTime.Sign() > 0 {
			return true
		}
	}
	return false
}

func mail(q *reading) bool {
	to, ok := q.args.get("to").strs()
	if q.tool != "mail.send" || !ok || len(to) == 0 || !q.args.within("to", "cc", "subject") || !q.holds("mail:send") {
		return false
	}
	if _, ok := q.args.get("subject").str(); !ok {
		return false
	}
	if cc := q.args.get("cc"); cc != nil {
		more, ok := cc.strs()
		if !ok {
			return false
		}
		to = append(to, more...)
	}
	for _, address := range to {
		if !matches(`[a-z0-9._-]{1,64}@[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})+`, address) ||
			matches(`mallory@example\.net|.*@evil\.example`, address) {
			return false
		}
	}
	return true
}

// calendar: either listed software with nobody acting in between, or a listed
// actor of the same issuer acting now; never with a revoked actor behind it.
func calendar(q *reading) bool {
	_, ok1 := q.arg("day", `[0-9]{4}-[0-9]{2}-[0-9]{2}`)
	title, ok2 := q.args.get("title").str()
	if q.tool != "calendar.book" || !ok1 || !ok2 || title == "" || !q.args.within("day", "title") || !q.holds("calendar:write") {
		return false
	}
	direct, delegated := q.agent == agent, true
	for _, c := range q.creds {
		if c.iss != issuer {
			return false
		}
		direct = direct && len(c.actors) == 0
		delegated = delegated && len(c.actors) > 0 && c.actors[0].iss == issuer && matches("assistant-[12]", c.actors[0].sub)
		for _, a := range c.actors {
			if a.sub == "assistant-9" {
				return false
			}
		}
	}
	return direct || delegated
}

func records(q *reading) bool {
	tenant, ok1 := q.arg("tenant", "acme|globex")
	_, ok2 := q.arg("record", `r[0-9]{1,9}`)
	if q.tool != "records.read" || !ok1 || !ok2 || !q.args.within("tenant", "record") {
		return false
	}
	for _, c := range q.creds {
		if c.iss != issuer || c.tenant != tenant {
			return false
		}
	}
	return q.holds("records:read")
}

// store is in read-only mode.
func store(q *reading) bool {
	const key = `[a-z0-9_-]{1,64}`
	switch q.tool {
	case "store.get":
		if _, ok := q.arg("key", key); !ok || !q.args.within("key") {
			return false
		}
	case "store.list":
		if _, ok := q.arg("prefix", key); !q.args.within("prefix") || (!ok && q.args.get("prefix") != nil) {
			return false
		}
	default:
		return false
	}
	return q.holds("store")
}

func rows(q *reading) bool {
	tables := map[string]struct {
		rows    int64
		columns []string
	}{
		"people":   {500, []string{"id", "name", "city", "mail"}},
		"salaries": {1, []string{"id"}},
	}
	name, _ := q.args.get("table").str()
	columns, ok := q.args.get("columns").strs()
	limit := q.args.get("limit").rat()
	if q.tool != "db.query" || !q.args.within("table", "columns", "limit", "where") || !ok || len(columns) == 0 ||
		limit == nil || !limit.IsInt() || limit.Sign() <= 0 || limit.Cmp(big.NewRat(tables[name].rows, 1)) > 0 {
		return false
	}
	if _, ok := q.args.get("where").str(); !ok && q.args.get("where") != nil {
		return false
	}
	for _, c := range columns {
		if !contains(tables[name].columns, c) {
			return false
		}
	}
	return q.granted(1, func(_ int, g *node) bool {
		may, ok := g.get("columns").strs()
		for _, c := range columns {
			ok = ok && contains(may, c)
		}
		most := g.get("limit").rat()
		return ok && g.get("type").is("data_access") && g.within("type", "table", "columns", "limit") &&
			g.get("table").is(name) && most != nil && most.Cmp(limit) >= 0
	})
}

func merge(q *reading) bool {
	repo, ok1 := q.arg("repo", `[a-z0-9-]{1,30}/[a-z0-9-]{1,30}`)
	branch, ok2 := q.arg("branch", `[a-z0-9-]{1,30}`)
	if q.tool != "repo.merge" || !ok1 || !ok2 || !q.args.within("repo", "branch") {
		return false
	}
	if q.holds("repo:admin", "repo:write") {
		return true
	}
	return contains([]string{"feature", "docs"}, branch) && q.holds("repo:write") && q.granted(1, func(_ int, g *node) bool {
		actions, ok := g.get("actions").strs()
		return ok && contains(actions, "merge") && g.get("type").is("repo_access") && g.get("repo").is(repo) &&
			g.within("type", "repo", "actions")
	})
}

func weather(q *reading) bool {
	city, ok := q.args.get("city").str()
	if q.tool != "weather.get" || !ok || city == "" || city == "Atlantis" || !q.args.within("city", "units") {
		return false
	}
	if u := q.args.get("units"); u != nil && !u.is("metric") && !u.is("imperial") {
		return false
	}
	return q.creds[0].iss == issuer && q.holds("weather:read")
}

// wire must be committed to, since the token is used up.
func wire(q *reading) bool {
	amount, ok1 := q.arg("amount", moneyPattern)
	to, ok2 := q.arg("to", `acc-[0-9]{1,12}`)
	return q.tool == "wire.send" && ok1 && ok2 && q.args.within("amount", "to") && q.commit != "" &&
		q.granted(1, func(_ int, g *node) bool {
			return g.within("type", "amount", "to") && g.get("type").is("wire") && g.get("amount").is(amount) && g.get("to").is(to)
		})
}

// operations: some, and each of them harmless; source and target differ.
func operations(q *reading) bool {
	all, ok := q.args.get("operations").strs()
	if q.tool != "ops.run" || !ok || len(all) == 0 || len(all) > 10 || !q.args.within("operations", "source", "target") {
		return false
	}
	for _, o := range all {
		if o != "read" && o != "list" {
			return false
		}
	}
	source, target := q.args.get("source"), q.args.get("target")
	for _, n := range []*node{source, target} {
		if s, ok := n.str(); n != nil && (!ok || !matches(`[a-z0-9-]{1,30}`, s)) {
			return false
		}
	}
	if source == nil && target == nil {
		return false
	}
	return (source == nil || target == nil || source.text != target.text) && q.holds("ops")
}

// take has no schema, so further arguments are its own affair.
func take(q *reading) bool {
	amount := q.args.get("amount").rat()
	item, ok := q.args.get("item").str()
	return q.tool == "legacy.take" && amount != nil && amount.Cmp(big.NewRat(1, 1)) >= 0 && amount.Cmp(big.NewRat(10, 1)) <= 0 &&
		ok && (item == "apple" || item == "pear") && q.holds("legacy")
}

// resourceID: each of two tools by its own scope.
func resourceID(q *reading) bool {
	switch q.tool {
	case "payments.status":
		_, ok := q.arg("paymentId", `[a-z0-9-]{1,36}`)
		return ok && q.args.within("paymentId") && q.holds("payments:read")
	case "payments.initiate":
		_, ok := q.arg("amount", moneyPattern)
		return ok && q.args.within("amount") && q.holds("payments")
	}
	return false
}
