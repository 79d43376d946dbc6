package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/authzd/authzd/mcp/pep"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// wrapConfig is everything that authzd wrap can be told.
type wrapConfig struct {
	enforceConfig
	TokenEnv  string
	TokenFile string
	Grace     time.Duration
}

func newWrap(std stdio, getenv func(string) string) *cobra.Command {
	var c wrapConfig
	cmd := &cobra.Command{
		Use:   "wrap [flags] -- CMD [ARG]...",
		Short: "Run an MCP server on stdio and enforce decisions on what it is asked",
		Long: "Runs CMD, an MCP server that speaks on standard input and output, and stands between it and its client:\n" +
			"every request is decided before the server sees it, lists are shortened to what the client could use, and\n" +
			"what is allowed goes on byte for byte. What the server writes to standard error is passed on, signals are\n" +
			"too, and the exit code is the server's (128 + N if signal N ended it).\n\n" +
			"On whose authority the client acts follows from an access token, in the file of --token-file or the\n" +
			"variable of --token-env. The file is read again for every request, so that a denial is remedied by\n" +
			"replacing it. Tokens need --issuers, or --pdp with issuers there. With neither flag the local user, or\n" +
			"--subject, is believed: for personal use.\n\n" +
			"Every flag is also an environment variable (--token-file is AUTHZD_TOKEN_FILE) and a key of the --config\n" +
			"file (token_file). CMD gets this process's environment without AUTHZD_ variables and without --token-env.",
		Example: `  authzd init policy --from-mcp "npx -y @modelcontextprotocol/server-filesystem /data"
  authzd wrap --bundle files=policy -- npx -y @modelcontextprotocol/server-filesystem /data`,
		Args: cobra.ArbitraryArgs,
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := c.fill(cmd.Flags(), getenv); err != nil {
			return err
		}
		if err := c.validate(args); err != nil {
			return err
		}
		return wrap(cmd.Context(), std, c, args)
	}
	f := cmd.Flags()
	// What stands after CMD is CMD's own, with or without --.
	f.SetInterspersed(false)
	c.define(f, "warn")
	f.StringVar(&c.TokenFile, "token-file", "", "FILE with the access token, read for every request")
	f.StringVar(&c.TokenEnv, "token-env", "", "environment variable with the access token")
	f.DurationVar(&c.Grace, "shutdown-grace", 10*time.Second, "time that the server gets to end after SIGTERM or the end of its input")
	return cmd
}

func (c *wrapConfig) validate(args []string) error {
	faults := []error{c.enforceConfig.validate()}
	tokens := c.TokenFile != "" || c.TokenEnv != ""
	if len(args) == 0 {
		faults = append(faults, errors.New("give the server's command after --"))
	}
	if c.TokenFile != "" && c.TokenEnv != "" {
		faults = append(faults, errors.New("token-file and token-env: give one"))
	}
	if tokens && c.Subject != "" {
		faults = append(faults, errors.New("subject: a token says who the person is"))
	}
	if tokens && c.Issuers == "" && c.PDP == "" {
		faults = append(faults, errors.New("a token needs --issuers, or --pdp with issuers there: nobody could verify it"))
	}
	if !tokens && c.Issuers != "" {
		faults = append(faults, errors.New("issuers: give --token-file or --token-env, which hold the token to be verified"))
	}
	faults = append(faults, validTimes(flagTime{"shutdown-grace", c.Grace})...)
	if c.Subject == "" && !tokens {
		if c.Subject = localUser(); c.Subject == "" {
			faults = append(faults, errors.New("the local user has no name: give --subject"))
		}
	}
	if c.Resource == "" && len(args) > 0 {
		c.Resource = "stdio://" + filepath.Base(args[0])
	}
	return errors.Join(faults...)
}

// wrap runs the server until it ends.
func wrap(ctx context.Context, std stdio, c wrapConfig, args []string) error {
	log, lines := c.logger(std)
	defer lines.start(ctx)()
	d, err := c.decide(ctx, std, log, lines, false)
	if err != nil {
		return err
	}
	defer d.close()
	e, err := c.enforcer(d, log)
	if err != nil {
		return err
	}
	child := newChild(args, c, std)
	in, err := child.StdinPipe()
	if err != nil {
		return fmt.Errorf("connect to %s: %w", args[0], err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		return fmt.Errorf("connect to %s: %w", args[0], err)
	}
	pipe, err := pep.NewPipe(pep.PipeOptions{
		Enforcer: e, ClientIn: std.in, ClientOut: std.out, ServerIn: in, ServerOut: out, Identify: c.identify(std),
	})
	if err != nil {
		return err //nolint:wrapcheck // names what is missing
	}
	// Heard before the server runs, so that none is lost.
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, forwarded()...)
	defer signal.Stop(signals)
	if err := child.Start(); err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	log.Info("the server runs", "command", args[0], "pid", child.Process.Pid, "resource", c.Resource, "mode", c.Mode, "revision", d.revision())
	return c.supervise(ctx, child, pipe, d, signals, log)
}

