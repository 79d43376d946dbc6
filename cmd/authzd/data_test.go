package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// write writes files into a folder of the stand.
func (p *pushStand) write(t *testing.T, folder string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(p.path(folder), name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// release builds and signs what is in a folder, and returns its digest.
func (p *pushStand) release(t *testing.T, folder string) (digest string) {
	t.Helper()
	archive := p.path(folder + ".tar.gz")
	p.want(t, 0, "", "bundle", "build", p.path(folder), "-o", archive)
	p.want(t, 0, "", "bundle", "sign", archive, "--key", p.path("k.pem"))
	p.want(t, 0, "", "bundle", "verify", archive, "--key", p.path("k.pub.pem"), "-o", "json")
	text, _ := document(t, p.out)["digest"].(string)
	return text
}

// delta writes the folder of a delta bundle.
func (p *pushStand) delta(t *testing.T, folder, base string, sequence int, patch string) {
	t.Helper()
	p.write(t, folder, map[string]string{
		".manifest":  fmt.Sprintf(`{"revision":%q,"roots":["authz","lists","fixed"],"metadata":{"authzd":{"base":%q,"sequence":%d}}}`, folder, base, sequence),
		"patch.json": patch,
	})
}

func newDataStand(t *testing.T) (p *pushStand, base string) {
	t.Helper()
	p = &pushStand{dir: t.TempDir()}
	p.want(t, 0, "", "bundle", "keygen", "-f", p.path("k.pem"))
	p.write(t, "v1", map[string]string{
		".manifest":   `{"revision":"v1","roots":["authz","lists","fixed"],"metadata":{"authzd":{"contract":1,"untyped_tools":true,"sequence":1,"writable_data":["lists"]}}}`,
		"policy.rego": "package authz\n\npermit[\"x\"] := {} if data.lists.users[input.subject.id]\n\nforbid[\"y\"] := {} if input.subject.id in data.lists.blocked\n\npermit[\"z\"] := {} if data.fixed.all\n",
		"data.json":   `{"lists":{"users":{"alice":{}},"blocked":[]},"fixed":{"all":false}}`,
	})
	return p, p.release(t, "v1")
}

func (p *pushStand) decides(t *testing.T, subject string, code int) {
	t.Helper()
	query := p.path("query.json")
	p.write(t, ".", map[string]string{"query.json": `{"subject":{"type":"identity","id":"` + subject + `"},"action":{"name":"read"},"resource":{"type":"page","id":"p"}}`})
	p.remote(t, code, "", "check", "-f", query)
}

func TestData(t *testing.T) {
	t.Parallel()
	p, base := newDataStand(t)
	_, stop := p.serve(t)
	p.remote(t, 1, "bundle.not_found", "data", "get", "main", "/lists")
	p.remote(t, 1, "bundle.not_found", "data", "set", "main", "/lists/users/bob", "{}")
	p.remote(t, 0, "main v1 is active", "bundle", "push", p.path("v1.tar.gz"), "--name", "main", "--activate")
	p.remote(t, 0, "{\"users\":{\"alice\":{}},\"blocked\":[]}\n", "data", "get", "main", "/lists")
	p.decides(t, "bob", 2)
	p.remote(t, 0, "v1#1 is in force\n", "data", "set", "main", "/lists/users/bob", `{"level": 1.50}`, "--why", "ticket 4711")
	p.decides(t, "bob", 0)
	p.remote(t, 0, `"value":{"level":1.50}`, "data", "get", "main", "/lists/users/bob", "-o", "json")
	tag, _ := document(t, p.out)["tag"].(string)
	p.remote(t, 1, "bundle.data_changed", "data", "set", "main", "/lists/users/bob", "{}", "--if-absent")
	p.remote(t, 1, "bundle.data_changed", "data", "remove", "main", "/lists/users/bob", "--if-match", base)
	p.remote(t, 0, "v1#2 is in force", "data", "set", "main", "/lists/users/bob", "{}", "--if-match", tag)
	p.remote(t, 0, "v1#3 is in force", "data", "set", "main", "/lists/users/carol", "{}", "--if-absent")

	// From files, and standard input.
	p.write(t, ".", map[string]string{
		"one.json": `{"level": 2}`, "broken.json": `{"data": [{"op": "add", "path": "/lists/a", "value": 1}]}`, "large.json": `"` + strings.Repeat("x", 1<<20) + `"`,
		"many.json": `{"data": [{"op": "upsert", "path": "/lists/users/dave", "value": {}}, {"op": "remove", "path": "/lists/users/carol"}, {"op": "replace", "path": "lists/blocked", "value": ["bob"]}]}`,
		"half.json": `{"data": [{"op": "upsert", "path": "/lists/users/erin", "value": {}}, {"op": "remove", "path": "/lists/users/nobody"}]}`,
	})
	p.remote(t, 0, "v1#4 is in force", "data", "set", "main", "/lists/users/carol", "--file", p.path("one.json"))
	p.remote(t, 0, "v1#5 is in force", "data", "patch", "main", p.path("many.json"), "--why", "many")
	p.decides(t, "dave", 0)
	p.decides(t, "carol", 2)
	p.decides(t, "bob", 2)
	if code, out, stderr := command(t, `{"stdin": true}`, "data", "set", "main", "/lists/users/frank", "--addr", p.addr); code != 0 || out != "v1#6 is in force\n" {
		t.Errorf("from standard input: %d %s%s", code, out, stderr)
	}
	p.remote(t, 0, "v1#7 is in force", "data", "remove", "main", "/lists/users/frank", "--why", "has left")

	// What is refused changes nothing.
	p.remote(t, 1, "bundle.data_not_found at /lists/users/nobody", "data", "patch", "main", p.path("half.json"))
	p.remote(t, 1, "bundle.data_not_found", "data", "get", "main", "/lists/users/erin")
	p.remote(t, 1, "bundle.data_not_found", "data", "remove", "main", "/lists/users/erin")
	p.remote(t, 1, "bundle.not_writable", "data", "set", "main", "/fixed/all", "true")
	p.remote(t, 1, "bundle.delta_invalid", "data", "set", "main", "/lists/a", "{")
	p.remote(t, 1, "bundle.delta_invalid", "data", "set", "main", "/", "{}")
	p.remote(t, 1, "broken.json#/data/0/op", "data", "patch", "main", p.path("broken.json"))
	p.remote(t, 1, "larger than 1048576 bytes", "data", "set", "main", "/lists/a", "-f", p.path("large.json"))
	p.remote(t, 1, "given twice", "data", "set", "main", "/lists/a", "{}", "-f", p.path("one.json"))
	p.remote(t, 1, "no such file", "data", "patch", "main", p.path("none.json"))
	p.remote(t, 1, "accepts 2 arg", "data", "get", "main")
	p.remote(t, 2, "policy.rego:5: bundle.missing_data: ", "data", "remove", "main", "/lists/blocked")
	p.remote(t, 2, "bundle.data_not_array", "data", "set", "main", "/lists/blocked", `{"bob": true}`)
	p.remote(t, 2, `"code":"bundle.missing_data"`, "data", "remove", "main", "/lists/blocked", "-o", "json")
	p.decides(t, "dave", 0)

	p.remote(t, 0, "/lists/users/bob ticket 4711", "bundle", "show", "main")
	for _, want := range []string{"/lists/users/dave and 2 more many", "/lists/users/frank has left", "v1#7"} {
		if !strings.Contains(p.out, want) {
			t.Errorf("bundle show lacks %q:\n%s", want, p.out)
		}
	}
	stop()
	if revision, _ := p.serve(t); revision != "v1#7" {
		t.Errorf("after a restart %q is live", revision)
	}
	p.decides(t, "dave", 0)
}

// A delta bundle is built, signed, verified and pushed, and stands for no whole one.
func TestDeltaBundle(t *testing.T) {
	t.Parallel()
	p, base := newDataStand(t)
	_, stop := p.serve(t)
	defer stop()
	p.remote(t, 0, "main v1 is active", "bundle", "push", p.path("v1.tar.gz"), "--name", "main", "--activate")
	p.delta(t, "d2", base, 2, `{"data": [{"op": "replace", "path": "/fixed/all", "value": true}]}`)
	p.release(t, "d2")
	p.remote(t, 2, "push it with activate", "bundle", "push", p.path("d2.tar.gz"), "--name", "main")
	p.decides(t, "bob", 2)
	p.remote(t, 0, "main v1", "bundle", "push", p.path("d2.tar.gz"), "--name", "main", "--activate", "--why", "open it")
	p.decides(t, "bob", 0)
	p.remote(t, 0, "as before", "bundle", "push", p.path("d2.tar.gz"), "--name", "main", "--activate")
	p.remote(t, 0, "/fixed/all open it", "bundle", "show", "main")
	p.delta(t, "old", base, 2, `{"data": [{"op": "replace", "path": "/fixed/all", "value": false}]}`)
	p.release(t, "old")
	p.remote(t, 2, "bundle.delta_stale", "bundle", "push", p.path("old.tar.gz"), "--name", "main", "--activate")
	p.decides(t, "bob", 0)

	const whole = "patch.json: bundle.unsupported: a delta bundle changes the data of another one"
	for _, file := range []string{p.path("d2"), p.path("d2.tar.gz")} {
		p.want(t, 1, whole, "check", "-f", p.path("query.json"), "--bundle", file)
		p.want(t, 1, whole, "test", file)
		p.want(t, 1, whole, "bundle", "diff", file, p.path("v1"))
		p.want(t, 1, whole, "bundle", "diff", p.path("v1"), file)
		p.want(t, 1, whole, "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--bundle", "main="+file)
	}
	p.want(t, 1, whole, "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--bundle", "main="+p.path("d2.tar.gz"), "--bundle-key", p.path("k.pub.pem"))
	// What stands in the folder of one, and what its manifest says, is looked at when it is built.
	for name, files := range map[string]map[string]string{
		"bundle.unsupported":   {"policy.rego": readPolicy},
		"bundle.delta_invalid": {"patch.json": `{"data": [{"op": "remove", "path": "/a", "value": 1}]}`},
		"metadata/authzd/base": {".manifest": `{"revision":"d","roots":["lists"],"metadata":{"authzd":{"sequence":2}}}`},
		"metadata/authzd/seq":  {".manifest": `{"revision":"d","roots":["lists"],"metadata":{"authzd":{"base":"` + base + `"}}}`},
		"is not a member":      {".manifest": `{"revision":"d","roots":["lists"],"metadata":{"authzd":{"base":"` + base + `","sequence":2,"contract":1}}}`},
	} {
		folder := "bad-" + strings.ReplaceAll(name, "/", "-")
		p.delta(t, folder, base, 3, `{"data": [{"op": "remove", "path": "/lists/blocked"}]}`)
		p.write(t, folder, files)
		p.want(t, 1, name, "bundle", "build", p.path(folder), "-o", p.path("bad.tar.gz"))
	}
}
