package clients_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

// Ways in which a Go client authenticates.
const (
	goHandler = "handler" // the SDK's own OAuth handler
	goReader  = "reader"  // the same, with an Authorize that reads challenges (so named for TypeScript, too)
	goPlain   = "plain"   // a fixed Authorization header
)

// challenged is what the reading handler makes of a challenge.
type challenged struct{ remediation string }

// Error names the parameter, which a person cannot read.
func (c *challenged) Error() string { return "challenge with remediation" }

// reader is the SDK's handler, but for a challenge that the handler does not
// know: that one is given to the caller of the tool.
type reader struct{ *auth.AuthorizationCodeHandler }

// Authorize implements [auth.OAuthHandler].
func (r *reader) Authorize(ctx context.Context, req *http.Request, resp *http.Response) error {
	challenges, err := oauthex.ParseWWWAuthenticate(resp.Header.Values("WWW-Authenticate"))
	if err != nil {
		return err
	}
	for _, c := range challenges {
		if c.Params["error"] == "insufficient_authorization" {
			_ = resp.Body.Close()
			return &challenged{c.Params["authorization_remediation"]}
		}
	}
	return r.AuthorizationCodeHandler.Authorize(ctx, req, resp)
}

type fixedToken struct{}

// RoundTrip implements [http.RoundTripper].
func (fixedToken) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+goodToken)
	return http.DefaultTransport.RoundTrip(r)
}

func goTransport(t *testing.T, w *world, mode string) mcp.Transport {
	t.Helper()
	transport := &mcp.StreamableClientTransport{Endpoint: w.URL + "/mcp", DisableStandaloneSSE: true}
	if mode == goPlain {
		transport.HTTPClient = &http.Client{Transport: fixedToken{}}
		return transport
	}
	handler, err := auth.NewAuthorizationCodeHandler(&auth.AuthorizationCodeHandlerConfig{
		PreregisteredClient:      &oauthex.ClientCredentials{ClientID: "agent"},
		RedirectURL:              "http://127.0.0.1/callback",
		AuthorizationCodeFetcher: openPage,
	})
	if err != nil {
		t.Fatal(err)
	}
	transport.OAuthHandler = handler
	if mode == goReader {
		transport.OAuthHandler = &reader{handler}
	}
	return transport
}

// openPage is the user: it opens the page and comes back with a code.
func openPage(ctx context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, args.URL, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	_ = resp.Body.Close()
	back, err := url.Parse(resp.Header.Get("Location"))
	if err != nil {
		return nil, err
	}
	return &auth.AuthorizationResult{Code: back.Query().Get("code"), State: back.Query().Get("state")}, nil
}

// runGo makes the denied call with the Go SDK's client.
func runGo(t *testing.T, w *world, mode string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	client := mcp.NewClient(&mcp.Implementation{Name: "agent", Version: "1.0.0"}, nil)
	session, err := client.Connect(ctx, goTransport(t, w, mode), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = session.Close() }()
	before := w.seen().Last
	w.forget()
	o := outcome{Version: session.InitializeResult().ProtocolVersion, First: attemptGo(ctx, session)}
	tools, err := session.ListTools(ctx, nil)
	o.Alive = err == nil && len(tools.Tools) == 1
	seen := w.seen()
	o.SameToken = seen.Last == before
	if !o.Alive { // No later request shows it.
		o.SameToken = seen.Calls[len(seen.Calls)-1] == before
	}
	return o
}

func attemptGo(ctx context.Context, session *mcp.ClientSession) attempt {
	result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "pay", Arguments: map[string]any{}})
	var rpc *jsonrpc.Error
	var read *challenged
	switch {
	case errors.As(err, &read):
		return attempt{Kind: "thrown", Name: "challenged", Told: read.remediation}
	case errors.As(err, &rpc):
		return attempt{Kind: "thrown", Name: "jsonrpc.Error", Told: rpc.Message + " " + string(rpc.Data)}
	case err != nil:
		return attempt{Kind: "thrown", Name: fmt.Sprintf("%T", err), Told: err.Error()}
	case result.IsError:
		text, _ := result.MarshalJSON()
		return attempt{Kind: "refused", Told: string(text)}
	default:
		return attempt{Kind: "done"}
	}
}
