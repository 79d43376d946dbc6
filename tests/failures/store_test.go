package failures_test

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/authzd/authzd/tests/internal/binary"
)

// kept is a data directory with a signed bundle in it, and the server that has it.
type kept struct {
	*client
	dir    string
	server *binary.Process
}

// keys makes what bundles are signed and verified by.
func keys(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	authzd(t, dir, "bundle", "keygen", "-f", "key.pem")
	return dir
}

// archive makes a signed archive whose data has a pad.
func archive(t *testing.T, dir, revision, pad string) string {
	t.Helper()
	return archiveOf(t, dir, revision, readOnly, pad)
}

// archiveOf makes one of another policy.
func archiveOf(t *testing.T, dir, revision, rego, pad string) string {
	t.Helper()
	write(t, filepath.Join(dir, revision, "policy.rego"), rego)
	write(t, filepath.Join(dir, revision, "lists", "data.json"), `{"pad": "`+pad+`"}`)
	write(t, filepath.Join(dir, revision, ".manifest"),
		`{"revision": "`+revision+`", "roots": ["authz", "lists"], "metadata": {"authzd": {"contract": 1, "sequence": 1, "writable_data": ["lists"], "untyped_tools": true}}}`)
	authzd(t, dir, "bundle", "build", revision, "-o", revision+".tar.gz")
	authzd(t, dir, "bundle", "sign", revision+".tar.gz", "--key", "key.pem")
	data, err := os.ReadFile(filepath.Join(dir, revision+".tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// keep starts cmd, whose server keeps bundles, and activates one.
func keep(t *testing.T, dir string, cmd *exec.Cmd) *kept {
	t.Helper()
	p := binary.Start(t, cmd)
	k := &kept{client: newClient(t, p), dir: dir, server: p}
	if got := k.push(t, archive(t, dir, "r1", "")); got.Status != http.StatusOK {
		t.Fatalf("push: %+v", got)
	}
	k.decides(t)
	return k
}

func (k *kept) push(t *testing.T, archive string) answer {
	t.Helper()
	got, err := k.call(t.Context(), http.MethodPut, "/v1/bundles/main?activate=true&drop_changes=true", archive)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// pushes has the command push an archive, and returns what it says of its failure.
func (k *kept) pushes(t *testing.T, archive string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), bin, "bundle", "push", filepath.Join(k.dir, archive), "--name", "main", "--addr", k.server.GRPC)
	out, err := cmd.CombinedOutput()
	var ended *exec.ExitError
	if !errors.As(err, &ended) || ended.ExitCode() != 1 {
		t.Errorf("authzd bundle push ends with %v: %s", err, out)
	}
	return string(out)
}

// change sets a row of data to text.
func (k *kept) change(t *testing.T, row, text string) answer {
	t.Helper()
	got, err := k.call(t.Context(), http.MethodPut, "/v1/bundles/main/data/lists/"+row, strconv.Quote(text))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// block stops a subject.
func (k *kept) block(t *testing.T, id string) answer {
	t.Helper()
	got, err := k.call(t.Context(), http.MethodPost, "/v1/blocks", `{"kind":"subject","value":"`+id+`","why":"test","for_seconds":3600}`)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// outage has the store fail, and then be there again: what can not be written is
// refused and not done, decisions go on, and afterwards everything can be written.
func (k *kept) outage(t *testing.T, fails, mends func()) {
	t.Helper()
	const metric = `authzd_errors_total{code="api.store_unavailable",door="rest"}`
	before := k.server.Usage(t)
	other := archive(t, k.dir, "r2", noise(1<<20))
	fails()
	if got := k.push(t, other); got.Status != http.StatusServiceUnavailable || got.Code != "api.store_unavailable" || strings.Contains(got.Message, k.dir) {
		t.Errorf("push: %+v", got)
	}
	if said := k.pushes(t, "r2.tar.gz"); !strings.HasPrefix(said, "authzd: api.store_unavailable: what the server keeps can not be read or written now") {
		t.Errorf("authzd bundle push: %s", said)
	}
	k.change(t, "big", noise(1<<17)) // may still find room, or not
	k.decides(t)
	if _, shown := k.server.Get(t, "/v1/bundles/main"); strings.Contains(shown, "r2") {
		t.Errorf("r2 is there, which was refused: %s", shown)
	}
	if k.server.Metric(t, metric) == 0 {
		t.Error("not counted")
	}
	has(t, "log", k.server.Log.String(), `"level":"ERROR"`, `"code":"api.store_unavailable"`, "store an archive", k.dir)
	mends()
	if got := k.push(t, other); got.Status != http.StatusOK {
		t.Errorf("push afterwards: %+v", got)
	}
	k.decides(t)
	if got := k.change(t, "row", "text"); got.Status != http.StatusOK {
		t.Errorf("change afterwards: %+v", got)
	}
	if got := k.block(t, "alice"); got.Status != http.StatusOK {
		t.Errorf("block afterwards: %+v", got)
	}
	if got, err := k.call(t.Context(), http.MethodPost, "/v1/check", question("read")); err != nil || got.Decision != "DENY" {
		t.Errorf("who is blocked: %+v, %v", got, err)
	}
	k.server.Calm(t, before, patience)
}

// noise is text of n bytes that does not compress well.
func noise(n int) string {
	var b strings.Builder
	x := uint64(88172645463325252)
	for b.Len() < n {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b.WriteString(strconv.FormatUint(x, 36))
	}
	return b.String()[:n]
}

// storing are the flags of a server that keeps its bundles in data.
func storing(dir, data string) []string {
	return []string{"--data-dir", data, "--bundle-key", filepath.Join(dir, "key.pub.pem")}
}

// A data directory that is gone, as a volume that is detached.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	dir := keys(t)
	data, away := filepath.Join(dir, "data"), filepath.Join(dir, "away")
	move := func(from, to string) {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	k := keep(t, dir, serve(t, "", storing(dir, data)...))
	k.outage(t, func() { move(data, away) }, func() { move(away, data) })

	// At the start nothing is served without it: it would allow what is blocked.
	k.server.Kill()
	move(data, away)
	write(t, data, "no folder")
	if _, err := binary.TryStart(t, serve(t, "", storing(dir, data)...)); err == nil || !strings.Contains(err.Error(), "data-dir") {
		t.Errorf("started without its store: %v", err)
	}
	if err := os.Remove(data); err != nil {
		t.Fatal(err)
	}
	move(away, data)
	again := newClient(t, binary.Start(t, serve(t, "", storing(dir, data)...)))
	if got, err := again.call(t.Context(), http.MethodPost, "/v1/check", question("read")); err != nil || got.Decision != "DENY" {
		t.Errorf("who is blocked: %+v, %v", got, err)
	}
}

// A damaged database is named when the server starts, and nothing is served: it would
// allow what is blocked.
func TestStoreDamaged(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	dir := keys(t)
	data := filepath.Join(dir, "data")
	k := keep(t, dir, serve(t, "", storing(dir, data)...))
	if got := k.block(t, "alice"); got.Status != http.StatusOK {
		t.Fatalf("block: %+v", got)
	}
	if err := k.server.Cmd.Process.Signal(syscall.SIGTERM); err != nil { // it leaves one file
		t.Fatal(err)
	}
	_ = k.server.Cmd.Wait()
	file := filepath.Join(data, "authzd.db")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 4096} { // all of it, and all but the page of what is where
		damaged := string(text[:n]) + strings.Repeat("damaged ", (len(text)-n)/8)
		write(t, file, damaged)
		if _, err := binary.TryStart(t, serve(t, "", storing(dir, data)...)); err == nil || !strings.Contains(err.Error(), file+": store.database_damaged") {
			t.Errorf("%d bytes are left: %v", n, err)
		}
		if left, err := os.ReadFile(file); err != nil || string(left) != damaged {
			t.Errorf("what is left of it is not left alone: %v", err)
		}
	}
	write(t, file, string(text))
	again := newClient(t, binary.Start(t, serve(t, "", storing(dir, data)...)))
	if got, err := again.call(t.Context(), http.MethodPost, "/v1/check", question("read")); err != nil || got.Decision != "DENY" {
		t.Errorf("who is blocked: %+v, %v", got, err)
	}
}

// A bundle that would take more than its share of memory is refused, and the active
// one stays.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	dir := keys(t)
	k := keep(t, dir, serve(t, "", append(storing(dir, dir+"/data"), "--memory-budget", "64MiB")...))
	before := k.server.Usage(t)
	if got := k.push(t, archive(t, dir, "large", noise(20<<20))); got.Status == http.StatusOK || got.Code != "bundle.too_large" {
		t.Errorf("push: %+v", got)
	}
	k.decides(t)
	if k.server.Metric(t, `authzd_errors_total{code="bundle.too_large",door="rest"}`) != 1 {
		t.Error("not counted")
	}
	k.server.Calm(t, before, patience)
}
