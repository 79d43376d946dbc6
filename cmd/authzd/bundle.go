package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/authzd/authzd/bundles"
)

func newBundle(std stdio) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bundle",
		Short: "Build, sign, verify, compare, push, pull and activate bundles",
		Long: "Makes archives of bundles, in OPA's format, and their signatures, also in OPA's; see docs/bundles.md.\n" +
			"opa build, opa sign and opa run read and make the same. Pushes them to a running server, and lists, activates and\n" +
			"rolls back what was pushed.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBundleKeygen(std), newBundleBuild(std), newBundleSign(std), newBundleVerify(std), newBundleDiff(std),
		newBundlePush(std), newBundleList(std), newBundleShow(std), newBundleActivate(std), newBundleRollback(std),
		newBundlePull(std), newBundleWatch(std))
	return cmd
}

func newBundleKeygen(std stdio) *cobra.Command {
	var file, kind string
	cmd := &cobra.Command{
		Use:   "keygen -f KEY.pem",
		Short: "Make a key pair for bundle signatures",
		Long: "Makes a key pair: KEY.pem with the private key, that only its owner can read, and beside it\n" +
			"KEY.pub.pem with the public one. Neither file may exist. Prints the key's name, its thumbprint (RFC 7638),\n" +
			"which is what signatures call it unless they are told otherwise.",
		Example: `  authzd bundle keygen -f release.pem
  authzd bundle keygen -f release.pem --type ed25519`,
		Args: noArguments,
	}
	cmd.RunE = func(*cobra.Command, []string) error {
		key, private, public, err := bundles.NewSigningKey(kind)
		if err != nil {
			return fmt.Errorf("--type: %w", err)
		}
		// Never over an older key: what it signed could not be verified any more.
		if err := writeNew(file, private); err != nil {
			return err
		}
		if err := writeNew(publicName(file), public); err != nil {
			_ = os.Remove(file) // half a pair is none
			return err
		}
		return printOut(std, key.ID())
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "write the private key to this new file")
	cmd.Flags().StringVar(&kind, "type", bundles.KeyES256, "kind of key: "+bundles.KeyES256+" or "+bundles.KeyEd25519)
	_ = cmd.MarkFlagRequired("file") // fails only for a flag that is not there
	return cmd
}

// publicName names the public half of a key pair.
func publicName(file string) string { return strings.TrimSuffix(file, ".pem") + ".pub.pem" }

// writeNew writes a file that must not exist and only its owner can read.
func writeNew(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the user names the file
	if err != nil {
		return fmt.Errorf("write the key: %w", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		_ = os.Remove(name) // half a key is none
		return fmt.Errorf("write the key: %w", err)
	}
	return nil
}

func printOut(std stdio, line string) error {
	if _, err := fmt.Fprintln(std.out, line); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

// writeWhole replaces a file, so that readers see the old or the new one, and a
// crash leaves one of them.
func writeWhole(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".authzd-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(bundleMode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", name, err)
	}
	return syncDir(filepath.Dir(name))
}

// bundleMode lets everybody read: policy is no secret, and who may change it is
// what signatures are for.
const bundleMode = 0o644

