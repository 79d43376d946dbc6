package api_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/engine"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// startBlocking is a server with policy that permits to read.
func startBlocking(t *testing.T) (*admin, authzdv1.BlockServiceClient) {
	t.Helper()
	a := startAdmin(t)
	if _, err := a.push(a.as(t, "releaser"), &authzdv1.PushBundleOptions{Name: "main", Activate: true}, a.bundle(t, "v1", 1)); err != nil {
		t.Fatal(err)
	}
	return a, authzdv1.NewBlockServiceClient(a.conn)
}

func reading(subject string) string {
	return `{"subject":{"type":"identity","id":"` + subject + `"},"action":{"name":"read"},"resource":{"type":"page","id":"p"}}`
}

// wantDecision asks at every door.
func (a *admin) wantDecision(t *testing.T, subject, decision string) {
	t.Helper()
	got, err := a.rpc.Check(a.as(t, "asker"), request(t, reading(subject)))
	if err != nil {
		t.Fatal(err)
	}
	inJSON, err := api.MarshalJSON(got)
	if err != nil {
		t.Fatal(err)
	}
	for door, body := range map[string][]byte{
		"gRPC": inJSON, "REST": a.rest(t, "asker", http.MethodPost, "/v1/check", reading(subject)).body,
		"batch": a.rest(t, "asker", http.MethodPost, "/v1/check:batch", `{"queries":[`+reading(subject)+`]}`).body,
	} {
		if !bytes.Contains(body, []byte(`"decision":"`+decision+`"`)) || bytes.Contains(body, []byte(engine.CodeBlocked)) != (decision == "DENY") {
			t.Errorf("%s: %s is not %s: %s", door, subject, decision, body)
		}
	}
	if d := got.GetDenial(); decision == "DENY" && (d == nil || strings.Contains(d.String(), "laptop") || !strings.Contains(got.GetMessageAdmin(), "laptop") || strings.Contains(got.GetMessage(), "laptop")) {
		t.Errorf("the denial is %v, message %q, for administrators %q", d, got.GetMessage(), got.GetMessageAdmin())
	}
}

func TestBlocksOverGRPC(t *testing.T) {
	t.Parallel()
	a, c := startBlocking(t)
	a.wantDecision(t, "alice", "ALLOW")
	made, err := c.CreateBlock(a.as(t, "admin"), &authzdv1.CreateBlockRequest{Kind: "subject", Value: "alice", ForSeconds: 3600, Why: "stolen laptop"})
	if err != nil {
		t.Fatal(err)
	}
	b := made.GetBlock()
	if b.GetState() != "active" || b.GetCreatedBy() != "admin" || b.GetUntil().AsTime().Sub(b.GetCreatedAt().AsTime()).Seconds() != 3600 || b.GetLiftedAt() != nil {
		t.Errorf("%v", b)
	}
	a.wantDecision(t, "alice", "DENY")
	a.wantDecision(t, "bob", "ALLOW")
	list, err := c.ListBlocks(a.as(t, "auditor"), &authzdv1.ListBlocksRequest{})
	if err != nil || len(list.GetBlocks()) != 1 || !proto.Equal(list.GetBlocks()[0], b) {
		t.Errorf("%v, %v", list, err)
	}
	lifted, err := c.LiftBlock(a.as(t, "admin"), &authzdv1.LiftBlockRequest{Id: b.GetId(), Why: "found it"})
	if err != nil || lifted.GetBlock().GetState() != "lifted" || lifted.GetBlock().GetLiftedBy() != "admin" || lifted.GetBlock().GetLiftedWhy() != "found it" {
		t.Errorf("%v, %v", lifted, err)
	}
	a.wantDecision(t, "alice", "ALLOW")
}