// newChild is the server's process. The policy's settings and the token are not
// for it.
func newChild(args []string, c wrapConfig, std stdio) *exec.Cmd {
	child := exec.Command(args[0], args[1:]...) //nolint:gosec,noctx // the operator names it; it is told to end, not killed
	child.Stderr = std.err
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, envPrefix) && name != c.TokenEnv {
			child.Env = append(child.Env, v)
		}
	}
	return child
}

// supervise keeps everything going until the server has ended, and returns its
// exit code.
func (c *wrapConfig) supervise(ctx context.Context, child *exec.Cmd, pipe *pep.Pipe, d *decisions, signals <-chan os.Signal, log *slog.Logger) error {
	// Decisions are needed until the last message has gone on.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, running := errgroup.WithContext(running)
	group.Go(func() error { return d.run(running) })
	ended := make(chan struct{})
	group.Go(func() error {
		defer stop()
		defer close(ended)
		err := pipe.Run(running)
		if err != nil {
			// Without us nothing may pass.
			_ = child.Process.Kill()
		}
		waited := child.Wait()
		if err != nil {
			return fmt.Errorf("the server was ended: %w", err)
		}
		return exitOf(waited)
	})
	group.Go(func() error { forward(ctx, child.Process, signals, ended, c.Grace); return nil })
	err := group.Wait()
	log.Info("the server has ended")
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// exitOf is the exit code of a process that has ended.
func exitOf(err error) error {
	var state *exec.ExitError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &state):
		return fmt.Errorf("wait for the server: %w", err)
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return exit{128 + int(status.Signal())}
	}
	return exit{state.ExitCode()}
}

// forward hands signals on until the server has ended. One that asks to end
// gives the server the grace, and then no more.
func forward(ctx context.Context, server *os.Process, signals <-chan os.Signal, ended <-chan struct{}, grace time.Duration) {
	var late <-chan time.Time
	done := ctx.Done()
	for {
		select {
		case s := <-signals:
			_ = server.Signal(s) // it may have ended
			if s == syscall.SIGTERM || s == os.Interrupt {
				late = time.After(grace)
			}
		case <-done:
			done = nil
			_ = server.Signal(syscall.SIGTERM)
			late = time.After(grace)
		case <-late:
			_ = server.Kill()
		case <-ended:
			return
		}
	}
}

// forwarded are the signals that the server gets in our place.
func forwarded() []os.Signal {
	return []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2}
}

// maxTokenBytes bounds an access token, as the service does.
const maxTokenBytes = 16 << 10

// identify tells on whose authority the client acts.
func (c *wrapConfig) identify(std stdio) func(context.Context) ([]*authzdv1.Credential, *authzdv1.Subject, error) {
	subject := c.subject()
	return func(context.Context) ([]*authzdv1.Credential, *authzdv1.Subject, error) {
		if subject != nil {
			return nil, subject, nil
		}
		token := std.getenv(c.TokenEnv)
		if c.TokenFile != "" {
			var err error
			if token, err = readToken(c.TokenFile); err != nil {
				return nil, nil, err
			}
		}
		if token = strings.TrimSpace(token); token == "" {
			return nil, nil, nil // the client is told that it needs one
		}
		return []*authzdv1.Credential{{Id: "access-token", AccessToken: token}}, nil, nil
	}
}

// readToken reads the file; one that is not there yet is no token.
func readToken(name string) (string, error) {
	file, err := os.Open(name) //nolint:gosec // the operator names the file
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	defer file.Close() //nolint:errcheck // read only, nothing to lose
	text, err := io.ReadAll(io.LimitReader(file, maxTokenBytes+1))
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	if len(text) > maxTokenBytes {
		return "", fmt.Errorf("read the token: %s is larger than %d bytes", name, maxTokenBytes)
	}
	return string(text), nil
}
