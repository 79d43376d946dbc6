package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/rar"
)

// disclosable holds the texts and numbers that a hint may show to any client
// because nothing of them needs authorization to read: what the policy's own
// text and the declared types say, and the data that the bundles declare public
// (metadata.authzd.public_data). Names of members are the types' and always
// known.
//
// Policy can put anything into required authorization_details, the owner of an
// account from data too, and a hint goes to a caller who is not authorized yet
// (SEP-2643: hints carry nothing that needs authorization to read). So each
// value of a hint has to come from the call itself or from here. It is a net
// under policy, not a proof: a caller who guesses a value, and sends it, learns
// that it was right.
type disclosable struct {
	texts   map[string]struct{} // folded, see fold
	pieces  map[string]struct{} // of policy's texts, for composed values
	numbers map[string]struct{} // canonical
	// all: a bundle says that hints may show anything.
	all bool
}

func newDisclosable() *disclosable {
	return &disclosable{texts: map[string]struct{}{}, pieces: map[string]struct{}{}, numbers: map[string]struct{}{}}
}

// fold is how texts compare: policy may trim them and change their case.
func fold(s string) string { return strings.ToLower(strings.TrimSpace(s)) }

// addValue takes in every text and number of v.
func (d *disclosable) addValue(v rar.Value) {
	switch v.Kind() {
	case rar.String:
		d.texts[fold(v.Text())] = struct{}{}
	case rar.Number:
		d.numbers[string(v.AppendCanonical(nil))] = struct{}{}
		d.texts[fold(v.Text())] = struct{}{}
	case rar.Array:
		for i := range v.Len() {
			d.addValue(v.Index(i))
		}
	case rar.Object:
		for i := range v.Len() {
			d.texts[fold(v.Member(i).Name)] = struct{}{}
			d.addValue(v.Member(i).Value)
		}
	case rar.Absent, rar.Null, rar.Bool:
	}
}

// addPolicy takes in the constants of modules. A format of sprintf is known by
// the pieces between its verbs.
func (d *disclosable) addPolicy(modules map[string]*ast.Module) {
	visitor := ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case ast.String:
			d.texts[fold(string(x))] = struct{}{}
			for _, piece := range formatPieces(string(x)) {
				d.pieces[strings.ToLower(piece)] = struct{}{}
			}
		case ast.Number:
			if v, err := rar.NumberValue(string(x)); err == nil {
				d.addValue(v)
			}
		}
		return false
	})
	for _, m := range modules {
		visitor.Walk(m)
	}
}

// disclosable collects what hints of the compiled bundles may show.
func (c *compilation) disclosable(types *rar.Types) *disclosable {
	d := newDisclosable()
	d.addPolicy(c.modules)
	for _, name := range types.Names() {
		d.addValue(types.Document(name))
	}
	for i := range c.bundles {
		d.all = d.all || c.settings[i].openHints
		for _, path := range c.settings[i].publicData {
			if v, ok := c.bundles[i].Data.Lookup(dataPointer(path)); ok {
				d.addValue(v)
			}
		}
	}
	return d
}

// checkPublicData refuses paths that name nothing: a misspelt one would keep
// hints from clients without a word.
func (c *compilation) checkPublicData() {
	for i := range c.bundles {
		for _, path := range c.settings[i].publicData {
			if _, ok := c.bundles[i].Data.Lookup(dataPointer(path)); !ok {
				c.fault(CodeBundleMetadata, c.bundles[i].Name+"/.manifest", "metadata.authzd.public_data: the bundle has no data at %q", path)
			}
		}
	}
}

// dataPointer makes a JSON Pointer of a path as manifests write it, "a/b".
func dataPointer(path string) string {
	return "/" + strings.ReplaceAll(strings.Trim(path, "/"), "~", "~0")
}

// formatPieces splits a text at %-verbs; a text without any is one piece.
func formatPieces(s string) []string {
	var out []string
	for s != "" {
		i := strings.IndexByte(s, '%')
		if i < 0 || i+1 == len(s) {
			return append(out, s)
		}
		if i > 0 {
			out = append(out, s[:i])
		}
		verb := i + 1
		for verb < len(s)-1 && strings.IndexByte("0123456789+-# .", s[verb]) >= 0 {
			verb++
		}
		s = s[verb+1:]
	}
	return out
}

