package rar

import (
	"slices"
	"strings"
)

// This file reads the text of packed values, which is known to be JSON.

// skipString returns the end of the string at i.
func skipString(text string, i int) int {
	for i++; ; i++ {
		switch text[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
}

// skipValue returns the end of the value at i.
func skipValue(text string, i int) int {
	switch text[i] {
	case '"':
		return skipString(text, i)
	case '{', '[':
	default:
		for i < len(text) && strings.IndexByte(",]} \t\r\n", text[i]) < 0 {
			i++
		}
		return i
	}
	for depth := 0; ; i++ {
		switch text[i] {
		case '"':
			i = skipString(text, i) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
}

func skipSpace(text string, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\n' || text[i] == '\t' || text[i] == '\r') {
		i++
	}
	return i
}

// memberAt returns the place of the value of the member with the name in the object at
// i, -1 if there is none.
func memberAt(text string, i int, name string) int {
	for i = skipSpace(text, i+1); text[i] != '}'; {
		at := i
		i = skipString(text, i)
		found := text[at+1:i-1] == name
		if strings.IndexByte(text[at:i], '\\') >= 0 { // not what it looks like
			got, _ := nameAt(text, at)
			found = got == name
		}
		i = skipSpace(text, skipSpace(text, i)+1)
		if found {
			return i
		}
		i = skipSpace(text, skipValue(text, i))
		if text[i] == ',' {
			i = skipSpace(text, i+1)
		}
	}
	return -1
}

// start is the place of the value of child n, as place says it.
func (c *packed) start(kind Kind, n int) (string, int) {
	text, i := c.place(n)
	if kind == Array {
		return text, i
	}
	return text, skipSpace(text, skipSpace(text, skipString(text, i))+1)
}

// ChildText returns the text of the value of child i of a packed Array or Object,
// which is JSON; "" if there is none, or v is not packed.
func (v Value) ChildText(i int) string {
	c := v.packed()
	if c == nil || i < 0 || i >= len(c.at) {
		return ""
	}
	if child, ok := c.detached(i); ok {
		return string(child.AppendJSON(nil))
	}
	text, start := c.start(v.kind, i)
	return text[start:skipValue(text, start)]
}

// ChildAt returns what stands below child i of an Array or Object, at the names of
// members one below the other; false if there is nothing. Of a packed one it makes no
// more than that.
func (v Value) ChildAt(i int, names ...string) (Value, bool) {
	c := v.packed()
	if c == nil || i < 0 || i >= len(c.at) {
		child := v.Index(i)
		if v.kind == Object {
			child = v.Member(i).Value
		}
		return child.below(names)
	}
	if child, ok := c.largeChild(i); ok { // its own index, and not its text, is looked at
		return child.below(names)
	}
	text, at := c.start(v.kind, i)
	for _, name := range names {
		if text[at] != '{' {
			return Value{}, false
		}
		if at = memberAt(text, at, name); at < 0 {
			return Value{}, false
		}
	}
	child, err := decodeAt(text, at)
	return child, err == nil
}

// below goes down by the names of members.
func (v Value) below(names []string) (Value, bool) {
	for _, name := range names {
		v, _ = v.Get(name)
	}
	return v, v.kind != Absent
}

// AppendSortedChild appends child i of a packed Array or Object as JSON without white
// space: members sorted by the bytes of their names, numbers letter by letter, strings
// as they are where they hold printable ASCII alone, and else as quote appends them.
func (v Value) AppendSortedChild(dst []byte, i int, quote func(dst []byte, s string) []byte) []byte {
	c := v.packed()
	if c == nil || i < 0 || i >= len(c.at) {
		return dst
	}
	text, start := c.start(v.kind, i)
	if child, ok := c.detached(i); ok {
		text, start = string(child.AppendJSON(nil)), 0
	}
	w := sortedWriter{text: text, quote: quote}
	dst, _ = w.value(dst, start)
	return dst
}

// sortedWriter rewrites text that is known to be JSON.
type sortedWriter struct {
	text  string
	quote func(dst []byte, s string) []byte
	// members are those of the objects that are open.
	members []textMember
}

type textMember struct {
	name string
	// quoted and at are the places of name and value.
	quoted, at int
}

// plainString tells strings that are written as they are: raw is between the quotes.
func plainString(raw string) bool {
	for i := range len(raw) {
		if c := raw[i]; c < 0x20 || c >= 0x7f || c == '\\' {
			return false
		}
	}
	return true
}

// value appends the value at i and returns where it ends.
func (w *sortedWriter) value(dst []byte, i int) ([]byte, int) {
	switch w.text[i] {
	case '"':
		end := skipString(w.text, i)
		if plainString(w.text[i+1 : end-1]) {
			return append(dst, w.text[i:end]...), end
		}
		s, _ := nameAt(w.text, i)
		return w.quote(dst, s), end
	case '{':
		return w.object(dst, i)
	case '[':
		dst = append(dst, '[')
		for i = skipSpace(w.text, i+1); w.text[i] != ']'; {
			dst, i = w.value(dst, i)
			if i = skipSpace(w.text, i); w.text[i] == ',' {
				dst, i = append(dst, ','), skipSpace(w.text, i+1)
			}
		}
		return append(dst, ']'), i + 1
	}
	end := skipValue(w.text, i)
	return append(dst, w.text[i:end]...), end
}

func (w *sortedWriter) object(dst []byte, i int) ([]byte, int) {
	base := len(w.members)
	for i = skipSpace(w.text, i+1); w.text[i] != '}'; {
		m := textMember{quoted: i}
		m.name, i = nameAt(w.text, i)
		m.at = skipSpace(w.text, skipSpace(w.text, i)+1)
		w.members = append(w.members, m)
		if i = skipSpace(w.text, skipValue(w.text, m.at)); w.text[i] == ',' {
			i = skipSpace(w.text, i+1)
		}
	}
	slices.SortFunc(w.members[base:], func(a, b textMember) int { return strings.Compare(a.name, b.name) })
	dst = append(dst, '{')
	for n := base; n < len(w.members); n++ {
		m := w.members[n] // what is below appends to them
		if n > base {
			dst = append(dst, ',')
		}
		dst, _ = w.value(dst, m.quoted)
		dst, _ = w.value(append(dst, ':'), m.at)
	}
	w.members = w.members[:base]
	return append(dst, '}'), i + 1
}
