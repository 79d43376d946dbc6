package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/authzd/authzd/store"
)

// startChanging is a server on which data below lists may be changed.
func startChanging(t *testing.T) *admin {
	t.Helper()
	a := startAdmin(t)
	a.activate(t, a.sign(t, archive(t,
		".manifest", `{"revision":"v1","roots":["authz","lists","fixed"],"metadata":{"authzd":{"contract":1,"untyped_tools":true,"writable_data":["lists"]}}}`,
		"policy.rego", "package authz\n\npermit[\"listed\"] := {} if input.action.name in data.lists.names\n",
		"data.json", `{"lists": {"names": ["a", "b"], "one": {"x": 1}, "a/b": 1, "~": 2}, "fixed": {"secret": 1}}`)))
	return a
}

func (a *admin) sendData(t *testing.T, who, method, path, body string, header ...string) answer {
	t.Helper()
	all := map[string]string{"Authorization": "Bearer " + a.keys[who], "Content-Type": "application/json"}
	for i := 0; i+1 < len(header); i += 2 {
		all[header[i]] = header[i+1]
	}
	return a.do(t, method, "/v1/bundles/main/data"+path, body, all)
}

// TestDataRequests: each request as data, in order, and what is there behind it.
func TestDataRequests(t *testing.T) {
	t.Parallel()
	a := startChanging(t)
	tag := func(canonical string) string { return `"` + store.Digest([]byte(canonical)) + `"` }
	for _, c := range []struct {
		name, who, method, path, body string
		header                        []string
		status                        int
		code, lists                   string
	}{
		{"another right", "auditor", http.MethodPut, "/lists/one", `1`, nil, 403, "api.right_missing", ""},
		{"reading needs another", "editor", http.MethodGet, "/lists/one", ``, nil, 403, "api.right_missing", ""},
		{"not writable", "editor", http.MethodPut, "/fixed/secret", `2`, nil, 403, "bundle.not_writable", ""},
		{"nor guessed", "editor", http.MethodPut, "/fixed/secret", `2`, []string{"If-Match", tag("2")}, 403, "bundle.not_writable", ""},
		{"above", "editor", http.MethodPut, "/", `{}`, nil, 400, "request.invalid_value", ""},
		{"an escaped parent", "editor", http.MethodPut, "/lists%2Fone", `{}`, nil, 403, "bundle.not_writable", ""},
		{"escaped twice", "editor", http.MethodPut, "/%66ixed/secret", `{}`, nil, 403, "bundle.not_writable", ""},
		{"a step back", "editor", http.MethodPut, "/lists/%2e%2e/fixed/secret", `{}`, nil, 200, "", ""},
		{"undone", "editor", http.MethodDelete, "/lists/%2e%2e", ``, nil, 200, "", ""},
		{"an empty step", "editor", http.MethodPut, "/lists//x", `{}`, nil, 400, "request.invalid_value", ""},
		{"another case", "editor", http.MethodPut, "/Lists/x", `{}`, nil, 403, "bundle.not_writable", ""},
		{"a patch of one that may not", "editor", http.MethodPatch, "", `{"data":[{"op":"upsert","path":"/lists/x","value":1},{"op":"upsert","path":"/fixed","value":1}]}`, nil, 403, "bundle.not_writable", ""},
		{"an element is set", "editor", http.MethodPut, "/lists/names/0", `"c"`, nil, 200, "", `{"a/b":1,"names":["c","b"],"one":{"x":1},"~":2}`},
		{"twice", "editor", http.MethodPut, "/lists/names/0", `"c"`, []string{"If-Match", tag(`"c"`)}, 200, "", `{"a/b":1,"names":["c","b"],"one":{"x":1},"~":2}`},
		{"one is added", "editor", http.MethodPut, "/lists/names/-", `"d"`, nil, 200, "", `{"a/b":1,"names":["c","b","d"],"one":{"x":1},"~":2}`},
		{"a slash in a name", "editor", http.MethodPut, "/lists/a%2Fb", `3`, []string{"If-Match", tag("1")}, 200, "", `{"a/b":3,"names":["c","b","d"],"one":{"x":1},"~":2}`},
		{"a tilde", "editor", http.MethodDelete, "/lists/~", ``, []string{"If-Match", "*"}, 200, "", `{"a/b":3,"names":["c","b","d"],"one":{"x":1}}`},
		{"not as it was", "editor", http.MethodPut, "/lists/one", `1`, []string{"If-Match", tag("1")}, 412, "bundle.data_changed", ""},
		{"a tag that looks like any", "editor", http.MethodPut, "/lists/one", `1`, []string{"If-Match", `"*"`}, 412, "bundle.data_changed", ""},
		{"a weak tag", "editor", http.MethodPut, "/lists/one", `1`, []string{"If-Match", "W/" + tag(`{"x":1}`)}, 412, "bundle.data_changed", ""},
		{"among several", "editor", http.MethodPut, "/lists/one", `1`, []string{"If-Match", tag("1") + ", " + tag(`{"x":1}`)}, 200, "", ""},
		{"only a new one", "editor", http.MethodPut, "/lists/one", `2`, []string{"If-None-Match", "*"}, 412, "bundle.data_changed", ""},
		{"nothing there", "editor", http.MethodDelete, "/lists/none", ``, nil, 404, "bundle.data_not_found", ""},
	} {
		got := a.sendData(t, c.who, c.method, c.path, c.body, c.header...)
		if got.status != c.status || c.code != "" && got.json(t)["code"] != c.code {
			t.Errorf("%s: %d %s", c.name, got.status, got.body)
		}
		if c.lists == "" {
			continue
		}
		now := a.sendData(t, "auditor", http.MethodGet, "/lists", "")
		if now.header.Get("Etag") != tag(c.lists) {
			t.Errorf("%s: %s", c.name, now.body)
		}
	}
	got := a.sendData(t, "auditor", http.MethodGet, "/fixed", "")
	if strings.TrimSpace(string(got.body)) != `{"secret":1}` {
		t.Errorf("%s", got.body)
	}
	if again := a.sendData(t, "auditor", http.MethodGet, "/fixed", "", "If-None-Match", got.header.Get("Etag")); again.status != 304 || len(again.body) > 0 {
		t.Errorf("%d %s", again.status, again.body)
	}
}
