package api_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/api/callers"
	"github.com/authzd/authzd/bundles"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/store"
)

// download reads an archive over gRPC.
func (a *admin) download(ctx context.Context, m *authzdv1.DownloadBundleRequest) (*authzdv1.Bundle, []byte, error) {
	stream, err := a.bundles.DownloadBundle(ctx, m)
	if err != nil {
		return nil, nil, err
	}
	var b *authzdv1.Bundle
	var out []byte
	for {
		part, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return b, out, nil
		case err != nil:
			return nil, nil, err
		case part.GetBundle() != nil:
			b = part.GetBundle()
		}
		out = append(out, part.GetChunk()...)
	}
}

func TestDownload(t *testing.T) {
	t.Parallel()
	a := startAdmin(t)
	auditor := a.as(t, "auditor")
	if _, _, err := a.download(auditor, &authzdv1.DownloadBundleRequest{Name: "main"}); reasonOf(t, err) != "bundle.not_found" {
		t.Error(err)
	}
	noise := make([]byte, 200<<10) // so that it has several pieces
	_, _ = rand.Read(noise)
	v1 := a.sign(t, archive(t, ".manifest", `{"revision":"v1","roots":["lists"],"metadata":{"authzd":{"contract":1}}}`,
		"lists/data.json", fmt.Sprintf(`{"a":"%x"}`, noise)))
	v2 := a.sign(t, archive(t, ".manifest", `{"revision":"v2","roots":["lists"],"metadata":{"authzd":{"contract":1}}}`, "lists/data.json", `{"a":2}`))
	a.activate(t, v1)
	if _, err := a.push(a.as(t, "pusher"), &authzdv1.PushBundleOptions{Name: "main"}, v2); err != nil {
		t.Fatal(err)
	}
	if _, err := a.push(a.as(t, "pusher"), &authzdv1.PushBundleOptions{Name: "main"}, []byte("junk")); err == nil {
		t.Fatal("junk was taken")
	}
	for name, c := range map[string]struct {
		m    *authzdv1.DownloadBundleRequest
		path string
		want []byte
		code string
	}{
		"active":       {&authzdv1.DownloadBundleRequest{Name: "main"}, "main/archive", v1, ""},
		"revision":     {&authzdv1.DownloadBundleRequest{Name: "main", Revision: "v2"}, "main/archive?revision=v2", v2, ""},
		"digest":       {&authzdv1.DownloadBundleRequest{Name: "main", Digest: store.Digest(v2)}, "main/archive?digest=" + store.Digest(v2), v2, ""},
		"both":         {&authzdv1.DownloadBundleRequest{Name: "main", Digest: store.Digest(v2), Revision: "v1"}, "main/archive?revision=v1&digest=" + store.Digest(v2), nil, "bundle.not_found"},
		"no revision":  {&authzdv1.DownloadBundleRequest{Name: "main", Revision: "v9"}, "main/archive?revision=v9", nil, "bundle.not_found"},
		"other name":   {&authzdv1.DownloadBundleRequest{Name: "other"}, "other/archive", nil, "bundle.not_found"},
		"rejected one": {&authzdv1.DownloadBundleRequest{Name: "main", Digest: store.Digest([]byte("junk"))}, "main/archive?digest=" + store.Digest([]byte("junk")), nil, "bundle.not_staged"},
	} {
		b, got, err := a.download(auditor, c.m)
		rest := a.rest(t, "auditor", http.MethodGet, "/v1/bundles/"+c.path, "")
		if c.code != "" {
			if reasonOf(t, err) != c.code || rest.json(t)["code"] != c.code {
				t.Errorf("%s: %v, %d %s", name, err, rest.status, rest.body)
			}
			continue
		}
		if err != nil || string(got) != string(c.want) || b.GetDigest() != store.Digest(c.want) || b.GetSize() != int64(len(c.want)) {
			t.Errorf("%s: %d bytes of %v, %v", name, len(got), b, err)
		}
		if rest.status != 200 || string(rest.body) != string(c.want) || rest.header.Get("ETag") != `"`+store.Digest(c.want)+`"` || rest.header.Get("Content-Type") != "application/gzip" {
			t.Errorf("%s: %d, %d bytes", name, rest.status, len(rest.body))
		}
	}
	if got := a.rest(t, "auditor", http.MethodGet, "/v1/bundles/main/archive?other=x", ""); got.status != 400 {
		t.Errorf("%d %s", got.status, got.body)
	}
	for _, path := range []string{"main/", "main/archive/", "main/archive:x", "main:x", "main/other", "/archive"} {
		if got := a.rest(t, "auditor", http.MethodGet, "/v1/bundles/"+path, ""); got.status != 404 {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	for _, who := range []string{"pusher", "asker"} {
		if _, _, err := a.download(a.as(t, who), &authzdv1.DownloadBundleRequest{Name: "main"}); reasonOf(t, err) != string(api.CodeRightMissing) {
			t.Errorf("%s: %v", who, err)
		}
		if got := a.rest(t, who, http.MethodGet, "/v1/bundles/main/archive", ""); got.status != 403 {
			t.Errorf("%s: %d %s", who, got.status, got.body)
		}
	}
}

// Who does not read the archive that it asked for keeps others from none: neither
// from small ones nor, when it has all places of one caller, from large ones.
func TestDownloadSlowReaders(t *testing.T) {
	t.Parallel()
	a := startAdmin(t)
	noise := make([]byte, 1<<20)
	_, _ = rand.Read(noise)
	large := a.sign(t, archive(t, ".manifest", `{"revision":"v1","roots":["lists"],"metadata":{"authzd":{"contract":1}}}`,
		"lists/data.json", fmt.Sprintf(`{"a":"%x"}`, noise)))
	a.activate(t, large)
	if _, err := a.push(a.as(t, "releaser"), &authzdv1.PushBundleOptions{Name: "small", Activate: true}, a.bundle(t, "s1", 1)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(a.as(t, "auditor"))
	defer cancel()
	// A window that does not grow: what nobody reads does not come.
	conn, err := grpc.NewClient(a.server.GRPCAddr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithStaticStreamWindowSize(1<<16))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // the test is over
	slow := authzdv1.NewBundleServiceClient(conn)
	const places = 4 // of one caller
	var begun atomic.Int64
	full := make(chan struct{})
	for range 2 * places {
		stream, err := slow.DownloadBundle(ctx, &authzdv1.DownloadBundleRequest{Name: "main"})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if header, err := stream.Header(); err == nil && header != nil && begun.Add(1) == places { // nil: refused
				close(full)
			}
		}()
	}
	select {
	case <-full:
	case <-time.After(time.Minute):
		t.Fatal("not all places are taken")
	}
	if _, got, err := a.download(a.as(t, "auditor"), &authzdv1.DownloadBundleRequest{Name: "small"}); err != nil || len(got) == 0 {
		t.Error(err)
	}
	if _, got, err := a.download(a.as(t, "releaser"), &authzdv1.DownloadBundleRequest{Name: "main"}); err != nil || len(got) != len(large) {
		t.Error(err)
	}
	// None of these left its place to another.
	if n := begun.Load(); n != places {
		t.Errorf("%d slow downloads have begun", n)
	}
}

func TestListPages(t *testing.T) {
	t.Parallel()
	a := startAdmin(t)
	want := map[string]bool{}
	for i := range 7 {
		name := fmt.Sprintf("b%d", i%3)
		packed := a.sign(t, archive(t, ".manifest", fmt.Sprintf(`{"revision":"v%d","roots":["r%d"],"metadata":{"authzd":{"contract":1}}}`, i, i%3), fmt.Sprintf("r%d/data.json", i%3), `{"a":2}`))
		if _, err := a.push(a.as(t, "pusher"), &authzdv1.PushBundleOptions{Name: name}, packed); err != nil {
			t.Fatal(err)
		}
		want[fmt.Sprintf("%s v%d", name, i)] = true
	}
	var order []string
	for token, pages := "", 0; ; pages++ {
		got := a.rest(t, "auditor", http.MethodGet, "/v1/bundles?page_size=3&page_token="+token, "")
		var page struct {
			Bundles       []struct{ Name, Revision string }
			NextPageToken string `json:"next_page_token"`
		}
		if err := json.Unmarshal(got.body, &page); err != nil || got.status != 200 || len(page.Bundles) > 3 {
			t.Fatalf("%d %s", got.status, got.body)
		}
		for _, b := range page.Bundles {
			delete(want, b.Name+" "+b.Revision)
			order = append(order, b.Name+" "+b.Revision)
		}
		if token = page.NextPageToken; token == "" {
			if pages != 2 {
				t.Errorf("%d pages", pages+1)
			}
			break
		}
	}
	if len(want) != 0 || len(order) != 7 || !slices.IsSortedFunc(order, func(a, b string) int { return strings.Compare(a[:2], b[:2]) }) {
		t.Errorf("missing %v, order %v", want, order)
	}
	for path, at := range map[string]string{
		"/v1/bundles?page_size=-1": "/page_size", "/v1/bundles?page_size=501": "/page_size", "/v1/bundles?page_token=x": "/page_token", "/v1/bundles?page_token=MQ": "/page_token",
		"/v1/blocks?page_size=501": "/page_size", "/v1/blocks?page_token=MSA": "/page_token",
	} {
		if got := a.rest(t, "auditor", http.MethodGet, path, ""); got.status != 400 || got.json(t)["path"] != at {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	for i := range 5 {
		body := fmt.Sprintf(`{"kind":"tool","value":"t%d","for_seconds":60,"why":"x"}`, i)
		if got := a.rest(t, "admin", http.MethodPost, "/v1/blocks", body); got.status != 200 {
			t.Fatalf("%s", got.body)
		}
	}
	blocks := map[string]bool{}
	for token := ""; ; {
		got := a.rest(t, "auditor", http.MethodGet, "/v1/blocks?page_size=2&page_token="+token, "")
		var page struct {
			Blocks        []struct{ Value string }
			NextPageToken string `json:"next_page_token"`
		}
		if err := json.Unmarshal(got.body, &page); err != nil || got.status != 200 || len(page.Blocks) > 2 {
			t.Fatalf("%d %s", got.status, got.body)
		}
		for _, b := range page.Blocks {
			blocks[b.Value] = true
		}
		if token = page.NextPageToken; token == "" {
			break
		}
	}
	if len(blocks) != 5 {
		t.Errorf("%v", blocks)
	}
}

func TestWatchBundles(t *testing.T) {
	t.Parallel()
	a := startAdmin(t)
	a.activate(t, a.bundle(t, "v1", 1))
	watch := func(m *authzdv1.WatchBundlesRequest) authzdv1.BundleService_WatchBundlesClient {
		stream, err := a.bundles.WatchBundles(a.as(t, "auditor"), m)
		if err != nil {
			t.Fatal(err)
		}
		return stream
	}
	all := watch(&authzdv1.WatchBundlesRequest{})
	first, err := all.Recv()
	if err != nil || len(first.GetActive()) != 1 || first.GetActive()[0].GetRevision() != "v1" || len(first.GetEvents()) != 0 || first.GetPosition() == 0 {
		t.Fatal(first, err)
	}
	// seen collects events until one is wanted.
	seen := func(stream authzdv1.BundleService_WatchBundlesClient, last string) (list []string, position int64) {
		for {
			m, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range m.GetEvents() {
				list = append(list, e.GetName()+" "+e.GetRevision()+" "+e.GetTo())
			}
			if slices.Contains(list, last) {
				return list, m.GetPosition()
			}
		}
	}
	a.activate(t, a.bundle(t, "v2", 2))
	if got, _ := seen(all, "main v2 active"); strings.Join(got, ", ") != "main v2 uploaded, main v2 verified, main v2 tested, main v2 staged, main v2 active" &&
		strings.Join(got, ", ") != "main  uploaded, main v2 verified, main v2 tested, main v2 staged, main v2 active" {
		t.Error(got)
	}
	if _, err := a.push(a.as(t, "pusher"), &authzdv1.PushBundleOptions{Name: "other"}, []byte("junk")); err == nil {
		t.Fatal("junk was taken")
	}
	_, position := seen(all, "other  rejected")

	// Who asks from a position hears what came behind it, and of one name if so asked.
	late := watch(&authzdv1.WatchBundlesRequest{Position: proto.Int64(first.GetPosition()), Name: "other"})
	if got, at := seen(late, "other  rejected"); len(got) != 2 || at != position {
		t.Error(got, at, position)
	}
	one := watch(&authzdv1.WatchBundlesRequest{Name: "main"})
	if m, err := one.Recv(); err != nil || len(m.GetActive()) != 1 || m.GetPosition() != position {
		t.Error(m, err)
	}
	if _, err := a.bundles.RollbackBundle(a.as(t, "releaser"), &authzdv1.RollbackBundleRequest{Name: "main"}); err != nil {
		t.Fatal(err)
	}
	if m, err := one.Recv(); err != nil || m.GetEvents()[0].GetWhat() != "rollback" || m.GetActive()[0].GetRevision() != "v1" {
		t.Error(m, err)
	}

	for name, c := range map[string]struct {
		who  string
		m    *authzdv1.WatchBundlesRequest
		code string
	}{
		"no right":     {"pusher", &authzdv1.WatchBundlesRequest{}, string(api.CodeRightMissing)},
		"bad name":     {"auditor", &authzdv1.WatchBundlesRequest{Name: "a/b"}, string(bundles.CodeNameInvalid)},
		"bad position": {"auditor", &authzdv1.WatchBundlesRequest{Position: proto.Int64(-1)}, string(api.CodeInvalidValue)},
	} {
		stream, err := a.bundles.WatchBundles(a.as(t, c.who), c.m)
		if err == nil {
			_, err = stream.Recv()
		}
		if reasonOf(t, err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Who is struck off while it waits or watches hears of nothing that comes later.
func TestStruckOffWhileWaiting(t *testing.T) {
	t.Parallel()
	a := startAdmin(t)
	v1 := a.bundle(t, "v1", 1)
	a.activate(t, v1)
	waits := make(chan answer, 1)
	go func() {
		waits <- a.follow(t, http.MethodGet, `"`+store.Digest(v1)+`"`, "modes=snapshot;wait=30")
	}()
	watches, err := a.bundles.WatchBundles(a.as(t, "auditor"), &authzdv1.WatchBundlesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watches.Recv(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1200 * time.Millisecond)
	err = callers.UpdateKeys(a.file, false, func(list []callers.Key) ([]callers.Key, error) {
		return slices.DeleteFunc(list, func(k callers.Key) bool { return k.Name == "auditor" }), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	a.server.Reload(t.Context())
	a.activate(t, a.bundle(t, "v2", 2))
	if got := <-waits; got.status != 401 {
		t.Errorf("%d, %d bytes", got.status, len(got.body))
	}
	if m, err := watches.Recv(); reasonOf(t, err) != string(api.CodeUnauthenticated) {
		t.Error(m, err)
	}
}
