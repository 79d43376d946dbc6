package rar

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"
)

var wide = Limits{MaxBytes: 1 << 30}

// plainApply is what Apply does, on values that are not packed, one after the other.
func plainApply(v Value, edits []Edit, l Limits) (Value, error) {
	for i, edit := range edits {
		code, path := plainCheck(edit, l.withDefaults())
		if code == "" {
			if v, code = plainEdit(v, edit, edit.Path); code != "" {
				path = "/path"
			}
		}
		if code != "" {
			return Value{}, &Error{Code: code, Path: fmt.Sprintf("/%d%s", i, path)}
		}
	}
	return v, nil
}

func plainCheck(edit Edit, l Limits) (Code, string) {
	switch {
	case edit.Op < Upsert || edit.Op > Remove:
		return CodeInvalidEdit, "/op"
	case edit.Op == Remove && len(edit.Path) == 0:
		return CodeInvalidEdit, "/path"
	case len(edit.Path) > l.MaxDepth:
		return CodeTooDeep, "/path"
	case edit.Op == Remove:
	case edit.Value.Kind() == Absent:
		return CodeInvalidEdit, "/value"
	default:
		l.MaxDepth -= len(edit.Path)
		if l.MaxDepth == 0 {
			l.MaxDepth = -1
		}
		if _, err := DecodeText(string(edit.Value.AppendJSON(nil)), l); err != nil {
			code, path := codeAndPath(err)
			return code, "/value" + path
		}
	}
	return "", ""
}

func plainEdit(v Value, edit Edit, path []string) (Value, Code) {
	if len(path) == 0 {
		return edit.Value, ""
	}
	token, last := path[0], len(path) == 1
	switch v.Kind() {
	case Array:
		var list []Value
		for i := range v.Len() {
			list = append(list, v.Index(i))
		}
		n, err := strconv.Atoi(token)
		if err != nil || strconv.Itoa(n) != token {
			n = -1
		}
		if last && edit.Op == Upsert && (token == "-" || n == len(list)) {
			return ArrayValue(append(list, edit.Value)...), ""
		}
		if n < 0 || n >= len(list) {
			return Value{}, CodeNotFound
		}
		switch {
		case last && edit.Op == Remove:
			list = slices.Delete(list, n, n+1)
		case last && edit.Op == Upsert:
			list = slices.Insert(list, n, edit.Value)
		default:
			child, code := plainEdit(list[n], edit, path[1:])
			if code != "" {
				return Value{}, code
			}
			list[n] = child
		}
		return ArrayValue(list...), ""
	case Object:
		var list []Member
		for i := range v.Len() {
			list = append(list, v.Member(i))
		}
		n := slices.IndexFunc(list, func(m Member) bool { return m.Name == token })
		if n < 0 {
			if edit.Op != Upsert {
				return Value{}, CodeNotFound
			}
			n, list = len(list), append(list, Member{Name: token, Value: ObjectValue()})
		}
		if last && edit.Op == Remove {
			list[n] = list[len(list)-1]
			return ObjectValue(list[:len(list)-1]...), ""
		}
		child, code := plainEdit(list[n].Value, edit, path[1:])
		if code != "" {
			return Value{}, code
		}
		list[n].Value = child
		return ObjectValue(list...), ""
	case Absent, Null, Bool, Number, String:
	}
	return Value{}, CodeNotFound
}

// sameEdited holds what came out of Apply against what should have.
func sameEdited(t testing.TB, want, got Value) {
	t.Helper()
	samePacked(t, want, got)
	if !reflect.DeepEqual(want.Any(), got.Any()) {
		t.Fatalf("%s is another value to a library", want.AppendJSON(nil))
	}
	sound(t, got)
	if got.Packed() {
		again, err := decodePacked(string(got.AppendJSON(nil)), wide, 10)
		if err != nil || !Equal(again, got) || !Equal(got, again) {
			t.Fatalf("%s is not equal to what it is decoded to: %v", got.AppendJSON(nil), err)
		}
	}
}

// sound looks at what packed values are made of.
func sound(t testing.TB, v Value) {
	t.Helper()
	c := v.packed()
	if c == nil {
		for i := range v.Len() {
			child := v.Index(i)
			if v.Kind() == Object {
				child = v.Member(i).Value
			}
			sound(t, child)
		}
		return
	}
	for i, at := range c.at {
		if int(at) >= len(c.text)+len(c.tail) {
			t.Fatalf("child %d stands at %d of %d and %d", i, at, len(c.text), len(c.tail))
		}
		if size := v.ChildSize(i); size < len(v.ChildText(i))/3 || size <= 0 {
			t.Fatalf("child %d has %d bytes, not %d", i, size, len(v.ChildText(i)))
		}
	}
	if v.Kind() == Object {
		var got []int
		for _, n := range c.index {
			if n > 0 {
				got = append(got, int(n)-1)
			}
		}
		slices.Sort(got)
		if size := len(c.index); len(got) != len(c.at) || size&(size-1) != 0 || size <= len(got) {
			t.Fatalf("%d of %d are found in %d", len(got), len(c.at), size)
		}
		for i, n := range got {
			if i != n {
				t.Fatalf("no member %d among %v", i, got)
			}
		}
	}
	if len(c.large) != len(c.largeAt) || !slices.IsSorted(c.largeAt) {
		t.Fatalf("large are %d at %v", len(c.large), c.largeAt)
	}
	for k, n := range c.largeAt {
		if int(n) >= len(c.at) || k > 0 && c.largeAt[k-1] == n {
			t.Fatalf("large are %v of %d", c.largeAt, len(c.at))
		}
		sound(t, c.large[k])
	}
	if c.size < 2*(len(c.at)-len(c.large)) || c.dead < 0 || c.dead > c.span+len(c.tail) || v.TextSize() != c.size {
		t.Fatalf("%d bytes, %d of %d and %d are dead", c.size, c.dead, c.span, len(c.tail))
	}
}

