package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/bundles/follow"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// listed is a signed bundle whose lists may be changed, and which permits who is in them.
func (s *bundleSigner) listed(t *testing.T) []byte {
	t.Helper()
	return s.sign(t, archive(t,
		".manifest", `{"revision":"v1","roots":["authz","lists","fixed"],"metadata":{"authzd":{"contract":1,"untyped_tools":true,"sequence":1,"writable_data":["lists"]}}}`,
		"policy.rego", "package authz\n\npermit[\"listed\"] := {} if data.lists.permitted[input.action.name]\n\nforbid[\"blocked\"] := {} if input.subject.id in data.lists.blocked\n",
		"data.json", `{"lists": {"permitted": {"write": true}, "blocked": []}, "fixed": {"n": 1}}`,
	))
}

func startListed(t *testing.T, change ...func(*api.Options)) *admin {
	t.Helper()
	a := startAdmin(t, change...)
	if _, err := a.push(a.as(t, "releaser"), &authzdv1.PushBundleOptions{Name: "main", Activate: true}, a.listed(t)); err != nil {
		t.Fatal(err)
	}
	return a
}

const dataURL = "/v1/bundles/main/data"

// data asks for a document, or to change it, with headers by name and value in turn.
func (a *admin) data(t *testing.T, who, method, path, body string, headers ...string) answer {
	t.Helper()
	header := map[string]string{"Authorization": "Bearer " + a.keys[who]}
	for i := 0; i+1 < len(headers); i += 2 {
		header[headers[i]] = headers[i+1]
	}
	return a.do(t, method, dataURL+path, body, header)
}

func (a *admin) allowed(t *testing.T, action string) bool {
	t.Helper()
	got, err := a.rpc.Check(a.as(t, "asker"), request(t, `{"subject":{"type":"identity","id":"a"},"action":{"name":"`+action+`"},"resource":{"type":"page","id":"p"}}`))
	if err != nil {
		t.Fatal(err)
	}
	return got.GetDecision() == authzdv1.Decision_DECISION_ALLOW
}

// A document is set, read, changed among others and removed, and each answer is in
// force when it comes.
func TestDataOverREST(t *testing.T) {
	t.Parallel()
	a := startListed(t)
	if a.allowed(t, "read") || !a.allowed(t, "write") {
		t.Error("before the change")
	}
	got := a.data(t, "editor", http.MethodPut, "/lists/permitted/read?why=ticket%204711", "true", "Content-Type", "application/json")
	if m := got.json(t); got.status != 200 || m["revision"] != "v1#1" || fmt.Sprint(m["number"]) != "1" || got.header.Get("ETag") != fmt.Sprintf(`"%v"`, m["tag"]) {
		t.Fatalf("%d %v %s", got.status, got.header, got.body)
	}
	tag := got.header.Get("ETag")
	if !a.allowed(t, "read") {
		t.Error("the change is not in force")
	}
	got = a.data(t, "auditor", http.MethodGet, "/lists/permitted/read", "")
	if got.status != 200 || string(got.body) != "true\n" || got.header.Get("ETag") != tag || got.header.Get("X-Revision") != "v1#1" || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("%d %v %s", got.status, got.header, got.body)
	}
	got = a.data(t, "auditor", http.MethodHead, "/lists/permitted/read", "")
	if got.status != 200 || len(got.body) != 0 || got.header.Get("ETag") != tag || got.header.Get("Content-Length") != "5" {
		t.Errorf("HEAD: %d %v %q", got.status, got.header, got.body)
	}
	for _, known := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
		got = a.data(t, "auditor", http.MethodGet, "/lists/permitted/read", "", "If-None-Match", known)
		if got.status != http.StatusNotModified || len(got.body) != 0 || got.header.Get("ETag") != tag {
			t.Errorf("If-None-Match %s: %d %v %q", known, got.status, got.header, got.body)
		}
	}
	if got = a.data(t, "auditor", http.MethodGet, "/lists/permitted/read", "", "If-None-Match", `"x"`); got.status != 200 {
		t.Errorf("another tag: %d", got.status)
	}
	got = a.data(t, "editor", http.MethodPatch, "?why=many", `{"data":[{"op":"upsert","path":"/lists/blocked/-","value":"a"},{"op":"remove","path":"/lists/permitted/write"}]}`)
	if got.status != 200 || got.json(t)["revision"] != "v1#2" || got.header.Get("ETag") != "" || a.allowed(t, "read") {
		t.Errorf("PATCH: %d %v %s", got.status, got.header, got.body)
	}
	if got = a.data(t, "editor", http.MethodPut, "/lists/blocked", "[]"); got.status != 200 || !a.allowed(t, "read") {
		t.Errorf("no Content-Type, as curl -d would not send: %d %s", got.status, got.body)
	}
	got = a.data(t, "editor", http.MethodDelete, "/lists/permitted/read?why=over", "")
	if got.status != 200 || got.json(t)["revision"] != "v1#4" || got.header.Get("ETag") != "" || a.allowed(t, "read") {
		t.Errorf("DELETE: %d %v %s", got.status, got.header, got.body)
	}
	if got = a.data(t, "auditor", http.MethodGet, "/lists/permitted/read", ""); got.status != 404 || got.json(t)["code"] != string(bundles.CodeDataNotFound) {
		t.Errorf("what is removed: %d %s", got.status, got.body)
	}
	shown, err := a.bundles.GetBundle(a.as(t, "auditor"), &authzdv1.GetBundleRequest{Name: "main"})
	if err != nil || shown.GetBundles()[0].GetChanges() != 4 {
		t.Fatal(shown, err)
	}
	var events []string
	for _, e := range shown.GetEvents()[:4] {
		events = append(events, strings.Join([]string{e.GetWhat(), e.GetWho(), e.GetPath(), e.GetWhy(), e.GetRevision()}, "|"))
	}
	want := "data|editor|/lists/permitted/read|over|v1#4 data|editor|/lists/blocked||v1#3 " +
		"data|editor|/lists/blocked/- and 1 more|many|v1#2 data|editor|/lists/permitted/read|ticket 4711|v1#1"
	if got := strings.Join(events, " "); got != want {
		t.Errorf("recorded:\n%s\nwant\n%s", got, want)
	}
}

