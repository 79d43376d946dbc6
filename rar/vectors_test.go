package rar_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/rar"
)

// loadVectors decodes a file of testdata, refusing members that the test would
// silently not check.
func loadVectors(t testing.TB, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// exact is free JSON of a vector, decoded without loss.
type exact struct{ rar.Value }

func (e *exact) UnmarshalJSON(data []byte) (err error) {
	e.Value, err = rar.DecodeStrict(data, rar.Limits{})
	return err
}

type typeVector struct {
	Type      exact `json:"type"`
	Schema    exact `json:"schema"`
	Compare   exact `json:"compare"`
	SingleUse exact `json:"single_use"`
}

// vectorTypes compiles the types that all vector files use.
func vectorTypes(t testing.TB) *rar.Types {
	t.Helper()
	var file struct {
		Format string       `json:"format"`
		Types  []typeVector `json:"types"`
	}
	loadVectors(t, "types.json", &file)
	decls := make([]rar.Declaration, 0, len(file.Types))
	for _, v := range file.Types {
		members := []rar.Member{{Name: "type", Value: v.Type.Value}, {Name: "schema", Value: v.Schema.Value}, {Name: "compare", Value: v.Compare.Value}}
		if v.SingleUse.Kind() != rar.Absent {
			members = append(members, rar.Member{Name: "single_use", Value: v.SingleUse.Value})
		}
		decls = append(decls, rar.Declaration{Name: url.PathEscape(v.Type.Text()), Document: rar.ObjectValue(members...)})
	}
	types, _, err := rar.CompileTypes(decls)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(types.Names()); got != 12 {
		t.Fatalf("%d types, want 12", got)
	}
	return types
}

type vectorHead struct {
	Name  string `json:"name"`
	Basis string `json:"basis"`
	Spec  string `json:"spec"`
	Why   string `json:"why"`
}

type fileHead struct {
	Format string `json:"format"`
	Types  string `json:"types_file"`
}

func TestParseVectors(t *testing.T) {
	t.Parallel()
	var file struct {
		fileHead
		Vectors []struct {
			vectorHead
			Text   string `json:"text"`
			Expect struct {
				OK    bool     `json:"ok"`
				Count *int     `json:"count"`
				Types []string `json:"types"`
				Keep  *struct {
					Pointer string `json:"pointer"`
					Literal string `json:"literal"`
				} `json:"keep"`
				Error      rar.Code `json:"error"`
				Pointer    *string  `json:"pointer"`
				OAuthError string   `json:"oauth_error"`
			} `json:"expect"`
		} `json:"vectors"`
	}
	loadVectors(t, "parse.json", &file)
	if file.Format != "rar-parse/1" || len(file.Vectors) != 59 {
		t.Fatalf("format %q with %d vectors", file.Format, len(file.Vectors))
	}
	types := vectorTypes(t)
	for _, v := range file.Vectors {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			got, err := types.Parse([]byte(v.Text), rar.Limits{})
			if !v.Expect.OK {
				var e *rar.Error
				if !errors.As(err, &e) || e.Code != v.Expect.Error || e.Code.OAuthError() != v.Expect.OAuthError {
					t.Fatalf("error %v, want %s (%s)", err, v.Expect.Error, v.Expect.OAuthError)
				}
				if v.Expect.Pointer != nil && e.Path != *v.Expect.Pointer {
					t.Errorf("path %q, want %q", e.Path, *v.Expect.Pointer)
				}
				if got != nil {
					t.Errorf("an error came with %d objects", len(got))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if v.Expect.Count == nil || len(got) != *v.Expect.Count {
				t.Errorf("%d objects, want %v", len(got), v.Expect.Count)
			}
			if v.Expect.Types != nil {
				var names []string
				for _, o := range got {
					name, _ := o.Get("type")
					names = append(names, name.Text())
				}
				if diff := gocmp.Diff(v.Expect.Types, names); diff != "" {
					t.Error(diff)
				}
			}
			if k := v.Expect.Keep; k != nil {
				if n, ok := rar.ArrayValue(got...).Lookup(k.Pointer); !ok || n.Kind() != rar.Number || n.Text() != k.Literal {
					t.Errorf("%s is %q, want %s", k.Pointer, n.Text(), k.Literal)
				}
			}
		})
	}
}

type containmentVector struct {
	vectorHead
	Granted      *exact  `json:"granted"`
	Required     *exact  `json:"required"`
	GrantedText  *string `json:"granted_text"`
	RequiredText *string `json:"required_text"`
	Expect       struct {
		Covered *bool    `json:"covered"`
		Error   rar.Code `json:"error"`
		Because []struct {
			Required *int     `json:"required"`
			Pointer  string   `json:"pointer"`
			Reason   rar.Code `json:"reason"`
		} `json:"because"`
	} `json:"expect"`
}

// lists returns both sides, whichever way the vector spells them.
func (v *containmentVector) lists(t testing.TB) (granted, required []rar.Value) {
	t.Helper()
	side := func(parsed *exact, text *string) []rar.Value {
		if (parsed == nil) == (text == nil) {
			t.Fatalf("%s: want either the value or its text", v.Name)
		}
		if parsed != nil {
			return elements(parsed.Value)
		}
		return elements(mustDecode(t, *text))
	}
	return side(v.Granted, v.GrantedText), side(v.Required, v.RequiredText)
}

func elements(list rar.Value) []rar.Value {
	out := make([]rar.Value, 0, list.Len())
	for i := range list.Len() {
		out = append(out, list.Index(i))
	}
	return out
}

func containmentVectors(t testing.TB) []containmentVector {
	t.Helper()
	var file struct {
		fileHead
		Vectors []containmentVector `json:"vectors"`
	}
	loadVectors(t, "containment.json", &file)
	if file.Format != "rar-containment/1" || len(file.Vectors) != 142 {
		t.Fatalf("format %q with %d vectors", file.Format, len(file.Vectors))
	}
	return file.Vectors
}

func sorted(reasons []rar.Reason) []rar.Reason {
	out := slices.Clone(reasons)
	slices.SortFunc(out, func(a, b rar.Reason) int {
		return cmp.Or(cmp.Compare(a.Required, b.Required), cmp.Compare(a.Pointer, b.Pointer), cmp.Compare(a.Code, b.Code))
	})
	return out
}

func TestContainmentVectors(t *testing.T) {
	t.Parallel()
	types := vectorTypes(t)
	for _, v := range containmentVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			granted, required := v.lists(t)
			got, err := types.Covers(granted, required, rar.CoverOptions{})
			if v.Expect.Error != "" {
				var e *rar.Error
				if !errors.As(err, &e) || e.Code != v.Expect.Error || got.Covered {
					t.Fatalf("%+v, error %v; want %s", got, err, v.Expect.Error)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if v.Expect.Covered == nil || got.Covered != *v.Expect.Covered {
				t.Fatalf("covered = %v because %v", got.Covered, got.Because)
			}
			var want []rar.Reason
			for _, b := range v.Expect.Because {
				r := rar.Reason{Required: -1, Pointer: b.Pointer, Code: b.Reason}
				if b.Required != nil {
					r.Required = *b.Required
				}
				want = append(want, r)
			}
			if diff := gocmp.Diff(sorted(want), sorted(got.Because)); diff != "" {
				t.Errorf("because (-want +got):\n%s", diff)
			}
			checkUsed(t, types, granted, required, got)
		})
	}
}

