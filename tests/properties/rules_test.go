package properties_test

import (
	"fmt"
	"strings"
)

// rules are the package that decides.
func (w *writer) rules() string {
	for i := range w.r.IntN(3) {
		w.helper(i)
	}
	for i := range 3 + w.r.IntN(4) {
		w.permit(i)
	}
	switch w.r.IntN(8) {
	case 0:
		w.line("default allow := false")
		w.line("allow if {\n%s%s}", w.guard(w.anyTool()), w.free())
	case 1:
		w.line("deny contains %s if {\n%s}", w.one(`"Not now."`, `"Not here."`), w.forbidden())
	}
	for i := range w.r.IntN(3) {
		w.forbid(i)
	}
	text, head := w.out.String(), []string{"package authz"}
	if strings.Contains(text, "authzd.") { // OPA refuses imports that nothing uses
		head = append(head, "import data.authzd.v1 as authzd")
	}
	if strings.Contains(text, "shared.") {
		head = append(head, "import data.shared")
	}
	return strings.Join(append(head, "args := input.mcp.params.arguments", text), "\n\n")
}

func (w *writer) anyTool() *tool { return &w.tools[w.r.IntN(len(w.tools))] }

// helper writes a rule that says something of the caller, or of the call.
func (w *writer) helper(i int) {
	name := fmt.Sprintf("h%d", i)
	if w.odds(3) {
		w.line("default %s := false", name)
	}
	for range 1 + w.r.IntN(2) {
		w.line("%s if {\n%s%s}", name, w.free(), w.one("", w.free()))
	}
	w.helpers = append(w.helpers, name)
}

// permit writes one, now and then two of one name, which conflict where both hold and
// differ.
func (w *writer) permit(i int) {
	name := fmt.Sprintf("p%d", i)
	for again := true; again; again = w.odds(12) {
		if w.odds(8) {
			w.line("permit[%q] := %s if {\n%s%s}", name, w.value(nil), w.one(
				"\tinput.action.name == \"initialize\"\n", "\tinput.action.name == \"tools/list\"\n",
				"\tinput.action.name == \"resources/read\"\n\tstartswith(input.resource.id, \"file:///pub/\")\n",
				"\tinput.action.name == \"read\"\n\tinput.resource.type == \"page\"\n",
			), w.one("", "", w.free()))
			continue
		}
		t := w.anyTool()
		body := w.guard(t) + w.one("", "", w.condition(t)) + w.one("", w.condition(t))
		w.line("permit[%q] := %s if {\n%s}", name, w.value(t), body)
	}
}

// guard says which tool is meant.
func (w *writer) guard(t *tool) string {
	return w.one(
		fmt.Sprintf("\tinput.action.name == \"tools/call\"\n\tinput.resource.id == %q\n", t.name),
		fmt.Sprintf("\tshared.calls(%q)\n", t.name),
		fmt.Sprintf("\tshared.is_tool_call\n\tinput.resource.id in {%q, %q}\n", t.name, w.anyTool().name),
		fmt.Sprintf("\tinput.mcp.method == \"tools/call\"\n\tinput.mcp.params.name == %q\n", t.name),
	)
}

// free is a condition that does not look at arguments.
func (w *writer) free() string {
	return "\t" + w.one(
		`input.subject.id == "alice"`, `input.subject.id in @.users`, `"admin" in @.roles[input.subject.id]`,
		fmt.Sprintf("some %[1]s in @.roles[input.subject.id]\n\t%[1]s in {\"user\", \"admin\"}", w.local()),
		`input.subject.type == "identity"`, `object.get(input.context, "agent", "") in @.agents`, `input.context.zone == "eu"`,
		`object.get(input.context, "zone", "eu") != "us"`, `not input.subject.id == "bob"`,
		`authzd.person`, `authzd.agent_among(@.agents)`, `authzd.hops_at_most(`+w.one("0", "1", "1", `"1"`)+`)`, `authzd.agent_of(@.owners)`,
		`input.tenant == "default"`, `object.get(input.mcp, "transport", "stdio") == "http"`, `count(input.credentials) > `+w.one("0", "1"),
		`every c in input.credentials { c.issuer == "https://as.example.com" }`, `@.flags[input.resource.id]`,
		`count(object.get(input, "rejected_credentials", [])) == 0`, `input.now > `+w.one(`"2000"`, `"2000"`, `"2100"`),
		fmt.Sprintf("some %[1]s in @.grants\n\t%[1]s.user == input.subject.id", w.local()),
		`input.mcp.tool.annotations.readOnlyHint == true`,
		w.one(append(w.helpers, `input.subject.id != ""`)...),
	) + "\n"
}

