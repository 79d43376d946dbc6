package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

const (
	// callTimeout bounds one call of the agent.
	callTimeout = 10 * time.Second
	// Names of SEP-2643.
	envelopeKey  = "io.modelcontextprotocol/authorization"
	contextIDKey = "io.modelcontextprotocol/authorization-context-id"
)

// agent is the MCP client.
type agent struct {
	session *mcp.ClientSession
	// handle of the last refusal, told again when the call is repeated.
	handle string
}

func connect(ctx context.Context, transport mcp.Transport) (*agent, error) {
	client := mcp.NewClient(&mcp.Implementation{Name: "demo-agent", Version: "1.0.0"}, nil)
	session, err := client.Connect(ctx, transport, nil)
	if err != nil {
		return nil, fmt.Errorf("connect to the payments server: %w", err)
	}
	return &agent{session: session}, nil
}

func (a *agent) close() {
	if a != nil {
		_ = a.session.Close()
	}
}

func (a *agent) version() string { return a.session.InitializeResult().ProtocolVersion }

// outcome of a call: a payment, or a refusal. raw is what -v shows.
type outcome struct {
	payment payment
	refused *refusal
	raw     string
}

type payment struct {
	PaymentID, Status, Amount, Currency, CreditorAccount string
}

// refusal is what the agent understands of a denial, however it came.
type refusal struct {
	// how it came, in words.
	how string
	// final: nothing that the agent could obtain would help.
	final bool
	// scopes and details to ask the authorization server for.
	scopes  []string
	details json.RawMessage
	// words for the person or the model.
	words string
}

// call calls a tool. An error means that there was neither result nor refusal.
func (a *agent) call(ctx context.Context, tool string, arguments map[string]string) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	params := &mcp.CallToolParams{Name: tool, Arguments: arguments}
	if a.handle != "" {
		params.Meta = mcp.Meta{contextIDKey: a.handle}
		a.handle = ""
	}
	result, err := a.session.CallTool(ctx, params)
	var challenge *challengeError
	if errors.As(err, &challenge) {
		return challenge.outcome()
	}
	if err != nil {
		return outcome{}, err
	}
	return a.read(result)
}

// read understands a tool's result: the payment, or the envelope of a denial.
func (a *agent) read(result *mcp.CallToolResult) (outcome, error) {
	raw, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		return outcome{}, err
	}
	o := outcome{raw: string(raw)}
	words := firstText(result)
	if !result.IsError {
		return o, json.Unmarshal([]byte(words), &o.payment)
	}
	var meta struct {
		Envelope *struct {
			Remediation string
			Handle      string `json:"authorizationContextId"`
			Hints       []struct {
				Type    string
				Details json.RawMessage `json:"authorization_details"`
			} `json:"remediationHints"`
		} `json:"io.modelcontextprotocol/authorization"`
	}
	if text, err := json.Marshal(result.Meta); err != nil || json.Unmarshal(text, &meta) != nil || meta.Envelope == nil {
		return o, fmt.Errorf("the tool failed: %s", words)
	}
	a.handle = meta.Envelope.Handle
	o.refused = &refusal{
		how:   "a tool result that says so",
		final: meta.Envelope.Remediation == "unavailable",
		words: words,
	}
	for _, hint := range meta.Envelope.Hints {
		if hint.Type == "authorization_remediation" { // others: skip, says SEP-2643
			o.refused.details = hint.Details
		}
	}
	return o, nil
}

func firstText(result *mcp.CallToolResult) string {
	for _, c := range result.Content {
		if text, ok := c.(*mcp.TextContent); ok {
			return text.Text
		}
	}
	return ""
}

// purse is the [http.RoundTripper] of the agent: it sends the current token, and
// makes an error of an OAuth challenge. As an error it leaves the SDK's session
// intact; a 401 without a JSON-RPC body would end it. (A client that signs in
// through the SDK's OAuthHandler reads the challenge there.)
type purse struct{ token atomic.Value }

// RoundTrip sends one request.
func (p *purse) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if token, ok := p.token.Load().(string); ok {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden {
		return resp, err
	}
	_ = resp.Body.Close()
	return nil, &challengeError{status: resp.StatusCode, headers: resp.Header["Www-Authenticate"]}
}

// challengeError is a response with a WWW-Authenticate challenge.
type challengeError struct {
	status  int
	headers []string
}

func (e *challengeError) Error() string {
	return fmt.Sprintf("HTTP %d, WWW-Authenticate: %s", e.status, strings.Join(e.headers, ", "))
}

// outcome decodes the challenge. One that names no remedy is an error.
func (e *challengeError) outcome() (outcome, error) {
	challenges, err := oauthex.ParseWWWAuthenticate(e.headers)
	if err != nil {
		return outcome{}, fmt.Errorf("%w: %w", e, err)
	}
	for _, c := range challenges {
		r := &refusal{
			how:    fmt.Sprintf("HTTP %d, %s", e.status, c.Params["error"]),
			scopes: strings.Fields(c.Params["scope"]),
			words:  c.Params["error_description"],
		}
		raw := e.Error()
		switch c.Params["error"] {
		case "insufficient_scope":
			return outcome{refused: r, raw: raw}, nil
		case "insufficient_authorization":
			text, err := base64.RawURLEncoding.DecodeString(c.Params["authorization_remediation"])
			if err != nil {
				return outcome{}, fmt.Errorf("%w: %w", e, err)
			}
			var remediation struct {
				Details json.RawMessage `json:"authorization_details"`
			}
			if err := json.Unmarshal(text, &remediation); err != nil {
				return outcome{}, fmt.Errorf("%w: %w", e, err)
			}
			r.details = remediation.Details
			return outcome{refused: r, raw: raw + "\nauthorization_remediation, decoded: " + string(text)}, nil
		}
	}
	return outcome{}, e
}
