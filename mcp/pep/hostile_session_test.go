package pep_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/authzd/authzd/mcp/pep"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// plainServer has sessions, one id for all who begin one, and answers as a test
// says.
type plainServer struct {
	mu sync.Mutex
	// got are "METHOD session authorization" of what arrived.
	got   []string
	heads []http.Header
	// list answers tools/list.
	list func(r *http.Request, id json.RawMessage) string
	next int
}

func (s *plainServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	var m struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
	}
	_ = json.Unmarshal(raw, &m)
	s.mu.Lock()
	s.got = append(s.got, fmt.Sprintf("%s %s", m.Method, r.Header.Get("Mcp-Session-Id")))
	s.heads = append(s.heads, r.Header.Clone())
	s.next++
	next := s.next
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch m.Method {
	case "initialize":
		id := r.Header.Get("Mcp-Session-Id")
		if id == "" {
			id = fmt.Sprint("session-", next)
		}
		w.Header().Set("Mcp-Session-Id", id)
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}`, m.ID)
	case "tools/list":
		if s.list != nil {
			_, _ = io.WriteString(w, s.list(r, m.ID))
			return
		}
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"echo"},{"name":"rm"}]}}`, m.ID)
	case "tools/call":
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"content":[]}}`, m.ID)
	default:
		w.WriteHeader(http.StatusAccepted)
	}
}

func (s *plainServer) saw(what string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.got {
		if g == what {
			return true
		}
	}
	return false
}

const initialization = `{"jsonrpc":"2.0","id":"i","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}`

// Another person's initialize must not reach somebody's session, as no other
// message of hers does.
func TestInitializeInAnotherPersonsSession(t *testing.T) {
	t.Parallel()
	upstream := &plainServer{}
	front, _ := behind(t, upstream, &pdp{})
	resp, _ := postAs(t, front, "alice", initialization, nil)
	id := resp.Header.Get("Mcp-Session-Id")
	if id == "" {
		t.Fatal("no session")
	}
	// The control: another message is refused.
	if resp, _ := postAs(t, front, "mallory", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, map[string]string{"Mcp-Session-Id": id}); resp.StatusCode != http.StatusNotFound {
		t.Fatalf("tools/list of mallory: %d", resp.StatusCode)
	}
	resp, body := postAs(t, front, "mallory", initialization, map[string]string{"Mcp-Session-Id": id})
	if upstream.saw("initialize " + id) {
		t.Errorf("mallory's initialize reached alice's session: %d %s", resp.StatusCode, body)
	}
}

// What another person asks must not become what is known of a session's tools.
func TestToolsOfASessionAreLearntFromAnotherPerson(t *testing.T) {
	t.Parallel()
	upstream := &plainServer{list: func(r *http.Request, id json.RawMessage) string {
		mapping := `,"inputSchema":{"type":"object","x-authzen-mapping":{"evaluation":{}}}`
		if strings.Contains(r.Header.Get("Authorization"), "mallory") {
			mapping = `,"inputSchema":{"type":"object"}`
		}
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"pay"%s}]}}`, id, mapping)
	}}
	service := &pdp{}
	front, _ := behind(t, upstream, service, func(o *pep.ProxyOptions) { o.UpstreamAuth = pep.AuthPassthrough })
	resp, _ := postAs(t, front, "alice", initialization, nil)
	inSession := map[string]string{"Mcp-Session-Id": resp.Header.Get("Mcp-Session-Id")}
	call := `{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"pay"}}`
	if resp, _ := postAs(t, front, "mallory", fmt.Sprintf(call, 1), inSession); resp.StatusCode != http.StatusNotFound {
		t.Fatalf("mallory: %d", resp.StatusCode)
	}
	postAs(t, front, "alice", fmt.Sprintf(call, 2), inSession)
	last := service.asked[len(service.asked)-1].GetMcp()
	if !strings.Contains(string(last.GetTool()), "x-authzen-mapping") {
		t.Errorf("alice's call was decided with the tool as mallory is shown it: %s", last.GetTool())
	}
	if upstream.saw("tools/list " + inSession["Mcp-Session-Id"]) {
		n := 0
		for _, h := range upstream.heads {
			if strings.Contains(h.Get("Authorization"), "mallory") {
				n++
			}
		}
		if n > 0 {
			t.Errorf("%d requests with mallory's token were sent into alice's session", n)
		}
	}
}

// A list that the server answers with an error is answered.
func TestErrorsUseUpASession(t *testing.T) {
	t.Parallel()
	broken := true
	upstream := &plainServer{}
	upstream.list = func(_ *http.Request, id json.RawMessage) string {
		if broken {
			return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32602,"message":"bad cursor"}}`, id)
		}
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"tools":[]}}`, id)
	}
	front, _ := behind(t, upstream, &pdp{})
	resp, _ := postAs(t, front, "alice", initialization, nil)
	inSession := map[string]string{"Mcp-Session-Id": resp.Header.Get("Mcp-Session-Id")}
	for i := range 1024 {
		postAs(t, front, "alice", fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/list"}`, i), inSession)
	}
	broken = false
	if _, body := postAs(t, front, "alice", `{"jsonrpc":"2.0","id":5000,"method":"tools/list"}`, inSession); !strings.Contains(body, `"result"`) {
		t.Errorf("after 1024 answered lists: %s", body)
	}
}

