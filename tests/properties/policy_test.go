package properties_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// policy is random policy in the contract of docs/policy.md, and the tools that it is
// about.
type policy struct {
	// bundles are the files of each bundle by their path, by the bundle's name.
	bundles map[string]map[string]string
	tools   []tool
}

// String is the text of every file.
func (p *policy) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(p.bundles)) {
		for _, path := range slices.Sorted(maps.Keys(p.bundles[name])) {
			fmt.Fprintf(&b, "-- %s/%s --\n%s\n", name, path, p.bundles[name][path])
		}
	}
	return b.String()
}

// tool is one that policy knows. Without a schema it is one that no bundle declares.
type tool struct {
	name      string
	arguments []argument
	schema    bool
}

// argument has one of the names of argumentSchemas; lax ones take any value.
type argument struct {
	name          string
	required, lax bool
}

func (t *tool) has(name string) bool {
	return slices.ContainsFunc(t.arguments, func(a argument) bool { return a.name == name })
}

func argumentSchemas() map[string]string {
	return map[string]string{
		"mode":   `{"enum": ["a", "b", "c"]}`,
		"path":   `{"type": "string", "pattern": "^/"}`,
		"amount": `{"type": "string", "pattern": "^(0|[1-9][0-9]*)(\\.[0-9]+)?$"}`,
		"n":      `{"type": "number", "minimum": 0}`,
		"urgent": `{"type": "boolean"}`,
		"tags":   `{"type": "array", "items": {"type": "string"}, "maxItems": 3}`,
	}
}

// argumentSchema is the JSON Schema of the tool's arguments.
func (t *tool) argumentSchema() string {
	var properties, required []string
	for _, a := range t.arguments {
		schema := argumentSchemas()[a.name]
		if a.lax {
			schema = `{}`
		}
		properties = append(properties, fmt.Sprintf("%q: %s", a.name, schema))
		if a.required {
			required = append(required, fmt.Sprintf("%q", a.name))
		}
	}
	return fmt.Sprintf(`{"type": "object", "properties": {%s}, "required": [%s]}`, strings.Join(properties, ", "), strings.Join(required, ", "))
}

// writer writes one policy. What it draws comes from r alone.
type writer struct {
	r     *rand.Rand
	out   strings.Builder
	tools []tool
	// facts is where the data stands: in the bundle of the rules, or in one of its own.
	facts string
	// helpers are rules that hold or do not, and that permits may ask.
	helpers []string
	locals  int
}

func (w *writer) odds(n int) bool { return w.r.IntN(n) == 0 }

// local is a variable that the policy does not have yet.
func (w *writer) local() string {
	w.locals++
	return fmt.Sprintf("v%d", w.locals)
}

func (w *writer) one(list ...string) string { return list[w.r.IntN(len(list))] }

// line writes a rule; an @ in it is where the data stands.
func (w *writer) line(format string, args ...any) {
	w.out.WriteString(strings.ReplaceAll(fmt.Sprintf(format, args...), "@", w.facts) + "\n\n")
}

// newPolicy makes the policy of a seed.
func newPolicy(r *rand.Rand) *policy {
	w := &writer{r: r, facts: "data"}
	apart := w.odds(3)
	if apart {
		w.facts = "data.facts"
	}
	for i := range 2 + r.IntN(2) {
		w.tools = append(w.tools, w.tool(i))
	}
	main := map[string]string{"policy.rego": w.rules()}
	p := &policy{bundles: map[string]map[string]string{"main": main}, tools: w.tools}
	roots := []string{"authz", "authzd_tools", "authzd_types"}
	if apart {
		p.bundles["more"] = map[string]string{
			".manifest":         manifest([]string{"facts", "shared"}, "m1", `{"contract": 1}`),
			"facts/data.json":   w.data(),
			"shared/names.rego": sharedModule,
		}
	} else {
		main["data.json"] = w.data()
		main["names.rego"] = sharedModule
		roots = append(roots, "shared", "users", "roles", "limits", "agents", "owners", "tags", "needs", "flags", "grants", "blocked")
	}
	main[".manifest"] = manifest(roots, fmt.Sprintf("r%d", r.IntN(1000)), w.metadata())
	for _, t := range w.tools {
		if t.schema {
			main["authzd_tools/"+t.name+"/data.json"] = fmt.Sprintf(`{"arguments": %s}`, t.argumentSchema())
		}
	}
	main["authzd_types/pay/data.json"], main["authzd_types/file/data.json"] = w.pay(), w.file()
	return p
}

