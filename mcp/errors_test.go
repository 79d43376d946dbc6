package mcp_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authzd/authzd/mcp"
	"github.com/authzd/authzd/rar"
)

// TestCodes reaches every code, and each through what it is declared for.
func TestCodes(t *testing.T) {
	t.Parallel()
	_, noName := mcp.Map("tools/call", rar.Value{}, mcp.MapOptions{})
	_, unsupported := mcp.Map("tools/call", rar.Value{}, mcp.MapOptions{
		InputSchema: value(t, []byte(`{"x-authzen-mapping":{}}`)),
	})
	_, unknown := mcp.Map("tools/destroy", rar.Value{}, mcp.MapOptions{})
	_, header := mcp.CheckHeaders([]mcp.Header{{Name: "MCP-Protocol-Version", Value: "a"}, {Name: "mcp-protocol-version", Value: "b"}},
		value(t, []byte(`{"method":"ping"}`)), nil)
	_, message := mcp.CheckHeaders(nil, rar.Value{}, nil)
	_, denial := mcp.Render(mcp.Denial{ContextID: "a/b"})
	_, invalid := mcp.CompileMapping(rar.NullValue())
	_, subject := mapping(t, `{"evaluation":{"subject":{"id":"bob"},"action":{"name":"a"},"resource":{"type":"t","id":"i"}}}`).
		Evaluate(t.Context(), rar.Value{}, mcp.MappingOptions{Token: value(t, []byte(testToken)), Strict: true})
	_, denied := mcp.EnforceEvaluation(1, mcp.PDPAnswer{Status: 200, Body: []byte(`{"decision":false}`)})
	_, fault := mcp.EnforceEvaluation(1, mcp.PDPAnswer{Status: 500})
	_, state := mcp.OpenRequestState(nil, "", time.Time{}, "", "", "")
	reached := map[mcp.Code]error{
		mcp.CodeRequestState:       state,
		mcp.CodeMapping:            noName,
		mcp.CodeMappingInvalid:     invalid,
		mcp.CodeMappingSubject:     subject,
		mcp.CodeDenied:             denied,
		mcp.CodePDPFault:           fault,
		mcp.CodeMappingUnsupported: unsupported,
		mcp.CodeMethodUnknown:      unknown,
		mcp.CodeHeaderMismatch:     header,
		mcp.CodeMessageInvalid:     message,
		mcp.CodeEnvelopeInvalid:    mcp.ValidateEnvelope(rar.Value{}),
		mcp.CodeDenialInvalid:      denial,
	}
	codes := mcp.Codes()
	if len(codes) != len(reached) {
		t.Errorf("%d codes, %d reached", len(codes), len(reached))
	}
	for i, code := range codes {
		var e *mcp.Error
		if err := reached[code]; !errors.As(err, &e) || e.Code != code {
			t.Errorf("%s is not reached: %v", code, err)
		}
		if !strings.HasPrefix(string(code), "mcp.") || slices.Contains(codes[:i], code) {
			t.Errorf("%s is no code of its own", code)
		}
	}
}

func TestRefusal(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		err    error
		status int
		code   int64
		data   string
	}{
		{"mapping", &mcp.Error{Code: mcp.CodeMapping, Path: "/params/name", Err: errors.New("x")}, 200, -32602, "mcp.mapping"},
		{"declared mapping", &mcp.Error{Code: mcp.CodeMappingUnsupported}, 200, -32602, "mcp.mapping_unsupported"},
		{"unknown method", &mcp.Error{Code: mcp.CodeMethodUnknown}, 200, -32001, "mcp.method_unknown"},
		{"invalid mapping", &mcp.Error{Code: mcp.CodeMappingInvalid}, 200, -32602, "mcp.mapping_invalid"},
		{"subject of a mapping", &mcp.Error{Code: mcp.CodeMappingSubject}, 200, -32602, "mcp.mapping_subject"},
		{"denied", &mcp.Error{Code: mcp.CodeDenied, Err: errors.New("secret")}, 200, -32001, "mcp.denied"},
		{"decision point away", &mcp.Error{Code: mcp.CodePDPFault, Err: errors.New("secret")}, 200, -32603, "mcp.pdp_fault"},
		{"header", &mcp.Error{Code: mcp.CodeHeaderMismatch}, 400, -32020, "mcp.header_mismatch"},
		{"message", &mcp.Error{Code: mcp.CodeMessageInvalid}, 400, -32602, "mcp.message_invalid"},
		{"wrapped", errors.Join(errors.New("secret"), &mcp.Error{Code: mcp.CodeMapping}), 200, -32602, "mcp.mapping"},
		{"not a refusal of a message", &mcp.Error{Code: mcp.CodeDenialInvalid, Err: errors.New("secret")}, 200, -32603, ""},
		{"foreign", errors.New("secret"), 200, -32603, ""},
		{"nil", nil, 200, -32603, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			resp := mcp.Refusal(tt.err)
			code, _ := resp.Error.Get("code")
			data, _ := resp.Error.Lookup("/data/code")
			message, _ := resp.Error.Get("message")
			if resp.HTTPStatus != tt.status || !rar.Equal(code, rar.IntValue(tt.code)) || data.Text() != tt.data || message.Text() == "" {
				t.Errorf("got %s", dump(resp))
			}
			if strings.Contains(render(resp.Error), "secret") {
				t.Error("the cause is told")
			}
			checkInvariants(t, resp)
		})
	}
}

// TestRefusalSaysWhereAndWhy: of the client's own message.
func TestRefusalSaysWhereAndWhy(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{"": "not a string", "/params/name": "/params/name: not a string"} {
		resp := mcp.Refusal(&mcp.Error{Code: mcp.CodeMapping, Path: path, Err: errors.New("not a string")})
		if got, _ := resp.Error.Get("message"); got.Text() != want {
			t.Errorf("at %q: %q, want %q", path, got.Text(), want)
		}
	}
}

func TestErrorText(t *testing.T) {
	t.Parallel()
	cause := errors.New("not a string")
	err := &mcp.Error{Code: mcp.CodeMapping, Path: "/params/name", Err: cause}
	if got, want := err.Error(), "mcp.mapping at /params/name: not a string"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !errors.Is(err, cause) {
		t.Error("the cause is lost")
	}
}
