package failures_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/authzd/authzd/mcp/pep"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/tests/internal/binary"
)

// guarded is an MCP server whose middleware asks a decision service, and a client of it.
type guarded struct {
	session *mcp.ClientSession
	// counted and deleted are how often its tools were called.
	counted, deleted atomic.Int64
}

// protect has a server with two tools, count and delete, ask the service at addr.
func protect(t *testing.T, addr string) *guarded {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr, append(pep.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	e, err := pep.New(pep.Options{Decider: pep.NewClient(conn), Server: "https://mcp.example.com", Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	g := &guarded{}
	server := mcp.NewServer(&mcp.Implementation{Name: "server", Version: "1"}, nil)
	for name, calls := range map[string]*atomic.Int64{"count": &g.counted, "delete": &g.deleted} {
		mcp.AddTool(server, &mcp.Tool{Name: name}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
			calls.Add(1)
			return &mcp.CallToolResult{}, nil, nil
		})
	}
	e.Attach(server, pep.MiddlewareOptions{Identify: func(context.Context, mcp.Request) ([]*authzdv1.Credential, *authzdv1.Subject, error) {
		return nil, &authzdv1.Subject{Type: "user", Id: "alice"}, nil
	}})
	near, far := mcp.NewInMemoryTransports()
	if _, err := server.Connect(t.Context(), near, nil); err != nil {
		t.Fatal(err)
	}
	if g.session, err = mcp.NewClient(&mcp.Implementation{Name: "client", Version: "1"}, nil).Connect(t.Context(), far, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.session.Close() })
	return g
}

// call is nil if the tool was called.
func (g *guarded) call(ctx context.Context, tool string) error {
	result, err := g.session.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: map[string]any{}})
	if err == nil && result.IsError {
		err = errors.New("denied")
	}
	return err //nolint:wrapcheck // to be looked at
}

// A decision service that is stopped, so that it takes connections and says nothing,
// and one that is killed: the middleware lets no call pass, and calls pass again when
// the service goes on, or another has its address.
func TestDecisionServiceAwayFromMiddleware(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	allow := policy(t, "package authz\n\npermit[\"all\"] := {}\n")
	pdp := binary.Start(t, serve(t, "", "--bundle", allow, "--grpc", ownAddress()))
	g := protect(t, pdp.GRPC)
	passes := func() error { return g.call(t.Context(), "count") }
	refused := func(what string) {
		t.Helper()
		before := g.counted.Load()
		for range 2 {
			if err := passes(); err == nil {
				t.Errorf("WRONG ALLOW: %s, and a call passed", what)
			}
		}
		if g.counted.Load() != before {
			t.Errorf("%s, and a tool was called", what)
		}
	}
	if err := passes(); err != nil {
		t.Fatal(err)
	}
	goOn := halt(t, pdp)
	refused("the service stands still")
	goOn()
	binary.WaitFor(t, patience, passes)
	pdp.Kill()
	refused("the service is killed")
	again(t, pdp, "--bundle", allow)
	binary.WaitFor(t, patience, passes)
}

