package workload

import (
	"encoding/json"
	"fmt"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// CheckRequest is a query as gRPC takes it.
func CheckRequest(query []byte) (*authzdv1.CheckRequest, error) {
	type entity struct {
		Type       string          `json:"type"`
		ID         string          `json:"id"`
		Properties json.RawMessage `json:"properties"`
	}
	var q struct {
		MCP struct {
			Method       string          `json:"method"`
			Params       json.RawMessage `json:"params"`
			Server       string          `json:"server"`
			Transport    string          `json:"transport"`
			Version      string          `json:"protocol_version"`
			Capabilities json.RawMessage `json:"client_capabilities"`
		} `json:"mcp"`
		Subject     entity `json:"subject"`
		Credentials []struct {
			ID     string          `json:"id"`
			Claims json.RawMessage `json:"claims"`
		} `json:"credentials"`
		Context json.RawMessage `json:"context"`
	}
	if err := json.Unmarshal(query, &q); err != nil {
		return nil, fmt.Errorf("read a request: %w", err)
	}
	r := &authzdv1.CheckRequest{
		Mcp: &authzdv1.MCPMessage{
			Method: q.MCP.Method, Params: q.MCP.Params, Server: q.MCP.Server, Transport: q.MCP.Transport,
			ProtocolVersion: q.MCP.Version, ClientCapabilities: q.MCP.Capabilities,
		},
		Subject: &authzdv1.Subject{Type: q.Subject.Type, Id: q.Subject.ID, Properties: q.Subject.Properties},
		Context: q.Context,
	}
	for _, c := range q.Credentials {
		r.Credentials = append(r.Credentials, &authzdv1.Credential{Id: c.ID, Claims: c.Claims})
	}
	return r, nil
}
