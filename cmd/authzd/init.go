package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/bundles/starter"
	"github.com/authzd/authzd/rar"
)

// initOptions are the flags of authzd init.
type initOptions struct {
	dir     string
	from    string
	command []string // behind --
	timeout time.Duration
	force   bool
	access  accessOptions
	format  *string
}

// defaultInitTimeout leaves npx the time to download a server.
const defaultInitTimeout = 60 * time.Second

func newInit(std stdio) *cobra.Command {
	var o initOptions
	cmd := &cobra.Command{
		Use:   "init DIR [--from-mcp URL|CMD | --from-mcp -- CMD ARGS...]",
		Short: "Write a first bundle, from an MCP server's tools if you name one",
		Long: "Writes a bundle into DIR: policy, schemas of arguments, tests and decision cases, all of which\n" +
			"are run before anything is kept. With --from-mcp it asks an MCP server for its tools, by\n" +
			"streamable HTTP at a URL, or over the standard input and output of a command that it starts and\n" +
			"stops. A command in one word is split at spaces, with quotes as in a shell and nothing else of\n" +
			"one; behind -- its arguments are taken as they are.\n\n" +
			"Tools that only read, by their annotations, are permitted; all others are forbidden until you\n" +
			"have reviewed them. Annotations are the server's own word, so review the former as well.\n\n" +
			"DIR must be empty or absent. With --force the files that init writes are replaced and others are\n" +
			"left alone. On an error DIR is left as it was.\n\n" +
			"Exit code: 0 if the bundle was written and its tests passed, 1 otherwise.",
		Example: `  authzd init policy --from-mcp "npx -y @modelcontextprotocol/server-filesystem /srv/files"
  authzd wrap --bundle files=policy --subject alice -- npx -y @modelcontextprotocol/server-filesystem /srv/files

  authzd init policy --from-mcp -- npx -y @modelcontextprotocol/server-filesystem "/srv/my files"
  authzd init policy --from-mcp https://mcp.example.com/mcp --token-env MCP_TOKEN`,
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		n := cmd.ArgsLenAtDash()
		if n < 0 {
			n = len(args)
		}
		if n != 1 {
			return errors.New("name one DIR to write the bundle to; the words of a command go into quotes, or behind --")
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.dir, o.command = args[0], args[1:]
		if cmd.ArgsLenAtDash() < 0 {
			o.command = nil
		} else if len(o.command) == 0 {
			return errors.New("nothing stands behind --: name a command and its arguments")
		}
		return initialize(cmd.Context(), std, o)
	}
	f := cmd.Flags()
	f.StringVar(&o.from, "from-mcp", "", "URL of an MCP server, or the command that starts one; -- and words behind it for a command")
	f.DurationVar(&o.timeout, "timeout", defaultInitTimeout, "give up on the server after this time")
	f.BoolVar(&o.force, "force", false, "write into a DIR that is not empty, and replace what an earlier init wrote")
	f.StringArrayVar(&o.access.headers, "header", nil, `"NAME: VALUE" to send to a URL; may be repeated`)
	f.StringVar(&o.access.tokenFile, "token-file", "", "FILE with the access token for a URL")
	f.StringVar(&o.access.tokenEnv, "token-env", "", "environment variable with the access token for a URL")
	cmd.MarkFlagsMutuallyExclusive("token-file", "token-env")
	o.format = outputFlag(cmd, "text", "json")
	return cmd
}

// behindDash is the value of --from-mcp if the command stands behind --.
const behindDash = "--"

// splitInit lets --from-mcp be followed by --, which would else be taken for
// its value and everything behind it for flags of authzd.
func splitInit(args []string) []string {
	if len(args) == 0 || args[0] != "init" {
		return args
	}
	for i, a := range args {
		switch {
		case a == "--":
			return args
		case a == "--from-mcp" && i+1 < len(args) && args[i+1] == "--":
			return slices.Concat(args[:i], []string{"--from-mcp=" + behindDash}, args[i+1:])
		}
	}
	return args
}

// initialize asks the server, writes the bundle and reports.
func initialize(ctx context.Context, std stdio, o initOptions) error {
	if err := errors.Join(validTimes(flagTime{"timeout", o.timeout})...); err != nil {
		return err
	}
	source, err := o.source(std)
	if err != nil {
		return err
	}
	target, err := openTarget(o.dir, o.force)
	if err != nil {
		return err
	}
	server := example()
	if source != nil {
		if server, err = describeServer(ctx, source, o.timeout, std); err != nil {
			return err
		}
	}
	bundle, err := starter.Generate(ctx, server)
	if err != nil {
		return err
	}
	for _, w := range bundle.Warnings {
		printLine(std.err, "warning: "+w)
	}
	report, err := target.install(ctx, bundle.Files)
	if err != nil {
		return err
	}
	return writeInitReport(std.out, *o.format, newInitReport(o, server, &bundle, report))
}

// source says where tools/list comes from; nil if from nowhere.
func (o *initOptions) source(std stdio) (mcpSource, error) {
	switch {
	case o.command != nil && o.from != "" && o.from != behindDash:
		return nil, errors.New("--from-mcp has a value, and a command stands behind --: give one of them")
	case o.command != nil:
		return commandSource(o.command), o.access.none()
	case o.from == "":
		return nil, o.access.none()
	case isURL(o.from):
		return o.access.http(o.from, std)
	case strings.Contains(firstWord(o.from), "://"):
		return nil, fmt.Errorf("--from-mcp: %q is not a URL that begins with http:// or https://", o.from)
	}
	words, err := splitCommand(o.from)
	if err != nil {
		return nil, fmt.Errorf("--from-mcp: %w", err)
	}
	return commandSource(words), o.access.none()
}

func isURL(s string) bool {
	scheme, _, ok := strings.Cut(s, "://")
	return ok && (strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https"))
}

func firstWord(s string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(s), " ")
	return first
}

// example is the server of a bundle that was made without one.
func example() starter.Server {
	schema := rar.ObjectValue(
		rar.Member{Name: "type", Value: rar.StringValue("object")},
		rar.Member{Name: "properties", Value: rar.ObjectValue(rar.Member{
			Name: "id", Value: rar.ObjectValue(
				rar.Member{Name: "type", Value: rar.StringValue("string")},
				rar.Member{Name: "pattern", Value: rar.StringValue("^[A-Za-z0-9-]{1,64}$")},
			),
		})},
		rar.Member{Name: "required", Value: rar.ArrayValue(rar.StringValue("id"))},
		rar.Member{Name: "additionalProperties", Value: rar.BoolValue(false)},
	)
	return starter.Server{Tools: []starter.Tool{{Name: "example.read", Annotated: true, ReadOnly: true, Schema: schema}}}
}

// testFolder compiles the bundle at where and runs all its tests.
func testFolder(ctx context.Context, where string) (*testReport, error) {
	format := "text"
	report := testReport{Tests: []testCase{}}
	o := testOptions{timeout: bundles.DefaultTestTimeout, format: &format}
	if err := testBundle(ctx, where, o, &report); err != nil {
		return nil, err
	}
	if report.Failed > 0 {
		var text strings.Builder
		_ = writeTestText(&text, &report) // a Builder takes everything
		return nil, fmt.Errorf("the tests of the bundle fail:\n%s", text.String())
	}
	return &report, nil
}

// absent tells a path at which there is nothing.
func absent(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, os.ErrNotExist)
}
