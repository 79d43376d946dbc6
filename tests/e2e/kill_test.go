package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// killable is a data directory whose server is killed over and over, and what
// it has acknowledged.
type killable struct {
	dir      string
	archives map[string][]byte
	names    []string // of good revisions
	random   *rand.Rand
	// sequence is that of archives that are built; default 1.
	sequence int

	// acked is the revision that was active by the last answer; pending is what
	// was asked for since, and may or may not have happened.
	acked, pending string
	// data is what is known of the data of each revision, number the last that was set.
	data   map[string]*facts
	number int
	// asked are all revisions that anybody asked to be active.
	mu       sync.Mutex
	asked    map[string]bool
	answered atomic.Int64
	// ops and allows count what was exercised.
	ops map[string]int
}

// facts are the number in a revision's data by the last answer, 0 for none, and the one
// that was asked for since; with how many rows that are never removed.
type facts struct{ acked, pending, rows int }

const (
	goodRevisions = 8
	evil          = "evil"
	// largeRows is how many rows there are in large data, of some 16 MB.
	largeRows = 200_000
)

func newKillable(t *testing.T) *killable {
	t.Helper()
	k := newStand(t)
	for i := range goodRevisions {
		k.names = append(k.names, "r"+strconv.Itoa(i))
		k.build(t, k.names[i], "good.pem", `{"pad":"`+strings.Repeat("x", 100_000)+`"}`)
	}
	k.build(t, evil, "evil.pem", "{}")
	return k
}

// newStand has keys and no archives.
func newStand(t *testing.T) *killable {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // moments and choices, no secret
	k := &killable{random: random, dir: t.TempDir(), archives: map[string][]byte{}, asked: map[string]bool{"default": true}, acked: "default", ops: map[string]int{}, data: map[string]*facts{}}
	k.authzd(t, "bundle", "keygen", "-f", "good.pem")
	k.authzd(t, "bundle", "keygen", "-f", "evil.pem")
	return k
}

func (k *killable) authzd(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(binDir, "authzd"), args...)
	cmd.Dir = k.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("authzd %v: %v\n%s", args, err, out)
	}
}

// build makes a signed bundle with these lists, which allows everything by a rule
// that is named as its revision.
func (k *killable) build(t *testing.T, revision, key, lists string) {
	t.Helper()
	var policy strings.Builder
	fmt.Fprintf(&policy, "package authz\n\npermit[%q] := {} if input.action.name == \"read\"\n", revision)
	for i := range 50 {
		fmt.Fprintf(&policy, "\npermit[\"other-%d\"] := {} if input.action.name == \"other-%d\"\n", i, i)
	}
	k.sign(t, revision, key, map[string]string{
		".manifest":       fmt.Sprintf(`{"revision":%q,"roots":["authz","lists"],"metadata":{"authzd":{"contract":1,"untyped_tools":true,"sequence":%d,"writable_data":["lists"]}}}`, revision, max(k.sequence, 1)),
		"policy.rego":     policy.String(),
		"lists/data.json": lists,
	})
	k.data[revision] = &facts{}
}

