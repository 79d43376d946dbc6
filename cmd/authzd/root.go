package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/authzd/authzd/engine"
)

// Exit codes, as scripts rely on them.
const (
	exitOK    = 0
	exitError = 1
	// exitDeny is authzd check's answer DENY: not an error, and not a yes.
	exitDeny = 2
)

// exit ends a command with a code and nothing more to say.
type exit struct{ code int }

// Error is for whoever prints it by mistake.
func (e exit) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// run is the whole program but for what belongs to the process.
func run(ctx context.Context, args []string, std stdio, getenv func(string) string) int {
	std.getenv = getenv
	root := newRoot(std, getenv) //nolint:contextcheck // commands get it by ExecuteContext
	root.SetArgs(splitInit(args))
	err := root.ExecuteContext(ctx)
	var code exit
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return code.code
	}
	var ended servingError
	if !errors.As(err, &ended) {
		printError(std.err, err)
		return exitError
	}
	printed := make(chan struct{})
	go func() {
		defer close(printed)
		printError(std.err, err)
	}()
	select {
	case <-printed:
	case <-time.After(lastLog):
	}
	return exitError
}

// servingError is the error of a command that serves. Who reads standard error may stand
// still, as for its log; the process ends all the same.
type servingError struct{ error }

func (e servingError) Unwrap() error { return e.error }

// serving marks the errors of cmd.
func serving(cmd *cobra.Command) *cobra.Command {
	inner := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := inner(cmd, args); err != nil {
			return servingError{err}
		}
		return nil
	}
	return cmd
}

// printError writes one line for each fault. Findings in policy come as
// compilers write them, so that editors find the place.
func printError(w io.Writer, err error) {
	var policy *engine.CompileError
	if errors.As(err, &policy) && len(policy.Findings) > 0 {
		for _, f := range policy.Findings {
			printLine(w, findingText(f))
		}
		return
	}
	for line := range strings.Lines(err.Error()) {
		printLine(w, "authzd: "+strings.TrimRight(line, "\n"))
	}
}

// printLine writes to standard error; where that is closed, nobody is left to
// tell.
func printLine(w io.Writer, line string) { _, _ = io.WriteString(w, line+"\n") }

func newRoot(std stdio, getenv func(string) string) *cobra.Command {
	root := &cobra.Command{
		Use:   "authzd",
		Short: "Authorization decisions for the Model Context Protocol",
		Long: "authzd decides whether an agent may make an MCP tool call, and says on a deny what would\n" +
			"turn it into an allow. Policies are Rego; see docs/policy.md.",
		SilenceUsage: true, SilenceErrors: true,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(serving(newServe(std, getenv)), serving(newProxy(std, getenv)), serving(newWrap(std, getenv)), newInit(std), newCheck(std), newTest(std), newBundle(std), newData(std), newBlock(std), newStore(std), newRAR(std), newKeys(std), newSchema(std), newVersion(std))
	return root
}

// outputFlag adds -o with a closed set of values.
func outputFlag(cmd *cobra.Command, formats ...string) *string {
	format := cmd.Flags().StringP("output", "o", formats[0], "output format: "+strings.Join(formats, ", "))
	inner := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		for _, f := range formats {
			if f == *format {
				return inner(cmd, args)
			}
		}
		return fmt.Errorf("--output: %q is not one of %s", *format, strings.Join(formats, ", "))
	}
	return format
}
