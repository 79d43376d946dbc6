package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// contractSchema compiles what authzd schema prints.
func contractSchema(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	code, out, stderr := command(t, "", "schema", name)
	if code != 0 {
		t.Fatal(stderr)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(name+".json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func document(t *testing.T, text string) map[string]any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	m, ok := v.(map[string]any)
	if !ok {
		t.Fatalf("%s is no object", text)
	}
	return m
}

func queryFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The schema and the decoder agree on queries: what one takes the other takes.
func TestQuerySchema(t *testing.T) {
	t.Parallel()
	s := contractSchema(t, "query")
	for _, good := range []string{queryFile(t, denyQuery), queryFile(t, allowQuery), callQuery} {
		if err := s.Validate(document(t, good)); err != nil {
			t.Error(err)
		}
		if code, _, stderr := command(t, good, "check", "-f", "-"); code == 1 {
			t.Errorf("the decoder refuses what the schema takes: %s", stderr)
		}
	}
	for _, bad := range []string{
		`{}`, `{"mcp":{}}`, `{"mcp":{"method":""}}`, `{"mcp":{"method":"tools/call"}}`, `{"mcp":{"method":"tools/call","params":{}}}`,
		`{"mcp":{"method":"tools/call","params":{"name":"a","arguments":[]}}}`, `{"mcp":{"method":"a","params":[]}}`,
		`{"mcp":{"method":"tools/call","params":{"name":"a"},"transport":"carrier pigeon"}}`,
		`{"action":{"name":"a"}}`, `{"action":{},"resource":{"type":"a","id":"b"}}`, `{"action":{"name":"a"},"resource":{"type":"a"}}`,
		strings.Replace(callQuery, `"subject"`, `"subjekt"`, 1), strings.Replace(callQuery, `"alice"`, `7`, 1),
		strings.Replace(callQuery, "{", `{"credentials":{},`, 1), strings.Replace(callQuery, "{", `{"credentials":[{"claims":{}}],`, 1),
		strings.Replace(callQuery, "{", `{"credentials":[{"id":"a"}],`, 1), strings.Replace(callQuery, "{", `{"credentials":[{"id":"a","claims":[]}],`, 1),
		strings.Replace(callQuery, "{", `{"credentials":[{"id":"a","claims":{},"access_token":"x"}],`, 1),
		strings.Replace(callQuery, "{", `{"credentials":[{"id":"a","claims":{},"bound_by":"trust"}],`, 1),
		strings.Replace(callQuery, "{", `{"credentials":[{"id":"a","claims":{},"dpop_proof":"x"}],`, 1),
		strings.Replace(callQuery, "{", `{"credentials":[{"id":"a","access_token":"x","bound_by":"dpop"}],`, 1),
		strings.Replace(callQuery, "{", `{"credentials":[{"id":"a","access_token":"x","scheme":"Basic"}],`, 1),
		strings.Replace(callQuery, "{", `{"credentials":[{"id":"a","access_token":5}],`, 1),
		strings.Replace(callQuery, "{", `{"commit":{},`, 1), strings.Replace(callQuery, "{", `{"require_revision":{"bundle":"a"},`, 1),
		strings.Replace(callQuery, "{", `{"context":null,`, 1),
	} {
		if s.Validate(document(t, bad)) == nil {
			t.Errorf("the schema takes %s", bad)
		}
		if code, _, _ := command(t, bad, "check", "-f", "-"); code != 1 {
			t.Errorf("the decoder takes %s", bad)
		}
	}
}

// inputOf returns the very document that policy sees for query: a permit hands
// it out as an obligation.
func inputOf(t *testing.T, query string) map[string]any {
	t.Helper()
	echo := bundle(t, map[string]string{"policy.rego": "package authz\n\npermit[\"echo\"] := {\"obligations\": [{\"id\": \"input\", \"value\": input}]} if input.tenant == \"default\"\n"})
	code, out, stderr := command(t, query, "check", "-f", "-", "--bundle", echo)
	obligations, ok := document(t, out)["obligations"].([]any)
	if code != 0 || !ok || len(obligations) != 1 {
		t.Fatalf("code %d, %s%s", code, out, stderr)
	}
	first, ok := obligations[0].(map[string]any)
	if !ok {
		t.Fatal(out)
	}
	in, ok := first["value"].(map[string]any)
	if !ok {
		t.Fatal(out)
	}
	return in
}

const rejectedQuery = `{"mcp":{"method":"tools/call","params":{"name":"a"},"server":"https://mcp.example.com","transport":"stdio","protocol_version":"2026-07-28","tool":{"name":"a"}},
"credentials":[{"id":"good","bound_by":"dpop","claims":{"iss":"https://as.example.com","sub":"s","aud":["https://mcp.example.com"],"exp":4102444800,"iat":1,"auth_time":1,"acr":"x","amr":["pwd"],"jti":"j","txn":"t","tenant":"default",
"act":{"sub":"b"},"may_act":{"sub":"c"},"cnf":{"jkt":"k"}}},{"id":"old","claims":{"iss":"https://as.example.com","sub":"s","aud":"https://mcp.example.com","exp":1}}]}`

func TestInputSchema(t *testing.T) {
	t.Parallel()
	s := contractSchema(t, "input")
	for _, query := range []string{queryFile(t, denyQuery), queryFile(t, allowQuery), callQuery, rejectedQuery} {
		in := inputOf(t, query)
		if err := s.Validate(in); err != nil {
			t.Errorf("%v", err)
		}
		for name := range in {
			less := maps.Clone(in)
			delete(less, name)
			if name != "mcp" && s.Validate(less) == nil {
				t.Errorf("the schema does not require %s", name)
			}
		}
		more := maps.Clone(in)
		more["sbject"] = "x"
		if s.Validate(more) == nil {
			t.Error("the schema takes an unknown member")
		}
	}
}

func TestPermitSchema(t *testing.T) {
	t.Parallel()
	s := contractSchema(t, "permit")
	permits := 0
	for _, amount := range []string{"123.50", "25000.00"} {
		query := strings.ReplaceAll(queryFile(t, allowQuery), "123.50", amount)
		for name, permit := range paymentPermits(t, inputOf(t, query)) {
			permits++
			if err := s.Validate(permit); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if permits < 2 {
		t.Errorf("the example has %d permits for its own calls", permits)
	}
	for _, good := range []string{
		`{}`, `{"obligations":[{"id":"log","level":1}]}`, `{"priority":0}`, `{"priority":1000.0}`, `{"require":[{"kind":"proof_of_possession"}]}`,
		`{"require":[{"kind":"authentication","max_age":0}]}`, `{"require":[{"kind":"approval","workflow":"w","approver":"subject"}]}`,
		`{"require":[{"kind":"authorization_details","authorization_details":[{"type":"t"}],"single_use":true}]}`,
	} {
		if err := s.Validate(document(t, good)); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		`{"requires":[]}`, `{"require":[]}`, `{"require":{}}`, `{"require":null}`, `{"require":[{}]}`, `{"require":[{"kind":"magic"}]}`,
		`{"require":[{"kind":"scopes"}]}`, `{"require":[{"kind":"scopes","scopes":[]}]}`, `{"require":[{"kind":"scopes","scopes":"a"}]}`,
		`{"require":[{"kind":"scopes","scopes":["a"],"any":true}]}`, `{"require":[{"kind":"scopes","scopes":[""]}]}`,
		`{"require":[{"kind":"authorization_details","authorization_details":[]}]}`, `{"require":[{"kind":"authorization_details","authorization_details":[{}]}]}`,
		`{"require":[{"kind":"authentication"}]}`, `{"require":[{"kind":"authentication","max_age":-1}]}`, `{"require":[{"kind":"proof_of_possession","alg":"x"}]}`,
		`{"require":[{"kind":"approval","workflow":"w"}]}`, `{"obligations":[{}]}`, `{"obligations":{}}`, `{"priority":-1}`, `{"priority":1001}`, `{"priority":"1"}`,
	} {
		if s.Validate(document(t, bad)) == nil {
			t.Errorf("the schema takes %s", bad)
		}
	}
}

// paymentPermits evaluates permit of the worked example with OPA itself.
func paymentPermits(t *testing.T, input map[string]any) map[string]any {
	t.Helper()
	rs, err := rego.New(
		rego.Query("data.authz.permit"), rego.Input(input), rego.StrictBuiltinErrors(true),
		rego.Load([]string{"../../policies/lib/authzd/v1.rego", paymentsBundle + "/policy.rego", paymentsBundle + "/data.json"}, nil),
	).Eval(t.Context())
	if err != nil || len(rs) != 1 {
		t.Fatalf("permit: %v, %v", rs, err)
	}
	text, err := json.Marshal(rs[0].Expressions[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	permits, ok := v.(map[string]any)
	if !ok {
		t.Fatal(string(text))
	}
	return permits
}
