package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/tests/bench/workload"
)

// bundleName is what the bundle is called on both servers.
const bundleName = "bench"

// authzdTarget is an authzd that bundles are pushed to.
type authzdTarget struct {
	*server
	t   *bundleTargets
	key string
}

func (t *bundleTargets) startAuthzd(ctx context.Context) (*authzdTarget, error) {
	a := &authzdTarget{t: t, key: filepath.Join(t.dir, "release")}
	if err := a.command(ctx, "bundle", "keygen", "-f", a.key+".pem"); err != nil {
		return nil, err
	}
	if err := a.prepare(ctx, baseRevision); err != nil {
		return nil, err
	}
	argv := []string{
		filepath.Join(t.cfg.bin, "authzd"), "serve", "--log-level", "error", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0",
		"--data-dir", filepath.Join(t.dir, "data"), "--bundle-key", a.key + ".pub.pem",
	}
	if t.cfg.evaluator != "" {
		argv = append(argv, "--evaluator", t.cfg.evaluator)
	}
	var err error
	a.server, err = startReady(ctx, t.cpus, t.cfg.authzdGOGC, argv...)
	if err != nil {
		return nil, err
	}
	if err := a.first(ctx); err != nil {
		err = fmt.Errorf("the first bundle of authzd: %w: %s", err, a.stderr)
		a.stop()
		return nil, err
	}
	return a, nil
}

func (a *authzdTarget) first(ctx context.Context) error {
	if err := a.push(ctx, baseRevision); err != nil {
		return err
	}
	return a.activate(ctx, baseRevision)
}

// command runs authzd, which makes keys and archives.
func (a *authzdTarget) command(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(a.t.cfg.bin, "authzd"), args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("authzd %s: %w: %s", strings.Join(args[:2], " "), err, out)
	}
	return nil
}

func (a *authzdTarget) archive(revision string) string {
	return filepath.Join(a.t.dir, "authzd", revision+".tar.gz")
}

// prepare builds and signs a revision.
func (a *authzdTarget) prepare(ctx context.Context, revision string) error {
	dir, err := a.t.folder("authzd", revision)
	if err != nil {
		return err
	}
	if err := a.t.rules.WriteBundle(dir, revision); err != nil {
		return err
	}
	if err := a.command(ctx, "bundle", "build", dir, "-o", a.archive(revision)); err != nil {
		return err
	}
	return a.command(ctx, "bundle", "sign", a.archive(revision), "--key", a.key+".pem")
}

// Labels of the steps.
const (
	stepPush      = "push"
	stepActivate  = "activate"
	stepChange    = "change one row"
	stepRollback  = "roll back"
	stepPublish   = "publish"
	stepRepublish = "publish the old one again"
)

func (a *authzdTarget) newCase(label string, open opener, read reader) bundleCase {
	c := bundleCase{
		label: label, open: open, read: read, usage: a.usage, peak: a.peak, prepare: a.prepare,
		steps: []bundleStep{{label: stepPush, do: a.push}, {label: stepActivate, do: a.activate, fresh: true}},
	}
	if _, is := a.t.rules.(*workload.Rows); is {
		c.steps = append(c.steps, bundleStep{label: stepChange, do: a.change})
	}
	c.steps = append(c.steps, bundleStep{label: stepRollback, do: a.rollback, base: true})
	return c
}

// change sets a row, and asks once for what is allowed because of it.
func (a *authzdTarget) change(ctx context.Context, revision string) error {
	rows, ok := a.t.rules.(*workload.Rows)
	if !ok {
		return fmt.Errorf("%s has no rows", a.t.rules)
	}
	pointer, row, q, err := rows.Change(revision)
	if err != nil {
		return err //nolint:wrapcheck // ours
	}
	if _, err := a.send(ctx, http.MethodPut, "/v1/bundles/"+bundleName+"/data"+pointer, row); err != nil {
		return err
	}
	text, err := a.send(ctx, http.MethodPost, "/v1/check", q.Query)
	if err == nil && !bytes.Contains(text, []byte(`"decision":"ALLOW"`)) {
		err = fmt.Errorf("the changed row does not count: %s", text)
	}
	return err
}

func (a *authzdTarget) send(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+a.http+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask authzd: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask authzd: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("authzd answered %s: %s", resp.Status, text)
	}
	return text, err
}

