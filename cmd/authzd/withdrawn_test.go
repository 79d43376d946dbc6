package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/bundles/registry"
	"github.com/authzd/authzd/engine"
)

// A key that is taken away is taken away from pushes too, whatever is wrong
// with a bundle of the operator's at that moment: here it is signed by the
// very key that was stolen, as docs/bundles.md's step 3 says to expect.
func TestWithdrawnKeyStillPushes(t *testing.T) {
	t.Parallel()
	for name, withdraw := range map[string]func(t *testing.T, keys, nextPublic, local string){
		"the local bundle has the same key": func(t *testing.T, keys, nextPublic, _ string) { t.Helper(); copyFile(t, nextPublic, keys) },
		"the file of keys is emptied":       func(t *testing.T, keys, _, _ string) { t.Helper(); copyFile(t, os.DevNull, keys) },
		"the file of keys is removed": func(t *testing.T, keys, _, _ string) {
			t.Helper()
			if err := os.Remove(keys); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); withdrawnKeyStillPushes(t, withdraw) })
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func withdrawnKeyStillPushes(t *testing.T, withdraw func(t *testing.T, keys, nextPublic, local string)) {
	t.Helper()
	stolen, stolenPublic, _ := keyPair(t, bundles.KeyES256)
	_, nextPublic, _ := keyPair(t, bundles.KeyES256)
	keys := filepath.Join(t.TempDir(), "trusted.pem")
	copyFile(t, stolenPublic, keys)
	local := bundle(t, map[string]string{
		".manifest": `{"revision":"l1","roots":["local"]}`, "local/data.json": `{"x":1}`,
	})
	pushedDir := bundle(t, map[string]string{
		".manifest":   `{"revision":"evil","roots":["authz"],"metadata":{"authzd":{"contract":1,"untyped_tools":true}}}`,
		"policy.rego": "package authz\n\npermit[\"all\"] := {}\n",
	})
	archive, err := os.ReadFile(signedArchive(t, pushedDir, stolen))
	if err != nil {
		t.Fatal(err)
	}
	var log logBuffer
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	e := engine.New(engine.Options{})
	p := policySource{
		refs: []bundleRef{{Name: "local", Path: signedArchive(t, local, stolen)}}, signing: signing{BundleKeys: []string{keys}},
		engine: e, log: logger,
	}
	if p.pushed, err = openPushed(t.Context(), t.TempDir(), memoryOff, e, logger); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.pushed.close() })
	if err := p.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	withdraw(t, keys, nextPublic, "") // step 3: the stolen key is gone
	p.reload(t.Context())
	_, err = p.pushed.registry.Push(t.Context(), registry.Push{Name: "main", Archive: archive, Activate: true, Who: "thief"})
	if err == nil {
		t.Errorf("a bundle signed by the withdrawn key was pushed after the reload and is live: revision %q\n%s", e.Snapshot().Policy().Revision, log.String())
	}
}
