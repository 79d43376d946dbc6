package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/mcp"
	"github.com/authzd/authzd/rar"
)

// checkOptions are the flags of authzd check.
type checkOptions struct {
	file    string
	bundles []string
	addr    string
	now     string
	explain explainFlags
	remoteOptions
	format *string
}

func newCheck(std stdio) *cobra.Command {
	var o checkOptions
	cmd := &cobra.Command{
		Use:   "check -f QUERY.json [--bundle PATH]... | [--addr ADDR] [--explain]",
		Short: "Decide one query",
		Long: "Decides one query, the body of POST /v1/check, on local bundles or by asking a server.\n" +
			"Without either, the embedded default policy decides, which denies.\n\n" +
			"With --explain, tells of each rule that was evaluated what it came out as, and of each\n" +
			"definition that does not hold the expression that it stopped at. A server tells that to\n" +
			"callers with the right \"explain\", as POST /v1/check:explain. The query is judged as one\n" +
			"that is about to be executed.\n\n" +
			"Exit code: 0 allow, 2 deny, 1 error.",
		Args: cobra.NoArgs,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return check(cmd.Context(), std, o) }
	f := cmd.Flags()
	f.StringVarP(&o.file, "file", "f", "", `file with the query; "-" reads standard input`)
	f.StringArrayVar(&o.bundles, "bundle", nil, "folder or archive of a bundle, as PATH or NAME=PATH; may be repeated")
	f.StringVar(&o.addr, "addr", "", "ask the server at this gRPC address instead")
	f.StringVar(&o.now, "now", "", "decide as of this time (RFC 3339); local bundles only")
	f.BoolVar(&o.explain.on, "explain", false, "tell rule by rule why")
	f.BoolVar(&o.explain.trace, "trace", false, "with --explain, add OPA's own trace with the values of variables")
	o.define(f)
	o.format = outputFlag(cmd, "json", "text")
	cmd.MarkFlagsMutuallyExclusive("bundle", "addr")
	cmd.MarkFlagsMutuallyExclusive("now", "addr")
	return cmd
}

func check(ctx context.Context, std stdio, o checkOptions) error {
	if o.file == "" {
		return errors.New(`--file is required; "-" reads standard input`)
	}
	if o.explain.trace && !o.explain.on {
		return errors.New("--trace needs --explain")
	}
	query, err := readQuery(std.in, o.file)
	if err != nil {
		return err
	}
	var response rar.Value
	if o.addr != "" {
		response, err = askServer(ctx, std, &o, query)
	} else if err = o.local(); err == nil {
		response, err = checkLocal(ctx, std, query, &o)
	}
	if err != nil {
		return reportFault(std, *o.format, err)
	}
	if o.explain.on {
		return reportExplanation(std.out, *o.format, response)
	}
	return reportDecision(std.out, *o.format, response)
}

// readQuery reads one byte more than any query may have, so that the decoder
// and not this function refuses a longer one.
func readQuery(stdin io.Reader, name string) ([]byte, error) {
	r := stdin
	if name != "-" {
		f, err := os.Open(name) //nolint:gosec // the user names the file to read
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", nameOfInput(name), err)
		}
		defer f.Close() //nolint:errcheck // read only, nothing to lose
		r = f
	}
	data, err := io.ReadAll(io.LimitReader(r, api.DefaultMaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", nameOfInput(name), err)
	}
	return data, nil
}

func checkLocal(ctx context.Context, std stdio, query []byte, o *checkOptions) (rar.Value, error) {
	now, err := clockAt(o.now)
	if err != nil {
		return rar.Value{}, err
	}
	p := policyFlags{bundles: o.bundles}
	snapshot, err := p.snapshot(ctx, std)
	if err != nil {
		return rar.Value{}, err
	}
	if o.explain.on {
		return explain(ctx, snapshot, now, query, o.explain)
	}
	_, response, err := decide(ctx, snapshot, engine.Options{Now: now}, query)
	return response, err
}

