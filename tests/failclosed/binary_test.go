package failclosed_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"log"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/tests/internal/binary"
	served "github.com/authzd/authzd/tests/internal/doors"
)

// checked is how many mutants of each suite are given to authzd check, a process
// each; the other interfaces take all of them.
const checked = 20

// briefly is how many mutants of each suite short tests give to any interface.
const briefly = 40

// binaryVariable names the binary under test, for the tests of this process.
const binaryVariable = "FAILCLOSED_BINARY"

// TestMain builds the binary once, unless only short tests run.
func TestMain(m *testing.M) {
	if os.Getenv(stdioVariable) != "" {
		if err := serveStdio(); err != nil {
			log.Fatal(err)
		}
		return
	}
	flag.String("emit", "", "write the generated queries and calls into this folder")
	flag.Bool("update", false, "rewrite mutations.json and calls.json")
	flag.Parse()
	os.Exit(binary.Run(m, func(path string) {
		if err := os.Setenv(binaryVariable, path); err != nil {
			log.Fatal(err)
		}
	}))
}

// checkCommand gives a sample of the mutants to authzd check: exit code, output
// and the library say the same.
func checkCommand(t *testing.T, s suite, e *engine.Engine, all []testCase) {
	t.Helper()
	authzd := os.Getenv(binaryVariable)
	if testing.Short() || authzd == "" {
		return
	}
	for _, c := range spread(all, checked) {
		got := runCheck(t, authzd, s.dir, c.Query)
		if got.decision == "ALLOW" && !c.MayAllow {
			t.Errorf("WRONG ALLOW by authzd check: %s: %s", c.Name, c.Query)
		}
		if want := askLibrary(t, e, c.Query); got != want && got.code != tooSlow {
			t.Errorf("%s: authzd check answers %v, the library %v", c.Name, got, want)
		}
	}
}

// spread takes n of all, evenly; half of them such as may allow.
func spread(all []testCase, n int) []testCase {
	var may, not, out []testCase
	for _, c := range all {
		if c.MayAllow {
			may = append(may, c)
		} else {
			not = append(not, c)
		}
	}
	for _, from := range [][]testCase{may, not} {
		for i := range n / 2 {
			if len(from) > 0 {
				out = append(out, from[i*len(from)/(n/2)])
			}
		}
	}
	return out
}

func runCheck(t *testing.T, authzd, dir string, query []byte) outcome {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), authzd, "check", "-f", "-", "--bundle", dir, "-o", "json")
	cmd.Stdin = bytes.NewReader(query)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatalf("authzd check: %v", err)
	}
	code := cmd.ProcessState.ExitCode()
	if code < 0 || code > 2 {
		t.Errorf("authzd check exits with %d: %s", code, &errOut)
		return outcome{}
	}
	got := outcomeOf(t, code != 1, out.Bytes())
	if (got.decision == "ALLOW") != (code == 0) {
		t.Errorf("authzd check exits with %d and says %v", code, got)
	}
	return got
}

// tooSlow is what the binary, with its own budget, answers on a machine that is
// busy with other things: a deny.
const tooSlow = "engine.budget"

// TestServeCommand asks the doors of the running binary the base queries.
func TestServeCommand(t *testing.T) {
	t.Parallel()
	authzd := os.Getenv(binaryVariable)
	if testing.Short() || authzd == "" {
		t.Skip("runs the binary")
	}
	for _, s := range loadSuites(t) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			d, _ := startBinary(t, authzd, "--bundle", "main="+s.dir)
			for _, b := range s.queries {
				if got := d.askREST(t, b.Query); !b.meets(got) && got.code != tooSlow {
					t.Errorf("%s: REST answers %v, want %s", b.Name, got, b.Want)
				}
				m, _ := message(b.Query)
				if m == nil {
					t.Fatalf("%s cannot be said in protobuf", b.Name)
				}
				if got := d.askGRPC(t, m); !b.meets(got) && got.code != tooSlow {
					t.Errorf("%s: gRPC answers %v, want %s", b.Name, got, b.Want)
				}
			}
		})
	}
}

// startBinary runs authzd serve on free ports until stop, or the test's end.
func startBinary(t *testing.T, authzd string, args ...string) (d *doors, stop func()) {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), authzd, append([]string{"serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"}, args...)...)
	p := binary.Start(t, cmd)
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("authzd serve: %v: %s", err, p.Log)
		}
	})
	t.Cleanup(stop)
	return asked(served.Dial(t, p.HTTP, p.GRPC)), stop
}
