package rar_test

import (
	"testing"

	"github.com/authzd/authzd/rar"
)

// TestDeclaredPart: only what the type does not have is taken away.
func TestDeclaredPart(t *testing.T) {
	t.Parallel()
	types := compileOne(t, declare(t, `"a":{"type":"string"},"o":{"type":"object","properties":{"b":{}},"additionalProperties":false},`+
		`"l":{"type":"array","items":{"type":"object","properties":{"c":{}},"additionalProperties":false}}`, `{"/a":"equal"}`, `"single_use":false`))
	for text, want := range map[string]string{
		`{"type":"t","a":"x"}`:                             `{"type":"t","a":"x"}`,
		`{"type":"t","a":"x","id":"1","z":{"y":2}}`:        `{"type":"t","a":"x"}`,
		`{"type":"t","o":{"b":1,"~/":2}}`:                  `{"type":"t","o":{"b":1}}`,
		`{"type":"t","l":[{"c":1},{"c":1,"d":2},{"e":3}]}`: `{"type":"t","l":[{"c":1},{"c":1},{}]}`,
		`{"type":"t","a":1,"id":"1"}`:                      "",
		`{"type":"u","id":"1"}`:                            "",
		`[]`:                                               "",
		`{"id":"1"}`:                                       "",
		`{"type":"t","o":{"b":1,"x":1},"l":[{"d":1}],"a":"x","q":[]}`: `{"type":"t","o":{"b":1},"l":[{}],"a":"x"}`,
	} {
		got, ok := types.DeclaredPart(mustDecode(t, text))
		if s := string(got.AppendJSON(nil)); s != want || ok != (want != "") {
			t.Errorf("%s: %q %v, want %q", text, s, ok, want)
		}
	}
	if _, ok := types.DeclaredPart(mustDecode(t, `{"type":"t",`+manyMembers(200, 1)[1:])); ok {
		t.Error("many unknown members are not worth the work")
	}
	var none *rar.Types
	if _, ok := none.DeclaredPart(mustDecode(t, `{"type":"t"}`)); ok {
		t.Error("without types there is no part")
	}
}
