package engine

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/rar"
)

// disclosable holds the texts and numbers that a hint may show to any client
// because nothing of them needs authorization to read: what the policy's own
// text and the declared types say, and the data that the bundles declare public
// (metadata.authzd.public_data).
//
// Policy can put anything into a requirement, the owner of an account from data
// too, and a hint goes to a caller who is not authorized yet (SEP-2643: hints
// carry nothing that needs authorization to read). So each text, number and
// member name of a hint has to come from the call itself or from here. It is a
// net under policy, not a proof: a caller who guesses a value, and sends it,
// learns that it was right; true and false are always shown.
type disclosable struct {
	texts   map[string]struct{} // folded, see fold
	pieces  map[string]struct{} // of policy's texts, for composed values
	longest int                 // of pieces
	numbers map[string]struct{} // canonical
	// all: the bundle says that its hints may show anything.
	all bool
}

func newDisclosable() *disclosable {
	return &disclosable{texts: map[string]struct{}{}, pieces: map[string]struct{}{}, numbers: map[string]struct{}{}}
}

// fold is how texts compare: policy may trim them and change their case.
func fold(s string) string { return strings.ToLower(strings.TrimSpace(s)) }

// addValue takes in every text, number and member name of v.
func (d *disclosable) addValue(v rar.Value) {
	switch v.Kind() {
	case rar.String:
		d.texts[fold(v.Text())] = struct{}{}
	case rar.Number:
		d.numbers[string(v.AppendCanonical(nil))] = struct{}{}
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

// addPolicy takes in the constants of a module. A format of sprintf is known by
// the pieces between its verbs.
func (d *disclosable) addPolicy(m *ast.Module) {
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case ast.String:
			d.texts[fold(string(x))] = struct{}{}
			for _, piece := range formatPieces(string(x)) {
				d.addPiece(strings.ToLower(piece))
			}
		case ast.Number:
			if v, err := rar.NumberValue(string(x)); err == nil {
				d.addValue(v)
			}
		}
		return false
	}).Walk(m)
}

// addPiece takes in a part of composed values. Single letters and digits would
// spell everything.
func (d *disclosable) addPiece(s string) {
	if len(s) == 1 && (s[0] >= '0' && s[0] <= '9' || s[0] >= 'a' && s[0] <= 'z') {
		return
	}
	d.pieces[s] = struct{}{}
	d.longest = max(d.longest, len(s))
}

// disclosable collects what hints of the compiled bundles may show.
func (c *compilation) disclosable(types *rar.Types) *disclosable {
	d := newDisclosable()
	d.all = c.settings[c.main].openHints
	for path, m := range c.modules {
		if !c.library[path] {
			d.addPolicy(m)
		}
	}
	for _, name := range types.Names() {
		d.addValue(types.Document(name))
	}
	for i := range c.bundles {
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
				c.fault(CodeBundleMetadata, c.bundles[i].Name+"/.manifest", "metadata.authzd.public_data: the bundle has no data at %q (write it without data.)", path)
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

// hidden tells which value of a requirement the caller may not be shown, in
// words; "" if it may see all. Scopes and acr_values are not looked at: they are
// the vocabulary of the authorization server, which publishes them
// (RFC 8414 scopes_supported, acr_values_supported).
func (d *deciding) hidden(r requirement) string {
	det, ok := r.(*details)
	if !ok || d.snapshot.disclosable.all {
		return ""
	}
	if d.known == nil {
		d.known = d.callValues()
	}
	if place := d.known.undisclosed(rar.ArrayValue(det.required...), ""); place != "" {
		return "the value at " + clip(place, maxPlace) + " of the required authorization_details"
	}
	return ""
}
