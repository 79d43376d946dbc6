package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/store"
)

const archivePath = "/bundles/main.tar.gz"

// follow asks for the archive of main as a follower does.
func (a *admin) follow(t *testing.T, method, etag, prefer string) answer {
	t.Helper()
	header := map[string]string{"Authorization": "Bearer " + a.keys["auditor"]}
	if etag != "" {
		header["If-None-Match"] = etag
	}
	if prefer != "" {
		header["Prefer"] = prefer
	}
	return a.do(t, method, archivePath, "", header)
}

func (a *admin) activate(t *testing.T, packed []byte) {
	t.Helper()
	if _, err := a.push(a.as(t, "releaser"), &authzdv1.PushBundleOptions{Name: "main", Activate: true}, packed); err != nil {
		t.Error(err)
	}
}

func TestArchives(t *testing.T) {
	t.Parallel()
	a := startAdmin(t)
	if got := a.follow(t, http.MethodGet, "", ""); got.status != 404 || got.json(t)["code"] != "bundle.not_found" || got.header.Get("ETag") != "" {
		t.Errorf("nothing is active: %d %s", got.status, got.body)
	}
	v1 := a.bundle(t, "v1", 1)
	a.activate(t, v1)
	etag := `"` + store.Digest(v1) + `"`
	for name, c := range map[string]struct {
		method, etag, prefer string
		status               int
		kind                 string
	}{
		"first":         {http.MethodGet, "", "", 200, "application/gzip"},
		"another":       {http.MethodGet, `"sha256:00"`, "modes=snapshot,delta;wait=10", 200, "application/vnd.openpolicyagent.bundles"},
		"no waiting":    {http.MethodGet, "", "modes=snapshot;wait=0", 200, "application/gzip"},
		"bad waiting":   {http.MethodGet, "", "wait=soon", 200, "application/gzip"},
		"head":          {http.MethodHead, "", "", 200, "application/gzip"},
		"same":          {http.MethodGet, etag, "", 304, ""},
		"weak":          {http.MethodGet, "W/" + etag, "", 304, ""},
		"among several": {http.MethodGet, `"sha256:00", ` + etag, "", 304, ""},
		"any":           {http.MethodGet, "*", "", 304, ""},
		"head same":     {http.MethodHead, etag, "", 304, ""},
		"expires":       {http.MethodGet, etag, "wait=1", 304, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := a.follow(t, c.method, c.etag, c.prefer)
			if got.status != c.status || got.header.Get("ETag") != etag {
				t.Fatalf("%d %s", got.status, got.header)
			}
			if c.kind != "" && got.header.Get("Content-Type") != c.kind {
				t.Errorf("type %q", got.header.Get("Content-Type"))
			}
			if want := string(v1); c.status == 200 && c.method == http.MethodGet && string(got.body) != want {
				t.Errorf("%d bytes of %d", len(got.body), len(want))
			}
		})
	}
}

