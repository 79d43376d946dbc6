package rar

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// EditOp is what an Edit does. The zero EditOp is refused.
type EditOp uint8

// The operations, which are those of the patch of an OPA delta bundle.
const (
	// Upsert sets a member, whether there is one or not, and makes the objects on the
	// way that are missing. In an array it inserts: before the element with the index,
	// or at the end, which "-" and the number of elements mean.
	Upsert EditOp = iota + 1
	// Replace sets what is there.
	Replace
	// Remove takes away what is there. In an object the last member takes its place: an
	// object has no order.
	Remove
)

// Edit is a change of one place in a Value.
type Edit struct {
	Op EditOp
	// Path are the names of members and the indexes of elements (RFC 6901 §4) that lead
	// there, unescaped. Without any it is the whole Value, which can not be removed.
	Path []string
	// Value is what is set. It is copied: nothing of its document stays alive.
	Value Value
}

// Apply returns v with the edits made in their order. v stays what it is and may be
// read meanwhile; what the edits do not touch, both share. An edit of a packed Value
// takes time by the number of children of the containers on its path, a copy of 4 to
// 12 bytes for each, and not by their text. What became garbage in a text is left
// behind now and then, which takes time by the size of that container.
//
// With a fault in one edit none is made. The Path of the *Error leads into the edits
// as if they were an array of objects of op, path and value: "/2/path" says that edit 2
// found nothing. The limits hold for each value, at the depth where it is set
// (MaxDepth), and for the size of what comes out (MaxBytes, about).
func Apply(v Value, edits []Edit, l Limits) (Value, error) { return Packing{}.Apply(v, edits, l) }

// Apply is Apply with other sizes. Arrays and objects that were kept as values and
// outgrow Above are packed.
func (p Packing) Apply(v Value, edits []Edit, l Limits) (Value, error) {
	e := editor{
		limits: l.withDefaults(), above: orDefault(p.Above, PackAbove), row: orDefault(p.Row, packedRow),
		garbage: leastGarbage, most: math.MaxUint32,
	}
	return e.apply(v, edits)
}

// leastGarbage is how much text may mean nothing any more before a container is
// written anew; of a large one it is an eighth.
const leastGarbage = 1 << 20

// editor makes the edits of one Apply. Each container on a path is copied once, to a
// draft, and becomes a Value again in the end.
type editor struct {
	limits              Limits
	above, row, garbage int
	// most is how long a text may be with its tail: places have 32 bits.
	most    int
	drafts  []*packedDraft
	scratch []byte
}

func (e *editor) apply(v Value, edits []Edit) (Value, error) {
	if len(edits) == 0 {
		return v, nil
	}
	result, err := e.make(v, edits)
	for _, p := range e.drafts {
		if err != nil || !p.settled { // it came to nothing
			p.release()
		}
	}
	return result, err
}

func (e *editor) make(v Value, edits []Edit) (Value, error) {
	top := &draft{kind: Array, slots: []slot{{value: v}}}
	for i := range edits {
		if err := e.edit(top, &edits[i]); err != nil {
			return Value{}, below(err, strconv.Itoa(i))
		}
	}
	result, err := e.closeSlot(&top.slots[0])
	if err != nil {
		return Value{}, err
	}
	if size := textSize(result); size > e.limits.MaxBytes {
		return Value{}, e.limits.tooLarge(size)
	}
	return result, nil
}

// content is a value to be set.
type content struct {
	text  string // as AppendJSON writes it
	value Value
}

// emptyObject is what is made where a parent is missing.
func emptyObject() content { return content{"{}", listValue(Object, nil)} }

// content checks what an edit sets. Its text is read as that of a stranger: code that
// reads packed text trusts it later.
func (e *editor) content(edit *Edit) (content, error) {
	if edit.Op == Remove {
		return content{}, nil
	}
	l := e.limits
	l.MaxDepth -= len(edit.Path)
	switch kind := edit.Value.kind; {
	case kind == Absent:
		return content{}, invalidEdit("/value", "there is no value")
	case l.MaxDepth > 0:
	case kind == Array || kind == Object:
		return content{}, e.tooDeep("/value")
	default:
		l.MaxDepth = 1 // 0 would be the default
	}
	e.scratch = edit.Value.AppendJSON(e.scratch[:0])
	c := content{text: string(e.scratch)}
	var err error
	if c.value, err = (Packing{e.above, e.row}).Decode(c.text, l); err != nil {
		return content{}, below(err, "value")
	}
	return c, nil
}

