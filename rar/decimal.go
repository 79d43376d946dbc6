package rar

import "strings"

// decimal is an exact decimal number of any length, read in place: its value is
// 0.D × 10^point, D being the digits of a followed by those of b, without zeros
// at either end. Zero has no digits, so -0 is 0.
//
// It never turns an exponent into digits unless asked to print, so comparing
// 1e400 to 1 costs what their literals cost.
type decimal struct {
	neg   bool
	a, b  string
	point int
}

// parseDecimal reads a literal that is a JSON number; the caller has checked it.
func parseDecimal(literal string) decimal {
	var d decimal
	if strings.HasPrefix(literal, "-") {
		d.neg, literal = true, literal[1:]
	}
	exponent := 0
	if i := strings.IndexAny(literal, "eE"); i >= 0 {
		exponent, literal = parseExponent(literal[i+1:]), literal[:i]
	}
	d.a, d.b, _ = strings.Cut(literal, ".")
	d.point = len(d.a) + exponent
	return d.trimmed()
}

// trimmed drops zeros at both ends and restores the one form of zero.
func (d decimal) trimmed() decimal {
	before := len(d.a)
	d.a = strings.TrimLeft(d.a, "0")
	d.point -= before - len(d.a)
	if d.a == "" {
		before = len(d.b)
		d.b = strings.TrimLeft(d.b, "0")
		d.point -= before - len(d.b)
	}
	d.b = strings.TrimRight(d.b, "0")
	if d.b == "" {
		d.a = strings.TrimRight(d.a, "0")
	}
	if d.zero() {
		return decimal{}
	}
	return d
}

// maxExponentDigits bounds what any Limits can admit, so that exponents fit an
// int and printing one number can not exhaust memory.
const maxExponentDigits = 6

// parseExponent reads the part after e or E. A longer exponent than the decoder
// can admit saturates; it can not occur in a Value.
func parseExponent(s string) int {
	neg := strings.HasPrefix(s, "-")
	s = strings.TrimLeft(strings.TrimLeft(s, "+-"), "0")
	if len(s) > maxExponentDigits {
		s = "9999999"
	}
	n := 0
	for _, c := range []byte(s) {
		n = 10*n + int(c-'0')
	}
	if neg {
		return -n
	}
	return n
}

func (d decimal) digits() int { return len(d.a) + len(d.b) }

func (d decimal) zero() bool { return d.a == "" && d.b == "" }

func (d decimal) digit(i int) byte {
	if i < len(d.a) {
		return d.a[i]
	}
	return d.b[i-len(d.a)]
}

// compareDecimals returns -1, 0 or 1 as x is below, equal to or above y.
func compareDecimals(x, y decimal) int {
	switch {
	case x.sign() != y.sign():
		if x.sign() < y.sign() {
			return -1
		}
		return 1
	case x.neg:
		return compareMagnitudes(y, x)
	default:
		return compareMagnitudes(x, y)
	}
}

func (d decimal) sign() int {
	switch {
	case d.zero():
		return 0
	case d.neg:
		return -1
	default:
		return 1
	}
}

func compareMagnitudes(x, y decimal) int {
	if x.point != y.point {
		if x.point < y.point {
			return -1
		}
		return 1
	}
	n, m := x.digits(), y.digits()
	for i := 0; i < n && i < m; i++ {
		if p, q := x.digit(i), y.digit(i); p != q {
			if p < q {
				return -1
			}
			return 1
		}
	}
	switch { // No trailing zeros: the longer one is the larger one.
	case n < m:
		return -1
	case n > m:
		return 1
	default:
		return 0
	}
}

// appendTo appends the canonical spelling: no exponent, no zeros that say nothing.
func (d decimal) appendTo(dst []byte) []byte {
	if d.zero() {
		return append(dst, '0')
	}
	if d.neg {
		dst = append(dst, '-')
	}
	if d.point <= 0 {
		dst = append(dst, "0."...)
		for i := d.point; i < 0; i++ {
			dst = append(dst, '0')
		}
		return append(append(dst, d.a...), d.b...)
	}
	n := d.digits()
	for i := range max(n, d.point) {
		if i == d.point {
			dst = append(dst, '.')
		}
		if i < n {
			dst = append(dst, d.digit(i))
		} else {
			dst = append(dst, '0')
		}
	}
	return dst
}

// isDecimalText reports whether s is -?(0|[1-9][0-9]*)(\.[0-9]+)?, the form of
// amounts that are strings. It is a JSON number without exponent.
func isDecimalText(s string) bool {
	s = strings.TrimPrefix(s, "-")
	whole, fraction, dotted := strings.Cut(s, ".")
	if !allDigits(whole) || (len(whole) > 1 && whole[0] == '0') {
		return false
	}
	return !dotted || allDigits(fraction)
}

// allDigits reports whether s is one or more of 0 to 9.
func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