// randomEdits writes edits of v, most of which find something.
func randomEdits(r *rand.Rand, v Value, n int, l Limits) []Edit {
	names := []string{"k0", "k1", `k/é"~2`, "é", "", "/", `"`, "new", "0", "-", "\\", "a\nb", "~1"}
	edits := make([]Edit, 0, n)
	for range n {
		edit := Edit{Op: EditOp(1 + r.IntN(3))} //nolint:gosec // small
		at := v
		for at.Len() > 0 && r.IntN(5) > 0 {
			if i := r.IntN(at.Len()); at.Kind() == Array {
				edit.Path = append(edit.Path, strconv.Itoa(i))
				at = at.Index(i)
			} else {
				edit.Path = append(edit.Path, at.Name(i))
				at = at.Member(i).Value
			}
		}
		if (at.Kind() == Object || r.IntN(20) == 0) && r.IntN(3) == 0 {
			edit.Path = append(edit.Path, names[r.IntN(len(names))])
			if r.IntN(8) == 0 {
				edit.Path = append(edit.Path, names[r.IntN(len(names))])
			}
		}
		if at.Kind() == Array && r.IntN(3) == 0 {
			edit.Path = append(edit.Path, []string{"-", strconv.Itoa(at.Len()), "0", "00", "1.0", "99"}[r.IntN(6)])
		}
		g := randomText{r: r}
		g.value(r.IntN(4))
		edit.Value, _ = DecodeText(g.b.String(), wide)
		switch r.IntN(60) {
		case 0:
			edit.Op = EditOp(r.IntN(6)) //nolint:gosec // small
		case 1:
			edit.Value = Value{}
		case 2:
			edit.Value = ArrayValue(edit.Value, Value{})
		case 3:
			edit.Value, _ = decodePacked(g.b.String(), wide, 1)
		}
		edits = append(edits, edit)
		if next, err := plainApply(v, []Edit{edit}, l); err == nil && next.Len() > 0 {
			v = next
		} else if r.IntN(50) > 0 { // faults are few, or nothing would be left
			edits = edits[:len(edits)-1]
		}
	}
	return edits
}

// TestApplyIsTheSame: packed or not, edits make of a document what they make of a
// plain one, and leave alone what was before.
func TestApplyIsTheSame(t *testing.T) {
	t.Parallel()
	type version struct {
		want, got Value
		text      []byte
	}
	applied, refused, folded, inTail, wasLarge := 0, 0, 0, 0, 0
	seeds := uint64(700)
	if testing.Short() {
		seeds = 70
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 3)) //nolint:gosec // a test's
		g := randomText{r: r}
		g.value(2 + r.IntN(4))
		row := []int{1, 5, 20, 50, 200}[r.IntN(5)]
		want, err := DecodeText(g.b.String(), wide)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Packing{Above: 1, Row: row}.Decode(g.b.String(), wide)
		if err != nil {
			t.Fatal(err)
		}
		l := Limits{MaxBytes: 1 << 30, MaxDepth: 5 + r.IntN(4)}
		versions := []version{{want, got, got.AppendJSON(nil)}}
		for range 1 + r.IntN(6) {
			from := versions[len(versions)-1]
			if r.IntN(4) == 0 {
				from = versions[r.IntN(len(versions))]
			}
			edits := randomEdits(r, from.want, 1+r.IntN(60), l)
			above := 1
			if r.IntN(3) == 0 {
				above = 40 + r.IntN(400)
			}
			e := editor{limits: l.withDefaults(), above: above, row: row, garbage: r.IntN(300), most: math.MaxUint32}
			want, wantErr := plainApply(from.want, edits, l)
			got, err := e.apply(from.got, edits)
			wantCode, wantPath := codeAndPath(wantErr)
			if code, path := codeAndPath(err); code != wantCode || path != wantPath || (err == nil) != (wantErr == nil) {
				t.Fatalf("seed %d: %v, not %v", seed, err, wantErr)
			}
			if err != nil {
				refused++
				if got.Kind() != Absent {
					t.Fatal("a value beside an error")
				}
				continue
			}
			sameEdited(t, want, got)
			applied++
			if c := got.packed(); c != nil && c.end == 0 {
				if c.dead == 0 && from.got.packed() != nil && from.got.packed().dead > 0 {
					folded++
				}
				if len(c.tail) > 0 {
					inTail++
				}
				if len(c.large) > 0 {
					wasLarge++
				}
			}
			versions = append(versions, version{want, got, got.AppendJSON(nil)})
		}
		for _, v := range versions {
			if !bytes.Equal(v.got.AppendJSON(nil), v.text) || !Equal(v.want, v.got) {
				t.Fatalf("seed %d: %s became %s", seed, v.text, v.got.AppendJSON(nil))
			}
			sound(t, v.got)
		}
	}
	t.Logf("%d applied, %d refused, %d folded, %d with a tail, %d with large children", applied, refused, folded, inTail, wasLarge)
	if !testing.Short() && (applied < 1500 || refused < 200 || folded < 100 || inTail < 500 || wasLarge < 300) {
		t.Error("too few of them")
	}
}

