package engine

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
)

// maxShape bounds the text of a shape.
const maxShape = 16 << 10

// shapeOf is a document without what it says: names of members stay, a string
// becomes its length, a number its sign and digits. It is what a log may have of
// a query.
func shapeOf(v ast.Value) string {
	var b strings.Builder
	writeShape(&b, v)
	return clip(b.String(), maxShape)
}

func writeShape(b *strings.Builder, v ast.Value) {
	if b.Len() > maxShape {
		return
	}
	switch x := v.(type) {
	case ast.String:
		b.WriteString("string(" + strconv.Itoa(utf8.RuneCountInString(string(x))) + ")")
	case ast.Number:
		b.WriteString(strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' {
				return '9'
			}
			return r
		}, string(x)))
	case *ast.Array:
		b.WriteByte('[')
		for i := range x.Len() {
			if i > 0 {
				b.WriteByte(',')
			}
			writeShape(b, x.Elem(i).Value)
		}
		b.WriteByte(']')
	case ast.Object:
		b.WriteByte('{')
		for i, k := range x.Keys() {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(k.String() + ":")
			writeShape(b, x.Get(k).Value)
		}
		b.WriteByte('}')
	default: // null, true, false
		b.WriteString(v.String())
	}
}
