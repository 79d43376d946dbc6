package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/bundles"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

// exitRejected is authzd bundle push's and activate's answer that the bundle is
// at fault, and not the server or the connection.
const exitRejected = 2

// pushTimeout is longer than that of a question: a server compiles and tests.
const pushTimeout = 2 * time.Minute

// pieceBytes is how much of an archive goes in one message.
const pieceBytes = 64 << 10

// maxAnswer bounds the answer to a command, as the server's own gateway does.
const maxAnswer = 64 << 20

// admin are the flags of commands that manage the bundles and blocks of a
// server.
type admin struct {
	remoteOptions
	addr   string
	wait   bool
	format *string
	std    stdio
}

// define declares the flags of a command on bundles; do is what it does.
func (a *admin) define(cmd *cobra.Command, do func(ctx context.Context, c authzdv1.BundleServiceClient, args []string) (proto.Message, error)) {
	a.defineOn(cmd, func(ctx context.Context, conn grpc.ClientConnInterface, args []string) (proto.Message, error) {
		return do(ctx, authzdv1.NewBundleServiceClient(conn), args)
	})
}

func (a *admin) defineOn(cmd *cobra.Command, do func(ctx context.Context, conn grpc.ClientConnInterface, args []string) (proto.Message, error)) {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		conn, err := a.connect()
		if err != nil {
			return err
		}
		defer conn.Close() //nolint:errcheck // the answer is in hand
		ctx := cmd.Context()
		if a.timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, a.timeout)
			defer cancel()
		}
		m, err := do(ctx, conn, args)
		switch {
		case err != nil:
			return a.refused(err)
		case m == nil: // it has printed its answer
			return nil
		}
		return a.print(m)
	}
	a.flags(cmd)
}

// flags declares how the server is asked, and how its answer is printed. The
// command must have its RunE.
func (a *admin) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&a.addr, "addr", "127.0.0.1:8182", "HOST:PORT of the server's gRPC address")
	f.DurationVar(&a.timeout, "timeout", pushTimeout, "give up after this time")
	f.BoolVar(&a.wait, "wait", false, "wait for a server that is not up yet, until --timeout")
	a.defineFor(f, "addr")
	a.format = outputFlag(cmd, "text", "json")
}

func (a *admin) connect() (*grpc.ClientConn, error) {
	return a.dial(a.std, a.addr, grpc.WithDefaultCallOptions(grpc.WaitForReady(a.wait), grpc.MaxCallRecvMsgSize(maxAnswer)))
}

// refused prints the report of a bundle that the server does not take.
func (a *admin) refused(err error) error {
	coded := serverError(a.addr, err)
	var report *authzdv1.BundleReport
	for _, d := range status.Convert(err).Details() {
		if r, ok := d.(*authzdv1.BundleReport); ok {
			report = r
		}
	}
	if *a.format == "json" {
		coded = a.refusedJSON(coded, report)
	}
	if report == nil {
		return coded
	}
	for _, p := range report.GetProblems() {
		printLine(a.std.err, problemText(p))
	}
	if n := report.GetOmitted(); n > 0 {
		printLine(a.std.err, fmt.Sprintf("and %d more", n))
	}
	printLine(a.std.err, "authzd: rejected: "+report.GetCode())
	return exit{exitRejected}
}

// refusedJSON prints the body that REST would give.
func (a *admin) refusedJSON(coded error, report *authzdv1.BundleReport) error {
	f, ok := faultOf(coded)
	if !ok {
		return coded
	}
	out := []byte(`{"code":` + quoted(f.code) + `,"message":` + quoted(f.message))
	if f.path != "" {
		out = append(out, `,"path":`+quoted(f.path)...)
	}
	if report != nil {
		text, err := api.MarshalJSON(report)
		if err != nil {
			return err
		}
		out = append(append(out, `,"report":`...), text...)
	}
	if _, err := a.std.out.Write(append(out, "}\n"...)); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return coded
}