func invalidEdit(path, what string) error {
	return &Error{Code: CodeInvalidEdit, Path: path, Err: errors.New(what)}
}

func (e *editor) tooDeep(path string) error {
	return &Error{Code: CodeTooDeep, Path: path, Err: fmt.Errorf("more than %d levels", e.limits.MaxDepth)}
}

func (e *editor) check(edit *Edit) error {
	switch {
	case edit.Op != Upsert && edit.Op != Replace && edit.Op != Remove:
		return invalidEdit("/op", "no such operation: "+strconv.Itoa(int(edit.Op)))
	case edit.Op == Remove && len(edit.Path) == 0:
		return invalidEdit("/path", "the whole value can not be removed")
	case len(edit.Path) > e.limits.MaxDepth:
		return e.tooDeep("/path")
	case slices.ContainsFunc(edit.Path, func(s string) bool { return !utf8.ValidString(s) }):
		return invalidEdit("/path", "not UTF-8")
	}
	return nil
}

// edit makes one edit below the only element of top.
func (e *editor) edit(top *draft, edit *Edit) error {
	if err := e.check(edit); err != nil {
		return err
	}
	c, err := e.content(edit)
	if err != nil {
		return err
	}
	n, i := top, 0
	for k, token := range edit.Path {
		if n = e.open(n, i); n == nil {
			return notFound(edit.Path[:k+1], "it is below what is neither array nor object")
		}
		last := k+1 == len(edit.Path)
		i = n.find(token)
		switch {
		case last && edit.Op == Upsert && n.kind == Array:
			if token == "-" || elementNumber(token) == n.len() {
				i = n.len()
			}
			if i < 0 {
				return notFound(edit.Path[:k+1], "no index of an element, nor of the end")
			}
			return e.insert(n, i, c)
		case i >= 0:
		case edit.Op != Upsert || n.kind == Array:
			return notFound(edit.Path[:k+1], "there is nothing")
		case last:
			return e.add(n, token, c)
		default:
			if err := e.add(n, token, emptyObject()); err != nil {
				return err
			}
			i = n.len() - 1
		}
	}
	if edit.Op == Remove {
		n.remove(i)
		return nil
	}
	return e.set(n, i, c)
}

func notFound(path []string, what string) error {
	pointer := ""
	for _, token := range path {
		pointer = appendToken(pointer, token)
	}
	return &Error{Code: CodeNotFound, Path: "/path", Err: fmt.Errorf("%s: %s", pointer, what)}
}

// trusted are limits for text that was written here.
func trusted() Limits {
	return Limits{MaxBytes: math.MaxInt, MaxDepth: math.MaxInt, MaxExponent: math.MaxInt}
}

// draft is an array or object that is being edited: slots, or packed.
type draft struct {
	kind   Kind
	packed *packedDraft
	slots  []slot
	// index finds members by their names once there were a few look-ups.
	index   map[string]int
	lookups int
}

// slot is a child. Open, if not nil, is what its value becomes.
type slot struct {
	name  Value // of a member
	value Value
	open  *draft
}

// open returns the draft of child i, nil if that is no array or object.
func (e *editor) open(n *draft, i int) *draft {
	if p := n.packed; p != nil {
		if open := p.kids[i].open; open != nil {
			return open
		}
		v := p.child(i)
		open := e.draft(v)
		if open != nil {
			p.keep(i, kid{open: open, large: p.largeOf(i)})
		}
		return open
	}
	s := &n.slots[i]
	if s.open == nil {
		s.open = e.draft(s.value)
	}
	return s.open
}

func (e *editor) draft(v Value) *draft {
	if v.kind != Array && v.kind != Object {
		return nil
	}
	n := &draft{kind: v.kind}
	if c := v.packed(); c != nil {
		n.packed = e.packedDraft(v.kind, c)
		return n
	}
	list := v.list()
	if v.kind == Array {
		n.slots = make([]slot, len(list))
		for i, child := range list {
			n.slots[i].value = child
		}
		return n
	}
	n.slots = make([]slot, len(list)/2)
	for i := range n.slots {
		n.slots[i] = slot{name: list[2*i], value: list[2*i+1]}
	}
	return n
}

