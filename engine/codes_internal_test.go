package engine

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestCodesIsComplete: a code that is declared and not listed would be missing
// from the error table and the docs.
func TestCodesIsComplete(t *testing.T) {
	t.Parallel()
	listed := map[Code]bool{}
	for _, c := range Codes() {
		if listed[c] {
			t.Errorf("%s is listed twice", c)
		}
		listed[c] = true
	}
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	declaration := regexp.MustCompile(`\sCode = "([^"]+)"`)
	declared := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range declaration.FindAllSubmatch(text, -1) {
			declared++
			if !listed[Code(m[1])] {
				t.Errorf("%s: %s is not in Codes()", name, m[1])
			}
		}
	}
	if declared == 0 || declared > len(listed) {
		t.Errorf("%d codes declared, %d listed", declared, len(listed))
	}
}