// checkUsed holds Used against the answer: the named objects alone must do.
func checkUsed(t *testing.T, types *rar.Types, granted, required []rar.Value, got rar.Result) {
	t.Helper()
	if len(required) == 0 {
		return
	}
	if len(got.Used) != len(required) {
		t.Fatalf("used %v for %d objects", got.Used, len(required))
	}
	for i, j := range got.Used {
		if j < 0 {
			if got.Covered {
				t.Errorf("covered without a grant for object %d", i)
			}
			continue
		}
		alone, err := types.Covers(granted[j:j+1], required[i:i+1], rar.CoverOptions{})
		if err != nil || !alone.Covered {
			t.Errorf("granted %d does not cover required %d: %v %v", j, i, alone.Because, err)
		}
	}
}

// The way of the engine, which validates once and passes what it skipped on,
// must answer as the plain way does.
func TestContainmentVectorsPrevalidated(t *testing.T) {
	t.Parallel()
	types := vectorTypes(t)
	for _, v := range containmentVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			granted, required := v.lists(t)
			plain, plainErr := types.Covers(granted, required, rar.CoverOptions{})
			usable, skipped := types.Granted(rar.ArrayValue(granted...))
			if len(usable)+len(skipped) != len(granted) {
				t.Fatalf("%d usable and %d skipped of %d", len(usable), len(skipped), len(granted))
			}
			got, err := types.Covers(usable, required, rar.CoverOptions{GrantedValidated: true, Skipped: skipped})
			if (err == nil) != (plainErr == nil) {
				t.Fatalf("error %v, plainly %v", err, plainErr)
			}
			if got.Covered != plain.Covered {
				t.Errorf("covered = %v, plainly %v", got.Covered, plain.Covered)
			}
			if diff := gocmp.Diff(plain.Because, got.Because); diff != "" {
				t.Error(diff)
			}
		})
	}
}
