package rar

import (
	"errors"
	"hash/maphash"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"
)

// PackAbove is the length of text, in bytes, from which on DecodePacked keeps
// arrays and objects packed.
const PackAbove = 1 << 20

// packedRow is the length of text up to which a child of a packed container is
// decoded when it is asked for; larger ones are packed themselves.
const packedRow = 4 << 10

// DecodePacked is DecodeText for large documents that are kept for long and read
// here and there. Where the text is longer than PackAbove, large arrays and objects
// are kept as the text itself with an index of 4 bytes an element, or 10 to 16 a member,
// which holds no pointers: what is asked of them is decoded then. Nothing else tells
// the Value from DecodeText's, but that Get of a large object takes the same time
// wherever the member stands, and that a Value decoded for each of two calls is not
// one in memory.
//
// Case variants of names (Limits.RejectCaseVariants) are looked for in short texts
// only.
func DecodePacked(text string, l Limits) (Value, error) { return Packing{}.Decode(text, l) }

// Packing says what is kept as text. Zero fields have their defaults.
type Packing struct {
	// Above is the length of text, in bytes, from which on something is; default
	// PackAbove.
	Above int
	// Row is the length of text of an array or object from which on it is; default
	// 4 KiB.
	Row int
}

// Decode is DecodePacked with other sizes.
func (p Packing) Decode(text string, l Limits) (Value, error) {
	if len(text) <= orDefault(p.Above, PackAbove) {
		return DecodeText(text, l)
	}
	return decodePacked(text, l, orDefault(p.Row, packedRow))
}

func decodePacked(text string, l Limits, row int) (Value, error) {
	l = l.withDefaults()
	if len(text) > l.MaxBytes || len(text) > math.MaxUint32 {
		return Value{}, l.tooLarge(len(text))
	}
	p := packer{decoder: decoder{src: text, limits: l}, row: row}
	if err := p.begin(); err != nil {
		return Value{}, err
	}
	v, kept, err := p.skip()
	if err == nil {
		err = p.end()
	}
	if err == nil && p.duplicate != nil {
		err = p.duplicate.err()
	}
	if err != nil {
		return Value{}, err
	}
	if !kept { // a short value among white space
		return DecodeText(text, l)
	}
	return v, nil
}

// packed is an array or object as text.
type packed struct {
	text string // of the whole document
	// tail is what edits wrote: each child with a comma behind it. See place.
	tail string
	// spare is the memory of tail.
	spare *tailMemory
	// size is about the length of all of it as text, span how much of text is or was
	// its own, and dead how much of that and of tail means nothing any more.
	size, span, dead int
	// end is where it ends in text; 0 once it was edited: the places are in no order.
	end uint32
	// at are the places of the members' names, or of the elements.
	at []uint32
	// index finds members: 1 + their number, by the hash of their name; its length is a
	// power of two.
	index []uint32
	// large are the children that are not decoded anew, and largeAt their numbers. Of one
	// whose place is in tail, the text there is null.
	large   []Value
	largeAt []uint32
}

//nolint:gochecknoglobals // a constant of the process
var packedSeed = maphash.MakeSeed()

// packer finds the places in one pass, without making values.
type packer struct {
	decoder
	row int
	// at holds the places of the containers that are still open, large their children
	// that are kept.
	at    []uint32
	large []numbered
	// first is of the containers that are still open: their first few names, to find
	// those that come twice.
	first []string
	// duplicate is the first of them; its path grows while the recursion unwinds.
	duplicate *nameFault
	scratch   []uint32
}

type numbered struct {
	n uint32
	v Value
}

// begin and end are what a document has around its value.
func (d *decoder) begin() error {
	if len(d.src) >= 3 && d.src[:3] == "\uFEFF" {
		return d.fail(CodeSyntax, "a byte order mark")
	}
	// One check of the whole text frees the scanner of strings from looking at
	// anything but quotes, backslashes and control characters.
	if !utf8.ValidString(d.src) {
		d.pos = validUTF8Prefix(d.src)
		return d.fail(CodeSyntax, "not UTF-8")
	}
	d.space()
	return nil
}

func (d *decoder) end() error {
	d.space()
	if d.pos < len(d.src) {
		return d.fail(CodeTrailingData, "more text after the value")
	}
	return nil
}

