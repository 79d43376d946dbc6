package pep_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/authzd/authzd/mcp/pep"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// ends are both sides of a pipe: the test is client and server.
type ends struct {
	t         *testing.T
	toServer  *bufio.Reader // what the server reads
	toClient  *bufio.Reader // what the client reads
	asClient  io.WriteCloser
	asServer  io.WriteCloser
	finished  chan error
	callIndex int
}

func piped(t *testing.T, e *pep.Enforcer) *ends {
	t.Helper()
	clientR, clientW := io.Pipe()
	outR, outW := io.Pipe()
	serverR, serverW := io.Pipe()
	answerR, answerW := io.Pipe()
	p, err := pep.NewPipe(pep.PipeOptions{
		Enforcer: e, ClientIn: clientR, ClientOut: outW, ServerIn: serverW, ServerOut: answerR,
		Identify: func(context.Context) ([]*authzdv1.Credential, *authzdv1.Subject, error) {
			return nil, &authzdv1.Subject{Type: "identity", Id: "alice"}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	x := &ends{
		t: t, asClient: clientW, asServer: answerW, finished: make(chan error, 1),
		toServer: bufio.NewReader(serverR), toClient: bufio.NewReader(outR),
	}
	go func() { x.finished <- p.Run(t.Context()) }()
	t.Cleanup(func() {
		_ = clientW.Close()
		_ = answerW.Close()
		_ = serverR.Close()
		_ = outR.Close()
	})
	return x
}

func (x *ends) client(line string) { x.write(x.asClient, line) }
func (x *ends) server(line string) { x.write(x.asServer, line) }

func (x *ends) write(w io.Writer, line string) {
	x.t.Helper()
	if _, err := io.WriteString(w, line+"\n"); err != nil {
		x.t.Fatalf("write %s: %v", line, err)
	}
}

func (x *ends) read(r *bufio.Reader) string {
	x.t.Helper()
	type result struct {
		line string
		err  error
	}
	got := make(chan result, 1)
	go func() {
		line, err := r.ReadString('\n')
		got <- result{line, err}
	}()
	select {
	case g := <-got:
		if g.err != nil {
			x.t.Fatal(g.err)
		}
		return strings.TrimSuffix(g.line, "\n")
	case <-time.After(10 * time.Second):
		x.t.Fatal("no line came")
	}
	return ""
}

// initialize does what every session before 2026-07-28 begins with.
func (x *ends) initialize() {
	x.client(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"roots":{}},"clientInfo":{"name":"t","version":"1"}}}`)
	x.read(x.toServer)
	x.server(`{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}`)
	x.read(x.toClient)
}

// tools answers our own tools/list.
func (x *ends) tools(names ...string) {
	x.t.Helper()
	ask := x.read(x.toServer)
	var q struct {
		ID     string
		Method string
	}
	if err := json.Unmarshal([]byte(ask), &q); err != nil || q.Method != "tools/list" || !strings.HasPrefix(q.ID, "authzd-") {
		x.t.Fatalf("the server is asked %s", ask)
	}
	var list []string
	for _, n := range names {
		list = append(list, fmt.Sprintf(`{"name":%q,"inputSchema":{"type":"object"}}`, n))
	}
	x.server(fmt.Sprintf(`{"jsonrpc":"2.0","id":%q,"result":{"tools":[%s]}}`, q.ID, strings.Join(list, ",")))
}

func TestPipePassesWhatIsAllowedByteForByte(t *testing.T) {
	t.Parallel()
	service := &pdp{}
	x := piped(t, enforcer(t, service))
	x.initialize()
	const call = `{"jsonrpc":"2.0",  "id":"a", "method":"tools/call","params":{"name":"echo","arguments":{"n":9007199254740993,"t":"\u00e9<&"}}}`
	x.client(call)
	x.tools("echo")
	if got := x.read(x.toServer); got != call {
		t.Errorf("the server reads\n%s, want\n%s", got, call)
	}
	const answer = `{"result":{"content":[ {"type":"text","text":"\u00e9"} ],"tools":[]},"id":"a","jsonrpc":"2.0"}`
	x.server(answer)
	if got := x.read(x.toClient); got != answer {
		t.Errorf("the client reads\n%s, want\n%s", got, answer)
	}
	q := service.asked[1]
	if m := q.GetMcp(); m.GetTransport() != "stdio" || m.GetProtocolVersion() != "2025-06-18" || string(m.GetClientCapabilities()) != `{"roots":{}}` ||
		m.GetServer() != server || !strings.Contains(string(m.GetParams()), "9007199254740993") || !strings.Contains(string(m.GetTool()), `"inputSchema"`) {
		t.Errorf("asked %v", q)
	}
}

func TestPipeRefuses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		line  string
		setup func(*pdp)
		want  string
	}{
		"a denied tool": {
			line: `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"rm"}}`,
			want: `{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"no"}],"isError":true}}`,
		},
		"no decision": {
			line:  `{"jsonrpc":"2.0","id":7,"method":"prompts/get","params":{"name":"p"}}`,
			setup: func(p *pdp) { p.away = true }, want: `"code":-32603`,
		},
		"an empty answer": {
			line: `{"jsonrpc":"2.0","id":7,"method":"prompts/get","params":{"name":"p"}}`,
			setup: func(p *pdp) {
				p.answer = func(*authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) { return nil, nil }
			},
			want: `"code":-32603`,
		},
		"an allow without an end": {
			line: `{"jsonrpc":"2.0","id":7,"method":"prompts/get","params":{"name":"p"}}`,
			setup: func(p *pdp) {
				p.answer = func(*authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
					a := allowed(nil)
					a.ExpiresAt = nil
					return a, nil
				}
			},
			want: `"code":-32603`,
		},
		"an allow without a digest": {
			line: `{"jsonrpc":"2.0","id":7,"method":"prompts/get","params":{"name":"p"}}`,
			setup: func(p *pdp) {
				p.answer = func(*authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
					a := allowed(nil)
					a.CallDigest = ""
					return a, nil
				}
			},
			want: `"code":-32603`,
		},
		"an obligation": {
			line: `{"jsonrpc":"2.0","id":7,"method":"prompts/get","params":{"name":"p"}}`,
			setup: func(p *pdp) {
				p.answer = func(*authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
					a := allowed(nil)
					a.Obligations = [][]byte{[]byte(`{"id":"o"}`)}
					return a, nil
				}
			},
			want: `"code":-32603`,
		},
		"a denial that says nothing": {
			line: `{"jsonrpc":"2.0","id":7,"method":"prompts/get","params":{"name":"p"}}`,
			setup: func(p *pdp) {
				p.answer = func(*authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
					return &authzdv1.CheckResponse{Decision: authzdv1.Decision_DECISION_DENY}, nil
				}
			},
			want: `"code":-32603`,
		},
		"no JSON":                {line: `{"jsonrpc":"2.0"`, want: `"code":-32700`},
		"a name twice":           {line: `{"jsonrpc":"2.0","id":7,"method":"ping","method":"tools/call"}`, want: `"code":-32700`},
		"a name in two cases":    {line: `{"jsonrpc":"2.0","id":7,"method":"ping","Method":"tools/call"}`, want: `"code":-32700`},
		"no method":              {line: `{"jsonrpc":"2.0","id":7}`, want: `"code":-32600`},
		"method and result":      {line: `{"jsonrpc":"2.0","id":7,"method":"ping","result":{}}`, want: `"code":-32600`},
		"an id of null":          {line: `{"jsonrpc":"2.0","id":null,"method":"tools/call","params":{"name":"x"}}`, want: `"code":-32600`},
		"an id that is an array": {line: `{"jsonrpc":"2.0","id":[1],"method":"tools/call","params":{"name":"x"}}`, want: `"code":-32600`},
		"params in an array":     {line: `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":[1]}`, want: `"code":-32600`},
		"another JSON-RPC":       {line: `{"jsonrpc":"1.0","id":7,"method":"tools/call","params":{"name":"x"}}`, want: `"code":-32600`},
		"too long":               {line: `{"jsonrpc":"2.0","id":7,"method":"ping","params":{"x":"` + strings.Repeat("x", 3000) + `"}}`, want: `longer than 2000 bytes`},
		"an empty batch":         {line: `[]`, want: `"code":-32600`},
		"a batch with a denied message": {
			line: `[{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"p"}},{"jsonrpc":"2.0","id":2,"method":"prompts/get","params":{"name":"rm"}},{"jsonrpc":"2.0","method":"notifications/x"}]`,
			want: `[{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"Not done, because another message of the same batch was refused."}},{"jsonrpc":"2.0","id":2,"result":{"content":[{"type":"text","text":"no"}],"isError":true}}]`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			service := &pdp{deny: []string{"rm"}}
			if tt.setup != nil {
				tt.setup(service)
			}
			x := piped(t, enforcer(t, service, func(o *pep.Options) { o.MaxMessage = 2000 }))
			go x.client(tt.line)
			if strings.Contains(tt.line, `"id":7,"method":"tools/call","params":{"name"`) && strings.Contains(tt.want, "result") {
				x.tools("rm")
			}
			got := x.read(x.toClient)
			if !strings.Contains(got, tt.want) {
				t.Errorf("the client reads %s, want %s", got, tt.want)
			}
			if strings.Contains(got, "secret") {
				t.Error("the client is told the cause")
			}
			// What comes next shows that nothing went on before it.
			const next = `{"jsonrpc":"2.0","method":"notifications/next"}`
			x.client(next)
			if line := x.read(x.toServer); line != next {
				t.Errorf("the server reads %s", line)
			}
		})
	}
}

