package rar

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"
)

// Kind is the JSON kind of a Value.
type Kind uint8

// The kinds. The zero Value is Absent: no JSON value at all, which is not null.
const (
	Absent Kind = iota
	Null
	Bool
	Number
	String
	Array
	Object
)

// String names the kind as JSON Schema does.
func (k Kind) String() string {
	switch k {
	case Null:
		return "null"
	case Bool:
		return "boolean"
	case Number:
		return "number"
	case String:
		return "string"
	case Array:
		return "array"
	case Object:
		return "object"
	case Absent:
	}
	return "absent"
}

// Value is a JSON value that keeps numbers as they were written and members in
// document order. It is immutable, so it may be shared and copied freely; it
// can not be compared with ==, see Equal.
//
// Strings and number literals are views of the decoded text: a Value that is
// kept for long keeps its whole document alive.
//
// It is two words, because a decision makes and drops hundreds of them.
type Value struct {
	_ [0]func() // not comparable: == would compare places in memory
	// at is the first byte of a String's or Number's text, or the first of an
	// Array's elements or an Object's name, value, name, value, …; nil if size is
	// 0. Of a packed one, see DecodePacked, it is that. textValue, listValue, str, list,
	// packed and as alone look at it.
	at   unsafe.Pointer
	size uint32 // bytes of the text, or Values
	kind Kind
	bool bool // of a Bool; of an Array or Object: it is packed
}

// textValue returns a String or Number. A text of 4 GiB is Absent, and so is
// below a list so long: a size must never be another one. No Limits admit them.
func textValue(kind Kind, text string) Value {
	if uint64(len(text)) > math.MaxUint32 {
		return Value{}
	}
	return Value{at: unsafe.Pointer(unsafe.StringData(text)), size: uint32(len(text)), kind: kind} //nolint:gosec // see Value
}

// listValue returns an Array or Object, which takes the slice over.
func listValue(kind Kind, kids []Value) Value {
	if uint64(len(kids)) > math.MaxUint32 {
		return Value{}
	}
	return Value{at: unsafe.Pointer(unsafe.SliceData(kids)), size: uint32(len(kids)), kind: kind} //nolint:gosec // see Value
}

// str returns the text of a String or Number, else "".
func (v Value) str() string {
	if v.kind != String && v.kind != Number {
		return ""
	}
	return unsafe.String((*byte)(v.at), v.size) //nolint:gosec // see Value
}

// list returns the elements of an Array, or name, value, name, value, … of an
// Object, else nil.
func (v Value) list() []Value {
	if v.kind != Array && v.kind != Object {
		return nil
	}
	if c := v.packed(); c != nil {
		return c.unpacked(v.kind)
	}
	return unsafe.Slice((*Value)(v.at), v.size) //nolint:gosec // see Value
}

// Member is one name with its value in an object.
type Member struct {
	Name  string
	Value Value
}

// NullValue returns JSON null.
func NullValue() Value { return Value{kind: Null} }

// BoolValue returns true or false.
func BoolValue(b bool) Value { return Value{kind: Bool, bool: b} }

// StringValue returns a JSON string. Bytes that are not UTF-8 have no place in
// JSON and become U+FFFD.
func StringValue(s string) Value {
	return textValue(String, strings.ToValidUTF8(s, "\uFFFD"))
}

// NumberValue returns the number that literal spells, kept letter by letter. It
// refuses what RFC 8259 does not admit and what the default Limits refuse.
func NumberValue(literal string) (Value, error) {
	d := decoder{src: literal, limits: Limits{}.withDefaults()}
	if _, err := d.number(); err != nil {
		return Value{}, err
	}
	if d.pos != len(literal) {
		return Value{}, d.fail(CodeSyntax, "not a number")
	}
	return textValue(Number, literal), nil
}

// IntValue returns the number i.
func IntValue(i int64) Value {
	return textValue(Number, strconv.FormatInt(i, 10))
}

// ArrayValue returns an array of the elements.
func ArrayValue(elements ...Value) Value {
	return listValue(Array, slices.Clone(elements))
}

// ObjectValue returns an object of the members, in their order. Of members with
// one name the last stays, in the place of the first.
func ObjectValue(members ...Member) Value {
	kids := make([]Value, 0, 2*len(members))
	var seen map[string]int // in place of scanning, for many members
	if len(members) > fewMembers {
		seen = make(map[string]int, len(members))
	}
	for _, m := range members {
		name := StringValue(m.Name)
		at, ok := find(kids, name.str(), seen)
		if ok {
			kids[at] = m.Value
			continue
		}
		if seen != nil {
			seen[name.str()] = len(kids) + 1
		}
		kids = append(kids, name, m.Value)
	}
	return listValue(Object, kids)
}

// ArrayOf returns an array of n elements.
func ArrayOf(n int, element func(i int) Value) Value {
	kids := make([]Value, n)
	for i := range kids {
		kids[i] = element(i)
	}
	return listValue(Array, kids)
}