func manifest(roots []string, revision, metadata string) string {
	text, _ := json.Marshal(roots) //nolint:errchkjson // strings
	return fmt.Sprintf(`{"revision": %q, "roots": %s, "rego_version": 1, "metadata": {"authzd": %s}}`, revision, text, metadata)
}

func (w *writer) metadata() string {
	more := w.one("", "", `, "untyped_tools": true`) + w.one("", "", `, "open_hints": true`) +
		w.one("", "", `, "declared_mappings": "verified_subject"`, `, "declared_mappings": "any_subject"`)
	return `{"contract": 1` + more + `}`
}

func (w *writer) tool(i int) tool {
	t := tool{name: fmt.Sprintf("t%d", i), schema: !w.odds(8)}
	for _, name := range slices.Sorted(maps.Keys(argumentSchemas())) {
		if !w.odds(3) {
			t.arguments = append(t.arguments, argument{name: name, required: !w.odds(3), lax: w.odds(10)})
		}
	}
	return t
}

// sharedModule is policy that several packages use.
const sharedModule = `package shared

is_tool_call if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
}

calls(tool) if {
	is_tool_call
	input.resource.id == tool
}

scope_of(tool) := concat(":", [tool, "use"])
`

// data is what rules compare with; queries draw from the same names.
func (w *writer) data() string {
	return fmt.Sprintf(`{
	"users": ["alice", %s], "roles": {"alice": ["admin", "user"], "bob": [%s]}, "limits": {"t0": %s, "t1": 5, "t2": 0},
	"agents": ["agent-1", %s], "owners": {"agent-1": %s, "agent-2": "bob"}, "tags": ["x", %s],
	"needs": {"t0": ["s1"], "t1": ["s2", "s3"], "t2": [%s]}, "flags": {"t0": true, "t1": %s},
	"grants": [{"user": "alice", "mode": "a"}, {"user": %s, "mode": %s}], "blocked": [%s]
}`, w.one(`"bob"`, `"carol"`), w.one(`"user"`, `"admin"`), w.one("5", "5", "9007199254740992", "9007199254740992", "2.5", "2.5", "2.50"), w.one(`"agent-2"`, `"agent-3"`),
		w.one(`"alice"`, `"bob"`), w.one(`"y"`, `"z"`), w.one(`"s1"`, `"s1"`, ``), w.one("true", "false"), w.one(`"alice"`, `"bob"`), w.one(`"b"`, `"c"`),
		w.one(`"b"`, `"/home/bob/y"`, `"bob"`))
}

const decimals = `"^(0|[1-9][0-9]*)(\\.[0-9]+)?$"`

// pay and file are types of authorization_details, compared in different ways.
func (w *writer) pay() string {
	return fmt.Sprintf(`{"type": "pay", "schema": {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
	"properties": {"type": {"const": "pay"}, "actions": {"type": "array", "items": {"enum": ["start", "stop"]}, "minItems": 1},
		"currency": {"type": "string"}, "amount": {"type": "string", "pattern": %s}, "locations": {"type": "array", "items": {"type": "string"}}},
	"required": ["type", "actions"], "additionalProperties": false},
	"compare": {"/actions": %s, "/currency": %s, "/amount": %s, "/locations": {"rule": "subset", "absent": "any"}}}`, decimals,
		w.one(`"subset"`, `{"rule": "subset", "implies": {"stop": ["start"]}}`), w.one(`"equal"`, `"ignore"`, `{"rule": "equal", "absent": "any"}`),
		w.one(`"max"`, `"max"`, `{"rule": "max", "absent": "any"}`, `"min"`))
}

func (w *writer) file() string {
	return fmt.Sprintf(`{"type": "file", "single_use": %s, "schema": {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
	"properties": {"type": {"const": "file"}, "paths": {"type": "array", "items": {"type": "string"}, "minItems": 1},
		"rows": {"type": "number"}, "locations": {"type": "array", "items": {"type": "string"}}},
	"required": ["type", "paths"], "additionalProperties": false},
	"compare": {"/paths": %s, "/rows": {"rule": "max", "absent": "any"}, "/locations": "subset"}}`,
		w.one("false", "false", "false", "true"), w.one(`"prefix"`, `"prefix"`, `"glob"`, `"subset"`))
}
