package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/engine"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

// readDetails reads a JSON array of authorization_details.
func readDetails(std stdio, file string) (rar.Value, error) {
	text, err := readQuery(std.in, file)
	if err != nil {
		return rar.Value{}, err
	}
	v, err := rar.DecodeStrict(text, rar.Limits{MaxBytes: api.DefaultMaxBytes})
	if err != nil {
		return rar.Value{}, fmt.Errorf("%s: %w", nameOfInput(file), err)
	}
	return v, nil
}

// question is one call of AuthorizationDetailsService, local or remote.
type question[Q, A proto.Message] struct {
	local  func(context.Context, *engine.Snapshot, Q) (A, error)
	remote func(authzdv1.AuthorizationDetailsServiceClient, context.Context, Q, ...grpc.CallOption) (A, error)
}

// ask answers in this process or by a server, writes the answer as REST does,
// and returns it.
func ask[Q, A proto.Message](ctx context.Context, std stdio, p *policyFlags, request Q, q question[Q, A]) (A, error) {
	answer, err := answerOf(ctx, std, p, request, q)
	if err != nil {
		return answer, reportFault(std, "json", err)
	}
	text, err := api.MarshalJSON(answer)
	if err != nil {
		return answer, fmt.Errorf("encode the answer: %w", err)
	}
	if _, err := std.out.Write(append(text, '\n')); err != nil {
		return answer, fmt.Errorf("write the answer: %w", err)
	}
	return answer, nil
}

func answerOf[Q, A proto.Message](ctx context.Context, std stdio, p *policyFlags, request Q, q question[Q, A]) (A, error) {
	var none A
	if p.addr == "" {
		if err := p.local(); err != nil {
			return none, err
		}
		snapshot, err := p.snapshot(ctx, std)
		if err != nil {
			return none, err
		}
		return q.local(ctx, snapshot, request)
	}
	conn, err := p.dial(std, p.addr)
	if err != nil {
		return none, err
	}
	defer conn.Close() //nolint:errcheck // the answer is in hand
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	answer, err := q.remote(authzdv1.NewAuthorizationDetailsServiceClient(conn), ctx, request)
	if err != nil {
		return none, serverError(p.addr, err)
	}
	return answer, nil
}

// yesOrNo makes the exit code.
func yesOrNo(yes bool, err error) error {
	if err == nil && !yes {
		return exit{exitNo}
	}
	return err
}

func newRARCompare(std stdio) *cobra.Command {
	var p policyFlags
	var file, granted, required string
	var singleUse bool
	cmd := &cobra.Command{
		Use:   "compare (-f BODY.json | --granted DETAILS.json --required DETAILS.json) (--bundle PATH | --types PATH | --addr ADDR)",
		Short: "Tell whether a grant covers a need, and why not",
		Long: "Compares authorization_details by the rules of their types: the body of POST\n" +
			"/v1/authorization-details:compare, or two files that each hold a JSON array.\n\n" +
			"Exit code: 0 covered, 2 not covered, 1 error.",
		Args: noArguments,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		request := &authzdv1.CompareRequest{SingleUse: singleUse}
		if file != "" {
			if err := readBody(std, file, request); err != nil {
				return err
			}
		} else {
			if granted == "-" && required == "-" {
				return errors.New("--granted and --required cannot both be standard input")
			}
			for _, part := range []struct {
				file string
				into *[]byte
			}{{granted, &request.Granted}, {required, &request.Required}} {
				v, err := readDetails(std, part.file)
				if err != nil {
					return err
				}
				*part.into = v.AppendJSON(nil)
			}
		}
		answer, err := ask(cmd.Context(), std, &p, request, question[*authzdv1.CompareRequest, *authzdv1.CompareResponse]{
			local: func(_ context.Context, s *engine.Snapshot, m *authzdv1.CompareRequest) (*authzdv1.CompareResponse, error) {
				return api.CompareDetails(s, m, api.Limits{})
			},
			remote: authzdv1.AuthorizationDetailsServiceClient.Compare,
		})
		return yesOrNo(answer.GetCovered(), err)
	}
	p.define(cmd, true, true)
	f := cmd.Flags()
	f.StringVarP(&file, "file", "f", "", `file with the body; "-" reads standard input`)
	f.StringVar(&granted, "granted", "", "file with what the token grants")
	f.StringVar(&required, "required", "", "file with what is needed")
	f.BoolVar(&singleUse, "single-use", false, "each needed object wants a granted one of its own")
	cmd.MarkFlagsRequiredTogether("granted", "required")
	cmd.MarkFlagsMutuallyExclusive("file", "granted")
	cmd.MarkFlagsMutuallyExclusive("file", "single-use")
	cmd.MarkFlagsOneRequired("file", "granted")
	return cmd
}

// readBody reads the body of a REST request.
func readBody(std stdio, file string, into proto.Message) error {
	text, err := readQuery(std.in, file)
	if err != nil {
		return err
	}
	if err := api.UnmarshalJSON(text, into, api.Limits{}); err != nil {
		return reportFault(std, "json", err)
	}
	return nil
}

