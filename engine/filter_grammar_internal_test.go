package engine

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// grammar writes random policies for TestFilterOracle: permits, forbids and the
// plain forms over conditions that look at arguments or do not, by helper rules,
// functions, else, default, not, every, comprehensions and data.
type grammar struct {
	r *rand.Rand
	// Helpers written so far, by what they can be used as. A rule uses earlier
	// ones only, so none is recursive.
	conditions, values, predicates, functions, sets []string
	out                                             strings.Builder
	locals                                          int
}

const grammarHead = `package authz

import data.authzd.v1 as authzd

library := authzd.decimal("1")

`

// grammarFoot stands behind all rules that use it: dependence is not found in
// the order of the text.
const grammarFoot = `args := input.mcp.params.arguments
`

// policy writes one.
func (g *grammar) policy() string {
	g.out.WriteString(grammarHead)
	for i := range 2 + g.r.IntN(7) {
		g.helper(i)
	}
	g.details()
	for i := range 1 + g.r.IntN(3) {
		g.permit(i)
	}
	switch g.r.IntN(6) {
	case 0:
		g.line("default allow := %t", g.odds(8))
		g.line("allow if {\n%s}", g.body())
	case 1:
		g.line("allow if {\n%s} else := %t if {\n%s}", g.body(), g.odds(2), g.body())
	}
	for i := range g.r.IntN(3) {
		if g.odds(2) {
			g.line("forbid[\"f%d\"] := {\"message\": %s} if {\n%s}", i, g.text(), g.body())
		} else {
			g.line("forbid[\"f%d\"] := {} if {\n%s}", i, g.body())
		}
	}
	switch g.r.IntN(8) {
	case 0:
		g.line("deny if {\n%s}", g.body())
	case 1:
		g.line("deny contains %s if {\n%s}", g.text(), g.body())
	case 2:
		g.line("default deny := %t", g.odds(2))
		g.line("deny := %t if {\n%s}", g.odds(2), g.body())
	case 3:
		g.line("deny := %t if {\n%s} else := %t if {\n%s}", g.odds(2), g.body(), g.odds(2), g.body())
	}
	g.out.WriteString(grammarFoot)
	return g.out.String()
}

func (g *grammar) line(format string, args ...any) { fmt.Fprintf(&g.out, format+"\n\n", args...) }

// odds is true one time in n.
func (g *grammar) odds(n int) bool { return g.r.IntN(n) == 0 }

func (g *grammar) one(list ...string) string { return list[g.r.IntN(len(list))] }

func (g *grammar) helper(i int) {
	name := fmt.Sprintf("h%d", i)
	switch g.r.IntN(10) {
	case 0, 1, 8, 9:
		if g.odds(3) {
			g.line("default %s := %t", name, g.odds(3))
		}
		value := g.one("true", "true", "true", "false")
		for range 1 + g.r.IntN(2) {
			fmt.Fprintf(&g.out, "%s := %s if {\n%s}", name, value, g.body())
			for g.odds(5) {
				fmt.Fprintf(&g.out, " else := %s if {\n%s}", g.one("true", "false"), g.body())
			}
			g.line("")
		}
		g.conditions = append(g.conditions, name)
	case 2:
		g.line("%s := %s", name, g.text())
		g.values = append(g.values, name)
	case 3:
		if g.odds(2) {
			g.line("default %s := %s", name, g.one(`"a"`, `"b"`))
			g.line("%s := %s if {\n%s}", name, g.one(`"a"`, g.text()), g.body())
		} else {
			g.line("%s := %s if {\n%s} else := %s if {\n%s}", name, g.one(`"a"`, g.text()), g.body(), g.one(`"b"`, g.text()), g.body())
		}
		g.values = append(g.values, name)
	case 4:
		g.line("%s(p) if {\n\tp != %s\n%s}", name, g.text(), g.body())
		if g.odds(3) {
			g.line("else := %t if {\n%s}", g.odds(2), g.body())
		}
		g.predicates = append(g.predicates, name)
	case 5:
		g.line("%s(p) := %s if {\n%s}", name, g.one("p", "p", "concat(\"\", [p, "+g.text()+"])"), g.body())
		g.functions = append(g.functions, name)
	case 6:
		g.line("%s contains %s if {\n%s}", name, g.text(), g.body())
		g.sets = append(g.sets, name)
	case 7:
		g.line("%s contains v if {\n\tsome v in %s\n%s}", name, g.list(), g.body())
		g.sets = append(g.sets, name)
	}
}

