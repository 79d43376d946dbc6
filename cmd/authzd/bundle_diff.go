package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/authzd/authzd/bundles"
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
	cmd := &cobra.Command{
		Use:   "diff BEFORE AFTER",
		Short: "Show what differs between two bundles",
		Long: "Shows which permits, forbids and other rules, required kinds, types, tool schemas, data, tests and metadata differ\n" +
			"between two archives or folders. Comments, layout and the files that rules stand in make no difference. No signature\n" +
			"is verified: authzd bundle verify does.\n\n" +
			"Exit code: 0 if they are the same, 2 if they differ, 1 if one can not be read.",
		Example: `  authzd bundle diff policy.tar.gz policy`,
		Args:    cobra.ExactArgs(2),
	}
	var format *string
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		before, err := bundles.Open(args[0], bundles.Limits{})
		if err != nil {
			return located(args[0], err)
		}
		after, err := bundles.Open(args[1], bundles.Limits{})
		if err != nil {
			return located(args[1], err)
		}
		changes, err := bundles.Diff(before, after)
		if err != nil {
			return err
		}
		d := bundleDiff{Before: bundleSide{args[0], before.Bundle.Revision}, After: bundleSide{args[1], after.Bundle.Revision}, Changes: []bundleChange{}}
		for _, c := range changes {
			d.Changes = append(d.Changes, bundleChange{string(c.Kind), c.How, c.Name})
		}
		if err := d.write(std, *format == "json"); err != nil {
			return err
		}
		if len(changes) > 0 {
			return exit{exitDiffers}
		}
		return nil
	}
	format = outputFlag(cmd, "text", "json")
	return cmd
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
