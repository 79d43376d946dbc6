package compiled

import (
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
	if n.k != kSet {
		v, err := n.json(0)
		return Result{Defined: true, Value: v}, err
	}
	n.c.sort()
	list, err := jsonList(n.c.keys, 1)
	if err != nil {
		return Result{}, err
	}
	return Result{Defined: true, Set: true, Value: rar.ArrayValue(list...)}, nil
}

func jsonList(nodes []*node, depth int) ([]rar.Value, error) {
	list := make([]rar.Value, len(nodes))
	for i, e := range nodes {
		v, err := e.json(depth)
		if err != nil {
			return nil, err
		}
		list[i] = v
	}
	return list, nil
}

func (n *node) json(depth int) (rar.Value, error) {
	if depth > maxOutputDepth {
		return rar.Value{}, handover(MalformedOutput, nil)
	}
	switch n.k {
	case kNull:
		return rar.NullValue(), nil
	case kBool:
		return rar.BoolValue(n.i == 1), nil
	case kNum:
		v, err := rar.NumberValue(n.numText())
		if err != nil {
			return rar.Value{}, handover(MalformedOutput, err)
		}
		return v, nil
	case kStr:
		return rar.StringValue(n.s), nil
	case kArr:
		list, err := jsonList(n.c.vals, depth+1)
		if err != nil {
			return rar.Value{}, err
		}
		return rar.ArrayValue(list...), nil
	case kObj:
		return n.jsonObject(depth)
	default:
		return rar.Value{}, handover(MalformedOutput, nil)
	}
}

func (n *node) jsonObject(depth int) (rar.Value, error) {
	n.c.sort()
	members := make([]rar.Member, len(n.c.keys))
	for i, k := range n.c.keys {
		if k.k != kStr {
			return rar.Value{}, handover(MalformedOutput, nil)
		}
		v, err := n.c.vals[i].json(depth + 1)
		if err != nil {
			return rar.Value{}, err
		}
		members[i] = rar.Member{Name: k.s, Value: v}
	}
	return rar.ObjectValue(members...), nil
}