func (n *draft) len() int {
	if n.packed != nil {
		return len(n.packed.at)
	}
	return len(n.slots)
}

// find returns the number of the child that a token names, -1 if there is none.
func (n *draft) find(token string) int {
	if n.kind == Array {
		if i := elementNumber(token); i < n.len() {
			return i
		}
		return -1
	}
	if n.packed != nil {
		return n.packed.find(token)
	}
	if n.index == nil {
		if n.lookups++; n.lookups < fewMembers {
			return slices.IndexFunc(n.slots, func(s slot) bool { return s.name.str() == token })
		}
		n.index = make(map[string]int, len(n.slots))
		for i, s := range n.slots {
			n.index[s.name.str()] = i
		}
	}
	if i, ok := n.index[token]; ok {
		return i
	}
	return -1
}

func (e *editor) set(n *draft, i int, c content) error {
	if n.packed != nil {
		return n.packed.set(e, i, c.text)
	}
	n.slots[i].value, n.slots[i].open = c.value, nil
	return nil
}

// add adds a member whose name is new.
func (e *editor) add(n *draft, name string, c content) error {
	if n.packed != nil {
		return n.packed.add(e, name, c.text)
	}
	if n.index != nil {
		n.index[name] = len(n.slots)
	}
	n.slots = append(n.slots, slot{name: textValue(String, strings.Clone(name)), value: c.value})
	return nil
}

// insert puts an element before element i, or at the end.
func (e *editor) insert(n *draft, i int, c content) error {
	if n.packed != nil {
		return n.packed.insert(e, i, c.text)
	}
	n.slots = slices.Insert(n.slots, i, slot{value: c.value})
	return nil
}

func (n *draft) remove(i int) {
	switch {
	case n.packed != nil:
		n.packed.remove(i)
	case n.kind == Array:
		n.slots = slices.Delete(n.slots, i, i+1)
	default:
		last := len(n.slots) - 1
		if n.index != nil {
			n.index[n.slots[last].name.str()] = i
			delete(n.index, n.slots[i].name.str()) // perhaps the same
		}
		n.slots[i] = n.slots[last]
		n.slots = slices.Delete(n.slots, last, last+1)
	}
}

// closeSlot returns the value of a slot.
func (e *editor) closeSlot(s *slot) (Value, error) {
	if s.open == nil {
		return s.value, nil
	}
	return e.close(s.open)
}

// close returns the Value of a draft, which is not edited any more.
func (e *editor) close(n *draft) (Value, error) {
	if n.packed != nil {
		return n.packed.close(e)
	}
	var kids []Value
	if n.kind == Array {
		kids = make([]Value, 0, len(n.slots))
	} else {
		kids = make([]Value, 0, 2*len(n.slots))
	}
	for i := range n.slots {
		v, err := e.closeSlot(&n.slots[i])
		if err != nil {
			return Value{}, err
		}
		if n.kind == Object {
			kids = append(kids, n.slots[i].name)
		}
		kids = append(kids, v)
	}
	v := listValue(n.kind, kids)
	if unpackedSize(v, e.above) > e.above {
		return e.pack(v)
	}
	return v, nil
}

// textSize is about the length of the text of v.
func textSize(v Value) int {
	if c := v.packed(); c != nil {
		return c.size
	}
	return ownSize(v) + childrenSize(v, math.MaxInt, textSize)
}

// unpackedSize is about the length of the text of those parts of v that are not packed, or
// something above most.
func unpackedSize(v Value, most int) int {
	if v.Packed() {
		return 0
	}
	size := ownSize(v)
	return size + childrenSize(v, most-size, func(child Value) int { return unpackedSize(child, most) })
}

// ownSize is textSize without children.
func ownSize(v Value) int {
	switch v.kind {
	case Null, Bool:
		return len("null")
	case Number:
		return len(v.str())
	case String, Array, Object:
		return len(v.str()) + len(`""`)
	case Absent:
	}
	return 0
}

func childrenSize(v Value, most int, sizeOf func(Value) int) int {
	size := 0
	for i, child := range v.list() {
		if size > most {
			break
		}
		size++ // what separates them
		if v.kind == Object && i%2 == 0 {
			size += ownSize(child)
			continue
		}
		size += sizeOf(child)
	}
	return size
}
