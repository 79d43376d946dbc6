package compiled

import (
	"github.com/authzd/authzd/rar"
)

// Input builds the input document of one evaluation, in the memory of that
// evaluation. It belongs to one goroutine, and neither it nor a Value of it may
// be used after Release.
type Input struct {
	m *machine
}

// Value is a value of an input; the zero Value is undefined.
type Value struct{ n *node }

// Name is a string that the Program keeps, so that naming a member or a fixed
// text costs nothing.
type Name struct{ n *node }

// Value is the name as a string value.
func (n Name) Value() Value { return Value(n) }

// Name prepares a name. It must not be called while the Program is in use.
func (p *Program) Name(s string) Name {
	return Name{p.internText(s)}
}

func (p *Program) internText(s string) *node {
	n := p.intern[s]
	if n == nil {
		n = &node{k: kStr, s: s}
		p.intern[s] = n
	}
	return n
}

// NewInput begins an input. Release must follow.
func (p *Program) NewInput() *Input {
	return &Input{m: p.take()}
}

// Release gives the memory back.
func (in *Input) Release() {
	if m := in.m; m != nil {
		in.m = nil
		m.release()
	}
}

// Null is JSON null.
func (in *Input) Null() Value { return Value{nodeNull} }

// Bool is true or false.
func (in *Input) Bool(b bool) Value { return Value{boolNode(b)} }

// Text is a string, which must be UTF-8.
func (in *Input) Text(s string) Value {
	if n := in.m.p.intern[s]; n != nil {
		return Value{n}
	}
	return Value{in.m.arena.str(s)}
}

// Texts is an array of strings.
func (in *Input) Texts(list []string) Value {
	vals := in.m.arena.slice(len(list))
	for _, s := range list {
		vals = append(vals, in.Text(s).n)
	}
	return Value{in.m.arena.composite(kArr, nil, vals, true)}
}

// Array is an array of the elements, which must be defined.
func (in *Input) Array(elements ...Value) Value {
	vals := in.m.arena.slice(len(elements))
	for _, e := range elements {
		vals = append(vals, e.n)
	}
	return Value{in.m.arena.composite(kArr, nil, vals, true)}
}

// JSON is a JSON value; numbers stay letter by letter. Absent becomes null, as in
// the input that topdown gets.
func (in *Input) JSON(v rar.Value) Value {
	return Value{in.m.arena.fromJSON(v)}
}

// Object is an object in the making.
type Object struct {
	in *Input
	n  *node
}

// Object begins an object with room for size members.
func (in *Input) Object(size int) Object {
	a := &in.m.arena
	return Object{in: in, n: a.composite(kObj, a.slice(size), a.slice(size), true)}
}

// Add adds a member whose name the object does not have yet.
func (o Object) Add(name Name, v Value) {
	c := o.n.coll()
	if o.in.m.p.poison && c.find(name.n) >= 0 {
		panic("the member " + name.n.s + " is there already")
	}
	c.sorted, c.table = len(c.keys) == 0, nil // a table that SetText made does not know it
	c.keys, c.vals = append(c.keys, name.n), append(c.vals, v.n)
}

// Set adds a member, or replaces it.
func (o Object) Set(name Name, v Value) { o.n.coll().insert(name.n, v.n) }

// SetText is Set for a name that is not known beforehand.
func (o Object) SetText(name string, v Value) { o.n.coll().insert(o.in.Text(name).n, v.n) }

// Value is the object.
func (o Object) Value() Value { return Value{o.n} }

// fromJSON makes a node of a JSON value. Composites are made when somebody looks into
// them, one level at a time: a policy reads little of what a query says.
func (a *arena) fromJSON(v rar.Value) *node {
	switch v.Kind() {
	case rar.Bool:
		return boolNode(v.Bool())
	case rar.Number:
		return a.num(v.Text())
	case rar.String:
		return a.str(v.Text())
	case rar.Array:
		return a.lazy(kArr, v)
	case rar.Object:
		return a.lazy(kObj, v)
	default:
		return nodeNull
	}
}

func (a *arena) lazy(k kind, v rar.Value) *node {
	if a.larges != nil && a.larges.admits(v) {
		return a.larges.node(a, k, v)
	}
	n := a.node()
	if a.unmade.owner == nil {
		a.unmade.owner = a
	}
	n.k, n.made, n.i = k, &a.unmade, int64(len(a.raws))
	a.raws = append(a.raws, v)
	return n
}

// expand makes the members of n. In base documents, which are made once, names that the
// policy mentions become the Program's own nodes, so that look-ups mostly compare
// pointers; finding them costs more than it saves in an input.
func (n *node) expand() *coll {
	if n.large {
		return n.made.large.touch()
	}
	a := n.made.owner
	v := a.raws[n.i]
	size := v.Len()
	c := a.coll()
	c.vals = a.slice(size)
	if c.sorted = n.k == kArr; c.sorted {
		for i := range size {
			c.vals = append(c.vals, a.fromJSON(v.Index(i)))
		}
	} else {
		c.keys = a.slice(size)
		for i := range size {
			m := v.Member(i)
			k := a.intern[m.Name]
			if k == nil {
				k = a.str(m.Name)
			}
			c.keys, c.vals = append(c.keys, k), append(c.vals, a.fromJSON(m.Value))
		}
	}
	n.made, n.i = c, 0
	if n.base {
		for _, x := range c.vals {
			x.setBase()
		}
	}
	return c
}
