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

// Bounds of what is taken out of objects that are kept as text, because more than one
// file adds to them: members, and values in those that are not large.
const (
	maxMergedMembers = 100_000
	maxMergedValues  = 1_000_000
)

// dataTree merges data files into one document and refuses what they define
// twice: which of two block lists holds must not depend on their order. What one
// file alone defines stays as it is, large data as its text.
type dataTree struct {
	root *dataNode
	// members and values are how many were taken out of text.
	members, values int
}

// dataNode is a value, or an object being merged (kids not nil).
type dataNode struct {
	value rar.Value
	file  string // who gave it first
	names []string
	kids  map[string]*dataNode
}

func newDataTree() *dataTree { return &dataTree{root: &dataNode{}} }

func (t *dataTree) empty() bool { return len(t.root.kids) == 0 && t.root.value.Len() == 0 }

func (t *dataTree) value() rar.Value {
	if t.empty() {
		return rar.ObjectValue()
	}
	return t.root.build()
}

// add puts v, read from file, below the folder dir ("" for the root).
func (t *dataTree) add(dir, file string, v rar.Value) error {
	if dir == "" && v.Kind() != rar.Object {
		return errorf(CodeDataInvalid, file, "data at the root of a bundle must be an object, not %s", v.Kind())
	}
	n, pointer := t.root, ""
	if dir != "" {
		for _, step := range strings.Split(dir, "/") {
			if err := t.open(n, pointer, file, pointer+"/"+escapeToken(step)); err != nil {
				return err
			}
			pointer += "/" + escapeToken(step)
			n = n.child(step, file)
		}
	}
	return t.merge(n, pointer, file, v)
}

func conflict(file, pointer, other string) error {
	return errorf(CodeDataConflict, file, "data at %q is defined by %s already", pointer, other)
}

// open makes n, which lies at a pointer, an object that more can be merged into, for file
// that has something at below.
func (t *dataTree) open(n *dataNode, pointer, file, below string) error {
	if n.kids != nil {
		return nil
	}
	if k := n.value.Kind(); k != rar.Absent && k != rar.Object {
		return conflict(file, below, n.file)
	}
	if err := t.take(n.value, pointer, file, n.file); err != nil {
		return err
	}
	n.kids = make(map[string]*dataNode, n.value.Len())
	for i := range n.value.Len() {
		m := n.value.Member(i)
		n.names = append(n.names, m.Name)
		n.kids[m.Name] = &dataNode{value: m.Value, file: n.file}
	}
	n.value = rar.Value{}
	return nil
}

// take counts what becomes of v, which lies at a pointer, when it is taken apart because
// file and another one have something there.
func (t *dataTree) take(v rar.Value, pointer, file, other string) error {
	if !v.Packed() {
		return nil
	}
	t.members += v.Len()
	for i := 0; i < v.Len() && t.members <= maxMergedMembers && t.values <= maxMergedValues; i++ {
		t.values += countValues(v.Member(i).Value)
	}
	if t.members <= maxMergedMembers && t.values <= maxMergedValues {
		return nil
	}
	if other == "" { // of folders
		other = "other files"
	}
	return errorf(CodeTooLarge, file, "data at %q is in %s too, and an object of %d members would have to be merged; put the rows into one file, or below another root",
		pointer, other, v.Len())
}

// countValues counts what is not kept as text.
func countValues(v rar.Value) int {
	n := 1
	if v.Packed() {
		return n
	}
	for i := range v.Len() {
		if v.Kind() == rar.Object {
			n += 1 + countValues(v.Member(i).Value)
		} else {
			n += countValues(v.Index(i))
		}
	}
	return n
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

func (t *dataTree) merge(n *dataNode, pointer, file string, v rar.Value) error {
	if n.kids == nil && n.value.Kind() == rar.Absent {
		n.value, n.file = v, file
		return nil
	}
	if v.Kind() != rar.Object {
		return conflict(file, pointer, n.file)
	}
	if err := t.open(n, pointer, file, pointer); err != nil {
		return err
	}
	if err := t.take(v, pointer, file, n.file); err != nil {
		return err
	}
	for i := range v.Len() {
		m := v.Member(i)
		if err := t.merge(n.child(m.Name, file), pointer+"/"+escapeToken(m.Name), file, m.Value); err != nil {
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
