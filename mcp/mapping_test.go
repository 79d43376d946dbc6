package mcp_test

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/authzd/authzd/mcp"
	"github.com/authzd/authzd/rar"
)

type mappingVector struct {
	Name       string          `json:"name"`
	Basis      string          `json:"basis"`
	Note       string          `json:"note"`
	Method     string          `json:"method"`
	Params     json.RawMessage `json:"params"`
	Token      json.RawMessage `json:"token"`
	ToolSchema json.RawMessage `json:"tool_schema"`
	Config     struct {
		SubjectClaim       string   `json:"subject_claim"`
		ResourceIdentifier string   `json:"resource_identifier"`
		ResourceIDSource   string   `json:"resource_id_source"`
		ProtocolVersion    string   `json:"protocol_version"`
		HasID              bool     `json:"has_id"`
		ServerMethods      []string `json:"server_methods"`
	} `json:"config"`
	ExpectRequest *struct {
		API  string          `json:"api"`
		Body json.RawMessage `json:"body"`
	} `json:"expect_request"`
	ExpectError *struct {
		Code      int64    `json:"code"`
		Category  string   `json:"category"`
		PDPCalled bool     `json:"pdp_called"`
		MCPCode   mcp.Code `json:"mcp_code"`
		Path      string   `json:"path"`
	} `json:"expect_error"`
	ExpectPassthrough bool     `json:"expect_passthrough"`
	ExpectWarnings    []string `json:"expect_warnings"`
}

func (v mappingVector) options(t testing.TB) mcp.MapOptions {
	t.Helper()
	return mcp.MapOptions{
		Token:           optional(t, v.Token),
		SubjectClaim:    v.Config.SubjectClaim,
		ServerID:        v.Config.ResourceIdentifier,
		TrustServerID:   v.Config.ResourceIDSource == "config",
		ProtocolVersion: v.Config.ProtocolVersion,
		HasID:           v.Config.HasID,
		InputSchema:     optional(t, v.ToolSchema),
		ServerMethods:   v.Config.ServerMethods,
	}
}

func TestMapVectors(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"coaz-default.json", "own-coaz.json"} {
		for _, v := range load[mappingVector](t, file, "coaz-mapping/1") {
			t.Run(file+"/"+v.Name, func(t *testing.T) {
				t.Parallel()
				params := optional(t, v.Params)
				if file == "coaz-default.json" && params.Kind() == rar.Null {
					params = rar.Value{} // In this file null means absent.
				}
				got, err := mcp.Map(v.Method, params, v.options(t))
				switch {
				case v.ExpectError != nil:
					v.checkError(t, got, err)
				case err != nil:
					t.Fatalf("refused: %v; %s", err, v.Note)
				case got.PassThrough != v.ExpectPassthrough:
					t.Fatalf("passes: %v, want %v", got.PassThrough, v.ExpectPassthrough)
				case v.ExpectPassthrough:
					if got.Action+got.SubjectID+got.ResourceID != "" {
						t.Errorf("passes and asks: %+v", got)
					}
				case v.ExpectRequest == nil || v.ExpectRequest.API != "evaluation":
					t.Fatal("vector expects what this test cannot check")
				default:
					v.checkRequest(t, got)
				}
			})
		}
	}
}