// skip reads the value at pos. It is kept where its text is longer than a row.
func (p *packer) skip() (v Value, kept bool, err error) {
	if p.pos >= len(p.src) {
		return Value{}, false, p.fail(CodeSyntax, "the text ends where a value should be")
	}
	start := p.pos
	switch c := p.src[p.pos]; {
	case c == '"':
		s, err := p.text()
		if err != nil || p.pos-start <= p.row {
			return Value{}, false, err
		}
		return textValue(String, s), true, nil
	case c == '{':
		return p.container(Object)
	case c == '[':
		return p.container(Array)
	case c == '-' || (c >= '0' && c <= '9'):
		s, err := p.number()
		if err != nil || p.pos-start <= p.row {
			return Value{}, false, err
		}
		return textValue(Number, s), true, nil
	case p.literal("true"), p.literal("false"), p.literal("null"):
		return Value{}, false, nil
	}
	return Value{}, false, p.fail(CodeSyntax, "not a JSON value")
}

func (p *packer) container(kind Kind) (Value, bool, error) {
	if p.depth >= p.limits.MaxDepth {
		return Value{}, false, p.fail(CodeTooDeep, "more than "+strconv.Itoa(p.limits.MaxDepth)+" levels")
	}
	p.depth++
	start, at, large, first := p.pos, len(p.at), len(p.large), len(p.first)
	p.pos++
	var err error
	if kind == Array {
		err = p.skipElements()
	} else {
		err = p.skipMembers(first)
	}
	if err != nil {
		return Value{}, false, err
	}
	p.depth--
	v, kept := Value{}, p.pos-start > p.row
	places := p.at[at:]
	var index []uint32
	if kind == Object && (kept || len(places) > fewMembers) {
		index = p.indexOf(places, kept)
	}
	if kept {
		v = p.pack(kind, start, places, index, p.large[large:])
	}
	p.at, p.large, p.first = p.at[:at], p.large[:large], p.first[:first]
	return v, kept, nil
}

func (p *packer) pack(kind Kind, start int, places, index []uint32, large []numbered) Value {
	c := &packed{
		text: p.src, size: p.pos - start, span: p.pos - start, end: uint32(p.pos), //nolint:gosec // the text is shorter than 4 GiB
		at: slices.Clone(places), index: index,
	}
	if len(large) > 0 {
		c.large, c.largeAt = make([]Value, len(large)), make([]uint32, len(large))
		for i, l := range large {
			c.large[i], c.largeAt[i] = l.v, l.n
		}
	}
	return c.as(kind)
}

// as is the Value of c, which is not changed from now on.
func (c *packed) as(kind Kind) Value {
	size := len(c.at)
	if kind == Object {
		size *= 2
	}
	return Value{at: unsafe.Pointer(c), size: uint32(size), kind: kind, bool: true} //nolint:gosec // see Value; a child takes two bytes of 4 GiB at least
}

// place is where child n stands: in which text, and where there.
func (c *packed) place(n int) (string, int) {
	i := int(c.at[n])
	if i < len(c.text) {
		return c.text, i
	}
	return c.tail, i - len(c.text)
}

func (p *packer) skipElements() error {
	p.space()
	if p.peek(']') {
		p.pos++
		return nil
	}
	for n := uint32(0); ; n++ {
		p.at = append(p.at, uint32(p.pos)) //nolint:gosec // the text is shorter than 4 GiB
		if err := p.child(n, func() string { return strconv.Itoa(int(n)) }); err != nil {
			return err
		}
		more, err := p.comma(']')
		if !more {
			return err
		}
	}
}

func (p *packer) skipMembers(first int) error {
	p.space()
	if p.peek('}') {
		p.pos++
		return nil
	}
	for n := uint32(0); ; n++ {
		if !p.peek('"') {
			return p.fail(CodeSyntax, "not a member name")
		}
		p.at = append(p.at, uint32(p.pos)) //nolint:gosec // the text is shorter than 4 GiB
		name, err := p.text()
		if err != nil {
			return err
		}
		if n < fewMembers {
			if p.duplicate == nil && slices.Contains(p.first[first:], name) {
				p.duplicate = &nameFault{code: CodeDuplicateKey, path: []string{name}}
			}
			p.first = append(p.first, name)
		}
		p.space()
		if !p.peek(':') {
			return p.fail(CodeSyntax, "no colon after a member name")
		}
		p.pos++
		p.space()
		if err := p.child(n, func() string { return name }); err != nil {
			return err
		}
		more, err := p.comma('}')
		if !more {
			return err
		}
	}
}

