package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"

	"github.com/spf13/cobra"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

func newRAR(std stdio) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rar",
		Short: "Work with authorization_details and their types",
		Long: "Works with authorization_details (RFC 9396): declares, validates, compares and plans them as the\n" +
			"server does. See docs/authorization-details.md.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newRARLint(std), newRARCompare(std), newRARValidate(std), newRARPlan(std),
		newRARTypes(std), newRARReference(std), newRARKeygen(std),
	)
	return cmd
}

// exitNo is the answer no of compare, validate and plan: not an error.
const exitNo = exitDeny

// policyFlags say whose types count: local bundles', declarations alone, or a
// server's.
type policyFlags struct {
	bundles []string
	types   []string
	addr    string
	remoteOptions
}

// noArguments is cobra.NoArgs in words that help: files go by flags.
func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("takes no arguments, and %q was given: name files by flags", args[0])
	}
	return nil
}

func (p *policyFlags) define(cmd *cobra.Command, declarationsAlone, remote bool) {
	f := cmd.Flags()
	f.StringArrayVar(&p.bundles, "bundle", nil, "folder or archive of a bundle, as PATH or NAME=PATH; may be repeated")
	sources := []string{"bundle"}
	if declarationsAlone {
		f.StringArrayVar(&p.types, "types", nil, "file with a type declaration, or folder or archive with authzd_types, without any policy; may be repeated")
		sources = append(sources, "types")
	}
	if remote {
		f.StringVar(&p.addr, "addr", "", "ask the server at this gRPC address instead")
		p.remoteOptions.define(f)
		sources = append(sources, "addr")
	}
	cmd.MarkFlagsMutuallyExclusive(sources...)
	cmd.MarkFlagsOneRequired(sources...)
}

// snapshot compiles the local bundles; warnings go to standard error.
func (p *policyFlags) snapshot(ctx context.Context, std stdio) (*engine.Snapshot, error) {
	if len(p.types) > 0 {
		return p.declared(ctx, std)
	}
	refs := make([]bundleRef, 0, len(p.bundles))
	for _, s := range p.bundles {
		ref, err := looseBundleRef(s)
		if err != nil {
			return nil, err
		}
		refs = append(refs, ref)
	}
	set, err := openPolicies(refs)
	if err != nil {
		return nil, err
	}
	snapshot, warnings, err := set.compile(ctx)
	if err != nil {
		return nil, err
	}
	for _, w := range append(set.warnings(), findingTexts(warnings)...) {
		printLine(std.err, "warning: "+w)
	}
	return snapshot, nil
}

// declared compiles type declarations beside a policy that permits nothing.
func (p *policyFlags) declared(ctx context.Context, std stdio) (*engine.Snapshot, error) {
	var members []rar.Member
	for _, where := range p.types {
		decls, _, err := declarations(where)
		if err != nil {
			return nil, err
		}
		for _, d := range decls {
			members = append(members, rar.Member{Name: d.Name, Value: d.Document})
		}
	}
	contract := rar.ObjectValue(rar.Member{Name: "contract", Value: rar.IntValue(engine.ContractVersion)})
	snapshot, warnings, err := engine.Compile(ctx, []engine.Bundle{{
		Name: "types", Roots: []string{"authz", "authzd_types"}, Metadata: contract,
		Modules: []engine.Module{{Path: "policy.rego", Text: "package authz\n\npermit[\"nothing\"] := {} if false\n"}},
		Data:    rar.ObjectValue(rar.Member{Name: "authzd_types", Value: rar.ObjectValue(members...)}),
	}})
	for _, w := range findingTexts(warnings) {
		printLine(std.err, "warning: "+w)
	}
	return snapshot, err
}

// absoluteURI refuses what no token names in aud: a reference made for it would
// match nothing.
func absoluteURI(flag, s string) error {
	if u, err := url.Parse(s); err != nil || u.Scheme == "" || u.Host == "" || u.Fragment != "" {
		return fmt.Errorf("--%s: %q is not an absolute URI (RFC 8707)", flag, s)
	}
	return nil
}

