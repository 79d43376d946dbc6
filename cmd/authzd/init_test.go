package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// shopServer is an MCP server with tools of several groups, on three pages.
func shopServer() *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "shop", Version: "1.2"}, &mcp.ServerOptions{PageSize: 2})
	add := func(name, schema string, a *mcp.ToolAnnotations) {
		s.AddTool(&mcp.Tool{Name: name, InputSchema: json.RawMessage(schema), Annotations: a},
			func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
				return &mcp.CallToolResult{}, nil
			})
	}
	const path = `{"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"], "additionalProperties": false}`
	destroys, adds := true, false
	add("read", path, &mcp.ToolAnnotations{ReadOnlyHint: true})
	add("list", `{"type": "object"}`, &mcp.ToolAnnotations{ReadOnlyHint: true})
	add("delete", path, &mcp.ToolAnnotations{DestructiveHint: &destroys})
	add("add", path, &mcp.ToolAnnotations{DestructiveHint: &adds})
	add("silent", path, nil)
	s.AddPrompt(&mcp.Prompt{Name: "p"}, func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) { return nil, nil })
	return s
}

// serveMCP serves s, and gives its URL.
func serveMCP(t *testing.T, s *mcp.Server, opts *mcp.StreamableHTTPOptions) string {
	t.Helper()
	return serveHandler(t, mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, opts))
}

func serveHandler(t *testing.T, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

// self is the command that runs this test binary as an MCP server over stdio.
func self(mode ...string) []string {
	return append([]string{os.Args[0], "-test.run=^TestInitServerProcess$"}, mode...)
}

// TestInitServerProcess is no test but the server of others: see self.
func TestInitServerProcess(t *testing.T) {
	t.Parallel()
	switch flag.Arg(0) {
	case "":
		t.Skip("is run by other tests")
	case "shop":
		_ = shopServer().Run(t.Context(), &mcp.StdioTransport{})
	case "stubborn": // does not end with its input, nor when told to
		signal.Ignore(syscall.SIGTERM)
		_ = os.WriteFile(flag.Arg(1), []byte(strconv.Itoa(os.Getpid())), 0o600)
		_ = shopServer().Run(t.Context(), &mcp.StdioTransport{})
		time.Sleep(time.Minute)
	case "hang":
		time.Sleep(time.Minute)
	case "exit":
		os.Exit(7)
	case "garbage":
		fmt.Println("Welcome to the server!")
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "flood":
		line := `{"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "` + strings.Repeat("x", 1<<20) + `"}}` + "\n"
		for range 64 {
			if _, err := os.Stdout.WriteString(line); err != nil {
				break
			}
		}
		_, _ = io.Copy(io.Discard, os.Stdin)
	}
	os.Exit(0)
}

// tree reads the files of a folder.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	fsys := os.DirFS(dir)
	err := fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := fs.ReadFile(fsys, path)
		out[path] = string(data)
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return out
}

// asks decides a call of a tool by the bundle in dir, as a subject without
// credentials over stdio.
func asks(t *testing.T, dir, tool, arguments string) (code int, out string) {
	t.Helper()
	code, out, stderr := command(t, `{"subject": {"type": "identity", "id": "alice"}, "mcp": {"method": "tools/call", "params": {"name": "`+tool+
		`", "arguments": `+arguments+`}, "server": "https://mcp.example.com", "transport": "stdio", "protocol_version": "2026-07-28"}}`,
		"check", "-f", "-", "--bundle", dir)
	return code, out + stderr
}

// checkShop asks what a bundle for the shop must decide.
func checkShop(t *testing.T, dir string) {
	t.Helper()
	const path = `{"path": "a"}`
	for _, tt := range []struct {
		tool, arguments string
		code            int
		says            string
	}{
		{"read", path, 0, `"rule":"tool:read"`},
		{"list", `{}`, 0, `"rule":"tool:list"`},
		{"read", `{"path": 7}`, 2, "request.arguments_invalid"},
		{"read", `{"path": "a", "more": 1}`, 2, "request.arguments_invalid"},
		{"list", path, 2, "request.arguments_invalid"},
		{"delete", path, 2, "has not been reviewed"},
		{"add", path, 2, "tools.needs_review"},
		{"silent", path, 2, `"status":"unavailable"`},
		{"unknown", path, 2, "request.tool_unknown"},
		{"Read", path, 2, "request.tool_unknown"},
	} {
		if code, out := asks(t, dir, tt.tool, tt.arguments); code != tt.code || !strings.Contains(out, tt.says) {
			t.Errorf("%s %s: code %d, %s", tt.tool, tt.arguments, code, out)
		}
	}
	if code, out, stderr := command(t, "", "test", "--strict-builtins", dir); code != 0 || strings.Contains(out, "warning") {
		t.Errorf("test: code %d, %s%s", code, out, stderr)
	}
}