// decide answers query as the doors of the server do, and returns the response
// as REST writes it, too.
func decide(ctx context.Context, s *engine.Snapshot, o engine.Options, query []byte) (engine.Decision, rar.Value, error) {
	r, err := decodeFor(s, query)
	if err != nil {
		return engine.Decision{}, rar.Value{}, err
	}
	d, err := engine.New(o).DecideOn(ctx, s, r.Query)
	if err != nil {
		return engine.Decision{}, rar.Value{}, err
	}
	answer := api.Respond(d, r, api.DenialOptions{})
	response, err := readBack(answer.AppendJSON(nil))
	return d, response, err
}

// decodeFor decodes a query that is to be decided on s.
func decodeFor(s *engine.Snapshot, query []byte) (api.Request, error) {
	r, err := api.DecodeQuery(query, api.Limits{})
	if err != nil {
		return api.Request{}, err
	}
	if want := r.Require; want != (engine.PolicyRef{}) && !hasBundle(s, want) {
		return api.Request{}, &api.Error{
			Code: api.CodeRevisionNotActive, Path: "/require_revision",
			Err: fmt.Errorf("revision %q of bundle %q is not the one at hand", want.Revision, want.Bundle),
		}
	}
	return r, nil
}

// readBack reads a response, our own or a server's.
func readBack(text []byte) (rar.Value, error) {
	v, err := rar.DecodeStrict(text, responseLimits())
	if err != nil {
		return rar.Value{}, fmt.Errorf("read the response: %w", err)
	}
	return v, nil
}

func hasBundle(s *engine.Snapshot, want engine.PolicyRef) bool {
	for _, b := range s.Bundles() {
		if b == want {
			return true
		}
	}
	return false
}

// responseLimits are wide: the response is our own, and quotes the query.
func responseLimits() rar.Limits { return rar.Limits{MaxBytes: 16 << 20, MaxDepth: 256} }

// fault is an error in the form that every door gives it.
type fault struct {
	code, message, path string
}

// faultOf returns what is coded in err.
func faultOf(err error) (fault, bool) {
	var (
		byAPI    *api.Error
		byEngine *engine.Error
		byMCP    *mcp.Error
		byRAR    *rar.Error
		remote   *remoteError
	)
	switch {
	case errors.As(err, &remote):
		return remote.fault, true
	case errors.As(err, &byAPI):
		return fault{string(byAPI.Code), causeText(byAPI.Err), byAPI.Path}, true
	case errors.As(err, &byEngine):
		return fault{string(byEngine.Code), causeText(byEngine.Err), byEngine.Path}, true
	case errors.As(err, &byMCP):
		return fault{string(byMCP.Code), causeText(byMCP.Err), byMCP.Path}, true
	case errors.As(err, &byRAR):
		return fault{string(byRAR.Code), causeText(byRAR.Err), byRAR.Path}, true
	}
	return fault{}, false
}

func causeText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// reportFault prints a coded error in the form of the output: scripts that ask
// for JSON get the body that REST would give.
func reportFault(std stdio, format string, err error) error {
	f, ok := faultOf(err)
	if !ok || format != "json" {
		return err
	}
	members := []rar.Member{
		{Name: "code", Value: rar.StringValue(f.code)},
		{Name: "message", Value: rar.StringValue(f.message)},
	}
	if f.path != "" {
		members = append(members, rar.Member{Name: "path", Value: rar.StringValue(f.path)})
	}
	if _, werr := std.out.Write(append(rar.ObjectValue(members...).AppendJSON(nil), '\n')); werr != nil {
		return fmt.Errorf("write the answer: %w", werr)
	}
	return err
}

func reportDecision(w io.Writer, format string, response rar.Value) error {
	out := append(response.AppendJSON(nil), '\n')
	if format == "text" {
		out = appendText(nil, response)
	}
	return reportAnswer(w, out, response)
}

// reportAnswer writes an answer, and exits as the decision in it says.
func reportAnswer(w io.Writer, out []byte, response rar.Value) error {
	if _, err := w.Write(out); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	// Anything but the word ALLOW is no allow.
	if decision, _ := response.Get("decision"); decision.Text() != "ALLOW" {
		return exit{exitDeny}
	}
	return nil
}
