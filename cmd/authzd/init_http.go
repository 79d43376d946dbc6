package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// maxTokenFile bounds a file that holds one access token.
const maxTokenFile = 64 << 10

// accessOptions are the flags that a server at a URL may need.
type accessOptions struct {
	headers             []string
	tokenFile, tokenEnv string
}

// none refuses flags that would be without effect.
func (a *accessOptions) none() error {
	if len(a.headers) > 0 || a.tokenFile != "" || a.tokenEnv != "" {
		return errors.New("--header, --token-file and --token-env need --from-mcp with a URL")
	}
	return nil
}

func (a *accessOptions) http(address string, std stdio) (mcpSource, error) {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return nil, errors.New("--from-mcp: not a URL of a server")
	}
	if u.User != nil {
		return nil, errors.New("--from-mcp: a URL with a password would be in every process list: use --header or --token-file")
	}
	h := http.Header{}
	for _, line := range a.headers {
		name, value, ok := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return nil, errors.New(`--header: write "NAME: VALUE"`)
		}
		h.Add(name, strings.TrimSpace(value))
	}
	token, err := a.token(std)
	if err != nil {
		return nil, err
	}
	if token != "" {
		h.Set("Authorization", "Bearer "+token)
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	if len(h) > 0 && !strings.EqualFold(u.Scheme, "https") && !isLoopback(u.Hostname()+":"+port) {
		return nil, errors.New("--from-mcp: a token or header would travel in the clear: use https, or a server on this host")
	}
	return &httpSource{address: address, headers: h}, nil
}

func (a *accessOptions) token(std stdio) (string, error) {
	switch {
	case a.tokenEnv != "":
		token := std.getenv(a.tokenEnv)
		if token == "" {
			return "", fmt.Errorf("--token-env: the variable %s is empty", a.tokenEnv)
		}
		return token, nil
	case a.tokenFile != "":
		f, err := os.Open(a.tokenFile)
		if err != nil {
			return "", fmt.Errorf("--token-file: %w", err)
		}
		defer f.Close() //nolint:errcheck // read only, nothing to lose
		text, err := io.ReadAll(io.LimitReader(f, maxTokenFile))
		token := strings.TrimSpace(string(text))
		if err == nil && (token == "" || strings.ContainsAny(token, " \t\r\n")) {
			err = errors.New("holds not one token")
		}
		if err != nil {
			return "", fmt.Errorf("--token-file: %s: %w", a.tokenFile, err)
		}
		return token, nil
	}
	return "", nil
}

// httpSource is an MCP server at a URL.
type httpSource struct {
	address string
	headers http.Header
	// left is what the server may still send, all answers together.
	left byteBudget
}

func (s *httpSource) open(context.Context, stdio) (mcp.Transport, func() error, error) {
	s.left.n.Store(maxInitBytes)
	return &mcp.StreamableClientTransport{
		Endpoint:   s.address,
		HTTPClient: &http.Client{Transport: s},
		MaxRetries: -1,
		// Nothing is awaited but answers.
		DisableStandaloneSSE: true,
		MaxEventSize:         maxInitBytes,
	}, func() error { return nil }, nil
}

// RoundTrip adds the headers and bounds the answer. A redirect is an error: it
// would carry the headers to where the operator did not send them.
func (s *httpSource) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	if r.Method == http.MethodDelete {
		// The end of the session, which the SDK waits for.
		time.AfterFunc(stopGrace, cancel)
	}
	r = r.Clone(ctx)
	for name, values := range s.headers {
		r.Header[name] = values
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		cancel()
		return nil, err
	}
	if to := resp.Header.Get("Location"); resp.StatusCode/100 == 3 && to != "" {
		_ = resp.Body.Close()
		cancel()
		return nil, fmt.Errorf("the server redirects to %q: give that URL", to)
	}
	resp.Body = &budgeted{ReadCloser: canceled{resp.Body, cancel}, left: &s.left}
	return resp, nil
}

// canceled ends the request with its body.
type canceled struct {
	io.ReadCloser
	cancel context.CancelFunc
}

// Close is io.Closer's.
func (c canceled) Close() error {
	defer c.cancel()
	return c.ReadCloser.Close()
}