func (a *authzdTarget) push(ctx context.Context, revision string) error {
	archive, err := os.ReadFile(a.archive(revision))
	if err != nil {
		return fmt.Errorf("read the archive: %w", err)
	}
	return a.ask(ctx, http.MethodPut, "", archive, revision, "staged")
}

func (a *authzdTarget) activate(ctx context.Context, revision string) error {
	return a.ask(ctx, http.MethodPost, ":activate", fmt.Appendf(nil, `{"revision":%q}`, revision), revision, "active")
}

func (a *authzdTarget) rollback(ctx context.Context, _ string) error {
	return a.ask(ctx, http.MethodPost, ":rollback", []byte(`{}`), baseRevision, "active")
}

// ask changes a bundle, and holds the answer against what it is to be then.
func (a *authzdTarget) ask(ctx context.Context, method, verb string, body []byte, revision, state string) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+a.http+"/v1/bundles/"+bundleName+verb, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask authzd: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask authzd: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("read the answer of authzd: %w", err)
	}
	var got struct {
		Bundle struct{ Revision, State string }
	}
	if err := json.Unmarshal(text, &got); resp.StatusCode != http.StatusOK || err != nil || got.Bundle.Revision != revision || got.Bundle.State != state {
		const most = 2000
		return fmt.Errorf("authzd answered %s, want revision %s to be %s: %s", resp.Status, revision, state, text[:min(most, len(text))])
	}
	return nil
}

// readCheckResponse reads an answer over gRPC.
func readCheckResponse(a answer) (string, error) {
	var r authzdv1.CheckResponse
	if err := proto.Unmarshal(a.text, &r); err != nil {
		return "", fmt.Errorf("decode the answer: %w", err)
	}
	return ofOneRevision(r.GetPolicy().GetRevision(), a.allow, r.GetRule())
}

// readCheckJSON reads an answer over REST.
func readCheckJSON(a answer) (string, error) {
	var r struct {
		Rule   string
		Policy struct{ Revision string }
	}
	if err := json.Unmarshal(a.text, &r); err != nil {
		return "", fmt.Errorf("decode the answer: %w", err)
	}
	return ofOneRevision(r.Policy.Revision, a.allow, r.Rule)
}

// ofOneRevision: the rule is that of the revision. A deny may have none.
func ofOneRevision(revision string, allow bool, rule string) (string, error) {
	revision, _, _ = strings.Cut(revision, "#") // with its changes
	if rule != workload.PermitName(revision) && (allow || rule != "") {
		return revision, fmt.Errorf("the rule %q decided and the revision is %q", rule, revision)
	}
	return revision, nil
}

// opaTarget is a stock OPA, and the server that it has its bundle from.
type opaTarget struct {
	*server
	source *bundleSource
	t      *bundleTargets
}

func (t *bundleTargets) startOPA(ctx context.Context) (*opaTarget, error) {
	source, err := newBundleSource(ctx)
	if err != nil {
		return nil, err
	}
	o := &opaTarget{source: source, t: t}
	if err := o.serve(ctx); err != nil {
		source.close()
		return nil, err
	}
	return o, nil
}

func (o *opaTarget) serve(ctx context.Context) error {
	if err := o.prepare(ctx, baseRevision); err != nil {
		return err
	}
	if err := o.publish(ctx, baseRevision); err != nil {
		return err
	}
	config := filepath.Join(o.t.dir, "opa.yaml")
	text := fmt.Sprintf(`services: {bench: {url: "http://%s"}}
bundles: {%s: {service: bench, resource: bundle.tar.gz, polling: {long_polling_timeout_seconds: 30}}}
`, o.source.addr, bundleName)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write OPA's configuration: %w", err)
	}
	addr, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	s, stdout, err := start(o.t.cpus, o.t.cfg.opaGOGC, filepath.Join(o.t.cfg.bin, "opa"), "run", "--server", "--addr", addr,
		"--log-level", "error", "--disable-telemetry", "--config-file", config)
	if err != nil {
		return err
	}
	s.drain(stdout)
	s.http = addr
	if err := s.waitHealthy(ctx, "/health?bundles"); err != nil {
		s.stop()
		return fmt.Errorf("start opa: %w: %s", err, s.stderr)
	}
	o.server = s
	return nil
}

