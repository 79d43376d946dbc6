package mcp_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/authzd/authzd/mcp"
	"github.com/authzd/authzd/rar"
)

// The shapes of the files under testdata. Unknown keys are refused, so that no
// expectation can be overlooked.

type vectorFile[T any] struct {
	Format  string `json:"format"`
	Vectors []T    `json:"vectors"`
}

type vectorHead struct {
	Name  string `json:"name"`
	Basis string `json:"basis"`
	Spec  string `json:"spec"`
	Why   string `json:"why"`
}

func load[T any](t testing.TB, name, format string) []T {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var f vectorFile[T]
	strict(t, data, &f)
	if f.Format != format {
		t.Fatalf("%s has format %q, want %q", name, f.Format, format)
	}
	if len(f.Vectors) == 0 {
		t.Fatalf("%s has no vectors", name)
	}
	return f.Vectors
}

func strict(t testing.TB, data []byte, into any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatal(err)
	}
}

func value(t testing.TB, raw []byte) rar.Value {
	t.Helper()
	v, err := rar.DecodeStrict(raw, rar.Limits{})
	if err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return v
}

// optional reads a member that may be missing.
func optional(t testing.TB, raw json.RawMessage) rar.Value {
	t.Helper()
	if raw == nil {
		return rar.Value{}
	}
	return value(t, raw)
}

func render(v rar.Value) string { return string(v.AppendJSON(nil)) }

type denialVector struct {
	vectorHead
	Given      denialGiven    `json:"given"`
	Expect     denialExpect   `json:"expect"`
	AlsoAccept []denialExpect `json:"also_accept"`
}

type denialGiven struct {
	Decision struct {
		Remediation string            `json:"remediation"`
		Message     string            `json:"message"`
		ContextID   string            `json:"context_id"`
		Remedies    []json.RawMessage `json:"remedies"`
	} `json:"decision"`
	Request struct {
		ID            json.RawMessage   `json:"id"`
		Method        string            `json:"method"`
		Name          string            `json:"name"`
		GrantedScopes []string          `json:"granted_scopes"`
		Headers       map[string]string `json:"headers"`
	} `json:"request"`
	Transport          string          `json:"transport"`
	ProtocolVersion    string          `json:"protocol_version"`
	ClientCapabilities json.RawMessage `json:"client_capabilities"`
	Server             struct {
		ResourceMetadata string   `json:"resource_metadata"`
		HeaderLimit      int      `json:"header_limit"`
		DPoPAlgs         []string `json:"dpop_algs"`
	} `json:"server"`
	AllNeeded bool `json:"all_needed"`
}

type denialExpect struct {
	HTTP          *httpExpect     `json:"http"`
	JSONRPCResult json.RawMessage `json:"jsonrpc_result"`
	JSONRPCError  json.RawMessage `json:"jsonrpc_error"`
	Not           string          `json:"not"`
	Executes      *bool           `json:"executes"`
	Reported      []string        `json:"reported"`
}

type httpExpect struct {
	Status          int               `json:"status"`
	WWWAuthenticate *challengeExpect  `json:"www_authenticate"`
	Headers         map[string]string `json:"headers"`
	HeadersAbsent   []string          `json:"headers_absent"`
}

type challengeExpect struct {
	Scheme        string            `json:"scheme"`
	Params        map[string]string `json:"params"`
	ParamsInclude map[string]string `json:"params_include"`
	Remediation   json.RawMessage   `json:"authorization_remediation"`
}

func (g denialGiven) denial(t testing.TB) mcp.Denial {
	t.Helper()
	d := mcp.Denial{
		Remediation: mcp.Remediation(g.Decision.Remediation),
		Message:     g.Decision.Message,
		ContextID:   g.Decision.ContextID,
		AllNeeded:   g.AllNeeded,
		Request: mcp.Request{
			Method:        g.Request.Method,
			ToolName:      g.Request.Name,
			GrantedScopes: g.Request.GrantedScopes,
		},
		Transport:          g.Transport,
		ProtocolVersion:    g.ProtocolVersion,
		ClientCapabilities: optional(t, g.ClientCapabilities),
		Server: mcp.Server{
			ResourceMetadata: g.Server.ResourceMetadata,
			HeaderLimit:      g.Server.HeaderLimit,
			DPoPAlgs:         g.Server.DPoPAlgs,
		},
	}
	for name, v := range g.Request.Headers {
		d.Request.Headers = append(d.Request.Headers, mcp.Header{Name: name, Value: v})
	}
	for _, raw := range g.Decision.Remedies {
		d.Remedies = append(d.Remedies, remedy(t, raw))
	}
	return d
}