// sign makes a signed archive of files.
func (k *killable) sign(t *testing.T, revision, key string, files map[string]string) {
	t.Helper()
	folder := filepath.Join(k.dir, revision)
	for name, text := range files {
		file := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	k.authzd(t, "bundle", "build", revision, "-o", revision+".tar.gz")
	k.authzd(t, "bundle", "sign", revision+".tar.gz", "--key", key)
	data, err := os.ReadFile(folder + ".tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	k.archives[revision] = data
}

// victim is one life of the server.
type victim struct {
	cmd  *exec.Cmd
	conn *grpc.ClientConn
	log  *logBuffer
}

// start starts a server, and waits for it unless it is killed before.
func (k *killable) start(t *testing.T, killAfter time.Duration) *victim {
	t.Helper()
	v := &victim{log: &logBuffer{}}
	v.cmd = exec.CommandContext(t.Context(), filepath.Join(binDir, "authzd"), "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0",
		"--data-dir", "data", "--bundle-key", "good.pub.pem")
	v.cmd.Dir = k.dir
	v.cmd.Stderr = v.log
	out, err := v.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if killAfter > 0 {
		time.Sleep(killAfter)
		v.kill()
		return nil
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		v.kill()
		t.Fatalf("no ready line: %v\n%s", err, v.log)
	}
	var ready struct{ GRPC string }
	if err := json.Unmarshal(line, &ready); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }() // ends with the process
	v.conn, err = grpc.NewClient("passthrough:///"+ready.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (v *victim) kill() {
	_ = v.cmd.Process.Kill() // SIGKILL
	_ = v.cmd.Wait()
	if v.conn != nil {
		_ = v.conn.Close()
	}
}

// ask returns the revision that decided, without the number of its last change.
func (v *victim) ask(ctx context.Context) (string, error) {
	got, err := authzdv1.NewDecisionServiceClient(v.conn).Check(ctx, &authzdv1.CheckRequest{
		Subject: &authzdv1.Subject{Type: "identity", Id: "a"}, Action: &authzdv1.Action{Name: "read"}, Resource: &authzdv1.Resource{Type: "page", Id: "p"},
	})
	if err != nil {
		return "", err
	}
	revision, _, _ := strings.Cut(got.GetPolicy().GetRevision(), "#")
	if got.GetDecision() == authzdv1.Decision_DECISION_ALLOW && got.GetRule() != revision {
		return "", fmt.Errorf("revision %s allowed by the rule %s", revision, got.GetRule())
	}
	return revision, nil
}

// load asks for decisions until ctx ends, and holds each against what may be.
func (k *killable) load(ctx context.Context, t *testing.T, v *victim) {
	t.Helper()
	for ctx.Err() == nil {
		revision, err := v.ask(ctx)
		if err != nil {
			continue // it is being killed
		}
		k.answered.Add(1)
		k.mu.Lock()
		known := k.asked[revision]
		k.mu.Unlock()
		if !known || revision == evil {
			t.Errorf("the revision %q decides, which nobody has activated", revision)
			return
		}
	}
}

// change does one random thing, and notes what was asked and answered.
func (k *killable) change(ctx context.Context, v *victim) error {
	c := authzdv1.NewBundleServiceClient(v.conn)
	what := k.random.IntN(8)
	if k.acked != "default" && (what >= 5 || len(k.names) == 1) {
		return k.changeData(ctx, c)
	}
	target := k.names[k.random.IntN(len(k.names))]
	expect := func(what string) {
		k.mu.Lock()
		k.asked[target] = true
		k.mu.Unlock()
		k.pending = target
		k.ops[what]++
	}
	var err error
	switch what {
	case 3:
		expect("rollback")
		_, err = c.RollbackBundle(ctx, &authzdv1.RollbackBundleRequest{Name: "main", Revision: target})
		if err != nil && ctx.Err() == nil && strings.Contains(err.Error(), "code = NotFound") || err != nil && strings.Contains(err.Error(), "code = FailedPrecondition") {
			k.pending = "" // never active, or no longer kept: refused, so nothing happened
			return nil
		}
	case 4:
		k.ops["evil"]++
		if err := k.push(ctx, c, evil, true); err == nil {
			return errors.New("an archive signed by a stranger was taken")
		}
		return nil
	case 2:
		if err = k.push(ctx, c, target, false); err != nil {
			return err
		}
		expect("activate")
		_, err = c.ActivateBundle(ctx, &authzdv1.ActivateBundleRequest{Name: "main", Revision: target, DropChanges: true})
	default:
		expect("push")
		err = k.push(ctx, c, target, true)
	}
	if err != nil {
		return err
	}
	k.acked, k.pending = target, ""
	return k.checkData(ctx, c)
}

// changeData sets one number at two places of the active data, all or nothing, and now
// and then adds a row.
func (k *killable) changeData(ctx context.Context, c authzdv1.BundleServiceClient) error {
	k.ops["data"]++
	k.number++
	f, value := k.data[k.acked], []byte(strconv.Itoa(k.number))
	edits := []*authzdv1.DataEdit{{Op: "upsert", Path: "/lists/first", Value: value}, {Op: "upsert", Path: "/lists/second", Value: value}}
	row := k.random.IntN(3) == 0
	if row {
		edits = append(edits, &authzdv1.DataEdit{Op: "upsert", Path: "/lists/rows/n" + strconv.Itoa(k.number), Value: value})
	}
	f.pending = k.number
	if _, err := c.ChangeData(ctx, &authzdv1.ChangeDataRequest{Name: "main", Edits: edits}); err != nil {
		return err
	}
	f.acked, f.pending = f.pending, 0
	if row {
		f.rows = k.number
	}
	return nil
}

// checkData holds the active data against what was acknowledged, or asked for since.
func (k *killable) checkData(ctx context.Context, c authzdv1.BundleServiceClient) error {
	f := k.data[k.acked]
	if f == nil {
		return nil // nothing was ever active
	}
	first, err := number(ctx, c, "/lists/first")
	if err != nil {
		return err
	}
	second, err := number(ctx, c, "/lists/second")
	if err != nil {
		return err
	}
	if first != second || first != f.acked && first != f.pending {
		return fmt.Errorf("the data of %s has %d and %d, want %d or %d", k.acked, first, second, f.acked, f.pending)
	}
	f.acked, f.pending = first, 0
	if f.rows > 0 {
		row, err := number(ctx, c, "/lists/rows/n"+strconv.Itoa(f.rows))
		if err == nil && row != f.rows {
			err = fmt.Errorf("the data of %s has lost the row %d: %d", k.acked, f.rows, row)
		}
		return err
	}
	return nil
}

// number is what is in the active data at a path, 0 for nothing.
func number(ctx context.Context, c authzdv1.BundleServiceClient, path string) (int, error) {
	got, err := c.GetData(ctx, &authzdv1.GetDataRequest{Name: "main", Path: path})
	if status.Code(err) == codes.NotFound {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(got.GetValue()))
}

func (k *killable) push(ctx context.Context, c authzdv1.BundleServiceClient, revision string, activate bool) error {
	if err := k.forgetDropped(ctx, c, revision); err != nil {
		return err
	}
	stream, err := c.PushBundle(ctx)
	if err != nil {
		return err
	}
	_ = stream.Send(&authzdv1.PushBundleRequest{Part: &authzdv1.PushBundleRequest_Options{
		Options: &authzdv1.PushBundleOptions{Name: "main", Activate: activate, DropChanges: true},
	}})
	_ = stream.Send(&authzdv1.PushBundleRequest{Part: &authzdv1.PushBundleRequest_Chunk{Chunk: k.archives[revision]}})
	_, err = stream.CloseAndRecv()
	return err
}

// forgetDropped forgets what was set in a revision that is not kept any more: its
// changes have gone with it.
func (k *killable) forgetDropped(ctx context.Context, c authzdv1.BundleServiceClient, revision string) error {
	shown, err := c.GetBundle(ctx, &authzdv1.GetBundleRequest{Name: "main"})
	if err != nil && status.Code(err) != codes.NotFound {
		return err
	}
	for _, b := range shown.GetBundles() {
		if b.GetRevision() == revision && b.GetKept() {
			return nil
		}
	}
	k.data[revision] = &facts{}
	return nil
}

// TestKill kills the server at random moments of pushes, activations, rollbacks
// and changes of data, under load. After each, what was acknowledged last is
// active (or what was asked for since), with all changes of its data that were
// acknowledged and no part of another, and nothing unverified decides. KILLS says
// how often; make kill-test does it 200 times.
func TestKill(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	k := newKillable(t)
	k.lives(t, killsOf(t), 4, 60*time.Millisecond, 400*time.Millisecond)
	if t.Failed() {
		return
	}
	// What is left behind is what is kept.
	k.start(t, 0).kill()
	if left, err := os.ReadDir(filepath.Join(k.dir, "data", "uploads")); err != nil || len(left) > 0 {
		t.Errorf("uploads left: %v, %v", left, err)
	}
}

// TestKillLarge kills it while it loads one large bundle, and while the data of that is
// changed.
func TestKillLarge(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	k := newStand(t)
	var rows strings.Builder
	for i := range largeRows {
		fmt.Fprintf(&rows, `,"u%06d":{"roles":["reader","editor"],"region":"region-%d","level":%d}`, i, i%17, i%5)
	}
	k.names = []string{"large"}
	k.build(t, "large", "good.pem", `{"users":{`+rows.String()[1:]+`}}`)
	v := k.start(t, 0)
	k.asked["large"] = true
	err := k.push(t.Context(), authzdv1.NewBundleServiceClient(v.conn), "large", true)
	v.kill()
	if err != nil {
		t.Fatal(err)
	}
	k.acked = "large"
	began := time.Now()
	k.start(t, 0).kill()
	k.lives(t, max(4, killsOf(t)/10), 1, time.Since(began), time.Second)
}

func killsOf(t *testing.T) int {
	t.Helper()
	text := os.Getenv("KILLS")
	if text == "" {
		return 20
	}
	kills, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return kills
}

// lives kills it so often, or more often until so many kinds of change were made, as on
// a slow machine: some times within loading, and always within alive.
func (k *killable) lives(t *testing.T, kills, kinds int, loading, alive time.Duration) {
	t.Helper()
	exercised := func() bool { return k.answered.Load() > 0 && k.ops["data"] > 0 && len(k.ops) >= kinds }
	n := 0
	for ; n < kills || n < 10*kills && !exercised(); n++ {
		k.oneLife(t, loading, alive)
		if t.Failed() {
			return
		}
	}
	t.Logf("%d kills, %v, %d decisions", n, k.ops, k.answered.Load())
	if !exercised() {
		t.Error("hardly anything was exercised")
	}
}

// within is a random part of a time, and not none: 0 would let it live.
func (k *killable) within(d time.Duration) time.Duration {
	return 1 + time.Duration(k.random.Int64N(int64(d)))
}

func (k *killable) oneLife(t *testing.T, loading, alive time.Duration) {
	t.Helper()
	if k.random.IntN(4) == 0 {
		k.start(t, k.within(loading))
	}
	v := k.start(t, 0)
	defer v.kill()
	revision, err := v.ask(t.Context())
	if err != nil || revision != k.acked && revision != k.pending {
		t.Fatalf("after the kill %q decides (%v), want %q or %q\n%s", revision, err, k.acked, k.pending, v.log)
	}
	k.acked, k.pending = revision, ""
	if err := k.checkData(t.Context(), authzdv1.NewBundleServiceClient(v.conn)); err != nil {
		t.Fatalf("after the kill: %v\n%s", err, v.log)
	}
	ctx, cancel := context.WithCancel(t.Context())
	lives := k.within(alive) // before others draw numbers
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { k.load(ctx, t, v) })
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := k.change(ctx, v); err != nil {
				if ctx.Err() == nil && !strings.Contains(err.Error(), "code = Unavailable") {
					t.Errorf("change: %v", err)
				}
				return
			}
		}
	})
	time.Sleep(lives)
	_ = v.cmd.Process.Kill()
	_ = v.cmd.Wait()
	cancel()
	wg.Wait()
}
