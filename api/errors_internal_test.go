package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/mcp"
	"github.com/authzd/authzd/rar"
	"github.com/authzd/authzd/store"
)

// declared reads every constant named Code… from the sources of a package: a
// list that the package keeps itself could forget one. The value tells whether
// the comment above the group says that the call gets no decision.
func declared(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	constant := regexp.MustCompile(`^(?:const|\t)\s*Code\w+\s+(?:Code\s+)?= "([^"]+)"$`)
	out := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		group, above := "", ""
		for line := range strings.Lines(string(text)) {
			line = strings.TrimRight(line, "\n")
			switch {
			case strings.HasPrefix(line, "// "):
				above += line
			case strings.HasPrefix(line, "const"):
				group, above = above, ""
			case !strings.HasPrefix(line, "\t"):
				above = ""
			}
			if m := constant.FindStringSubmatch(line); m != nil {
				out[m[1]] = strings.Contains(group, "no decision")
			}
		}
	}
	if len(out) < 3 {
		t.Fatalf("only %d codes found in %s", len(out), dir)
	}
	return out
}

func TestEveryCodeHasARow(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{".", "../engine", "../engine/internal/contract", "../rar", "../mcp", "../bundles"} {
		for code, noDecision := range declared(t, dir) {
			o, ok := lookup(code)
			if !ok {
				t.Errorf("%s: %s has no row in the error table", dir, code)
				continue
			}
			if o.grpc == codes.OK || o.http < 400 || o.http > 599 {
				t.Errorf("%s: %v and %d are no error", code, o.grpc, o.http)
			}
			if noDecision && (o.inner || o.grpc == codes.Internal) {
				t.Errorf("%s answers a call and is not told to the caller", code)
			}
		}
	}
	for _, c := range Codes() {
		if _, ok := declared(t, ".")[string(c)]; !ok {
			t.Errorf("Codes lists %s, which is not declared", c)
		}
	}
	if got, want := len(Codes()), len(declared(t, ".")); got != want {
		t.Errorf("Codes lists %d of %d", got, want)
	}
	if _, ok := lookup("other.thing"); ok {
		t.Error("an unknown family has a row")
	}
}

func TestOAuthNames(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		string(engine.CodeTokenExpired): "invalid_token",
		string(rar.CodeUnknownType):     "invalid_authorization_details",
		string(rar.CodeAboveMax):        "",
		string(CodeDuplicateKey):        "",
	} {
		if o, _ := lookup(code); o.oauth != want {
			t.Errorf("%s: %q, want %q", code, o.oauth, want)
		}
	}
}

// What is wrong with a disk names its files: in the log, and not to the caller.
func TestStoreTellsNoFile(t *testing.T) {
	t.Parallel()
	f := faultOf(&store.Error{Code: store.CodeUnavailable, Path: "/srv/secret", Err: errors.New("open /srv/secret: no space left")})
	text := string(f.appendJSON(nil, "id")) + f.status("id").Error()
	if strings.Contains(text, "secret") || f.cause == nil || !strings.Contains(f.cause.Error(), "/srv/secret") {
		t.Errorf("%s; the log has %v", text, f.cause)
	}
	if f := faultOf(&store.Error{Code: store.CodeLocked, Path: "/srv/secret"}); f.code != string(CodeInternal) {
		t.Errorf("a code of the store that is for no caller: %+v", f)
	}
}

