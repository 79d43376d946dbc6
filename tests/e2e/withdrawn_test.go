package e2e_test

import (
	"bufio"
	"encoding/json"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// freePort is one that nothing listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// A key that is withdrawn takes its policy with it at the next start: the
// server runs, decides nothing, and says that it is ready once something that
// verifies was pushed.
func TestWithdrawnKey(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	k := newKillable(t)
	v := k.start(t, 0)
	if err := k.push(t.Context(), authzdv1.NewBundleServiceClient(v.conn), "r0", true); err != nil {
		t.Fatal(err)
	}
	v.kill()

	addr := freePort(t)
	cmd := exec.CommandContext(t.Context(), filepath.Join(binDir, "authzd"), "serve", "--http", "127.0.0.1:0", "--grpc", addr,
		"--data-dir", "data", "--bundle-key", "evil.pub.pem")
	cmd.Dir, cmd.Stderr = k.dir, &logBuffer{}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}()
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	w := &victim{conn: conn}
	if _, err := w.ask(t.Context()); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "no policy is loaded") {
		t.Fatalf("without a policy that verifies: %v", err)
	}
	c := authzdv1.NewBundleServiceClient(conn)
	if _, err := c.RollbackBundle(t.Context(), &authzdv1.RollbackBundleRequest{Name: "main", Revision: "r0"}); err == nil || !strings.Contains(err.Error(), "the signature names the key") {
		t.Fatalf("a rollback to what does not verify: %v", err)
	}
	if err := k.push(t.Context(), c, evil, true); err != nil {
		t.Fatal(err)
	}
	if revision, err := w.ask(t.Context()); err != nil || revision != evil {
		t.Fatal(revision, err)
	}
	type line struct{ Event, Revision string }
	told := make(chan line, 1)
	go func() {
		var l line
		text, _ := bufio.NewReader(out).ReadBytes('\n')
		_ = json.Unmarshal(text, &l)
		told <- l
	}()
	select {
	case l := <-told:
		if l.Event != "ready" || l.Revision != evil {
			t.Errorf("ready line %+v", l)
		}
	case <-time.After(20 * time.Second):
		t.Error("no ready line")
	}
}