func TestBlocksOverREST(t *testing.T) {
	t.Parallel()
	a, c := startBlocking(t)
	made := a.rest(t, "admin", http.MethodPost, "/v1/blocks", `{"kind":"subject","value":"alice","for_seconds":60,"why":"stolen laptop"}`)
	b, _ := made.json(t)["block"].(map[string]any)
	if made.status != 200 || b["state"] != "active" {
		t.Fatalf("%d %s", made.status, made.body)
	}
	a.wantDecision(t, "alice", "DENY")
	a.wantDecision(t, "bob", "ALLOW")
	rpc, err := c.ListBlocks(a.as(t, "auditor"), &authzdv1.ListBlocksRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want, err := api.MarshalJSON(rpc)
	if err != nil {
		t.Fatal(err)
	}
	if got := a.rest(t, "auditor", http.MethodGet, "/v1/blocks", ""); got.status != 200 || cmp.Diff(string(want), strings.TrimSpace(string(got.body))) != "" {
		t.Errorf("%d %s, want %s", got.status, got.body, want)
	}
	id, _ := b["id"].(string)
	path := "/v1/blocks/" + id
	for range 2 { // the second time it is lifted already
		if got := a.rest(t, "admin", http.MethodDelete, path+"?why=found%20it", ""); got.status != 200 || !bytes.Contains(got.body, []byte(`"lifted_why":"found it"`)) {
			t.Errorf("%d %s", got.status, got.body)
		}
		a.wantDecision(t, "alice", "ALLOW")
	}
}

// A blocked tool is hidden, and a plan offers no way to it.
func TestBlockedTools(t *testing.T) {
	t.Parallel()
	a, _ := startBlocking(t)
	if got := a.rest(t, "admin", http.MethodPost, "/v1/blocks", `{"kind":"tool","value":"pay","for_seconds":60,"why":"it pays twice"}`); got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	q := query("pay", `{}`, claims(""))
	if got := a.rest(t, "asker", http.MethodPost, "/v1/check", q); !bytes.Contains(got.body, []byte(`"engine.blocked"`)) || !bytes.Contains(got.body, []byte(`"status":"unavailable"`)) {
		t.Errorf("%d %s", got.status, got.body)
	}
	got := a.rest(t, "asker", http.MethodPost, "/v1/tools:filter",
		`{"mcp":{"server":"https://mcp.example.com","transport":"http","protocol_version":"2026-07-28"},"credentials":[{"id":"p","claims":`+claims("")+`}],"tools":[{"name":"pay"}]}`)
	if got.status != 200 || !bytes.Contains(got.body, []byte(`"access":"HIDDEN"`)) {
		t.Errorf("%d %s", got.status, got.body)
	}
	plan := a.rest(t, "asker", http.MethodPost, "/v1/authorization-details:plan",
		`{"calls":[{"mcp":{"method":"tools/call","params":{"name":"pay"},"server":"https://mcp.example.com"}}],"credentials":[{"id":"p","claims":`+claims("")+`}]}`)
	if plan.status != 200 || plan.json(t)["status"] != api.PlanDenied {
		t.Errorf("%d %s", plan.status, plan.body)
	}
}

func TestBlocksRefused(t *testing.T) {
	t.Parallel()
	a, c := startBlocking(t)
	const some = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
	for name, c := range map[string]struct {
		who, method, path, body, code string
		status                        int
	}{
		"create without the right":   {"releaser", http.MethodPost, "/v1/blocks", `{}`, string(api.CodeRightMissing), 403},
		"lift without the right":     {"auditor", http.MethodDelete, "/v1/blocks/" + some, "", string(api.CodeRightMissing), 403},
		"list without the right":     {"admin", http.MethodGet, "/v1/blocks", "", string(api.CodeRightMissing), 403},
		"lift nothing":               {"admin", http.MethodDelete, "/v1/blocks/" + some, "", string(engine.CodeBlockNotFound), 404},
		"lift another spelling":      {"admin", http.MethodDelete, "/v1/blocks/" + some[1:], "", string(api.CodeNotFound), 404},
		"lift below":                 {"admin", http.MethodDelete, "/v1/blocks/" + some + "/x", "", string(api.CodeNotFound), 404},
		"read one":                   {"admin", http.MethodGet, "/v1/blocks/" + some, "", string(api.CodeMethodNotAllowed), 405},
		"unknown parameter":          {"admin", http.MethodDelete, "/v1/blocks/" + some + "?id=x", "", string(api.CodeUnknownMember), 400},
		"parameter of a list":        {"auditor", http.MethodGet, "/v1/blocks?all=1", "", string(api.CodeUnknownMember), 400},
		"nothing":                    {"admin", http.MethodPost, "/v1/blocks", `{}`, "request.invalid_value", 400},
		"no end":                     {"admin", http.MethodPost, "/v1/blocks", `{"kind":"tool","value":"pay","why":"x"}`, "request.invalid_value", 400},
		"no reason":                  {"admin", http.MethodPost, "/v1/blocks", `{"kind":"tool","value":"pay","for_seconds":1}`, "request.invalid_value", 400},
		"a reason of two lines":      {"admin", http.MethodPost, "/v1/blocks", `{"kind":"tool","value":"pay","for_seconds":1,"why":"a\nb"}`, "request.invalid_value", 400},
		"a reason to lift, likewise": {"admin", http.MethodDelete, "/v1/blocks/" + some + "?why=a%0Ab", "", "request.invalid_value", 400},
		"too long":                   {"admin", http.MethodPost, "/v1/blocks", `{"kind":"tool","value":"pay","for_seconds":2592001,"why":"x"}`, "request.invalid_value", 400},
		"unknown kind":               {"admin", http.MethodPost, "/v1/blocks", `{"kind":"planet","value":"mars","for_seconds":1,"why":"x"}`, "request.invalid_value", 400},
		"no value":                   {"admin", http.MethodPost, "/v1/blocks", `{"kind":"tool","for_seconds":1,"why":"x"}`, "request.missing_member", 400},
		"unknown member":             {"admin", http.MethodPost, "/v1/blocks", `{"kind":"tool","value":"pay","for_seconds":1,"why":"x","forever":true}`, string(api.CodeUnknownMember), 400},
	} {
		if got := a.rest(t, c.who, c.method, c.path, c.body); got.status != c.status || got.json(t)["code"] != c.code {
			t.Errorf("%s: %d %s, want %d %s", name, got.status, got.body, c.status, c.code)
		}
	}
	_, err := c.CreateBlock(a.as(t, "releaser"), &authzdv1.CreateBlockRequest{Kind: "tool", Value: "pay", ForSeconds: 1, Why: "x"})
	wantFault(t, "create without the right", err, string(api.CodeRightMissing), "")
	_, err = c.CreateBlock(a.as(t, "admin"), &authzdv1.CreateBlockRequest{Kind: "tool", Value: "pay", ForSeconds: -1, Why: "x"})
	wantFault(t, "a time before", err, "request.invalid_value", "/for_seconds")
	_, err = c.LiftBlock(a.as(t, "admin"), &authzdv1.LiftBlockRequest{Id: "../x"})
	wantFault(t, "lift nothing", err, string(engine.CodeBlockNotFound), "/id")
	list, err := c.ListBlocks(a.as(t, "auditor"), &authzdv1.ListBlocksRequest{})
	if err != nil || len(list.GetBlocks()) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestBlocksUnavailable(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	c := authzdv1.NewBlockServiceClient(d.conn)
	_, err := c.CreateBlock(t.Context(), &authzdv1.CreateBlockRequest{Kind: "tool", Value: "pay", ForSeconds: 1, Why: "x"})
	wantFault(t, "create", err, string(engine.CodeBlocksUnavailable), "")
	_, err = c.ListBlocks(t.Context(), &authzdv1.ListBlocksRequest{})
	wantFault(t, "list", err, string(engine.CodeBlocksUnavailable), "")
	got := d.do(t, http.MethodDelete, "/v1/blocks/01ARZ3NDEKTSV4RRFFQ69G5FAV", "", nil)
	if got.status != 409 || got.json(t)["code"] != string(engine.CodeBlocksUnavailable) {
		t.Errorf("%d %s", got.status, got.body)
	}
}
