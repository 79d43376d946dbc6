package bundles

import (
	"path"
	"strings"
	"unsafe"

	"github.com/authzd/authzd/rar"
)

// decodeDocument reads one data file, once.
func decodeDocument(f *File, l Limits) (rar.Value, error) {
	if f.document.Kind() != rar.Absent {
		return f.document, nil
	}
	v, err := readDocument(f, l)
	if err == nil {
		f.document = v
	}
	return v, err
}

func readDocument(f *File, l Limits) (rar.Value, error) {
	if path.Ext(f.Path) != ".json" {
		v, err := DecodeYAML(f.Data, l)
		if err != nil {
			return rar.Value{}, yamlError(CodeDataInvalid, f.Path, err)
		}
		return v, nil
	}
	// A large document is kept as this very text, which nobody writes to.
	text := unsafe.String(unsafe.SliceData(f.Data), len(f.Data)) //nolint:gosec // see above
	v, err := rar.DecodePacked(text, rar.Limits{MaxBytes: int(l.MaxFileBytes), MaxDepth: l.MaxDataDepth})
	if err != nil {
		return rar.Value{}, decodeError(CodeDataInvalid, f.Path, err)
	}
	return v, nil
}

// dataTree merges data files into one document and refuses what they define
// twice: which of two block lists holds must not depend on their order.
type dataTree struct{ root *dataNode }

// dataNode is a value, or an object being merged (kids not nil).
type dataNode struct {
	value rar.Value
	file  string // who gave it first
	names []string
	kids  map[string]*dataNode
}

func newDataTree() *dataTree {
	return &dataTree{root: &dataNode{kids: map[string]*dataNode{}}}
}

func (t *dataTree) empty() bool { return len(t.root.kids) == 0 }

func (t *dataTree) value() rar.Value { return t.root.build() }

// add puts v, read from file, below the folder dir ("" for the root).
func (t *dataTree) add(dir, file string, v rar.Value) error {
	if dir == "" && v.Kind() != rar.Object {
		return errorf(CodeDataInvalid, file, "data at the root of a bundle must be an object, not %s", v.Kind())
	}
	n, pointer := t.root, ""
	if dir != "" {
		for _, step := range strings.Split(dir, "/") {
			pointer += "/" + escapeToken(step)
			if !n.open() {
				return conflict(file, pointer, n.file)
			}
			n = n.child(step, file)
		}
	}
	return n.merge(pointer, file, v)
}

func conflict(file, pointer, other string) error {
	return errorf(CodeDataConflict, file, "data at %q is defined by %s already", pointer, other)
}

// open makes n an object that more can be merged into; false if it is none.
func (n *dataNode) open() bool {
	if n.kids != nil {
		return true
	}
	if k := n.value.Kind(); k != rar.Absent && k != rar.Object {
		return false
	}
	n.kids = make(map[string]*dataNode, n.value.Len())
	for i := range n.value.Len() {
		m := n.value.Member(i)
		n.names = append(n.names, m.Name)
		n.kids[m.Name] = &dataNode{value: m.Value, file: n.file}
	}
	n.value = rar.Value{}
	return true
}

func (n *dataNode) child(name, file string) *dataNode {
	kid, ok := n.kids[name]
	if !ok {
		kid = &dataNode{file: file}
		n.kids[name] = kid
		n.names = append(n.names, name)
	}
	return kid
}

func (n *dataNode) merge(pointer, file string, v rar.Value) error {
	if n.kids == nil && n.value.Kind() == rar.Absent {
		n.value, n.file = v, file
		return nil
	}
	if v.Kind() != rar.Object || !n.open() {
		return conflict(file, pointer, n.file)
	}
	for i := range v.Len() {
		m := v.Member(i)
		if err := n.child(m.Name, file).merge(pointer+"/"+escapeToken(m.Name), file, m.Value); err != nil {
			return err
		}
	}
	return nil
}

func (n *dataNode) build() rar.Value {
	if n.kids == nil {
		return n.value
	}
	members := make([]rar.Member, 0, len(n.names))
	for _, name := range n.names {
		members = append(members, rar.Member{Name: name, Value: n.kids[name].build()})
	}
	return rar.ObjectValue(members...)
}