// child reads child n of the container at hand.
func (p *packer) child(n uint32, token func() string) error {
	faulty := p.duplicate != nil
	v, kept, err := p.skip()
	if err != nil {
		return below(err, token())
	}
	if kept {
		p.large = append(p.large, numbered{n, v})
	}
	if !faulty && p.duplicate != nil {
		p.duplicate.path = append(p.duplicate.path, token())
	}
	return nil
}

// indexOf makes the index of members, and finds names that come twice. One that is
// not kept is made in memory that is used again.
func (p *packer) indexOf(places []uint32, kept bool) []uint32 {
	size := 4
	for size < len(places)+len(places)/2 {
		size *= 2
	}
	index := p.scratch
	if kept || cap(index) < size {
		index = make([]uint32, size)
		if !kept {
			p.scratch = index
		}
	} else {
		index = index[:size]
		clear(index)
	}
	c := packed{text: p.src, at: places, index: index}
	mask := uint64(size - 1) //nolint:gosec // positive
	for n, at := range places {
		name, _ := nameAt(p.src, int(at))
		h := maphash.String(packedSeed, name) & mask
		for index[h] != 0 {
			if p.duplicate == nil && c.named(int(index[h]-1), name) {
				p.duplicate = &nameFault{code: CodeDuplicateKey, path: []string{name}}
			}
			h = (h + 1) & mask
		}
		index[h] = uint32(n) + 1
	}
	return index
}

// nameAt reads the string at i, which is known to be one, and where it ends.
func nameAt(text string, i int) (string, int) {
	d := decoder{src: text, pos: i}
	s, _ := d.text()
	return s, d.pos
}

// named tells whether member n has the name.
func (c *packed) named(n int, name string) bool {
	text, i := c.place(n)
	i++
	// Most names have no escapes. A backslash in name is one character, and the first of
	// an escape in text.
	if end := i + len(name); end < len(text) && text[i:end] == name && text[end] == '"' && strings.IndexByte(name, '\\') < 0 {
		return true
	}
	got, _ := nameAt(text, i-1)
	return got == name
}

// find returns the number of the member with the name, -1 if there is none.
func (c *packed) find(name string) int {
	if slot := c.slot(name); slot >= 0 {
		return int(c.index[slot]) - 1
	}
	return -1
}

// slot returns the place in index of the member with the name, -1 if there is none.
func (c *packed) slot(name string) int {
	mask := uint64(len(c.index) - 1) //nolint:gosec // never empty
	for h := maphash.String(packedSeed, name) & mask; c.index[h] != 0; h = (h + 1) & mask {
		if c.named(int(c.index[h]-1), name) {
			return int(h) //nolint:gosec // less than the length of a slice
		}
	}
	return -1
}

// name returns the name of member n of an object.
func (c *packed) name(n int) string {
	text, i := c.place(n)
	name, _ := nameAt(text, i)
	return name
}

// member returns member n of an object.
func (c *packed) member(n int) Member { return Member{Name: c.name(n), Value: c.value(Object, n)} }

// element returns element n of an array.
func (c *packed) element(n int) Value { return c.value(Array, n) }

// value returns child n.
func (c *packed) value(kind Kind, n int) Value {
	if v, ok := c.largeChild(n); ok {
		return v
	}
	text, i := c.start(kind, n)
	v, err := decodeAt(text, i)
	if err != nil {
		return Value{} // it has been read once already
	}
	return v
}

// largeChild returns child n if it is among the large ones.
func (c *packed) largeChild(n int) (Value, bool) {
	k := sort.Search(len(c.largeAt), func(k int) bool { return int(c.largeAt[k]) >= n })
	if k < len(c.largeAt) && int(c.largeAt[k]) == n {
		return c.large[k], true
	}
	return Value{}, false
}

// detached returns child n if it has no text here.
func (c *packed) detached(n int) (Value, bool) {
	if int(c.at[n]) < len(c.text) {
		return Value{}, false
	}
	return c.largeChild(n)
}