func newRARValidate(std stdio) *cobra.Command {
	var p policyFlags
	var file string
	cmd := &cobra.Command{
		Use:   "validate -f DETAILS.json (--bundle PATH | --types PATH | --addr ADDR)",
		Short: "Hold authorization_details against their types",
		Long: "Validates authorization_details, a JSON array, as RFC 9396 section 5 asks of an authorization server.\n\n" +
			"Exit code: 0 valid, 2 not valid, 1 error.",
		Args: noArguments,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		details, err := readDetails(std, file)
		if err != nil {
			return err
		}
		request := &authzdv1.ValidateRequest{AuthorizationDetails: details.AppendJSON(nil)}
		answer, err := ask(cmd.Context(), std, &p, request, question[*authzdv1.ValidateRequest, *authzdv1.ValidateResponse]{
			local: func(_ context.Context, s *engine.Snapshot, m *authzdv1.ValidateRequest) (*authzdv1.ValidateResponse, error) {
				return api.ValidateDetails(s, m, api.Limits{})
			},
			remote: authzdv1.AuthorizationDetailsServiceClient.Validate,
		})
		return yesOrNo(answer.GetValid(), err)
	}
	p.define(cmd, true, true)
	cmd.Flags().StringVarP(&file, "file", "f", "", `file with the authorization_details; "-" reads standard input`)
	_ = cmd.MarkFlagRequired("file") // fails only for a flag that is not there
	return cmd
}

func newRARPlan(std stdio) *cobra.Command {
	var p policyFlags
	var file, now string
	cmd := &cobra.Command{
		Use:   "plan -f BODY.json (--bundle PATH | --addr ADDR)",
		Short: "Tell what one token must hold for several calls",
		Long: "Plans calls, the body of POST /v1/authorization-details:plan: the smallest set of scopes and\n" +
			"authorization_details with which all of them would be allowed.\n\n" +
			"Exit code: 0 if all calls are allowed or would be, 2 if some would not, 1 error.",
		Args: noArguments,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		clock, err := clockAt(now)
		if err != nil {
			return err
		}
		request := &authzdv1.PlanRequest{}
		if err := readBody(std, file, request); err != nil {
			return err
		}
		answer, err := ask(cmd.Context(), std, &p, request, question[*authzdv1.PlanRequest, *authzdv1.PlanResponse]{
			local: func(ctx context.Context, s *engine.Snapshot, m *authzdv1.PlanRequest) (*authzdv1.PlanResponse, error) {
				return api.PlanCalls(ctx, engine.New(engine.Options{Now: clock}), s, m, api.Limits{})
			},
			remote: authzdv1.AuthorizationDetailsServiceClient.Plan,
		})
		status := answer.GetStatus()
		return yesOrNo(status == api.PlanAllowed || status == api.PlanObtainable, err)
	}
	p.define(cmd, false, true)
	cmd.Flags().StringVarP(&file, "file", "f", "", `file with the body; "-" reads standard input`)
	cmd.Flags().StringVar(&now, "now", "", "plan as of this time (RFC 3339); local bundles only")
	cmd.MarkFlagsMutuallyExclusive("now", "addr")
	_ = cmd.MarkFlagRequired("file") // fails only for a flag that is not there
	return cmd
}

func newRARTypes(std stdio) *cobra.Command {
	var p policyFlags
	var resource string
	cmd := &cobra.Command{
		Use:   "types (--bundle PATH | --types PATH | --addr ADDR)",
		Short: "Print the declared types and the OAuth metadata that follows",
		Long: "Prints what GET /v1/authorization-details/types answers: the type metadata document for an authorization\n" +
			"server, and the members for the protected resource metadata of an MCP server (RFC 9728).",
		Args: noArguments,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if resource != "" {
			if err := absoluteURI("resource", resource); err != nil {
				return err
			}
		}
		_, err := ask(cmd.Context(), std, &p, &authzdv1.ListTypesRequest{Resource: resource}, question[*authzdv1.ListTypesRequest, *authzdv1.ListTypesResponse]{
			local: func(_ context.Context, s *engine.Snapshot, m *authzdv1.ListTypesRequest) (*authzdv1.ListTypesResponse, error) {
				return api.ListTypes(s, m, api.DenialOptions{}, api.Limits{})
			},
			remote: authzdv1.AuthorizationDetailsServiceClient.ListTypes,
		})
		return err
	}
	p.define(cmd, true, true)
	cmd.Flags().StringVar(&resource, "resource", "", "canonical resource identifier of the MCP server, to be named in its metadata")
	return cmd
}

// clockAt is a clock that stands still at a time of RFC 3339; "" is the real one.
func clockAt(text string) (func() time.Time, error) {
	if text == "" {
		return time.Now, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return nil, errors.Join(errors.New("--now"), err)
	}
	return func() time.Time { return at }, nil
}
