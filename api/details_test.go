package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/engine"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

const (
	comparePath  = "/v1/authorization-details:compare"
	validatePath = "/v1/authorization-details:validate"
	planPath     = "/v1/authorization-details:plan"
	typesPath    = "/v1/authorization-details/types"
)

func (d *doors) details() authzdv1.AuthorizationDetailsServiceClient {
	return authzdv1.NewAuthorizationDetailsServiceClient(d.conn)
}

// vectorSnapshot declares the types of the vectors of package rar.
func vectorSnapshot(t *testing.T) *engine.Snapshot {
	t.Helper()
	var file struct {
		Types []map[string]json.RawMessage
	}
	readVectors(t, "types.json", &file)
	types := map[string]any{}
	for _, decl := range file.Types {
		var name string
		if err := json.Unmarshal(decl["type"], &name); err != nil {
			t.Fatal(err)
		}
		for member := range decl {
			if !slices.Contains([]string{"type", "schema", "compare", "single_use"}, member) {
				delete(decl, member)
			}
		}
		types[url.PathEscape(name)] = decl
	}
	data, err := json.Marshal(map[string]any{"authzd_types": types})
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := rar.DecodeStrict(data, rar.Limits{MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := engine.Compile(t.Context(), []engine.Bundle{{
		Name: "vectors", Revision: "v1", Roots: []string{""}, Metadata: value(t, `{"contract": 1}`), Data: decoded,
		Modules: []engine.Module{{Path: "policy.rego", Text: "package authz\n\npermit[\"none\"] := {} if false\n"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func readVectors(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile("../rar/testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

// because is one reason of a vector; a null index is the list itself.
type because struct {
	Required *int   `json:"required"`
	Pointer  string `json:"pointer"`
	Reason   string `json:"reason"`
}

func (b because) String() string {
	at := -1
	if b.Required != nil {
		at = *b.Required
	}
	return fmt.Sprint(at, b.Pointer, " ", b.Reason)
}

// TestCompareVectors asks every containment vector over REST.
func TestCompareVectors(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	d.engine.Swap(vectorSnapshot(t))
	var file struct {
		Vectors []struct {
			Name         string
			Granted      json.RawMessage
			GrantedText  string `json:"granted_text"`
			Required     json.RawMessage
			RequiredText string `json:"required_text"`
			Expect       struct {
				Covered *bool
				Because []because
				Error   string
				Pointer string
			}
		}
	}
	readVectors(t, "containment.json", &file)
	if len(file.Vectors) < 142 {
		t.Fatalf("%d vectors", len(file.Vectors))
	}
	asked := 0
	for _, v := range file.Vectors {
		granted, required := string(v.Granted), string(v.Required)
		if v.GrantedText != "" {
			granted = v.GrantedText
		}
		if v.RequiredText != "" {
			required = v.RequiredText
		}
		got := d.post(t, comparePath, `{"granted": `+granted+`, "required": `+required+`}`)
		if v.Expect.Error != "" {
			if got.status != http.StatusBadRequest || got.json(t)["code"] != v.Expect.Error {
				t.Errorf("%s: %d %s, want %s", v.Name, got.status, got.body, v.Expect.Error)
			}
			continue
		}
		var answer struct {
			Covered *bool
			Because []because
		}
		if err := json.Unmarshal(got.body, &answer); err != nil || got.status != http.StatusOK || answer.Covered == nil || answer.Because == nil {
			t.Errorf("%s: %d %s", v.Name, got.status, got.body)
			continue
		}
		asked++
		if diff := cmp.Diff(sortedReasons(v.Expect.Because), sortedReasons(answer.Because)); diff != "" || *answer.Covered != *v.Expect.Covered {
			t.Errorf("%s: covered %v: -want +got\n%s", v.Name, *answer.Covered, diff)
		}
	}
	if asked < 100 {
		t.Errorf("only %d comparisons", asked)
	}
}

func sortedReasons(list []because) []string {
	out := make([]string, 0, len(list))
	for _, b := range list {
		out = append(out, b.String())
	}
	slices.Sort(out)
	return out
}

// TestDetailsOverBothDoors: every method answers the same over gRPC and REST,
// to the letter, and refuses the same at the same place.
func TestDetailsOverBothDoors(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	const grant80 = `[{"type": "payment", "amount": "80"}, {"type": "car"}]`
	for name, c := range map[string]struct{ path, body, want string }{
		"covered": {
			comparePath, `{"granted": [{"type": "car"}, {"type": "payment", "amount": "80.50"}], "required": [{"type": "payment", "amount": "80.5"}]}`,
			`{"covered":true,"because":[],"covered_by":[1],"skipped":[{"index":0,"pointer":"/type","code":"rar.unknown_type","message":"the type is not declared"}],"policy":{"bundle":"main","revision":"r1"}}`,
		},
		"not covered": {
			comparePath, `{"granted": [{"type": "payment", "amount": "80"}], "required": [{"type": "payment", "amount": "81"}]}`,
			`{"covered":false,"because":[{"required":0,"pointer":"/amount","reason":"rar.above_max"}],"policy":{"bundle":"main","revision":"r1"}}`,
		},
		"nothing granted": {
			comparePath, `{"required": [{"type": "payment", "amount": "81"}]}`,
			`{"covered":false,"because":[{"required":0,"pointer":"","reason":"rar.no_granted_type"}],"policy":{"bundle":"main","revision":"r1"}}`,
		},
		"nothing needed": {
			comparePath, `{"granted": [], "required": []}`,
			`{"covered":false,"because":[{"required":-1,"pointer":"","reason":"rar.required_empty"}],"policy":{"bundle":"main","revision":"r1"}}`,
		},
		"single use": {
			comparePath, `{"granted": [{"type": "payment", "amount": "81"}], "required": [{"type": "payment", "amount": "1"}, {"type": "payment", "amount": "1"}], "single_use": true}`,
			`{"covered":false,"because":[{"required":1,"pointer":"","reason":"rar.granted_used_up"}],"policy":{"bundle":"main","revision":"r1"}}`,
		},
		"a need at fault": {comparePath, `{"granted": [], "required": [{"type": "payment", "amount": 1}]}`, `rar.invalid_required /required/0/amount`},
		"an unknown need": {comparePath, `{"granted": [], "required": [{"type": "payment", "amount": "1"}, {"type": "car"}]}`, `rar.unknown_type /required/1/type`},
		"no need":         {comparePath, `{"granted": []}`, `request.missing_member /required`},
		"no array":        {comparePath, `{"granted": {}, "required": []}`, `request.wrong_type /granted`},
		"many needs":      {comparePath, `{"required": [` + strings.Repeat(`{"type": "payment", "amount": "1"},`, 64) + `{"type": "payment", "amount": "1"}]}`, `request.too_large /required`},
		"a member twice":  {comparePath, `{"granted": [{"type": "payment", "amount": "1"}], "required": [], "single_use": 1}`, `request.wrong_type /single_use`},
		"valid":           {validatePath, `{"authorization_details": [{"type": "payment", "amount": "1"}]}`, `{"valid":true,"faults":[],"policy":{"bundle":"main","revision":"r1"}}`},
		"not valid": {
			validatePath, `{"authorization_details": [{"type": "payment"}, {"type": "payment", "amount": "1"}, ` + grant80[1:] + `}`,
			`{"valid":false,"error":"invalid_authorization_details","faults":[{"index":0,"pointer":"/amount","code":"rar.missing_field","message":"the type requires this field"},{"index":3,"pointer":"/type","code":"rar.unknown_type","message":"the type is not declared"}],"policy":{"bundle":"main","revision":"r1"}}`,
		},
		"no list":        {validatePath, `{"authorization_details": {}}`, `{"valid":false,"error":"invalid_authorization_details","faults":[{"index":-1,"pointer":"","code":"rar.not_array","message":"object where an array belongs"}],"policy":{"bundle":"main","revision":"r1"}}`},
		"nothing":        {validatePath, `{}`, `request.missing_member /authorization_details`},
		"unknown member": {validatePath, `{"authorization_details": [], "strict": true}`, `request.unknown_member /strict`},
		"a plan": {
			planPath, `{"credentials": [{"id": "primary", "claims": ` + claims(`, "scope": "payments"`) + `}], "calls": [` + planned("pay", `{"amount": "80"}`) + `, ` + planned("read", `{}`) + `, ` + planned("pay", `{"amount": "90"}`) + `]}`,
			`{"status":"obtainable","hints":[{"type":"scopes","scopes":["payments","read"]},{"type":"authorization_details","authorization_details":[{"amount":"90","type":"payment"}]}],"calls":[{"outcome":"obtainable","rule":"pay","reasons":[{"code":"requirement.unmet","kind":"authorization_details","rule":"pay","message":"credential primary does not cover the required authorization_details","detail":["/0: rar.no_granted_type"]}]},{"outcome":"obtainable","rule":"read","reasons":[{"code":"requirement.unmet","kind":"scopes","rule":"read","message":"credential primary lacks scope read"}]},{"outcome":"obtainable","rule":"pay","reasons":[{"code":"requirement.unmet","kind":"authorization_details","rule":"pay","message":"credential primary does not cover the required authorization_details","detail":["/0: rar.no_granted_type"]}]}],"optimal":true,"policy":{"bundle":"main","revision":"r1"}}`,
		},
		"a plan that is no more needed": {
			planPath, `{"credentials": [{"id": "primary", "claims": ` + claims(`, "scope": "read"`) + `}], "calls": [` + planned("read", `{}`) + `]}`,
			`{"status":"allowed","hints":[],"calls":[{"outcome":"allowed","rule":"read"}],"optimal":true,"policy":{"bundle":"main","revision":"r1"}}`,
		},
		"a plan in part": {
			planPath, `{"subject": {}, "calls": []}`, `request.unknown_member /subject`,
		},
		"a plan of nothing":     {planPath, `{"calls": []}`, `request.empty /calls`},
		"a plan that commits":   {planPath, `{"calls": [` + strings.Replace(planned("read", `{}`), `{"mcp"`, `{"commit": {"idempotency_key": "k"}, "mcp"`, 1) + `]}`, `request.invalid_value /calls/0/commit`},
		"a plan of two servers": {planPath, `{"calls": [` + planned("read", `{}`) + `, ` + strings.Replace(planned("read", `{}`), "mcp.example", "other.example", 1) + `]}`, `request.invalid_value /calls/1/mcp/server`},
		"a plan at fault":       {planPath, `{"calls": [` + planned("read", `{}`) + `, {"mcp": {"params": {}}}]}`, `request.missing_member /calls/1/mcp/method`},
		"a plan too long":       {planPath, `{"calls": [` + strings.Repeat(planned("read", `{}`)+`,`, 100) + planned("read", `{}`) + `]}`, `request.too_large /calls`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := d.post(t, c.path, c.body)
			if said := told(t, got); said != c.want {
				t.Errorf("REST: %s\nwant  %s", said, c.want)
			}
			if rpc := d.overGRPC(t, c.path, c.body); rpc != "" && rpc != c.want {
				t.Errorf("gRPC: %s\nwant  %s", rpc, c.want)
			}
		})
	}
}

// planned is one call of a plan.
func planned(tool, arguments string) string {
	return `{"mcp": {"method": "tools/call", "params": {"name": "` + tool + `", "arguments": ` + arguments + `}, "server": "https://mcp.example.com", "transport": "http", "protocol_version": "2026-07-28"}}`
}

// told is the answer, or the code and the place of an error.
func told(t *testing.T, a answer) string {
	t.Helper()
	if a.status == http.StatusOK {
		return strings.TrimSpace(string(a.body))
	}
	m := a.json(t)
	return strings.TrimSpace(fmt.Sprint(m["code"], " ", m["path"]))
}

// overGRPC asks the same over gRPC; empty if the body is no message of the
// method, which a typed client can not send.
func (d *doors) overGRPC(t *testing.T, path, body string) string {
	t.Helper()
	var text []byte
	var err error
	client := d.details()
	switch path {
	case comparePath:
		var m authzdv1.CompareRequest
		if api.UnmarshalJSON([]byte(body), &m, api.Limits{}) != nil {
			return ""
		}
		var r *authzdv1.CompareResponse
		if r, err = client.Compare(t.Context(), &m); err == nil {
			text, err = api.MarshalJSON(r)
		}
	case validatePath:
		var m authzdv1.ValidateRequest
		if api.UnmarshalJSON([]byte(body), &m, api.Limits{}) != nil {
			return ""
		}
		var r *authzdv1.ValidateResponse
		if r, err = client.Validate(t.Context(), &m); err == nil {
			text, err = api.MarshalJSON(r)
		}
	case planPath:
		var m authzdv1.PlanRequest
		if api.UnmarshalJSON([]byte(body), &m, api.Limits{}) != nil {
			return ""
		}
		var r *authzdv1.PlanResponse
		if r, err = client.Plan(t.Context(), &m); err == nil {
			text, err = api.MarshalJSON(r)
		}
	}
	if err == nil {
		return string(text)
	}
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return strings.TrimSpace(info.GetReason() + " " + info.GetMetadata()["path"])
		}
	}
	return err.Error()
}

// TestListTypes: what authorization servers and resource metadata need.
func TestListTypes(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	got := d.do(t, http.MethodGet, typesPath+"?resource=https%3A%2F%2Fmcp.example.com", "", nil)
	want := `{"tenant":"default","policy":{"bundle":"main","revision":"r1"},"authorization_details_types_supported":["payment"],` +
		`"types_metadata":{"payment":{"schema":{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{"type":{"const":"payment"},"amount":{"type":"string","pattern":"^(0|[1-9][0-9]*)(\\.[0-9]+)?$"}},"required":["type","amount"],"additionalProperties":false}}},` +
		`"resource_metadata":{"resource":"https://mcp.example.com","scopes_supported":["payments","read"],"authorization_details_types_supported":["payment"],"bearer_methods_supported":["header"],"dpop_signing_alg_values_supported":["ES256"]}}`
	if diff := cmp.Diff(want, told(t, got)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	r, err := d.details().ListTypes(t.Context(), &authzdv1.ListTypesRequest{})
	if err != nil || strings.Contains(string(r.GetResourceMetadata()), `"resource"`) || string(r.GetTypesMetadata()) == "" {
		t.Errorf("%v %v", r, err)
	}
	for query, want := range map[string]string{
		"?resource=a&resource=b":                 "request.duplicate_key /resource",
		"?tenant=x":                              "request.unknown_member /tenant",
		"?a/b=x":                                 "request.unknown_member /a~1b",
		"?%zz":                                   "request.syntax <nil>",
		"?resource=" + strings.Repeat("x", 5000): "request.too_large /resource",
	} {
		if said := told(t, d.do(t, http.MethodGet, typesPath+query, "", nil)); said != want {
			t.Errorf("%.40s: %s, want %s", query, said, want)
		}
	}
	if got := d.post(t, typesPath, `{}`); got.status != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", got.status)
	}
	d.engine.Swap(nil)
	if _, err := d.details().ListTypes(t.Context(), &authzdv1.ListTypesRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("without policy: %v", err)
	}
	for _, path := range []string{comparePath, validatePath, planPath} {
		body := map[string]string{comparePath: `{"required": []}`, validatePath: `{"authorization_details": []}`, planPath: `{"calls": [` + planned("read", `{}`) + `]}`}[path]
		if said := told(t, d.post(t, path, body)); said != "engine.not_ready <nil>" {
			t.Errorf("%s without policy: %s", path, said)
		}
	}
}

// TestPlanRequiresRevision: a plan on a policy that is not there yet is none.
func TestPlanRequiresRevision(t *testing.T) {
	t.Parallel()
	// The client waits for as long as the server does, so that a busy machine may
	// answer late.
	d := start(t, func(o *api.Options) { o.MaxDuration = 3 * time.Second })
	ask := func(ctx context.Context, revision string) error {
		_, err := d.details().Plan(ctx, &authzdv1.PlanRequest{
			Calls:           []*authzdv1.CheckBatchQuery{{Mcp: &authzdv1.MCPMessage{Method: "tools/call", Params: []byte(`{"name": "read"}`)}}},
			RequireRevision: &authzdv1.PolicyRevision{Bundle: "main", Revision: revision},
		})
		return err
	}
	if err := ask(t.Context(), "r1"); err != nil {
		t.Error(err)
	}
	if err := ask(t.Context(), "r2"); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a revision that is not active: %v", err)
	}
}