// The steps of a path are member names, whatever they hold.
func TestDataPaths(t *testing.T) {
	t.Parallel()
	a := startListed(t)
	for escaped, pointer := range map[string]string{
		"/lists/a%2Fb": "/lists/a~1b", "/lists/~": "/lists/~0", "/lists/~1": "/lists/~01", "/lists/%7E0/x": "/lists/~00/x",
		"/lists/%20": "/lists/ ", "/lists/%C3%A9": "/lists/é", "/lists/a.b:c%25": "/lists/a.b:c%", "/lists/data/archive": "/lists/data/archive",
		"/lists/%2Fdata%2F": "/lists/~1data~1", "/lists/...": "/lists/...", "/lists/%2E": "/lists/.", "/lists/%22%0A": "/lists/\"\n",
	} {
		value := fmt.Sprintf(`{"from":%q}`, pointer)
		if got := a.data(t, "editor", http.MethodPut, escaped, value); got.status != 200 {
			t.Errorf("%s: %d %s", escaped, got.status, got.body)
		}
		got, err := a.bundles.GetData(a.as(t, "auditor"), &authzdv1.GetDataRequest{Name: "main", Path: pointer})
		if err != nil || string(got.GetValue()) != value {
			t.Errorf("%s: %v, %v", pointer, got, err)
		}
		rest := a.data(t, "auditor", http.MethodGet, escaped, "")
		if string(rest.body) != value+"\n" || rest.header.Get("ETag") != `"`+got.GetTag()+`"` || rest.header.Get("X-Revision") != got.GetRevision() {
			t.Errorf("%s: %d %v %s", escaped, rest.status, rest.header, rest.body)
		}
	}
	if got := a.data(t, "auditor", http.MethodGet, "/lists/permitted", ""); string(got.body) != "{\"write\":true}\n" {
		t.Errorf("a neighbour was changed: %s", got.body)
	}
	for path, c := range map[string]struct {
		code   api.Code
		status int
	}{
		"":                        {api.CodeInvalidValue, 400},
		"/":                       {api.CodeInvalidValue, 400},
		"/lists/":                 {api.CodeInvalidValue, 400},
		"/lists//permitted":       {api.CodeInvalidValue, 400},
		"//lists":                 {api.CodeInvalidValue, 400},
		"%2Flists":                {api.CodeNotFound, 404},
		"x/lists":                 {api.CodeNotFound, 404},
		":lists":                  {api.CodeNotFound, 404},
		"/lists?pretty=1":         {api.CodeUnknownMember, 400},
		"/lists?why=a":            {api.CodeUnknownMember, 400},
		"/lists?%zz":              {api.CodeSyntax, 400},
		"/lists/nothing":          {api.Code(bundles.CodeDataNotFound), 404},
		"/lists/blocked/0":        {api.Code(bundles.CodeDataNotFound), 404},
		"/lists/permitted/write/": {api.CodeInvalidValue, 400},
		"/lists/%FF":              {api.CodeInvalidValue, 400},
	} {
		got := a.data(t, "auditor", http.MethodGet, path, "")
		if got.status != c.status || got.json(t)["code"] != string(c.code) {
			t.Errorf("GET %s: %d %s, want %d %s", path, got.status, got.body, c.status, c.code)
		}
	}
}