// ObjectOf returns an object of n members, in their order, whose names are all
// different: who can not be sure of that takes ObjectValue.
func ObjectOf(n int, member func(i int) (name string, value Value)) Value {
	kids := make([]Value, 2*n)
	for i := range n {
		name, value := member(i)
		kids[2*i], kids[2*i+1] = StringValue(name), value
	}
	return listValue(Object, kids)
}

// Kind returns the JSON kind, Absent for the zero Value.
func (v Value) Kind() Kind { return v.kind }

// Bool reports whether v is JSON true.
func (v Value) Bool() bool { return v.kind == Bool && v.bool }

// Text returns the content of a String, unescaped, or the literal of a Number
// as it was written; "" for every other kind.
func (v Value) Text() string { return v.str() }

// Len returns the number of elements of an Array or members of an Object, else 0.
func (v Value) Len() int {
	switch v.kind {
	case Object:
		return int(v.size) / 2
	case Array:
		return int(v.size)
	case Absent, Null, Bool, Number, String:
	}
	return 0
}

// Index returns element i of an Array; an Absent value if there is none.
func (v Value) Index(i int) Value {
	if v.kind != Array || i < 0 || i >= int(v.size) {
		return Value{}
	}
	if c := v.packed(); c != nil {
		return c.element(i)
	}
	return v.list()[i]
}

// Member returns member i of an Object in document order; the zero Member if
// there is none.
func (v Value) Member(i int) Member {
	if v.kind != Object || i < 0 || i >= int(v.size)/2 {
		return Member{}
	}
	if c := v.packed(); c != nil {
		return c.member(i)
	}
	kids := v.list()
	return Member{Name: kids[2*i].str(), Value: kids[2*i+1]}
}

// Get returns the member of an Object with exactly this name. It scans, which
// suits a few look-ups; walk with Member to see them all.
func (v Value) Get(name string) (Value, bool) {
	if v.kind != Object {
		return Value{}, false
	}
	if c := v.packed(); c != nil {
		n := c.find(name)
		if n < 0 {
			return Value{}, false
		}
		return c.member(n).Value, true
	}
	kids := v.list()
	i, ok := find(kids, name, nil)
	if !ok {
		return Value{}, false
	}
	return kids[i], true
}

// find returns the place of a member's value among an object's kids: by the
// index of its names if there is one, else by scanning.
func find(kids []Value, name string, index map[string]int) (int, bool) {
	if index != nil {
		i, ok := index[name]
		return i, ok
	}
	for i := 0; i < len(kids); i += 2 {
		if kids[i].str() == name {
			return i + 1, true
		}
	}
	return 0, false
}

// Lookup returns the value at a JSON Pointer (RFC 6901); "" is v itself. A
// pointer that is malformed or leads nowhere is false.
func (v Value) Lookup(pointer string) (Value, bool) {
	for pointer != "" {
		if pointer[0] != '/' {
			return Value{}, false
		}
		token := pointer[1:]
		if end := strings.IndexByte(token, '/'); end >= 0 {
			token, pointer = token[:end], token[end:]
		} else {
			pointer = ""
		}
		name, ok := unescapeToken(token)
		if !ok {
			return Value{}, false
		}
		if v, ok = v.step(name); !ok {
			return Value{}, false
		}
	}
	return v, v.kind != Absent
}

// step goes down by one unescaped pointer token.
func (v Value) step(token string) (Value, bool) {
	if v.kind != Array {
		return v.Get(token)
	}
	e := v.Index(elementNumber(token))
	return e, e.kind != Absent
}

// elementNumber reads the index of an element, -1 if token is none. RFC 6901 §4: no
// sign, no leading zero; "-" names no existing element.
func elementNumber(token string) int {
	if token == "" || len(token) > 9 || (token[0] == '0' && len(token) > 1) {
		return -1
	}
	i := 0
	for _, c := range []byte(token) {
		if c < '0' || c > '9' {
			return -1
		}
		i = 10*i + int(c-'0')
	}
	return i
}

// unescapeToken reverses RFC 6901 §3; false for a "~" that escapes nothing.
func unescapeToken(token string) (string, bool) {
	if strings.IndexByte(token, '~') < 0 {
		return token, true
	}
	var b strings.Builder
	for i := 0; i < len(token); i++ {
		c := token[i]
		if c == '~' {
			i++
			switch {
			case i < len(token) && token[i] == '0':
			case i < len(token) && token[i] == '1':
				c = '/'
			default:
				return "", false
			}
		}
		b.WriteByte(c)
	}
	return b.String(), true
}

// appendToken appends "/" and the escaped token to a JSON Pointer.
func appendToken(pointer, token string) string {
	if strings.ContainsAny(token, "~/") {
		token = strings.ReplaceAll(strings.ReplaceAll(token, "~", "~0"), "/", "~1")
	}
	return pointer + "/" + token
}

