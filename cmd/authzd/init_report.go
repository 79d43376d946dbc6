package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/authzd/authzd/bundles/starter"
)

// initReport is what init has written.
type initReport struct {
	Dir    string `json:"dir"`
	Server struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	} `json:"server"`
	Tools []starter.Placed `json:"tools"`
	// Groups count the tools, by group.
	Groups   map[starter.Group]int `json:"groups"`
	Files    []string              `json:"files"`
	Tests    int                   `json:"tests_passed"`
	Warnings []string              `json:"warnings"`
	Next     []string              `json:"next"`
}

func newInitReport(o initOptions, s starter.Server, b *starter.Bundle, tests *testReport) *initReport {
	r := &initReport{
		Dir: o.dir, Tools: append([]starter.Placed{}, b.Tools...), Groups: map[starter.Group]int{},
		Tests: tests.Passed, Warnings: append([]string{}, b.Warnings...),
	}
	r.Server.Name, r.Server.Version = s.Name, s.Version
	for _, g := range initGroups() {
		r.Groups[g] = len(b.Of(g))
	}
	for _, f := range b.Files {
		r.Files = append(r.Files, f.Path)
	}
	bundle := quoteShell(nameOf(o.dir) + "=" + o.dir)
	r.Next = append(r.Next, "authzd test "+quoteShell(o.dir))
	if command := o.words(); command != nil {
		r.Next = append(r.Next, "authzd wrap --bundle "+bundle+" --subject YOU -- "+command.shell())
	} else {
		r.Next = append(r.Next, "authzd serve --bundle "+bundle)
	}
	return r
}

// words is the command that was asked, nil if none was.
func (o *initOptions) words() commandSource {
	if o.command != nil {
		return o.command
	}
	if o.from == "" || isURL(o.from) {
		return nil
	}
	words, _ := splitCommand(o.from) // it was split before
	return words
}

func (c commandSource) shell() string {
	words := make([]string, 0, len(c))
	for _, w := range c {
		words = append(words, quoteShell(w))
	}
	return strings.Join(words, " ")
}

// quoteShell writes a word so that a shell reads it as it is.
func quoteShell(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:@=+,-") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func initGroups() []starter.Group {
	return []starter.Group{starter.ReadOnly, starter.Additive, starter.Destructive, starter.Unannotated, starter.Doubtful}
}

func writeInitReport(w io.Writer, format string, r *initReport) error {
	if format == "json" {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	t := textWriter{}
	if r.Server.Name != "" {
		t.line("%s: %d tools of %s", r.Dir, len(r.Tools), shownAll(r.Server.Name, r.Server.Version))
	} else {
		t.line("%s: an example with one tool; with --from-mcp it would be your server's", r.Dir)
	}
	for _, g := range initGroups() {
		if r.Groups[g] == 0 {
			continue
		}
		t.line("")
		t.line("%s, %s: %d", g, fate(g), r.Groups[g])
		for _, tool := range r.Tools {
			if tool.Group != g {
				continue
			}
			if tool.Why == "" {
				t.line("  %s", shown(tool.Name))
			} else {
				t.line("  %s: %s", shown(tool.Name), tool.Why)
			}
		}
	}
	t.line("")
	t.line("%d files, %d tests passed. Groups follow what the server says of its tools: review them.", len(r.Files), r.Tests)
	t.line("Next:")
	for _, n := range r.Next {
		t.line("  %s", n)
	}
	_, err := io.WriteString(w, t.b.String())
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// shown is a name as a terminal may show it: what looks like another is quoted.
func shown(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return r < '!' || r > '~' || r == '"' }) {
		return strconv.QuoteToASCII(name)
	}
	return name
}

func shownAll(words ...string) string {
	var list []string
	for _, w := range words {
		if w != "" {
			list = append(list, shown(w))
		}
	}
	return strings.Join(list, " ")
}

func fate(g starter.Group) string {
	if g == starter.ReadOnly {
		return "permitted"
	}
	return "forbidden until reviewed"
}
