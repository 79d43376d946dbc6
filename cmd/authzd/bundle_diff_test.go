package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBundleDiff(t *testing.T) {
	p := newPushStand(t)
	p.want(t, 0, "", "bundle", "diff", p.path("v1"), p.path("v1.tar.gz"))
	if p.out != "" || p.err != "" {
		t.Errorf("%s%s", p.out, p.err)
	}
	p.want(t, 2, "", "bundle", "diff", p.path("v1.tar.gz"), p.path("v2"))
	want := "changed metadata /metadata/authzd/sequence\nchanged metadata /revision\nremoved permit authz.permit.v1\nadded   permit authz.permit.v2\n"
	if diff := cmp.Diff(want, p.out); diff != "" {
		t.Error(diff)
	}
	p.want(t, 2, `"kind": "permit"`, "bundle", "diff", p.path("v1"), p.path("v2"), "-o", "json")
	p.want(t, 0, `"changes": []`, "bundle", "diff", p.path("v1"), p.path("v1"), "-o", "json")
	p.want(t, 1, "none.tar.gz", "bundle", "diff", p.path("v1"), p.path("none.tar.gz"))
	p.want(t, 1, "none.tar.gz", "bundle", "diff", p.path("none.tar.gz"), p.path("v1"))
	if err := os.WriteFile(filepath.Join(p.path("v2"), "policy.rego"), []byte("package authz\n\npermit if\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.want(t, 1, "policy.rego:4", "bundle", "diff", p.path("v1"), p.path("v2"))
	p.want(t, 1, "--output", "bundle", "diff", p.path("v1"), p.path("v1"), "-o", "yaml")
}
