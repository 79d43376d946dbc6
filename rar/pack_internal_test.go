package rar

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// randomText writes random JSON, with white space, escapes and names that mean the same.
type randomText struct {
	r *rand.Rand
	b strings.Builder
	// twice lets names of one object come twice.
	twice bool
}

func (g *randomText) space() {
	for g.r.IntN(4) == 0 {
		g.b.WriteByte(" \n\t\r"[g.r.IntN(4)])
	}
}

func (g *randomText) text(s string) {
	g.b.WriteByte('"')
	for _, c := range s {
		switch g.r.IntN(8) {
		case 0:
			fmt.Fprintf(&g.b, `\u%04x`, c)
		default:
			if c == '"' || c == '\\' {
				g.b.WriteByte('\\')
			}
			g.b.WriteRune(c)
		}
	}
	g.b.WriteByte('"')
}

func (g *randomText) value(depth int) {
	g.space()
	defer g.space()
	n := g.r.IntN(9)
	if depth <= 0 {
		n = g.r.IntN(5)
	}
	switch n {
	case 0:
		g.b.WriteString([]string{"null", "true", "false"}[g.r.IntN(3)])
	case 1, 2:
		g.b.WriteString([]string{"0", "-1", "1.50", "9007199254740993", "1e3", "12345678901234567890.123"}[g.r.IntN(6)])
	case 3, 4:
		g.text([]string{"", "a", "bé", `q"\`, "a longer text that is longer than a row"}[g.r.IntN(5)])
	case 5, 6:
		g.b.WriteByte('[')
		for i := range g.r.IntN(6) {
			if i > 0 {
				g.b.WriteByte(',')
			}
			g.value(depth - 1)
		}
		g.space()
		g.b.WriteByte(']')
	default:
		g.b.WriteByte('{')
		size := g.r.IntN(6)
		if g.r.IntN(8) == 0 {
			size = 12 + g.r.IntN(60)
		}
		for i := range size {
			if i > 0 {
				g.b.WriteByte(',')
			}
			g.space()
			name := fmt.Sprintf("k%d", i)
			if g.r.IntN(5) == 0 {
				name = fmt.Sprintf("k/é\"~%d", i)
			}
			if g.twice && i > 0 && g.r.IntN(40) == 0 {
				name = fmt.Sprintf("k%d", g.r.IntN(i))
			}
			g.text(name)
			g.space()
			g.b.WriteByte(':')
			g.value(depth - 1)
		}
		g.space()
		g.b.WriteByte('}')
	}
}

func codeAndPath(err error) (Code, string) {
	var e *Error
	if errors.As(err, &e) {
		return e.Code, e.Path
	}
	return "", ""
}

// samePacked holds every way to read got against want.
func samePacked(t testing.TB, want, got Value) {
	t.Helper()
	if want.Kind() != got.Kind() || want.Len() != got.Len() || want.Text() != got.Text() || want.Bool() != got.Bool() {
		t.Fatalf("%s is %s of %d, not %s of %d", want.AppendJSON(nil), got.Kind(), got.Len(), want.Kind(), want.Len())
	}
	if !bytes.Equal(want.AppendJSON(nil), got.AppendJSON(nil)) || !bytes.Equal(want.AppendCanonical(nil), got.AppendCanonical(nil)) {
		t.Fatalf("%s became %s", want.AppendJSON(nil), got.AppendJSON(nil))
	}
	if !Equal(want, got) || !Equal(got, want) || !Equal(got, got) {
		t.Fatalf("%s is not equal to itself", want.AppendJSON(nil))
	}
	for i := range want.Len() {
		if want.Kind() == Array {
			samePacked(t, want.Index(i), got.Index(i))
			if v, ok := got.Lookup(fmt.Sprintf("/%d", i)); !ok || !Equal(v, want.Index(i)) {
				t.Fatalf("element %d is not found", i)
			}
			continue
		}
		m, o := want.Member(i), got.Member(i)
		if m.Name != o.Name || got.Name(i) != m.Name || want.Name(i) != m.Name || got.Find(m.Name) != i || want.Find(m.Name) != i {
			t.Fatalf("member %d is %q, not %q, and found at %d", i, o.Name, m.Name, got.Find(m.Name))
		}
		samePacked(t, m.Value, o.Value)
		if v, ok := got.Get(m.Name); !ok || !Equal(v, m.Value) {
			t.Fatalf("member %q is not got", m.Name)
		}
	}
	for i := range want.Len() {
		child := want.Index(i)
		if want.Kind() == Object {
			child = want.Member(i).Value
		}
		if got.Packed() {
			if v, err := DecodeText(got.ChildText(i), Limits{}); err != nil || !Equal(v, child) {
				t.Fatalf("the text of child %d is %q", i, got.ChildText(i))
			}
		}
		if got.Packed() {
			if text := got.AppendSortedChild([]byte("x"), i, appendQuoted); string(text) != "x"+sortedText(child) {
				t.Fatalf("child %d is %s, sorted %s", i, child.AppendJSON(nil), text)
			}
		}
		if v, ok := got.ChildAt(i); !ok || !Equal(v, child) {
			t.Fatalf("child %d is %s", i, v.AppendJSON(nil))
		}
		for k := range child.Len() {
			m := child.Member(k)
			if v, ok := got.ChildAt(i, m.Name); child.Kind() == Object && (!ok || !Equal(v, m.Value)) {
				t.Fatalf("%q of child %d is %s", m.Name, i, v.AppendJSON(nil))
			}
			for l := range m.Value.Len() {
				o := m.Value.Member(l)
				if v, ok := got.ChildAt(i, m.Name, o.Name); m.Value.Kind() == Object && (!ok || !Equal(v, o.Value)) {
					t.Fatalf("%q of %q of child %d is %s", o.Name, m.Name, i, v.AppendJSON(nil))
				}
			}
		}
		for _, names := range [][]string{{"absent"}, {"", "x"}, {"k0", "absent"}, {"k1", "k1", "k1", "k1", "k1", "k1"}} {
			v, there := want.ChildAt(i, names...)
			if w, ok := got.ChildAt(i, names...); ok != there || !Equal(v, w) {
				t.Fatalf("%q of child %d", names, i)
			}
		}
	}
	if _, ok := got.ChildAt(got.Len()); ok || got.ChildText(got.Len()) != "" || got.ChildText(-1) != "" {
		t.Fatal("there is a child beyond the end")
	}
	for _, name := range []string{"absent", "", "k", "k00"} {
		_, there := want.Get(name)
		if _, ok := got.Get(name); ok != there || (got.Find(name) >= 0) != there {
			t.Fatalf("%q is found", name)
		}
	}
	if got.Index(-1).Kind() != Absent || got.Index(got.Len()).Kind() != Absent || got.Member(got.Len()).Name != "" || got.Member(-1).Value.Kind() != Absent {
		t.Fatal("there is something beyond the end")
	}
}

// sortedText is the other way to write what AppendSortedChild writes.
func sortedText(v Value) string {
	var parts []string
	switch v.Kind() {
	case Array:
		for i := range v.Len() {
			parts = append(parts, sortedText(v.Index(i)))
		}
		return "[" + strings.Join(parts, ",") + "]"
	case Object:
		for _, i := range v.sortedNames() {
			m := v.Member(i / 2)
			parts = append(parts, string(appendQuoted(nil, m.Name))+":"+sortedText(m.Value))
		}
		return "{" + strings.Join(parts, ",") + "}"
	case Absent, Null, Bool, Number, String:
	}
	return string(v.AppendJSON(nil))
}

// TestPackedIsTheSame: packed or not, a document reads the same, and the same texts
// are refused.
func TestPackedIsTheSame(t *testing.T) {
	t.Parallel()
	packed, refused := 0, 0
	seeds := uint64(3000)
	if testing.Short() {
		seeds = 300
	}
	for seed := range seeds {
		g := randomText{r: rand.New(rand.NewPCG(seed, 1)), twice: seed%3 == 0} //nolint:gosec // a test's
		g.value(1 + g.r.IntN(5))
		text := g.b.String()
		if seed%5 == 4 { // and not JSON any more, perhaps
			at := g.r.IntN(len(text) + 1)
			text = text[:at] + []string{"", ",", "]", "\"", "x", "\xff", "\\"}[g.r.IntN(7)] + text[min(at+g.r.IntN(3), len(text)):]
		}
		for _, row := range []int{0, 1, 10, 100} {
			want, wantErr := DecodeText(text, Limits{MaxDepth: 4 + g.r.IntN(3)})
			l := Limits{MaxDepth: 4}
			if wantErr == nil {
				l.MaxDepth = 10
			} else {
				want, wantErr = DecodeText(text, l)
			}
			got, err := decodePacked(text, l, row)
			wantCode, wantPath := codeAndPath(wantErr)
			code, path := codeAndPath(err)
			if code != wantCode || code != "" && code != CodeDuplicateKey && path != wantPath {
				t.Fatalf("seed %d, row %d: %v, not %v\n%s", seed, row, err, wantErr, text)
			}
			if err != nil {
				refused++
				if code == CodeDuplicateKey && path == "" {
					t.Fatalf("seed %d: no place in %v", seed, err)
				}
				continue
			}
			samePacked(t, want, got)
			if got.Packed() {
				packed++
			}
		}
	}
	if !testing.Short() && (packed < 2000 || refused < 500) {
		t.Errorf("%d packed, %d refused", packed, refused)
	}
}

// TestPackedKeepsWhatIsLong: a child is kept apart if its text is longer than a row, and
// all others are decoded when they are asked for.
func TestPackedKeepsWhatIsLong(t *testing.T) {
	t.Parallel()
	const row = 10
	for _, long := range []string{`"123456789"`, `12345678901`, `[1,2,3,456]`, `{"a":12345}`} {
		short := strings.Replace(long, "45", "5", 1)
		if len(short) != row || len(long) != row+1 {
			t.Fatal(short)
		}
		for _, parts := range [][]string{{short, long, "true", short, long}, {`"a":` + short, `"b" : ` + long, `"c":null`, `"d":` + short, `"e":` + long}} {
			doc := strings.Join(parts, ",")
			if parts[0] == short {
				doc = "[" + doc + "]"
			} else {
				doc = "{" + doc + "}"
			}
			v, err := decodePacked(doc, Limits{}, row)
			if err != nil || !v.Packed() {
				t.Fatal(err)
			}
			if c := v.packed(); !slices.Equal(c.largeAt, []uint32{1, 4}) || len(c.large) != 2 || string(c.large[0].AppendJSON(nil)) != long || c.large[1].Packed() && c.large[1].TextSize() != len(long) {
				t.Errorf("%s keeps %v", doc, c.largeAt)
			}
			samePacked(t, mustText(t, doc), v)
			for i, part := range parts { // with what follows it
				if v.ChildSize(i) != len(part)+1 {
					t.Errorf("child %d of %s has %d bytes", i, doc, v.ChildSize(i))
				}
			}
			if v.TextSize() != len(doc) || v.ChildSize(-1) != 0 || v.ChildSize(len(parts)) != 0 || v.Kind() == Array && v.Name(0) != "" {
				t.Errorf("%s has %d bytes", doc, v.TextSize())
			}
		}
	}
}

// TestPackedText: white space, escapes and brackets in strings, wherever they stand.
func TestPackedText(t *testing.T) {
	t.Parallel()
	const space = " \n\t\r"
	for _, between := range []string{"", " ", "\r", space} {
		doc := strings.ReplaceAll(`~{~"rows"~:~[~"]"~,~"}\""~,~[~]~,~{~}~,~{~"[{\\"~:~"\u005d\n"~}~,~-1.50e2~,~null~,~"`+"\x7f"+`"~,~"é"~,~["a"~,~"b\""~,~["c"~]~]~]~,`+
			`~"k\u0030"~:~{~"absent\\"~:~{~}~,~"k1"~:~{~"k1"~:~[~1~,~2~]~,~"\u006b2"~:~true~}~,~""~:~{~"x"~:~"y"~}~}~,~"k1"~:~{~"k1"~:~{~"k1"~:~0~}~}~,~"last"~:~1~}~`, "~", between)
		want := mustText(t, doc)
		for _, row := range []int{1, 4, 10, 40, 100} {
			got, err := decodePacked(doc, Limits{}, row)
			if err != nil || !got.Packed() {
				t.Fatal(err)
			}
			samePacked(t, want, got)
			for pointer, text := range map[string]string{"k1": `{"k2":true}`, "": `{"x":"y"}`} {
				if v, ok := got.ChildAt(1, pointer); !ok || !strings.HasSuffix(string(v.AppendJSON(nil)), text[1:]) {
					t.Errorf("%q is %s, %v", pointer, v.AppendJSON(nil), ok)
				}
			}
			for _, i := range []int{-1, got.Len()} {
				if text := got.AppendSortedChild([]byte("x"), i, appendQuoted); string(text) != "x" {
					t.Errorf("child %d is %s", i, text)
				}
			}
		}
	}
}

// TestPackedSorted: what is not printable ASCII is quoted as the caller quotes.
func TestPackedSorted(t *testing.T) {
	t.Parallel()
	v, err := decodePacked("[\" ~\",\"a\\u0041\",\"\x7f\",\"é\",[\"\x7f\",\"b\",{\"é\":\"é\",\"a\":\"\\\"\"}]]", Limits{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	quote := func(dst []byte, s string) []byte { return append(dst, "<"+s+">"...) }
	var got []string
	for i := range v.Len() {
		got = append(got, string(v.AppendSortedChild(nil, i, quote)))
	}
	want := []string{`" ~"`, `<aA>`, "<\x7f>", `<é>`, "[<\x7f>,\"b\",{\"a\":<\">,<é>:<é>}]"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
}

// TestPackedIsNotEqual: packed or not, one thing that differs makes another value.
func TestPackedIsNotEqual(t *testing.T) {
	t.Parallel()
	texts := []string{
		`{"a":1,"b":[1,"x"],"c":null}`, `{"a":2,"b":[1,"x"],"c":null}`, `{"a":1,"b":[1,"y"],"c":null}`, `{"a":1,"b":["x",1],"c":null}`, `{"a":1,"b":[1,"x"],"d":null}`,
		`{"a":1,"b":[1,"x"]}`, `{"a":1,"b":{"1":1,"x":2},"c":null}`, `["a",1,"b"]`, `["a",2,"b"]`, `["a",1]`, `["b",1,"a"]`, `[]`, `{}`,
	}
	decoded := func(text string, row int) Value {
		v := mustText(t, text)
		if row > 0 {
			var err error
			if v, err = decodePacked(text, Limits{}, row); err != nil {
				t.Fatal(err)
			}
		}
		return v
	}
	for i, a := range texts {
		for j, b := range texts {
			for _, row := range [][2]int{{1, 0}, {0, 1}, {1, 1}, {1, 8}} {
				if Equal(decoded(a, row[0]), decoded(b, row[1])) != (i == j) {
					t.Errorf("%s and %s, packed by %v", a, b, row)
				}
			}
		}
	}
}

// TestPackedFaults: packed text is refused for the fault that it has in whole.
func TestPackedFaults(t *testing.T) {
	t.Parallel()
	long, digits := strings.Repeat("long ", 30), strings.Repeat("1", 150)
	for _, text := range []string{
		`{"a" 1}`, `{"a"}`, `{"a":}`, `{"a":1`, `{"a":1,}`, `{"a":1 "b":2}`, `{1:2}`, `[1 2]`, `[1,]`, `[1`, `[`, `{`, `{"a":[1}`, `{"a":{"b" 1}}`, `[{"a" 1}]`, `{"a":01}`,
		`["` + long + "\n" + `"]`, `["` + long + `\x"]`, `["` + long, `[` + digits + `.]`, `[` + digits + `e]`, `[` + digits + `e999]`, `{"` + long + `\x":1}`, `{"` + long + "\n" + `":1}`, `{"` + long,
		`{"a":1}}`, `["\ud800"]`, `{"a":1,"a":2}`, `[x]`, ``,
	} {
		_, want := DecodeText(text, Limits{})
		for _, row := range []int{1, 100} {
			_, got := decodePacked(text, Limits{}, row)
			var a, b *Error
			if !errors.As(want, &a) || !errors.As(got, &b) || a.Code != b.Code || a.Path != b.Path {
				t.Errorf("%s in rows of %d: %v, want %v", text, row, got, want)
			}
		}
	}
}

// TestPackedNamesTwice: a name that comes twice is found among many, in an object that
// is too short to be packed as in one that is, whatever objects came before.
func TestPackedNamesTwice(t *testing.T) {
	t.Parallel()
	object := func(members int, last string) string {
		var b strings.Builder
		for n := range members {
			fmt.Fprintf(&b, `"n%d":%d,`, n, n)
		}
		return `{` + b.String() + `"` + last + `":0}`
	}
	for _, row := range []int{1, 500, 1 << 20} { // 500: the objects are not kept, and the whole is
		for _, members := range []int{1, 15, 16, 17, 40} {
			before := `[` + object(20, "x") + `,` + object(17, "x") + `,` + object(40, "x") + `,` + object(20, "x") + `,`
			if _, err := decodePacked(before+object(members, "x")+`]`, Limits{}, row); err != nil {
				t.Errorf("%d members in rows of %d: %v", members, row, err)
			}
			for _, twice := range []int{0, members - 1} {
				_, err := decodePacked(before+object(members, "n"+strconv.Itoa(twice))+`]`, Limits{}, row)
				var e *Error
				if !errors.As(err, &e) || e.Code != CodeDuplicateKey || e.Path != "/4/n"+strconv.Itoa(twice) {
					t.Errorf("%d members in rows of %d, n%d twice: %v", members, row, twice, err)
				}
			}
		}
	}
}

// TestPackedIndexesAreTheirOwn: the index of an object that is kept is not written to by
// objects behind it, which are looked at in memory that is used again.
func TestPackedIndexesAreTheirOwn(t *testing.T) {
	t.Parallel()
	object := func(from, members int, value string) string {
		var b strings.Builder
		for n := range members {
			fmt.Fprintf(&b, `,"n%d":%s`, from+n, value)
		}
		return `{` + b.String()[1:] + `}`
	}
	short := object(1000, 40, "0")
	var parts []string
	for _, members := range []int{1, 16, 17, 25, 40, 60} { // longer than a row, each
		parts = append(parts, short, object(0, members, `"`+strings.Repeat("x", 1+len(short)/members)+`"`), object(2000, 40, "0"))
	}
	doc := `[` + strings.Join(parts, ",") + `]`
	got, err := decodePacked(doc, Limits{}, len(short))
	if err != nil || got.Index(0).Packed() || !got.Index(1).Packed() {
		t.Fatal(err)
	}
	samePacked(t, mustText(t, doc), got)
}

// TestPackedBackslashes: a name is not found by how another one is written.
func TestPackedBackslashes(t *testing.T) {
	t.Parallel()
	names := []string{`\`, `\\`, `\\\\`, `"`, `"a`, `a"b`, `a\`, `a\"b`, `\"`, `\u0041`, "A"}
	var members []Member
	for i, name := range names {
		members = append(members, Member{Name: name, Value: ObjectValue(Member{Name: name, Value: IntValue(int64(i))})})
	}
	for n := range members {
		for m := n; m <= len(members); m++ {
			want := ObjectValue(members[n:m]...)
			doc := ArrayValue(want, ObjectValue(Member{Name: "x", Value: want}))
			got, err := decodePacked(string(doc.AppendJSON(nil)), Limits{}, 1)
			if err != nil {
				t.Fatal(err)
			}
			samePacked(t, doc, got)
			for i, name := range names {
				at, there := -1, i >= n && i < m
				if there {
					at = i - n
				}
				if found := got.Index(0).Find(name); found != at {
					t.Errorf("%q of %s is found at %d", name, want.AppendJSON(nil), found)
				}
				if _, ok := got.ChildAt(0, name, name); ok != there {
					t.Errorf("%q below %q of %s: %v", name, name, want.AppendJSON(nil), ok)
				}
				if _, ok := got.ChildAt(1, "x", name); ok != there {
					t.Errorf("%q of %s: %v", name, want.AppendJSON(nil), ok)
				}
			}
		}
	}
}

// TestPackedLarge is about a document of ordinary rows, read by many at once.
func TestPackedLarge(t *testing.T) {
	t.Parallel()
	const rows = 30_000
	var b strings.Builder
	b.WriteString(`{"small": {"x": [1, 2]}, "users": {`)
	for i := range rows {
		if i > 0 {
			b.WriteString(",\n")
		}
		fmt.Fprintf(&b, `"u%d": {"roles": ["r%d", "all"], "tenant": "t%d", "rev": %d}`, i, i%7, i%13, i)
	}
	b.WriteString(`}, "list": [`)
	for i := range rows {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"item %d"`, i)
	}
	b.WriteString(`]}`)
	text := b.String()
	limits := Limits{MaxBytes: 1 << 30}
	want, err := DecodeText(text, limits)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodePacked(text, limits)
	if err != nil || !got.Packed() {
		t.Fatal(err)
	}
	users, _ := got.Get("users")
	list, _ := got.Get("list")
	if small, _ := got.Get("small"); !users.Packed() || !list.Packed() || small.Packed() {
		t.Error("the wrong ones are packed")
	}
	if !Equal(want, got) {
		t.Error("it is not equal")
	}
	if !reflect.DeepEqual(want.Any(), got.Any()) { // in no more than linear time
		t.Error("it is another value to a library")
	}
	lookups := 20_000
	if testing.Short() {
		lookups = 2000
	}
	var group sync.WaitGroup
	for g := range 4 {
		group.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 2)) //nolint:gosec // a test's
			for range lookups {
				i := r.IntN(rows)
				v, ok := got.Lookup(fmt.Sprintf("/users/u%d/rev", i))
				if w := list.Index(i); !ok || v.Text() != strconv.Itoa(i) || w.Text() != fmt.Sprintf("item %d", i) {
					t.Errorf("row %d: %s, %s", i, v.AppendJSON(nil), w.AppendJSON(nil))
					return
				}
			}
		})
	}
	group.Wait()
	if testing.Short() {
		return // a gigabyte is refused below
	}
	for name, c := range map[string]struct {
		text string
		code Code
		path string
	}{
		"a name twice":           {strings.Replace(text, `"u29999"`, `"u17"`, 1), CodeDuplicateKey, "/users/u17"},
		"a name twice, escaped":  {strings.Replace(text, `"u29999"`, `"\u007517"`, 1), CodeDuplicateKey, "/users/u17"},
		"a name twice in a row":  {strings.Replace(text, `"tenant": "t5"`, `"roles": "t5"`, 1), CodeDuplicateKey, "/users/u5/roles"},
		"a name twice at last":   {strings.Replace(text, `"list": [`, `"small": [`, 1), CodeDuplicateKey, "/small"},
		"no JSON in a row":       {strings.Replace(text, `"rev": 77}`, `"rev": 077}`, 1), CodeSyntax, "/users/u77/rev"},
		"an end within":          {text[:len(text)/3], CodeSyntax, ""},
		"more after the end":     {text + "{}", CodeTrailingData, ""},
		"a byte that is no text": {strings.Replace(text, "item 5\"", "item \xff\"", 1), CodeSyntax, ""},
		"too much":               {text + strings.Repeat(" ", 1<<30), CodeTooLarge, ""},
	} {
		_, err := DecodePacked(c.text, limits)
		if code, path := codeAndPath(err); code != c.code || c.path != "" && path != c.path {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecodePacked(f *testing.F) {
	for _, text := range []string{`{"a": [1, {"b": "\u00e9"}], "c": null}`, `[[], {}, ""]`, `{"a": 1, "\u0061": 2}`, `{"a": {"b": 1, "b": 2}} x`} {
		f.Add(text, 3)
	}
	f.Fuzz(func(t *testing.T, text string, row int) {
		want, wantErr := DecodeText(text, Limits{})
		got, err := decodePacked(text, Limits{}, row&0xff)
		wantCode, _ := codeAndPath(wantErr)
		if code, _ := codeAndPath(err); code != wantCode {
			t.Fatalf("%v, not %v", err, wantErr)
		}
		if err == nil {
			samePacked(t, want, got)
		}
	})
}

func BenchmarkPacked(b *testing.B) {
	var text strings.Builder
	text.WriteByte('{')
	for i := range 100_000 {
		if i > 0 {
			text.WriteByte(',')
		}
		fmt.Fprintf(&text, `"user%06d":{"roles":["reader","writer"],"tenant":"t%d","level":%d,"rev":1}`, i, i%100, i%9)
	}
	text.WriteByte('}')
	b.Run("load", func(b *testing.B) {
		b.SetBytes(int64(text.Len()))
		for b.Loop() {
			if _, err := DecodePacked(text.String(), Limits{MaxBytes: 1 << 30}); err != nil {
				b.Fatal(err)
			}
		}
	})
	v, err := DecodePacked(text.String(), Limits{MaxBytes: 1 << 30})
	if err != nil {
		b.Fatal(err)
	}
	names := make([]string, 1024)
	for i := range names {
		names[i] = fmt.Sprintf("user%06d", i*97)
	}
	b.Run("get", func(b *testing.B) {
		i := 0
		for b.Loop() {
			if _, ok := v.Get(names[i&1023]); !ok {
				b.Fatal("not found")
			}
			i++
		}
	})
}
