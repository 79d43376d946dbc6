package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/authzd/authzd/store"
)

func newStore(std stdio) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Look after a data directory",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newStoreBackup(std))
	return cmd
}

func newStoreBackup(std stdio) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "backup FILE --data-dir DIR",
		Short: "Copy a data directory into one file",
		Long: "Writes the new file FILE, a tar file that unpacks into a data directory. The server may be running: the\n" +
			"copy is as of one moment. To restore, unpack it into an empty folder and start the server on that.",
		Example: `  authzd store backup authzd-2026-11-24.tar --data-dir /var/lib/authzd`,
		Args:    cobra.ExactArgs(1),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if dir == "" {
			return errors.New("--data-dir: give the folder to back up")
		}
		if err := store.Backup(cmd.Context(), dir, args[0]); err != nil {
			return err
		}
		_, err := fmt.Fprintln(std.out, args[0])
		return err
	}
	cmd.Flags().StringVar(&dir, "data-dir", "", "the folder of authzd serve --data-dir")
	return cmd
}
