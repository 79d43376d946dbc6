package mcp_test

import (
	"errors"
	"testing"

	"github.com/authzd/authzd/mcp"
	"github.com/authzd/authzd/rar"
)

// FuzzDeclaredMapping: whatever a tool declares and a client sends, there is a
// question with every part that a decision needs, or an *mcp.Error.
func FuzzDeclaredMapping(f *testing.F) {
	for file := range declaredFiles() {
		for _, v := range load[mappingVector](f, file, "coaz-mapping/1") {
			if m, ok := mcp.DeclaredMapping(optional(f, v.ToolSchema)); ok {
				f.Add(render(m), render(optional(f, v.Params)))
			}
		}
	}
	token := value(f, []byte(testToken))
	f.Fuzz(func(t *testing.T, text, params string) {
		v, err := rar.DecodeStrict([]byte(text), rar.Limits{})
		if err != nil {
			t.Skip()
		}
		p, err := rar.DecodeStrict([]byte(params), rar.Limits{})
		if err != nil {
			t.Skip()
		}
		m, err := mcp.CompileMapping(v)
		var e *mcp.Error
		if err != nil {
			if !errors.As(err, &e) || e.Code != mcp.CodeMappingInvalid {
				t.Fatalf("compiling: %v", err)
			}
			return
		}
		got, err := m.Evaluate(t.Context(), p, mcp.MappingOptions{Token: token, Strict: true})
		if err != nil {
			if !errors.As(err, &e) || len(got.Evaluations) > 0 {
				t.Fatalf("evaluating: %v, %+v", err, got)
			}
			return
		}
		if !got.SubjectVerified || got.Subject.ID != "alice" || got.Subject.Type == "" || len(got.Evaluations) == 0 {
			t.Fatalf("asks for %+v", got)
		}
		for _, one := range got.Evaluations {
			_, marked := one.Context.Get("coaz")
			if one.Action == "" || one.Resource.Type == "" || one.Resource.ID == "" || marked {
				t.Fatalf("asks %+v", one)
			}
		}
	})
}