// body is one to three conditions.
func (g *grammar) body() string {
	var b strings.Builder
	for range 1 + g.r.IntN(3) {
		b.WriteString("\t" + g.condition() + "\n")
	}
	return b.String()
}

// text is a term that is a string, where it is defined.
func (g *grammar) text() string {
	pool := []string{
		`"a"`, `"b"`, "args.s", "input.mcp.params.arguments.s", "input.subject.id", "input.resource.id", "input.mcp.params.name",
		"data.names[input.resource.id]", "data.names[args.s]", "input.mcp.params._meta.k", "input.context.mode", `object.get(args, "x", "a")`, `input.mcp.params["arguments"].s`,
	}
	for _, v := range g.values {
		pool = append(pool, v, v)
	}
	for _, f := range g.functions {
		pool = append(pool, f+"("+g.one(`"a"`, "args.s", "input.subject.id")+")")
	}
	return g.one(pool...)
}

func (g *grammar) list() string {
	return g.one("args.l", "data.list", "input.credentials[0].scopes", "data.list", `object.get(args, "l", [])`)
}

// free is a condition that does not depend on arguments.
func (g *grammar) free() string {
	who := g.one("input.subject.id", "input.resource.id", "input.context.mode", "input.mcp.params.name", "data.names[input.resource.id]")
	constant := g.one(`"alice"`, `"bob"`, `"a"`, `"t1"`, `"t2"`)
	return g.one(
		who+" == "+constant, who+" == "+constant, who+" != "+constant, "not "+who+" == "+constant,
		who+" in data.list", "not "+who+" in data.list", `"s1" in input.credentials[0].scopes`,
		"every e in data.list { e != "+who+" }", "count({e | some e in data.list; e == "+who+"}) == 1",
		g.one("data.flags.on", "data.flags.off", "data.flags[input.resource.id]"),
	)
}

func (g *grammar) condition() string {
	switch {
	case g.odds(3):
		return g.free()
	case g.odds(4) && len(g.conditions) > 0:
		return g.one("", "", "not ") + g.one(g.conditions...)
	}
	g.locals++
	local := fmt.Sprintf("v%d", g.locals)
	pool := []string{
		g.text() + g.one(" == ", " == ", " != ") + g.text(),
		g.text() + " in " + g.list(),
		"args.n " + g.one("<", ">", "==") + g.one(" 3", " 5", " data.limits[input.resource.id]"),
		g.one("data.flags.on", "data.flags.off", "data.flags[input.resource.id]", "data.flags[args.s]"),
		fmt.Sprintf("%s := %s\n\t%s == %s", local, g.text(), local, g.text()),
		fmt.Sprintf("%s := %s\n\tother_%s := %s\n\t%s != other_%s", local, g.text(), local, local, local, local),
		fmt.Sprintf("every e in %s { e %s %s }", g.list(), g.one("==", "!="), g.text()),
		fmt.Sprintf("count([e | some e in %s; e != %s]) %s", g.list(), g.text(), g.one("> 0", "== 2", "== 0")),
		fmt.Sprintf("%s := {e | some e in %s; e in %s}\n\t%s in %s", local, g.list(), g.list(), g.text(), local),
		"not " + g.text() + " == " + g.text(),
		"not " + g.one("data.flags.off", "data.flags[args.s]", "args.x"),
		fmt.Sprintf("some %s in %s\n\t%s == %s", local, g.list(), local, g.text()),
		fmt.Sprintf("%s := \"s\"\n\targs[%s] == %s", local, local, g.text()),
		"count(input.mcp.params) > " + g.one("0", "1", "2"),
		`rand.intn("x", 2) == 1`,
		fmt.Sprintf("some %s\n\targs[%s] == %s", local, local, g.text()),
		fmt.Sprintf("some %s\n\tinput[%s].mode == %s", local, local, g.text()),
		fmt.Sprintf("some %s\n\tinput.mcp.params[%s].s == %s", local, local, g.text()),
		fmt.Sprintf("some %s\n\tinput.mcp[%s].arguments.s == %s", local, local, g.text()),
		fmt.Sprintf("some %s\n\tinput[%s].params.arguments.s == %s", local, local, g.text()),
		fmt.Sprintf("[%s, other_%s] := [%s, %s]\n\t%s == other_%s", local, local, g.text(), g.text(), local, local),
		fmt.Sprintf("%s := {e: 1 | some e in %s; e != %s}\n\t%s[%s]", local, g.list(), g.text(), local, g.text()),
		fmt.Sprintf("some %s\n\tdata.names[%s] == %s\n\t%s == %s", local, local, g.text(), local, g.text()),
		fmt.Sprintf("walk(args, [_, %s])\n\t%s == %s", local, local, g.text()),
		`startswith(` + g.text() + `, "a")`,
	}
	for _, h := range g.conditions {
		pool = append(pool, h, "not "+h, h+" == "+g.one("true", "false"))
	}
	for _, f := range g.predicates {
		pool = append(pool, f+"("+g.text()+")", "not "+f+"("+g.text()+")")
	}
	for _, s := range g.sets {
		pool = append(pool, g.text()+" in "+s, "not "+g.text()+" in "+s, "count("+s+") > 0")
	}
	return g.one(pool...)
}