func remedy(t testing.TB, raw []byte) mcp.Remedy {
	t.Helper()
	type kind struct {
		Kind string `json:"kind"`
	}
	var k kind
	if err := json.Unmarshal(raw, &k); err != nil {
		t.Fatal(err)
	}
	switch k.Kind {
	case "scopes":
		var r struct {
			kind
			Scopes      []string `json:"scopes"`
			Description string   `json:"description"`
		}
		strict(t, raw, &r)
		return mcp.ScopesRemedy{Scopes: r.Scopes, Description: r.Description}
	case "authorization_details":
		var r struct {
			kind
			Details   json.RawMessage `json:"authorization_details"`
			SingleUse bool            `json:"single_use"`
			Reference string          `json:"authorization_reference"`
		}
		strict(t, raw, &r)
		return mcp.AuthorizationDetailsRemedy{
			AuthorizationDetails: optional(t, r.Details), SingleUse: r.SingleUse, AuthorizationReference: r.Reference,
		}
	case "txn_challenge":
		var r struct {
			kind
			Challenge string          `json:"challenge"`
			Details   json.RawMessage `json:"authorization_details"`
		}
		strict(t, raw, &r)
		return mcp.TxnChallengeRemedy{Challenge: r.Challenge, AuthorizationDetails: optional(t, r.Details)}
	case "authentication":
		var r struct {
			kind
			ACRValues []string `json:"acr_values"`
			MaxAge    *int64   `json:"max_age"`
		}
		strict(t, raw, &r)
		return mcp.AuthenticationRemedy{ACRValues: r.ACRValues, MaxAge: r.MaxAge}
	case "proof_of_possession":
		var r struct {
			kind
			Algs []string `json:"algs"`
		}
		strict(t, raw, &r)
		return mcp.ProofOfPossessionRemedy{Algs: r.Algs}
	case "token":
		var r struct {
			kind
			State  string   `json:"state"`
			Scopes []string `json:"scopes"`
		}
		strict(t, raw, &r)
		return mcp.TokenRemedy{State: mcp.TokenState(r.State), Scopes: r.Scopes}
	case "url":
		var r struct {
			kind
			Key           string `json:"key"`
			URL           string `json:"url"`
			Message       string `json:"message"`
			RequestState  string `json:"request_state"`
			ElicitationID string `json:"elicitation_id"`
		}
		strict(t, raw, &r)
		return mcp.URLRemedy{
			Key: r.Key, URL: r.URL, Message: r.Message, RequestState: r.RequestState, ElicitationID: r.ElicitationID,
		}
	case "out_of_band":
		return outOfBand(t, raw)
	default:
		t.Fatalf("unknown remedy kind %q", k.Kind)
		return nil
	}
}

func outOfBand(t testing.TB, raw []byte) mcp.Remedy {
	t.Helper()
	var r struct {
		Kind string `json:"kind"`
		Task struct {
			ID            string    `json:"taskId"`
			StatusMessage string    `json:"statusMessage"`
			CreatedAt     time.Time `json:"createdAt"`
			LastUpdatedAt time.Time `json:"lastUpdatedAt"`
			TTL           *int64    `json:"ttlMs"`
			PollInterval  int64     `json:"pollIntervalMs"`
		} `json:"task"`
	}
	strict(t, raw, &r)
	return mcp.OutOfBandRemedy{Task: mcp.Task{
		ID: r.Task.ID, StatusMessage: r.Task.StatusMessage, CreatedAt: r.Task.CreatedAt,
		LastUpdatedAt: r.Task.LastUpdatedAt, TTLMillis: r.Task.TTL, PollIntervalMillis: r.Task.PollInterval,
	}}
}
