package callers_test

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/api/callers"
)

func made() time.Time { return time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC) }

// tamper changes one character of a secret.
func tamper(text string) string {
	c := "A"
	if text[30] == 'A' {
		c = "B"
	}
	return text[:30] + c + text[31:]
}

func create(t *testing.T, file string, k callers.Key) (callers.Key, string) {
	t.Helper()
	k.Created = made()
	var text string
	err := callers.UpdateKeys(file, true, func(keys []callers.Key) ([]callers.Key, error) {
		var err error
		k, text, err = callers.NewKey(k, rand.Reader)
		return append(keys, k), err
	})
	if err != nil {
		t.Fatal(err)
	}
	return k, text
}

func TestKeysSurviveTheFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys.json")
	a, text := create(t, file, callers.Key{Name: "a", Rights: callers.Check | callers.Admin, Expires: made().Add(time.Hour), Audience: "https://mcp.example.com"})
	b, _ := create(t, file, callers.Key{Name: "b ü", Rights: callers.All})
	got, err := callers.ReadKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]callers.Key{a, b}, got); diff != "" {
		t.Error(diff)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if secret := text[24:]; strings.Contains(string(raw), secret) || len(secret) != 43 {
		t.Errorf("the file holds the secret %q", secret)
	}
	rest, err := filepath.Glob(filepath.Join(filepath.Dir(file), "*"))
	if err != nil || len(rest) != 1 {
		t.Errorf("left beside the keys: %v, %v", rest, err)
	}
}

func TestByKey(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys.json")
	_, text := create(t, file, callers.Key{Name: "a", Rights: callers.Check, Expires: made().Add(time.Hour), Audience: "x"})
	book, err := callers.Load(file, "")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text string
		at   time.Duration
		want callers.Reason
	}{
		"good":                  {text, 0, ""},
		"just before the end":   {text, time.Hour - 1, ""},
		"at the end":            {text, time.Hour, callers.ReasonExpired},
		"after the end":         {text, time.Hour + 1, callers.ReasonExpired},
		"another secret":        {tamper(text), 0, callers.ReasonWrongSecret},
		"another secret, late":  {tamper(text), 2 * time.Hour, callers.ReasonWrongSecret},
		"another id":            {"authzd_0123456789abcdef" + text[23:], 0, callers.ReasonUnknownKey},
		"empty":                 {"", 0, callers.ReasonMalformed},
		"short":                 {text[1:], 0, callers.ReasonMalformed},
		"no prefix":             {"Authzd_" + text[7:], 0, callers.ReasonMalformed},
		"no second underscore":  {"authzd_" + strings.Repeat("0", len(text)-7), 0, callers.ReasonMalformed},
		"underscore elsewhere":  {"authzd_0_" + text[9:], 0, callers.ReasonMalformed},
		"invalid UTF-8":         {"authzd_\xff\xff" + text[9:], 0, callers.ReasonUnknownKey},
		"a mebibyte":            {strings.Repeat("a", 1<<20), 0, callers.ReasonMalformed},
		"with white space":      {text[:len(text)-1] + " ", 0, callers.ReasonWrongSecret},
		"with a NUL at the end": {text + "\x00", 0, callers.ReasonMalformed},
	} {
		got, _, why := book.ByKey(c.text, made().Add(c.at))
		want := callers.Caller{}
		if c.want == "" {
			want = callers.Caller{Name: "a", Rights: callers.Check, Audience: "x"}
		}
		if got != want || why != c.want {
			t.Errorf("%s: %v, %q", name, got, why)
		}
	}
	var nobody callers.Book
	if c, _, why := nobody.ByKey(text, made()); why != callers.ReasonUnknownKey || c.Rights != 0 {
		t.Errorf("the zero Book knows %v, %q", c, why)
	}
	if c, why := nobody.ByName("a"); why != callers.ReasonUnlisted || c.Rights != 0 {
		t.Errorf("the zero Book knows %v, %q", c, why)
	}
}