// problemText writes a problem as compilers do.
func problemText(p *authzdv1.BundleProblem) string {
	var b strings.Builder
	switch {
	case p.GetFile() != "" && p.GetLine() > 0:
		fmt.Fprintf(&b, "%s:%d: ", p.GetFile(), p.GetLine())
	case p.GetFile() != "":
		b.WriteString(p.GetFile() + ": ")
	}
	b.WriteString(p.GetCode() + ": ")
	if p.GetTest() != "" {
		b.WriteString(p.GetTest() + ": ")
	}
	b.WriteString(p.GetMessage())
	return b.String()
}

func (a *admin) print(m proto.Message) error {
	var out []byte
	var err error
	if *a.format == "json" {
		if out, err = api.MarshalJSON(m); err == nil {
			out = append(out, '\n')
		}
	} else {
		out, err = answerText(m)
	}
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if _, err := a.std.out.Write(out); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

// answerText is an answer for people.
func answerText(m proto.Message) ([]byte, error) {
	var b strings.Builder
	switch m := m.(type) {
	case *authzdv1.ListBundlesResponse:
		return []byte(bundleTable(m.GetBundles())), nil
	case *authzdv1.GetBundleResponse:
		rows := [][]string{{"WHEN", "WHAT", "REVISION", "FROM", "TO", "WHO", "WHY"}}
		for _, e := range m.GetEvents() {
			why := e.GetWhy()
			if e.GetAllowOlder() {
				why = strings.TrimSpace("(older allowed) " + why)
			}
			if e.GetPath() != "" {
				why = strings.TrimSpace(e.GetPath() + " " + why)
			}
			rows = append(rows, []string{e.GetAt().AsTime().Format(time.RFC3339), e.GetWhat(), orDash(e.GetRevision()), orDash(e.GetFrom()), e.GetTo(), orDash(e.GetWho()), why})
		}
		evaluator := ""
		for _, one := range m.GetBundles() {
			if one.GetEvaluator() != "" {
				evaluator = "evaluation: " + cleanCell(one.GetEvaluator()) + "\n"
			}
		}
		return []byte(bundleTable(m.GetBundles()) + evaluator + "\n" + table(rows)), nil
	case *authzdv1.ListBlocksResponse:
		return []byte(blockTable(m.GetBlocks())), nil
	case *authzdv1.GetDataResponse:
		return append(m.GetValue(), '\n'), nil
	case *authzdv1.ChangeDataResponse:
		return fmt.Appendf(nil, "%s is in force\n", cleanCell(m.GetRevision())), nil
	case interface{ GetBlock() *authzdv1.Block }:
		return []byte(blockText(m.GetBlock()) + "\n"), nil
	case interface {
		GetBundle() *authzdv1.Bundle
		GetUnchanged() bool
	}:
		one := m.GetBundle()
		fmt.Fprintf(&b, "%s %s is %s", one.GetName(), one.GetRevision(), one.GetState())
		if m.GetUnchanged() {
			b.WriteString(", as before")
		}
		if r := one.GetReport(); r != nil {
			fmt.Fprintf(&b, " (%d tests passed, %d skipped, %d warnings)", r.GetPassed(), r.GetSkipped(), len(r.GetWarnings()))
		}
		return []byte(b.String() + "\n"), nil
	}
	return nil, fmt.Errorf("%T has no text form", m)
}

func bundleTable(list []*authzdv1.Bundle) string {
	rows := [][]string{{"NAME", "REVISION", "SEQUENCE", "STATE", "KEPT", "UPLOADED", "BY", "DIGEST", "REASON"}}
	for _, one := range list {
		kept, reason := "no", ""
		if one.GetKept() {
			kept = "yes"
		}
		if p := one.GetReport().GetProblems(); len(p) > 0 {
			reason = problemText(p[0])
		}
		digest, revision := one.GetDigest(), orDash(one.GetRevision())
		if one.GetChanges() > 0 {
			revision += "#" + strconv.FormatInt(one.GetChanges(), 10)
		}
		rows = append(rows, []string{
			one.GetName(), revision, strconv.FormatInt(one.GetSequence(), 10), one.GetState(), kept,
			one.GetUploadedAt().AsTime().Format(time.RFC3339), orDash(one.GetUploadedBy()), digest[:min(len(digest), 19)], reason,
		})
	}
	return table(rows)
}

// cleanCell keeps what somebody pushed from making rows of its own, or moving
// the cursor.
func cleanCell(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
}

// table aligns columns.
func table(rows [][]string) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = cleanCell(cell)
		}
		_, _ = w.Write([]byte(strings.Join(cells, "\t") + "\n")) // to memory
	}
	_ = w.Flush()
	return b.String()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func newBundlePush(std stdio) *cobra.Command {
	a := admin{std: std}
	var o authzdv1.PushBundleOptions
	cmd := &cobra.Command{
		Use:   "push FILE --name NAME",
		Short: "Upload a signed bundle to a server",
		Long: "Uploads a signed archive. The server verifies its signature, compiles it beside its other active bundles, runs its\n" +
			"Rego tests and decision cases, and stages it; --activate makes it live. The same archive again changes nothing. A delta bundle, which changes the data of\n" +
			"the active one, needs --activate.\n\n" +
			"Needs the right push, and activate with --activate. Exit code: 0 done, 2 the bundle was rejected and what is live\n" +
			"stays, 1 anything else.",
		Example: `  authzd bundle push policy.tar.gz --name main
  authzd bundle push policy.tar.gz --name main --activate --why "payments up to 500"`,
		Args: cobra.ExactArgs(1),
	}
	f := cmd.Flags()
	f.StringVar(&o.Name, "name", "", "name of the bundle on the server")
	f.BoolVar(&o.Activate, "activate", false, "make it live once it is staged")
	f.BoolVar(&o.AllowOlder, "allow-older", false, "take a sequence lower than the active bundle's; recorded")
	f.BoolVar(&o.DropChanges, "drop-changes", false, "leave the changes behind that were made to the active revision's data")
	f.StringVar(&o.Why, "why", "", "reason, for the record")
	_ = cmd.MarkFlagRequired("name") // fails only for a flag that is not there
	a.define(cmd, func(ctx context.Context, c authzdv1.BundleServiceClient, args []string) (proto.Message, error) {
		return upload(ctx, c, &o, args[0], std.err)
	})
	return cmd
}