// Notifications, ping and answers to the server need no decision.
func TestPipePasses(t *testing.T) {
	t.Parallel()
	service := &pdp{away: true}
	x := piped(t, enforcer(t, service))
	for _, line := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"ping"}`, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`,
		`{"jsonrpc":"2.0","id":5,"result":{"roots":[]}}`, `{"jsonrpc":"2.0","id":5,"error":{"code":1,"message":"x"}}`,
	} {
		x.client(line)
		if got := x.read(x.toServer); got != line {
			t.Errorf("%s arrives as %s", line, got)
		}
	}
	if q := service.questions(); len(q) > 0 {
		t.Errorf("asked about %v", q)
	}
	// With an id it is no notification.
	x.client(`{"jsonrpc":"2.0","id":9,"method":"notifications/cancelled"}`)
	if got := x.read(x.toClient); !strings.Contains(got, `"error"`) {
		t.Errorf("the client reads %s", got)
	}
}

func TestPipeShortensLists(t *testing.T) {
	t.Parallel()
	service := &pdp{deny: []string{"rm", "file:///secret", "evil", "file:///{secret}"}, needs: map[string]string{"pay": "payments"}}
	x := piped(t, enforcer(t, service))
	x.initialize()
	for _, tt := range []struct{ method, result, want string }{
		{
			"tools/list", `{"tools":[{"name":"rm","inputSchema":{}},{"name":"echo","inputSchema":{},"_meta":{"a":1}},{"name":"pay","inputSchema":{},"_meta":{"a":1}},{"noname":1}],"nextCursor":"n"}`,
			`{"tools":[{"name":"echo","inputSchema":{},"_meta":{"a":1}},{"name":"pay","inputSchema":{},"_meta":{"a":1,"io.github.authzd/needs":{"access":"after_remediation","scopes":["payments"]}}}],"nextCursor":"n"}`,
		},
		{"resources/list", `{"resources":[{"uri":"file:///secret","name":"s"},{"uri":"file:///a","name":"a"}]}`, `{"resources":[{"uri":"file:///a","name":"a"}]}`},
		{"resources/templates/list", `{"resourceTemplates":[{"uriTemplate":"file:///{secret}"},{"uriTemplate":"file:///{a}"}]}`, `{"resourceTemplates":[{"uriTemplate":"file:///{a}"}]}`},
		{"prompts/list", `{"prompts":[{"name":"evil"},{"name":"good"}],"cacheScope":"public"}`, `{"prompts":[{"name":"good"}],"cacheScope":"private"}`},
	} {
		x.callIndex++
		x.client(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q}`, x.callIndex, tt.method))
		x.read(x.toServer)
		x.server(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":%s}`, x.callIndex, tt.result))
		if got, want := x.read(x.toClient), fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":%s}`, x.callIndex, tt.want); got != want {
			t.Errorf("%s:\n got %s\nwant %s", tt.method, got, want)
		}
	}
	// Without an answer nothing is listed.
	x.client(`{"jsonrpc":"2.0","id":"z","method":"tools/list"}`)
	x.read(x.toServer)
	service.set(func(p *pdp) { p.away = true })
	x.server(`{"jsonrpc":"2.0","id":"z","result":{"tools":[{"name":"rm"}]}}`)
	if got := x.read(x.toClient); !strings.Contains(got, `"error"`) || strings.Contains(got, "rm") {
		t.Errorf("the client reads %s", got)
	}
}