var errPacked = errors.New("the packed text is not what was packed")

// decodeAt decodes the value at i of a text that was found without fault.
func decodeAt(text string, i int) (Value, error) {
	scratch := takeScratch()
	d := decoder{
		src: text, pos: i, stack: *scratch, expected: 2 * fewMembers, trusted: true,
		limits: Limits{MaxDepth: math.MaxInt, MaxExponent: math.MaxInt},
	}
	err := d.value()
	var v Value
	switch {
	case err == nil && len(d.stack) == 1:
		v = d.stack[0]
	case err == nil:
		err = errPacked
	}
	d.giveScratch(scratch)
	return v, err
}

// packed returns the text form of an Array or Object, nil for every other Value.
func (v Value) packed() *packed {
	if !v.bool || v.kind != Array && v.kind != Object {
		return nil
	}
	return (*packed)(v.at)
}

// Name returns the name of member i of an Object; "" if there is none. Of a packed
// one it spares making the value.
func (v Value) Name(i int) string {
	if c := v.packed(); c != nil && v.kind == Object && i >= 0 && i < len(c.at) {
		return c.name(i)
	}
	return v.Member(i).Name
}

// Packed tells whether v is kept as text, see DecodePacked.
func (v Value) Packed() bool { return v.packed() != nil }

// Find returns the number of the member of an Object with exactly this name, -1 if
// there is none.
func (v Value) Find(name string) int {
	if c := v.packed(); c != nil && v.kind == Object {
		return c.find(name)
	}
	if v.kind != Object {
		return -1
	}
	i, ok := find(v.list(), name, nil)
	if !ok {
		return -1
	}
	return (i - 1) / 2
}

// unpacked are the children, as list returns them.
func (c *packed) unpacked(kind Kind) []Value {
	if kind == Array {
		kids := make([]Value, len(c.at))
		for n := range kids {
			kids[n] = c.element(n)
		}
		return kids
	}
	kids := make([]Value, 0, 2*len(c.at))
	for n := range c.at {
		m := c.member(n)
		kids = append(kids, textValue(String, m.Name), m.Value)
	}
	return kids
}

// appendJSON is Value.AppendJSON.
func (c *packed) appendJSON(dst []byte, kind Kind) []byte {
	open, end := byte('['), byte(']')
	if kind == Object {
		open, end = '{', '}'
	}
	dst = append(dst, open)
	for n := range c.at {
		if n > 0 {
			dst = append(dst, ',')
		}
		if kind == Array {
			dst = c.element(n).AppendJSON(dst)
			continue
		}
		m := c.member(n)
		dst = m.Value.AppendJSON(append(appendQuoted(dst, m.Name), ':'))
	}
	return append(dst, end)
}

// equalPacked compares two arrays or objects of equal length, of which one at least
// is packed.
func equalPacked(a, b Value) bool {
	if a.kind == Array {
		for i := range a.Len() {
			if !Equal(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	}
	if !b.Packed() { // finds members fast
		a, b = b, a
	}
	for i := range a.Len() {
		m := a.Member(i)
		other, ok := b.Get(m.Name)
		if !ok || !Equal(m.Value, other) {
			return false
		}
	}
	return true
}

// TextSize is the length of the text that a packed Value is kept as, in bytes; 0 for
// every other. Of one that was edited it is about that.
func (v Value) TextSize() int {
	if c := v.packed(); c != nil {
		return c.size
	}
	return 0
}

// ChildSize is about the length of the text of child i of a packed Value, in bytes,
// with the name of a member and what separates it from the next; 0 if there is none.
func (v Value) ChildSize(i int) int {
	c := v.packed()
	switch {
	case c == nil || i < 0 || i >= len(c.at):
		return 0
	case c.end == 0:
		return c.childSize(v.kind, i)
	case i+1 < len(c.at):
		return int(c.at[i+1] - c.at[i])
	}
	return int(c.end - c.at[i])
}

// childSize is ChildSize wherever the other children stand.
func (c *packed) childSize(kind Kind, n int) int {
	_, at := c.place(n)
	text, start := c.start(kind, n)
	if v, ok := c.largeChild(n); ok {
		return start - at + textSize(v) + 1
	}
	return skipValue(text, start) - at + 1
}
