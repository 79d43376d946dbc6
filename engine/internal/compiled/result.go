package compiled

import (
	"unicode/utf8"

	"github.com/authzd/authzd/rar"
)

// Result is what one document is.
type Result struct {
	// Defined is false where the document is undefined; Value is Absent then.
	Defined bool
	// Set marks a Rego set, whose elements Value then lists in Rego's order.
	Set   bool
	Value rar.Value
}

// maxOutputDepth bounds what policy may return; package engine has the same
// bound for topdown.
const maxOutputDepth = 64

// read converts a document: only its top may be a set. What has no JSON form is
// handed over, for topdown to say so.
func (n *node) read() (Result, error) {
	var r reading
	if n.k != kSet {
		v := r.json(n, 0)
		return Result{Defined: true, Value: v}, r.fault()
	}
	n.coll().sort()
	v := r.list(n.coll().keys, 1)
	return Result{Defined: true, Set: true, Value: v}, r.fault()
}

// reading makes JSON values; the first fault stays.
type reading struct{ err *HandoverError }

func (r *reading) fault() error {
	if r.err != nil {
		return r.err
	}
	return nil
}

func (r *reading) fail(err error) rar.Value {
	if r.err == nil {
		r.err = handover(MalformedOutput, err)
	}
	return rar.Value{}
}

func (r *reading) list(nodes []*node, depth int) rar.Value {
	return rar.ArrayOf(len(nodes), func(i int) rar.Value { return r.json(nodes[i], depth) })
}

func (r *reading) json(n *node, depth int) rar.Value {
	if depth > maxOutputDepth || r.err != nil {
		return r.fail(nil)
	}
	switch n.k {
	case kNull:
		return rar.NullValue()
	case kBool:
		return rar.BoolValue(n.i == 1)
	case kNum:
		v, err := rar.NumberValue(n.numText())
		if err != nil {
			return r.fail(err)
		}
		return v
	case kStr:
		return rar.StringValue(n.s)
	case kArr:
		return r.list(n.coll().vals, depth+1)
	case kObj:
		return r.object(n, depth)
	default:
		return r.fail(nil)
	}
}

func (r *reading) object(n *node, depth int) rar.Value {
	n.coll().sort()
	for _, k := range n.coll().keys {
		if k.k != kStr || !utf8.ValidString(k.s) { // two of these might become one
			return r.fail(nil)
		}
	}
	return rar.ObjectOf(len(n.coll().keys), func(i int) (string, rar.Value) {
		return n.coll().keys[i].s, r.json(n.coll().vals[i], depth+1)
	})
}
