package rar

import (
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// This file reads the tokens of the decoder: strings, numbers, member names.

// text reads the string that starts at pos. Without escapes it is a view of the
// source. The source is known to be UTF-8.
func (d *decoder) text() (string, error) {
	start := d.pos + 1
	for i := start; i < len(d.src); i++ {
		switch c := d.src[i]; {
		case c == '"':
			d.pos = i + 1
			return d.src[start:i], nil
		case c == '\\':
			return d.escapedText(start, i)
		case c < 0x20:
			d.pos = i
			return "", d.fail(CodeSyntax, "a control character in a string")
		}
	}
	d.pos = len(d.src)
	return "", d.fail(CodeSyntax, "the text ends inside a string")
}

// escapedText goes on from the first backslash of a string, at i.
func (d *decoder) escapedText(start, i int) (string, error) {
	var b strings.Builder
	for d.pos = i; d.pos < len(d.src); {
		switch c := d.src[d.pos]; {
		case c == '"':
			b.WriteString(d.src[start:d.pos])
			d.pos++
			return b.String(), nil
		case c == '\\':
			b.WriteString(d.src[start:d.pos])
			r, err := d.escape()
			if err != nil {
				return "", err
			}
			b.WriteRune(r)
			start = d.pos
		case c < 0x20:
			return "", d.fail(CodeSyntax, "a control character in a string")
		default:
			d.pos++
		}
	}
	return "", d.fail(CodeSyntax, "the text ends inside a string")
}

// escape reads one escape, both halves of a surrogate pair included.
func (d *decoder) escape() (rune, error) {
	if d.pos+1 >= len(d.src) {
		return 0, d.fail(CodeSyntax, "the text ends inside a string")
	}
	c := d.src[d.pos+1]
	if c == 'u' {
		return d.unicodeEscape()
	}
	r := letterEscape(c)
	if r == 0 {
		return 0, d.fail(CodeSyntax, "not an escape of JSON")
	}
	d.pos += 2
	return r, nil
}

// letterEscape is the table of one-letter escapes; 0 for none.
func letterEscape(c byte) rune {
	switch c {
	case '"', '\\', '/':
		return rune(c)
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return 0
}

func (d *decoder) unicodeEscape() (rune, error) {
	r := d.hex4(d.pos)
	if r < 0 {
		return 0, d.fail(CodeSyntax, "not four hexadecimal digits")
	}
	if !utf16.IsSurrogate(r) {
		d.pos += 6
		return r, nil
	}
	// A lone half is no character. A decoder that replaced it would compare
	// another string than the resource server does.
	pair := utf16.DecodeRune(r, d.hex4(d.pos+6))
	if pair == utf8.RuneError {
		return 0, d.fail(CodeSyntax, "half of a surrogate pair")
	}
	d.pos += 12
	return pair, nil
}

// hex4 reads \uXXXX at i; -1 if it is not there.
func (d *decoder) hex4(i int) rune {
	if i+6 > len(d.src) || d.src[i] != '\\' || d.src[i+1] != 'u' {
		return -1
	}
	var r rune
	for _, c := range []byte(d.src[i+2 : i+6]) {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// number reads the number at pos by the grammar of RFC 8259 §6.
func (d *decoder) number() (string, error) {
	start := d.pos
	if d.peek('-') {
		d.pos++
	}
	whole := d.run()
	if whole == 0 || (whole > 1 && d.src[d.pos-whole] == '0') {
		return "", d.fail(CodeSyntax, "not a JSON number")
	}
	if d.peek('.') {
		d.pos++
		if d.run() == 0 {
			return "", d.fail(CodeSyntax, "no digit after the decimal point")
		}
	}
	if d.peek('e') || d.peek('E') {
		d.pos++
		if err := d.exponent(); err != nil {
			return "", err
		}
	}
	return d.src[start:d.pos], nil
}

// exponent reads the part after e and refuses what no one can mean.
func (d *decoder) exponent() error {
	from := d.pos
	if d.peek('+') || d.peek('-') {
		d.pos++
	}
	if d.run() == 0 {
		return d.fail(CodeSyntax, "no digit in the exponent")
	}
	digits := strings.TrimLeft(strings.TrimLeft(d.src[from:d.pos], "+-"), "0")
	if n := parseExponent(digits); len(digits) > maxExponentDigits || n > d.limits.MaxExponent {
		return d.fail(CodeNumberOutOfRange, "the exponent is out of range")
	}
	return nil
}

// run skips digits and returns how many there were.
func (d *decoder) run() int {
	start := d.pos
	for d.pos < len(d.src) && d.src[d.pos] >= '0' && d.src[d.pos] <= '9' {
		d.pos++
	}
	return d.pos - start
}

// nameSet finds repeated member names of one object: by scanning while there
// are few, by hashing from then on, so that no object costs quadratic time.
type nameSet struct {
	exact  map[string]struct{}
	folded map[string]struct{}
}

// add notes name; kids are the names and values that the object has so far. It
// returns the code of the fault, "" for a new name.
func (s *nameSet) add(kids []Value, name string, fold bool) Code {
	if len(kids) <= 2*fewMembers {
		return scanNames(kids, name, fold)
	}
	if s.exact == nil {
		s.fill(kids, fold)
	}
	if _, ok := s.exact[name]; ok {
		return CodeDuplicateKey
	}
	s.exact[name] = struct{}{}
	if !fold {
		return ""
	}
	key := foldName(name)
	if _, ok := s.folded[key]; ok {
		return CodeCaseVariantKey
	}
	s.folded[key] = struct{}{}
	return ""
}

// fill takes the names that were only scanned so far into the maps.
func (s *nameSet) fill(kids []Value, fold bool) {
	s.exact = make(map[string]struct{}, len(kids))
	if fold {
		s.folded = make(map[string]struct{}, len(kids))
	}
	for i := 0; i < len(kids); i += 2 {
		s.exact[kids[i].str()] = struct{}{}
		if fold {
			s.folded[foldName(kids[i].str())] = struct{}{}
		}
	}
}

func scanNames(kids []Value, name string, fold bool) Code {
	variant := false
	for i := 0; i < len(kids); i += 2 {
		if kids[i].str() == name {
			return CodeDuplicateKey
		}
		variant = variant || (fold && strings.EqualFold(kids[i].str(), name))
	}
	if variant {
		return CodeCaseVariantKey
	}
	return ""
}

// foldName returns one representative of all names that strings.EqualFold holds
// equal. Lower-case ASCII, the usual case, represents itself and costs nothing.
func foldName(name string) string {
	return strings.Map(foldRune, name)
}

func foldRune(r rune) rune {
	if r >= 'a' && r <= 'z' {
		return r
	}
	least := r
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		if f >= 'a' && f <= 'z' {
			return f // K, k and the Kelvin sign are one.
		}
		least = min(least, f)
	}
	return least
}
