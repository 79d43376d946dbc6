package rar

import (
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"unsafe"
)

// packedDraft is a packed container that is being edited: a copy whose slices are
// copied, or its own, before they change.
type packedDraft struct {
	packed
	kind            Kind
	most            int     // see editor
	from            *packed // what it was
	ownAt, ownIndex bool
	out             []byte // tail, once it was written to
	// claimed: out is in the memory of from; settled: the Value that was made has it.
	claimed, settled bool
	changed          bool
	kids             map[int]kid
}

// kid is a child that is not as large and largeAt say.
type kid struct {
	open  *draft
	large Value // Absent if its text is here
}

// tailMemory is memory behind a tail. Who edits the Value whose tail ends where it is
// used may write there: nobody else sees it. All others copy.
type tailMemory struct {
	used  atomic.Int64
	bytes []byte
}

func (e *editor) packedDraft(kind Kind, c *packed) *packedDraft {
	p := &packedDraft{packed: *c, kind: kind, from: c, most: e.most}
	e.drafts = append(e.drafts, p)
	return p
}

// pack packs an array or object that was not.
func (e *editor) pack(v Value) (Value, error) {
	p := e.packedDraft(v.kind, &packed{size: len("{}")})
	p.ownAt, p.ownIndex, p.changed = true, true, true
	if v.kind == Object {
		p.index = make([]uint32, 4)
	}
	list := v.list()
	for i := 0; i < len(list); i++ {
		name := ""
		if v.kind == Object {
			name = list[i].str()
			i++
		}
		text, large, err := e.stored(list[i])
		if err == nil {
			err = p.append(name, text, large)
		}
		if err != nil {
			return Value{}, err
		}
	}
	p.fold(e)
	return p.close(e)
}

// stored is how a packed container keeps a Value of ours: as text, or as large.
func (e *editor) stored(v Value) (text string, large Value, err error) {
	if v.Packed() && textSize(v) > e.row {
		return "null", v, nil
	}
	e.scratch = v.AppendJSON(e.scratch[:0])
	return e.storedText(string(e.scratch))
}

func (e *editor) storedText(text string) (string, Value, error) {
	if len(text) <= e.row {
		return text, Value{}, nil
	}
	large, err := decodePacked(text, trusted(), e.row)
	return "null", large, err
}

// child returns child i as it was before it was opened.
func (p *packedDraft) child(i int) Value {
	if v := p.largeOf(i); v.kind != Absent {
		return v
	}
	text, at := p.start(p.kind, i)
	v, err := decodeAt(text, at)
	if err != nil {
		return Value{}
	}
	return v
}

// largeOf returns child i if it is large, else Absent.
func (p *packedDraft) largeOf(i int) Value {
	if k, ok := p.kids[i]; ok {
		return k.large
	}
	v, _ := p.largeChild(i)
	return v
}

func (p *packedDraft) keep(i int, k kid) {
	if p.kids == nil {
		p.kids = make(map[int]kid)
	}
	p.kids[i] = k
}

// lengths are how many bytes child i takes: here, and in all.
func (p *packedDraft) lengths(i int) (here, all int) {
	_, at := p.place(i)
	text, start := p.start(p.kind, i)
	v := p.largeOf(i)
	if v.kind == Absent {
		n := skipValue(text, start) - at + 1
		return n, n
	}
	all = start - at + textSize(v) + 1
	if int(p.at[i]) < len(p.text) {
		return all, all
	}
	return start - at + len("null") + 1, all
}

// drop forgets the text of child i, which is to be set or removed.
func (p *packedDraft) drop(i int) {
	here, all := p.lengths(i)
	p.dead += here
	p.size -= all
	p.changed = true
	p.end = 0
}

// write appends a child to the tail and returns its place. Quoted is the name of a
// member as text, "" for an element.
func (p *packedDraft) write(quoted, text string) (uint32, error) {
	at := len(p.text) + len(p.tail)
	if at+len(quoted)+len(text)+len(":,") > p.most {
		return 0, &Error{Code: CodeTooLarge, Err: fmt.Errorf("more than %d bytes", p.most)}
	}
	if p.out == nil {
		p.claim()
	}
	if quoted != "" {
		p.out = append(append(p.out, quoted...), ':')
	}
	p.out = append(append(p.out, text...), ',')
	p.tail = unsafe.String(unsafe.SliceData(p.out), len(p.out)) //nolint:gosec // what is written is not changed again
	return uint32(at), nil                                      //nolint:gosec // see above
}

// claim finds memory to write the tail to.
func (p *packedDraft) claim() {
	if m := p.spare; m != nil && m.used.CompareAndSwap(int64(len(p.tail)), int64(len(m.bytes))) {
		p.out, p.claimed = m.bytes[:len(p.tail)], true
		return
	}
	p.out = append(make([]byte, 0, len(p.tail)+len(p.tail)/4+512), p.tail...)
}

// release gives memory back that was claimed for nothing.
func (p *packedDraft) release() {
	if p.claimed {
		p.from.spare.used.Store(int64(len(p.from.tail)))
	}
}

