package rar_test

import (
	"bytes"
	"encoding/base64"
	"regexp"
	"strings"
	"testing"

	"github.com/authzd/authzd/rar"
)

func referenceKey(t testing.TB, fill byte) rar.ReferenceKey {
	t.Helper()
	key, err := rar.NewReferenceKey(bytes.Repeat([]byte{fill}, rar.MinReferenceKey))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

const resource = "https://mcp.example.com"

// referenceFile is testdata/reference.json.
type referenceFile struct {
	Format    string `json:"format"`
	TypesFile string `json:"types_file"`
	Vectors   []struct {
		Name    string     `json:"name"`
		Basis   string     `json:"basis"`
		Spec    string     `json:"spec"`
		Why     string     `json:"why"`
		Classes [][]string `json:"classes"`
	} `json:"vectors"`
	Properties []referenceProperty `json:"properties"`
}

type referenceProperty struct {
	Name  string `json:"name"`
	Basis string `json:"basis"`
	Spec  string `json:"spec"`
	Why   string `json:"why"`
	Given struct {
		Details   exact    `json:"authorization_details"`
		SingleUse bool     `json:"single_use"`
		Resources []string `json:"resources"`
		Revisions []string `json:"revisions"`
		Restart   bool     `json:"restart"`
	} `json:"given"`
	Expect struct {
		Reference      *bool    `json:"reference"`
		Charset        string   `json:"charset"`
		MustNotContain []string `json:"must_not_contain"`
		Keyed          bool     `json:"keyed"`
		Equal          *bool    `json:"references_equal"`
	} `json:"expect"`
}

// TestReferenceClasses: texts of one class share a reference, texts of two
// classes never do.
func TestReferenceClasses(t *testing.T) {
	t.Parallel()
	types := vectorTypes(t)
	keys := []rar.ReferenceKey{referenceKey(t, 1)}
	var file referenceFile
	loadVectors(t, "reference.json", &file)
	if len(file.Vectors) != 27 {
		t.Errorf("%d vectors, 27 are known", len(file.Vectors))
	}
	for _, v := range file.Vectors {
		seen := map[string]int{}
		for class, texts := range v.Classes {
			first := ""
			for i, text := range texts {
				got := types.References(keys, resource, elements(mustDecode(t, text)), false)
				if len(got) != 1 {
					t.Fatalf("%s: %s has references %q", v.Name, text, got)
				}
				if other, ok := seen[got[0]]; ok && other != class {
					t.Errorf("%s (%s): %s has the reference of another class", v.Name, v.Why, text)
				}
				seen[got[0]] = class
				if i == 0 {
					first = got[0]
				} else if got[0] != first {
					t.Errorf("%s (%s): %s differs from its class", v.Name, v.Why, text)
				}
			}
		}
	}
}

// TestReferencesOfNoDecimals: text that max and min can not judge never compares, and has
// no other spelling.
func TestReferencesOfNoDecimals(t *testing.T) {
	t.Parallel()
	types := compileOne(t, declare(t, `"s":{}`, `{"/s":"max"}`, ""))
	seen := map[string]string{}
	for _, s := range []string{`"a"`, `"0a"`, `"a0"`, `"1e1"`, `"10"`, `"01"`, `"1."`, `"-"`, `""`, `"0"`, `10`, `1`, `"1"`, `null`, `["1"]`, `["1.0"]`} {
		got := types.References([]rar.ReferenceKey{referenceKey(t, 1)}, resource, []rar.Value{object(t, `"s":`+s)}, false)
		if len(got) != 1 || seen[got[0]] != "" {
			t.Fatalf("%s has the reference of %s: %q", s, seen[got[0]], got)
		}
		seen[got[0]] = s
	}
}

func TestReferenceProperties(t *testing.T) {
	t.Parallel()
	var file referenceFile
	loadVectors(t, "reference.json", &file)
	if len(file.Properties) != 8 {
		t.Errorf("%d properties, 8 are known", len(file.Properties))
	}
	for _, p := range file.Properties {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			checkReferenceProperty(t, p)
		})
	}
}

func checkReferenceProperty(t *testing.T, p referenceProperty) {
	t.Helper()
	details := elements(p.Given.Details.Value)
	// Compiled anew each time, as after a restart or with a new revision.
	reference := func(fill byte, resource string) string {
		got := vectorTypes(t).References([]rar.ReferenceKey{referenceKey(t, fill)}, resource, details, p.Given.SingleUse)
		return strings.Join(got, " ")
	}
	got := reference(1, resource)
	if want := p.Expect.Reference; want != nil && *want != (got != "") {
		t.Errorf("reference %q, want one: %v", got, *want)
	}
	if p.Expect.Charset != "" && !regexp.MustCompile(p.Expect.Charset).MatchString(got) {
		t.Errorf("reference %q is not %s", got, p.Expect.Charset)
	}
	raw, err := base64.RawURLEncoding.DecodeString(got)
	if err != nil {
		t.Error(err)
	}
	for _, secret := range p.Expect.MustNotContain {
		if strings.Contains(got, secret) || bytes.Contains(raw, []byte(secret)) {
			t.Errorf("reference %q contains %q", got, secret)
		}
	}
	if p.Expect.Keyed && reference(2, resource) == got {
		t.Error("another key makes the same reference")
	}
	if p.Expect.Equal == nil {
		return
	}
	other := reference(1, resource)
	if len(p.Given.Resources) == 2 {
		got, other = reference(1, p.Given.Resources[0]), reference(1, p.Given.Resources[1])
	}
	if (got == other) != *p.Expect.Equal {
		t.Errorf("references %q and %q, want equal: %v", got, other, *p.Expect.Equal)
	}
}