// upload sends a file in pieces, and tells how far it is if that takes long.
func upload(ctx context.Context, c authzdv1.BundleServiceClient, o *authzdv1.PushBundleOptions, name string, to io.Writer) (*authzdv1.PushBundleResponse, error) {
	file, err := os.Open(name) //nolint:gosec // the user names the file
	if err != nil {
		return nil, err //nolint:wrapcheck // names the file itself
	}
	defer file.Close() //nolint:errcheck // read only, nothing to lose
	stat, err := file.Stat()
	if err != nil || stat.Size() > bundles.DefaultMaxArchiveBytes {
		return nil, errors.Join(err, fmt.Errorf("%s is larger than the %d bytes that a server takes", name, bundles.DefaultMaxArchiveBytes))
	}
	stream, err := c.PushBundle(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&authzdv1.PushBundleRequest{Part: &authzdv1.PushBundleRequest_Options{Options: o}})
	piece := make([]byte, pieceBytes)
	far := newProgress(to, stat.Size())
	defer far.end()
	for err == nil {
		n, rerr := file.Read(piece)
		if n > 0 {
			err = stream.Send(&authzdv1.PushBundleRequest{Part: &authzdv1.PushBundleRequest_Chunk{Chunk: piece[:n]}})
			far.sent.Add(int64(n))
		}
		if errors.Is(rerr, io.EOF) {
			break
		}
		if rerr != nil {
			return nil, fmt.Errorf("read %s: %w", name, rerr)
		}
	}
	// A server that has refused ends the stream; why comes with its answer.
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return stream.CloseAndRecv()
}

