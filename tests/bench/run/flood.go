package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/tests/bench/workload"
)

// floodArg makes of this program a caller that floods: -flood ADDRESS KEY N, and what it
// asks: the workload, or loopQuestion. Whoever is measured is another process, whose calls
// do not wait behind the flood in one client, and goes first where both want the generator's core.
const (
	floodArg     = "-flood"
	loopQuestion = "loop"
	ready        = "ready"
)

// floodAs has a process keep n requests in flight until it is ended.
func floodAs(ctx context.Context, addr, key string, n int, what string) (end func() error, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	argv := []string{self, floodArg, addr, key, strconv.Itoa(n), what}
	if nice, err := exec.LookPath("nice"); err == nil {
		argv = append([]string{nice, "-n", "10"}, argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	dieWithParent(cmd)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start a flood: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a flood: %w", err)
	}
	end = func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("flood: %w", err)
		}
		return nil
	}
	switch line, err := bufio.NewReader(out).ReadString('\n'); {
	case err != nil:
		return nil, errors.Join(fmt.Errorf("a flood is not ready: %w", err), end())
	case line != ready+"\n":
		return nil, errors.Join(fmt.Errorf("a flood is not ready: it says %q", line), end())
	}
	return end, nil
}

// runFlood asks as floodAs wants, again at once when refused, until it is told to end. It
// fails if it was answered anything but decisions and refusals.
func runFlood(args []string, out io.Writer) error {
	if len(args) != 4 {
		return errors.New("flood: want an address, a key, a number and what to ask")
	}
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return fmt.Errorf("flood: %w", err)
	}
	bodies, err := questions(args[3])
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	callers, closeAll, err := withKey(grpcOpener(args[0]), args[1])(ctx, n)
	if err != nil {
		return err
	}
	defer closeAll()
	if _, err := fmt.Fprintln(out, ready); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	var wg sync.WaitGroup
	var wrong atomic.Pointer[error]
	for k, call := range callers {
		wg.Go(func() {
			for i := k; ctx.Err() == nil; i++ {
				_, err := call(ctx, bodies[i%len(bodies)])
				if err != nil && ctx.Err() == nil && status.Code(err) != codes.ResourceExhausted {
					wrong.Store(&err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := wrong.Load(); err != nil {
		return fmt.Errorf("flood: %w", *err)
	}
	return nil
}

// questions are encoded, those of the workload or the one that policy never ends about.
func questions(what string) (bodies [][]byte, err error) {
	if what == loopQuestion {
		loop, err := proto.Marshal(&authzdv1.CheckRequest{
			Subject: &authzdv1.Subject{Type: "identity", Id: "alice"}, Action: &authzdv1.Action{Name: "loop"}, Resource: &authzdv1.Resource{Type: "page", Id: "p"},
		})
		if err != nil {
			return nil, fmt.Errorf("encode a request: %w", err)
		}
		return [][]byte{loop}, nil
	}
	w, err := workload.New()
	if err != nil {
		return nil, err
	}
	for i := range w.Requests {
		b, err := checkRequest(w.Requests[i].Query)
		if err != nil {
			return nil, err
		}
		bodies = append(bodies, b)
	}
	return bodies, nil
}
