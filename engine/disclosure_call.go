package engine

import (
	"fmt"
	"strings"

	"github.com/authzd/authzd/rar"
)

const (
	// maxCallValues bounds the texts and numbers of one call that count as known:
	// each is a guess that the caller can make.
	maxCallValues = 256
	// maxCandidates and minPiece bound the values of the call that may be parts of
	// composed values, maxPieces how many of them one value may have, and
	// maxPolicyPieces how many pieces of policy may stand between two of them (a
	// separator, a word, a separator). From many small parts a caller could
	// compose what it does not know.
	maxCandidates   = 16
	minPiece        = 3
	maxPieces       = 4
	maxPolicyPieces = 3
	// maxComposed bounds the texts that are taken apart, maxDisclosureWork the
	// steps of all that in one decision.
	maxComposed       = 4096
	maxDisclosureWork = 1 << 18
)

// callValues are what the caller has shown of itself and of its call.
type callValues struct {
	known *disclosable // of the snapshot
	own   *disclosable
	// pieces may be parts of a composed value.
	pieces []string
	// left counts what may still be taken in, work the steps that are left. With
	// none left nothing more is known.
	left, work int
}

// callValues collects them: arguments first, then who asks for what and where.
func (d *deciding) callValues() *callValues {
	c := &callValues{known: d.snapshot.disclosable, own: newDisclosable(), left: maxCallValues, work: maxDisclosureWork}
	in := &d.in
	own := []string{in.query.audience()}
	// A declared mapping may have put claims there that the client can not read.
	if in.coaz == nil {
		own = append(own, in.query.Resource.ID, in.query.Resource.Type, in.query.Action.Name)
	}
	if in.coaz == nil || in.coaz.subjectVerified {
		own = append(own, in.subject.ID, in.subject.Issuer)
	}
	for _, s := range append(own, in.agent) {
		c.add(rar.StringValue(s), true)
	}
	if in.query.MCP != nil {
		for _, name := range []string{"name", "uri", "arguments"} {
			v, _ := in.params.Get(name)
			c.add(v, true)
		}
		c.own.addValue(in.query.MCP.Tool) // the client has it from tools/list
	}
	for _, u := range in.usable {
		for _, s := range u.Scopes {
			c.add(rar.StringValue(s), false)
		}
	}
	return c
}

// add takes in v; composable values stand outside arrays, of which a caller can
// send many.
func (c *callValues) add(v rar.Value, composable bool) {
	switch v.Kind() {
	case rar.String:
		c.addText(v.Text(), composable)
	case rar.Number:
		if c.take() {
			c.own.addValue(v)
		}
	case rar.Array:
		for i := 0; i < v.Len() && c.left > 0; i++ {
			c.add(v.Index(i), false)
		}
	case rar.Object:
		for i := 0; i < v.Len() && c.left > 0; i++ {
			c.addText(v.Member(i).Name, false)
			c.add(v.Member(i).Value, composable)
		}
	case rar.Absent, rar.Null, rar.Bool:
	}
}

func (c *callValues) take() bool {
	c.left--
	return c.left >= 0
}

// addText takes in a text and, if it is a path, its segments and folders.
func (c *callValues) addText(s string, composable bool) {
	if s == "" || !c.take() {
		return
	}
	c.own.texts[fold(s)] = struct{}{}
	if lower := strings.ToLower(s); composable && len(lower) >= minPiece && len(c.pieces) < maxCandidates {
		c.pieces = append(c.pieces, lower)
	}
	for i := 0; i < len(s) && c.left > 0; i++ {
		if s[i] != '/' {
			continue
		}
		segment, _, _ := strings.Cut(s[i+1:], "/")
		for _, part := range []string{s[:i], s[:i+1], segment} {
			if part != "" && c.take() {
				c.own.texts[fold(part)] = struct{}{}
			}
		}
	}
}

// undisclosed returns the place of the first value that is not known.
func (c *callValues) undisclosed(v rar.Value, at string) string {
	switch v.Kind() {
	case rar.String:
		if !c.knowsText(v.Text()) {
			return at
		}
	case rar.Number:
		if !c.knowsNumber(v) {
			return at
		}
	case rar.Array:
		for i := range v.Len() {
			if place := c.undisclosed(v.Index(i), fmt.Sprintf("%s/%d", at, i)); place != "" {
				return place
			}
		}
	case rar.Object:
		for i := range v.Len() {
			m := v.Member(i)
			if !c.knowsText(m.Name) {
				return at // the name is not to be told here either
			}
			if place := c.undisclosed(m.Value, at+"/"+escapeToken(m.Name)); place != "" {
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

// knowsNumber: a number, or the text of one, of the call or of policy. Numbers
// are never composed: too few digits would spell too many.
func (c *callValues) knowsNumber(v rar.Value) bool {
	canonical := string(v.AppendCanonical(nil))
	return has(c.known.numbers, canonical) || has(c.own.numbers, canonical) || has(c.known.texts, canonical) || has(c.own.texts, canonical) ||
		has(c.own.texts, fold(v.Text()))
}

// knowsText: a text of the call or of policy, a number of theirs written out, or
// a text composed of both.
func (c *callValues) knowsText(s string) bool {
	c.work -= len(s)
	folded := fold(s)
	if folded == "" || has(c.known.texts, folded) || has(c.own.texts, folded) {
		return true
	}
	if n, err := rar.NumberValue(s); err == nil {
		return c.knowsNumber(n)
	}
	return len(s) <= maxComposed && c.composed(strings.ToLower(s))
}

// composed reports whether s is a row of pieces: one to four values of the call,
// and before, between and behind them at most three pieces of policy each.
func (c *callValues) composed(s string) bool {
	// reached[i] is a set of states in which s[:i] is taken apart: bit p*4+q for p
	// values of the call so far and q pieces of policy since the last one.
	reached := make([]uint32, len(s)+1)
	reached[0] = 1
	const row = maxPolicyPieces + 1
	for i := range len(s) {
		states := reached[i]
		if states == 0 {
			continue
		}
		// After a value of the call: one more value, no piece of policy.
		var next uint32
		for p := range maxPieces {
			if states>>(p*row)&(1<<row-1) != 0 {
				next |= 1 << ((p + 1) * row)
			}
		}
		for _, piece := range c.pieces {
			if c.work--; strings.HasPrefix(s[i:], piece) {
				c.work -= len(piece)
				reached[i+len(piece)] |= next
			}
		}
		// After a piece of policy: the same number of values, one piece more.
		next = 0
		for p := range maxPieces + 1 {
			inRow := states >> (p * row) & (1<<row - 1)
			next |= (inRow << 1 & (1<<row - 1)) << (p * row)
		}
		for n := 1; n <= min(c.known.longest, len(s)-i) && next != 0; n++ {
			if c.work -= n; has(c.known.pieces, s[i:i+n]) {
				reached[i+n] |= next
			}
		}
		if c.work < 0 {
			return false
		}
	}
	return reached[len(s)]>>row != 0 // at least one value of the call
}
