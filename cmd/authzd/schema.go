package main

import (
	"embed"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

//go:embed schemas/*.json
var schemaFiles embed.FS

const (
	schemaInput  = "input"
	schemaPermit = "permit"
	schemaQuery  = "query"
)

func newSchema(std stdio) *cobra.Command {
	names := []string{schemaInput, schemaPermit, schemaQuery}
	return &cobra.Command{
		Use:   "schema " + strings.Join(names, "|"),
		Short: "Print a JSON Schema (2020-12) of the contract",
		Long: "Prints a JSON Schema (2020-12) of the policy contract, version 1:\n" +
			"  input   the document that policy sees\n" +
			"  permit  the value of a permit\n" +
			"  query   the body of POST /v1/check",
		ValidArgs: names,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := schemaFiles.ReadFile("schemas/" + args[0] + ".json")
			if err != nil {
				return fmt.Errorf("read schema %q: %w", args[0], err)
			}
			_, err = std.out.Write(text)
			return err
		},
	}
}
