package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/authzd/authzd/bundles"
)

// keyPair makes a key pair in a new folder and returns its files and its id.
func keyPair(t *testing.T, kind string) (private, public, id string) {
	t.Helper()
	private = filepath.Join(t.TempDir(), "release.pem")
	code, out, stderr := command(t, "", "bundle", "keygen", "-f", private, "--type", kind)
	if code != 0 {
		t.Fatalf("keygen: %s", stderr)
	}
	return private, publicName(private), strings.TrimSpace(out)
}

// signedArchive builds and signs the bundle in dir.
func signedArchive(t *testing.T, dir, private string, args ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "b.tar.gz")
	if code, _, stderr := command(t, "", "bundle", "build", dir, "-o", file); code != 0 {
		t.Fatalf("build: %s", stderr)
	}
	if code, _, stderr := command(t, "", append([]string{"bundle", "sign", file, "--key", private}, args...)...); code != 0 {
		t.Fatalf("sign: %s", stderr)
	}
	return file
}

func TestBundleSignAndVerify(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{bundles.KeyES256, bundles.KeyEd25519} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			private, public, id := keyPair(t, kind)
			for _, name := range []string{private, public} {
				if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("%s: %v, %v", name, info, err)
				}
			}
			file := signedArchive(t, paymentsBundle, private, "--scope", "production")
			code, out, stderr := command(t, "", "bundle", "verify", file, "--key", public, "--scope", "production", "-o", "json")
			if code != 0 {
				t.Fatalf("verify: %s", stderr)
			}
			got := document(t, out)
			if got["key_id"] != id || got["revision"] != "payments-1" || got["scope"] != "production" || !strings.Contains(out, `"digest": "sha256:`) {
				t.Errorf("got %s", out)
			}
			content, err := bundles.Open(file, bundles.Limits{})
			if err != nil || len(content.Cases) == 0 {
				t.Errorf("the archive holds %d cases, %v", len(content.Cases), err)
			}
			dir := bundle(t, map[string]string{"policy.rego": readPolicy, "README.md": "for people\n"})
			if code, _, stderr := command(t, "", "bundle", "sign", dir, "--key", private, "--key-id", "mine"); code != 0 {
				t.Fatalf("sign a folder: %s", stderr)
			}
			if code, out, stderr := command(t, "", "bundle", "verify", dir, "--key", "mine="+public); code != 0 || !strings.Contains(out, "mine") {
				t.Errorf("verify a folder: %s%s", out, stderr)
			}
		})
	}
}

func TestBundleBuildIsDeterministic(t *testing.T) {
	t.Parallel()
	files := map[string]string{"policy.rego": readPolicy, "a/data.json": `{"x": 1}`, "cases/a.yaml": "x: 1\n", ".signatures.json": "{}", "notes.txt": "x"}
	var built [2][]byte
	for i := range built {
		file := filepath.Join(t.TempDir(), "b.tar.gz")
		code, out, stderr := command(t, "", "bundle", "build", bundle(t, files), "-o", file, "--json")
		if code != 0 || document(t, out)["revision"] != "r1" {
			t.Fatalf("%s%s", out, stderr)
		}
		var err error
		if built[i], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(built[0], built[1]) {
		t.Error("the same files gave other bytes")
	}
}

func TestBundleRefuses(t *testing.T) {
	t.Parallel()
	private, public, _ := keyPair(t, bundles.KeyES256)
	_, stranger, _ := keyPair(t, bundles.KeyES256)
	file := signedArchive(t, bundle(t, map[string]string{"policy.rego": readPolicy}), private)
	plain := bundle(t, map[string]string{"policy.rego": readPolicy})
	empty := t.TempDir()
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"over an older key", []string{"keygen", "-f", private}, "file exists"},
		{"over an older public key", []string{"keygen", "-f", strings.TrimSuffix(private, ".pem")}, "file exists"},
		{"another type", []string{"keygen", "-f", filepath.Join(empty, "k"), "--type", "hs256"}, "bundle.key_invalid"},
		{"no folder", []string{"build", filepath.Join(empty, "absent"), "-o", filepath.Join(empty, "x")}, "bundle.unreadable"},
		{"an empty folder", []string{"build", empty, "-o", filepath.Join(empty, "x")}, "bundle.empty"},
		{"without a file", []string{"build", plain}, "required"},
		{"signed with a public key", []string{"sign", file, "--key", public}, "bundle.key_invalid"},
		{"signed with another algorithm", []string{"sign", file, "--key", private, "--algorithm", "RS256"}, "bundle.signature_algorithm"},
		{"nothing to sign", []string{"sign", filepath.Join(empty, "absent"), "--key", private}, "absent"},
		{"unsigned", []string{"verify", plain, "--key", public}, "bundle.signature_missing"},
		{"another key", []string{"verify", file, "--key", stranger}, "bundle.key_unknown"},
		{"another name", []string{"verify", file, "--key", "other=" + public}, "bundle.key_unknown"},
		{"another scope", []string{"verify", file, "--key", public, "--scope", "x"}, "bundle.signature_scope"},
		{"verified with a private key", []string{"verify", file, "--key", private}, "bundle.key_invalid"},
		{"an absent key", []string{"verify", file, "--key", "/absent.pem"}, "/absent.pem"},
		{"no key", []string{"verify", file}, "required"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			code, out, stderr := command(t, "", append([]string{"bundle"}, tt.args...)...)
			if code != 1 || out != "" || !strings.Contains(stderr, tt.want) {
				t.Errorf("code %d, %q, %q; want %q", code, out, stderr, tt.want)
			}
		})
	}
}

