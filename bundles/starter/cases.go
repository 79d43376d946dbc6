package starter

import (
	"fmt"
	"strings"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/rar"
)

// maxCaseBytes bounds a file of cases; a bundle's YAML may have one MiB.
const maxCaseBytes = 256 << 10

// cases writes the files of decision cases. All are always there, so that
// another run leaves none behind.
func (b *Bundle) cases(p page) []bundles.File {
	permitted := caseFile{intro: "Tools that are permitted, each with neighbours that are not."}
	for _, t := range p.Permitted {
		permitted.permitted(t.Placed)
	}
	review := caseFile{intro: "Tools that are forbidden until reviewed. Change a case with the policy."}
	for _, t := range p.Review {
		review.review(t.Placed)
	}
	return []bundles.File{
		{Path: "cases/permitted.yaml", Data: permitted.text()},
		{Path: "cases/review.yaml", Data: review.text()},
		{Path: "cases/session.yaml", Data: sessionCases(p)},
	}
}

// call begins the names of queries, which are unique in a bundle.
const call = "call "

// caseFile is a file being written.
type caseFile struct {
	intro          string
	queries, cases strings.Builder
	left           int
}

func (f *caseFile) text() []byte {
	var out strings.Builder
	fmt.Fprintf(&out, "# %s\n# The format: docs/policy.md, \"Decision cases\".\n", f.intro)
	if f.left > 0 {
		fmt.Fprintf(&out, "# Tools without a case: %d. No arguments were found that fit their schema, or the file would be too long.\n", f.left)
	}
	fmt.Fprintf(&out, "\nqueries:%s\ncases:%s", orEmpty(f.queries.String()), orEmpty(f.cases.String()))
	return []byte(out.String())
}

func orEmpty(lines string) string {
	if lines == "" {
		return " {}\n"
	}
	return "\n" + lines
}

// query adds a call of t; false if it cannot be written.
func (f *caseFile) query(t Placed) bool {
	params := rar.ObjectValue(
		rar.Member{Name: "name", Value: rar.StringValue(t.Name)},
		rar.Member{Name: "arguments", Value: t.sample},
	)
	text := fmt.Sprintf(`  %s:
    subject: {type: identity, id: alice}
    mcp:
      method: tools/call
      params: %s
      server: https://mcp.example.com
      transport: stdio
      protocol_version: "2026-07-28"
`, quote(call+t.Name), visible(params.AppendCanonical(nil)))
	if t.sample.Kind() == rar.Absent || f.queries.Len()+f.cases.Len()+len(text) > maxCaseBytes || !reads(text, call+t.Name, params) {
		f.left++
		return false
	}
	f.queries.WriteString(text)
	return true
}

// reads tells whether YAML gives the call back as it was meant: not every text
// that JSON can write means the same there.
func reads(text, name string, params rar.Value) bool {
	v, err := bundles.DecodeYAML([]byte(text), bundles.Limits{})
	if err != nil || v.Len() != 1 {
		return false
	}
	query, _ := v.Get(name)
	got, _ := query.Lookup("/mcp/params")
	return rar.Equal(got, params)
}

// add writes a case of the query named tool, with lines of its own before want.
func (f *caseFile) add(tool, says, edit, want string) {
	fmt.Fprintf(&f.cases, "  %s:\n    query: %s\n%s    want: {%s}\n", quote(tool+" "+says), quote(call+tool), edit, want)
}

const (
	wantInvalid = `decision: DENY, rule: "", reasons: [request.arguments_invalid]`
	wantUnknown = `decision: DENY, rule: "", reasons: [request.tool_unknown]`
)

func (f *caseFile) permitted(t Placed) {
	if !f.query(t) {
		return
	}
	f.add(t.Name, "is permitted", "", "decision: ALLOW, rule: "+quote(tools+t.Name))
	if t.closed {
		f.add(t.Name, "with an argument that it does not have is denied",
			"    set: {/mcp/params/arguments/"+undeclared+": true}\n", wantInvalid)
	}
	required, _ := t.schema.Get("required")
	if name := required.Index(0).Text(); plain(name) {
		f.add(t.Name, "without "+name+" is denied", "    remove: ["+quote("/mcp/params/arguments/"+name)+"]\n", wantInvalid)
	}
}

// plain tells a name that needs no escapes in a JSON Pointer, and has no
// surprise for a reader.
func plain(name string) bool {
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == ""
}

func (f *caseFile) review(t Placed) {
	if t.schema.Kind() == rar.Absent {
		// Nothing fits what is not declared: a policy is not even asked.
		t.sample = rar.ObjectValue()
		if f.query(t) {
			f.add(t.Name, "is denied, its arguments being unknown", "", wantUnknown)
		}
		return
	}
	if f.query(t) {
		f.add(t.Name, "is denied until reviewed", "",
			"decision: DENY, rule: needs-review, reasons: [tools.needs_review], remediation: {status: unavailable}")
	}
}

func sessionCases(p page) []byte {
	may := func(offered bool) (words, decision string) {
		if offered {
			return "may", "ALLOW, rule: offers"
		}
		return "may not", `DENY, rule: ""`
	}
	readResource, resource := may(p.Server.Resources)
	getPrompt, prompt := may(p.Server.Prompts)
	return fmt.Appendf(nil, `# What a client asks for beside calling tools, and what it does not get.
# The format: docs/policy.md, "Decision cases".

queries:
  session:
    subject: {type: identity, id: alice}
    mcp:
      method: tools/list
      params: {}
      server: https://mcp.example.com
      transport: stdio
      protocol_version: "2025-11-25"

cases:
  tools may be listed:
    query: session
    want: {decision: ALLOW, rule: session}

  a session may begin:
    query: session
    set: {/mcp/method: initialize, /mcp/params: {protocolVersion: "2025-11-25"}}
    want: {decision: ALLOW, rule: session}

  resources may be listed:
    query: session
    set: {/mcp/method: resources/list}
    want: {decision: ALLOW, rule: session}

  a resource %s be read:
    query: session
    set: {/mcp/method: resources/read, /mcp/params: {uri: "test://a"}}
    want: {decision: %s}

  a prompt %s be had:
    query: session
    set: {/mcp/method: prompts/get, /mcp/params: {name: a}}
    want: {decision: %s}

  a task may not be looked at:
    query: session
    set: {/mcp/method: tasks/get, /mcp/params: {taskId: a}}
    want: {decision: DENY, rule: ""}

  a tool that is not declared is denied:
    query: session
    set: {/mcp/method: tools/call, /mcp/params: {name: %s, arguments: {}}}
    want: {%s}

  without a subject and a token nothing is permitted:
    query: session
    remove: [/subject]
    want: {decision: DENY, rule: ""}
`, readResource, resource, getPrompt, prompt, quote(p.Unknown), wantUnknown)
}
