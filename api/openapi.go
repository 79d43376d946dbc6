package api

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	contract "github.com/authzd/authzd/proto"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

// openapi finishes the generated description, whose generator knows nothing of
// this project's options: JSON stands inline, and enum values lose the name of
// their enum, as the codec has it.
func openapi() ([]byte, error) {
	doc, err := rar.DecodeStrict(contract.OpenAPI(), rar.Limits{MaxBytes: 4 << 20, MaxDepth: 64})
	if err != nil {
		return nil, fmt.Errorf("read the generated OpenAPI description: %w", err)
	}
	defs, _ := doc.Get("definitions")
	var names []string
	for _, file := range []protoreflect.FileDescriptor{authzdv1.File_authzd_v1_decision_proto, authzdv1.File_authzd_v1_authorization_details_proto, authzdv1.File_authzd_v1_bundles_proto, authzdv1.File_authzd_v1_blocks_proto} {
		for i := range file.Messages().Len() {
			m := file.Messages().Get(i)
			name := "v1" + string(m.Name())
			def, ok := defs.Get(name)
			if !ok {
				continue // not reachable from a method
			}
			defs = with(defs, name, inlineJSON(def, m))
		}
		for i := range file.Enums().Len() {
			e := file.Enums().Get(i)
			for j := range e.Values().Len() {
				v := e.Values().Get(j)
				names = append(names, string(v.Name()), strings.TrimPrefix(string(v.Name()), enumPrefix(e)))
			}
		}
	}
	doc = with(doc, "definitions", defs)
	return rename(doc, strings.NewReplacer(names...)).AppendJSON(nil), nil
}

// inlineJSON gives the JSON fields of m the schema "any JSON".
func inlineJSON(def rar.Value, m protoreflect.MessageDescriptor) rar.Value {
	properties, _ := def.Get("properties")
	for i := range m.Fields().Len() {
		fd := m.Fields().Get(i)
		schema, ok := properties.Get(string(fd.Name()))
		if !ok || !isJSON(fd) {
			continue
		}
		if items, isList := schema.Get("items"); isList {
			schema = with(schema, "items", without(items, "type", "format"))
		} else {
			schema = without(schema, "type", "format")
		}
		properties = with(properties, string(fd.Name()), schema)
	}
	return with(def, "properties", properties)
}

// with returns v with the member set.
func with(v rar.Value, name string, to rar.Value) rar.Value {
	members := make([]rar.Member, 0, v.Len()+1)
	found := false
	for i := range v.Len() {
		m := v.Member(i)
		if m.Name == name {
			m.Value, found = to, true
		}
		members = append(members, m)
	}
	if !found {
		members = append(members, rar.Member{Name: name, Value: to})
	}
	return rar.ObjectValue(members...)
}

func without(v rar.Value, names ...string) rar.Value {
	members := make([]rar.Member, 0, v.Len())
	for i := range v.Len() {
		if m := v.Member(i); !slices.Contains(names, m.Name) {
			members = append(members, m)
		}
	}
	return rar.ObjectValue(members...)
}

// rename rewrites every string, at any depth: enum values also stand in
// descriptions.
func rename(v rar.Value, names *strings.Replacer) rar.Value {
	switch v.Kind() {
	case rar.String:
		return rar.StringValue(names.Replace(v.Text()))
	case rar.Array:
		elements := make([]rar.Value, v.Len())
		for i := range elements {
			elements[i] = rename(v.Index(i), names)
		}
		return rar.ArrayValue(elements...)
	case rar.Object:
		members := make([]rar.Member, v.Len())
		for i := range members {
			m := v.Member(i)
			members[i] = rar.Member{Name: m.Name, Value: rename(m.Value, names)}
		}
		return rar.ObjectValue(members...)
	case rar.Absent, rar.Null, rar.Bool, rar.Number:
	}
	return v
}
