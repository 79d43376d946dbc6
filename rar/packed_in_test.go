package rar_test

import (
	"testing"

	"github.com/authzd/authzd/rar"
)

func TestHasPacked(t *testing.T) {
	t.Parallel()
	const text = `{"few": 1, "rows": [{"a": "0123456789"}, {"b": "0123456789"}]}`
	plain, err := rar.DecodeText(text, rar.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	packed, err := rar.Packing{Above: 1, Row: 20}.Decode(text, rar.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	row, _ := packed.Lookup("/rows/0")
	for name, c := range map[string]struct {
		v    rar.Value
		want bool
	}{
		"absent":          {rar.Value{}, false},
		"text":            {rar.StringValue("a"), false},
		"plain":           {plain, false},
		"packed":          {packed, true},
		"a row":           {row, false},
		"in an object":    {rar.ObjectValue(rar.Member{Name: "a", Value: rar.NullValue()}, rar.Member{Name: "b", Value: packed}), true},
		"deep in a list":  {rar.ArrayValue(plain, rar.ArrayValue(rar.ArrayValue(packed))), true},
		"plain in a list": {rar.ArrayValue(plain, rar.ArrayValue(plain)), false},
	} {
		if got := c.v.HasPacked(); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestChildAtIsNotMade: a large child comes as it is kept, and is not made of its text.
func TestChildAtIsNotMade(t *testing.T) {
	t.Parallel()
	v, err := rar.Packing{Above: 1, Row: 16}.Decode(`{"few": 1, "users": {"a": {"b": [1, 2, 3], "c": "some text"}, "d": 1}}`, rar.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	users, _ := v.Get("users")
	if got, ok := v.ChildAt(v.Find("users")); !ok || !rar.Same(got, users) || !got.Packed() {
		t.Errorf("%v, packed %v", ok, got.Packed())
	}
	if got, ok := v.ChildAt(v.Find("users"), "a", "b"); !ok || string(got.AppendJSON(nil)) != "[1,2,3]" {
		t.Errorf("%s, %v", got.AppendJSON(nil), ok)
	}
	if _, ok := v.ChildAt(v.Find("users"), "a", "x"); ok {
		t.Error("found what is not there")
	}
}
