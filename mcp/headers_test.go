package mcp_test

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/mcp"
	"github.com/authzd/authzd/rar"
)

type headersVector struct {
	vectorHead
	Given struct {
		Headers map[string]string `json:"headers"`
		// Lines holds fields whose order or repetition matters.
		Lines [][2]string     `json:"lines"`
		Body  json.RawMessage `json:"body"`
	} `json:"given"`
	Expect struct {
		Accepted              bool            `json:"accepted"`
		Tool                  *string         `json:"tool"`
		EffectiveCapabilities json.RawMessage `json:"effective_capabilities"`
		ProtocolVersion       *string         `json:"protocol_version"`
		HTTPStatus            int             `json:"http_status"`
		JSONRPCCode           int64           `json:"jsonrpc_code"`
		PDPCalled             *bool           `json:"pdp_called"`
	} `json:"expect"`
}

func TestCheckHeadersVectors(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"headers.json", "own-headers.json"} {
		for _, v := range load[headersVector](t, file, "mcp-headers/1") {
			t.Run(file+"/"+v.Name, func(t *testing.T) {
				t.Parallel()
				got, err := mcp.CheckHeaders(v.headers(), value(t, v.Given.Body), v.params(t))
				if v.Expect.Accepted {
					v.checkAccepted(t, got, err)
					return
				}
				if v.Expect.PDPCalled == nil || *v.Expect.PDPCalled {
					t.Fatal("a refused vector must say that the PDP is not called")
				}
				// An error is what keeps a PEP from asking.
				if err == nil {
					t.Fatalf("accepted %+v; why: %s", got, v.Why)
				}
				if !cmp.Equal(got.Name+got.Method+got.ProtocolVersion, "") {
					t.Errorf("error beside %+v", got)
				}
				resp := mcp.Refusal(err)
				code, _ := resp.Error.Get("code")
				if resp.HTTPStatus != v.Expect.HTTPStatus || !rar.Equal(code, rar.IntValue(v.Expect.JSONRPCCode)) {
					t.Errorf("status %d, code %s (%v), want %d, %d", resp.HTTPStatus, code.Text(), err, v.Expect.HTTPStatus, v.Expect.JSONRPCCode)
				}
			})
		}
	}
}

func (v headersVector) checkAccepted(t *testing.T, got mcp.Checked, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("refused: %v; why: %s", err, v.Why)
	}
	body := value(t, v.Given.Body)
	if method, _ := body.Get("method"); got.Method != method.Text() {
		t.Errorf("method %q, want %q", got.Method, method.Text())
	}
	if v.Expect.Tool != nil && got.Name != *v.Expect.Tool {
		t.Errorf("name %q, want %q", got.Name, *v.Expect.Tool)
	}
	if v.Expect.ProtocolVersion != nil && got.ProtocolVersion != *v.Expect.ProtocolVersion {
		t.Errorf("protocol version %q, want %q", got.ProtocolVersion, *v.Expect.ProtocolVersion)
	}
	if want := v.Expect.EffectiveCapabilities; want != nil && !rar.Equal(got.ClientCapabilities, value(t, want)) {
		t.Errorf("capabilities %s, want %s", render(got.ClientCapabilities), want)
	}
}

func (v headersVector) headers() []mcp.Header {
	var list []mcp.Header
	for _, name := range slices.Sorted(maps.Keys(v.Given.Headers)) {
		list = append(list, mcp.Header{Name: name, Value: v.Given.Headers[name]})
	}
	for _, line := range v.Given.Lines {
		list = append(list, mcp.Header{Name: line[0], Value: line[1]})
	}
	return list
}

// params makes of the vector's shorthand (argument to header) what the tool's
// schema would say.
func (v headersVector) params(t *testing.T) []mcp.ParamHeader {
	t.Helper()
	annotated, _ := value(t, v.Given.Body).Get("x-mcp-header")
	var list []mcp.ParamHeader
	for i := range annotated.Len() {
		m := annotated.Member(i)
		list = append(list, mcp.ParamHeader{Pointer: "/" + m.Name, Header: m.Value.Text()})
	}
	return list
}