func TestInitWithoutServer(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "first")
	code, out, stderr := command(t, "", "init", dir)
	if code != 0 || !strings.Contains(out, "example.read") || stderr != "" {
		t.Fatalf("code %d, %s%s", code, out, stderr)
	}
	for arguments, want := range map[string]int{`{"id": "a-1"}`: 0, `{"id": "../a"}`: 2, `{}`: 2} {
		if code, out := asks(t, dir, "example.read", arguments); code != want {
			t.Errorf("%s: code %d, %s", arguments, code, out)
		}
	}
	if code, out, _ := command(t, "", "test", dir); code != 0 {
		t.Errorf("test: code %d, %s", code, out)
	}
}

// However the server is reached, the bundle is the same.
func TestInitFromServer(t *testing.T) {
	t.Parallel()
	stateful := serveMCP(t, shopServer(), nil)
	var quoted []string
	for _, w := range self("shop") {
		quoted = append(quoted, quoteShell(w))
	}
	var first map[string]string
	for name, args := range map[string][]string{
		"http":           {"--from-mcp", stateful},
		"http, again":    {"--from-mcp=" + stateful},
		"stateless http": {"--from-mcp", serveMCP(t, shopServer(), &mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true})},
		"command":        {"--from-mcp", strings.Join(quoted, " ")},
		"behind --":      append([]string{"--from-mcp", "--"}, self("shop")...),
		"mere --":        append([]string{"--"}, self("shop")...),
	} {
		dir := filepath.Join(t.TempDir(), "shop")
		code, out, stderr := command(t, "", append([]string{"init", dir}, args...)...)
		if code != 0 || !strings.Contains(out, "5 tools of shop 1.2") || !strings.Contains(out, "read-only, permitted: 2\n") {
			t.Fatalf("%s: code %d, %s%s", name, code, out, stderr)
		}
		checkShop(t, dir)
		if first == nil {
			first = tree(t, dir)
		}
		if diff := cmp.Diff(first, tree(t, dir)); diff != "" {
			t.Errorf("%s: another bundle:\n%s", name, diff)
		}
		if wraps := strings.Contains(out, "authzd wrap --bundle shop="+dir+" --subject YOU -- "+os.Args[0]); wraps != strings.Contains(strings.Join(args, " "), os.Args[0]) {
			t.Errorf("%s: next: %s", name, out)
		}
		if entries, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(entries) != 1 {
			t.Errorf("%s: left behind %v, %v", name, entries, err)
		}
	}
}

func TestInitReportsJSON(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() // there, and empty
	code, out, stderr := command(t, "", "init", dir, "-o", "json", "--from-mcp", serveMCP(t, shopServer(), nil))
	var r initReport
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 {
		t.Fatalf("code %d, %v, %s%s", code, err, out, stderr)
	}
	if r.Groups["read-only"] != 2 || r.Groups["destructive"] != 1 || len(r.Tools) != 5 || r.Tools[0].Name != "add" || len(r.Next) != 2 || r.Tests < 10 || r.Warnings == nil {
		t.Errorf("%+v", r)
	}
	if got := tree(t, dir); len(got) != len(r.Files) {
		t.Errorf("files %v of %v", r.Files, got)
	}
}

func TestInitEmptyServer(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "none")
	url := serveMCP(t, mcp.NewServer(&mcp.Implementation{Name: "none", Version: "1"}, nil), nil)
	if code, out, stderr := command(t, "", "init", dir, "--from-mcp", url); code != 0 || !strings.Contains(out, "0 tools of none 1") {
		t.Fatalf("code %d, %s%s", code, out, stderr)
	}
	if code, out := asks(t, dir, "read", "{}"); code != 2 {
		t.Errorf("code %d, %s", code, out)
	}
}

