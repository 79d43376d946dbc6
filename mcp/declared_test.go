package mcp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/mcp"
	"github.com/authzd/authzd/rar"
)

// asked is what an enforcement point does with a message: the mapping of the
// tool if it declares one, else the default table.
func (v mappingVector) asked(t *testing.T) (mcp.Asked, error) {
	t.Helper()
	params := optional(t, v.Params)
	o := v.options(t)
	mapping, declared := mcp.DeclaredMapping(o.InputSchema)
	if v.Method == "tools/call" && declared {
		m, err := mcp.CompileMapping(mapping)
		if err != nil {
			return mcp.Asked{}, err
		}
		return m.Evaluate(t.Context(), params, mcp.MappingOptions{Token: o.Token, SubjectClaim: o.SubjectClaim})
	}
	m, err := mcp.Map(v.Method, params, o)
	if err != nil {
		return mcp.Asked{}, err
	}
	return mcp.Asked{Body: jsonOf(t, map[string]any{
		"subject":  map[string]any{"type": m.SubjectType, "id": m.SubjectID},
		"action":   map[string]any{"name": m.Action},
		"resource": map[string]any{"type": m.ResourceType, "id": m.ResourceID},
		"context":  m.Context.Any(),
	})}, nil
}

func jsonOf(t testing.TB, v any) rar.Value {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return value(t, raw)
}

// declaredFiles are the vectors that came with the specification's digest, and
// how many there are: one that goes missing is to be noticed.
func declaredFiles() map[string]int {
	return map[string]int{"coaz-declared.json": 69, "coaz-errors.json": 58}
}

func TestDeclaredVectors(t *testing.T) {
	t.Parallel()
	for file, count := range declaredFiles() {
		vectors := load[mappingVector](t, file, "coaz-mapping/1")
		if len(vectors) != count {
			t.Errorf("%s has %d vectors, want %d", file, len(vectors), count)
		}
		for _, v := range vectors {
			t.Run(file+"/"+v.Name, func(t *testing.T) {
				t.Parallel()
				got, err := v.asked(t)
				if v.ExpectError != nil {
					var e *mcp.Error
					if !errors.As(err, &e) {
						t.Fatalf("got %s, %v, want %s; %s", render(got.Body), err, v.ExpectError.Category, v.Note)
					}
					v.checkCode(t, e, err)
					if got.Body.Kind() != rar.Absent || len(got.Evaluations) > 0 {
						t.Errorf("asks %s beside the error", render(got.Body))
					}
					return
				}
				if err != nil {
					t.Fatalf("refused: %v; %s", err, v.Note)
				}
				v.checkAsked(t, got)
			})
		}
	}
}

