package rar_test

import (
	"errors"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/rar"
)

type authZENVector struct {
	Name    string `json:"name"`
	Basis   string `json:"basis"`
	API     string `json:"api"`
	Request exact  `json:"request"`
	Note    string `json:"note"`
	Expect  struct {
		Calls []struct {
			API  string `json:"api"`
			Body exact  `json:"body"`
		} `json:"calls"`
		Shape     exact  `json:"response_shape"`
		Untouched []int  `json:"untouched"`
		Error     string `json:"error"`
	} `json:"expect"`
}

// TestAuthZENVectors: draft-brossard-oauth-rar-authzen.
func TestAuthZENVectors(t *testing.T) {
	t.Parallel()
	var file struct {
		Format  string          `json:"format"`
		Vectors []authZENVector `json:"vectors"`
	}
	loadVectors(t, "authzen.json", &file)
	if len(file.Vectors) != 11 {
		t.Fatalf("%d vectors", len(file.Vectors))
	}
	for _, v := range file.Vectors {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			calls, err := rar.AuthZENCalls(v.Request.Value)
			if v.Expect.Error != "" {
				if code := codeOf(err); code.OAuthError() != v.Expect.Error || calls != nil {
					t.Fatalf("calls %v, error %v, want %s", calls, err, v.Expect.Error)
				}
				return
			}
			if err != nil || len(calls) != len(v.Expect.Calls) {
				t.Fatalf("%d calls, error %v, want %d", len(calls), err, len(v.Expect.Calls))
			}
			touched := map[int]bool{}
			var answers []rar.Value
			for i, c := range calls {
				want := v.Expect.Calls[i]
				if c.Batch != (want.API == "evaluations") || !rar.Equal(c.Body, want.Body.Value) {
					t.Errorf("call %d: batch %v of %s", i, c.Batch, c.Body.AppendJSON(nil))
				}
				asked, _ := v.Request.Value.Index(c.Index).Get("type")
				if touched[c.Index] || asked.Text() != c.Type {
					t.Errorf("call %d is %s, and object %d is %s", i, c.Type, c.Index, asked.Text())
				}
				touched[c.Index] = true
				decisions := make([]bool, 1)
				if items, ok := c.Body.Get("evaluations"); ok {
					decisions = make([]bool, items.Len())
				}
				answers = append(answers, c.Answer(decisions...))
			}
			for _, i := range v.Expect.Untouched {
				if touched[i] {
					t.Errorf("object %d is not of a type of AuthZEN", i)
				}
			}
			if v.Expect.Shape.Kind() != rar.Absent {
				checkShape(t, v.Expect.Shape.Value, answers)
			}
		})
	}
}

// checkShape compares the members of answers with the shape, in which the word
// boolean stands for a decision.
func checkShape(t *testing.T, shape rar.Value, answers []rar.Value) {
	t.Helper()
	want := string(shape.AppendCanonical(nil))
	got := string(rar.ArrayValue(answers...).AppendCanonical(nil))
	got = strings.ReplaceAll(got, `{"evaluations":[{"decision":false},{"decision":false},{"decision":false}]}`, `{"evaluations":["boolean","boolean","boolean"]}`)
	got = strings.ReplaceAll(got, `"decision":false`, `"decision":"boolean"`)
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestAuthZENCallsRefuse: where a question is malformed, and who is told.
func TestAuthZENCallsRefuse(t *testing.T) {
	t.Parallel()
	const subject, action, resource = `"subject":{"type":"user","id":"a"}`, `"action":{"name":"read"}`, `"resource":{"type":"file","id":"1"}`
	batch := func(members string) string {
		return `[{"type":"authzen_evaluations","request":{` + members + `}}]`
	}
	for text, want := range map[string]string{
		`{}`:                          "rar.not_array",
		`[{"type":"x"},1]`:            "rar.not_object /1",
		`[{"type":1}]`:                "rar.missing_type /0",
		batch(subject + `,` + action): "rar.missing_field /0/request/evaluations",
		batch(`"evaluations":1`):      "rar.wrong_type /0/request/evaluations",
		batch(`"evaluations":[1]`):    "rar.wrong_type /0/request/evaluations/0",
		batch(`"evaluations":[]`):     "rar.missing_field /0/request/subject",
		batch(`"evaluations":[],` + subject + `,` + action + `,"resource":1`):                                "rar.wrong_type /0/request/resource",
		batch(`"evaluations":[{` + action + `},{}],` + subject + `,` + resource):                             "rar.missing_field /0/request/evaluations/1/action",
		batch(`"evaluations":[{"action":{"name":1}}],` + subject + `,` + resource):                           "rar.wrong_type /0/request/evaluations/0/action/name",
		batch(`"evaluations":[{"action":{}}],` + subject + `,` + resource):                                   "rar.missing_field /0/request/evaluations/0/action/name",
		`[{"type":"authzen_evaluation","request":{` + subject + `,` + action + `,"resource":{"type":"t"}}}]`: "rar.missing_field /0/request/resource/id",
	} {
		calls, err := rar.AuthZENCalls(mustDecode(t, text))
		var got string
		if e := asError(err); e != nil {
			got = strings.TrimSpace(string(e.Code) + " " + e.Path)
		}
		if got != want || calls != nil {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	ok := batch(`"evaluations":[{` + subject + `,` + action + `},{` + subject + `,` + action + `}],` + resource)
	if calls, err := rar.AuthZENCalls(mustDecode(t, ok)); err != nil || len(calls) != 1 {
		t.Errorf("what items give themselves: %v %v", calls, err)
	}
	if got := (rar.AuthZENCall{Type: "authzen_evaluation"}).Answer(); !rar.Equal(got, mustDecode(t, `{"type":"authzen_evaluation","response":{"decision":false}}`)) {
		t.Errorf("no decision is answered with %s", got.AppendJSON(nil))
	}
}

// TestValidate: every object is told about, and the first fault is Parse's.
func TestValidate(t *testing.T) {
	t.Parallel()
	types := vectorTypes(t)
	const good = `{"type":"account_information"}`
	for text, want := range map[string][]string{
		`[]`:                  nil,
		`[` + good + `]`:      nil,
		`{}`:                  {"rar.not_array"},
		`[1,` + good + `,{}]`: {"rar.not_object /0", "rar.missing_type /2"},
		`[{"type":"nope"}]`:   {"rar.unknown_type /0/type"},
		`[` + good + `,{"type":"account_information","x":1},{"type":"account_information","actions":1}]`: {"rar.unknown_field /1/x", "rar.wrong_type /2/actions"},
		`[` + strings.Repeat(good+`,`, 64) + good + `]`:                                                  {"rar.too_large"},
	} {
		value := mustDecode(t, text)
		var got []string
		for _, e := range types.Validate(value) {
			got = append(got, strings.TrimSpace(string(e.Code)+" "+e.Path))
			if e.Code.OAuthError() != "invalid_authorization_details" {
				t.Errorf("%s is no error of OAuth", e.Code)
			}
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", text, diff)
		}
		_, err := types.ParseValue(value)
		if first := asError(err); (first == nil) != (got == nil) || first != nil && string(first.Code) != strings.Fields(got[0])[0] {
			t.Errorf("%s: Parse says %v", text, err)
		}
	}
}

// asError returns the package's error in err, nil if there is none.
func asError(err error) *rar.Error {
	var e *rar.Error
	if !errors.As(err, &e) {
		return nil
	}
	return e
}
