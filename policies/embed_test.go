package policies_test

import (
	"fmt"
	"io/fs"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/policies"
)

// TestFS: the binary holds these files and no tests.
func TestFS(t *testing.T) {
	t.Parallel()
	var got []string
	err := fs.WalkDir(policies.FS(), ".", func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			got = append(got, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"default/.manifest", "default/policy.rego", "lib/authzd/v1.rego"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("embedded files (-want +got):\n%s", diff)
	}
}

func ExampleFS() {
	library, err := fs.Sub(policies.FS(), policies.Library)
	if err != nil {
		fmt.Println(err)
		return
	}
	files, err := fs.Glob(library, "authzd/*.rego")
	fmt.Println(files, err)
	// Output: [authzd/v1.rego] <nil>
}