func (v mappingVector) checkAsked(t *testing.T, got mcp.Asked) {
	t.Helper()
	if want := v.ExpectRequest.API == "evaluations"; got.Batch != want {
		t.Errorf("batch %v, want %v", got.Batch, want)
	}
	if want := value(t, v.ExpectRequest.Body); !rar.Equal(plain(got.Body), plain(want)) {
		t.Errorf("asks %s\nwant %s\n%s", render(got.Body), render(want), v.Note)
	}
	var warned []string
	for _, w := range got.Warnings {
		warned = append(warned, string(w.Kind))
	}
	if diff := cmp.Diff(v.ExpectWarnings, warned); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// plain leaves out what equals its absence: an empty context, and empty
// properties, of which one vector writes {} where another leaves them out.
func plain(v rar.Value) rar.Value {
	if v.Kind() != rar.Object {
		return v
	}
	var members []rar.Member
	for i := range v.Len() {
		m := v.Member(i)
		m.Value = plain(m.Value)
		if (m.Name == "context" || m.Name == "properties") && m.Value.Kind() == rar.Object && m.Value.Len() == 0 {
			continue
		}
		members = append(members, m)
	}
	return rar.ObjectValue(members...)
}

// mapping compiles text, which has to be a good mapping.
func mapping(t testing.TB, text string) *mcp.Mapping {
	t.Helper()
	m, err := mcp.CompileMapping(value(t, []byte(text)))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return m
}

const testToken = `{"iss":"https://as.example.com","sub":"alice","client_id":"agent","email":"secret@example.com"}`

// withContext is a mapping whose context member x is the JSON given.
func withContext(x string) string {
	return `{"evaluation":{"action":{"name":"act"},"resource":{"type":"thing","id":"i"},"context":{"x":` + x + `}}}`
}

func evaluate(t testing.TB, m *mcp.Mapping, params string) (mcp.Asked, error) {
	t.Helper()
	return m.Evaluate(t.Context(), value(t, []byte(params)), mcp.MappingOptions{Token: value(t, []byte(testToken))})
}

func TestDeclaredValues(t *testing.T) {
	t.Parallel()
	const params = `{"arguments":{"big":9007199254740993,"small":0.1,"fine":0.1000000000000000055,"huge":1e300,"whole":1e3,"list":[1,2]},"_meta":{"k":"v"}}`
	for _, c := range []struct{ name, x, want, refused string }{
		{name: "a decimal", x: `"$params.arguments.small"`, want: `0.1`},
		{name: "a whole number with an exponent", x: `"$params.arguments.whole"`, want: `1000`},
		{name: "a great number", x: `"$params.arguments.huge"`, want: `1e300`},
		{name: "zero", x: `"$0.0"`, want: `0`},
		{name: "a negative fraction", x: `"$-0.25"`, want: `-0.25`},
		{name: "the smallest without an exponent", x: `"$0.000001"`, want: `0.000001`},
		{name: "smaller", x: `"$0.0000005"`, want: `5e-7`},
		{name: "members of a map in order", x: `"${'b': 1, 'a': 2, 'c': 3}"`, want: `{"a":2,"b":1,"c":3}`},
		{name: "a literal keeps its digits", x: `9007199254740993`, want: `9007199254740993`},
		{name: "the client's _meta is there", x: `"$params._meta.k"`, want: `"v"`},
		{name: "an unsigned number", x: `"$18446744073709551615u"`, want: `18446744073709551615`},
		{name: "a nested optional in a list", x: `"$[?token.?nope, ?token.?sub]"`, want: `["alice"]`},
		{name: "a counted pattern", x: `"$'aaa'.matches('^a{3}$') && matches('b', 'b')"`, want: `true`},
		{name: "a number that a double changes", x: `"$params.arguments.big"`, refused: "a number that a double can not hold"},
		{name: "the same to a text", x: `"$string(params.arguments.big)"`, refused: "a number that a double can not hold"},
		{name: "the same in a comparison", x: `"$params.arguments.big == 9007199254740992.0"`, refused: "a number that a double can not hold"},
		{name: "the same in a whole object", x: `"$params.arguments"`, refused: "a number that a double can not hold"},
		{name: "a decimal that a double changes", x: `"$params.arguments.fine"`, refused: "a number that a double can not hold"},
		{name: "a pattern that is none", x: `"$'a'.matches('(')"`, refused: "not a pattern"},
		{name: "a long pattern", x: `"$'a'.matches('` + strings.Repeat("a", 513) + `')"`, refused: "too large a pattern for the text"},
		{name: "a large pattern", x: `"$'a'.matches('(a{500}|b{500})')"`, refused: "too large a pattern for the text"},
		{name: "no text to match", x: `"$params.arguments.small.matches('.')"`, refused: "no such overload"},
		{name: "no pattern to match", x: `"$'0.1'.matches(params.arguments.small)"`, refused: "no such overload"},
		{name: "what failed is named", x: `"$params.nope + 'mark'"`, refused: "in the expression params.nope + 'mark'"},
		{name: "bytes", x: `"$b'x'"`, refused: "no JSON value"},
		{name: "a timestamp", x: `"$timestamp('2026-01-01T00:00:00Z')"`, refused: "no JSON value"},
		{name: "a duration", x: `"$duration('1s')"`, refused: "no JSON value"},
		{name: "infinity", x: `"$double('Infinity')"`, refused: "a number that JSON does not have"},
		{name: "a map with numbers for keys", x: `"${1: 'a'}"`, refused: "keys that are no strings"},
		{name: "an optional inside a list", x: `"$[token.?sub]"`, refused: "no JSON value"},
		{name: "an absent element of a list", x: `["$token.?nope", "b"]`, refused: "an element of a list is absent"},
		{name: "a missing key is not quoted", x: `"$params[token.email]"`, refused: "no such key in"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := evaluate(t, mapping(t, withContext(c.x)), params)
			if c.refused != "" {
				var e *mcp.Error
				if !errors.As(err, &e) || e.Code != mcp.CodeMapping || !strings.Contains(err.Error(), c.refused) {
					t.Fatalf("got %s, %v, want a mapping error with %q", render(got.Body), err, c.refused)
				}
				if strings.Contains(err.Error(), "secret@") {
					t.Errorf("the error tells a claim: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if x, _ := got.Evaluations[0].Context.Get("x"); !rar.Equal(x, value(t, []byte(c.want))) {
				t.Errorf("x is %s, want %s", render(x), c.want)
			}
		})
	}
}

func TestDeclaredStrict(t *testing.T) {
	t.Parallel()
	token := value(t, []byte(testToken))
	params := value(t, []byte(`{"arguments":{"who":"bob","me":"alice"}}`))
	for id, want := range map[string]mcp.Code{
		`"$token.sub"`:                    "",
		`"$token['sub']"`:                 "",
		`"$params.arguments.me"`:          "", // equal by value
		`"alice"`:                         "",
		`"$params.arguments.who"`:         mcp.CodeMappingSubject,
		`"bob"`:                           mcp.CodeMappingSubject,
		`"Alice"`:                         mcp.CodeMappingSubject,
		`"$token.client_id"`:              mcp.CodeMappingSubject,
		`"$params.?arguments.?nope"`:      mcp.CodeMapping,
		`"$token.sub + ''"`:               "",
		`"$'' + params.arguments.who"`:    mcp.CodeMappingSubject,
		`"$params.arguments.who.size()"`:  mcp.CodeMapping,
		`"$has(token.x) ? 'alice' : ' '"`: mcp.CodeMappingSubject,
	} {
		m := mapping(t, `{"evaluation":{"subject":{"id":`+id+`},"action":{"name":"act"},"resource":{"type":"thing","id":"i"}}}`)
		got, err := m.Evaluate(t.Context(), params, mcp.MappingOptions{Token: token, Strict: true})
		var e *mcp.Error
		switch {
		case want == "" && (err != nil || !got.SubjectVerified || got.Subject.ID != "alice"):
			t.Errorf("%s: got %+v, %v", id, got.Subject, err)
		case want != "" && (!errors.As(err, &e) || e.Code != want || e.Path != "/evaluation/subject/id"):
			t.Errorf("%s: got %+v, %v, want %s", id, got.Subject, err, want)
		}
	}
}

func TestDeclaredBounds(t *testing.T) {
	t.Parallel()
	many := func(n int, one string) string { return strings.TrimSuffix(strings.Repeat(one+",", n), ",") }
	for name, text := range map[string]string{
		"a long expression":        withContext(`"$'` + strings.Repeat("x", 2048) + `'"`),
		"many expressions":         withContext(`[` + many(65, `"$1"`) + `]`),
		"much text of expressions": withContext(`[` + many(20, `"$'`+strings.Repeat("x", 1000)+`'"`) + `]`),
		"deep literals":            withContext(strings.Repeat(`[`, 20) + strings.Repeat(`]`, 20)),
		"deep parentheses":         withContext(`"$` + strings.Repeat("(", 200) + "1" + strings.Repeat(")", 200) + `"`),
		"a long sum":               withContext(`"$` + strings.Repeat("1+", 600) + `1"`),
		"nested loops":             withContext(`"$params.a.all(x, params.a.all(y, params.a.all(z, true)))"`),
		"a large mapping":          withContext(`"` + strings.Repeat("x", 32<<10) + `"`),
		"many entries":             `{"evaluations":{"action":{"name":"a"},"resource":{"type":"t","id":"i"},"evaluations":[` + many(17, `{}`) + `]}}`,
		"an object for a text":     `{"evaluation":{"action":{"name":"a"},"resource":{"type":{"a":"$token.sub"},"id":"i"}}}`,
		"a list of one":            `["evaluation"]`,
		"a text":                   `"evaluation"`,
		"entries in an object":     `{"evaluations":{"action":{"name":"a"},"resource":{"type":"t","id":"i"},"evaluations":{"0":{}}}}`,
		"an entry that is none":    `{"evaluations":{"action":{"name":"a"},"resource":{"type":"t","id":"i"},"evaluations":[{},1]}}`,
		"a list for an action":     `{"evaluation":{"action":["$token.sub"],"resource":{"type":"t","id":"i"}}}`,
		"a list for a context":     `{"evaluation":{"action":{"name":"a"},"resource":{"type":"t","id":"i"},"context":["$token.sub"]}}`,
		"a resource without id":    `{"evaluation":{"action":{"name":"a"},"resource":{"type":"$token.sub"}}}`,
		"an empty id":              `{"evaluation":{"action":{"name":"a"},"resource":{"type":"t","id":""}}}`,
		"an empty id, and a type":  `{"evaluation":{"action":{"name":"a"},"resource":{"type":"$token.sub","id":""}}}`,
		"coaz in the context":      `{"evaluation":{"action":{"name":"a"},"resource":{"type":"t","id":"i"},"context":{"coaz":{"mapped":false}}}}`,
		"coaz by an expression":    `{"evaluation":{"action":{"name":"a"},"resource":{"type":"t","id":"i"},"context":{"coaz":"$token.?x"}}}`,
		"a library of strings":     withContext(`"$params.a.lowerAscii()"`),
		"the sets library":         withContext(`"$sets.contains([1], [1])"`),
		"binding":                  withContext(`"$cel.bind(x, 1, x)"`),
	} {
		_, err := mcp.CompileMapping(value(t, []byte(text)))
		var e *mcp.Error
		if !errors.As(err, &e) || e.Code != mcp.CodeMappingInvalid {
			t.Errorf("%s: got %v, want %s", name, err, mcp.CodeMappingInvalid)
		}
	}
	var loops strings.Builder
	for i := range 20 {
		fmt.Fprintf(&loops, `%c"k%d":"$params.a.all(x, x.startsWith('abc'))"`, "{,"[min(i, 1)], i)
	}
	loops.WriteString("}")
	list := `{"a":[` + many(3000, `"abcdefgh"`) + `],"s":"` + strings.Repeat("s", 30000) + `"}`
	for name, text := range map[string]string{
		"a costly loop":             withContext(`"$params.a.all(x, params.a.all(y, x == y))"`),
		"copies of a large value":   withContext(`"$params.a.map(x, params.s)"`),
		"a large result":            withContext(`["$params.s","$params.s","$params.s"]`),
		"copies of an object":       withContext(`"$[params,params,params,params]"`),
		"many loops within the one": withContext(`[` + many(20, `"$params.a.all(x, x.startsWith('abc'))"`) + `]`),
		// An attribute that is left out may be the one that policy forbids.
		"many loops beside each other": withContext(loops.String()),
		"a great pattern":              withContext(`"$params.s.matches('(a{500}|b{500}|c{500})')"`),
		"no pattern":                   withContext(`"$params.s.matches('(')"`),
		"a pattern from the call":      withContext(`"$'a'.matches('(((' + params.a[0] + '{100}){100}){10})')"`),
		"coaz in a whole context":      `{"evaluation":{"action":{"name":"a"},"resource":{"type":"t","id":"i"},"context":"${'coaz': {'mapped': true}}"}}`,
	} {
		got, err := evaluate(t, mapping(t, text), list)
		var e *mcp.Error
		if !errors.As(err, &e) || e.Code != mcp.CodeMapping || len(got.Evaluations) > 0 {
			t.Errorf("%s: got %v, want %s", name, err, mcp.CodeMapping)
		}
	}
}

func TestMappingWarnings(t *testing.T) {
	t.Parallel()
	m := mapping(t, `{"evaluations":{"subject":{"type":"'identity'","id":"token.sub"},"resource":{"type":"\"q\"","id":"params['x']"},
		"evaluations":[{"action":{"name":"''"}},{"action":{"name":"it's"},"context":{"agent":"$token.?client_id","note":"tokens.x","open":"'a\"","mark":"'"}},{"action":{"name":"c"},"context":"$params"},
		{"action":{"name":"d"},"context":{"note":1,"same":"abba"}},{"action":{"name":"e"},"context":{"note":"$params.?x"}}]}}`)
	var got []string
	for _, w := range m.Warnings() {
		got = append(got, fmt.Sprintf("%s %s", w.Kind, w.Path))
	}
	want := []string{
		"quoted_literal /evaluations/subject/type",
		"bare_path /evaluations/subject/id",
		"quoted_literal /evaluations/resource/type",
		"bare_path /evaluations/resource/id",
		"quoted_literal /evaluations/evaluations/0/action/name",
		"agent_missing /evaluations/evaluations/0/context",
		"agent_missing /evaluations/evaluations/3/context",
		"agent_missing /evaluations/evaluations/4/context",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// TestAgentOfTheDefaults: an entry without a context has that beside the list.
func TestAgentOfTheDefaults(t *testing.T) {
	t.Parallel()
	m := mapping(t, `{"evaluations":{"action":{"name":"a"},"resource":{"type":"t","id":"i"},"context":{"agent":"$token.client_id"},
		"evaluations":[{},{"context":{"note":1}}]}}`)
	if got, want := m.Warnings(), []mcp.MappingWarning{{Kind: mcp.WarnAgentMissing, Path: "/evaluations/evaluations/1/context"}}; !cmp.Equal(got, want) {
		t.Errorf("warnings %v, want %v", got, want)
	}
}

// TestClaimIsTheSubjectsAlone: $token.sub stands for the claim that names the subject
// where the subject is named, and is what it says elsewhere.
func TestClaimIsTheSubjectsAlone(t *testing.T) {
	t.Parallel()
	m := mapping(t, `{"evaluation":{"subject":{"id":"$token.sub"},"action":{"name":"act"},"resource":{"type":"thing","id":"$token.sub"}}}`)
	got, err := m.Evaluate(t.Context(), rar.Value{}, mcp.MappingOptions{Token: value(t, []byte(testToken)), SubjectClaim: "email"})
	if err != nil || got.Subject.ID != "secret@example.com" || got.Evaluations[0].Resource.ID != "alice" {
		t.Errorf("%+v, %v", got, err)
	}
	got, err = m.Evaluate(t.Context(), rar.Value{}, mcp.MappingOptions{Token: value(t, []byte(testToken)), SubjectClaim: "email", SubjectID: "bob"})
	if err != nil || got.Subject.ID != "bob" || !got.SubjectVerified || got.Evaluations[0].Resource.ID != "alice" {
		t.Errorf("a person who was settled otherwise: %+v, %v", got, err)
	}
}

// TestDeclaredNeedsItsInput: without a token, or with params that are none, nothing is
// asked; a message without params has empty ones.
func TestDeclaredNeedsItsInput(t *testing.T) {
	t.Parallel()
	m := mapping(t, `{"evaluation":{"subject":{"id":"alice"},"action":{"name":"act"},"resource":{"type":"t","id":"i"},"context":"$params"}}`)
	token := value(t, []byte(testToken))
	for name, c := range map[string]struct{ params, token rar.Value }{
		"params a list":   {rar.ArrayValue(), token},
		"params null":     {rar.NullValue(), token},
		"params a text":   {rar.StringValue("name"), token},
		"no token":        {rar.ObjectValue(), rar.Value{}},
		"a token of text": {rar.ObjectValue(), rar.StringValue("alice")},
		"a null token":    {rar.ObjectValue(), rar.NullValue()},
	} {
		got, err := m.Evaluate(t.Context(), c.params, mcp.MappingOptions{Token: c.token, SubjectID: "alice"})
		var e *mcp.Error
		if !errors.As(err, &e) || e.Code != mcp.CodeMapping || len(got.Evaluations) > 0 {
			t.Errorf("%s: %+v, %v, want %s", name, got, err, mcp.CodeMapping)
		}
	}
	got, err := m.Evaluate(t.Context(), rar.Value{}, mcp.MappingOptions{Token: token})
	if err != nil || render(got.Evaluations[0].Context) != "{}" {
		t.Errorf("without params: %+v, %v", got, err)
	}
}

// TestResultsAreSpeltTheSame: maps of CEL have no order, and a number that is written out
// would take more room than it is counted with.
func TestResultsAreSpeltTheSame(t *testing.T) {
	t.Parallel()
	const want = `{"a":[0,0.25,-3,1000,100000000000000000000,1e+21,1e+300,0.000001,9.9e-07],"b":2,"c":3,"d":4,"e":5,"f":6}`
	m := mapping(t, withContext(`"${'f': 6, 'e': 5, 'd': 4, 'c': 3, 'b': 2, 'a': params.a}"`))
	got, err := evaluate(t, m, `{"a":[0,0.25,-3,1e3,1e20,1e21,1e300,0.000001,0.00000099]}`)
	if err != nil {
		t.Fatal(err)
	}
	if x, _ := got.Evaluations[0].Context.Get("x"); render(x) != want {
		t.Errorf("got  %s\nwant %s", render(x), want)
	}
}

func TestMappingDigest(t *testing.T) {
	t.Parallel()
	a := mapping(t, `{"evaluation":{"action":{"name":"a"},"resource":{"type":"t","id":"i"}}}`)
	b := mapping(t, `{"evaluation":{"resource":{"id":"i","type":"t"},"action":{"name":"a"}}}`)
	c := mapping(t, `{"evaluation":{"action":{"name":"b"},"resource":{"type":"t","id":"i"}}}`)
	if a.Digest() != b.Digest() || a.Digest() == c.Digest() {
		t.Errorf("digests %s, %s, %s", a.Digest(), b.Digest(), c.Digest())
	}
}

func TestEffectiveEvaluations(t *testing.T) {
	t.Parallel()
	got, err := evaluate(t, mapping(t, `{"evaluations":{"action":{"name":"read"},"context":{"why":"d","k":1},
		"evaluations":[{"resource":{"type":"f","id":"1"}},{"action":{"name":"write","properties":{"p":1}},"resource":{"type":"f","id":"2"},"context":{"why":"own"}}]}}`), `{}`)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, e := range got.Evaluations {
		lines = append(lines, e.Action+" "+render(e.ActionProperties)+" "+e.Resource.ID+" "+render(e.Context))
	}
	want := []string{`read  1 {"why":"d","k":1}`, `write {"p":1} 2 {"why":"own"}`}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("evaluations (-want +got):\n%s", diff)
	}
}

// TestDefaultsOfEvaluations: an entry takes over as a whole what it has of its own, and
// the rest is what stands beside the list (AuthZEN 1.0 section 7.1.1).
func TestDefaultsOfEvaluations(t *testing.T) {
	t.Parallel()
	got, err := evaluate(t, mapping(t, `{"evaluations":{"action":{"name":"read"},"resource":{"type":"f","id":"0","properties":{"q":1}},"context":{"k":1},
		"evaluations":[{},{"resource":{"type":"g","id":"1"}},{"context":{}},{"context":"$params.?nope","action":{"name":"write"}}]}}`), `{}`)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, e := range got.Evaluations {
		lines = append(lines, e.Action+" "+e.Resource.Type+e.Resource.ID+render(e.Resource.Properties)+" "+render(e.Context))
	}
	want := []string{`read f0{"q":1} {"k":1}`, `read g1 {"k":1}`, `read f0{"q":1} {}`, `write f0{"q":1} {"k":1}`}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("evaluations (-want +got):\n%s", diff)
	}
}

// TestMappingBounds: a mapping that is exactly at a bound is taken, one beyond is not.
func TestMappingBounds(t *testing.T) {
	t.Parallel()
	many := func(n int, one string) string { return strings.TrimSuffix(strings.Repeat(one+",", n), ",") }
	expression := func(n int) string { return `"$'` + strings.Repeat("x", n-2) + `'"` }
	entries := func(n int) string {
		return `{"evaluations":{"action":{"name":"a"},"resource":{"type":"t","id":"i"},"evaluations":[` + many(n, `{}`) + `]}}`
	}
	empty := len(value(t, []byte(withContext(`""`))).AppendJSON(nil))
	for name, text := range map[string]func(more int) string{
		"entries":       func(more int) string { return entries(16 + more) },
		"expressions":   func(more int) string { return withContext(`[` + many(64+more, `"$1"`) + `]`) },
		"an expression": func(more int) string { return withContext(expression(2048 + more)) },
		"bytes of expressions": func(more int) string {
			return withContext(`[` + many(15, expression(1024)) + `,` + expression(1024+more) + `]`)
		},
		"depth": func(more int) string {
			return withContext(strings.Repeat(`[`, 14+more) + `"$1"` + strings.Repeat(`]`, 14+more))
		},
		"bytes of a mapping": func(more int) string { return withContext(`"` + strings.Repeat("x", 32<<10-empty+more) + `"`) },
		"loops within each other": func(more int) string {
			return withContext(`"$` + strings.Repeat("[1].all(x, ", 2+more) + "true" + strings.Repeat(")", 2+more) + `"`)
		},
	} {
		if _, err := mcp.CompileMapping(value(t, []byte(text(0)))); err != nil {
			t.Errorf("%s: at the bound: %v", name, err)
		}
		var e *mcp.Error
		if _, err := mcp.CompileMapping(value(t, []byte(text(1)))); !errors.As(err, &e) || e.Code != mcp.CodeMappingInvalid {
			t.Errorf("%s: beyond the bound: %v", name, err)
		}
	}
	// Params and their list are values, too, and so are the five of the token.
	for more, want := range []bool{true, false} {
		params := value(t, []byte(`{"a":[`+many(10_000-2-5+more, "1")+`]}`))
		_, err := mapping(t, withContext(`1`)).Evaluate(t.Context(), params, mcp.MappingOptions{Token: value(t, []byte(testToken))})
		if (err == nil) != want {
			t.Errorf("%d values more than may be: %v", more, err)
		}
	}
	// A result has 64 KiB, of which each value takes eight bytes beside its text.
	for more, want := range []bool{true, false} {
		got, err := evaluate(t, mapping(t, withContext(`"$params.a"`)), `{"a":[`+many(8191+more, "1")+`]}`)
		if (err == nil) != want || (len(got.Evaluations) > 0) != want {
			t.Errorf("a result of %d values: %v", 8192+more, err)
		}
	}
	// Three levels around those of the params.
	for more, want := range []bool{true, false} {
		params := `{"a":` + strings.Repeat("[", 30+more) + strings.Repeat("]", 30+more) + `}`
		for _, x := range []string{`"$[[[params.a]]]"`, `"${'k': {'k': {'k': params.a}}}"`} {
			if _, err := evaluate(t, mapping(t, withContext(x)), params); (err == nil) != want {
				t.Errorf("%s of %d levels: %v", x, 33+more, err)
			}
		}
	}
	for pattern, want := range map[string]bool{strings.Repeat("a", 512): true, strings.Repeat("a", 513): false} {
		_, err := evaluate(t, mapping(t, withContext(`"$'a'.matches('`+pattern+`')"`)), `{}`)
		if (err == nil) != want {
			t.Errorf("a pattern of %d bytes: %v", len(pattern), err)
		}
	}
}

// TestDeclaredTime: mappings that take long for what CEL counts as few steps end
// soon after their context.
func TestDeclaredTime(t *testing.T) {
	t.Parallel()
	many := func(n int, one, by string) string { return strings.TrimSuffix(strings.Repeat(one+by, n), by) }
	params := value(t, []byte(`{"a":[`+many(9000, `"1"`, ",")+`],"d":"`+strings.Repeat("1", 20000)+`"}`))
	for name, text := range map[string]string{
		"whole params compared":         withContext(`"$params.a.all(x, params == params)"`),
		"digits read":                   withContext(`"$params.a.all(x, double(params.d) > 1.0 || true)"`),
		"patterns compiled":             withContext(`"$params.a.all(x, x.matches('(a{500}|b{400})') || true)"`),
		"large patterns refused":        withContext(`"$params.a.all(x, x.matches('(a{500}|b{500}|c{500})' + x) || true)"`),
		"long texts matched":            withContext(`"$params.a.all(x, params.d.matches('(1?){40}2') || true)"`),
		"many comparisons without loop": withContext(`[` + many(8, `"$`+many(90, "params == params", "&&")+`"`, ",") + `]`),
		"many matches without loop":     withContext(`[` + many(8, `"$`+many(40, "params.d.matches('(1?){40}2')", "||")+`"`, ",") + `]`),
	} {
		m := mapping(t, text)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		began := time.Now()
		_, err := m.Evaluate(ctx, params, mcp.MappingOptions{Token: value(t, []byte(testToken))})
		took := time.Since(began)
		cancel()
		t.Logf("%s: %v, %v", name, took, err)
		if took > 30*time.Second { // they would take minutes
			t.Errorf("%s: took %v", name, took)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := mapping(t, withContext(`"$token.sub"`)).Evaluate(ctx, params, mcp.MappingOptions{Token: value(t, []byte(testToken))})
	var e *mcp.Error
	if !errors.As(err, &e) || e.Code != mcp.CodeMapping {
		t.Errorf("in vain: %v", err)
	}
	large := value(t, []byte(`{"a":[`+many(10001, "1", ",")+`]}`))
	if _, err := mapping(t, withContext(`1`)).Evaluate(t.Context(), large, mcp.MappingOptions{Token: value(t, []byte(testToken))}); !errors.As(err, &e) {
		t.Errorf("too many values: %v", err)
	}
}

func BenchmarkMapDeclared(b *testing.B) {
	text := `{"evaluation":{"subject":{"type":"identity","id":"$token.sub"},"action":{"name":"get_customer"},
		"resource":{"type":"customer","id":"$params.arguments.id"},"context":{"agent":"$token.?client_id","case":"$params.arguments.?case"}}}`
	params, token := value(b, []byte(`{"name":"get_customer","arguments":{"id":"c1","case":"k9"}}`)), value(b, []byte(testToken))
	b.Run("evaluate", func(b *testing.B) {
		m := mapping(b, text)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := m.Evaluate(b.Context(), params, mcp.MappingOptions{Token: token}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("compile", func(b *testing.B) {
		v := value(b, []byte(text))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := mcp.CompileMapping(v); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestMappingMembers: an entity that an expression makes a part of has no members but
// those of AuthZEN, as one without expressions.
func TestMappingMembers(t *testing.T) {
	t.Parallel()
	for action, want := range map[string]bool{
		`{"name":"$params.name"}`: true, `{"name":"$params.name","properties":{"a":1}}`: true,
		`{"name":"$params.name","a":1}`: false, `{"name":"$params.name","a":"$1"}`: false, `{"name":"a","a":1}`: false,
		`{"name":"$params.name","properties":1}`: false, `{"name":"$params.name","properties":["$1"]}`: false,
	} {
		_, err := mcp.CompileMapping(value(t, []byte(`{"evaluation":{"action":`+action+`,"resource":{"type":"t","id":"i"}}}`)))
		var e *mcp.Error
		if (err == nil) != want || !want && (!errors.As(err, &e) || e.Code != mcp.CodeMappingInvalid) {
			t.Errorf("%s: %v", action, err)
		}
	}
}
