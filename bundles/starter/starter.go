// Package starter writes a first bundle from what an MCP server says of its
// tools: a permit for each one that only reads, a forbid for all others until
// somebody has looked at them, and the tests that hold both.
//
// What the server says is its own word and may be hostile. A name is never used
// as a file's, nor as Rego or YAML before it is quoted; a tool whose schema the
// engine refuses, that is listed twice or that has an unusual name is not
// permitted, whatever it says of itself; a tool that cannot be named at all is
// left out, and so denied.
//
// It is called by cmd/authzd, which talks to the server and keeps the files. It
// has no state and may be called by any number of goroutines.
package starter

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/rar"
)

const (
	// MaxSchemaBytes bounds the schema of one tool; a larger one is refused.
	MaxSchemaBytes = 64 << 10
	// maxName bounds a name; a longer one is left out.
	maxName = 256
)

// Server is what an MCP server says of itself.
type Server struct {
	// Name and Version are for people; both empty: there is no server, and the
	// tools are made up.
	Name, Version string
	// Resources and Prompts tell whether it offers any.
	Resources, Prompts bool
	// Tools come in any order.
	Tools []Tool
}

// Tool is one entry of tools/list.
type Tool struct {
	Name string
	// Annotated tells a tool with annotations from one without.
	Annotated bool
	ReadOnly  bool
	// Destructive is nil if the server does not say.
	Destructive *bool
	// OpenWorld is true if the server says so; silence, which MCP takes for yes,
	// is false here.
	OpenWorld bool
	// Schema is the inputSchema; absent if there is none.
	Schema rar.Value
}

// Group is what the bundle makes of a tool.
type Group string

// Tools of the group ReadOnly are permitted, those of the others forbidden
// until reviewed.
const (
	ReadOnly Group = "read-only"
	// Additive tools change something, but destroy nothing.
	Additive    Group = "additive"
	Destructive Group = "destructive"
	// Unannotated tools do not say what they do.
	Unannotated Group = "unannotated"
	// Doubtful tools are not taken at their word.
	Doubtful Group = "doubtful"
)

// Placed is a tool in its group.
type Placed struct {
	Name  string `json:"name"`
	Group Group  `json:"group"`
	// Why a tool is doubtful, or what to look at in one that is permitted.
	Why string `json:"why,omitempty"`

	schema rar.Value // absent: the bundle declares none
	sample rar.Value // arguments that fit the schema, absent if none was found
	closed bool      // one more argument does not fit
}

// Bundle is a bundle as written, ready to be stored.
type Bundle struct {
	// Files are sorted by path. The same server gives the same files.
	Files []bundles.File
	// Tools are sorted by name.
	Tools []Placed
	// Warnings say what a reader of the files would not see, a sentence each.
	Warnings []string
}

// Of returns the names of the tools of a group.
func (b *Bundle) Of(g Group) []string {
	names := []string{}
	for _, t := range b.Tools {
		if t.Group == g {
			names = append(names, t.Name)
		}
	}
	return names
}

// Generate writes the bundle for s. The error is the context's, or a fault of
// this package: no server can cause one.
func Generate(ctx context.Context, s Server) (Bundle, error) {
	var b Bundle
	b.place(s.Tools)
	if err := b.declare(ctx); err != nil {
		return Bundle{}, err
	}
	files, err := b.write(s)
	if err != nil {
		return Bundle{}, fmt.Errorf("write the starter bundle: %w", err)
	}
	b.Files = files
	return b, nil
}

func (b *Bundle) warn(format string, args ...any) {
	b.Warnings = append(b.Warnings, fmt.Sprintf(format, args...))
}

// place puts each tool into its group, by name.
func (b *Bundle) place(tools []Tool) {
	sorted := slices.SortedStableFunc(slices.Values(tools), func(x, y Tool) int { return cmp.Compare(x.Name, y.Name) })
	for i, t := range sorted {
		switch {
		case t.Name == "" || len(t.Name) > maxName || !utf8.ValidString(t.Name) || strings.ContainsRune(t.Name, utf8.RuneError):
			b.warn("tool %s is left out: its name is empty, longer than %d bytes or not UTF-8; calls of it are denied", clip(quote(t.Name)), maxName)
			continue
		case i > 0 && t.Name == sorted[i-1].Name:
			b.listedTwice(t, sorted[i-1])
			continue
		}
		b.Tools = append(b.Tools, b.group(t))
	}
}

// listedTwice: of two tools with one name, nobody knows which will be called.
func (b *Bundle) listedTwice(t, before Tool) {
	if sameTool(t, before) {
		return
	}
	last := &b.Tools[len(b.Tools)-1]
	last.Group, last.Why, last.schema = Doubtful, "the server lists two tools of this name", rar.Value{}
	b.warn("tool %s needs review: %s", quote(t.Name), last.Why)
}

func sameTool(x, y Tool) bool {
	says := func(t Tool) [5]bool {
		return [5]bool{t.Annotated, t.ReadOnly, t.OpenWorld, t.Destructive != nil, t.Destructive != nil && *t.Destructive}
	}
	return says(x) == says(y) && x.Schema.Kind() == y.Schema.Kind() && rar.Equal(x.Schema, y.Schema)
}

// ordinaryName is what MCP recommends for names of tools.
const ordinaryName = `^[A-Za-z0-9_./-]{1,128}$`

const mappingKeyword = "x-authzen-mapping"

// group believes annotations only where they restrict, or where nothing speaks
// against them.
func (b *Bundle) group(t Tool) Placed {
	p := Placed{Name: t.Name, schema: t.Schema}
	_, mapped := t.Schema.Get(mappingKeyword)
	switch {
	case !regexp.MustCompile(ordinaryName).MatchString(t.Name):
		p.Group, p.Why = Doubtful, "the name is longer than 128 bytes or has characters other than A-Z a-z 0-9 _ . / -"
	case mapped:
		p.Group, p.Why = Doubtful, "the tool declares what is asked about it ("+mappingKeyword+"), which may be another resource than its name"
	case t.ReadOnly && t.Destructive != nil && *t.Destructive:
		p.Group, p.Why = Doubtful, "the server says that the tool only reads, and that it destroys"
	case t.ReadOnly:
		p.Group = ReadOnly
		if t.OpenWorld {
			p.Why = "reaches out, says the server (openWorldHint): what it sends may leave your network"
		}
	case !t.Annotated:
		p.Group = Unannotated
	case t.Destructive != nil && !*t.Destructive:
		p.Group = Additive
	default:
		p.Group = Destructive
	}
	if mapped {
		p.schema = without(t.Schema, mappingKeyword)
	}
	if p.Group == Doubtful {
		b.warn("tool %s needs review: %s", quote(p.Name), p.Why)
	}
	return p
}

func without(v rar.Value, name string) rar.Value {
	members := make([]rar.Member, 0, v.Len())
	for i := range v.Len() {
		if m := v.Member(i); m.Name != name {
			members = append(members, m)
		}
	}
	return rar.ObjectValue(members...)
}

// refuse takes back a schema.
func (b *Bundle) refuse(p *Placed, why string) {
	p.schema, p.Group, p.Why = rar.Value{}, Doubtful, "its schema is not usable: "+oneLine(why)
	b.warn("tool %s needs review: %s", quote(p.Name), p.Why)
}
