package failclosed_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/mcp/pep"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/tests/internal/binary"
	"github.com/authzd/authzd/tests/tokens"
)

// behind is the MCP server behind an enforcement point. It has the one tool that a suite
// calls, carries out whatever gets through to it, and keeps that.
type behind struct {
	// tool is its entry in tools/list.
	tool *node
	mu   sync.Mutex
	kept [][]byte
}

func (b *behind) keep(text []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept = append(b.kept, slices.Clone(text))
}

func (b *behind) carriedOut(*testing.T) [][]byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.kept)
}

// answer serves one text; nil is no answer.
func (b *behind) answer(text []byte) []byte {
	m, err := parse(text)
	if err != nil {
		b.keep(text)
		return nil
	}
	if m.kind == array {
		out := list()
		for _, one := range m.items {
			if a := b.one(one); a != nil {
				out.items = append(out.items, a)
			}
		}
		return []byte(out.String())
	}
	if a := b.one(m); a != nil {
		return []byte(a.String())
	}
	return nil
}

// one serves one message. A ping and a list of tools are nothing to carry out.
func (b *behind) one(m *node) *node {
	var result *node
	switch method, _ := m.get("method").str(); method {
	case "ping":
		result = obj()
	case "tools/list":
		result = obj(member{name: "tools", value: list(b.tool.clone())})
	default:
		b.keep([]byte(m.String()))
		result = obj(member{name: "content", value: list(obj(member{name: "type", value: str("text")}, member{name: "text", value: str(done)}))})
	}
	id := m.get("id")
	if id == nil {
		return nil
	}
	return obj(member{name: "jsonrpc", value: str("2.0")}, member{name: "id", value: id.clone()}, member{name: "result", value: result})
}

// tool is the entry of the tool that is called. Any value will do for its arguments: what
// they must be is the suite's to say.
func (c calls) tool() *node {
	properties := obj()
	for _, m := range c.base.get("mcp", "params", "arguments").members {
		properties.set(m.name, obj())
	}
	return obj(member{name: "name", value: c.base.get("mcp", "params", "name").clone()},
		member{name: "inputSchema", value: obj(member{name: "type", value: str("object")}, member{name: "properties", value: properties})})
}

// frontDoors opens all of them until the test ends; with -short the middleware alone.
func (c calls) frontDoors(t *testing.T) map[string]frontDoor {
	t.Helper()
	out := map[string]frontDoor{"middleware": c.middleware(t)}
	authzd := os.Getenv(binaryVariable)
	if testing.Short() || authzd == "" {
		return out
	}
	dir := t.TempDir()
	token, issuers := c.token(t, dir)
	server, _ := c.base.get("mcp", "server").str()
	policy := filepath.Join(dir, "policy")
	c.beginning(t, policy)
	args := []string{
		"--bundle", "main=" + policy, "--issuers", issuers, "--resource", server, "--log-level", "error",
		"--decision-timeout", "20s", "--ask-timeout", "30s",
	}
	// These forbid whatever is not a call that they know, and so to begin a session.
	if c.name != "009-read-only-mode" && c.name != "015-untyped-tool" {
		out["proxy"] = c.proxy(t, authzd, token, args)
	}
	out["wrap"] = c.wrap(t, authzd, token, args)
	return out
}

// token is an access token with the claims of the base query's credential, and the file
// for --issuers that has it count.
func (c calls) token(t *testing.T, dir string) (token, issuers string) {
	t.Helper()
	issued, err := tokens.New(issuer)
	if err != nil {
		t.Fatal(err)
	}
	if issuers, err = issued.Write(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(issuers)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, issuers, append(text, "    mapping: {tenant_claim: tenant}\n"...))
	var claims map[string]any
	if err := json.Unmarshal([]byte(c.base.get("credentials").items[0].get("claims").String()), &claims); err != nil {
		t.Fatal(err)
	}
	delete(claims, "exp") // it has one of its own
	if token, err = issued.Token(claims); err != nil {
		t.Fatal(err)
	}
	return token, issuers
}

// beginning copies the suite's bundle to dir, and lets everybody begin a session: the
// proxy asks about that, too, and no oracle has a say in it.
func (c calls) beginning(t *testing.T, dir string) {
	t.Helper()
	if err := os.CopyFS(dir, os.DirFS(c.dir)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"queries.json", "mutations.json", "calls.json"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(dir, "begin.rego"), []byte("package authz\n\npermit[\"begin\"] := {} if input.action.name == \"initialize\"\n"))
}

// overHTTP posts messages.
type overHTTP struct {
	*behind
	url, token string
}

func (o *overHTTP) call(t *testing.T, text []byte) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, o.url, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"Mcp-Protocol-Version": "2025-06-18", "Authorization": "Bearer " + o.token,
	} {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	// The SDK's own words on what it does not take for a message.
	if resp.StatusCode == http.StatusBadRequest && resp.Header.Get("Content-Type") == "text/plain; charset=utf-8" {
		return nil
	}
	return answer
}

// middleware is a server of the official SDK with package pep in front, in this process.
// Its callers hold the credential of the base query.
func (c calls) middleware(t *testing.T) frontDoor {
	t.Helper()
	b := &behind{tool: c.tool()}
	name, _ := b.tool.get("name").str()
	s := mcp.NewServer(&mcp.Implementation{Name: "behind", Version: "1"}, nil)
	s.AddTool(&mcp.Tool{Name: name, InputSchema: json.RawMessage(b.tool.get("inputSchema").String())}, func(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		params := obj(member{name: "name", value: str(r.Params.Name)})
		if len(r.Params.Arguments) > 0 {
			arguments, err := parse(r.Params.Arguments)
			if err != nil {
				return nil, err
			}
			params.set("arguments", arguments)
		}
		b.keep([]byte(obj(member{name: "method", value: str("tools/call")}, member{name: "params", value: params}).String()))
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: done}}}, nil
	})
	server, _ := c.base.get("mcp", "server").str()
	e, err := pep.New(pep.Options{Decider: localService(t, c.dir), Server: server, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	asked, _ := message([]byte(c.base.String()))
	e.Attach(s, pep.MiddlewareOptions{AnyNumber: true, Identify: func(context.Context, mcp.Request) ([]*authzdv1.Credential, *authzdv1.Subject, error) {
		return asked.GetCredentials(), nil, nil
	}})
	web := httptest.NewServer(e.HTTPHandler(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s },
		&mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true})))
	t.Cleanup(web.Close)
	return &overHTTP{behind: b, url: web.URL}
}

// localService decides by the bundle of dir, without a connection.
func localService(t *testing.T, dir string) *api.Local {
	t.Helper()
	s, err := api.New(api.Options{Engine: openLibrary(t, dir), MaxDuration: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.RunLocal(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the service ended with %v", err)
		}
	})
	return s.Local()
}

// proxy is authzd proxy in front of a server over HTTP.
func (c calls) proxy(t *testing.T, authzd, token string, args []string) frontDoor {
	t.Helper()
	b := &behind{tool: c.tool()}
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read what gets through: %v", err)
		}
		answer := b.answer(text)
		if answer == nil {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer) // the client would miss it
	}))
	t.Cleanup(up.Close)
	p := binary.Start(t, exec.CommandContext(context.WithoutCancel(t.Context()), authzd, append([]string{"proxy", "--listen", "127.0.0.1:0", "--upstream", up.URL}, args...)...))
	return &overHTTP{behind: b, url: "http://" + p.Listen + "/", token: token}
}