func TestParamHeaders(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, schema string
		want         []mcp.ParamHeader
		path         string
	}{
		{name: "none", schema: `{"type":"object","properties":{"a":{"type":"string"}}}`},
		{name: "not a schema", schema: `true`},
		{
			name: "top and nested", schema: `{"properties":{"a":{"type":"string","x-mcp-header":"Region"},
			"b/c":{"type":"object","properties":{"~d":{"type":"integer","x-mcp-header":"Count"}}}}}`,
			want: []mcp.ParamHeader{{Pointer: "/a", Header: "Region"}, {Pointer: "/b~1c/~0d", Header: "Count"}},
		},
		{name: "not a string", schema: `{"properties":{"a":{"type":"string","x-mcp-header":1}}}`, path: "/properties/a/x-mcp-header"},
		{name: "empty", schema: `{"properties":{"a":{"type":"string","x-mcp-header":""}}}`, path: "/properties/a/x-mcp-header"},
		{name: "properties a list", schema: `{"properties":["a"]}`},
		{name: "below, not a string", schema: `{"properties":{"o":{"properties":{"a":{"type":"string","x-mcp-header":1}}}}}`, path: "/properties/o/properties/a/x-mcp-header"},
		{name: "line break", schema: `{"properties":{"a":{"type":"string","x-mcp-header":"A\r\nB"}}}`, path: "/properties/a/x-mcp-header"},
		{name: "number", schema: `{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}`, path: "/properties/a/x-mcp-header"},
		{name: "untyped", schema: `{"properties":{"a":{"x-mcp-header":"A"}}}`, path: "/properties/a/x-mcp-header"},
		{
			name: "twice", schema: `{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}`,
			path: "/properties/b/x-mcp-header",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := mcp.ParamHeaders(value(t, []byte(tt.schema)))
			if tt.path == "" {
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Error(diff)
				}
				return
			}
			var e *mcp.Error
			if !errors.As(err, &e) || e.Code != mcp.CodeMessageInvalid || e.Path != tt.path || got != nil {
				t.Errorf("got %v, %v, want %s at %s", got, err, mcp.CodeMessageInvalid, tt.path)
			}
		})
	}
}

// TestHeadersOfOddMessages: params that are no object are no message of any revision, and
// a name that is empty still needs its field.
func TestHeadersOfOddMessages(t *testing.T) {
	t.Parallel()
	for _, body := range []string{`{"method":"tools/list","params":[1]}`, `{"method":"tools/call","params":"name"}`, `{"method":"ping","params":null}`} {
		got, err := mcp.CheckHeaders([]mcp.Header{{Name: "MCP-Protocol-Version", Value: "2025-06-18"}}, value(t, []byte(body)), nil)
		var e *mcp.Error
		if !errors.As(err, &e) || e.Code != mcp.CodeMessageInvalid || e.Path != "/params" || got.Method != "" {
			t.Errorf("%s: %+v, %v", body, got, err)
		}
	}
	for said, want := range map[string]bool{"": false, "=?base64?!?=": false, "=?base64??=": true} {
		_, err := mcp.CheckHeaders([]mcp.Header{
			{Name: "MCP-Protocol-Version", Value: "2026-07-28"}, {Name: "Mcp-Method", Value: "tools/call"}, {Name: "Mcp-Name", Value: said},
		}, value(t, []byte(`{"method":"tools/call","params":{"name":"","_meta":{
			"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`)), nil)
		var e *mcp.Error
		if (err == nil) != want || !want && (!errors.As(err, &e) || e.Code != mcp.CodeHeaderMismatch) {
			t.Errorf("an empty name beside %q: %v", said, err)
		}
	}
}

// FuzzCheckHeaders: what is accepted for 2026-07-28 says the same in header and
// body, whatever either contains.
func FuzzCheckHeaders(f *testing.F) {
	for _, v := range load[headersVector](f, "headers.json", "mcp-headers/1") {
		f.Add(v.Given.Headers["MCP-Protocol-Version"], v.Given.Headers["Mcp-Method"], v.Given.Headers["Mcp-Name"],
			v.Given.Headers["Mcp-Param-Region"], []byte(v.Given.Body))
	}
	params := []mcp.ParamHeader{{Pointer: "/region", Header: "Region"}}
	f.Fuzz(func(t *testing.T, version, method, name, region string, body []byte) {
		v, err := rar.DecodeStrict(body, rar.Limits{})
		if err != nil {
			return
		}
		got, err := mcp.CheckHeaders([]mcp.Header{
			{Name: "MCP-Protocol-Version", Value: version},
			{Name: "Mcp-Method", Value: method},
			{Name: "Mcp-Name", Value: name},
			{Name: "Mcp-Param-Region", Value: region},
		}, v, params)
		if err != nil {
			var e *mcp.Error
			if !errors.As(err, &e) {
				t.Fatalf("uncoded error %v", err)
			}
			return
		}
		if said, _ := v.Get("method"); got.Method != said.Text() {
			t.Fatalf("method %q of %s", got.Method, body)
		}
		if !strings.HasPrefix(version, "2026-07-28") {
			return
		}
		if got.Method != strings.Trim(method, " \t") {
			t.Fatalf("header says %q, body %q", method, got.Method)
		}
		if got.Method != "tools/call" {
			return
		}
		if said, ok := v.Lookup("/params/name"); !ok || said.Text() != got.Name {
			t.Fatalf("name %q of %s", got.Name, body)
		}
		if plain := strings.Trim(name, " \t"); !strings.HasPrefix(plain, "=?base64?") && plain != got.Name {
			t.Fatalf("header names %q, body %q", name, got.Name)
		}
	})
}
