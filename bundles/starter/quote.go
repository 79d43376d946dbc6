package starter

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// quote writes text as a string literal that Rego, JSON and YAML read alike, in
// ASCII: what looks like a letter and is another is seen in review. The text
// must be UTF-8.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case ' ' <= r && r < 0x7f:
			b.WriteRune(r)
		default:
			b.WriteString(escape(r))
		}
	}
	b.WriteByte('"')
	return b.String()
}

// escape writes a character beyond 16 bits as two surrogates, which is JSON's
// way.
func escape(r rune) string {
	if r <= 0xffff {
		return fmt.Sprintf(`\u%04x`, r)
	}
	r -= 0x10000
	return fmt.Sprintf(`\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
}

// visible escapes in JSON text what does not show, or makes other text show in
// another order. Such characters stand within strings only.
func visible(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if r >= 0x7f && !unicode.IsPrint(r) {
			out = append(out, escape(r)...)
		} else {
			out = append(out, text[:n]...)
		}
		text = text[n:]
	}
	return out
}

const maxLine = 160

// oneLine makes text of foreign origin fit for a comment.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, s)
	return clip(strings.Join(strings.Fields(s), " "))
}

// clip shortens ASCII.
func clip(s string) string {
	if len(s) > maxLine {
		return s[:maxLine] + "..."
	}
	return s
}
