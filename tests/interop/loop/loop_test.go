// Package loop_test closes the loop of a denial with a real authorization
// server: a call is denied, its hint is asked for word for word, a user
// consents, and the token that comes back makes the call pass. What is
// narrower, wider, for something or somebody else, or over, stays refused.
package loop_test

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authzd/authzd/tests/interop"
)

const (
	mcpServer    = "https://mcp.example.com"
	otherServer  = "https://other.example.com"
	opaqueServer = "https://mcp.example.com/opaque"
	agent        = "https://agent.example/cimd.json"
	otherAgent   = "https://other-agent.example/cimd.json"
	user         = "alice@example.com"
)

// binDir holds authzd, nodeProgram runs the authorization server.
var binDir, nodeProgram string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(prepareAndRun(m))
}

func prepareAndRun(m *testing.M) int {
	if testing.Short() {
		return m.Run() // every test skips itself
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var err error
	if nodeProgram, err = interop.Node(ctx, ".."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "authzd-loop-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	build := exec.CommandContext(ctx, "go", "build", "-o", dir, "../../../cmd/authzd")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build authzd:", err)
		return 1
	}
	binDir = dir
	return m.Run()
}

func skipIfShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("black-box tests are skipped with -short")
	}
}

// startAuthzd serves one bundle until the test ends, with a key for references.
func startAuthzd(t *testing.T, bundle string, more ...string) *pdp {
	t.Helper()
	key := filepath.Join(t.TempDir(), "reference.key")
	if err := os.WriteFile(key, []byte(strings.Repeat("k", 43)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{
		"serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--bundle", bundle, "--reference-key", key,
	}, more...)
	cmd := exec.CommandContext(t.Context(), filepath.Join(binDir, "authzd"), args...)
	log := &logBuffer{}
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatalf("no ready line: %v\n%s", err, log)
	}
	var ready struct{ Event, HTTP string }
	if err := json.Unmarshal(line, &ready); err != nil || ready.Event != "ready" {
		t.Fatalf("ready line %q: %v", line, err)
	}
	return &pdp{address: ready.HTTP}
}

// world is one type's part of the loop.
type world struct {
	as *authServer
	rs *resourceServer
	// call is what the agent wants to do, first the scopes it has from the start.
	call  call
	first string
}

func payments(t *testing.T) *world {
	t.Helper()
	as := startAuthServer(t, "--types", "../../../policies/examples/payments/authzd_types/payment_initiation/data.json")
	return &world{
		as:    as,
		rs:    &resourceServer{id: mcpServer, as: as, pdp: startAuthzd(t, "payments=../../../policies/examples/payments")},
		call:  payment("123.50", "EUR", "DE89370400440532013000"),
		first: "payments:read",
	}
}

func files(t *testing.T) *world {
	t.Helper()
	as := startAuthServer(t, "--types", "testdata/files/authzd_types/file_access/data.json",
		"--types", "testdata/files/authzd_types/storage_quota/data.json")
	return &world{
		as:    as,
		rs:    &resourceServer{id: mcpServer, as: as, pdp: startAuthzd(t, "files=testdata/files")},
		call:  file("files.write", "/projects/a/notes.txt"),
		first: "payments:read",
	}
}

func payment(amount, currency, account string) call {
	return call{"payments.initiate", fmt.Sprintf(`{"amount":%q,"currency":%q,"creditorAccount":%q}`, amount, currency, account)}
}

func file(tool, path string) call { return call{tool, fmt.Sprintf(`{"path":%q}`, path)} }

// denied makes the call with a token that has scopes only and returns what the
// client is told to ask for.
func (w *world) denied(t *testing.T, c *client, called call) (remediation, ask) {
	t.Helper()
	first := c.obtain(t, ask{Scope: w.first, Resource: w.rs.id}, approve)
	refused := w.rs.serve(t, called, first.Access)
	if refused.Decision.Decision != "DENY" || refused.Decision.Remediation.Status != "available" {
		t.Fatalf("a token with scopes only: %+v", refused.Decision)
	}
	r, scope := refused.challenge(t)
	return r, ask{Details: string(r.Details), Scope: scope, Resource: w.rs.id}
}

// TestLoop is the whole way, for two types.
func TestLoop(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	for name, start := range map[string]func(*testing.T) *world{"payments": payments, "files": files} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t)
			c := newClient(t, w.as, agent, user)

			r, wanted := w.denied(t, c, w.call)
			if r.Reference == "" {
				t.Error("the hint has no authorization_reference, although a key is configured")
			}
			// The client keeps the token under the reference (draft section 4.3).
			held := map[string]string{r.Reference: c.obtain(t, wanted, approve).Access}

			// The same call is denied with the same reference, and the token kept
			// under it is the one that passes.
			again, _ := w.denied(t, newClient(t, w.as, agent, user), w.call)
			bearer, kept := held[again.Reference]
			if !kept {
				t.Fatalf("reference %q, then %q for the same call", r.Reference, again.Reference)
			}
			passed := w.rs.serve(t, w.call, bearer)
			if passed.Status != http.StatusOK || passed.Decision.Decision != "ALLOW" {
				t.Fatalf("the retry with what was asked for: %+v", passed.Decision)
			}
		})
	}
}

// TestReference: equal needs have one reference however they are spelled, and
// needs that differ have two.
func TestReference(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	w := payments(t)
	c := newClient(t, w.as, agent, user)
	first, _ := w.denied(t, c, w.call)
	respelled, _ := w.denied(t, c, payment("123.5", "EUR", "DE89370400440532013000"))
	more, _ := w.denied(t, c, payment("123.51", "EUR", "DE89370400440532013000"))
	payee, _ := w.denied(t, c, payment("123.50", "EUR", "DE75512108001245126199"))
	if first.Reference == "" || respelled.Reference != first.Reference {
		t.Errorf("%q and %q for one need", first.Reference, respelled.Reference)
	}
	if more.Reference == first.Reference || payee.Reference == first.Reference || payee.Reference == more.Reference {
		t.Errorf("%q, %q, %q for three needs", first.Reference, more.Reference, payee.Reference)
	}
}