func TestInitSendsAccess(t *testing.T) {
	t.Parallel()
	inner := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return shopServer() }, nil)
	url := serveHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer s3cret" || r.Header.Get("X-Tenant") != "a: b" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	base := []string{"init", filepath.Join(t.TempDir(), "a"), "--from-mcp", url, "--header", "X-Tenant: a: b"}
	if code, out, stderr := command(t, "", append(base, "--token-file", token)...); code != 0 {
		t.Errorf("code %d, %s%s", code, out, stderr)
	}
	base[1] = filepath.Join(t.TempDir(), "b")
	if code, _, stderr := command(t, "", base...); code != 1 || !strings.Contains(stderr, "Unauthorized") || !absent(base[1]) {
		t.Errorf("without a token: code %d, %s", code, stderr)
	}
}

// endless lists pages without end; same gives one cursor again and again.
func endless(same bool) *mcp.Server {
	s := shopServer()
	n := 0
	s.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			if method != "tools/list" {
				return next(ctx, method, req)
			}
			if !same {
				n++
			}
			return &mcp.ListToolsResult{NextCursor: "c" + strconv.Itoa(n), Tools: []*mcp.Tool{}}, nil
		}
	})
	return s
}

// A server that means harm gets a bundle that permits what it honestly named,
// and a warning for all else.
func TestInitHostileServer(t *testing.T) {
	t.Parallel()
	s := shopServer()
	s.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			if method != "tools/list" {
				return next(ctx, method, req)
			}
			list := &mcp.ListToolsResult{}
			add := func(name, schema string) {
				list.Tools = append(list.Tools, &mcp.Tool{
					Name: name, InputSchema: json.RawMessage(schema), Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true},
				})
			}
			const plain = `{"type": "object"}`
			for _, name := range []string{
				"good", `"] := {} if true #`, "a\nb", "../../up", "__proto__", "\u202e", "\U0001F600", "session", "no-such-tool", "a: b", strings.Repeat("x", 300), "",
			} {
				add(name, plain)
			}
			add("broken", `{"type": "object", "properties": {"a": {"pattern": "("}}}`)
			add("mapped", `{"type": "object", "x-authzen-mapping": {}}`)
			add("deep", strings.Repeat(`{"items": `, 80)+`{}`+strings.Repeat(`}`, 80))
			add("twice", plain)
			add("twice", `{"type": "object", "properties": {"a": {"type": "string"}}}`)
			add("choosy", `{"type": "object", "properties": {"\u202e": {"enum": ["\ud83d\ude00: #"]}, "a/b~": {"const": null}}, "required": ["\u202e", "a/b~"]}`)
			return list, nil
		}
	})
	parent := t.TempDir()
	dir := filepath.Join(parent, "evil")
	code, out, stderr := command(t, "", "init", dir, "--from-mcp", serveMCP(t, s, nil))
	if code != 0 || !strings.Contains(out, "read-only, permitted: 6\n") || !strings.Contains(out, "doubtful, forbidden until reviewed: 9\n") || strings.Count(stderr, "warning: ") != 11 {
		t.Errorf("code %d, %s%s", code, out, stderr)
	}
	if strings.ContainsAny(out+stderr, "\u202e\x1b") {
		t.Errorf("%q%q", out, stderr)
	}
	for tool, want := range map[string]int{"good": 0, "session": 0, "broken": 2, "mapped": 2, "twice": 2, "deep": 2, "another": 2} {
		if code, out := asks(t, dir, tool, "{}"); code != want {
			t.Errorf("%s: code %d, %s", tool, code, out)
		}
	}
	if code, out, stderr := command(t, "", "test", "--strict-builtins", dir); code != 0 {
		t.Errorf("test: code %d, %s%s", code, out, stderr)
	}
	if entries, err := os.ReadDir(parent); err != nil || len(entries) != 1 {
		t.Errorf("left behind %v, %v", entries, err)
	}
}