func syncDir(name string) error {
	d, err := os.Open(name) //nolint:gosec // the folder of a file that the user named
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// bundleReport is what the commands of this group tell with -o json.
type bundleReport struct {
	File      string   `json:"file"`
	Revision  string   `json:"revision,omitempty"`
	Digest    string   `json:"digest,omitempty"`
	KeyID     string   `json:"key_id,omitempty"`
	Algorithm string   `json:"algorithm,omitempty"`
	Scope     string   `json:"scope,omitempty"`
	Issuer    string   `json:"issuer,omitempty"`
	Warnings  []string `json:"warnings,omitempty"`
}

func (r bundleReport) write(std stdio, asJSON bool, verb string) error {
	if asJSON {
		enc := json.NewEncoder(std.out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(r); err != nil {
			return fmt.Errorf("write the answer: %w", err)
		}
		return nil
	}
	for _, w := range r.Warnings {
		printLine(std.err, "warning: "+w)
	}
	lines := []string{verb + " " + r.File}
	for _, part := range []struct{ name, value string }{
		{"revision", r.Revision}, {"key", r.KeyID}, {"algorithm", r.Algorithm}, {"scope", r.Scope}, {"issuer", r.Issuer}, {"digest", r.Digest},
	} {
		if part.value != "" {
			lines = append(lines, "  "+part.name+" "+part.value)
		}
	}
	return printOut(std, strings.Join(lines, "\n"))
}

func newBundleBuild(std stdio) *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "build DIR -o FILE.tar.gz",
		Short: "Make an archive of a bundle's folder",
		Long: "Makes an archive of what a bundle is in a folder: the manifest, Rego with its tests, data, and decision\n" +
			"cases (cases/), which opa build leaves out. The same files give the same bytes. A signature in the folder\n" +
			"stays behind: sign the archive.\n\n" +
			"Exit code: 0, or 1 if the folder holds no bundle; an archive that was there then stays.",
		Example: `  authzd bundle build policy -o policy.tar.gz`,
		Args:    cobra.ExactArgs(1),
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		var buf bytes.Buffer
		content, err := bundles.Build(&buf, args[0], bundles.Limits{})
		if err != nil {
			return located(args[0], err)
		}
		if err := writeWhole(file, buf.Bytes()); err != nil {
			return err
		}
		report := bundleReport{File: file, Revision: content.Bundle.Revision, Warnings: content.Warnings}
		return report.write(std, asJSON, "built")
	}
	// -o is the file, as with opa build.
	cmd.Flags().StringVarP(&file, "output", "o", "", "write the archive to this file")
	cmd.Flags().BoolVar(&asJSON, "json", false, "tell what was built as JSON")
	_ = cmd.MarkFlagRequired("output") // fails only for a flag that is not there
	return cmd
}

func newBundleSign(std stdio) *cobra.Command {
	var file string
	var o bundles.SignOptions
	var format *string
	cmd := &cobra.Command{
		Use:   "sign FILE|DIR --key KEY.pem",
		Short: "Sign an archive or a folder",
		Long: "Signs every file of a bundle. An archive is written anew with its signature; a folder gets the file\n" +
			".signatures.json, which lists all files in it but hidden ones. A signature that was there is replaced.\n\n" +
			"Exit code: 0, or 1 if it was not signed; what was there then stays.",
		Example: `  authzd bundle sign policy.tar.gz --key release.pem
  authzd bundle sign policy.tar.gz --key release.pem --key-id release-2026 --scope production`,
		Args: cobra.ExactArgs(1),
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		key, err := readSigningKey(file)
		if err != nil {
			return err
		}
		content, err := signBundle(args[0], key, o)
		if err != nil {
			return located(args[0], err)
		}
		report := bundleReport{File: args[0], Revision: content.Bundle.Revision, KeyID: cmp.Or(o.KeyID, key.ID()), Scope: o.Scope}
		return report.write(std, *format == "json", "signed")
	}
	f := cmd.Flags()
	f.StringVar(&file, "key", "", "PEM file with the private key (authzd bundle keygen)")
	f.StringVar(&o.KeyID, "key-id", "", "name of the key in the signature; default its thumbprint")
	f.StringVar(&o.Scope, "scope", "", "what the bundle is for, such as production; who verifies must want the same")
	f.StringVar(&o.Algorithm, "algorithm", "", "JWS algorithm, for RSA keys: RS256, RS384, RS512, PS256, PS384 or PS512 (default RS256)")
	_ = cmd.MarkFlagRequired("key") // fails only for a flag that is not there
	format = outputFlag(cmd, "text", "json")
	return cmd
}