// opaBinary is stock OPA as make builds it, or built now.
func opaBinary(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs stock OPA")
	}
	made, err := filepath.Abs("../../.bin/opa")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(made); err == nil {
		return made
	}
	made = filepath.Join(t.TempDir(), "opa")
	build := exec.CommandContext(t.Context(), "go", "build", "-modfile=tools.mod", "-o", made, "github.com/open-policy-agent/opa")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build opa: %v: %s", err, out)
	}
	return made
}

// stock runs opa in dir.
func stock(ctx context.Context, opa, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, opa, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestBundlesAndStockOPA exchanges signed bundles with opa, both ways.
func TestBundlesAndStockOPA(t *testing.T) {
	t.Parallel()
	opa := opaBinary(t)
	for kind, alg := range map[string]string{bundles.KeyES256: "ES256", bundles.KeyEd25519: "EdDSA"} {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			private, public, id := keyPair(t, kind)
			_, stranger, _ := keyPair(t, kind)
			dir := bundle(t, map[string]string{
				"policy.rego": readPolicy, "a/data.json": `{"n": [1.50, 1e3, "<&>\u2028\u00e9\u0001\b"], "b": {"z": null, "y": true}}`,
				"b/data.yaml": "list: [1, 0.5, text]\n", "cases/a.yaml": "name: x\n",
			})
			ours := signedArchive(t, dir, private, "--scope", "production")
			verify := []string{"--verification-key", public, "--verification-key-id", id, "--signing-alg", alg, "--scope", "production"}
			// Standard input is empty, so its prompt ends at once.
			if out, err := stock(t.Context(), opa, ".", append([]string{"run", "-b", ours}, verify...)...); err != nil {
				t.Errorf("opa run refuses what we signed: %v: %s", err, out)
			}
			verify[1] = stranger
			if out, err := stock(t.Context(), opa, ".", append([]string{"run", "-b", ours}, verify...)...); err == nil {
				t.Errorf("opa run takes our archive under another key: %s", out)
			}

			theirs := filepath.Join(t.TempDir(), "theirs.tar.gz")
			if out, err := stock(t.Context(), opa, dir, "build", "-b", ".", "-o", theirs, "--signing-key", private, "--signing-alg", alg); err != nil {
				t.Fatalf("opa build: %v: %s", err, out)
			}
			if code, _, stderr := command(t, "", "bundle", "verify", theirs, "--key", "default="+public); code != 0 {
				t.Errorf("opa build --signing-key: %s", stderr)
			}
			if out, err := stock(t.Context(), opa, dir, "sign", "-b", ".", "-o", ".", "--signing-key", private, "--signing-alg", alg); err != nil {
				t.Fatalf("opa sign: %v: %s", err, out)
			}
			if code, _, stderr := command(t, "", "bundle", "verify", dir, "--key", public); code != 0 {
				t.Errorf("opa sign: %s", stderr)
			}
			if code, _, stderr := command(t, "", "bundle", "verify", dir, "--key", stranger); code != 1 || !strings.Contains(stderr, "bundle.signature_invalid") {
				t.Errorf("under another key: code %d, %s", code, stderr)
			}
		})
	}
}
