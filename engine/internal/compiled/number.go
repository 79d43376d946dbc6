package compiled

import (
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"
)

// setNumber reads the text of a number. What is an integer is OPA's own notion
// ("1.0" is one).
func (n *node) setNumber(text string) {
	n.k, n.s = kNum, text
	n.i, n.isInt = util.Atoi64(text)
	n.plain = n.isInt && plainInteger(text)
}

// plainInteger tells whether text is how an integer is usually written.
func plainInteger(text string) bool {
	digits := text
	if digits != "" && digits[0] == '-' {
		digits = digits[1:]
	}
	if digits == "" || len(digits) > 18 || digits[0] == '0' && len(text) > 1 {
		return false
	}
	for i := range len(digits) {
		if digits[i] < '0' || digits[i] > '9' {
			return false
		}
	}
	return true
}

// maxDigits is how many significant digits a double surely keeps.
const maxDigits = 15

// usual tells whether a number is written the one usual way, so that two equal
// numbers are one text: an integer of 64 bits, or a plain decimal of few digits
// that does not end in 0. 1.0, 1e3 or 1e400 are not. Which of two equal texts OPA
// keeps (in sets, as keys, in the results of calls) depends on the order of the
// evaluation, and beyond the doubles equal numbers need not even find each other.
func usual(text string) bool {
	digits := strings.TrimPrefix(text, "-")
	whole, fraction, decimal := strings.Cut(digits, ".")
	if whole == "" || whole[0] == '0' && len(whole) > 1 || text == "-0" {
		return false
	}
	for _, part := range []string{whole, fraction} {
		for i := range len(part) {
			if part[i] < '0' || part[i] > '9' {
				return false
			}
		}
	}
	if !decimal {
		_, err := strconv.ParseInt(text, 10, 64)
		return err == nil
	}
	if whole == "0" {
		whole = ""
	}
	return fraction != "" && fraction[len(fraction)-1] != '0' && len(whole)+len(fraction) <= maxDigits
}

// firm notes that a value goes where its text may matter: into a composite, to a
// function, or to a builtin that does not just compare. Values in composites are
// firm.
func (m *machine) firm(n *node) {
	if n != nil && n.loose {
		m.arena.odd = true
	}
}

func (n *node) numText() string {
	if n.s == "" {
		return strconv.FormatInt(n.i, 10)
	}
	return n.s
}

// fixed reads a plain decimal of at most 15 digits as an integer and a scale, so
// that the usual comparison of amounts needs no big numbers.
func fixed(s string) (value int64, scale int, ok bool) {
	i := 0
	neg := s != "" && s[0] == '-'
	if neg {
		i = 1
	}
	digits, point := 0, -1
	for ; i < len(s); i++ {
		if s[i] == '.' && point < 0 {
			point = i
			continue
		}
		c := s[i] - '0'
		if c > 9 {
			return 0, 0, false
		}
		value = value*10 + int64(c)
		if digits++; digits > 15 {
			return 0, 0, false
		}
	}
	if digits == 0 {
		return 0, 0, false
	}
	if point >= 0 {
		scale = len(s) - 1 - point
	}
	if neg {
		value = -value
	}
	return value, scale, true
}

// maxScale is how many decimals are compared as integers, with values below
// fixedLimit, so that nothing overflows.
const (
	maxScale   = 6
	fixedLimit = 1_000_000_000_000
)

func pow10(n int) int64 {
	p := int64(1)
	for range n {
		p *= 10
	}
	return p
}

func compareNumbers(a, b *node) int {
	if a.isInt && b.isInt {
		return compareInts(a.i, b.i)
	}
	as, bs := a.numText(), b.numText()
	if as == bs {
		return 0
	}
	x, xs, okX := fixed(as)
	y, ys, okY := fixed(bs)
	if okX && okY && xs <= maxScale && ys <= maxScale && inFixed(x) && inFixed(y) {
		return compareInts(x*pow10(ys), y*pow10(xs))
	}
	return ast.NumberCompare(ast.Number(as), ast.Number(bs))
}

func inFixed(x int64) bool { return x < fixedLimit && x > -fixedLimit }

func compareInts(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
