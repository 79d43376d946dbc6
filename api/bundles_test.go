package api_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/api/callers"
	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/bundles/registry"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/engine/blocklist"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/store"
)

// bundleSigner makes signed bundles for one server.
type bundleSigner struct {
	key  bundles.SigningKey
	keys bundles.Keys
}

func newBundleSigner(t *testing.T) *bundleSigner {
	t.Helper()
	key, _, public, err := bundles.NewSigningKey(bundles.KeyEd25519)
	if err != nil {
		t.Fatal(err)
	}
	s := &bundleSigner{key: key}
	if err := s.keys.Add("", public); err != nil {
		t.Fatal(err)
	}
	return s
}

// bundle is a signed archive whose permit is named as its revision.
func (s *bundleSigner) bundle(t *testing.T, revision string, sequence int, more ...string) []byte {
	t.Helper()
	files := append([]string{
		".manifest", fmt.Sprintf(`{"revision":%q,"roots":["authz"],"metadata":{"authzd":{"contract":1,"untyped_tools":true,"sequence":%d}}}`, revision, sequence),
		"policy.rego", fmt.Sprintf("package authz\n\npermit[%q] := {} if input.action.name == \"read\"\n", revision),
	}, more...)
	return s.sign(t, archive(t, files...))
}

func (s *bundleSigner) sign(t *testing.T, packed []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := bundles.SignArchive(&out, bytes.NewReader(packed), s.key, bundles.SignOptions{}, bundles.Limits{}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// archive packs names and texts in turn.
func archive(t *testing.T, files ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	tw := tar.NewWriter(zw)
	for pair := range slices.Chunk(files, 2) {
		name, text := pair[0], pair[len(pair)-1]
		if err := tw.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// admin is a running server that takes bundles, and keys of callers by name.
type admin struct {
	*doors
	*bundleSigner
	bundles authzdv1.BundleServiceClient
	keys    map[string]string
	// file has the keys.
	file string
}

func startAdmin(t *testing.T, change ...func(*api.Options)) *admin {
	t.Helper()
	a := &admin{bundleSigner: newBundleSigner(t), keys: map[string]string{}}
	file := filepath.Join(t.TempDir(), "keys.json")
	a.file = file
	for name, rights := range map[string]callers.Rights{
		"pusher": callers.Push, "releaser": callers.Push | callers.Activate | callers.Audit, "asker": callers.Check | callers.Assert, "auditor": callers.Audit, "admin": callers.Admin,
		"editor": callers.Data,
	} {
		err := callers.UpdateKeys(file, true, func(list []callers.Key) ([]callers.Key, error) {
			k, text, err := callers.NewKey(callers.Key{Name: name, Rights: rights, Created: time.Now()}, rand.Reader)
			a.keys[name] = text
			return append(list, k), err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	kept, err := store.Open(t.Context(), t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kept.Close() })
	a.doors = start(t, func(o *api.Options) {
		r, err := registry.New(registry.Options{
			Store: kept, Engine: o.Engine,
			Verify: func(archive []byte) (bundles.Content, error) {
				c, _, err := bundles.OpenSignedArchive(bytes.NewReader(archive), a.bundleSigner.keys, bundles.VerifyOptions{}, bundles.Limits{})
				return c, err
			},
			Ask: func(*engine.Snapshot) bundles.Ask {
				return func(context.Context, []byte, time.Time) (bundles.Answer, error) { return bundles.Answer{}, nil }
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		o.Bundles, o.Access = r, api.Access{KeysFile: file}
		// The engine of these tests has a clock that stands still.
		if o.Blocks, err = blocklist.Open(t.Context(), blocklist.Options{Store: kept, Engine: o.Engine, Now: now}); err != nil {
			t.Fatal(err)
		}
		for _, f := range change {
			f(o)
		}
	})
	a.bundles = authzdv1.NewBundleServiceClient(a.conn)
	return a
}

func (a *admin) as(t *testing.T, name string) context.Context {
	t.Helper()
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+a.keys[name])
}

// push pushes over gRPC, in small pieces.
func (a *admin) push(ctx context.Context, o *authzdv1.PushBundleOptions, packed []byte) (*authzdv1.PushBundleResponse, error) {
	stream, err := a.bundles.PushBundle(ctx)
	if err != nil {
		return nil, err
	}
	// A refusal may come while pieces are still on their way.
	_ = stream.Send(&authzdv1.PushBundleRequest{Part: &authzdv1.PushBundleRequest_Options{Options: o}})
	for len(packed) > 0 {
		n := min(len(packed), 100)
		if stream.Send(&authzdv1.PushBundleRequest{Part: &authzdv1.PushBundleRequest_Chunk{Chunk: packed[:n]}}) != nil {
			break
		}
		packed = packed[n:]
	}
	return stream.CloseAndRecv()
}

func (a *admin) rest(t *testing.T, who, method, path, body string) answer {
	t.Helper()
	header := map[string]string{"Authorization": "Bearer " + a.keys[who]}
	if method == http.MethodPost {
		header["Content-Type"] = "application/json"
	}
	return a.do(t, method, path, body, header)
}

func (a *admin) wantLive(t *testing.T, revision string) {
	t.Helper()
	got, err := a.rpc.Check(a.as(t, "asker"), request(t, `{"subject":{"type":"identity","id":"a"},"action":{"name":"read"},"resource":{"type":"page","id":"p"}}`))
	if err != nil || got.GetPolicy().GetRevision() != revision || got.GetRule() != revision {
		t.Errorf("live: %v, %v, want %s", got, err, revision)
	}
}

func TestBundlesOverGRPC(t *testing.T) {
	t.Parallel()
	a := startAdmin(t)
	ctx := a.as(t, "releaser")
	got, err := a.push(ctx, &authzdv1.PushBundleOptions{Name: "main", Why: "first"}, a.bundle(t, "v1", 1))
	if err != nil || got.GetBundle().GetState() != "staged" || got.GetBundle().GetUploadedBy() != "releaser" || got.GetUnchanged() {
		t.Fatal(got, err)
	}
	if _, err := a.bundles.ActivateBundle(ctx, &authzdv1.ActivateBundleRequest{Name: "main", Revision: "v1"}); err != nil {
		t.Fatal(err)
	}
	a.wantLive(t, "v1")
	if got, err = a.push(ctx, &authzdv1.PushBundleOptions{Name: "main", Activate: true}, a.bundle(t, "v2", 2)); err != nil || got.GetBundle().GetState() != "active" {
		t.Fatal(got, err)
	}
	a.wantLive(t, "v2")
	back, err := a.bundles.RollbackBundle(ctx, &authzdv1.RollbackBundleRequest{Name: "main", Why: "v2 is broken"})
	if err != nil || back.GetBundle().GetRevision() != "v1" {
		t.Fatal(back, err)
	}
	a.wantLive(t, "v1")
	shown, err := a.bundles.GetBundle(a.as(t, "auditor"), &authzdv1.GetBundleRequest{Name: "main"})
	if err != nil || len(shown.GetBundles()) != 2 {
		t.Fatal(shown, err)
	}
	e := shown.GetEvents()[0]
	if e.GetWho() != "releaser" || e.GetWhy() != "v2 is broken" || e.GetWhat() != "rollback" || e.GetFrom() != "superseded" || e.GetTo() != "active" {
		t.Errorf("event %v", e)
	}
	list, err := a.bundles.ListBundles(a.as(t, "auditor"), &authzdv1.ListBundlesRequest{})
	if err != nil || len(list.GetBundles()) != 2 || list.GetBundles()[0].GetState() != "superseded" {
		t.Errorf("%v, %v", list, err)
	}
}

func TestBundlesOverREST(t *testing.T) {
	t.Parallel()
	a := startAdmin(t)
	v1 := string(a.bundle(t, "v1", 1))
	got := a.rest(t, "releaser", http.MethodPut, "/v1/bundles/main?why=first%20one", v1)
	if b, _ := got.json(t)["bundle"].(map[string]any); got.status != 200 || b["state"] != "staged" {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if got = a.rest(t, "releaser", http.MethodPost, "/v1/bundles/main:activate", `{"revision":"v1"}`); got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	a.wantLive(t, "v1")
	if got = a.rest(t, "releaser", http.MethodPut, "/v1/bundles/main?activate=true", v1); got.status != 200 || got.json(t)["unchanged"] != true {
		t.Errorf("the same again: %d %s", got.status, got.body)
	}
	if got = a.rest(t, "releaser", http.MethodPut, "/v1/bundles/main?activate=true", string(a.bundle(t, "v2", 2))); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
	a.wantLive(t, "v2")
	if got = a.rest(t, "releaser", http.MethodPost, "/v1/bundles/main:rollback", `{"why":"undo"}`); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
	a.wantLive(t, "v1")
	if got = a.rest(t, "auditor", http.MethodGet, "/v1/bundles/main", ""); got.status != 200 || !bytes.Contains(got.body, []byte(`"why":"undo"`)) || !bytes.Contains(got.body, []byte(`"why":"first one"`)) {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got = a.rest(t, "auditor", http.MethodGet, "/v1/bundles", ""); got.status != 200 || strings.Count(string(got.body), `"digest"`) != 2 {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// Each refusal says the same by both doors, with the report beside it, and
// leaves what is live.
func TestPushRefused(t *testing.T) {
	t.Parallel()
	a := startAdmin(t)
	if _, err := a.push(a.as(t, "releaser"), &authzdv1.PushBundleOptions{Name: "main", Activate: true}, a.bundle(t, "live", 5)); err != nil {
		t.Fatal(err)
	}
	failing := "package authz.policy_test\n\nimport data.authz\n\ntest_never if authz.permit.never\n"
	for name, c := range map[string]struct {
		bundle   string
		archive  []byte
		who      string
		activate bool
		code     string
		http     int
		report   string
	}{
		"unsigned":           {archive: archive(t, "policy.rego", "package authz"), code: string(bundles.CodeSignatureMissing), http: 422, report: string(bundles.CodeSignatureMissing)},
		"another's key":      {archive: newBundleSigner(t).bundle(t, "v6", 6), code: string(bundles.CodeKeyUnknown), http: 422, report: string(bundles.CodeKeyUnknown)},
		"no archive":         {archive: []byte("hello"), code: string(bundles.CodeUnreadable), http: 422, report: string(bundles.CodeUnreadable)},
		"nothing":            {code: string(bundles.CodeUnreadable), http: 422, report: string(bundles.CodeUnreadable)},
		"own test":           {archive: a.bundle(t, "v6", 6, "policy_test.rego", failing), code: string(bundles.CodeTestFailed), http: 422, report: "test_never"},
		"older":              {archive: a.bundle(t, "v4", 4), code: string(bundles.CodeStaleRevision), http: 409, report: string(bundles.CodeStaleRevision)},
		"too large":          {archive: make([]byte, bundles.DefaultMaxArchiveBytes+1), code: string(bundles.CodeTooLarge), http: 413},
		"no right to do it":  {archive: a.bundle(t, "v6", 6), who: "asker", code: string(api.CodeRightMissing), http: 403},
		"no right to do all": {archive: a.bundle(t, "v6", 6), who: "pusher", activate: true, code: string(api.CodeRightMissing), http: 403},
	} {
		if c.code == string(bundles.CodeTooLarge) && testing.Short() {
			continue // sends 64 MiB two times
		}
		if c.who == "" {
			c.who = "pusher"
		}
		path := "/v1/bundles/main"
		if c.activate {
			path += "?activate=true"
		}
		_, err := a.push(a.as(t, c.who), &authzdv1.PushBundleOptions{Name: "main", Activate: c.activate}, c.archive)
		got := a.rest(t, c.who, http.MethodPut, path, string(c.archive))
		if reasonOf(t, err) != c.code || got.status != c.http || got.json(t)["code"] != c.code {
			t.Errorf("%s: %v and %d %s, want %s", name, err, got.status, got.body, c.code)
		}
		var inRPC string
		for _, d := range status.Convert(err).Details() {
			if r, ok := d.(*authzdv1.BundleReport); ok {
				inRPC = r.String()
			}
		}
		if !strings.Contains(inRPC, c.report) || !strings.Contains(string(got.body), c.report) || (c.report == "") != (got.json(t)["report"] == nil) {
			t.Errorf("%s: report %s and %s, want %q in it", name, inRPC, got.body, c.report)
		}
	}
	a.wantLive(t, "live")
	got := a.rest(t, "auditor", http.MethodGet, "/v1/bundles/main", "")
	if !bytes.Contains(got.body, []byte("authz.policy_test.test_never")) {
		t.Errorf("why it was rejected is not told: %s", got.body)
	}
}

func TestBundleRequestsRefused(t *testing.T) {
	t.Parallel()
	a := startAdmin(t)
	for name, c := range map[string]struct {
		method, path, body, code string
		status                   int
	}{
		"no such bundle":     {http.MethodGet, "/v1/bundles/other", "", string(bundles.CodeNotFound), 404},
		"activate nothing":   {http.MethodPost, "/v1/bundles/other:activate", `{"revision":"x"}`, string(bundles.CodeNotFound), 404},
		"roll nothing back":  {http.MethodPost, "/v1/bundles/other:rollback", `{}`, string(bundles.CodeNotFound), 404},
		"unknown verb":       {http.MethodPost, "/v1/bundles/other:explode", `{}`, string(api.CodeNotFound), 404},
		"no verb":            {http.MethodPost, "/v1/bundles/other:", `{}`, string(api.CodeNotFound), 404},
		"no name":            {http.MethodPut, "/v1/bundles/", "", string(api.CodeNotFound), 404},
		"a path":             {http.MethodPut, "/v1/bundles/a/b", "", string(api.CodeNotFound), 404},
		"the pattern":        {http.MethodPut, "/v1/bundles/{name}", "", string(api.CodeNotFound), 404},
		"climbing":           {http.MethodPut, "/v1/bundles/..%2fx", "", string(api.CodeNotFound), 404},
		"method":             {http.MethodDelete, "/v1/bundles/main", "", string(api.CodeMethodNotAllowed), 405},
		"unknown option":     {http.MethodPut, "/v1/bundles/main?activated=true", "x", string(api.CodeUnknownMember), 400},
		"option twice":       {http.MethodPut, "/v1/bundles/main?activate=true&activate=false", "x", string(api.CodeDuplicateKey), 400},
		"option is no bool":  {http.MethodPut, "/v1/bundles/main?activate=1", "x", string(api.CodeInvalidValue), 400},
		"why has lines":      {http.MethodPut, "/v1/bundles/main?why=a%0Ab", "x", string(api.CodeInvalidValue), 400},
		"why is long":        {http.MethodPost, "/v1/bundles/main:rollback", `{"why":"` + strings.Repeat("x", 1001) + `"}`, string(api.CodeInvalidValue), 400},
		"unknown member":     {http.MethodPost, "/v1/bundles/main:rollback", `{"force":true}`, string(api.CodeUnknownMember), 400},
		"query of a listing": {http.MethodGet, "/v1/bundles?all=1", "", string(api.CodeUnknownMember), 400},
	} {
		if got := a.rest(t, "releaser", c.method, c.path, c.body); got.status != c.status || got.json(t)["code"] != c.code {
			t.Errorf("%s: %d %s, want %d %s", name, got.status, got.body, c.status, c.code)
		}
	}
	options := &authzdv1.PushBundleRequest{Part: &authzdv1.PushBundleRequest_Options{Options: &authzdv1.PushBundleOptions{Name: "main"}}}
	for name, c := range map[string]struct {
		messages []*authzdv1.PushBundleRequest
		code     string
	}{
		"no options":    {[]*authzdv1.PushBundleRequest{{Part: &authzdv1.PushBundleRequest_Chunk{Chunk: []byte("x")}}}, string(api.CodeMissingMember)},
		"empty message": {[]*authzdv1.PushBundleRequest{{}}, string(api.CodeMissingMember)},
		"options twice": {[]*authzdv1.PushBundleRequest{options, options}, string(api.CodeInvalidValue)},
	} {
		stream, err := a.bundles.PushBundle(a.as(t, "releaser"))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range c.messages {
			_ = stream.Send(m)
		}
		if _, err := stream.CloseAndRecv(); reasonOf(t, err) != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
	if _, err := a.push(a.as(t, "releaser"), &authzdv1.PushBundleOptions{Name: "a/b"}, nil); reasonOf(t, err) != string(bundles.CodeNameInvalid) {
		t.Error(err)
	}
}

// Uploads that stand still take the places of their caller, and then all there
// are, and no memory beyond.
func TestPushesAtOnce(t *testing.T) {
	t.Parallel()
	a := startAdmin(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	refused := make(chan error, 8)
	begin := func(who string) {
		stream, err := a.bundles.PushBundle(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+a.keys[who]))
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if err := stream.RecvMsg(&authzdv1.PushBundleResponse{}); ctx.Err() == nil {
				refused <- err
			}
		}()
	}
	for range 3 {
		begin("pusher")
	}
	if err := <-refused; reasonOf(t, err) != string(api.CodeOverloaded) {
		t.Error(err)
	}
	if _, err := a.push(a.as(t, "releaser"), &authzdv1.PushBundleOptions{Name: "main"}, a.bundle(t, "v1", 1)); err != nil {
		t.Error("kept out by another's uploads:", err)
	}
	for range 3 {
		begin("releaser")
	}
	if err := <-refused; reasonOf(t, err) != string(api.CodeOverloaded) {
		t.Error(err)
	}
	for _, who := range []string{"pusher", "releaser"} {
		if got := a.rest(t, who, http.MethodPut, "/v1/bundles/main", "x"); got.status != http.StatusTooManyRequests {
			t.Errorf("%s: %d %s", who, got.status, got.body)
		}
	}
}

// Without a data directory nothing is pushed, and the server says so.
func TestPushUnavailable(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	for path, method := range map[string]string{"/v1/bundles": http.MethodGet, "/v1/bundles/main": http.MethodPut, "/v1/bundles/main:rollback": http.MethodPost} {
		body := "{}"
		if method == http.MethodGet {
			body = ""
		}
		if got := d.do(t, method, path, body, map[string]string{"Content-Type": "application/json"}); got.status != 409 || got.json(t)["code"] != string(bundles.CodePushUnavailable) {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
}
