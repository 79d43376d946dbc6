package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/authzd/authzd/bundles"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

func newData(std stdio) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "data",
		Short: "Read and change the data of a server's active bundle",
		Long: "Changes data that policy decides by, without another bundle: where the signed manifest lets it, under\n" +
			"metadata.authzd.writable_data. A change is on disk, recorded, and in force, when the command returns; see\n" +
			"docs/bundles.md. The server needs --data-dir.",
		Example: `  authzd data set main /users/alice '{"roles": ["editor"]}' --why "ticket 4711"
  authzd data get main /users/alice
  authzd data remove main /users/bob --why "has left"`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDataGet(std), newDataSet(std), newDataRemove(std), newDataPatch(std))
	return cmd
}

func newDataGet(std stdio) *cobra.Command {
	a := admin{std: std}
	cmd := &cobra.Command{
		Use:   "get NAME PATH",
		Short: "Read a document",
		Long: "Reads a document of the active revision's data, as changed, of at most a mebibyte. PATH is a JSON Pointer. Needs the\n" +
			"right audit; -o json has its tag.",
		Args: cobra.ExactArgs(2),
	}
	a.define(cmd, func(ctx context.Context, c authzdv1.BundleServiceClient, args []string) (proto.Message, error) {
		return c.GetData(ctx, &authzdv1.GetDataRequest{Name: args[0], Path: args[1]})
	})
	return cmd
}

// changeFlags are those of a change of one document.
func changeFlags(cmd *cobra.Command, m *authzdv1.ChangeDataRequest) {
	cmd.Flags().StringVar(&m.Why, "why", "", "reason, for the record")
	cmd.Flags().StringVar(&m.IfMatch, "if-match", "", "the tag that the document has to have, from data get -o json; * for any")
}

func newDataSet(std stdio) *cobra.Command {
	a := admin{std: std}
	var m authzdv1.ChangeDataRequest
	var file string
	cmd := &cobra.Command{
		Use:   "set NAME PATH [JSON]",
		Short: "Set a document",
		Long: "Sets a document, and makes the objects on the way to it. PATH is a JSON Pointer; where it ends with the index of an\n" +
			"element, or - for the end, the document is put in before that. Without JSON it is read from --file, or standard input.\n" +
			"Needs the right data. Exit code: 0 done, 2 policy can not be evaluated with it, 1 anything else.",
		Example: `  authzd data set main /users/alice '{"roles": ["editor"]}'`,
		Args:    cobra.RangeArgs(2, 3),
	}
	changeFlags(cmd, &m)
	cmd.Flags().BoolVar(&m.IfAbsent, "if-absent", false, "only if there is no document yet")
	cmd.Flags().StringVarP(&file, "file", "f", "-", "file with the document; - is standard input")
	a.define(cmd, func(ctx context.Context, c authzdv1.BundleServiceClient, args []string) (proto.Message, error) {
		value, err := setValue(std, args[2:], file, cmd.Flags().Changed("file"))
		if err != nil {
			return nil, err
		}
		m.Name, m.Edits = args[0], []*authzdv1.DataEdit{{Op: "upsert", Path: args[1], Value: value}}
		return c.ChangeData(ctx, &m)
	})
	return cmd
}

// setValue is the document to set: the argument, or what a file has.
func setValue(std stdio, args []string, file string, given bool) ([]byte, error) {
	switch {
	case len(args) == 0:
		return readChange(std, file)
	case given:
		return nil, errors.New("the document is given twice: as an argument, and by --file")
	}
	return []byte(args[0]), nil
}

func newDataRemove(std stdio) *cobra.Command {
	a := admin{std: std}
	var m authzdv1.ChangeDataRequest
	cmd := &cobra.Command{
		Use:   "remove NAME PATH",
		Short: "Remove a document",
		Long:  "Removes a document, which must be there. PATH is a JSON Pointer. Needs the right data.",
		Args:  cobra.ExactArgs(2),
	}
	changeFlags(cmd, &m)
	a.define(cmd, func(ctx context.Context, c authzdv1.BundleServiceClient, args []string) (proto.Message, error) {
		m.Name, m.Edits = args[0], []*authzdv1.DataEdit{{Op: "remove", Path: args[1]}}
		return c.ChangeData(ctx, &m)
	})
	return cmd
}

func newDataPatch(std stdio) *cobra.Command {
	a := admin{std: std}
	var m authzdv1.ChangeDataRequest
	cmd := &cobra.Command{
		Use:   "patch NAME FILE",
		Short: "Make many changes, all or none",
		Long: `Makes the changes of a file in the form of OPA's patch.json, {"data": [{"op": "upsert", "path": "/users/alice",` + "\n" +
			`"value": {}}, {"op": "remove", "path": "/users/bob"}]}: all of them or none. FILE - is standard input. Needs the right data.`,
		Args: cobra.ExactArgs(2),
	}
	cmd.Flags().StringVar(&m.Why, "why", "", "reason, for the record")
	a.define(cmd, func(ctx context.Context, c authzdv1.BundleServiceClient, args []string) (proto.Message, error) {
		text, err := readChange(std, args[1])
		if err != nil {
			return nil, err
		}
		edits, err := bundles.DecodePatch(text, args[1])
		if err != nil {
			return nil, err //nolint:wrapcheck // coded
		}
		m.Name = args[0]
		for _, e := range edits {
			m.Edits = append(m.Edits, editMessage(e))
		}
		return c.ChangeData(ctx, &m)
	})
	return cmd
}

func editMessage(e rar.Edit) *authzdv1.DataEdit {
	m := &authzdv1.DataEdit{Op: bundles.OpName(e.Op), Path: bundles.Pointer(e.Path)}
	if e.Op != rar.Remove {
		m.Value = e.Value.AppendJSON(nil)
	}
	return m
}

// readChange reads a file that goes into one change; - is standard input.
func readChange(std stdio, name string) ([]byte, error) {
	from := std.in
	if name != "-" {
		f, err := os.Open(name) //nolint:gosec // whoever runs the command names it
		if err != nil {
			return nil, fmt.Errorf("read the document: %w", err)
		}
		defer f.Close() //nolint:errcheck // read only
		from = f
	}
	text, err := io.ReadAll(io.LimitReader(from, bundles.MaxDeltaBytes+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the document: %w", err)
	case len(text) > bundles.MaxDeltaBytes:
		return nil, fmt.Errorf("%s is larger than %d bytes, which is all that one change may be", name, bundles.MaxDeltaBytes)
	}
	return text, nil
}
