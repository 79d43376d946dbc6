package mcp

import "github.com/authzd/authzd/rar"

// Short constructors: nearly everything that this package sends is assembled
// member by member, in the order in which it should be read.

func member(name string, v rar.Value) rar.Member { return rar.Member{Name: name, Value: v} }

func object(members ...rar.Member) rar.Value { return rar.ObjectValue(members...) }

func str(s string) rar.Value { return rar.StringValue(s) }

// text gives the content of member name if it is a string.
func text(v rar.Value, name string) (string, bool) {
	m, _ := v.Get(name)
	if m.Kind() != rar.String {
		return "", false
	}
	return m.Text(), true
}

func isObjectAt(v rar.Value, names ...string) bool {
	for _, name := range names {
		v, _ = v.Get(name)
	}
	return v.Kind() == rar.Object
}