func TestInitRefuses(t *testing.T) {
	t.Parallel()
	redirects := serveHandler(t, http.RedirectHandler("http://127.0.0.1:1/elsewhere", http.StatusTemporaryRedirect))
	hangs := serveHandler(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then is it seen that the client has gone
		<-r.Context().Done()
	}))
	tests := []struct {
		name, want string
		args       []string
	}{
		{"no folder", "name one DIR", nil},
		{"two folders", "name one DIR", []string{"DIR", "more"}},
		{"a command without quotes", "name one DIR", []string{"DIR", "--from-mcp", "npx", "server"}},
		{"nothing behind --", "nothing stands behind --", []string{"DIR", "--from-mcp", "--"}},
		{"two sources", "give one of them", []string{"DIR", "--from-mcp", "http://127.0.0.1:1", "--", "x"}},
		{"no source for a token", "need --from-mcp with a URL", []string{"DIR", "--token-env", "T"}},
		{"a command and a header", "need --from-mcp with a URL", []string{"DIR", "--header", "a: b", "--from-mcp", "x"}},
		{"an empty command", "the command is empty", []string{"DIR", "--from-mcp", "  "}},
		{"an open quote", "left open", []string{"DIR", "--from-mcp", "npx 'a"}},
		{"a pipe", "means something to a shell", []string{"DIR", "--from-mcp", "a | b"}},
		{"another scheme", "http:// or https://", []string{"DIR", "--from-mcp", "ftp://a/b"}},
		{"a password in the URL", "process list", []string{"DIR", "--from-mcp", "https://a:b@example.com"}},
		{"no host", "not a URL", []string{"DIR", "--from-mcp", "http:///x"}},
		{"a token in the clear", "in the clear", []string{"DIR", "--from-mcp", "http://example.com", "--header", "Authorization: x"}},
		{"an empty variable", "the variable T is empty", []string{"DIR", "--from-mcp", "https://example.com", "--token-env", "T"}},
		{"no header", "NAME: VALUE", []string{"DIR", "--from-mcp", "https://example.com", "--header", "x"}},
		{"an absent token file", "--token-file", []string{"DIR", "--from-mcp", "https://example.com", "--token-file", "/absent"}},
		{"no time", "authzd: timeout: 0s is not a time above 0", []string{"DIR", "--timeout", "0s"}},
		{"an unknown format", "not one of text, json", []string{"DIR", "-o", "yaml"}},
		{"an absent command", "start \"/absent/server\"", []string{"DIR", "--from-mcp", "/absent/server"}},
		{"nobody listens", "ask the MCP server", []string{"DIR", "--from-mcp", "http://127.0.0.1:1"}},
		{"no MCP", "ask the MCP server", []string{"DIR", "--from-mcp", serveHandler(t, http.NotFoundHandler())}},
		{"a redirect", "give that URL", []string{"DIR", "--from-mcp", redirects}},
		{"a server that hangs", "within 300ms (--timeout)", []string{"DIR", "--timeout", "300ms", "--from-mcp", hangs}},
		{"a command that hangs", "within 300ms (--timeout)", append([]string{"DIR", "--timeout", "300ms", "--"}, self("hang")...)},
		{"a command that ends", "ended by itself: exit status 7", append([]string{"DIR", "--"}, self("exit")...)},
		{"a command that talks", "ask the MCP server", append([]string{"DIR", "--"}, self("garbage")...)},
		{"a command that floods", "sends more than", append([]string{"DIR", "--"}, self("flood")...)},
		{"pages without end", "more than 200 pages", []string{"DIR", "--from-mcp", serveMCP(t, endless(false), nil)}},
		{"a page again and again", "the same cursor twice", []string{"DIR", "--from-mcp", serveMCP(t, endless(true), nil)}},
		{"a folder that cannot be made", "write the bundle", []string{"DIR/no/parent"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			parent := t.TempDir()
			for i, a := range tt.args {
				tt.args[i] = strings.Replace(a, "DIR", filepath.Join(parent, "new"), 1)
			}
			code, out, stderr := command(t, "", append([]string{"init"}, tt.args...)...)
			if code != 1 || out != "" || !strings.Contains(stderr, tt.want) {
				t.Errorf("code %d, %q, %q", code, out, stderr)
			}
			if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// A server that does not want to end is ended.
func TestInitStopsTheServer(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("waits for a server that ignores everything")
	}
	parent := t.TempDir()
	file := filepath.Join(parent, "pid")
	code, out, stderr := command(t, "", append([]string{"init", filepath.Join(parent, "new"), "--"}, self("stubborn", file)...)...)
	if code != 0 {
		t.Fatalf("code %d, %s%s", code, out, stderr)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if p, err := os.FindProcess(pid); err == nil && p.Signal(syscall.Signal(0)) == nil {
		t.Errorf("the server still runs as %d", pid)
	}
}

func TestInitForce(t *testing.T) {
	t.Parallel()
	url := serveMCP(t, shopServer(), nil)
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("notes.txt", "mine")
	if code, _, stderr := command(t, "", "init", dir, "--from-mcp", url); code != 1 || !strings.Contains(stderr, "is not empty") || len(tree(t, dir)) != 1 {
		t.Errorf("without --force: code %d, %s", code, stderr)
	}
	if code, _, stderr := command(t, "", "init", dir, "--from-mcp", url, "--force"); code != 0 {
		t.Fatalf("code %d, %s", code, stderr)
	}
	want := tree(t, dir)
	if len(want) != 9 || want["notes.txt"] != "mine" {
		t.Fatalf("files %v", want)
	}
	// What was changed is written anew; what is another's stays.
	write("policy.rego", "package broken {")
	write("extra.rego", "package authz.extra\n\nx := 1\n")
	want["extra.rego"] = "package authz.extra\n\nx := 1\n"
	if code, _, stderr := command(t, "", "init", dir, "--from-mcp", url, "--force"); code != 0 {
		t.Fatalf("code %d, %s", code, stderr)
	}
	if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
		t.Error(diff)
	}
	// With a file that does not go with the rest, all stays as it was.
	write("policy.rego", "package old")
	write("extra.rego", "package authz\n\npermit[\"everything\"] := {} if true\n")
	before := tree(t, dir)
	code, _, stderr := command(t, "", "init", dir, "--from-mcp", url, "--force")
	if code != 1 || !strings.Contains(stderr, "with the files that were there") {
		t.Errorf("code %d, %s", code, stderr)
	}
	if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
		t.Error(diff)
	}
	if entries, err := filepath.Glob(filepath.Join(dir, stagingPattern)); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v", entries)
	}
}

