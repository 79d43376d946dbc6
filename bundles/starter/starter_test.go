package starter_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/bundles/starter"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

var update = flag.Bool("update", false, "rewrite testdata/*.txtar")

func parse(tb testing.TB, text string) rar.Value {
	tb.Helper()
	v, err := rar.DecodeStrict([]byte(text), rar.Limits{MaxBytes: 1 << 20})
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

const onePath = `{"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}`

func yes() *bool { b := true; return &b }
func no() *bool  { return new(bool) }

// shop has a tool of each group.
func shop(tb testing.TB) starter.Server {
	tb.Helper()
	schema := parse(tb, onePath)
	return starter.Server{
		Name: "shop", Version: "1.2", Resources: true,
		Tools: []starter.Tool{
			{Name: "delete", Annotated: true, Destructive: yes(), Schema: schema},
			{Name: "search", Annotated: true, ReadOnly: true, OpenWorld: true, Schema: parse(tb,
				`{"type": "object", "properties": {"kind": {"enum": ["book", "film"]}, "max": {"type": "integer", "minimum": 5}}, "required": ["kind", "max"], "additionalProperties": false}`)},
			{Name: "add", Annotated: true, Destructive: no(), Schema: schema},
			{Name: "list", Annotated: true, ReadOnly: true, Schema: parse(tb, `{"type": "object"}`)},
			{Name: "silent", Schema: schema},
			{Name: "odd \"name\"\n# \u202e", Annotated: true, ReadOnly: true, Schema: schema},
			{Name: "mapped", Annotated: true, ReadOnly: true, Schema: parse(tb, `{"type": "object", "x-authzen-mapping": {"resource": {"id": "x"}}}`)},
			{Name: "broken", Annotated: true, ReadOnly: true, Schema: parse(tb, `{"type": "object", "properties": {"a": {"pattern": "("}}}`)},
			{Name: "open", Annotated: true, ReadOnly: true, Schema: parse(tb, `{"type": "object", "additionalProperties": true}`)},
			{Name: "coded", Annotated: true, ReadOnly: true, Schema: parse(tb,
				`{"type": "object", "properties": {"code": {"type": "string", "pattern": "^X[0-9]{7}$"}}, "required": ["code"]}`)},
		},
	}
}

func generate(tb testing.TB, s starter.Server) starter.Bundle {
	tb.Helper()
	b, err := starter.Generate(tb.Context(), s)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// open reads the files as a bundle, compiles it and runs its Rego tests.
func open(tb testing.TB, b starter.Bundle) *engine.Engine {
	tb.Helper()
	files := fstest.MapFS{}
	for _, f := range b.Files {
		files[f.Path] = &fstest.MapFile{Data: f.Data}
		if filepath.Ext(f.Path) != ".rego" {
			continue
		}
		if want, err := format.SourceWithOpts(f.Path, f.Data, format.Opts{RegoVersion: ast.RegoV1}); err != nil || string(want) != string(f.Data) {
			tb.Errorf("%s is not as opa fmt writes it: %v\n%s", f.Path, err, cmp.Diff(string(want), string(f.Data)))
		}
	}
	c, err := bundles.OpenFS(files, bundles.Limits{})
	if err != nil {
		tb.Fatal(err)
	}
	// What the cases say is asked in cmd/authzd, where the answers are made.
	unasked := func(context.Context, []byte, time.Time) (bundles.Answer, error) { return bundles.Answer{}, nil }
	if _, err := bundles.RunCases(tb.Context(), c, unasked); err != nil {
		tb.Fatal(err)
	}
	c.Bundle.Name = "starter"
	snapshot, warnings, err := engine.Compile(tb.Context(), []engine.Bundle{c.Bundle})
	if err != nil || len(warnings)+len(c.Warnings) > 0 {
		tb.Fatalf("%v, %v, %v", err, warnings, c.Warnings)
	}
	results, err := bundles.RunTests(tb.Context(), c.Bundle, bundles.TestOptions{StrictBuiltins: true, Timeout: time.Minute})
	if err != nil || len(results) < 6 {
		tb.Fatalf("%d tests, %v", len(results), err)
	}
	for _, r := range results {
		if r.Outcome != bundles.OutcomePass {
			tb.Errorf("%s: %s %s", r.Name, r.Outcome, r.Message)
		}
	}
	e := engine.New(engine.Options{})
	e.Swap(snapshot)
	return e
}

// decide calls a tool, with the schema that a server would send along.
func decide(tb testing.TB, e *engine.Engine, tool, arguments string) engine.Decision {
	tb.Helper()
	args := parse(tb, arguments)
	d, err := e.Decide(tb.Context(), &engine.Query{
		Subject: &engine.Subject{Type: "identity", ID: "alice"},
		Action:  engine.Action{Name: "tools/call"}, Resource: engine.Resource{Type: "tool", ID: tool},
		MCP: &engine.MCP{
			Method: "tools/call", Transport: "stdio", Server: "https://mcp.example.com",
			Params: rar.ObjectValue(rar.Member{Name: "name", Value: rar.StringValue(tool)}, rar.Member{Name: "arguments", Value: args}),
			Tool:   parse(tb, `{"inputSchema": {"type": "object", "additionalProperties": true}, "annotations": {"readOnlyHint": true}}`),
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

func text(b starter.Bundle, path string) string {
	i := slices.IndexFunc(b.Files, func(f bundles.File) bool { return f.Path == path })
	if i < 0 {
		return ""
	}
	return string(b.Files[i].Data)
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]starter.Server{"shop": shop(t), "empty": {Name: "nothing"}} {
		b := generate(t, s)
		open(t, b)
		got := &txtar.Archive{Comment: []byte("What authzd init writes for the server " + name + " of starter_test.go.\n")}
		for _, f := range b.Files {
			got.Files = append(got.Files, txtar.File{Name: f.Path, Data: f.Data})
		}
		got.Files = append(got.Files, txtar.File{Name: "warnings", Data: []byte(strings.Join(append(b.Warnings, ""), "\n"))})
		file := filepath.Join("testdata", name+".txtar")
		if *update {
			if err := os.WriteFile(file, txtar.Format(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(txtar.Format(got))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}

func TestOrderDoesNotMatter(t *testing.T) {
	t.Parallel()
	s := shop(t)
	want := generate(t, s).Files
	slices.Reverse(s.Tools)
	if diff := cmp.Diff(want, generate(t, s).Files, cmpopts.IgnoreUnexported(bundles.File{})); diff != "" {
		t.Error(diff)
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	schema := parse(t, onePath)
	tests := []struct {
		name  string
		tools []starter.Tool
		want  starter.Group
	}{
		{"reads", []starter.Tool{{Annotated: true, ReadOnly: true}}, starter.ReadOnly},
		{"reads and does not destroy", []starter.Tool{{Annotated: true, ReadOnly: true, Destructive: no()}}, starter.ReadOnly},
		{"reads and destroys", []starter.Tool{{Annotated: true, ReadOnly: true, Destructive: yes()}}, starter.Doubtful},
		{"destroys", []starter.Tool{{Annotated: true, Destructive: yes()}}, starter.Destructive},
		{"adds", []starter.Tool{{Annotated: true, Destructive: no()}}, starter.Additive},
		{"says nothing", []starter.Tool{{}}, starter.Unannotated},
		{"listed twice alike", []starter.Tool{{Annotated: true, ReadOnly: true}, {Annotated: true, ReadOnly: true}}, starter.ReadOnly},
		{"listed twice", []starter.Tool{{Annotated: true, ReadOnly: true}, {Annotated: true, Destructive: yes()}}, starter.Doubtful},
		{"listed twice, the worse first", []starter.Tool{{}, {Annotated: true, ReadOnly: true}}, starter.Doubtful},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for i := range tt.tools {
				tt.tools[i].Name, tt.tools[i].Schema = "tool", schema
			}
			b := generate(t, starter.Server{Name: "s", Tools: tt.tools})
			if len(b.Tools) != 1 || b.Tools[0].Group != tt.want || (tt.want == starter.Doubtful) != (len(b.Warnings) > 0) {
				t.Fatalf("%+v, %q", b.Tools, b.Warnings)
			}
			e := open(t, b)
			if d := decide(t, e, "tool", `{"path": "a"}`); d.Allow != (tt.want == starter.ReadOnly) || (!d.Allow && d.Rule != "needs-review") {
				t.Errorf("%+v", d)
			}
			if d := decide(t, e, "another", `{"path": "a"}`); d.Allow {
				t.Error("an unknown tool is permitted")
			}
		})
	}
}

// Whatever a tool is called, it is not permitted by it, and nothing else is.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	names := []string{
		`"`, `\`, `a"] := {} if true #`, "a\npermit[\"x\"] := {} if true", "# METADATA\n# scope: package", "a\r\nb", "\x00", "\t", "\x7f",
		"__proto__", "constructor", "../../etc/passwd", "/etc/passwd", "..", ".", "C:\\x", "a/b", "~", "a~1b", "%2e%2e", "{{.Server}}", "{/resource/id}",
		"data.json", "policy.rego", "\u202ereversed", "rеad", "日本", "\U0001F600", "\ufeff", "\u2028", "\u0085", "- a: b", "? x", "&a", "*a", "!!x", "null", "true", "1e3", "0x10",
		"session", "offers", "needs-review", "call session", "no-such-tool", "no-such-tool-", strings.Repeat("x", 129), strings.Repeat("é", 128),
		"tool:x", "x is permitted", "set()", " ", "a ", " a", "`", "$(x)", "x: {}", "'", "input", "tools/list",
	}
	left := []string{"", strings.Repeat("x", 257), "bad\xff", "\ufffd"}
	s := starter.Server{Name: "evil\n\npermit[\"all\"] := {} if true", Version: "\u202e\"\x1b[2J"}
	for _, n := range slices.Concat(names, left) {
		s.Tools = append(s.Tools, starter.Tool{Name: n, Annotated: true, ReadOnly: true, Schema: parse(t, onePath)})
	}
	b := generate(t, s)
	if len(b.Tools) != len(names) {
		t.Fatalf("%d tools, want %d", len(b.Tools), len(names))
	}
	e := open(t, b)
	for _, tool := range b.Tools {
		ordinary := len(tool.Name) <= 128 && strings.Trim(tool.Name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-") == ""
		d := decide(t, e, tool.Name, `{"path": "a"}`)
		want := "needs-review"
		if ordinary {
			want = "tool:" + tool.Name
		}
		if d.Allow != ordinary || d.Rule != want {
			t.Errorf("%q: allow %v by %q (%v)", tool.Name, d.Allow, d.Rule, d.Error)
		}
	}
	for _, f := range b.Files {
		if strings.ContainsAny(f.Path, "\\%") || strings.Contains(f.Path, "..") || strings.Count(f.Path, "/") > 1 {
			t.Errorf("file %q", f.Path)
		}
		for _, r := range string(f.Data) {
			if (r < ' ' && r != '\n' && r != '\t') || r == 0x202e || r == 0xfeff || r == 0x2028 || r == 0x85 || r == 0x7f {
				t.Errorf("%s holds %q", f.Path, r)
			}
		}
	}
}

func TestSchemasRefused(t *testing.T) {
	t.Parallel()
	// Each definition refers to the next one twice.
	var defs []string
	for i := range 20 {
		defs = append(defs, fmt.Sprintf(`"d%d": {"allOf": [{"$ref": "#/$defs/d%d"}, {"$ref": "#/$defs/d%d"}]}`, i, i+1, i+1))
	}
	doubling := `{"type": "object", "$defs": {` + strings.Join(defs, ", ") + `, "d20": {}}, "properties": {"x": {"$ref": "#/$defs/d0"}}}`
	refused := map[string]string{
		"pattern": `{"type": "object", "properties": {"a": {"pattern": "("}}}`,
		"dialect": `{"$schema": "http://json-schema.org/draft-04/schema#", "type": "object"}`,
		"remote":  `{"$ref": "https://evil.example/schema"}`,
		"file":    `{"$ref": "file:///etc/passwd"}`,
		"cost":    doubling,
		"array":   `[]`,
		"true":    `true`,
		"null":    `null`,
		"keyword": `{"type": 7}`,
		"anchor":  `{"type": "object", "$dynamicRef": "#x"}`,
		"large":   `{"type": "object", "description": "` + strings.Repeat("x", starter.MaxSchemaBytes) + `"}`,
	}
	s := starter.Server{Name: "s", Tools: []starter.Tool{
		{Name: "absent", Annotated: true, ReadOnly: true},
		{Name: "good", Annotated: true, ReadOnly: true, Schema: parse(t, onePath)},
	}}
	for name, schema := range refused {
		s.Tools = append(s.Tools, starter.Tool{Name: name, Annotated: true, ReadOnly: true, Schema: parse(t, schema)})
	}
	b := generate(t, s)
	if got := b.Of(starter.ReadOnly); !slices.Equal(got, []string{"good"}) {
		t.Errorf("permitted: %q", got)
	}
	if len(b.Warnings) != len(refused)+1 {
		t.Errorf("warnings %q", b.Warnings)
	}
	e := open(t, b)
	if d := decide(t, e, "good", `{"path": "a"}`); !d.Allow {
		t.Errorf("good: %+v", d)
	}
	for name := range refused {
		if d := decide(t, e, name, `{}`); d.Allow || d.Rule != "needs-review" {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// A number that a double may have changed on its way is told of.
func TestNumbersThatWereRounded(t *testing.T) {
	t.Parallel()
	for number, want := range map[string]int{"9007199254740991": 0, "9007199254740994": 1, "9223372036854776000": 0, "0.1": 0} {
		b := generate(t, starter.Server{Tools: []starter.Tool{{
			Name: "t", Annotated: true, ReadOnly: true,
			Schema: parse(t, `{"type": "object", "properties": {"n": {"type": "integer", "maximum": `+number+`}}}`),
		}}})
		if len(b.Warnings) != want || b.Tools[0].Group != starter.ReadOnly {
			t.Errorf("%s: %q", number, b.Warnings)
		}
	}
}

func TestMethodsFollowWhatIsOffered(t *testing.T) {
	t.Parallel()
	for _, s := range []starter.Server{{}, {Resources: true}, {Prompts: true}, {Resources: true, Prompts: true}} {
		e := open(t, generate(t, s))
		for method, want := range map[string]bool{
			"tools/list": true, "initialize": true, "resources/templates/list": true, "resources/read": s.Resources, "prompts/get": s.Prompts,
			"tasks/get": false, "tools/call": false, "Tools/list": false,
		} {
			d, err := e.Decide(t.Context(), &engine.Query{
				Subject: &engine.Subject{Type: "identity", ID: "alice"}, Action: engine.Action{Name: method},
				Resource: engine.Resource{Type: "mcp_server", ID: "https://mcp.example.com"},
			})
			if method == "tools/call" && err == nil && d.Allow || method != "tools/call" && (err != nil || d.Allow != want) {
				t.Errorf("%+v %s: %v, %v", s, method, d.Allow, err)
			}
		}
	}
}

func TestManyTools(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("compiles hundreds of schemas")
	}
	s := starter.Server{Name: "s"}
	for i := range 420 {
		s.Tools = append(s.Tools, starter.Tool{
			Name: "tool-" + strings.Repeat("x", 100) + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676)), Annotated: true,
			ReadOnly: i%2 == 0, Schema: parse(t, onePath),
		})
	}
	b := generate(t, s)
	open(t, b)
	if cases := text(b, "cases/permitted.yaml"); len(cases) > 512<<10 || !strings.Contains(cases, "# Tools without a case: ") {
		t.Errorf("%d bytes of cases", len(cases))
	}
}

// FuzzGenerate: no server causes an error, and each bundle compiles, passes its
// own tests and permits no more than what says that it reads.
func FuzzGenerate(f *testing.F) {
	f.Add("read", onePath, true, false)
	f.Add("a\"b\n", `{"type": "object", "properties": {"a\u202e": {"enum": ["\ud83d\ude00", 1e2]}}, "required": ["a\u202e"]}`, true, true)
	f.Add("x", `{"$ref": "#"}`, true, false)
	f.Add("x", `{"type": "object", "required": ["a/b", "c"], "minProperties": 3}`, false, false)
	f.Fuzz(func(t *testing.T, name, schema string, readOnly, destructive bool) {
		v, err := rar.DecodeStrict([]byte(schema), rar.Limits{})
		if err != nil {
			v = rar.Value{}
		}
		b := generate(t, starter.Server{Name: name, Version: schema, Tools: []starter.Tool{
			{Name: name, Annotated: true, ReadOnly: readOnly, Destructive: &destructive, Schema: v},
		}})
		e := open(t, b)
		if d := decide(t, e, strings.ToValidUTF8(name, "\ufffd"), `{}`); d.Allow && (!readOnly || destructive) {
			t.Errorf("%+v", d)
		}
	})
}