// settle tells how much of the memory is used.
func (p *packedDraft) settle() {
	if p.out == nil {
		return
	}
	if !p.claimed || unsafe.SliceData(p.out) != unsafe.SliceData(p.spare.bytes) { //nolint:gosec // they are compared, no more
		p.spare = &tailMemory{bytes: p.out[:cap(p.out)]}
	}
	p.spare.used.Store(int64(len(p.out)))
	p.settled = true
}

func (p *packedDraft) needAt() {
	if !p.ownAt {
		p.at, p.ownAt = append(make([]uint32, 0, len(p.at)+1), p.at...), true
	}
}

func (p *packedDraft) needIndex() {
	if !p.ownIndex {
		p.index, p.ownIndex = slices.Clone(p.index), true
	}
}

// set replaces child i by a value whose text is given.
func (p *packedDraft) set(e *editor, i int, text string) error {
	text, large, err := e.storedText(text)
	if err != nil {
		return err
	}
	return p.put(i, text, large)
}

// put replaces child i by what stored returns.
func (p *packedDraft) put(i int, text string, large Value) error {
	if old := p.largeOf(i); large.kind != Absent && old.kind != Absent && int(p.at[i]) >= len(p.text) {
		p.size += textSize(large) - textSize(old)
		p.changed = true
		p.keep(i, kid{large: large})
		return nil
	}
	p.drop(i)
	quoted := ""
	if p.kind == Object {
		in, at := p.place(i)
		quoted = in[at:skipString(in, at)]
	}
	at, err := p.write(quoted, text)
	if err != nil {
		return err
	}
	p.needAt()
	p.at[i] = at
	p.keepLarge(i, large)
	_, all := p.lengths(i)
	p.size += all
	return nil
}

// keepLarge notes whether child i, which is not open, is large.
func (p *packedDraft) keepLarge(i int, large Value) {
	if _, was := p.largeChild(i); large.kind != Absent || was {
		p.keep(i, kid{large: large})
		return
	}
	delete(p.kids, i)
}

// append adds a child, which is what stored returns; the name of a member is new.
func (p *packedDraft) append(name, text string, large Value) error {
	quoted := ""
	if p.kind == Object {
		quoted = string(appendQuoted(nil, name))
	}
	at, err := p.write(quoted, text)
	if err != nil {
		return err
	}
	p.needAt()
	p.at = append(p.at, at)
	p.changed, p.end = true, 0
	n := len(p.at) - 1
	p.keepLarge(n, large)
	_, all := p.lengths(n)
	p.size += all
	if p.kind == Object {
		p.enter(n, name)
	}
	return nil
}

// enter notes in index that member n has the name.
func (p *packedDraft) enter(n int, name string) {
	if size := len(p.index); size < len(p.at)+len(p.at)/2 {
		p.index, p.ownIndex = make([]uint32, 2*size), true
		for i := range n {
			p.enterSlot(i, p.name(i))
		}
	}
	p.needIndex()
	p.enterSlot(n, name)
}

func (p *packedDraft) enterSlot(n int, name string) {
	mask := uint64(len(p.index) - 1) //nolint:gosec // never empty
	h := maphash.String(packedSeed, name) & mask
	for p.index[h] != 0 {
		h = (h + 1) & mask
	}
	p.index[h] = uint32(n) + 1 //nolint:gosec // fewer children than 4 Gi
}

// add adds a member whose name is new, or an element at the end.
func (p *packedDraft) add(e *editor, name, text string) error {
	text, large, err := e.storedText(text)
	if err != nil {
		return err
	}
	return p.append(name, text, large)
}

// insert puts an element before element i, or at the end.
func (p *packedDraft) insert(e *editor, i int, text string) error {
	if err := p.add(e, "", text); err != nil {
		return err
	}
	last := len(p.at) - 1
	if i == last {
		return nil
	}
	at := p.at[last]
	copy(p.at[i+1:], p.at[i:last])
	p.at[i] = at
	p.allKids()
	k, isKid := p.kids[last]
	delete(p.kids, last)
	p.renumber(i, 1)
	if isKid {
		p.keep(i, k)
	}
	return nil
}

// allKids makes kids of all that are large, and of nothing else but what is open.
func (p *packedDraft) allKids() {
	for k, n := range p.largeAt {
		if _, ok := p.kids[int(n)]; !ok {
			p.keep(int(n), kid{large: p.large[k]})
		}
	}
	p.large, p.largeAt = nil, nil
	maps.DeleteFunc(p.kids, func(_ int, k kid) bool { return k.open == nil && k.large.kind == Absent })
}

// renumber moves the kids from i on.
func (p *packedDraft) renumber(i, by int) {
	kids := make(map[int]kid, len(p.kids))
	for n, k := range p.kids {
		if n >= i {
			n += by
		}
		kids[n] = k
	}
	p.kids = kids
}