// signBundle signs what is at where, and returns its content.
func signBundle(where string, key bundles.SigningKey, o bundles.SignOptions) (bundles.Content, error) {
	stat, err := os.Stat(where)
	if err != nil {
		return bundles.Content{}, fmt.Errorf("sign: %w", err)
	}
	if stat.IsDir() {
		text, err := bundles.SignFolder(where, key, o, bundles.Limits{})
		if err != nil {
			return bundles.Content{}, err
		}
		if err := writeWhole(filepath.Join(where, ".signatures.json"), text); err != nil {
			return bundles.Content{}, err
		}
		return bundles.Open(where, bundles.Limits{})
	}
	f, err := os.Open(where) //nolint:gosec // the user names the file
	if err != nil {
		return bundles.Content{}, fmt.Errorf("sign: %w", err)
	}
	var buf bytes.Buffer
	if err := errors.Join(bundles.SignArchive(&buf, f, key, o, bundles.Limits{}), f.Close()); err != nil {
		return bundles.Content{}, err
	}
	if err := writeWhole(where, buf.Bytes()); err != nil {
		return bundles.Content{}, err
	}
	return bundles.OpenArchive(&buf, bundles.Limits{})
}

func newBundleVerify(std stdio) *cobra.Command {
	var files []string
	var o bundles.VerifyOptions
	var format *string
	cmd := &cobra.Command{
		Use:   "verify FILE|DIR --key PUB.pem...",
		Short: "Verify the signature of an archive or a folder",
		Long: "Verifies a bundle as authzd serve --bundle-key does: one signature, by one of the keys, for exactly this\n" +
			"scope, over every file. It does not compile the policy: authzd test does.\n\n" +
			"Exit code: 0 if the bundle verifies, 1 otherwise.",
		Example: `  authzd bundle verify policy.tar.gz --key release.pub.pem
  authzd bundle verify policy.tar.gz --key release-2026=release.pub.pem --key keys.jwks.json --scope production`,
		Args: cobra.ExactArgs(1),
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		keys, err := readBundleKeys("key", files)
		if err != nil {
			return err
		}
		content, s, err := bundles.OpenSigned(args[0], keys, o, bundles.Limits{})
		if err != nil {
			return located(args[0], err)
		}
		report := bundleReport{
			File: args[0], Revision: content.Bundle.Revision, Digest: s.Digest,
			KeyID: s.KeyID, Algorithm: s.Algorithm, Scope: s.Scope, Issuer: s.Issuer, Warnings: content.Warnings,
		}
		return report.write(std, *format == "json", "verified")
	}
	f := cmd.Flags()
	f.StringArrayVar(&files, "key", nil, "[ID=]FILE with public keys, PEM or JWK set; may be repeated")
	f.StringVar(&o.Scope, "scope", "", "what the signature must be for; default none")
	_ = cmd.MarkFlagRequired("key") // fails only for a flag that is not there
	format = outputFlag(cmd, "text", "json")
	return cmd
}

// readBundleKeys reads [ID=]FILE of each value of a flag and reports every
// fault.
func readBundleKeys(flag string, values []string) (bundles.Keys, error) {
	var keys bundles.Keys
	var faults []error
	for _, v := range values {
		id, name := splitKeyFile(v)
		text, err := readSmall(name, maxBundleKeys)
		if err == nil {
			err = keys.Add(id, text)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s %s: %w", flag, name, err))
		}
	}
	return keys, errors.Join(faults...)
}

// maxBundleKeys bounds a file of keys.
const maxBundleKeys = 1 << 20

// splitKeyFile takes [ID=]FILE apart. An id has no slash, so that ./a=b is a
// file.
func splitKeyFile(v string) (id, file string) {
	id, file, ok := strings.Cut(v, "=")
	if !ok || id == "" || strings.ContainsAny(id, `/\`) {
		return "", v
	}
	return id, file
}

// readSmall reads a file of at most limit bytes.
func readSmall(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err //nolint:wrapcheck // names the file itself
	}
	defer f.Close() //nolint:errcheck // read only, nothing to lose
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err //nolint:wrapcheck // names the file itself
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("larger than %d bytes", limit)
	}
	return text, nil
}

func readSigningKey(name string) (bundles.SigningKey, error) {
	text, err := readSmall(name, maxBundleKeys)
	if err != nil {
		return bundles.SigningKey{}, fmt.Errorf("--key: %w", err)
	}
	key, err := bundles.ParseSigningKey(text)
	if err != nil {
		return bundles.SigningKey{}, fmt.Errorf("--key %s: %w", name, err)
	}
	return key, nil
}
