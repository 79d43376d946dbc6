package policies_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

const payments = "examples/payments"

// TestToolSchemas: the example's tool schemas are JSON Schema 2020-12, take the
// calls of the quick start, and refuse their neighbours.
func TestToolSchemas(t *testing.T) {
	t.Parallel()
	var tool struct{ Arguments any }
	readJSON(t, filepath.Join(payments, "authzd_tools/payments.initiate/data.json"), &tool)
	schema := compile(t, tool.Arguments)

	for _, name := range []string{"deny.json", "allow.json"} {
		args, ok := quickStart(t, name).MCP.Params["arguments"]
		if !ok {
			t.Fatalf("%s has no arguments", name)
		}
		if err := schema.Validate(args); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	valid := func() map[string]any {
		return map[string]any{"amount": "123.50", "currency": "EUR", "creditorAccount": "DE89370400440532013000"}
	}
	if err := schema.Validate(valid()); err != nil {
		t.Fatal(err)
	}
	for _, member := range []string{"amount", "currency", "creditorAccount"} {
		args := valid()
		delete(args, member)
		if schema.Validate(args) == nil {
			t.Errorf("accepted without %s", member)
		}
	}
	for _, c := range []struct {
		member string
		value  any
	}{
		{"amount", "-1"},
		{"amount", "1e2"},
		{"amount", "01"},
		{"amount", "1.001"},
		{"amount", "1\n"},
		{"amount", ""},
		{"amount", json.Number("1")},
		{"amount", nil},
		{"amount", []any{"1"}},
		{"currency", "eur"},
		{"currency", "XXX"},
		{"creditorAccount", "de89370400440532013000"},
		{"creditorAccount", "DE89 3704 0044 0532 0130 00"},
		{"creditorAccount", map[string]any{"iban": "DE89370400440532013000"}},
		{"undeclared", true},
	} {
		args := valid()
		args[c.member] = c.value
		if schema.Validate(args) == nil {
			t.Errorf("accepted %s: %v", c.member, c.value)
		}
	}
}

// TestTypeExamples: what the declared type gives as examples is of that type, and
// so is what the quick start's token was granted.
func TestTypeExamples(t *testing.T) {
	t.Parallel()
	var declared struct {
		Type     string
		Schema   any
		Examples []any
	}
	readJSON(t, filepath.Join(payments, "authzd_types/payment_initiation/data.json"), &declared)
	schema := compile(t, declared.Schema)
	granted := quickStart(t, "allow.json").Credentials[0].Claims["authorization_details"]
	list, ok := granted.([]any)
	if !ok || len(list) != 1 || len(declared.Examples) == 0 {
		t.Fatalf("granted %v, examples %v", granted, declared.Examples)
	}
	for _, object := range append(list, declared.Examples...) {
		if err := schema.Validate(object); err != nil {
			t.Error(err)
		}
	}
}

// TestQuickStartDiffersInDetailsOnly: deny.json and allow.json show one thing.
func TestQuickStartDiffersInDetailsOnly(t *testing.T) {
	t.Parallel()
	deny, allow := quickStart(t, "deny.json"), quickStart(t, "allow.json")
	if _, ok := deny.Credentials[0].Claims["authorization_details"]; ok {
		t.Error("deny.json has authorization_details")
	}
	delete(allow.Credentials[0].Claims, "authorization_details")
	if diff := cmp.Diff(deny, allow); diff != "" {
		t.Errorf("deny.json and allow.json differ otherwise (-deny +allow):\n%s", diff)
	}
}

type query struct {
	MCP struct {
		Method             string         `json:"method"`
		Params             map[string]any `json:"params"`
		Server             string         `json:"server"`
		Transport          string         `json:"transport"`
		ProtocolVersion    string         `json:"protocol_version"`
		ClientCapabilities map[string]any `json:"client_capabilities"`
	} `json:"mcp"`
	Credentials []struct {
		ID     string         `json:"id"`
		Claims map[string]any `json:"claims"`
	} `json:"credentials"`
}

func quickStart(t *testing.T, name string) query {
	t.Helper()
	var q query
	readJSON(t, filepath.Join("../examples/payments", name), &q)
	if len(q.Credentials) != 1 {
		t.Fatalf("%s: %d credentials", name, len(q.Credentials))
	}
	return q
}

func readJSON(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func compile(t *testing.T, schema any) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("schema.json", schema); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}
