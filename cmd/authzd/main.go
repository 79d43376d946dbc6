// Command authzd is the authorization decision service for the Model Context
// Protocol: the server, and the tools of whoever writes policy for it.
//
// This package alone reads flags, the environment and configuration files,
// handles signals and exits; everything below it takes options.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], stdio{in: os.Stdin, out: os.Stdout, err: os.Stderr}, os.Getenv)
	stop()
	os.Exit(code)
}

// stdio is what a command reads and writes.
type stdio struct {
	in       io.Reader
	out, err io.Writer
	// getenv is set by run; for flags that name a variable.
	getenv func(string) string
}