func newBundleList(std stdio) *cobra.Command {
	a := admin{std: std}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the bundles of a server",
		Long:  "Lists what was pushed, what is active, and why what was rejected was. Needs the right audit.",
		Args:  noArguments,
	}
	a.define(cmd, func(ctx context.Context, c authzdv1.BundleServiceClient, _ []string) (proto.Message, error) {
		var all authzdv1.ListBundlesResponse
		for token := ""; ; {
			page, err := c.ListBundles(ctx, &authzdv1.ListBundlesRequest{PageToken: token})
			if err != nil {
				return nil, err
			}
			all.Bundles = append(all.Bundles, page.GetBundles()...)
			if token = page.GetNextPageToken(); token == "" {
				return &all, nil
			}
		}
	})
	return cmd
}

func newBundleShow(std stdio) *cobra.Command {
	a := admin{std: std}
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show the revisions of a bundle and what happened to them",
		Long:  "Shows the revisions of one name, and who did what and why. Needs the right audit; -o json has the reports.",
		Args:  cobra.ExactArgs(1),
	}
	a.define(cmd, func(ctx context.Context, c authzdv1.BundleServiceClient, args []string) (proto.Message, error) {
		return c.GetBundle(ctx, &authzdv1.GetBundleRequest{Name: args[0]})
	})
	return cmd
}

func newBundleActivate(std stdio) *cobra.Command {
	a := admin{std: std}
	var m authzdv1.ActivateBundleRequest
	cmd := &cobra.Command{
		Use:   "activate NAME [REVISION]",
		Short: "Make a stored revision the active one",
		Long: "Makes a staged or superseded revision live. Needs the right activate. Exit code: 0 done, 2 it does not compile with\n" +
			"what is active beside it, 1 anything else.",
		Example: `  authzd bundle activate main 2026-11-24.1 --why "approved in review 12"`,
		Args:    cobra.RangeArgs(1, 2),
	}
	cmd.Flags().StringVar(&m.Digest, "digest", "", "which archive, where a revision is not enough")
	cmd.Flags().BoolVar(&m.AllowOlder, "allow-older", false, "take a sequence lower than the active bundle's; recorded")
	cmd.Flags().BoolVar(&m.DropChanges, "drop-changes", false, "leave the changes behind that were made to the active revision's data")
	cmd.Flags().StringVar(&m.Why, "why", "", "reason, for the record")
	a.define(cmd, func(ctx context.Context, c authzdv1.BundleServiceClient, args []string) (proto.Message, error) {
		if m.Name = args[0]; len(args) == 2 {
			m.Revision = args[1]
		}
		return c.ActivateBundle(ctx, &m)
	})
	return cmd
}

func newBundleRollback(std stdio) *cobra.Command {
	a := admin{std: std}
	var m authzdv1.RollbackBundleRequest
	cmd := &cobra.Command{
		Use:     "rollback NAME [REVISION]",
		Short:   "Go back to a revision that was active before",
		Long:    "Makes the revision live that was active before, or the named one, without an upload. Needs the right activate.",
		Example: `  authzd bundle rollback main --why "payments are refused"`,
		Args:    cobra.RangeArgs(1, 2),
	}
	cmd.Flags().StringVar(&m.Digest, "digest", "", "which archive, where a revision is not enough")
	cmd.Flags().StringVar(&m.Why, "why", "", "reason, for the record")
	a.define(cmd, func(ctx context.Context, c authzdv1.BundleServiceClient, args []string) (proto.Message, error) {
		if m.Name = args[0]; len(args) == 2 {
			m.Revision = args[1]
		}
		return c.RollbackBundle(ctx, &m)
	})
	return cmd
}

func quoted(s string) string { return string(rar.StringValue(s).AppendJSON(nil)) }
