package starter

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/template"

	"github.com/authzd/authzd/bundles"
)

//go:embed text/*.tmpl
var texts embed.FS

// page is what the templates see.
type page struct {
	Server            Server
	Session, Reading  []string
	Denied            []string
	Permitted, Review []entry
	// Unknown is the name of no tool.
	Unknown string
}

// entry is a tool in the policy. Title begins a group.
type entry struct {
	Placed
	Title string
}

const tools = "tool:"

// maxTested bounds how many tools one Rego test goes through.
const maxTested = 200

// write makes the files.
func (b *Bundle) write(s Server) ([]bundles.File, error) {
	p := b.page(s)
	funcs := template.FuncMap{
		"q": quote, "list": quoteList,
		"line": func(words ...string) string { return oneLine(strings.Join(words, " ")) },
		"rule": func(name string) string { return tools + name },
		"max":  func() int { return maxTested }, "many": func(list []entry) bool { return len(list) > maxTested },
	}
	var files []bundles.File
	for _, name := range []string{"README.md", "policy.rego", "policy_test.rego"} {
		t, err := template.New(name+".tmpl").Funcs(funcs).ParseFS(texts, "text/"+name+".tmpl")
		if err != nil {
			return nil, err
		}
		var text bytes.Buffer
		if err := t.Execute(&text, p); err != nil {
			return nil, err
		}
		files = append(files, bundles.File{Path: name, Data: text.Bytes()})
	}
	schemas, err := b.schemas()
	if err != nil {
		return nil, err
	}
	files = append(files, bundles.File{Path: toolsRoot + "/data.json", Data: schemas})
	files = append(files, b.cases(p)...)
	files = append(files, manifest(files))
	slices.SortFunc(files, func(x, y bundles.File) int { return cmp.Compare(x.Path, y.Path) })
	return files, nil
}

func (b *Bundle) page(s Server) page {
	p := page{
		Server: s,
		Session: []string{
			"completion/complete", "initialize", "logging/setLevel", "prompts/list", "resources/list", "resources/templates/list",
			"server/discover", "subscriptions/listen", "tools/list",
		},
		Denied: []string{"tasks/cancel", "tasks/get", "tasks/list", "tasks/result", "unknown/method"},
	}
	if s.Prompts {
		p.Reading = append(p.Reading, "prompts/get")
	} else {
		p.Denied = append(p.Denied, "prompts/get")
	}
	resources := []string{"resources/read", "resources/subscribe", "resources/unsubscribe"}
	if s.Resources {
		p.Reading = append(p.Reading, resources...)
	} else {
		p.Denied = append(p.Denied, resources...)
	}
	slices.Sort(p.Denied)
	for _, t := range b.Tools {
		if t.Group == ReadOnly {
			p.Permitted = append(p.Permitted, entry{Placed: t})
		}
	}
	for _, g := range reviewed() {
		title := g.title
		for _, t := range b.Tools {
			if t.Group == g.group {
				p.Review = append(p.Review, entry{Placed: t, Title: title})
				title = ""
			}
		}
	}
	p.Unknown = "no-such-tool"
	for slices.ContainsFunc(b.Tools, func(t Placed) bool { return t.Name == p.Unknown }) {
		p.Unknown += "-"
	}
	return p
}

type titledGroup struct {
	group Group
	title string
}

// reviewed are the groups that need review, in the order of the policy.
func reviewed() []titledGroup {
	return []titledGroup{
		{Additive, "These change something and destroy nothing, says the server."},
		{Destructive, "These change or delete, says the server."},
		{Unannotated, "Of these the server says nothing, which MCP takes for destructive."},
		{Doubtful, "These are not taken at their word."},
	}
}

func quoteList(list []string) string {
	quoted := make([]string, 0, len(list))
	for _, s := range list {
		quoted = append(quoted, "\n\t\t"+quote(s)+",")
	}
	return "[" + strings.Join(quoted, "") + "\n\t]"
}

// schemas is the data file of all tools: one file, because no name is safe to be
// a path. Members are sorted, so that another run shows what changed.
func (b *Bundle) schemas() ([]byte, error) {
	var out bytes.Buffer
	if err := json.Indent(&out, b.tools().AppendCanonical(nil), "", "  "); err != nil {
		return nil, fmt.Errorf("indent the schemas: %w", err)
	}
	out.WriteByte('\n')
	return visible(out.Bytes()), nil
}

// manifest names the revision by what the files hold.
func manifest(files []bundles.File) bundles.File {
	h := sha256.New()
	for _, f := range files {
		h.Write(fmt.Appendf(nil, "%s %d\n", f.Path, len(f.Data)))
		h.Write(f.Data)
	}
	text := fmt.Sprintf(`{
  "revision": "init-%s",
  "roots": ["authz", "authz_test", "authzd_tools"],
  "rego_version": 1,
  "metadata": {"authzd": {"contract": 1}}
}
`, hex.EncodeToString(h.Sum(nil))[:12])
	return bundles.File{Path: ".manifest", Data: []byte(text)}
}