func (o *opaTarget) archive(revision string) string {
	return filepath.Join(o.t.dir, "opa", revision+".tar.gz")
}

// prepare packs a revision, without a signature: OPA need not verify.
func (o *opaTarget) prepare(_ context.Context, revision string) error {
	dir, err := o.t.folder("opa", revision)
	if err != nil {
		return err
	}
	if err := o.t.rules.WriteOPA(dir, revision); err != nil {
		return err
	}
	archive, err := pack(dir)
	if err != nil {
		return err
	}
	if err := os.WriteFile(o.archive(revision), archive, 0o600); err != nil {
		return fmt.Errorf("write an archive: %w", err)
	}
	return nil
}

// pack makes an archive of the files in dir.
func pack(dir string) ([]byte, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("pack a bundle: %w", err)
	}
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	w := tar.NewWriter(zip)
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("pack a bundle: %w", err)
		}
		err = w.WriteHeader(&tar.Header{Name: "/" + e.Name(), Mode: 0o600, Size: int64(len(text)), Typeflag: tar.TypeReg})
		if err == nil {
			_, err = w.Write(text)
		}
		if err != nil {
			return nil, fmt.Errorf("pack a bundle: %w", err)
		}
	}
	if err := errors.Join(w.Close(), zip.Close()); err != nil {
		return nil, fmt.Errorf("pack a bundle: %w", err)
	}
	return out.Bytes(), nil
}

func (o *opaTarget) publish(_ context.Context, revision string) error {
	archive, err := os.ReadFile(o.archive(revision))
	if err != nil {
		return fmt.Errorf("read the archive: %w", err)
	}
	o.source.publish(archive)
	return nil
}

func (o *opaTarget) newCase() bundleCase {
	return bundleCase{
		label: "OPA REST", usage: o.usage, peak: o.peak, prepare: o.prepare, read: readOPA,
		open: httpOpener(o.http, "/v1/data/bench/decision", opaAllows),
		steps: []bundleStep{
			{label: stepPublish, do: o.publish, seen: true, fresh: true},
			{label: stepRepublish, do: func(ctx context.Context, _ string) error { return o.publish(ctx, baseRevision) }, seen: true, base: true},
		},
	}
}

// readOPA reads an answer of OPA, which tells the revision of rules and data.
func readOPA(a answer) (string, error) {
	var r struct {
		Result struct{ Rules, Release string }
	}
	if err := json.Unmarshal(a.text, &r); err != nil {
		return "", fmt.Errorf("decode the answer: %w", err)
	}
	if r.Result.Rules != r.Result.Release || r.Result.Rules == "" {
		return r.Result.Rules, fmt.Errorf("rules of revision %q saw the data of %q", r.Result.Rules, r.Result.Release)
	}
	return r.Result.Rules, nil
}

// bundleSource is a server of OPA's bundle protocol with long polling: a client
// that has the current archive waits for the next.
type bundleSource struct {
	addr   string
	server *http.Server
	done   chan struct{}

	mu      sync.Mutex
	archive []byte
	etag    string
	count   int
	next    chan struct{} // closed by the next publication
}

func newBundleSource(ctx context.Context) (*bundleSource, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for OPA: %w", err)
	}
	s := &bundleSource{addr: l.Addr().String(), next: make(chan struct{}), done: make(chan struct{})}
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(s.done)
		_ = s.server.Serve(l) // until close
	}()
	return s, nil
}

func (s *bundleSource) close() {
	_ = s.server.Close()
	<-s.done
}

func (s *bundleSource) publish(archive []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	s.archive, s.etag = archive, strconv.Quote(strconv.Itoa(s.count))
	close(s.next)
	s.next = make(chan struct{})
}

func (s *bundleSource) current() (archive []byte, etag string, next <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.archive, s.etag, s.next
}

func (s *bundleSource) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const wait = 20 * time.Second // less than what OPA is configured to wait
	archive, etag, next := s.current()
	if r.Header.Get("If-None-Match") == etag {
		select {
		case <-next:
			archive, etag, _ = s.current()
		case <-time.After(wait):
		case <-r.Context().Done():
			return
		}
	}
	w.Header().Set("Content-Type", "application/vnd.openpolicyagent.bundles")
	w.Header().Set("ETag", etag)
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(archive)
}