// A list that another request of the same id could hide is not asked for.
func TestPipeKeepsIdsApart(t *testing.T) {
	t.Parallel()
	service := &pdp{deny: []string{"rm"}}
	x := piped(t, enforcer(t, service))
	x.initialize()
	x.client(`{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"slow"}}`)
	x.read(x.toServer)
	x.client(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
	if got := x.read(x.toClient); !strings.Contains(got, "Another request with this id") {
		t.Errorf("the client reads %s", got)
	}
	x.client(`{"jsonrpc":"2.0","id":2,"method":"tools/list"}`)
	x.read(x.toServer)
	x.client(`{"jsonrpc":"2.0","id":2,"method":"prompts/get","params":{"name":"x"}}`)
	if got := x.read(x.toClient); !strings.Contains(got, "Another request with this id") {
		t.Errorf("the client reads %s", got)
	}
	// An answer of another shape does not stand for the list.
	x.server(`{"jsonrpc":"2.0","id":2,"result":{"messages":[]}}`)
	x.read(x.toClient)
	x.server(`{"jsonrpc":"2.0","id":2,"result":{"tools":[{"name":"rm"}]}}`)
	if got := x.read(x.toClient); strings.Contains(got, "rm") {
		t.Errorf("the client reads %s", got)
	}
}

// A slow decision holds up neither the order nor what the server says.
func TestPipeKeepsTheOrder(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	service := &pdp{}
	var slow slowDecider
	slow.pdp, slow.hold = service, hold
	e, err := pep.New(pep.Options{Decider: &slow, Server: server})
	if err != nil {
		t.Fatal(err)
	}
	x := piped(t, e)
	first := `{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"slow"}}`
	second := `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`
	x.client(first)
	x.client(second)
	const said = `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}`
	x.server(said)
	if got := x.read(x.toClient); got != said {
		t.Errorf("the client reads %s", got)
	}
	close(hold)
	if got := x.read(x.toServer); got != first {
		t.Errorf("first comes %s", got)
	}
	if got := x.read(x.toServer); got != second {
		t.Errorf("then comes %s", got)
	}
}

type slowDecider struct {
	*pdp
	hold chan struct{}
}

func (s *slowDecider) Check(ctx context.Context, q *authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
	<-s.hold
	return s.pdp.Check(ctx, q)
}

// The tools are asked for again when the server says that they changed, and an
// unknown tool is asked about without an entry.
func TestPipeLearnsTools(t *testing.T) {
	t.Parallel()
	service := &pdp{}
	x := piped(t, enforcer(t, service))
	x.initialize()
	x.client(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"new"}}`)
	x.tools("old")
	x.read(x.toServer)
	if tool := service.asked[1].GetMcp().GetTool(); tool != nil {
		t.Errorf("an unknown tool has the entry %s", tool)
	}
	x.server(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
	x.read(x.toClient)
	x.client(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"new"}}`)
	x.tools("old", "new")
	x.read(x.toServer)
	if tool := service.asked[2].GetMcp().GetTool(); !strings.Contains(string(tool), `"new"`) {
		t.Errorf("the new tool has the entry %s", tool)
	}
}

func TestPipeObserves(t *testing.T) {
	t.Parallel()
	service := &pdp{deny: []string{"rm"}}
	x := piped(t, enforcer(t, service, func(o *pep.Options) { o.Observe = true }))
	const denied = `{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"rm"}}`
	x.client(denied)
	if got := x.read(x.toServer); got != denied {
		t.Errorf("the server reads %s", got)
	}
	x.client(`{"jsonrpc":"2.0","id":2,"method":"tools/list"}`)
	x.read(x.toServer)
	const list = `{"jsonrpc":"2.0","id":2,"result":{"tools":[{"name":"rm"}]}}`
	x.server(list)
	if got := x.read(x.toClient); got != list {
		t.Errorf("the client reads %s", got)
	}
	if q := service.questions(); len(q) != 2 {
		t.Errorf("asked about %v", q)
	}
}

func TestPipeEnds(t *testing.T) {
	t.Parallel()
	x := piped(t, enforcer(t, &pdp{}))
	_ = x.asClient.Close()
	if _, err := x.toServer.ReadString('\n'); err == nil {
		t.Error("the server's input stays open after the client's end")
	}
	_ = x.asServer.Close()
	select {
	case err := <-x.finished:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the pipe does not end")
	}
}