// AppendJSON appends v as JSON text without white space: members in document
// order, numbers letter by letter, strings with the fewest escapes. An Absent
// value appends nothing.
func (v Value) AppendJSON(dst []byte) []byte {
	if c := v.packed(); c != nil {
		return c.appendJSON(dst, v.kind)
	}
	switch v.kind {
	case Object:
		dst = append(dst, '{')
		kids := v.list()
		for i := 0; i < len(kids); i += 2 {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendQuoted(dst, kids[i].str()), ':')
			dst = kids[i+1].AppendJSON(dst)
		}
		return append(dst, '}')
	case Array:
		dst = append(dst, '[')
		for i, e := range v.list() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = e.AppendJSON(dst)
		}
		return append(dst, ']')
	case Number:
		return append(dst, v.str()...)
	case Absent, Null, Bool, String:
	}
	return v.appendAtom(dst)
}

// AppendCanonical appends the one spelling that all Equal values share: members
// sorted by code point, fewest escapes, numbers exact, without exponent and
// without trailing zeros. This is not RFC 8785, whose doubles merge 2^53 and
// 2^53+1.
func (v Value) AppendCanonical(dst []byte) []byte {
	switch v.kind {
	case Object:
		dst = append(dst, '{')
		kids := v.list()
		for n, i := range v.sortedNames() {
			if n > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendQuoted(dst, kids[i].str()), ':')
			dst = kids[i+1].AppendCanonical(dst)
		}
		return append(dst, '}')
	case Array:
		dst = append(dst, '[')
		for i, e := range v.list() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = e.AppendCanonical(dst)
		}
		return append(dst, ']')
	case Number:
		return parseDecimal(v.str()).appendTo(dst)
	case Absent, Null, Bool, String:
	}
	return v.appendAtom(dst)
}

// appendAtom appends the kinds that have one spelling only.
func (v Value) appendAtom(dst []byte) []byte {
	switch v.kind {
	case String:
		return appendQuoted(dst, v.str())
	case Null:
		return append(dst, "null"...)
	case Bool:
		return strconv.AppendBool(dst, v.bool)
	case Absent, Number, Array, Object:
	}
	return dst
}

// sortedNames returns the places in kids of an object's names, sorted. UTF-8
// sorts bytewise as its code points do.
func (v Value) sortedNames() []int {
	kids := v.list()
	at := make([]int, len(kids)/2)
	for i := range at {
		at[i] = 2 * i
	}
	slices.SortFunc(at, func(a, b int) int { return strings.Compare(kids[a].str(), kids[b].str()) })
	return at
}

// appendQuoted appends s as a JSON string, escaping only what RFC 8259 §7 demands.
func appendQuoted(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, `\b`...)
		case '\f':
			dst = append(dst, `\f`...)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(append(dst, s[start:]...), '"')
}

// Any returns v as nil, bool, json.Number, string, []any or map[string]any. It
// is for JSON Schema libraries only: it allocates for every value.
func (v Value) Any() any {
	switch v.kind {
	case Bool:
		return v.bool
	case Number:
		return json.Number(v.str())
	case String:
		return v.str()
	case Array:
		kids := v.list()
		list := make([]any, len(kids))
		for i, e := range kids {
			list[i] = e.Any()
		}
		return list
	case Object:
		kids := v.list() // once: a packed one is decoded each time
		m := make(map[string]any, len(kids)/2)
		for i := 0; i < len(kids); i += 2 {
			m[kids[i].str()] = kids[i+1].Any()
		}
		return m
	case Absent, Null:
	}
	return nil
}

// Equal is JSON equality: objects without order, arrays in order, numbers by
// exact value, strings by code points without normalisation (RFC 9396 §12). Two
// Absent values are equal.
func Equal(a, b Value) bool {
	if a.kind != b.kind || a.Len() != b.Len() {
		return false
	}
	if a.Packed() || b.Packed() {
		return equalPacked(a, b)
	}
	switch a.kind {
	case Bool:
		return a.bool == b.bool
	case String:
		return a.str() == b.str()
	case Number:
		return a.str() == b.str() || compareDecimals(parseDecimal(a.str()), parseDecimal(b.str())) == 0
	case Array:
		for i := range a.list() {
			if !Equal(a.list()[i], b.list()[i]) {
				return false
			}
		}
		return true
	case Object:
		return equalObjects(a, b)
	case Absent, Null:
	}
	return true
}

// fewMembers is the size up to which scanning beats hashing or sorting.
const fewMembers = 16

// equalObjects compares two objects of equal length without quadratic work.
func equalObjects(a, b Value) bool {
	if len(a.list()) > 2*fewMembers {
		as, bs := a.sortedNames(), b.sortedNames()
		for n := range as {
			i, j := as[n], bs[n]
			if a.list()[i].str() != b.list()[j].str() || !Equal(a.list()[i+1], b.list()[j+1]) {
				return false
			}
		}
		return true
	}
	for i := 0; i < len(a.list()); i += 2 {
		// The same place first: documents of one origin share their order.
		other := b.list()[i+1]
		if b.list()[i].str() != a.list()[i].str() {
			var ok bool
			if other, ok = b.Get(a.list()[i].str()); !ok {
				return false
			}
		}
		if !Equal(a.list()[i+1], other) {
			return false
		}
	}
	return true
}

// validUTF8Prefix returns the length of the longest valid UTF-8 prefix of s.
func validUTF8Prefix(s string) int {
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size <= 1 {
			return i
		}
		i += size
	}
	return len(s)
}