// condition may look at the arguments of t.
func (w *writer) condition(t *tool) string {
	if len(t.arguments) == 0 || w.odds(3) {
		return w.free()
	}
	var list []string
	switch t.arguments[w.r.IntN(len(t.arguments))].name {
	case "mode":
		list = []string{
			`args.mode == "a"`, `args.mode in {"a", "b"}`, `args.mode != "c"`, `object.get(args, "mode", "c") != "c"`,
			fmt.Sprintf("some %[1]s in @.grants\n\t%[1]s.user == input.subject.id\n\t%[1]s.mode == args.mode", w.local()), `upper(args.mode) in {"A", "B"}`,
		}
	case "path":
		list = []string{
			`startswith(args.path, "/home/alice/")` + "\n\t" + `not contains(args.path, "..")`, `regex.match("^/shared/[a-z]+$", args.path)`,
			`glob.match("/home/*/x", ["/"], args.path)`, `split(args.path, "/")[1] == "shared"`, `args.path == sprintf("/home/%s/x", [input.subject.id])`,
		}
	case "amount":
		list = []string{
			fmt.Sprintf("is_string(args.amount)\n\t%[1]s := to_number(args.amount)\n\t%[1]s > 0\n\t%[1]s <= %[2]s", w.local(), w.one("10", "10.01", "100")),
			fmt.Sprintf("%[1]s := authzd.decimal(args.amount)\n\tis_string(%[1]s)\n\tto_number(%[1]s) <= %[2]s", w.local(), w.one("10", "100")),
		}
	case "n":
		list = []string{
			"is_number(args.n)\n\targs.n <= " + w.one("5", "9007199254740992"), "is_number(args.n)\n\tis_number(@.limits[input.resource.id])\n\targs.n <= @.limits[input.resource.id]",
			`args.n == ` + w.one("5", "9007199254740993", "2.5"), fmt.Sprintf("is_number(args.n)\n\t%[1]s := args.n + 1\n\t%[1]s < 7", w.local()),
		}
	case "urgent":
		list = []string{`args.urgent == true`, `object.get(args, "urgent", true) == false`, `args.urgent != input.subject.id`}
	case "tags":
		list = []string{
			"count(args.tags) > 0\n\tevery tag in args.tags { tag in @.tags }", "count(args.tags) <= 1", `args.tags == ["x"]`,
			`every tag in args.tags { tag != input.subject.id }`,
		}
	}
	return "\t" + w.one(list...) + "\n"
}

// value is what a permit demands of calls of t; nil: of no tool.
func (w *writer) value(t *tool) string {
	var members []string
	if !w.odds(4) {
		needs := make([]string, 1+w.r.IntN(2))
		for i := range needs {
			needs[i] = w.requirement(t)
		}
		members = append(members, `"require": [`+strings.Join(needs, ", ")+`]`)
	}
	if w.odds(5) {
		members = append(members, `"obligations": [{"id": "log"`+w.one(``, `, "level": 9007199254740993`, `, "who": input.subject.id`)+`}]`)
	}
	if w.odds(5) {
		members = append(members, `"priority": `+w.one("1", "99", "1000"))
	}
	if w.odds(40) {
		members = []string{w.one(`"require": []`, `"require": "s1"`, `"requires": []`, `"priority": 1001`)}
	}
	return "{" + strings.Join(members, ", ") + "}"
}

