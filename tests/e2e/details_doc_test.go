package e2e_test

import (
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
		text := s.must(t, http.MethodPost, e[1], e[2])
		shown, _ := masked(decoded(t, e[3])).(map[string]any)
		printed, _ := masked(decoded(t, text)).(map[string]any)
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