// halt has a process stand still, once it returns, until it may go on.
func halt(t *testing.T, p *binary.Process) (goOn func()) {
	t.Helper()
	if err := p.Cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var state syscall.WaitStatus // its threads stop one after another, and decide meanwhile
	if _, err := syscall.Wait4(p.Cmd.Process.Pid, &state, syscall.WUNTRACED, nil); err != nil || !state.Stopped() {
		t.Fatalf("it does not stand still: %v, %v", state, err)
	}
	return func() {
		if err := p.Cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
}

// ownAddress is one on loopback whose ports nothing else is given, where the system has
// such: what is free once its server is killed stays free.
func ownAddress() string {
	if runtime.GOOS != "linux" {
		return "127.0.0.1:0"
	}
	return fmt.Sprintf("127.0.1.%d:0", 1+addresses.Add(1)%250)
}

var addresses atomic.Int32

// again starts a server that has the address of one that was killed. The port is free,
// unless another process was given it.
func again(t *testing.T, killed *binary.Process, args ...string) (p *binary.Process) {
	t.Helper()
	binary.WaitFor(t, patience, func() (err error) {
		p, err = binary.TryStart(t, serve(t, "", append(args, "--grpc", killed.GRPC)...))
		return err
	})
	return p
}

const allButDelete = `package authz

permit["all-but-delete"] := {} if not input.resource.id == "delete"
`

// A decision service that is killed, as for want of memory, while enforcement points
// ask and bundles are pushed: no call passes that no revision allows, none at all while
// it is away, and afterwards it has what was acknowledged, or what was on its way.
func TestKilledAmidCallsAndPushes(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	const lives = 4
	dir := keys(t)
	flags := storing(dir, t.TempDir())
	var archives []string
	for n := range lives * 16 {
		revision := "r" + strconv.Itoa(n)
		archives = append(archives, archiveOf(t, dir, revision, allButDelete, noise(1<<18)+revision))
	}
	p := binary.Start(t, serve(t, "", append(flags, "--grpc", ownAddress())...))
	if got := (&kept{client: newClient(t, p)}).push(t, archives[0]); got.Status != http.StatusOK {
		t.Fatalf("push: %+v", got)
	}
	g := protect(t, p.GRPC)
	acknowledged := 0
	for life := range lives {
		ctx, stop := context.WithCancel(t.Context())
		var passed atomic.Int64
		var callers sync.WaitGroup
		for range 8 {
			callers.Go(func() {
				for ctx.Err() == nil {
					if g.call(ctx, "count") == nil {
						passed.Add(1)
					}
					if g.call(ctx, "delete") == nil {
						t.Error("WRONG ALLOW: delete, which no revision permits")
					}
				}
			})
		}
		first, cut, began := acknowledged, false, make(chan int)
		client := newClient(t, p)
		var pusher sync.WaitGroup
		pusher.Go(func() {
			defer close(began)
			for n := acknowledged + 1; n < len(archives); n++ {
				began <- n
				got, err := client.call(ctx, http.MethodPut, "/v1/bundles/main?activate=true", archives[n])
				if err != nil {
					cut = true
					return
				}
				if got.Status != http.StatusOK {
					t.Errorf("push %d: %+v", n, got)
					return
				}
				acknowledged = n
			}
		})
		for n := range began { // what came before n is acknowledged
			if n > first+1 && passed.Load() >= 20 {
				break
			}
		}
		pusher.Go(func() {
			for range began {
			}
		})
		binary.Pause(ctx, time.Duration(life)*3*time.Millisecond) // somewhere else each time
		p.Kill()
		pusher.Wait()
		if acknowledged == first || !cut {
			t.Fatalf("life %d: pushes %d to %d are acknowledged, and one was cut off: %t", life, first+1, acknowledged, cut)
		}
		before := g.counted.Load()
		for range 8 {
			if g.call(ctx, "count") == nil || g.call(ctx, "delete") == nil {
				t.Error("WRONG ALLOW: the service is killed, and a call passed")
			}
		}
		stop()
		callers.Wait()
		if n := g.counted.Load() - before; n > 8 {
			t.Errorf("the service is killed, and %d calls passed", n)
		}
		p = again(t, p, flags...)
		binary.WaitFor(t, patience, func() error { return g.call(t.Context(), "count") })
		if g.call(t.Context(), "delete") == nil || g.deleted.Load() != 0 {
			t.Error("WRONG ALLOW: delete, after a restart")
		}
		live, next := "r"+strconv.Itoa(acknowledged), "r"+strconv.Itoa(acknowledged+1)
		switch p.Revision {
		case live:
		case next:
			acknowledged++
		default:
			t.Fatalf("life %d: the live revision is %q, want %s, or %s, which was on its way", life, p.Revision, live, next)
		}
	}
}