// A link within the folder does not lead what is written out of it.
func TestInitForceStaysInside(t *testing.T) {
	t.Parallel()
	outside, dir := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "cases")); err != nil {
		t.Skip(err)
	}
	code, _, stderr := command(t, "", "init", dir, "--force")
	if code != 1 || len(tree(t, outside)) != 0 || !absent(filepath.Join(dir, "policy.rego")) {
		t.Errorf("code %d, %s, %v", code, stderr, tree(t, outside))
	}
}

func TestSplitCommand(t *testing.T) {
	t.Parallel()
	for line, want := range map[string][]string{
		`npx -y server /tmp`:     {"npx", "-y", "server", "/tmp"},
		"  a\t b\n":              {"a", "b"},
		`a "b c" 'd e'f`:         {"a", "b c", "d ef"},
		`a "" ''`:                {"a", "", ""},
		`a "b\"c\\d\e"`:          {"a", `b"c\d\e`},
		`a 'b\c"$x'`:             {"a", `b\c"$x`},
		`a b\ c \$x \;`:          {"a", "b c", "$x", ";"},
		`a "|;&" --x=1 @scope/p`: {"a", "|;&", "--x=1", "@scope/p"},
		`a "$x"`:                 nil,
		"a `b`":                  nil,
		`a $(b)`:                 nil,
		`a; b`:                   nil,
		`a > b`:                  nil,
		`a *.go`:                 nil,
		`a ~/b`:                  nil,
		`a "b`:                   nil,
		`a 'b`:                   nil,
		`a \`:                    nil,
		``:                       nil,
		`"" a`:                   nil,
	} {
		got, err := splitCommand(line)
		if (err != nil) != (want == nil) || !cmp.Equal(got, want) {
			t.Errorf("%q: %q, %v", line, got, err)
		}
		if err == nil {
			if again, err := splitCommand(commandSource(got).shell()); err != nil || !cmp.Equal(again, want) {
				t.Errorf("%q: quoted %s, read back %q, %v", line, commandSource(got).shell(), again, err)
			}
		}
	}
}
