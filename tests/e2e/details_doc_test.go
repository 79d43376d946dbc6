package e2e_test

import (
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestAuthorizationDetailsPage: every curl of docs/authorization-details.md
// prints what stands below it, as far as it stands there.
func TestAuthorizationDetailsPage(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	page := read(t, "docs/authorization-details.md")
	examples := regexp.MustCompile("(?s)```sh\ncurl -s 127\\.0\\.0\\.1:8181(\\S+) -d '(.*?)'\n```.*?```json\n(.*?)\n```").FindAllStringSubmatch(page, -1)
	if len(examples) != 4 || strings.Count(page, "```sh\ncurl") != len(examples) {
		t.Fatalf("%d examples", len(examples))
	}
	s := start(t, nil, "--bundle", "files="+filepath.Join(repository(t), "policies", "examples", "files"))
	for _, e := range examples {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.HTTP+e[1], strings.NewReader(e[2]))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		shown, _ := masked(decoded(t, e[3])).(map[string]any)
		printed, _ := masked(decoded(t, string(text))).(map[string]any)
		if len(shown) == 0 {
			t.Errorf("%s shows nothing", e[1])
		}
		for name, want := range shown {
			if diff := cmp.Diff(want, printed[name]); diff != "" {
				t.Errorf("%s %s (-page +printed):\n%s", e[1], name, diff)
			}
		}
	}
}
