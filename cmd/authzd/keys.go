package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/authzd/authzd/api/callers"
)

func newKeys(std stdio) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Make, list and revoke the static keys of callers",
		Long: "Works on the file that authzd serve --keys-file reads. A running server sees a change within a second.\n" +
			"The file holds hashes: nothing can show a key again.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newKeysCreate(std), newKeysList(std), newKeysRevoke(std))
	return cmd
}

// keysFileFlag adds --keys-file, which every command of this group needs.
func keysFileFlag(cmd *cobra.Command) *string {
	file := cmd.Flags().String(keysFlag, "", "the file of keys")
	_ = cmd.MarkFlagRequired(keysFlag) // fails only for a flag that is not there
	return file
}

func newKeysCreate(std stdio) *cobra.Command {
	var file *string
	var rights []string
	var expires time.Duration
	var audience string
	cmd := &cobra.Command{
		Use:   "create NAME --rights RIGHT,... --keys-file FILE",
		Short: "Make a key and print it, once",
		Long: "Makes a key and prints it as one line, which is its only showing. The caller sends it as\n" +
			"\"Authorization: Bearer KEY\" over REST, or as metadata \"authorization\" over gRPC. A name may have several\n" +
			"keys, so that one can replace another. The file is made if it is absent.\n\n" +
			"Rights: check, assert, explain, push, activate, data, approve, audit, admin (docs/security.md). None includes another.",
		Args: cobra.ExactArgs(1),
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		set, err := callers.ParseRights(rights)
		if err != nil {
			return fmt.Errorf("--rights: %w", err)
		}
		key := callers.Key{Name: args[0], Rights: set, Audience: audience, Created: time.Now().UTC().Truncate(time.Second)}
		if expires < 0 || expires > 0 && expires < time.Second {
			return errors.New("--expires: must be at least a second; 0 is never")
		}
		if expires > 0 {
			key.Expires = key.Created.Add(expires)
		}
		var text string
		err = callers.UpdateKeys(*file, true, func(keys []callers.Key) ([]callers.Key, error) {
			var err error
			if key, text, err = callers.NewKey(key, rand.Reader); err != nil {
				return nil, err
			}
			return append(keys, key), nil
		})
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(std.out, text); err != nil {
			return fmt.Errorf("write the key: %w", err)
		}
		return nil
	}
	file = keysFileFlag(cmd)
	f := cmd.Flags()
	f.StringSliceVar(&rights, "rights", nil, "what the key may do, separated by commas")
	f.DurationVar(&expires, "expires", 0, "how long the key is good, such as 720h; 0 is for ever")
	f.StringVar(&audience, "audience", "", "resource identifier of the caller's MCP server, for queries that name none")
	_ = cmd.MarkFlagRequired("rights") // fails only for a flag that is not there
	return cmd
}

func newKeysList(std stdio) *cobra.Command {
	var file *string
	cmd := &cobra.Command{
		Use:   "list --keys-file FILE",
		Short: "List keys: id, name, rights, state, audience",
		Long:  "Lists keys, one a line, with tabs between id, name, rights, state and audience.",
		Args:  cobra.NoArgs,
	}
	cmd.RunE = func(*cobra.Command, []string) error {
		keys, err := callers.ReadKeys(*file)
		if err != nil {
			return err
		}
		now := time.Now()
		for _, k := range keys {
			line := strings.Join([]string{k.ID, k.Name, k.Rights.String(), keyState(k, now), k.Audience}, "\t")
			if _, err := fmt.Fprintln(std.out, strings.TrimRight(line, "\t")); err != nil {
				return fmt.Errorf("write the list: %w", err)
			}
		}
		return nil
	}
	file = keysFileFlag(cmd)
	return cmd
}

func keyState(k callers.Key, now time.Time) string {
	at := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	switch {
	case !k.Revoked.IsZero():
		return "revoked " + at(k.Revoked)
	case k.Expires.IsZero():
		return "valid"
	case !now.Before(k.Expires):
		return "expired " + at(k.Expires)
	}
	return "valid until " + at(k.Expires)
}

func newKeysRevoke(std stdio) *cobra.Command {
	var file *string
	var id string
	cmd := &cobra.Command{
		Use:   "revoke NAME --keys-file FILE [--id ID]",
		Short: "Revoke the keys of a name, or one of them",
		Long:  "Revokes every key of a name, or with --id one of them, for good, and prints the ids. Exit code 1 if there was none to revoke.",
		Args:  cobra.ExactArgs(1),
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		var revoked []string
		err := callers.UpdateKeys(*file, false, func(keys []callers.Key) ([]callers.Key, error) {
			for i := range keys {
				k := &keys[i]
				if k.Name == args[0] && (id == "" || k.ID == id) && k.Revoked.IsZero() {
					k.Revoked = time.Now().UTC().Truncate(time.Second)
					revoked = append(revoked, k.ID)
				}
			}
			if len(revoked) == 0 {
				return nil, fmt.Errorf("no key of %q is left to revoke", args[0])
			}
			return keys, nil
		})
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(std.out, strings.Join(revoked, "\n")); err != nil {
			return fmt.Errorf("write the ids: %w", err)
		}
		return nil
	}
	file = keysFileFlag(cmd)
	cmd.Flags().StringVar(&id, "id", "", "revoke only the key with this id")
	return cmd
}
