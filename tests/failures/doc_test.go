package failures_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each row of docs/failure-modes.md names a test below tests/ that exists, codes that
// docs/errors.md explains, and metrics that there are.
func TestDocumentedRows(t *testing.T) {
	t.Parallel()
	source := func(pattern string) string {
		files, err := filepath.Glob(filepath.Join("..", "..", filepath.FromSlash(pattern)))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		var all strings.Builder
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(text)
		}
		return all.String()
	}
	doc, errorsDoc, metrics := source("docs/failure-modes.md"), source("docs/errors.md"), source("api/metrics.go")
	tests := regexp.MustCompile("((?:`Test\\w+`(?:, )?)+) \\(`([a-z0-9/]+)`\\)")
	test := regexp.MustCompile(`Test\w+`)
	metric := regexp.MustCompile("`(authzd_\\w+)")
	code := regexp.MustCompile("`((?:api|bundle|engine|request|store|token)\\.[a-z_]+)`")
	rows := 0
	for line := range strings.Lines(doc) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(cells[0], "---") || strings.TrimSpace(cells[0]) == "what happens" {
			continue
		}
		rows++
		row := strings.TrimSpace(cells[0])
		if len(cells) != 4 {
			t.Errorf("%s: %d columns, want 4", row, len(cells))
			continue
		}
		provoked := false
		for _, group := range tests.FindAllStringSubmatch(cells[3], -1) {
			text := source(group[2] + "/*_test.go")
			for _, name := range test.FindAllString(group[1], -1) {
				if !strings.Contains(text, "func "+name+"(t *testing.T)") {
					t.Errorf("%s: there is no %s in %s", row, name, group[2])
				}
			}
			provoked = provoked || strings.HasPrefix(group[2], "tests/")
		}
		if !provoked {
			t.Errorf("%s: no test below tests/ brings it about: %s", row, cells[3])
		}
		if named := strings.Join(test.FindAllString(cells[3], -1), " "); len(test.FindAllString(tests.ReplaceAllString(cells[3], ""), -1)) > 0 {
			t.Errorf("%s: a test without its package among %s", row, named)
		}
		for _, m := range code.FindAllStringSubmatch(line, -1) {
			if !strings.Contains(errorsDoc, "| `"+m[1]+"` |") {
				t.Errorf("%s: docs/errors.md does not explain %s", row, m[1])
			}
		}
		if strings.TrimSpace(cells[2]) == "" {
			t.Errorf("%s: no metric, and nothing said of that", row)
		}
		for _, m := range metric.FindAllStringSubmatch(cells[2], -1) {
			if !strings.Contains(metrics, `"`+m[1]+`"`) {
				t.Errorf("%s: there is no metric %s", row, m[1])
			}
		}
	}
	if rows < 15 {
		t.Errorf("%d rows: the table was not read", rows)
	}
}
