package bundles

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/authzd/authzd/rar"
)

// rowsOf is an object of n members, a document of its own.
func rowsOf(n int, row string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(map[bool]string{true: "{", false: ","}[i == 0])
		fmt.Fprintf(&b, `"u%d":%s`, i, row)
	}
	b.WriteByte('}')
	return b.String()
}

func mergeFiles(t testing.TB, files ...File) (*dataTree, error) {
	t.Helper()
	a := assembly{limits: Limits{}.withDefaults(), data: newDataTree()}
	for i := range files {
		if err := a.addData(&files[i]); err != nil {
			return a.data, err
		}
	}
	return a.data, nil
}

func dataFile(path, text string) File { return File{Path: path, Data: []byte(text)} }

// TestLargeDataStaysText: what one file alone defines stays as it is, however many files
// define what is around it.
func TestLargeDataStaysText(t *testing.T) {
	t.Parallel()
	row := `{"roles":["a"],"team":"` + strings.Repeat("x", 100) + `"}`
	users := rowsOf(20_000, row)
	for name, c := range map[string]struct {
		files  []File
		packed []string
		want   map[string]string
	}{
		"alone at the root": {[]File{dataFile("data.json", users)}, []string{""}, map[string]string{"/u7": row}},
		"a file below another member": {
			[]File{dataFile("data.json", `{"users":`+users+`,"few":{"a":1}}`), dataFile("few/b/data.json", `{"c":2}`)},
			[]string{"/users"},
			map[string]string{"/few": `{"a":1,"b":{"c":2}}`, "/users/u7": row},
		},
		"a file beside it": {
			[]File{dataFile("a/data.json", `1`), dataFile("data.json", `{"users":`+users+`}`)},
			[]string{"/users"},
			map[string]string{"/a": `1`, "/users/u7": row},
		},
		"two large ones": {
			[]File{dataFile("data.json", `{"x":{"users":`+users+`}}`), dataFile("x/data.json", `{"more":`+users+`}`)},
			[]string{"/x/users", "/x/more"},
			map[string]string{"/x/more/u7": row},
		},
		"few rows, merged": {
			[]File{dataFile("data.json", `{"users":`+users+`}`), dataFile("users/u7/tenant/data.json", `"t"`)},
			nil,
			map[string]string{"/users/u7": strings.TrimSuffix(row, "}") + `,"tenant":"t"}`, "/users/u8": row},
		},
	} {
		tree, err := mergeFiles(t, c.files...)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		v := tree.value()
		for _, pointer := range c.packed {
			if x, _ := v.Lookup(pointer); !x.Packed() {
				t.Errorf("%s: %q is not text", name, pointer)
			}
		}
		for pointer, want := range c.want {
			if x, _ := v.Lookup(pointer); string(x.AppendJSON(nil)) != want {
				t.Errorf("%s: %q is %s", name, pointer, x.AppendJSON(nil))
			}
		}
	}
}

// TestLargeDataIsNotMerged: what would have to be taken out of its text is refused where
// it is much, and what was there before stays.
func TestLargeDataIsNotMerged(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("merges as many rows as may be merged, again and again")
	}
	many, half := rowsOf(maxMergedMembers+1, `{"a":1}`), rowsOf(maxMergedMembers/2+1, `{"text":"0123456789"}`)
	deep := rowsOf(1500, "["+strings.Repeat("1,", 999)+"1]")
	for name, files := range map[string][]File{
		"below many":         {dataFile("data.json", `{"users":`+many+`}`), dataFile("users/x/data.json", `1`)},
		"many over few":      {dataFile("a/data.json", `{"b":1}`), dataFile("data.json", `{"a":`+many+`}`)},
		"below a flat root":  {dataFile("data.json", many), dataFile("x/data.json", `{}`)},
		"a flat root over":   {dataFile("a/data.json", `{}`), dataFile("data.json", many)},
		"in all":             {dataFile("data.json", `{"a":`+half+`,"b":`+half+`}`), dataFile("a/x/data.json", `1`), dataFile("b/x/data.json", `1`)},
		"of many values":     {dataFile("data.json", `{"users":`+deep+`}`), dataFile("users/x/data.json", `1`)},
		"the same two times": {dataFile("a/data.json", many), dataFile("data.json", `{"a":`+many+`}`)},
	} {
		last := len(files) - 1
		tree, err := mergeFiles(t, files[:last]...)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		before := tree.value()
		v, err := decodeDocument(&files[last], Limits{}.withDefaults())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		dir := strings.TrimSuffix(strings.TrimSuffix(files[last].Path, "data.json"), "/")
		var e *Error
		if err = tree.add(dir, files[last].Path, v); !errors.As(err, &e) || e.Code != CodeTooLarge || e.Path != files[last].Path || !strings.Contains(err.Error(), "one file") {
			t.Errorf("%s: %v", name, err)
		}
		if !rar.Equal(before, tree.value()) {
			t.Errorf("%s: it changed", name)
		}
		t.Log(err)
	}
}