// What is refused changes nothing, by either door.
func TestDataRefused(t *testing.T) {
	t.Parallel()
	a := startListed(t)
	large := `"` + strings.Repeat("x", bundles.MaxDeltaBytes) + `"`
	deep := strings.Repeat("[", 300) + strings.Repeat("]", 300)
	many := `{"data":[` + strings.Repeat(`{"op":"upsert","path":"/lists/a","value":1},`, bundles.MaxEdits) + `{"op":"upsert","path":"/lists/a","value":1}]}`
	edit := func(op, path, value string) []*authzdv1.DataEdit {
		return []*authzdv1.DataEdit{{Op: op, Path: path, Value: []byte(value)}}
	}
	pair := `{"data":[{"op":"upsert","path":"/lists/a","value":1},{"op":"upsert","path":"/lists/b","value":1}]}`
	two := append(edit("upsert", "/lists/a", "1"), edit("upsert", "/lists/b", "1")...)
	for name, c := range map[string]struct {
		method, path, body string
		headers            []string
		rpc                *authzdv1.ChangeDataRequest // the same, if it can be said there
		code               string
		status             int
	}{
		"a form":          {http.MethodPut, "/lists/a", "1", []string{"Content-Type", "text/plain"}, nil, string(api.CodeContentType), 415},
		"a patch of text": {http.MethodPatch, "", `{"data":[{"op":"upsert","path":"/lists/a","value":1}]}`, []string{"Content-Type", "text/plain"}, nil, string(api.CodeContentType), 415},
		// RFC 6902 says other things by "add" and "replace".
		"a JSON Patch":    {http.MethodPatch, "", `[{"op":"add","path":"/lists/a","value":1}]`, []string{"Content-Type", "application/json-patch+json"}, nil, string(api.CodeContentType), 415},
		"a list of edits": {http.MethodPatch, "", `[{"op":"upsert","path":"/lists/a","value":1}]`, nil, nil, string(bundles.CodeDeltaInvalid), 422},
		"too large":       {http.MethodPut, "/lists/a", large, nil, nil, string(api.CodeTooLarge), 413},
		"edits too large": {http.MethodPatch, "", `{"data":[{"op":"upsert","path":"/lists/a","value":` + large + `}]}`, nil, nil, string(api.CodeTooLarge), 413},
		"value too large": {rpc: &authzdv1.ChangeDataRequest{Edits: edit("upsert", "/lists/a", large)}, code: string(bundles.CodeTooLarge)},
		"too many edits":  {http.MethodPatch, "", many, nil, &authzdv1.ChangeDataRequest{Edits: manyEdits()}, string(bundles.CodeTooLarge), 413},
		"no JSON":         {http.MethodPut, "/lists/a", "{", nil, &authzdv1.ChangeDataRequest{Edits: edit("upsert", "/lists/a", "{")}, string(bundles.CodeDeltaInvalid), 422},
		"nothing":         {http.MethodPut, "/lists/a", "", nil, &authzdv1.ChangeDataRequest{Edits: edit("upsert", "/lists/a", "")}, string(bundles.CodeDeltaInvalid), 422},
		"more behind":     {http.MethodPut, "/lists/a", "1 2", nil, &authzdv1.ChangeDataRequest{Edits: edit("upsert", "/lists/a", "1 2")}, string(bundles.CodeDeltaInvalid), 422},
		"a key twice":     {http.MethodPut, "/lists/a", `{"a":1,"a":1}`, nil, &authzdv1.ChangeDataRequest{Edits: edit("upsert", "/lists/a", `{"a":1,"a":1}`)}, string(bundles.CodeDeltaInvalid), 422},
		"too deep":        {http.MethodPut, "/lists/a", deep, nil, &authzdv1.ChangeDataRequest{Edits: edit("upsert", "/lists/a", deep)}, string(bundles.CodeDeltaInvalid), 422},
		"a huge number":   {http.MethodPut, "/lists/a", "1e999999999", nil, &authzdv1.ChangeDataRequest{Edits: edit("upsert", "/lists/a", "1e999999999")}, string(bundles.CodeDeltaInvalid), 422},
		"not UTF-8":       {http.MethodPut, "/lists/%FF", "1", nil, nil, string(api.CodeInvalidValue), 400},
		"an op twice":     {http.MethodPatch, "", `{"data":[{"op":"upsert","op":"remove","path":"/lists/a","value":1}]}`, nil, nil, string(bundles.CodeDeltaInvalid), 422},
		"another op":      {http.MethodPatch, "", `{"data":[{"op":"add","path":"/lists/a","value":1}]}`, nil, &authzdv1.ChangeDataRequest{Edits: edit("add", "/lists/a", "1")}, string(bundles.CodeDeltaInvalid), 422},
		"no edits":        {http.MethodPatch, "", `{"data":[]}`, nil, nil, string(bundles.CodeDeltaInvalid), 422},
		"no edits by RPC": {rpc: &authzdv1.ChangeDataRequest{}, code: string(api.CodeMissingMember)},
		"the root":        {http.MethodPatch, "", `{"data":[{"op":"upsert","path":"/","value":{}}]}`, nil, &authzdv1.ChangeDataRequest{Edits: edit("upsert", "/", "{}")}, string(bundles.CodeDeltaInvalid), 422},
		"a bad pointer":   {http.MethodPatch, "", `{"data":[{"op":"upsert","path":"/lists/~2","value":{}}]}`, nil, &authzdv1.ChangeDataRequest{Edits: edit("upsert", "/lists/~2", "{}")}, string(bundles.CodeDeltaInvalid), 422},
		"PUT of all":      {http.MethodPut, "", "{}", nil, nil, string(api.CodeInvalidValue), 400},
		"DELETE of all":   {http.MethodDelete, "/", "", nil, nil, string(api.CodeInvalidValue), 400},
		"PATCH of one":    {http.MethodPatch, "/lists", `{"data":[{"op":"upsert","path":"/lists/a","value":1}]}`, nil, nil, string(api.CodeInvalidValue), 400},
		"DELETE and body": {http.MethodDelete, "/lists/blocked", "1", nil, nil, string(api.CodeInvalidValue), 400},
		"empty step":      {http.MethodPut, "/lists//a", "1", nil, &authzdv1.ChangeDataRequest{Edits: edit("upsert", "/lists//a", "1")}, "", 400},
		"trailing slash":  {http.MethodPut, "/lists/a/", "1", nil, nil, string(api.CodeInvalidValue), 400},
		"an option":       {http.MethodPut, "/lists/a?force=true", "1", nil, nil, string(api.CodeUnknownMember), 400},
		"why twice":       {http.MethodPut, "/lists/a?why=a&why=b", "1", nil, nil, string(api.CodeDuplicateKey), 400},
		"why has lines":   {http.MethodPut, "/lists/a?why=a%0Ab", "1", nil, &authzdv1.ChangeDataRequest{Edits: edit("upsert", "/lists/a", "1"), Why: "a\nb"}, string(api.CodeInvalidValue), 400},
		"POST":            {http.MethodPost, "/lists/a", "1", []string{"Content-Type", "application/json"}, nil, string(api.CodeMethodNotAllowed), 405},
		"not writable":    {http.MethodPut, "/fixed/n", "2", nil, &authzdv1.ChangeDataRequest{Edits: edit("upsert", "/fixed/n", "2")}, string(bundles.CodeNotWritable), 403},
		"another root":    {http.MethodPut, "/lists2", "2", nil, &authzdv1.ChangeDataRequest{Edits: edit("upsert", "/lists2", "2")}, string(bundles.CodeNotWritable), 403},
		"not there":       {http.MethodDelete, "/lists/a", "", nil, &authzdv1.ChangeDataRequest{Edits: edit("remove", "/lists/a", "")}, string(bundles.CodeDataNotFound), 404},
		"policy needs it": {http.MethodDelete, "/lists/blocked", "", nil, &authzdv1.ChangeDataRequest{Edits: edit("remove", "/lists/blocked", "")}, "bundle.missing_data", 422},
		"a weak tag":      {http.MethodPut, "/lists/blocked", "[]", []string{"If-Match", `W/"x"`}, nil, string(bundles.CodeDataChanged), 412},
		"no quotes":       {http.MethodPut, "/lists/blocked", "[]", []string{"If-Match", "x"}, nil, string(api.CodeInvalidValue), 400},
		"a quoted star":   {http.MethodPut, "/lists/blocked", "[]", []string{"If-Match", `"*"`}, nil, string(bundles.CodeDataChanged), 412},
		"an empty tag":    {http.MethodPut, "/lists/blocked", "[]", []string{"If-Match", ""}, nil, string(api.CodeInvalidValue), 400},
		"none but one":    {http.MethodPut, "/lists/blocked", "[]", []string{"If-None-Match", `"x"`}, nil, string(api.CodeInvalidValue), 400},
		"both conditions": {http.MethodPut, "/lists/blocked", "[]", []string{"If-Match", "*", "If-None-Match", "*"}, &authzdv1.ChangeDataRequest{Edits: edit("upsert", "/lists/blocked", "[]"), IfMatch: "*", IfAbsent: true}, string(api.CodeInvalidValue), 400},
		"another tag":     {http.MethodPut, "/lists/blocked", "[]", []string{"If-Match", `"sha256:00"`}, &authzdv1.ChangeDataRequest{Edits: edit("upsert", "/lists/blocked", "[]"), IfMatch: "sha256:00"}, string(bundles.CodeDataChanged), 412},
		"any, and none":   {http.MethodPut, "/lists/a", "1", []string{"If-Match", "*"}, &authzdv1.ChangeDataRequest{Edits: edit("upsert", "/lists/a", "1"), IfMatch: "*"}, string(bundles.CodeDataChanged), 412},
		"there already":   {http.MethodPut, "/lists/blocked", "[]", []string{"If-None-Match", "*"}, &authzdv1.ChangeDataRequest{Edits: edit("upsert", "/lists/blocked", "[]"), IfAbsent: true}, string(bundles.CodeDataChanged), 412},
		"a tag for two":   {http.MethodPatch, "", pair, []string{"If-Match", "*"}, &authzdv1.ChangeDataRequest{Edits: two, IfMatch: "*"}, string(api.CodeInvalidValue), 400},
	} {
		if c.rpc != nil {
			c.rpc.Name = "main"
			if _, err := a.bundles.ChangeData(a.as(t, "editor"), c.rpc); err == nil || c.code != "" && reasonOf(t, err) != c.code {
				t.Errorf("%s by gRPC: %v, want %s", name, err, c.code)
			}
		}
		if c.method == "" {
			continue
		}
		got := a.data(t, "editor", c.method, c.path, c.body, c.headers...)
		if got.status != c.status || c.code != "" && got.json(t)["code"] != c.code {
			t.Errorf("%s: %d %s, want %d %s", name, got.status, got.body, c.status, c.code)
		}
	}
	// A report says what policy makes of it.
	if got := a.data(t, "editor", http.MethodDelete, "/lists/blocked", ""); !strings.Contains(string(got.body), "bundle.missing_data") {
		t.Errorf("no report: %s", got.body)
	}
	if got := a.data(t, "auditor", http.MethodGet, "/lists", ""); string(got.body) != "{\"permitted\":{\"write\":true},\"blocked\":[]}\n" || got.header.Get("X-Revision") != "v1" {
		t.Errorf("refused, and yet: %v %s", got.header, got.body)
	}
	for _, name := range []string{"other", "a/b", ""} {
		_, err := a.bundles.ChangeData(a.as(t, "editor"), &authzdv1.ChangeDataRequest{Name: name, Edits: edit("upsert", "/lists/a", "1")})
		if got := reasonOf(t, err); got != string(bundles.CodeNotFound) && got != string(bundles.CodeNameInvalid) {
			t.Errorf("%q: %v", name, err)
		}
		if _, err = a.bundles.GetData(a.as(t, "auditor"), &authzdv1.GetDataRequest{Name: name, Path: "/lists"}); reasonOf(t, err) != string(bundles.CodeNotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func manyEdits() []*authzdv1.DataEdit {
	out := make([]*authzdv1.DataEdit, bundles.MaxEdits+1)
	for i := range out {
		out[i] = &authzdv1.DataEdit{Op: "upsert", Path: "/lists/a", Value: []byte("1")}
	}
	return out
}

// Conditions that are met, by both doors.
func TestDataConditions(t *testing.T) {
	t.Parallel()
	a := startListed(t)
	ctx := a.as(t, "editor")
	got := a.data(t, "editor", http.MethodPut, "/lists/a", "1", "If-None-Match", "*")
	first := got.header.Get("ETag")
	if got.status != 200 || first == "" {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if got = a.data(t, "editor", http.MethodPut, "/lists/a", "2", "If-Match", `"sha256:00", `+first); got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if again := a.data(t, "editor", http.MethodPut, "/lists/a", "3", "If-Match", first); again.status != http.StatusPreconditionFailed {
		t.Errorf("a lost update: %d %s", again.status, again.body)
	}
	set := func(value, tag string, absent bool) (*authzdv1.ChangeDataResponse, error) {
		return a.bundles.ChangeData(ctx, &authzdv1.ChangeDataRequest{
			Name: "main", Edits: []*authzdv1.DataEdit{{Op: "upsert", Path: "/lists/a", Value: []byte(value)}}, IfMatch: tag, IfAbsent: absent,
		})
	}
	done, err := set("3", strings.Trim(got.header.Get("ETag"), `"`), false)
	if err != nil {
		t.Fatal(err)
	}
	if got := a.data(t, "editor", http.MethodDelete, "/lists/a", "", "If-Match", `"`+done.GetTag()+`"`); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
	if done, err = set("4", "", true); err != nil || done.GetNumber() != 5 {
		t.Errorf("%v, %v", done, err)
	}
	if got := a.data(t, "editor", http.MethodPatch, "", `{"data":[{"op":"replace","path":"/lists/a","value":5}]}`, "If-Match", "*"); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// Each method takes its right, which is enough, and no other one.
func TestDataRights(t *testing.T) {
	t.Parallel()
	a := startListed(t)
	change := &authzdv1.ChangeDataRequest{Name: "main", Edits: []*authzdv1.DataEdit{{Op: "upsert", Path: "/lists/a", Value: []byte("1")}}}
	for who := range a.keys {
		mayChange, mayRead := who == "editor", who == "auditor" || who == "releaser"
		want := func(may bool) int {
			if may {
				return 200
			}
			return 403
		}
		for _, c := range []struct {
			method, path, body string
			may                bool
		}{
			{http.MethodPut, "/lists/a", "1", mayChange},
			{http.MethodPatch, "", `{"data":[{"op":"upsert","path":"/lists/a","value":1}]}`, mayChange},
			{http.MethodDelete, "/lists/a", "", mayChange},
			{http.MethodGet, "/lists", "", mayRead},
			{http.MethodHead, "/lists", "", mayRead},
		} {
			if got := a.data(t, who, c.method, c.path, c.body); got.status != want(c.may) {
				t.Errorf("%s %s: %d %s", who, c.method, got.status, got.body)
			}
		}
		if _, err := a.bundles.ChangeData(a.as(t, who), change); (err == nil) != mayChange || err != nil && reasonOf(t, err) != string(api.CodeRightMissing) {
			t.Errorf("%s changes: %v", who, err)
		}
		if _, err := a.bundles.GetData(a.as(t, who), &authzdv1.GetDataRequest{Name: "main", Path: "/lists"}); (err == nil) != mayRead || err != nil && reasonOf(t, err) != string(api.CodeRightMissing) {
			t.Errorf("%s reads: %v", who, err)
		}
	}
	if got := a.do(t, http.MethodPut, dataURL+"/lists/a", "1", nil); got.status != http.StatusUnauthorized {
		t.Errorf("without a key: %d %s", got.status, got.body)
	}
	// A page of another origin does not change data with a key that it has found.
	if got := a.data(t, "editor", http.MethodPut, "/lists/a", "1", "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"); got.status != 403 {
		t.Errorf("from another origin: %d %s", got.status, got.body)
	}
}

// What is set is read again letter by letter, and has one tag by both doors.
func TestDataIsExact(t *testing.T) {
	t.Parallel()
	a := startListed(t)
	for _, text := range []string{
		"12345678901234567890.10", "1e3", "-0.0", "9007199254740993", `{"n":1.50,"list":[1,1.0,10e-1],"z":null}`, `"<&>\u2028é😀\u0001"`, `{"b":1,"a":2}`, "[]", `{"":{"":""}}`, "null",
	} {
		put := a.data(t, "editor", http.MethodPut, "/lists/a", text, "Content-Type", "application/json; charset=utf-8")
		got := a.data(t, "auditor", http.MethodGet, "/lists/a", "")
		rpc, err := a.bundles.GetData(a.as(t, "auditor"), &authzdv1.GetDataRequest{Name: "main", Path: "/lists/a"})
		if put.status != 200 || err != nil || got.header.Get("ETag") != put.header.Get("ETag") || `"`+rpc.GetTag()+`"` != put.header.Get("ETag") || string(rpc.GetValue())+"\n" != string(got.body) {
			t.Errorf("%s: %d %s, %s, %v, %v", text, put.status, put.body, got.body, rpc, err)
		}
		if want := strings.ReplaceAll(text, `\u2028`, "\u2028"); string(got.body) != want+"\n" && string(got.body) != text+"\n" {
			t.Errorf("%s came back as %s", text, got.body)
		}
		set, err := a.bundles.ChangeData(a.as(t, "editor"), &authzdv1.ChangeDataRequest{Name: "main", Edits: []*authzdv1.DataEdit{{Op: "replace", Path: "/lists/a", Value: []byte(text)}}})
		if err != nil || set.GetTag() != rpc.GetTag() || set.GetDigest() != rpc.GetDigest() || set.GetNumber() != rpc.GetNumber()+1 {
			t.Errorf("%s: %v, %v", text, set, err)
		}
	}
	// The whole is larger than what is handed out at once, its parts are not.
	half := `"` + strings.Repeat("x", bundles.MaxDeltaBytes-100) + `"`
	for _, name := range []string{"x", "y"} {
		if got := a.data(t, "editor", http.MethodPut, "/lists/large/"+name, half); got.status != 200 {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	if got := a.data(t, "auditor", http.MethodGet, "/lists/large", ""); got.status != 413 || got.json(t)["code"] != string(bundles.CodeTooLarge) {
		t.Errorf("%d %.200s", got.status, got.body)
	}
	if got := a.data(t, "auditor", http.MethodGet, "/lists/large/y", ""); got.status != 200 || string(got.body) != half+"\n" {
		t.Errorf("%d %.200s", got.status, got.body)
	}
}

// What is as another server has it is not changed here.
func TestDataFollowed(t *testing.T) {
	t.Parallel()
	a := startListed(t, func(o *api.Options) {
		var err error
		// It is not asked: nobody runs it.
		o.Follow, err = follow.New(follow.Options{Registry: o.Bundles, Sources: []follow.Source{{Name: "main", URL: "http://127.0.0.1:1"}}})
		if err != nil {
			t.Fatal(err)
		}
	})
	if got := a.data(t, "editor", http.MethodPut, "/lists/a", "1"); got.status != 409 || got.json(t)["code"] != string(bundles.CodeFollowed) {
		t.Errorf("%d %s", got.status, got.body)
	}
	_, err := a.bundles.ChangeData(a.as(t, "editor"), &authzdv1.ChangeDataRequest{Name: "main", Edits: []*authzdv1.DataEdit{{Op: "upsert", Path: "/lists/a", Value: []byte("1")}}})
	if reasonOf(t, err) != string(bundles.CodeFollowed) {
		t.Error(err)
	}
	if got := a.data(t, "auditor", http.MethodGet, "/lists/blocked", ""); got.status != 200 {
		t.Errorf("it is not read: %d %s", got.status, got.body)
	}
}

// Without a data directory no data is changed, and the server says so.
func TestDataUnavailable(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	for method, body := range map[string]string{http.MethodGet: "", http.MethodPut: "1", http.MethodDelete: ""} {
		if got := d.do(t, method, dataURL+"/lists/a", body, nil); got.status != 409 || got.json(t)["code"] != string(bundles.CodePushUnavailable) {
			t.Errorf("%s: %d %s", method, got.status, got.body)
		}
	}
}