func TestKeyFilesRefused(t *testing.T) {
	t.Parallel()
	const good = `{"id": "0123456789abcdef", "name": "a", "rights": ["check"], "sha256": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "created": "2026-11-22T18:00:00Z"}`
	file := func(keys string) string { return `{"version": 1, "keys": [` + keys + `]}` }
	swap := func(old, replacement string) string { return file(strings.Replace(good, old, replacement, 1)) }
	write := func(text string) string {
		name := filepath.Join(t.TempDir(), "keys.json")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for name, text := range map[string]string{"one": file(good), "none": file("")} {
		if _, err := callers.ReadKeys(write(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]struct{ text, want string }{
		"empty":              {"", "syntax"},
		"no object":          {"[]", "must be an object"},
		"trailing":           {file(good) + "x", "trailing"},
		"no version":         {`{"keys": []}`, "version"},
		"version 2":          {`{"version": 2, "keys": []}`, "version"},
		"no keys":            {`{"version": 1}`, "keys must be a list"},
		"unknown member":     {`{"version": 1, "keys": [], "more": 1}`, "no such member"},
		"member twice":       {`{"version": 1, "keys": [], "keys": []}`, "duplicate"},
		"another case":       {`{"version": 1, "keys": [], "Keys": []}`, "case_variant"},
		"same id":            {file(good + "," + good), "same id"},
		"unknown key member": {swap(`"name"`, `"secret": "x", "name"`), "no such member"},
		"no id":              {swap(`"id": "0123456789abcdef", `, ``), "lacks"},
		"upper-case id":      {swap("abcdef", "ABCDEF"), "lower-case hex"},
		"short id":           {swap("0123456789abcdef", "01"), "lower-case hex"},
		"no rights":          {swap(`["check"]`, `[]`), "at least one"},
		"right twice":        {swap(`["check"]`, `["check", "check"]`), "twice"},
		"unknown right":      {swap(`["check"]`, `["Check"]`), "is not one of"},
		"rights are text":    {swap(`["check"]`, `"check"`), "list of rights"},
		"no hash":            {swap(`"sha256": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", `, ``), "lacks"},
		"short hash":         {swap("AAAAAAAAAAAA", ""), "SHA-256"},
		"unused bits":        {swap(`AAA"`, `AAB"`), "SHA-256"},
		"empty name":         {swap(`"a"`, `""`), "not empty"},
		"control character":  {swap(`"a"`, `"a\nb"`), "printable"},
		"no expiry":          {swap(`"created"`, `"expires": "", "created"`), "RFC 3339"},
		"zero expiry":        {swap(`"created"`, `"expires": "0001-01-01T00:00:00Z", "created"`), "RFC 3339"},
		"expiry is null":     {swap(`"created"`, `"expires": null, "created"`), "RFC 3339"},
		"revoked is a flag":  {swap(`"created"`, `"revoked": false, "created"`), "RFC 3339"},
	} {
		if _, err := callers.ReadKeys(write(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := callers.Load("/absent.json", ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	if _, err := callers.ReadKeys(t.TempDir()); err == nil || !strings.Contains(err.Error(), "is a folder") {
		t.Errorf("a folder: %v", err)
	}
}

func TestNewKeyRefuses(t *testing.T) {
	t.Parallel()
	for name, k := range map[string]callers.Key{
		"no name":            {Rights: callers.Check},
		"name with a tab":    {Name: "a\tb", Rights: callers.Check},
		"long name":          {Name: strings.Repeat("a", 3000), Rights: callers.Check},
		"no rights":          {Name: "a"},
		"expired when made":  {Name: "a", Rights: callers.Check, Created: made(), Expires: made()},
		"expired beforehand": {Name: "a", Rights: callers.Check, Created: made(), Expires: made().Add(-1)},
	} {
		if _, text, err := callers.NewKey(k, rand.Reader); err == nil || text != "" {
			t.Errorf("%s: made", name)
		}
	}
	if _, text, err := callers.NewKey(callers.Key{Name: "a", Rights: callers.Check}, strings.NewReader("too little")); err == nil || text != "" {
		t.Error("a key without randomness was made")
	}
}

// Updates exclude each other, and one that fails changes nothing.
func TestUpdateKeys(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys.json")
	if err := callers.UpdateKeys(file, false, func(k []callers.Key) ([]callers.Key, error) { return k, nil }); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an absent file: %v", err)
	}
	create(t, file, callers.Key{Name: "a", Rights: callers.Check})
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	inside := callers.UpdateKeys(file, true, func([]callers.Key) ([]callers.Key, error) {
		return nil, callers.UpdateKeys(file, true, func([]callers.Key) ([]callers.Key, error) { return nil, nil })
	})
	if inside == nil || !strings.Contains(inside.Error(), ".lock is there") {
		t.Errorf("an update within another: %v", inside)
	}
	if err := callers.UpdateKeys(file, true, func(k []callers.Key) ([]callers.Key, error) { return append(k, k...), nil }); err == nil {
		t.Error("keys that can not be read back were written")
	}
	after, err := os.ReadFile(file)
	if err != nil || string(after) != string(before) {
		t.Errorf("%v:\n%s", err, after)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	added := 1
	for range 20 {
		wg.Go(func() {
			err := callers.UpdateKeys(file, false, func(keys []callers.Key) ([]callers.Key, error) {
				k, _, err := callers.NewKey(callers.Key{Name: "b", Rights: callers.Check, Created: made()}, rand.Reader)
				return append(keys, k), err
			})
			if err == nil {
				mu.Lock()
				added++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if keys, err := callers.ReadKeys(file); err != nil || len(keys) != added || added == 1 {
		t.Errorf("%d keys of %d, %v", len(keys), added, err)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	write := func(text string) string {
		name := filepath.Join(t.TempDir(), "callers.yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for _, text := range []string{
		"spiffe://example.org/a: {rights: [check], audience: https://x}\nb c:\n  rights: [audit, admin]\n",
		`{"spiffe://example.org/a": {"rights": ["check"], "audience": "https://x"}, "b c": {"rights": ["audit", "admin"]}}`,
	} {
		book, err := callers.Load("", write(text))
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]callers.Caller{
			"spiffe://example.org/a": {Name: "spiffe://example.org/a", Rights: callers.Check, Audience: "https://x"},
			"b c":                    {Name: "b c", Rights: callers.Audit | callers.Admin},
		} {
			if got, why := book.ByName(name); got != want || why != "" {
				t.Errorf("%s: %v, %q", name, got, why)
			}
		}
		for _, name := range []string{"", "B c", "b c ", "spiffe://example.org/A", "spiffe://example.org"} {
			if got, why := book.ByName(name); got.Rights != 0 || why != callers.ReasonUnlisted {
				t.Errorf("%q: %v, %q", name, got, why)
			}
		}
	}
	for name, c := range map[string]struct{ text, want string }{
		"a list":           {"- a", "must be a map of names"},
		"rights alone":     {"a: [check]", "must be a map with rights"},
		"no rights":        {"a: {audience: x}", "has no rights"},
		"empty rights":     {"a: {rights: []}", "at least one"},
		"unknown right":    {"a: {rights: [all]}", "is not one of"},
		"unknown member":   {"a: {rights: [check], right: x}", "no such member"},
		"audience is list": {"a: {rights: [check], audience: [x]}", "must be a text"},
		"name twice":       {"a: {rights: [check]}\na: {rights: [admin]}", "already defined"},
		"empty name":       {`"": {rights: [check]}`, "1 to"},
		"anchors":          {"a: &x {rights: [check]}\nb: *x", ""},
	} {
		if book, err := callers.Load("", write(c.text)); err == nil || book != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestRights(t *testing.T) {
	t.Parallel()
	all, err := callers.ParseRights([]string{"check", "assert", "explain", "push", "activate", "approve", "audit", "admin", "data"})
	if err != nil || all != callers.All || all.String() != "check,assert,explain,push,activate,approve,audit,admin,data" {
		t.Errorf("%v, %v", all, err)
	}
	if callers.Admin.Has(callers.Check) || callers.All.Has(0) || callers.Rights(0).Has(callers.Check) || !callers.All.Has(callers.Push) ||
		callers.Check.Has(callers.Check|callers.Assert) {
		t.Error("Has says more than the set holds")
	}
}

// An update keeps who may read, and takes away who should not; a link stays one.
func TestUpdateKeepsOwnerAndLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, link := filepath.Join(dir, "keys.json"), filepath.Join(dir, "link.json")
	create(t, file, callers.Key{Name: "a", Rights: callers.Check})
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ before, after fs.FileMode }{{0o640, 0o640}, {0o600, 0o600}, {0o664, 0o640}, {0o755, 0o640}, {0o440, 0o440}} {
		if err := os.Chmod(file, c.before); err != nil {
			t.Fatal(err)
		}
		create(t, link, callers.Key{Name: "b", Rights: callers.Check})
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != c.after {
			t.Errorf("%v became %v, %v", c.before, info.Mode(), err)
		}
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v", info.Mode(), err)
	}
}

func BenchmarkByKey(b *testing.B) {
	k, text, err := callers.NewKey(callers.Key{Name: "a", Rights: callers.Check, Created: made()}, rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	file := filepath.Join(b.TempDir(), "keys.json")
	if err := callers.UpdateKeys(file, true, func([]callers.Key) ([]callers.Key, error) { return []callers.Key{k}, nil }); err != nil {
		b.Fatal(err)
	}
	book, err := callers.Load(file, "")
	if err != nil {
		b.Fatal(err)
	}
	for name, c := range map[string]struct {
		text string
		want callers.Reason
	}{"good": {text, ""}, "wrong": {tamper(text), callers.ReasonWrongSecret}, "unknown": {"authzd_0123456789abcdef" + text[23:], callers.ReasonUnknownKey}, "huge": {strings.Repeat("a", 16<<10), callers.ReasonMalformed}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, why := book.ByKey(c.text, made()); why != c.want {
					b.Fatal(why)
				}
			}
		})
	}
}