// TestReferenceRotation: the first key makes the reference that is sent, and the
// one that it replaced is still told.
func TestReferenceRotation(t *testing.T) {
	t.Parallel()
	types := vectorTypes(t)
	details := elements(mustDecode(t, `[{"type":"account_information","actions":["a"]}]`))
	old, young := referenceKey(t, 1), referenceKey(t, 2)
	before := types.References([]rar.ReferenceKey{old}, resource, details, false)
	announced := types.References([]rar.ReferenceKey{old, young}, resource, details, false)
	after := types.References([]rar.ReferenceKey{young, old}, resource, details, false)
	if before[0] != announced[0] {
		t.Error("adding a second key changed the reference")
	}
	if after[0] != announced[1] || after[1] != announced[0] || after[0] == after[1] {
		t.Errorf("announced %q, after the rotation %q", announced, after)
	}
}

// TestReferenceStays: a reference outlives releases, since clients keep it with their
// credentials. Members of an object stand apart, and limits as text beside numbers.
func TestReferenceStays(t *testing.T) {
	t.Parallel()
	types, _, err := rar.CompileTypes([]rar.Declaration{declare(t,
		`"l":{"type":"array","items":{"type":"object"}},"n":{"type":["string","number"]}`, `{"/l":{"rule":"subset","items":{"/a":"equal","/b":"equal"}},"/n":"max"}`, "")})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{
		{`[{"type":"t","l":[{"b":2,"a":1},{"a":1}],"n":"10.0"}]`, "McThddKxt3gMY8TpfKriynDHl_OW0min"},
		{`[{"type":"t","l":[{"b":2,"a":1},{"a":1}],"n":10}]`, "ymB4RHpdxyCw2t9Aa4uXlFB2xe0XsyHO"},
	} {
		refs := types.References([]rar.ReferenceKey{referenceKey(t, 1)}, resource, elements(mustDecode(t, c[0])), false)
		if len(refs) != 1 || refs[0] != c[1] {
			t.Errorf("%s: %q, want %q", c[0], refs, c[1])
		}
	}
}

func TestNoReference(t *testing.T) {
	t.Parallel()
	types := vectorTypes(t)
	keys := []rar.ReferenceKey{referenceKey(t, 1)}
	known := elements(mustDecode(t, `[{"type":"account_information","actions":["a"]}]`))
	for name, got := range map[string][]string{
		"no key":       types.References(nil, resource, known, false),
		"zero key":     types.References([]rar.ReferenceKey{{}}, resource, known, false),
		"no details":   types.References(keys, resource, nil, false),
		"undeclared":   types.References(keys, resource, elements(mustDecode(t, `[{"type":"nobody's"}]`)), false),
		"no types":     (*rar.Types)(nil).References(keys, resource, known, false),
		"for one use":  types.References(keys, resource, known, true),
		"not a detail": types.References(keys, resource, []rar.Value{rar.StringValue("x")}, false),
	} {
		if got != nil {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestParseReferenceKey(t *testing.T) {
	t.Parallel()
	secret := bytes.Repeat([]byte{0xfb, 0xff, 0x10, 0x20}, 8)
	types := vectorTypes(t)
	details := elements(mustDecode(t, `[{"type":"account_information","actions":["a"]}]`))
	reference := func(k rar.ReferenceKey) string {
		return types.References([]rar.ReferenceKey{k}, resource, details, false)[0]
	}
	plain, err := rar.NewReferenceKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		base64.RawURLEncoding.EncodeToString(secret), base64.URLEncoding.EncodeToString(secret) + "\n",
		base64.StdEncoding.EncodeToString(secret) + "\r\n", " " + base64.RawStdEncoding.EncodeToString(secret),
	} {
		key, err := rar.ParseReferenceKey([]byte(text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if reference(key) != reference(plain) {
			t.Errorf("%q is another key", text)
		}
	}
	for _, text := range []string{
		"", "short", "not base64!" + strings.Repeat("A", 40), base64.RawURLEncoding.EncodeToString(secret[:31]),
		strings.Repeat("A", 44) + "\n" + strings.Repeat("A", 44),
	} {
		if _, err := rar.ParseReferenceKey([]byte(text)); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

// TestMetadata: the document has the members of the draft and none of ours.
func TestMetadata(t *testing.T) {
	t.Parallel()
	types := vectorTypes(t)
	doc := types.Metadata()
	if doc.Len() != len(types.Names()) {
		t.Fatalf("%d types of %d", doc.Len(), len(types.Names()))
	}
	for i, name := range types.Names() {
		m := doc.Member(i)
		if m.Name != name {
			t.Errorf("member %d is %q, want %q", i, m.Name, name)
		}
		pinned, _ := m.Value.Lookup("/schema/properties/type/const")
		if pinned.Text() != name {
			t.Errorf("%s: the schema pins %q", name, pinned.Text())
		}
		for _, ours := range []string{"compare", "single_use", "type"} {
			if _, ok := m.Value.Get(ours); ok {
				t.Errorf("%s tells %s", name, ours)
			}
		}
	}
	if got := (*rar.Types)(nil).Metadata(); got.Kind() != rar.Object || got.Len() != 0 {
		t.Errorf("without types: %s", got.AppendJSON(nil))
	}
}