// What has no code, or a code that is not for callers, becomes one sentence.
func TestInternalTellsNothing(t *testing.T) {
	t.Parallel()
	secret := errors.New("password=hunter2")
	for name, err := range map[string]error{
		"uncoded":      secret,
		"wrapped":      fmt.Errorf("open: %w", secret),
		"own internal": &Error{Code: CodeInternal, Path: "/secret", Err: secret},
		"inner code":   &engine.Error{Code: engine.CodeEvalError, Err: secret},
		"token code":   &engine.Error{Code: engine.CodeTokenExpired, Err: secret},
		"no such code": &Error{Code: "other.thing", Err: secret},
		"empty code":   &Error{Err: secret},
		"panic":        panicError("hunter2"),
		"mcp inner":    &mcp.Error{Code: mcp.CodeDenialInvalid, Err: secret},
	} {
		f := faultOf(err)
		if f.code != string(CodeInternal) || f.outcome.grpc != codes.Internal || f.outcome.http != 500 || f.cause == nil {
			t.Errorf("%s: %+v", name, f)
		}
		text := string(f.appendJSON(nil, "id")) + f.status("id").Error()
		if strings.Contains(text, "hunter2") || strings.Contains(text, "secret") {
			t.Errorf("%s tells its cause: %s", name, text)
		}
	}
}

func TestFaultOf(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		code string
		grpc codes.Code
		http int
	}{
		"own":       {fmt.Errorf("x: %w", errorf(CodeOverloaded, "", "full")), "api.overloaded", codes.ResourceExhausted, 429},
		"engine":    {&engine.Error{Code: engine.CodeMCPMismatch}, "request.mcp_mismatch", codes.InvalidArgument, 400},
		"rar":       {&rar.Error{Code: rar.CodeUnknownType}, "rar.unknown_type", codes.InvalidArgument, 400},
		"mcp":       {&mcp.Error{Code: mcp.CodeMapping}, "mcp.mapping", codes.InvalidArgument, 400},
		"deadline":  {context.DeadlineExceeded, "engine.deadline", codes.DeadlineExceeded, 504},
		"cancelled": {fmt.Errorf("x: %w", context.Canceled), "engine.cancelled", codes.Canceled, 499},
		"store's":   {fmt.Errorf("x: %w", &store.Error{Code: store.CodeUnavailable}), "api.store_unavailable", codes.Unavailable, 503},
		"engine's":  {&engine.Error{Code: engine.CodeDeadline, Err: context.DeadlineExceeded}, "engine.deadline", codes.DeadlineExceeded, 504},
	} {
		f := faultOf(c.err)
		if f.code != c.code || f.outcome.grpc != c.grpc || f.outcome.http != c.http {
			t.Errorf("%s: %+v", name, f)
		}
		back, id, ok := faultOfStatus(f.status("r-1"))
		if !ok || id != "r-1" || back.code != f.code || back.message != f.message || back.path != f.path || back.outcome != f.outcome {
			t.Errorf("%s through a status: %+v, %q, %v", name, back, id, ok)
		}
	}
	if _, _, ok := faultOfStatus(status.Error(codes.NotFound, "x")); ok {
		t.Error("a status without our details was taken for ours")
	}
	if _, _, ok := faultOfStatus(errors.New("x")); ok {
		t.Error("an error that is no status was taken for ours")
	}
	if got := errorf(CodeTooDeep, "/a", "x").Error(); got != "request.too_deep at /a: x" {
		t.Errorf("text: %s", got)
	}
	if http.StatusText(statusClientClosed) != "" {
		t.Error("499 has become a status of its own")
	}
}

// Who is refused for want of room is told when to try again, at both doors; others
// are not.
func TestRetryAdvice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want bool
	}{{overloaded(), true}, {&bundles.Error{Code: bundles.CodeBusy}, true}, {tooLarge(1), false}, {errors.New("internal"), false}} {
		f := faultOf(c.err)
		var delay time.Duration
		for _, d := range status.Convert(f.status("r")).Details() {
			if r, ok := d.(*errdetails.RetryInfo); ok {
				delay = r.GetRetryDelay().AsDuration()
			}
		}
		w := httptest.NewRecorder()
		writeFault(w, f, "r")
		after := w.Header().Get("Retry-After")
		if c.want != (delay >= time.Second && delay < 2*time.Second) || c.want != (after == "1" || after == "2") {
			t.Errorf("%s: RetryInfo %s, Retry-After %q, want advice %v", f.code, delay, after, c.want)
		}
	}
}
