package pep

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"google.golang.org/protobuf/types/known/timestamppb"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// yes allows everything.
type yes struct{ Decider }

func (yes) Check(context.Context, *authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
	return &authzdv1.CheckResponse{
		Decision: authzdv1.Decision_DECISION_ALLOW, CallDigest: "x", ExpiresAt: timestamppb.New(time.Now().Add(time.Minute)),
	}, nil
}

type strangeRequest struct{ mcp.Request }

func (strangeRequest) GetParams() mcp.Params { return nil }

// What the SDK would never hand on is refused.
func TestMiddlewareRefusesOddRequests(t *testing.T) {
	t.Parallel()
	e, err := New(Options{Decider: yes{}, Server: "https://mcp.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	for name, req := range map[string]mcp.Request{
		"no params":            &mcp.CallToolRequest{},
		"of another kind":      &mcp.ListToolsRequest{},
		"of no kind":           strangeRequest{},
		"params that no JSON":  &mcp.CallToolRequest{Params: &mcp.CallToolParamsRaw{Name: "a", Meta: mcp.Meta{"f": func() {}}}},
		"arguments no JSON":    &mcp.CallToolRequest{Params: &mcp.CallToolParamsRaw{Name: "a", Arguments: json.RawMessage(`{`)}},
		"capabilities no JSON": &mcp.CallToolRequest{Params: &mcp.CallToolParamsRaw{Name: "a", Meta: mcp.Meta{mcp.MetaKeyClientCapabilities: func() {}}}},
	} {
		m := &middleware{e: e, o: MiddlewareOptions{Identify: BearerToken}}
		next := func(_ context.Context, method string, _ mcp.Request) (mcp.Result, error) {
			if method == methodToolsList {
				return &mcp.ListToolsResult{Tools: []*mcp.Tool{{Name: "a", InputSchema: json.RawMessage(`{"type":"object"}`)}}}, nil
			}
			t.Errorf("%s: it ran", name)
			return &mcp.CallToolResult{}, nil
		}
		if result, err := m.receive(next)(t.Context(), methodToolsCall, req); err == nil {
			t.Errorf("%s: %v", name, result)
		}
	}
}

// The service is told what the client declared, and nothing that it did not.
func TestCapabilitiesOfInitialize(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		declared     *mcp.ClientCapabilities
		want, params string
	}{
		{nil, "", `null`},
		{&mcp.ClientCapabilities{}, `{}`, `{}`},
		{&mcp.ClientCapabilities{RootsV2: &mcp.RootCapabilities{}}, `{"roots":{}}`, `{"roots":{}}`}, //nolint:staticcheck // older clients have it
		{&mcp.ClientCapabilities{Extensions: map[string]any{"a/b": map[string]any{}}}, `{"extensions":{"a/b":{}}}`, `{"extensions":{"a/b":{}}}`},
	} {
		m := &middleware{o: MiddlewareOptions{Identify: BearerToken}}
		req := &mcp.ServerRequest[*mcp.InitializeParams]{Params: &mcp.InitializeParams{
			ProtocolVersion: "2025-11-25", Capabilities: c.declared, ClientInfo: &mcp.Implementation{Name: "c", Version: "1"},
		}}
		got, err := m.caller(t.Context(), methodInitialize, req)
		if err != nil || string(got.Capabilities) != c.want || got.ProtocolVersion != "2025-11-25" {
			t.Errorf("%s of %s, %v, want %s", got.Capabilities, got.ProtocolVersion, err, c.want)
		}
		text, err := paramsOf(req)
		if err != nil {
			t.Fatal(err)
		}
		var params map[string]json.RawMessage
		if err := json.Unmarshal(text, &params); err != nil {
			t.Fatal(err)
		}
		if string(params["capabilities"]) != c.params || string(params["protocolVersion"]) != `"2025-11-25"` || string(params["clientInfo"]) != `{"name":"c","version":"1"}` || len(params) != 3 {
			t.Errorf("params %s", text)
		}
	}
}