func mustText(t testing.TB, text string) Value {
	t.Helper()
	v, err := DecodeText(text, wide)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestApplyFaults(t *testing.T) {
	t.Parallel()
	const text = `{"a": {"b": [1, {"c": 2}], "d": "text"}, "e": null, "é/\"": {}}`
	one := IntValue(1)
	ok := Edit{Op: Upsert, Path: []string{"x"}, Value: one}
	half := StringValue(strings.Repeat("x", 200))
	deep := mustText(t, `[[[[1]]]]`)
	for name, c := range map[string]struct {
		edits []Edit
		want  string // the error
	}{
		"no operation":              {[]Edit{{Path: []string{"a"}, Value: one}}, "rar.invalid_edit at /0/op: no such operation: 0"},
		"another operation":         {[]Edit{ok, {Op: 4, Path: []string{"a"}, Value: one}}, "rar.invalid_edit at /1/op: no such operation: 4"},
		"no value":                  {[]Edit{{Op: Replace, Path: []string{"a"}}}, "rar.invalid_edit at /0/value: there is no value"},
		"no value within":           {[]Edit{{Op: Replace, Path: []string{"a"}, Value: ArrayValue(one, Value{})}}, "rar.syntax at /0/value/1: offset 3: not a JSON value"},
		"a name twice":              {[]Edit{{Op: Replace, Path: []string{"a"}, Value: ObjectOf(2, func(int) (string, Value) { return "n", one })}}, "rar.duplicate_key at /0/value/n: the object has this member already"},
		"not UTF-8":                 {[]Edit{{Op: Upsert, Path: []string{"\xff"}, Value: one}}, "rar.invalid_edit at /0/path: not UTF-8"},
		"halves of a character":     {[]Edit{{Op: Upsert, Path: []string{"\xc3", "\xa9"}, Value: one}}, "rar.invalid_edit at /0/path: not UTF-8"},
		"removal of all":            {[]Edit{ok, ok, {Op: Remove}}, "rar.invalid_edit at /2/path: the whole value can not be removed"},
		"remove nothing":            {[]Edit{{Op: Remove, Path: []string{"a", "x"}}}, "rar.not_found at /0/path: /a/x: there is nothing"},
		"remove twice":              {[]Edit{{Op: Remove, Path: []string{"e"}}, {Op: Remove, Path: []string{"e"}}}, "rar.not_found at /1/path: /e: there is nothing"},
		"replace nothing":           {[]Edit{{Op: Replace, Path: []string{"é/\"", "~"}, Value: one}}, "rar.not_found at /0/path: /é~1\"/~0: there is nothing"},
		"replace below nothing":     {[]Edit{{Op: Replace, Path: []string{"x", "y", "z"}, Value: one}}, "rar.not_found at /0/path: /x: there is nothing"},
		"upsert below a string":     {[]Edit{{Op: Upsert, Path: []string{"a", "d", "x"}, Value: one}}, "rar.not_found at /0/path: /a/d/x: it is below what is neither array nor object"},
		"upsert below null":         {[]Edit{{Op: Upsert, Path: []string{"e", "x", "y"}, Value: one}}, "rar.not_found at /0/path: /e/x: it is below what is neither array nor object"},
		"upsert beyond the end":     {[]Edit{{Op: Upsert, Path: []string{"a", "b", "3"}, Value: one}}, "rar.not_found at /0/path: /a/b/3: no index of an element, nor of the end"},
		"upsert below the end":      {[]Edit{{Op: Upsert, Path: []string{"a", "b", "2", "x"}, Value: one}}, "rar.not_found at /0/path: /a/b/2: there is nothing"},
		"upsert below a dash":       {[]Edit{{Op: Upsert, Path: []string{"a", "b", "-", "x"}, Value: one}}, "rar.not_found at /0/path: /a/b/-: there is nothing"},
		"an index with a zero":      {[]Edit{{Op: Upsert, Path: []string{"a", "b", "01"}, Value: one}}, "rar.not_found at /0/path: /a/b/01: no index of an element, nor of the end"},
		"an index with a sign":      {[]Edit{{Op: Replace, Path: []string{"a", "b", "+1"}, Value: one}}, "rar.not_found at /0/path: /a/b/+1: there is nothing"},
		"replace at the end":        {[]Edit{{Op: Replace, Path: []string{"a", "b", "2"}, Value: one}}, "rar.not_found at /0/path: /a/b/2: there is nothing"},
		"remove the dash":           {[]Edit{{Op: Remove, Path: []string{"a", "b", "-"}}}, "rar.not_found at /0/path: /a/b/-: there is nothing"},
		"a value too deep":          {[]Edit{{Op: Upsert, Path: []string{"a", "x"}, Value: deep}}, "rar.too_deep at /0/value/0/0/0: offset 3: more than 3 levels"},
		"a path too deep":           {[]Edit{{Op: Upsert, Path: []string{"1", "2", "3", "4", "5", "6"}, Value: one}}, "rar.too_deep at /0/path: more than 5 levels"},
		"a value where none fits":   {[]Edit{{Op: Upsert, Path: []string{"1", "2", "3", "4", "5"}, Value: ArrayValue()}}, "rar.too_deep at /0/value: more than 5 levels"},
		"an object where none fits": {[]Edit{{Op: Upsert, Path: []string{"1", "2", "3", "4", "5"}, Value: ObjectValue()}}, "rar.too_deep at /0/value: more than 5 levels"},
		"a value too large":         {[]Edit{{Op: Upsert, Path: []string{"x"}, Value: StringValue(strings.Repeat("x", 1000))}}, "rar.too_large at /0/value: 1002 bytes where 300 are allowed"},
		"all too large":             {[]Edit{{Op: Upsert, Path: []string{"x"}, Value: half}, {Op: Upsert, Path: []string{"y"}, Value: half}}, "rar.too_large: 4"},
	} {
		for _, row := range []int{1, 30, 1000} {
			v, err := Packing{Above: 1, Row: row}.Decode(text, wide)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Packing{Above: 1, Row: row}.Apply(v, c.edits, Limits{MaxDepth: 5, MaxBytes: 300})
			if err == nil || !strings.HasPrefix(err.Error(), c.want) || got.Kind() != Absent {
				t.Errorf("%s, row %d: %v, not %s", name, row, err, c.want)
			}
			if want := mustText(t, text); !bytes.Equal(want.AppendJSON(nil), v.AppendJSON(nil)) {
				t.Errorf("%s: it became %s", name, v.AppendJSON(nil))
			}
			// The same place in memory serves an edit that succeeds.
			if v, err = (Packing{Above: 1, Row: row}).Apply(v, []Edit{ok}, Limits{}); err != nil || v.Len() != 4 {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestApplyFull: where places would not fit any more, nothing is changed.
func TestApplyFull(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 6)) //nolint:gosec // a test's
	full, done, texts := 0, 0, 100
	if testing.Short() {
		texts = 10
	}
	for range texts {
		g := randomText{r: r}
		g.value(4)
		v, err := Packing{Above: 1, Row: 1 + r.IntN(40)}.Decode(g.b.String(), wide)
		if err != nil {
			t.Fatal(err)
		}
		before := v.AppendJSON(nil)
		edits := randomEdits(r, mustText(t, string(before)), 20, wide.withDefaults())
		want, wantErr := plainApply(mustText(t, string(before)), edits, wide)
		if wantErr != nil {
			continue
		}
		for most := len(g.b.String()); most < len(g.b.String())+4000; most += 1 + r.IntN(300) {
			e := editor{limits: wide.withDefaults(), above: 1, row: 1 + r.IntN(40), garbage: 100, most: most}
			got, err := e.apply(v, edits)
			if err == nil {
				done++
				sameEdited(t, want, got)
			} else if code, path := codeAndPath(err); code != CodeTooLarge || got.Kind() != Absent {
				t.Fatalf("%v at %s", err, path)
			} else {
				full++
			}
			if after := v.AppendJSON(nil); !bytes.Equal(before, after) {
				t.Fatalf("%s became %s", before, after)
			}
		}
	}
	if !testing.Short() && (full < 100 || done < 100) {
		t.Errorf("%d were full, %d done", full, done)
	}
}

func TestApplyMeans(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ from, op, path, value, want string }{
		{`{"a":1}`, "upsert", "b", `2`, `{"a":1,"b":2}`},
		{`{"a":1}`, "upsert", "a", `2.50`, `{"a":2.50}`},
		{`{"a":1}`, "upsert", "b c d", `[]`, `{"a":1,"b":{"c":{"d":[]}}}`},
		{`{"a":[1,2]}`, "upsert", "a 0", `0`, `{"a":[0,1,2]}`},
		{`{"a":[1,2]}`, "upsert", "a 1", `0`, `{"a":[1,0,2]}`},
		{`{"a":[1,2]}`, "upsert", "a 2", `0`, `{"a":[1,2,0]}`},
		{`{"a":[1,2]}`, "upsert", "a -", `0`, `{"a":[1,2,0]}`},
		{`{"a":[1,2]}`, "replace", "a 1", `0`, `{"a":[1,0]}`},
		{`{"a":[1,2]}`, "remove", "a 0", ``, `{"a":[2]}`},
		{`{"a":[{}]}`, "upsert", "a 0 -", `0`, `{"a":[{"-":0}]}`},
		{`{"a":1,"b":2,"c":3}`, "remove", "a", ``, `{"c":3,"b":2}`},
		{`{"a":1}`, "remove", "a", ``, `{}`},
		{`{"a":1}`, "replace", "", `[1]`, `[1]`},
		{`1`, "upsert", "", `{"x":"\u00e9"}`, `{"x":"é"}`},
	} {
		for _, row := range []int{1, 4, 100} {
			for _, above := range []int{1, 100} {
				p := Packing{Above: above, Row: row}
				v, err := p.Decode(c.from, wide)
				if err != nil {
					t.Fatal(err)
				}
				edit := Edit{Op: map[string]EditOp{"upsert": Upsert, "replace": Replace, "remove": Remove}[c.op], Path: strings.Fields(c.path)}
				if c.value != "" {
					edit.Value = mustText(t, c.value)
				}
				got, err := p.Apply(v, []Edit{edit}, Limits{})
				if err != nil || string(got.AppendJSON(nil)) != c.want {
					t.Errorf("%s %s of %s: %s, %v", c.op, c.path, c.from, got.AppendJSON(nil), err)
				}
			}
		}
	}
	v := mustText(t, `{"a":1}`)
	if same, err := Apply(v, nil, Limits{}); err != nil || !Equal(same, v) {
		t.Errorf("without edits: %v", err)
	}
}

func rows(n int) string {
	var b strings.Builder
	b.Grow(n * 84)
	b.WriteString(`{"users":{`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"user%07d":{"roles":["reader","writer"],"tenant":"t%d","level":%d,"rev":1}`, i, i%100, i%9)
	}
	b.WriteString(`}}`)
	return b.String()
}

// TestApplyLarge goes through the life of a large document with its default sizes: rows
// come, change, grow and go, read by others meanwhile.
func TestApplyLarge(t *testing.T) {
	t.Parallel()
	n, rounds := 20_000, 150
	if testing.Short() {
		n, rounds = 15_000, 30 // longer than PackAbove even so
	}
	text := rows(n)
	first, err := DecodePacked(text, wide)
	if err != nil || !first.Packed() {
		t.Fatal(err)
	}
	var now atomic.Pointer[Value]
	now.Store(&first)
	stop := make(chan struct{})
	var group sync.WaitGroup
	for g := range 3 {
		group.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 4)) //nolint:gosec // a test's
			for {
				select {
				case <-stop:
					return
				default:
				}
				for _, v := range []Value{first, *now.Load()} {
					users, _ := v.Get("users")
					i := r.IntN(users.Len())
					m := users.Member(i)
					if rev, ok := users.ChildAt(i, "rev"); !ok || rev.Kind() != Number || users.Find(m.Name) != i || m.Value.Kind() != Object {
						t.Errorf("row %d: %s", i, users.ChildText(i))
						return
					}
				}
			}
		})
	}
	want := mustText(t, text)
	model := make(map[string]Value)
	users, _ := want.Get("users")
	for i := range users.Len() {
		m := users.Member(i)
		model[m.Name] = m.Value
	}
	r := rand.New(rand.NewPCG(1, 5)) //nolint:gosec // a test's
	v := first
	for round := range rounds {
		var edits []Edit
		for range []int{1, 1, 3, 500}[round%4] {
			name := fmt.Sprintf("user%07d", r.IntN(n+n/4))
			path := []string{"users", name}
			row := mustText(t, fmt.Sprintf(`{"roles":[],"rev":%d,"note":"é %d"}`, round, r.IntN(100)))
			_, there := model[name]
			switch k := r.IntN(10); {
			case there && k < 3:
				edits = append(edits, Edit{Op: Remove, Path: path})
				delete(model, name)
			case there && k < 6:
				rev := IntValue(int64(round))
				edits = append(edits, Edit{Op: Replace, Path: []string{"users", name, "rev"}, Value: rev})
				model[name], err = plainApply(model[name], []Edit{{Op: Replace, Path: []string{"rev"}, Value: rev}}, wide)
				if err != nil {
					t.Fatal(err)
				}
			default:
				if k == 9 { // a row that is packed itself
					row = mustText(t, fmt.Sprintf(`{"rev":%d,"list":[%s1]}`, round, strings.Repeat("12345,", 1000)))
				}
				edits = append(edits, Edit{Op: Upsert, Path: path, Value: row})
				model[name] = row
			}
		}
		next, err := Apply(v, edits, wide)
		if err != nil {
			t.Fatal(err)
		}
		v = next
		now.Store(&next)
	}
	close(stop)
	group.Wait()
	users, _ = v.Get("users")
	if users.Len() != len(model) || !users.Packed() {
		t.Fatalf("%d rows, not %d", users.Len(), len(model))
	}
	for i := range users.Len() {
		m := users.Member(i)
		if !Equal(m.Value, model[m.Name]) {
			t.Fatalf("%s is %s, not %s", m.Name, m.Value.AppendJSON(nil), model[m.Name].AppendJSON(nil))
		}
	}
	sound(t, v)
	if !Equal(first, want) {
		t.Error("the first version is another one")
	}
	// The document that was loaded is not kept for the sake of what has gone.
	if c := v.packed(); len(c.text) > 1000 {
		t.Errorf("the root keeps %d bytes", len(c.text))
	}
	if size := len(v.AppendJSON(nil)); v.TextSize() < size*9/10 || v.TextSize() > size*11/10 {
		t.Errorf("%d bytes are taken for %d", size, v.TextSize())
	}
	var all []Edit
	for name := range model {
		all = append(all, Edit{Op: Remove, Path: []string{"users", name}})
	}
	v, err = Apply(v, all, wide)
	if err != nil || string(v.AppendJSON(nil)) != `{"users":{}}` {
		t.Fatalf("without rows: %s, %v", v.AppendJSON(nil), err)
	}
	if users, _ := v.Get("users"); users.Find("user0000001") >= 0 || users.Len() != 0 {
		t.Error("there is a row yet")
	}
	if v, err = Apply(v, []Edit{{Op: Upsert, Path: []string{"users", "u"}, Value: NullValue()}}, wide); err != nil || string(v.AppendJSON(nil)) != `{"users":{"u":null}}` {
		t.Errorf("with a row again: %s, %v", v.AppendJSON(nil), err)
	}
}

// TestApplyLetsGo: once a container was written anew, its children do not keep the text of
// the document that was loaded.
func TestApplyLetsGo(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("long ", 20)
	text := fmt.Sprintf(`{"s":"%s","n":[%s1],"o":{"m":"%s","p":[%s1]},"x":1}`, long, strings.Repeat("1,", 50), long, strings.Repeat("1,", 50))
	v, err := Packing{Above: 1, Row: 50}.Decode(text, wide)
	if err != nil {
		t.Fatal(err)
	}
	edits := []Edit{{Op: Replace, Path: []string{"x"}, Value: IntValue(2)}, {Op: Replace, Path: []string{"n", "3"}, Value: IntValue(2)}}
	e := editor{limits: wide.withDefaults(), above: 1 << 10, row: 50, most: math.MaxUint32}
	for range 20 {
		if v, err = e.apply(v, edits); err != nil {
			t.Fatal(err)
		}
		e.drafts = nil
	}
	want, err := plainApply(mustText(t, text), edits, wide)
	if err != nil {
		t.Fatal(err)
	}
	sameEdited(t, want, v)
	if c := v.packed(); len(c.large) != 3 {
		t.Errorf("%d large children", len(c.large))
	}
	var look func(v Value)
	look = func(v Value) {
		if v.Kind() == String || v.Kind() == Number {
			if inside(v.Text(), text) {
				t.Errorf("%.20s is in the old text", v.Text())
			}
		}
		if c := v.packed(); c != nil && inside(c.text, text) {
			t.Errorf("%d children are in the old text", v.Len())
		}
		for i := range v.Len() {
			look(v.Index(i))
			look(v.Member(i).Value)
		}
	}
	look(v)
}

// inside tells whether one text is in the memory of the other.
func inside(part, all string) bool {
	if part == "" {
		return false
	}
	at, from := uintptr(unsafe.Pointer(unsafe.StringData(part))), uintptr(unsafe.Pointer(unsafe.StringData(all))) //nolint:gosec // they are compared, no more
	return at >= from && at < from+uintptr(len(all))
}

// TestApplyGoesOn: who edits what was made last writes behind it, also after an edit that
// came to nothing; who edits something older copies what was written.
func TestApplyGoesOn(t *testing.T) {
	t.Parallel()
	p := Packing{Above: 1, Row: 10}
	v, err := p.Decode(`{"a":"text that is left alone","b":1}`, wide)
	if err != nil {
		t.Fatal(err)
	}
	set := func(v Value, n int64) Value {
		t.Helper()
		if _, err := p.Apply(v, []Edit{{Op: Upsert, Path: []string{"b"}, Value: IntValue(-1)}, {Op: Remove, Path: []string{"none"}}}, wide); err == nil {
			t.Fatal("nothing is removed")
		}
		w, err := p.Apply(v, []Edit{{Op: Upsert, Path: []string{"b"}, Value: IntValue(n)}}, wide)
		if want := fmt.Sprintf(`{"a":"text that is left alone","b":%d}`, n); err != nil || string(w.AppendJSON(nil)) != want {
			t.Fatalf("%s: %v", w.AppendJSON(nil), err)
		}
		return w
	}
	memory := func(v Value) *byte { return unsafe.StringData(v.packed().tail) } //nolint:gosec // they are compared, no more
	first := set(v, 0)
	last := first
	for n := range int64(20) {
		last = set(last, n)
		if memory(last) != memory(first) {
			t.Fatalf("edit %d copies what was written", n)
		}
	}
	for _, older := range []Value{v, first} {
		if memory(set(older, 7)) == memory(first) {
			t.Error("two write to one place")
		}
	}
	if string(first.AppendJSON(nil)) != `{"a":"text that is left alone","b":0}` || string(last.AppendJSON(nil)) != `{"a":"text that is left alone","b":19}` {
		t.Errorf("%s, %s", first.AppendJSON(nil), last.AppendJSON(nil))
	}
}

// TestApplySizes: what an edited Value tells of its size is the length of its text, give or
// take what separates its children.
func TestApplySizes(t *testing.T) {
	t.Parallel()
	for _, above := range []int{1, 200} {
		p := Packing{Above: above, Row: 30}
		v, err := Packing{Above: 1, Row: 30}.Decode(`{"list":[1,2,3,4,5,6,7,8,9,"a text that is longer than a row is"],"members":{"a":"a text that is longer than a row is","b":1}}`, wide)
		if err != nil {
			t.Fatal(err)
		}
		want := mustText(t, string(v.AppendJSON(nil)))
		for i := range 81 {
			name := fmt.Sprintf("m%d", i*7%40)
			edits := []Edit{
				{Op: Upsert, Path: []string{"members", name}, Value: StringValue(strings.Repeat("x", i*13%60))},
				{Op: Upsert, Path: []string{"list", strconv.Itoa(i % 10)}, Value: ArrayOf(i%9, func(k int) Value { return IntValue(int64(k * 1000)) })},
				{Op: Replace, Path: []string{"list", strconv.Itoa(i % 7)}, Value: StringValue(strings.Repeat("y", i*11%70))},
				{Op: Upsert, Path: []string{"members", "open", name}, Value: IntValue(int64(i))},
			}
			if i%3 == 0 {
				edits = append(edits, Edit{Op: Remove, Path: []string{"members", name}}, Edit{Op: Remove, Path: []string{"list", "2"}})
			}
			var wantErr error
			v, err = p.Apply(v, edits, wide)
			want, wantErr = plainApply(want, edits, wide)
			if err != nil || wantErr != nil {
				t.Fatalf("edit %d: %v, %v", i, err, wantErr)
			}
			if i%40 == 0 {
				sameEdited(t, want, v)
			}
			if text := len(v.AppendJSON(nil)); !v.Packed() || v.TextSize() < text-2 || v.TextSize() > text+v.Len()+8 {
				t.Errorf("edit %d: %d bytes of %d", i, v.TextSize(), text)
			}
		}
	}
}

// TestApplyNoRoom: an edit for which places would not do is refused, whatever it is, and the
// same edit is made where they do.
func TestApplyNoRoom(t *testing.T) {
	t.Parallel()
	const text = `{"list":[1,2,{"a":"a text"}],"members":{"a":"a text","b":1}}`
	var within func(v Value, most int)
	within = func(v Value, most int) {
		if c := v.packed(); c != nil && len(c.text)+len(c.tail) > most {
			t.Errorf("%d and %d bytes with room for %d", len(c.text), len(c.tail), most)
		}
		for i := range v.Len() {
			within(v.Index(i), most)
			within(v.Member(i).Value, most)
		}
	}
	long := StringValue(strings.Repeat("long ", 20))
	for _, edit := range []Edit{
		{Op: Upsert, Path: []string{"members", "c"}, Value: long},
		{Op: Replace, Path: []string{"members", "a"}, Value: long},
		{Op: Upsert, Path: []string{"list", "0"}, Value: long},
		{Op: Upsert, Path: []string{"list", "-"}, Value: long},
		{Op: Replace, Path: []string{"list", "2", "a"}, Value: long},
		{Op: Upsert, Path: []string{"new", "a"}, Value: long},
		{Op: Replace, Path: []string{"list"}, Value: long},
	} {
		v, err := decodePacked(text, wide, 8)
		if err != nil {
			t.Fatal(err)
		}
		for most, code := range map[int]Code{len(text) + 20: CodeTooLarge, math.MaxUint32: ""} {
			e := editor{limits: wide.withDefaults(), above: 1, row: 200, most: most, garbage: 1 << 20}
			got, err := e.apply(v, []Edit{edit})
			if c, _ := codeAndPath(err); c != code || (err != nil) != (got.Kind() == Absent) {
				t.Errorf("%v with room for %d: %v", edit.Path, most, err)
			}
			if string(v.AppendJSON(nil)) != text {
				t.Fatalf("%v: it became %s", edit.Path, v.AppendJSON(nil))
			}
			if want, err := plainApply(v, []Edit{edit}, wide); code == "" && (err != nil || !Equal(got, want)) {
				t.Errorf("%v: %s", edit.Path, got.AppendJSON(nil))
			}
		}
		for most := len(text); most < len(text)+300; most++ {
			e := editor{limits: wide.withDefaults(), above: 1, row: 200, most: most, garbage: 1 << 20}
			if got, err := e.apply(v, []Edit{edit}); err == nil {
				within(got, most)
			}
		}
	}
}

// TestApplyGrows: what grows by edits is packed in the end.
func TestApplyGrows(t *testing.T) {
	t.Parallel()
	v := mustText(t, `{"small":{"x":1}}`)
	for round := range 4 {
		var edits []Edit
		for i := range 8_000 {
			row := mustText(t, fmt.Sprintf(`{"roles":["reader","writer"],"tenant":"t%d"}`, i))
			edits = append(edits, Edit{Op: Upsert, Path: []string{"grown", fmt.Sprintf("u%d-%d", round, i)}, Value: row})
		}
		var err error
		if v, err = Apply(v, edits, wide); err != nil {
			t.Fatal(err)
		}
	}
	grown, _ := v.Get("grown")
	if small, _ := v.Get("small"); grown.Len() != 32_000 || !grown.Packed() || v.Packed() || small.Packed() {
		t.Errorf("of %d members, packed %v, below packed %v", grown.Len(), grown.Packed(), v.Packed())
	}
	sound(t, v)
	if row, ok := v.Lookup("/grown/u3-77/tenant"); !ok || row.Text() != "t77" {
		t.Errorf("row %s", row.AppendJSON(nil))
	}
}

// TestApplyAtOnce: edits of one Value by many are apart from each other.
func TestApplyAtOnce(t *testing.T) {
	t.Parallel()
	base, err := Packing{Above: 1, Row: 10}.Decode(`{"list":[1,2,3,4,5,6,7,8,9],"n":0}`, wide)
	if err != nil {
		t.Fatal(err)
	}
	base, err = Packing{Above: 1, Row: 10}.Apply(base, []Edit{{Op: Upsert, Path: []string{"x"}, Value: IntValue(0)}, {Op: Upsert, Path: []string{"list", "-"}, Value: IntValue(0)}}, wide)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			v, want := base, mustText(t, string(base.AppendJSON(nil)))
			for i := range 200 {
				edits := []Edit{{Op: Upsert, Path: []string{fmt.Sprintf("g%d", i%20)}, Value: IntValue(int64(g))}, {Op: Upsert, Path: []string{"list", "0"}, Value: IntValue(int64(i))}}
				if i%3 == 0 { // and a fault after all that
					if _, err := Apply(v, append(slices.Clone(edits), Edit{Op: Remove, Path: []string{"none"}}), wide); err == nil {
						t.Error("nothing is removed")
					}
				}
				var err, wantErr error
				v, err = Packing{Above: 1, Row: 10}.Apply(v, edits, wide)
				want, wantErr = plainApply(want, edits, wide)
				if err != nil || wantErr != nil || !bytes.Equal(v.AppendJSON(nil), want.AppendJSON(nil)) {
					t.Errorf("%s, not %s", v.AppendJSON(nil), want.AppendJSON(nil))
					return
				}
			}
		})
	}
	group.Wait()
}

// editsOf reads edits as an array of arrays of an operation, a value and a path.
func editsOf(text string) []Edit {
	list, err := DecodeText(text, Limits{})
	if err != nil {
		return nil
	}
	var edits []Edit
	for i := range list.Len() {
		e := list.Index(i)
		edit := Edit{Value: e.Index(1)}
		switch e.Index(0).Text() {
		case "upsert":
			edit.Op = Upsert
		case "replace":
			edit.Op = Replace
		case "remove":
			edit.Op = Remove
		}
		for k := 2; k < e.Len(); k++ {
			edit.Path = append(edit.Path, e.Index(k).Text())
		}
		edits = append(edits, edit)
	}
	return edits
}

func FuzzApply(f *testing.F) {
	for _, seed := range [][2]string{
		{`{"a": [1, {"b": "\u00e9"}], "c": null}`, `[["upsert",[1],"a","0"],["remove",null,"c"],["replace",{"x":1},"a","2","b"]]`},
		{`[[], {}, ""]`, `[["upsert","x","0","-"],["upsert",{},"1","y","z"],["remove",null,"2"],["remove",null,"0","0"]]`},
		{`{"k": {"long": "0123456789012345678901234567890123456789"}, "l": "0123456789012345678901234567890123456789"}`, `[["remove",null,"l"],["upsert",[1,2,3,4,5,6,7,8,9],"k","m"],["replace",1,"k","long"]]`},
		{`{}`, `[["upsert",1,"a"],["upsert",2,"b"],["upsert",3,"c"],["upsert",4,"d"],["upsert",5,"e"],["remove",null,"a"],["remove",null,"e"],["upsert",{},""]]`},
	} {
		f.Add(seed[0], seed[1], 3, 1, 0)
		f.Add(seed[0], seed[1], 30, 50, 20)
	}
	f.Fuzz(func(t *testing.T, text, edit string, row, above, garbage int) {
		if len(text) > 4<<10 || len(edit) > 4<<10 {
			return
		}
		want, err := DecodeText(text, Limits{})
		edits := editsOf(edit)
		if err != nil || len(edits) == 0 {
			return
		}
		row, above, garbage = 1+row&0xff, 1+above&0xfff, garbage&0xfff
		got, err := Packing{Above: above, Row: row}.Decode(text, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		before := string(got.AppendJSON(nil))
		l := Limits{MaxBytes: 1 << 30}
		for range 2 { // the second time what the first one made
			wanted, wantErr := plainApply(want, edits, l)
			e := editor{limits: l.withDefaults(), above: above, row: row, garbage: garbage, most: math.MaxUint32}
			made, err := e.apply(got, edits)
			wantCode, wantPath := codeAndPath(wantErr)
			if code, path := codeAndPath(err); code != wantCode || path != wantPath {
				t.Fatalf("%v, not %v", err, wantErr)
			}
			if after := string(got.AppendJSON(nil)); after != before {
				t.Fatalf("%s became %s", before, after)
			}
			if err != nil {
				return
			}
			sameEdited(t, wanted, made)
			want, got, before = wanted, made, string(made.AppendJSON(nil))
		}
	})
}

func BenchmarkApply(b *testing.B) {
	const n = 1_000_000
	text := rows(n)
	v, err := DecodePacked(text, wide)
	if err != nil {
		b.Fatal(err)
	}
	row, err := DecodeText(`{"roles":["reader","writer"],"tenant":"t7","level":3,"rev":2}`, wide)
	if err != nil {
		b.Fatal(err)
	}
	path := func(i int) []string { return []string{"users", fmt.Sprintf("user%07d", i)} }
	for _, c := range []struct {
		name string
		edit func(i int) Edit
	}{
		{"change", func(i int) Edit { return Edit{Op: Replace, Path: path(i * 7919 % n), Value: row} }},
		{"within", func(i int) Edit {
			return Edit{Op: Replace, Path: append(path(i*7919%n), "rev"), Value: IntValue(int64(i))}
		}},
		{"add", func(i int) Edit { return Edit{Op: Upsert, Path: path(n + i), Value: row} }},
		{"remove", func(i int) Edit { return Edit{Op: Remove, Path: path(i)} }},
	} {
		b.Run(c.name, func(b *testing.B) { // each edits what the last one made
			b.ReportAllocs()
			v := v
			i := 0
			for b.Loop() {
				if v, err = Apply(v, []Edit{c.edit(i)}, wide); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
	b.Run("change of 10000", func(b *testing.B) {
		b.ReportAllocs()
		edits := make([]Edit, 10_000)
		for i := range edits {
			edits[i] = Edit{Op: Replace, Path: path(i * 97), Value: row}
		}
		for b.Loop() {
			if _, err := Apply(v, edits, wide); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("fold", func(b *testing.B) {
		b.ReportAllocs()
		e := editor{limits: wide.withDefaults(), above: PackAbove, row: packedRow, most: math.MaxUint32}
		changed, err := Apply(v, []Edit{{Op: Remove, Path: path(0)}}, wide)
		if err != nil {
			b.Fatal(err)
		}
		users, _ := changed.Get("users")
		for b.Loop() {
			p := e.packedDraft(Object, users.packed())
			p.fold(&e)
			e.drafts = nil
		}
	})
}
