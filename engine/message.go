package engine

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/authzd/authzd/rar"
)

const (
	maxPlace   = 200
	maxMessage = 1000
	noPlace    = "–"
)

// fillMessage fills the places {/json/pointer} of a forbid's message after the
// decision, so that a message can never undefine its rule. A message for the
// client may show the call's own arguments, action and resource; one for the
// admin anything but credentials. Anything else prints as –.
func fillMessage(text string, in *input, admin bool) string {
	var b strings.Builder
	for text != "" && b.Len() < maxMessage {
		open := strings.Index(text, "{/")
		if open < 0 {
			b.WriteString(text)
			break
		}
		end := strings.IndexByte(text[open:], '}')
		if end < 0 {
			b.WriteString(text)
			break
		}
		b.WriteString(text[:open])
		b.WriteString(place(text[open+1:open+end], in, admin))
		text = text[open+end+1:]
	}
	return clip(b.String(), maxMessage)
}

func place(pointer string, in *input, admin bool) string {
	root, rest := pointer, ""
	if i := strings.IndexByte(pointer[1:], '/'); i >= 0 {
		root, rest = pointer[:i+1], pointer[i+1:]
	}
	var v rar.Value
	var ok bool
	q := in.query
	// A declared mapping may have put claims there that the client can not read.
	open := admin || in.coaz == nil
	switch {
	case root == "/action" && open:
		v, ok = entityPlace(rest, map[string]string{"/name": q.Action.Name}, q.Action.Properties)
	case root == "/resource" && open:
		v, ok = entityPlace(rest, map[string]string{"/type": q.Resource.Type, "/id": q.Resource.ID}, q.Resource.Properties)
	case root == "/mcp" && q.MCP != nil && (admin && strings.HasPrefix(rest, "/params/") || strings.HasPrefix(rest, "/params/arguments/")):
		v, ok = in.params.Lookup(strings.TrimPrefix(rest, "/params"))
	case root == "/subject" && admin:
		v, ok = entityPlace(rest, map[string]string{"/type": in.subject.Type, "/id": in.subject.ID}, in.subject.Properties)
	case root == "/context" && admin:
		v, ok = q.Context.Lookup(rest)
	case root == "/tenant" && admin:
		v, ok = rar.StringValue(q.tenant()), rest == ""
	}
	if !ok {
		return noPlace
	}
	return printable(v)
}

func entityPlace(rest string, texts map[string]string, properties rar.Value) (rar.Value, bool) {
	if s, ok := texts[rest]; ok {
		return rar.StringValue(s), true
	}
	if below, ok := strings.CutPrefix(rest, "/properties/"); ok {
		return properties.Lookup("/" + below)
	}
	return rar.Value{}, false
}

// printablePath makes a JSON Pointer fit for a text: names in it are the
// caller's.
func printablePath(p string) string { return clip(withoutControls(p), maxPlace) }

// printable shows a value without control characters, which could forge lines
// in a log or a terminal.
func printable(v rar.Value) string {
	text := v.Text()
	if v.Kind() != rar.String {
		text = string(v.AppendJSON(nil))
	}
	if text = withoutControls(text); text == "" {
		return noPlace
	}
	return clip(text, maxPlace)
}

func withoutControls(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, s)
}

// clip cuts at a rune border.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit] + "…"
}