// TestMethodsOfRevisions: a method is mapped in the revisions that have it, and where
// nobody knows the revision.
func TestMethodsOfRevisions(t *testing.T) {
	t.Parallel()
	const early, middle, late = "2025-06-18", "2025-11-25", "2026-07-28"
	params := value(t, []byte(`{"name":"n","uri":"u","taskId":"t","level":"info","protocolVersion":"x","ref":{"type":"ref/prompt","name":"n"}}`))
	for method, in := range map[string][]string{
		"initialize":               {early, middle},
		"tools/list":               {early, middle, late},
		"resources/list":           {early, middle, late},
		"prompts/list":             {early, middle, late},
		"tools/call":               {early, middle, late},
		"resources/read":           {early, middle, late},
		"prompts/get":              {early, middle, late},
		"completion/complete":      {early, middle, late},
		"resources/subscribe":      {early, middle},
		"resources/unsubscribe":    {early, middle},
		"logging/setLevel":         {early, middle},
		"tasks/get":                {middle, late},
		"tasks/cancel":             {middle, late},
		"tasks/result":             {middle},
		"tasks/list":               {middle},
		"resources/templates/list": {early, middle, late},
		"server/discover":          {late},
		"subscriptions/listen":     {late},
		"tasks/update":             {late},
		"tools/destroy":            nil,
	} {
		for _, version := range []string{early, middle, late, ""} {
			got, err := mcp.Map(method, params, mcp.MapOptions{ServerID: "s", ProtocolVersion: version, ExtraMethods: true})
			want := slices.Contains(in, version) || version == "" && in != nil
			var e *mcp.Error
			if (err == nil) != want || want && got.Action != method || !want && (!errors.As(err, &e) || e.Code != mcp.CodeMethodUnknown) {
				t.Errorf("%s in %q: %+v, %v", method, version, got, err)
			}
		}
	}
}

func (v mappingVector) checkError(t *testing.T, got mcp.Mapped, err error) {
	t.Helper()
	var e *mcp.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %+v, %v, want %s; %s", got, err, v.ExpectError.Category, v.Note)
	}
	v.checkCode(t, e, err)
	// Nothing is asked: there is no question beside the error.
	if got.PassThrough || got.Action != "" || got.ResourceID != "" {
		t.Errorf("error beside %+v", got)
	}
}

func (v mappingVector) checkCode(t *testing.T, e *mcp.Error, err error) {
	t.Helper()
	category := map[mcp.Code]string{
		mcp.CodeMapping:            "mapping_error",
		mcp.CodeMappingUnsupported: "mapping_error",
		mcp.CodeMappingInvalid:     "mapping_error",
		mcp.CodeMappingSubject:     "mapping_error",
		mcp.CodeMethodUnknown:      "unmapped_method",
	}[e.Code]
	if category != v.ExpectError.Category {
		t.Errorf("%v is a %s, want %s", err, category, v.ExpectError.Category)
	}
	if v.ExpectError.MCPCode != "" && e.Code != v.ExpectError.MCPCode {
		t.Errorf("code %s, want %s", e.Code, v.ExpectError.MCPCode)
	}
	if v.ExpectError.Path != "" && e.Path != v.ExpectError.Path {
		t.Errorf("path %s, want %s", e.Path, v.ExpectError.Path)
	}
	if v.ExpectError.PDPCalled {
		t.Error("the vector wants a question beside an error")
	}
	if code, _ := mcp.Refusal(err).Error.Get("code"); !rar.Equal(code, rar.IntValue(v.ExpectError.Code)) {
		t.Errorf("JSON-RPC code %s, want %d", code.Text(), v.ExpectError.Code)
	}
}

func (v mappingVector) checkRequest(t *testing.T, m mcp.Mapped) {
	t.Helper()
	entity := func(kind, id string) rar.Value {
		return rar.ObjectValue(
			rar.Member{Name: "type", Value: rar.StringValue(kind)},
			rar.Member{Name: "id", Value: rar.StringValue(id)},
		)
	}
	var members []rar.Member
	if m.SubjectType+m.SubjectID != "" {
		members = append(members, rar.Member{Name: "subject", Value: entity(m.SubjectType, m.SubjectID)})
	}
	got := rar.ObjectValue(append(members,
		rar.Member{Name: "action", Value: rar.ObjectValue(rar.Member{Name: "name", Value: rar.StringValue(m.Action)})},
		rar.Member{Name: "resource", Value: entity(m.ResourceType, m.ResourceID)},
		rar.Member{Name: "context", Value: m.Context},
	)...)
	if want := value(t, v.ExpectRequest.Body); !rar.Equal(got, want) {
		t.Errorf("asks %s\nwant %s\n%s", render(got), render(want), v.Note)
	}
}