func newRARKeygen(std stdio) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "keygen [-f FILE]",
		Short: "Make a key for authorization references",
		Long: "Makes a key for authzd serve --reference-key: 32 random bytes as one line of base64url. It goes to\n" +
			"standard output, or to a new file that only its owner can read. Keep it secret, and the same on all replicas.",
		Args: noArguments,
	}
	cmd.RunE = func(*cobra.Command, []string) error {
		var secret [rar.MinReferenceKey]byte
		_, _ = rand.Read(secret[:]) // crypto/rand.Read never fails since Go 1.24.
		line := base64.RawURLEncoding.EncodeToString(secret[:]) + "\n"
		if file == "" {
			_, err := fmt.Fprint(std.out, line)
			return err
		}
		// Never over an older key: references under it would be lost.
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the user names the file
		if err != nil {
			return fmt.Errorf("write the key: %w", err)
		}
		_, err = f.WriteString(line)
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			_ = os.Remove(file) // half a key is none
			return fmt.Errorf("write the key: %w", err)
		}
		return nil
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "write to this new file")
	return cmd
}

func newRARReference(std stdio) *cobra.Command {
	var p policyFlags
	var file, resource string
	var keys []string
	var canonical, singleUse bool
	cmd := &cobra.Command{
		Use:   "reference -f DETAILS.json (--bundle PATH | --types PATH) (--resource URI --key FILE | --canonical)",
		Short: "Print the authorization_reference of authorization_details",
		Long: "Prints the authorization_reference that the server gives a hint for these authorization_details (a JSON\n" +
			"array) at this MCP server: one line for each key, the current one's first. --canonical prints the text\n" +
			"that a reference is made of, which all details share that mean the same; it needs no key.\n\n" +
			"Exit code: 0, or 2 if these details have no reference (single use), 1 on an error.",
		Args: noArguments,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		details, err := readDetails(std, file)
		if err != nil {
			return err
		}
		snapshot, err := p.snapshot(cmd.Context(), std)
		if err != nil {
			return err
		}
		list, err := snapshot.Types().ParseValue(details)
		if err != nil {
			return fmt.Errorf("%s: %w", nameOfInput(file), err)
		}
		if canonical {
			_, err := std.out.Write(append(snapshot.Types().AppendCanonicalDetails(nil, list), '\n'))
			return err
		}
		if resource == "" || len(keys) == 0 {
			return errors.New("--resource and --key are required, or --canonical")
		}
		if err := absoluteURI("resource", resource); err != nil {
			return err
		}
		loaded, err := readReferenceKeys(keys)
		if err != nil {
			return err
		}
		refs := snapshot.Types().References(loaded, resource, list, singleUse)
		for _, r := range refs {
			if _, err := fmt.Fprintln(std.out, r); err != nil {
				return fmt.Errorf("write the reference: %w", err)
			}
		}
		if len(refs) == 0 {
			printLine(std.err, "authzd: these details have no reference: they are for single use, or there are none")
			return exit{exitNo}
		}
		return nil
	}
	p.define(cmd, true, false)
	f := cmd.Flags()
	f.StringVarP(&file, "file", "f", "", `file with the authorization_details; "-" reads standard input`)
	f.StringVar(&resource, "resource", "", "canonical resource identifier of the MCP server, as tokens name it in aud")
	f.StringArrayVar(&keys, "key", nil, "FILE with a reference key (authzd rar keygen); may be repeated")
	f.BoolVar(&canonical, "canonical", false, "print the canonical text instead")
	f.BoolVar(&singleUse, "single-use", false, "the requirement is for single use")
	_ = cmd.MarkFlagRequired("file") // fails only for a flag that is not there
	return cmd
}

func nameOfInput(file string) string {
	if file == "-" {
		return "standard input"
	}
	return file
}
