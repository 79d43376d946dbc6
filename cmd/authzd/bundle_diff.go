package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/authzd/authzd/bundles"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// exitDiffers is authzd bundle diff's answer that the bundles differ.
const exitDiffers = 2

// bundleDiff is what authzd bundle diff tells with -o json.
type bundleDiff struct {
	Before  bundleSide     `json:"before"`
	After   bundleSide     `json:"after"`
	Changes []bundleChange `json:"changes"`
}

type bundleSide struct {
	File     string `json:"file"`
	Revision string `json:"revision"`
}

type bundleChange struct {
	Kind   string `json:"kind"`
	Change string `json:"change"`
	Name   string `json:"name"`
}

func newBundleDiff(std stdio) *cobra.Command {
	a := admin{std: std}
	cmd := &cobra.Command{
		Use:   "diff BEFORE AFTER",
		Short: "Show what differs between two bundles",
		Long: "Shows which permits, forbids and other rules, required kinds, types, tool schemas, data, tests and metadata differ\n" +
			"between two bundles. Comments, layout and the files that rules stand in make no difference. No signature is\n" +
			"verified: authzd bundle verify does.\n\n" +
			"A bundle is an archive, a folder, or what a server has: NAME@REVISION, NAME@sha256:…, or NAME@ for what is active\n" +
			"(which needs the right audit there). Exit code: 0 if they are the same, 2 if they differ, 1 if one can not be read.",
		Example: `  authzd bundle diff policy.tar.gz policy
  authzd bundle diff main@ policy.tar.gz
  authzd bundle diff main@2026-11-24.1 main@2026-11-24.2`,
		Args: cobra.ExactArgs(2),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		before, err := a.open(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		after, err := a.open(cmd.Context(), args[1])
		if err != nil {
			return err
		}
		changes, err := bundles.Diff(before, after)
		if err != nil {
			return err
		}
		d := bundleDiff{Before: bundleSide{args[0], before.Bundle.Revision}, After: bundleSide{args[1], after.Bundle.Revision}, Changes: []bundleChange{}}
		for _, c := range changes {
			d.Changes = append(d.Changes, bundleChange{string(c.Kind), c.How, c.Name})
		}
		if err := d.write(std, *a.format == "json"); err != nil {
			return err
		}
		if len(changes) > 0 {
			return exit{exitDiffers}
		}
		return nil
	}
	a.flags(cmd)
	return cmd
}

// open reads a bundle, here or on a server.
func (a *admin) open(ctx context.Context, arg string) (bundles.Content, error) {
	m, pushed := pushedRef(arg)
	if !pushed {
		content, err := bundles.Open(arg, bundles.Limits{})
		if err == nil {
			err = content.Whole()
		}
		if err != nil {
			return content, located(arg, err)
		}
		return content, nil
	}
	conn, err := a.connect()
	if err != nil {
		return bundles.Content{}, err
	}
	defer conn.Close() //nolint:errcheck // the answer is in hand
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	_, archive, err := download(ctx, authzdv1.NewBundleServiceClient(conn), m)
	if err != nil {
		return bundles.Content{}, a.refused(err)
	}
	content, err := bundles.OpenArchive(bytes.NewReader(archive), bundles.Limits{})
	if err != nil {
		return content, located(arg, err)
	}
	return content, nil
}

func (d *bundleDiff) write(std stdio, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(std.out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(d); err != nil {
			return fmt.Errorf("write the answer: %w", err)
		}
		return nil
	}
	for _, c := range d.Changes {
		if err := printOut(std, fmt.Sprintf("%-7s %s %s", c.Change, c.Kind, plain(c.Name))); err != nil {
			return err
		}
	}
	return nil
}