func (p *packedDraft) remove(i int) {
	p.drop(i)
	p.needAt()
	if p.kind == Array {
		p.at = slices.Delete(p.at, i, i+1)
		p.allKids()
		delete(p.kids, i)
		p.renumber(i, -1)
		return
	}
	p.needIndex()
	last := len(p.at) - 1
	slot := p.slot(p.name(i))
	p.index[p.slot(p.name(last))] = uint32(i) + 1 //nolint:gosec // fewer children than 4 Gi
	k, isKid := p.kids[last]
	if !isKid {
		k.large, _ = p.largeChild(last)
	}
	p.keepLarge(last, Value{})
	if i != last {
		p.at[i] = p.at[last]
		p.keepLarge(i, k.large)
		if k.open != nil {
			p.keep(i, k)
		}
	}
	p.at = p.at[:last]
	p.vacate(slot)
}

// vacate empties a slot of index, and moves those behind it that would not be found
// any more.
func (p *packedDraft) vacate(slot int) {
	mask := len(p.index) - 1
	p.index[slot] = 0
	for s := (slot + 1) & mask; p.index[s] != 0; s = (s + 1) & mask {
		n := p.index[s]
		home := int(maphash.String(packedSeed, p.name(int(n)-1)) & uint64(mask)) //nolint:gosec // less than the length of a slice
		if (s-home)&mask >= (s-slot)&mask {
			p.index[slot], p.index[s], slot = n, 0, s
		}
	}
}

// close returns the Value of what was edited.
func (p *packedDraft) close(e *editor) (Value, error) {
	for _, n := range slices.Sorted(maps.Keys(p.kids)) {
		open := p.kids[n].open
		if open == nil {
			continue
		}
		v, err := e.close(open)
		if err != nil {
			return Value{}, err
		}
		text, large, err := e.stored(v)
		if err == nil {
			err = p.put(n, text, large)
		}
		if err != nil {
			return Value{}, err
		}
	}
	if !p.changed {
		return p.from.as(p.kind), nil
	}
	if p.dead > max(e.garbage, (p.span+len(p.tail)-p.dead)/8) {
		p.fold(e)
	}
	p.settleLarge()
	p.settle()
	c := p.packed
	return c.as(p.kind), nil
}

// settleLarge makes large and largeAt of what is large now.
func (p *packedDraft) settleLarge() {
	if len(p.kids) == 0 {
		return
	}
	all := make([]numbered, 0, len(p.largeAt)+len(p.kids))
	for k, n := range p.largeAt {
		if _, ok := p.kids[int(n)]; !ok {
			all = append(all, numbered{n, p.large[k]})
		}
	}
	for n, k := range p.kids {
		if k.large.kind != Absent {
			all = append(all, numbered{uint32(n), k.large}) //nolint:gosec // fewer children than 4 Gi
		}
	}
	slices.SortFunc(all, func(a, b numbered) int { return int(a.n) - int(b.n) })
	p.large, p.largeAt, p.kids = make([]Value, len(all)), make([]uint32, len(all)), nil
	for i, l := range all {
		p.large[i], p.largeAt[i] = l.v, l.n
	}
}

// fold writes the text anew, without what means nothing any more. None is open.
func (p *packedDraft) fold(e *editor) {
	p.settleLarge()
	var text strings.Builder
	text.Grow(max(0, p.span+len(p.tail)-p.dead))
	var tail []byte
	var large []Value
	at := make([]uint32, len(p.at))
	next := 0 // of the large ones
	for i := range at {
		in, from := p.place(i)
		_, start := p.start(p.kind, i)
		if next < len(p.largeAt) && int(p.largeAt[next]) == i {
			large = append(large, e.away(p, i, p.large[next]))
			next++
			at[i] = uint32(len(tail)) //nolint:gosec // shorter than what it was
			tail = append(append(tail, in[from:start]...), "null,"...)
			continue
		}
		at[i] = uint32(text.Len()) //nolint:gosec // shorter than what it was
		text.WriteString(in[from:skipValue(in, start)])
		text.WriteByte(',')
	}
	for _, i := range p.largeAt {
		at[i] += uint32(text.Len()) //nolint:gosec // as above
	}
	p.release() // what was written there has been copied
	p.text, p.at, p.ownAt = text.String(), at, true
	p.large, p.out, p.claimed, p.spare = large, tail, false, nil
	p.tail = unsafe.String(unsafe.SliceData(tail), len(tail)) //nolint:gosec // it is not changed again
	p.span, p.dead, p.end = len(p.text), 0, 0
	p.size = len("{}") + len(p.text) + len(p.tail)
	for _, v := range large {
		p.size += textSize(v)
	}
}

// away returns large child i without the text of p, which it would keep alive. One that is
// larger than that is worth keeps it.
func (e *editor) away(p *packedDraft, i int, v Value) Value {
	inPlace := int(p.at[i]) < len(p.text)
	c := v.packed()
	switch {
	case c == nil && inPlace:
		return textValue(v.kind, strings.Clone(v.str()))
	case c == nil || c.size > e.above || unsafe.StringData(c.text) != unsafe.StringData(p.text): //nolint:gosec // they are compared, no more
		return v
	}
	var text string
	if inPlace {
		in, start := p.start(p.kind, i)
		text = strings.Clone(in[start:skipValue(in, start)])
	} else {
		text = string(v.AppendJSON(nil))
	}
	w, err := decodePacked(text, trusted(), e.row)
	if err != nil {
		return v
	}
	return w
}
