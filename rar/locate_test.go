package rar_test

import (
	"cmp"
	"testing"

	"github.com/authzd/authzd/rar"
)

// TestLocated: a need names the server only where its type says that a grant may be
// silent about locations, and never where it names some itself.
func TestLocated(t *testing.T) {
	t.Parallel()
	const list, silent = `"locations":{"type":"array","items":{"type":"string"}}`, `{"rule":"subset","absent":"any"}`
	const open, located = `{"type":"t"}`, `{"type":"t","locations":["https://a.example"]}`
	types := compileOne(t, declare(t, list, `{}`, ""))
	if got, ok := types.Located(mustDecode(t, open), "https://a.example"); ok || !rar.Equal(got, mustDecode(t, open)) {
		t.Errorf("without a rule: %s, %v", got.AppendJSON(nil), ok)
	}
	for name, c := range map[string]struct{ properties, rule, need, resource, want string }{
		"open":                  {list, silent, open, "https://a.example", located},
		"named":                 {list, silent, `{"type":"t","locations":["x"]}`, "https://a.example", ""},
		"no server":             {list, silent, open, "", ""},
		"of no type":            {list, silent, `{"type":"u"}`, "https://a.example", ""},
		"a grant has to say it": {list, `"subset"`, open, "https://a.example", ""},
		"another rule":          {list, `{"rule":"glob","absent":"any"}`, open, "https://a.example", ""},
		"of objects":            {`"locations":{"type":"array"}`, `{"rule":"subset","absent":"any","items":{"/x":"equal"}}`, open, "https://a.example", ""},
		"too long":              {`"locations":{"type":"array","items":{"type":"string","maxLength":5}}`, silent, open, "https://a.example", ""},
	} {
		types, _, err := rar.CompileTypes([]rar.Declaration{declare(t, c.properties, `{"/locations":`+c.rule+`}`, "")})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		need := mustDecode(t, c.need)
		got, ok := types.Located(need, c.resource)
		if want := mustDecode(t, cmp.Or(c.want, c.need)); ok != (c.want != "") || !rar.Equal(got, want) {
			t.Errorf("%s: %s, %v", name, got.AppendJSON(nil), ok)
		}
	}
}