// want is how a call has to end.
type want struct {
	decision string
	status   string // of the remediation, if it matters
	detail   string // one of the details of the reasons, or a reason's code
}

func (w want) judge(t *testing.T, d decision) {
	t.Helper()
	if d.Decision != w.decision || w.status != "" && d.Remediation.Status != w.status {
		t.Errorf("%s, remediation %s, want %s, %s: %+v", d.Decision, d.Remediation.Status, w.decision, w.status, d.Reasons)
	}
	var said []string
	for _, r := range d.Reasons {
		said = append(append(said, r.Code), r.Detail...)
	}
	if w.detail != "" && !slices.Contains(said, w.detail) {
		t.Errorf("reasons %q, want %q", said, w.detail)
	}
}

// variant is a grant made from the hint for one call, tried on another call.
type variant struct {
	name  string
	grant consent
	call  call
	want  want
}

func (w *world) try(t *testing.T, variants []variant) {
	t.Helper()
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, w.as, agent, user)
			_, wanted := w.denied(t, c, w.call)
			tok := c.obtain(t, wanted, v.grant)
			v.want.judge(t, w.rs.serve(t, v.call, tok.Access).Decision)
		})
	}
}

var (
	allowed = want{decision: "ALLOW"}
	approve = consent{"way": "approve"}
)

func unmet(detail string) want { return want{"DENY", "available", detail} }

// unusable: the grant has a member that its type does not, so it is not read.
var unusable = want{"DENY", "undisclosed", "/0: rar.granted_invalid"}

// TestPaymentVariants: what the user and the server make of a request for one
// payment, and which calls the token is then good for.
func TestPaymentVariants(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	w := payments(t)
	same := w.call
	w.try(t, []variant{
		// Calls beside the one that was granted.
		{"less than granted", approve, payment("123.49", "EUR", "DE89370400440532013000"), allowed},
		{"a cent more", approve, payment("123.51", "EUR", "DE89370400440532013000"), unmet("/0/instructedAmount/amount: rar.above_max")},
		{"another currency", approve, payment("1", "USD", "DE89370400440532013000"), unmet("/0/instructedAmount/currency: rar.not_equal")},
		{"another payee", approve, payment("123.50", "EUR", "DE75512108001245126199"), unmet("/0/creditorAccount/iban: rar.not_equal")},
		{"a blocked payee", approve, payment("1", "EUR", "GB33BUKB20201555555555"), want{"DENY", "unavailable", "payments.payee_blocked"}},
		// Grants beside what was asked.
		{"the user allows less", consent{"way": "narrow", "amount": "100"}, same, unmet("/0/instructedAmount/amount: rar.above_max")},
		{"a lower call under it", consent{"way": "narrow", "amount": "100"}, payment("100", "EUR", "DE89370400440532013000"), allowed},
		{"the user allows another action", consent{"way": "narrow", "actions": "cancel"}, same, unmet("/0/actions: rar.not_subset")},
		{"the user allows scopes only", consent{"way": "none"}, same, unmet("/0: rar.no_granted_type")},
		// What servers add: declared members are understood, others are limits
		// that nobody here can honour (RFC 9396 section 7.1).
		{"the server adds a declared name", consent{"way": "name"}, same, allowed},
		{"the server adds its locations", consent{"way": "locations"}, same, allowed},
		{"the server reorders", consent{"way": "reorder"}, same, allowed},
		{"the server respells the amount", consent{"way": "respell"}, same, allowed},
		{"the server adds the account to pay from", consent{"way": "account"}, same, unmet("/0/debtorAccount: rar.open_in_required")},
		{"the server adds an identifier that the type lacks", consent{"way": "identifier"}, same, unusable},
	})
}

// TestFileVariants is the same for paths and actions.
func TestFileVariants(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	w := files(t)
	same := w.call
	w.try(t, []variant{
		{"writing implies reading", approve, file("files.read", "/projects/a/notes.txt"), allowed},
		{"a path below", approve, file("files.write", "/projects/a/notes.txt/part"), allowed},
		{"another path", approve, file("files.write", "/projects/a/other.txt"), unmet("/0/paths: rar.not_prefix")},
		{"a path above", approve, file("files.write", "/projects/a"), unmet("/0/paths: rar.not_prefix")},
		{"a name that goes on", approve, file("files.write", "/projects/a/notes.txt.bak"), unmet("/0/paths: rar.not_prefix")},
		{"out of the folder", approve, file("files.write", "/projects/a/notes.txt/../../b"), unmet("/0/paths: rar.unsafe_path")},
		{"the user allows reading only", consent{"way": "narrow", "actions": "read"}, same, unmet("/0/actions: rar.not_subset")},
		{"and reading then passes", consent{"way": "narrow", "actions": "read"}, file("files.read", "/projects/a/notes.txt"), allowed},
		{"the user allows another folder", consent{"way": "narrow", "paths": "/projects/b"}, same, unmet("/0/paths: rar.not_prefix")},
		{"the user allows the folder", consent{"way": "narrow", "paths": "/projects/a"}, same, allowed},
		{"the user allows scopes only", consent{"way": "none"}, same, unmet("/0: rar.no_granted_type")},
		{"the server reorders", consent{"way": "reorder"}, same, allowed},
		{"the server adds an identifier that the type lacks", consent{"way": "identifier"}, same, unusable},
	})
}
