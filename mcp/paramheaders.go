package mcp

import (
	"strings"

	"github.com/authzd/authzd/rar"
)

// ParamHeaders reads the x-mcp-header annotations of a tool's inputSchema
// (SEP-2243): which arguments are repeated in Mcp-Param-* fields. Annotations
// are found on properties and the properties below them. One that is not a field
// name, stands on something else than a string, an integer or a boolean, or is
// used twice makes the tool unusable over HTTP: the error is an *Error with
// CodeMessageInvalid and a pointer into the schema.
func ParamHeaders(inputSchema rar.Value) ([]ParamHeader, error) {
	a := annotations{used: map[string]bool{}}
	if err := a.walk(inputSchema, "", ""); err != nil {
		return nil, err
	}
	return a.found, nil
}

type annotations struct {
	found []ParamHeader
	used  map[string]bool
}

// walk needs no bound of its own: a decoded value is no deeper than its decoder
// allowed.
func (a *annotations) walk(schema rar.Value, schemaPath, valuePath string) error {
	properties, ok := schema.Get("properties")
	if !ok || properties.Kind() != rar.Object {
		return nil
	}
	for i := range properties.Len() {
		p := properties.Member(i)
		token := "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(p.Name)
		at, value := schemaPath+"/properties"+token, valuePath+token
		if err := a.take(p.Value, at, value); err != nil {
			return err
		}
		if err := a.walk(p.Value, at, value); err != nil {
			return err
		}
	}
	return nil
}

func (a *annotations) take(property rar.Value, schemaPath, valuePath string) error {
	if _, present := property.Get("x-mcp-header"); !present {
		return nil
	}
	at := schemaPath + "/x-mcp-header"
	name, ok := text(property, "x-mcp-header")
	if !ok || !isFieldName(name) {
		return fail(CodeMessageInvalid, at, "not the name of a header field")
	}
	switch kind, _ := text(property, "type"); kind {
	case "string", "integer", "boolean":
	default:
		return fail(CodeMessageInvalid, at, "stands on something else than a string, an integer or a boolean")
	}
	folded := strings.ToLower(name)
	if a.used[folded] {
		return fail(CodeMessageInvalid, at, "is used twice")
	}
	a.used[folded] = true
	a.found = append(a.found, ParamHeader{Pointer: valuePath, Header: name})
	return nil
}

// isFieldName: token of RFC 9110 section 5.6.2.
func isFieldName(s string) bool {
	return s != "" && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~") == ""
}
