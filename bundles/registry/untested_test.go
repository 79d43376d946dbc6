package registry_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/bundles/registry"
	"github.com/authzd/authzd/store"
)

// A caller that goes away while its bundle is verified does not get it staged
// and active without its tests: here one that was rejected for them before.
func TestGoneCallerSkipsTests(t *testing.T) {
	failing := pack(t, true,
		file{".manifest", `{"revision":"failing","roots":["authz"],"metadata":{"authzd":{"contract":1,"untyped_tools":true,"sequence":2}}}`},
		file{"policy.rego", "package authz\n\npermit[\"x\"] := {} if input.action.name == \"failing\"\n"},
		file{"policy_test.rego", "package authz.policy_test\n\nimport data.authz\n\ntest_never if authz.permit.never\n"})
	goAway := func() {}
	s := start(t, t.TempDir(), func(o *registry.Options) {
		o.Verify = func(archive []byte) (bundles.Content, error) {
			c, err := verify(archive)
			if bytes.Equal(archive, failing) {
				goAway()
			}
			return c, err
		}
	}).load(t)
	s.push(t, registry.Push{Archive: bundle(t, "good", 1), Activate: true})
	if _, err := s.Push(t.Context(), registry.Push{Name: "main", Archive: failing, Activate: true}); codeOf(err) != string(bundles.CodeTestFailed) {
		t.Fatal(err)
	}
	s.wantLive(t, "good")
	ctx, cancel := context.WithCancel(t.Context())
	goAway = cancel
	_, err := s.Push(ctx, registry.Push{Name: "main", Archive: failing, Activate: true})
	t.Logf("second push: %v", err)
	for _, r := range must(s.List(t.Context(), store.Place{}, 100)) {
		t.Logf("%s is %s, kept %v, report %+v", r.Bundle.Revision, r.Bundle.State, r.Bundle.Kept, r.Report)
	}
	// What is staged is not tested again.
	_, err = s.Push(t.Context(), registry.Push{Name: "main", Archive: failing, Activate: true})
	t.Logf("third push: %v", err)
	s.wantLive(t, "good")
}

func must[T any](v T, _ error) T { return v }