func TestArchivesRefused(t *testing.T) {
	t.Parallel()
	a := startAdmin(t)
	a.activate(t, a.bundle(t, "v1", 1))
	for _, who := range []string{"asker", "pusher"} {
		if got := a.rest(t, who, http.MethodGet, archivePath, ""); got.status != 403 || got.json(t)["code"] != "api.right_missing" {
			t.Errorf("%s: %d %s", who, got.status, got.body)
		}
	}
	for path, status := range map[string]int{
		"/bundles/main": 404, "/bundles/.tar.gz": 404, "/bundles/..%2Fmain.tar.gz": 404, "/bundles/other.tar.gz": 404,
		archivePath + "?revision=v0": 400,
	} {
		if got := a.rest(t, "auditor", http.MethodGet, path, ""); got.status != status {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	if got := a.rest(t, "auditor", http.MethodPut, archivePath, "x"); got.status != 405 {
		t.Errorf("PUT: %d %s", got.status, got.body)
	}
	none := start(t, nil)
	if got := none.do(t, http.MethodGet, archivePath, "", nil); got.status != 409 || got.json(t)["code"] != "bundle.push_unavailable" {
		t.Errorf("without a store: %d %s", got.status, got.body)
	}
}

// Who waits hears of an activation at once, also of the first one, and of a
// rollback.
func TestArchivesWait(t *testing.T) {
	t.Parallel()
	a := startAdmin(t)
	v1, v2 := a.bundle(t, "v1", 1), a.bundle(t, "v2", 2)
	next := func(etag string, change func()) answer {
		got := make(chan answer, 1)
		go func() { got <- a.follow(t, http.MethodGet, etag, "modes=snapshot,delta;wait=30") }()
		select {
		case early := <-got:
			t.Fatalf("did not wait: %d %s", early.status, early.body)
		case <-time.After(100 * time.Millisecond):
		}
		change()
		select {
		case in := <-got:
			return in
		case <-time.After(5 * time.Second):
			t.Fatal("waits on")
		}
		return answer{}
	}
	got := next("", func() { a.activate(t, v1) })
	if got.status != 200 || string(got.body) != string(v1) {
		t.Fatalf("%d", got.status)
	}
	etag := got.header.Get("ETag")
	if got = next(etag, func() { a.activate(t, v2) }); got.status != 200 || string(got.body) != string(v2) {
		t.Fatalf("%d", got.status)
	}
	got = next(got.header.Get("ETag"), func() {
		if r := a.rest(t, "releaser", http.MethodPost, "/v1/bundles/main:rollback", `{}`); r.status != 200 {
			t.Errorf("%d %s", r.status, r.body)
		}
	})
	if got.status != 200 || got.header.Get("ETag") != etag {
		t.Fatalf("%d %s", got.status, got.header)
	}
	// Another bundle's change is none.
	got = next(etag, func() {
		if r := a.rest(t, "releaser", http.MethodPut, "/v1/bundles/lists?activate=true", string(a.sign(t, archive(t,
			".manifest", `{"revision":"l1","roots":["lists"],"metadata":{"authzd":{"contract":1}}}`, "lists/data.json", `{"a":[1]}`)))); r.status != 200 {
			t.Errorf("%d %s", r.status, r.body)
		}
		time.Sleep(100 * time.Millisecond)
		a.activate(t, v2)
	})
	if got.status != 200 || string(got.body) != string(v2) {
		t.Fatalf("%d", got.status)
	}
}

// A server that stops does not wait for its waiters.
func TestArchivesEnd(t *testing.T) {
	t.Parallel()
	a := startAdmin(t)
	a.activate(t, a.bundle(t, "v1", 1))
	etag := a.follow(t, http.MethodHead, "", "").header.Get("ETag")
	got := make(chan answer, 1)
	go func() { got <- a.follow(t, http.MethodGet, etag, "wait=60") }()
	time.Sleep(100 * time.Millisecond)
	a.stop()
	select {
	case end := <-got:
		if end.status != 503 || !strings.Contains(string(end.body), "stopping") || end.header.Get("ETag") != "" {
			t.Errorf("%d %s", end.status, end.body)
		}
	case <-time.After(3 * time.Second):
		t.Fatal("waits on")
	}
}

// TestArchivesWithChanges: who takes delta bundles gets what it lacks step by step, and
// who does not is not left with old data.
func TestArchivesWithChanges(t *testing.T) {
	t.Parallel()
	a := startAdmin(t)
	v1 := a.sign(t, archive(t,
		".manifest", `{"revision":"v1","roots":["authz","lists"],"metadata":{"authzd":{"contract":1,"untyped_tools":true}}}`,
		"policy.rego", "package authz\n\npermit[\"listed\"] := {} if input.action.name in data.lists\n",
		"data.json", `{"lists": []}`))
	a.activate(t, v1)
	base := `"` + store.Digest(v1) + `"`
	release := func(sequence string) []byte {
		t.Helper()
		return a.sign(t, archive(t,
			".manifest", `{"revision":"d`+sequence+`","roots":["authz","lists"],"metadata":{"authzd":{"base":"`+store.Digest(v1)+`","sequence":`+sequence+`}}}`,
			"patch.json", `{"data":[{"op":"upsert","path":"/lists/-","value":"a`+sequence+`"}]}`))
	}
	a.activate(t, release("5"))
	a.activate(t, release("6"))
	const both = "modes=snapshot,delta"
	first := a.follow(t, http.MethodGet, base, both).header.Get("ETag")
	second := a.follow(t, http.MethodGet, first, both).header.Get("ETag")
	tag := func(n string) string {
		line := first[strings.LastIndexByte(first, '.'):]
		switch n {
		case "1":
			return first
		case "2":
			return second
		}
		return strings.TrimSuffix(base, `"`) + "." + n + line
	}
	for name, c := range map[string]struct {
		etag, prefer string
		status       int
		next         string
	}{
		"nothing":                 {"", both, 200, base},
		"another archive":         {`"sha256:00"`, both, 200, base},
		"the archive":             {base, both, 200, tag("1")},
		"weakly":                  {"W/" + base, both, 200, tag("1")},
		"one change":              {tag("1"), both, 200, tag("2")},
		"an authzd":               {tag("1"), "authzd-changes;modes=snapshot;wait=5", 200, tag("2")},
		"all":                     {tag("2"), both, 304, tag("2")},
		"all, without":            {tag("2"), "", 304, tag("2")},
		"more than there is":      {tag("3"), both, 200, base},
		"no number":               {tag("x"), both, 200, base},
		"nothing, without":        {"", "", 406, ""},
		"the archive, without":    {base, "modes=snapshot", 406, ""},
		"several archives":        {base + `, "sha256:00"`, both, 406, ""},
		"several, all among them": {base + ", " + tag("2"), both, 304, tag("2")},
	} {
		got := a.follow(t, http.MethodGet, c.etag, c.prefer)
		if got.status != c.status || got.header.Get("ETag") != c.next {
			t.Errorf("%s: %d, %s", name, got.status, got.header.Get("ETag"))
		}
		if got.status == 406 && got.json(t)["code"] != "api.not_acceptable" {
			t.Errorf("%s: %s", name, got.body)
		}
	}
}