// What the client names in Connection is taken off after it was judged.
func TestConnectionHeaderChangesWhatIsForwarded(t *testing.T) {
	t.Parallel()
	upstream := &plainServer{}
	front, _ := behind(t, upstream, &pdp{})
	resp, _ := postAs(t, front, "alice", initialization, nil)
	id := resp.Header.Get("Mcp-Session-Id")
	for _, name := range []string{"Mcp-Session-Id", "Mcp-Protocol-Version", "Content-Type"} {
		before := len(upstream.heads)
		resp, _ := postAs(t, front, "alice", `{"jsonrpc":"2.0","id":7,"method":"tools/list"}`, map[string]string{
			"Mcp-Session-Id": id, "Mcp-Protocol-Version": "2025-11-25", "Connection": name,
		})
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("Connection: %s: %d", name, resp.StatusCode)
		}
		if len(upstream.heads) > before {
			t.Errorf("the request was judged with %s and went on without", name)
		}
	}
}

// Escapes are JSON: PHP writes every / so.
func TestEscapedListChanged(t *testing.T) {
	t.Parallel()
	service := &pdp{}
	x := piped(t, enforcer(t, service))
	x.initialize()
	x.client(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay"}}`)
	x.tools("pay")
	x.read(x.toServer)
	x.server(`{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`)
	x.read(x.toClient)
	x.server(`{"jsonrpc":"2.0","method":"notifications\/tools\/list_changed"}`)
	x.read(x.toClient)
	x.client(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"pay"}}`)
	if got := x.read(x.toServer); !strings.Contains(got, "tools/list") {
		t.Errorf("the tools were not asked for again: %s", got)
	}
}

// A client that takes "1" for 1, as that of the TypeScript SDK does (Number(id)),
// sees a whole list.
func TestPipeListUnderAnotherSpellingOfTheID(t *testing.T) {
	t.Parallel()
	x := piped(t, enforcer(t, &pdp{deny: []string{"rm"}}))
	x.initialize()
	x.client(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
	x.read(x.toServer)
	x.server(`{"jsonrpc":"2.0","id":"1","result":{"tools":[{"name":"echo"},{"name":"rm"}]}}`)
	if got := x.read(x.toClient); strings.Contains(got, `"rm"`) {
		t.Errorf("the hidden tool is listed: %s", got)
	}
}

func TestPipeListTwice(t *testing.T) {
	t.Parallel()
	x := piped(t, enforcer(t, &pdp{deny: []string{"rm"}}))
	x.initialize()
	x.client(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
	x.read(x.toServer)
	for range 2 {
		x.server(`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"echo"},{"name":"rm"}]}}`)
		if got := x.read(x.toClient); strings.Contains(got, `"rm"`) {
			t.Errorf("the hidden tool is listed: %s", got)
		}
	}
}

// A server that does one thing at a time is busy with a long call when what is
// known of its tools is too old: the next call is not for that reason denied.
func TestBusyServer(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var mu sync.Mutex
	service := &pdp{answer: func(*authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
		a := allowed(&authzdv1.Identity{Id: "alice"})
		a.ExpiresAt = timestamppb.New(time.Now().Add(time.Hour))
		return a, nil
	}}
	e := enforcer(t, service, func(o *pep.Options) {
		o.Timeout = 300 * time.Millisecond
		o.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	})
	x := piped(t, e)
	x.initialize()
	x.client(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"slow"}}`)
	x.tools("slow", "quick")
	x.read(x.toServer) // slow begins, and nothing else is answered meanwhile
	mu.Lock()
	now = now.Add(2 * time.Minute)
	mu.Unlock()
	x.client(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"quick"}}`)
	x.read(x.toServer) // our own tools/list, not answered in time
	x.read(x.toServer) // quick
	last := service.asked[len(service.asked)-1].GetMcp()
	if len(last.GetTool()) == 0 {
		t.Errorf("%s was decided without the entry that was known: the service refuses such a call as request.tool_unknown", last.GetParams())
	}
}

// A time below five seconds makes tools unknown between the two.
func TestShortToolsTTL(t *testing.T) {
	t.Parallel()
	service := &pdp{}
	x := piped(t, enforcer(t, service, func(o *pep.Options) { o.ToolsTTL = time.Millisecond }))
	x.initialize()
	call := `{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"pay"}}`
	x.client(fmt.Sprintf(call, 1))
	x.tools("pay")
	x.read(x.toServer)
	time.Sleep(5 * time.Millisecond)
	x.client(fmt.Sprintf(call, 2))
	x.read(x.toServer)
	if last := service.asked[len(service.asked)-1].GetMcp(); len(last.GetTool()) == 0 {
		t.Error("a tool that the server lists was decided without its entry")
	}
}

// The client chooses the id, and what a server makes of it: one that keeps
// numbers as doubles answers another one.
func TestPipeIDsThatServersChange(t *testing.T) {
	t.Parallel()
	for asked, answered := range map[string]string{
		"9007199254740993": "9007199254740992", "1.0": "1", "1e0": "1", "1e-300": "0", "1": `"1"`,
	} {
		t.Run(asked, func(t *testing.T) {
			t.Parallel()
			x := piped(t, enforcer(t, &pdp{deny: []string{"rm"}}))
			x.initialize()
			x.client(`{"jsonrpc":"2.0","id":` + asked + `,"method":"tools/list"}`)
			x.client(`{"jsonrpc":"2.0","id":77,"method":"ping"}`)
			if !strings.Contains(x.read(x.toServer), "tools/list") {
				t.Skip("refused")
			}
			x.server(`{"jsonrpc":"2.0","id":` + answered + `,"result":{"tools":[{"name":"echo"},{"name":"rm"}]}}`)
			if got := x.read(x.toClient); strings.Contains(got, `"rm"`) {
				t.Errorf("the hidden tool is listed: %s", got)
			}
		})
	}
}