// details are values that requirements are made of, by rules of which one holds
// or the other, and by a function.
func (g *grammar) details() {
	kind := func() string { return g.one(`"pay"`, `"pay"`, `"ask"`) }
	g.line("need := object.union({\"type\": %s, \"s\": \"a\"}, more)", kind())
	other := g.one("not "+g.text()+" == \"a\"", g.text()+" != \"a\"")
	g.line("more := {} if %s == \"a\"", g.text())
	g.line("more := {%s} if %s", g.one(`"type": `+kind(), `"s": `+g.text()), other)
	g.line("made(k) := {\"type\": k} if %s == \"a\"", g.text())
	g.line("made(k) := {\"type\": %s, \"s\": k} if not %s == \"a\"", kind(), g.text())
	g.line("wanted := %s if {\n%s}", g.one(`authzd.scopes(["s1"])`, `authzd.authentication({"acr_values": ["mfa"]})`), g.body())
	g.line("wanted := %s if {\n%s}", g.one(`authzd.scopes(["s1"])`, `authzd.scopes(["a"])`), g.body())
}

func (g *grammar) permit(i int) {
	value := "{}"
	if g.odds(2) {
		needs := make([]string, 1+g.r.IntN(2))
		for n := range needs {
			needs[n] = g.requirement()
		}
		value = `{"require": [` + strings.Join(needs, ", ") + `]` + g.one("", `, "priority": 5`, `, "obligations": [{"id": "o"}]`) + `}`
	}
	name := fmt.Sprintf("\"p%d\"", i)
	if g.odds(12) {
		g.line("permit[%s] := %s if {\n%s} else := {} if {\n%s}", name, value, g.body(), g.body())
		return
	}
	g.line("permit[%s] := %s if {\n%s}", name, value, g.body())
}

func (g *grammar) requirement() string {
	object := g.one(
		`{"type": "pay", "s": `+g.text()+`}`,
		`object.union({"type": "pay"}, {"s": `+g.text()+`})`,
		`{"type": "pay"}`, "need", "need", `made(`+g.one(`"pay"`, `"ask"`, g.text())+`)`,
		`{"type": `+g.one(`data.kinds[input.resource.id]`, `data.kinds[args.s]`, g.text())+`}`,
	)
	return g.one(
		`authzd.scopes(["s1"])`,
		`authzd.scopes([`+g.text()+`])`,
		`authzd.scopes(["s1", `+g.text()+`])`,
		`authzd.authorization_details([`+object+`])`,
		`authzd.authorization_details([`+object+`])`,
		`authzd.authorization_details(authzd.each(`+g.list()+`, [{"type": "pay", "s": e} | some e in `+g.list()+`]))`,
		`authzd.authentication({"max_age": `+g.one("args.n", "300", "30")+`})`,
		`authzd.authentication({"acr_values": [`+g.one(`"mfa"`, g.text(), `"mfa", `+g.text())+`]})`,
		"wanted",
		`authzd.proof_of_possession`,
	)
}