func (w *writer) requirement(t *tool) string {
	arg := func(name, otherwise string) string {
		if t != nil && t.has(name) && !w.odds(6) {
			return "args." + name
		}
		return otherwise
	}
	list := []string{
		`authzd.scopes(["s1"])`, `authzd.scopes(["s1"])`, `authzd.scopes(["s1", "s2"])`, `authzd.scopes(["s3"])`,
		`authzd.authentication({"acr_values": ["mfa"` + w.one("", `, "key"`) + `]})`, `authzd.authentication({"max_age": ` + w.one("60", "300") + `})`,
		`authzd.authentication({"acr_values": ["key"], "max_age": 300})`, `authzd.proof_of_possession`,
		`authzd.authorization_details([{"type": "pay", "actions": ["start"], "currency": ` + w.one(`"EUR"`, `"EUR"`, `"USD"`) + `}])`,
	}
	if t != nil {
		pay := `{"type": "pay", "actions": [` + w.one(`"start"`, `"stop"`) + `], "currency": "EUR", "amount": ` + arg("amount", `"10"`) + `}`
		file := `{"type": "file", "paths": [` + arg("path", `"/home/alice/x"`) + `], "locations": [input.mcp.server]}`
		list = append(
			list, `authzd.scopes([shared.scope_of(input.resource.id)])`, `authzd.scopes(@.needs[input.resource.id])`,
			`authzd.authorization_details([`+pay+`])`, `authzd.authorization_details([`+pay+`])`, `authzd.authorization_details([`+file+`])`,
			`authzd.authorization_details([`+file+`])`, `authzd.authorization_details([`+pay+`, `+file+`])`, `authzd.single_use([`+pay+`])`,
			`authzd.approval({"workflow": "four-eyes", "approver": "subject", "binds": ["subject", "call"], "expires_in": 300, "title": "Once"})`,
		)
		if t.has("tags") {
			list = append(list, `authzd.authorization_details(authzd.each(args.tags, [{"type": "pay", "actions": ["start"], "currency": c} | some c in args.tags]))`)
		}
		if t.has("mode") {
			list = append(list, `authzd.scopes(["s1", concat(":", ["mode", args.mode])])`)
		}
	}
	if w.odds(40) {
		return w.one(`authzd.scopes([])`, `authzd.scopes("s1")`, `{"kind": "prayer"}`, `authzd.authorization_details([{"type": "unknown"}])`)
	}
	return w.one(list...)
}

// forbid writes one, with or without words for the client.
func (w *writer) forbid(i int) {
	members := w.one(
		``, `"message": "Not for {/mcp/params/arguments/mode} of {/resource/id}.", "remediation": "unavailable"`,
		`"code": "house.closed", "message": "Closed.", "message_admin": "Of {/subject/id} at {/mcp/server}."`,
	)
	w.line("forbid[\"f%d\"] := {%s} if {\n%s}", i, members, w.forbidden())
}

// forbidden is the body of a forbid: nothing in it can be missing.
func (w *writer) forbidden() string {
	body := "\t" + w.one(
		`input.subject.id in @.blocked`, `input.subject.id == "mallory"`, `not object.get(input.context, "agent", "") in @.agents`,
		`object.get(input.context, "zone", "") == "us"`, `object.get(args, "mode", "c") == "c"`, `object.get(args, "mode", "") in @.blocked`,
		`startswith(object.get(input.resource, "id", ""), "t1")`, `object.get(args, "path", "") in @.blocked`, `object.get(args, "urgent", true) != false`,
		`count(object.get(args, "tags", [])) > 2`, `count(input.rejected_credentials) > 0`, `some c in input.credentials`+"\n\tcount(c.actors) > 1",
	) + "\n"
	if w.odds(2) {
		body += "\t" + w.one(`input.action.name == "tools/call"`, `input.resource.id == "t0"`, `not authzd.person`) + "\n"
	}
	return body
}