// hintFault tells which value of a hint a caller may not be shown; "" if it may
// see all. The path is a JSON Pointer into the object.
func (d *deciding) hintFault(v rar.Value) string {
	known := d.snapshot.disclosable
	if known.all {
		return ""
	}
	call := d.callValues()
	return call.undisclosed(known, v, "")
}

// callValues are what the caller has shown of itself and of its call.
func (d *deciding) callValues() *callValues {
	c := &callValues{own: newDisclosable()}
	in := &d.in
	if in.query.MCP != nil {
		if args, ok := in.params.Get("arguments"); ok {
			c.own.addValue(args)
			for i := range args.Len() {
				c.addPiece(args.Member(i).Value)
			}
		}
		for _, name := range []string{"name", "uri"} {
			p, _ := in.params.Get(name)
			c.own.addValue(p)
			c.addPiece(p)
		}
		c.own.addValue(in.query.MCP.Tool) // the client has it from tools/list
	}
	for _, s := range []string{
		in.query.audience(), in.query.Resource.ID, in.query.Resource.Type, in.query.Action.Name,
		in.subject.ID, in.subject.Issuer, in.agent,
	} {
		if s != "" {
			c.own.addValue(rar.StringValue(s))
			c.addPiece(rar.StringValue(s))
		}
	}
	return c
}

// callValues are texts and numbers of one call.
type callValues struct {
	own *disclosable
	// pieces may be parts of a composed value, each of them once. They are few:
	// from many small ones a caller could compose what it does not know.
	pieces []string
}

const (
	// maxPieces bounds how many values of the call one composed value may have.
	maxPieces = 4
	// maxCandidates bounds the values of the call that may be pieces.
	maxCandidates = 64
)

func (c *callValues) addPiece(v rar.Value) {
	if s := v.Text(); s != "" && len(c.pieces) < maxCandidates {
		c.pieces = append(c.pieces, strings.ToLower(s))
	}
}

// undisclosed returns the place of the first value that is not known.
func (c *callValues) undisclosed(known *disclosable, v rar.Value, at string) string {
	switch v.Kind() {
	case rar.String:
		if !c.knowsText(known, v.Text()) {
			return at
		}
	case rar.Number:
		canonical := string(v.AppendCanonical(nil))
		if !has(known.numbers, canonical) && !has(c.own.numbers, canonical) && !c.knowsText(known, canonical) {
			return at
		}
	case rar.Array:
		for i := range v.Len() {
			if place := c.undisclosed(known, v.Index(i), fmt.Sprintf("%s/%d", at, i)); place != "" {
				return place
			}
		}
	case rar.Object:
		for i := range v.Len() {
			m := v.Member(i)
			if place := c.undisclosed(known, m.Value, at+"/"+escapeToken(m.Name)); place != "" {
				return place
			}
		}
	case rar.Absent, rar.Null, rar.Bool:
	}
	return ""
}

func has(set map[string]struct{}, s string) bool { _, ok := set[s]; return ok }

func escapeToken(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}

// knowsText: a text of the call or of policy, a number of theirs written out, or
// a text composed of both.
func (c *callValues) knowsText(known *disclosable, s string) bool {
	folded := fold(s)
	if folded == "" || has(known.texts, folded) || has(c.own.texts, folded) {
		return true
	}
	if n, err := rar.NumberValue(s); err == nil {
		canonical := string(n.AppendCanonical(nil))
		if has(known.numbers, canonical) || has(c.own.numbers, canonical) {
			return true
		}
	}
	return len(s) <= maxComposed && c.composed(known, strings.ToLower(s), nil, 0)
}

// maxComposed bounds the texts that are taken apart.
const maxComposed = 1024

// composed reports whether s is a row of pieces: values of the call, at most four
// and each once, and before, between and behind them at most three pieces of
// policy (a separator, a word, a separator), so that policy's single letters do
// not spell everything.
func (c *callValues) composed(known *disclosable, s string, used []int, policy int) bool {
	if s == "" {
		return len(used) > 0
	}
	for i, piece := range c.pieces {
		if len(used) < maxPieces && !slices.Contains(used, i) && strings.HasPrefix(s, piece) &&
			c.composed(known, s[len(piece):], append(used[:len(used):len(used)], i), 0) {
			return true
		}
	}
	if policy == 3 {
		return false
	}
	for end := 1; end <= len(s); end++ {
		if has(known.pieces, s[:end]) && c.composed(known, s[end:], used, policy+1) {
			return true
		}
	}
	return false
}
