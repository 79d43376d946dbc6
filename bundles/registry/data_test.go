package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/bundles/registry"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
	"github.com/authzd/authzd/store"
)

// facts is a bundle whose policy permits the actions in data.lists.permitted, an object
// by name, and whose lists may be changed.
func facts(t testing.TB, revision string, sequence int) []byte {
	t.Helper()
	return pack(t, true,
		file{".manifest", fmt.Sprintf(`{"revision":%q,"roots":["authz","lists","fixed"],"metadata":{"authzd":{"contract":1,"untyped_tools":true,"sequence":%d,"writable_data":["lists"]}}}`, revision, sequence)},
		file{"policy.rego", `package authz

permit["listed"] := {} if data.lists.permitted[input.action.name]

permit["fixed"] := {} if input.action.name in data.fixed.names

forbid["blocked"] := {} if input.action.name in data.lists.blocked
`},
		file{"data.json", fmt.Sprintf(`{"lists": {"permitted": {%q: true}, "blocked": []}, "fixed": {"names": ["f"]}}`, revision)},
		file{"cases/cases.yaml", "queries:\n  f: {action: {name: f}}\ncases:\n  fixed: {query: f, want: {decision: ALLOW}}\n"},
	)
}

func upsert(t testing.TB, pointer, value string) rar.Edit {
	t.Helper()
	v, err := rar.DecodeStrict([]byte(value), rar.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return rar.Edit{Op: rar.Upsert, Path: path(t, pointer), Value: v}
}

func remove(t testing.TB, pointer string) rar.Edit {
	t.Helper()
	return rar.Edit{Op: rar.Remove, Path: path(t, pointer)}
}

func path(t testing.TB, pointer string) []string {
	t.Helper()
	p, err := bundles.SplitPointer(pointer, "")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (s *stand) change(t testing.TB, edits ...rar.Edit) (registry.Changed, error) {
	t.Helper()
	return s.ChangeData(t.Context(), registry.DataChange{Name: "main", Edits: edits, Who: "alice", Why: "because"})
}

func (s *stand) mustChange(t testing.TB, edits ...rar.Edit) registry.Changed {
	t.Helper()
	got, err := s.change(t, edits...)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// allows are the actions, of some, that are allowed.
func (s *stand) allows(t testing.TB, actions ...string) string {
	t.Helper()
	var out []string
	for _, a := range actions {
		if decide(t.Context(), s.engine.Snapshot(), a) {
			out = append(out, a)
		}
	}
	return strings.Join(out, " ")
}

// TestChangeData: a change is in force when it is answered, recorded, and there after
// a restart; it belongs to its archive, also when that is rolled back to.
func TestChangeData(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir, nil).load(t)
	first := facts(t, "r1", 1)
	s.push(t, registry.Push{Archive: first, Activate: true})
	got := s.mustChange(t, upsert(t, "/lists/permitted/x", "true"))
	if got.Number != 1 || got.Revision != "r1#1" || got.Digest != store.Digest(first) {
		t.Errorf("%+v", got)
	}
	if s.allows(t, "r1", "x", "y", "f") != "r1 x f" || s.engine.Snapshot().Policy().Revision != "r1#1" {
		t.Error(s.allows(t, "r1", "x", "y", "f"), s.engine.Snapshot().Policy())
	}
	s.mustChange(t, upsert(t, "/lists/permitted/y", "true"), remove(t, "/lists/permitted/r1"), upsert(t, "/lists/blocked/-", `"f"`))
	if s.allows(t, "r1", "x", "y", "f") != "x y" {
		t.Error(s.allows(t, "r1", "x", "y", "f"))
	}
	shown, events, err := s.Show(t.Context(), "main")
	if err != nil || shown[0].Changes != 2 {
		t.Errorf("%+v, %v", shown, err)
	}
	if e := events[0]; e.What != "data" || e.Who != "alice" || e.Why != "because" || e.Path != "/lists/permitted/y and 2 more" || e.Revision != "r1#2" || e.To != store.StateActive {
		t.Errorf("%+v", e)
	}
	d, err := s.Document("main", []string{"lists"})
	if err != nil || string(d.JSON) != `{"permitted":{"y":true,"x":true},"blocked":["f"]}` && string(d.JSON) != `{"permitted":{"x":true,"y":true},"blocked":["f"]}` || d.Number != 2 {
		t.Errorf("%s, %v", d.JSON, err)
	}
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	s = start(t, dir, nil).load(t)
	if s.allows(t, "r1", "x", "y", "f") != "x y" {
		t.Error("after a restart:", s.allows(t, "r1", "x", "y", "f"))
	}
	// Another archive does not have them, and must not come by accident.
	second := facts(t, "r2", 2)
	if _, err := s.Push(t.Context(), registry.Push{Name: "main", Archive: second, Activate: true}); codeOf(err) != string(bundles.CodeChangesLost) {
		t.Error(err)
	}
	if s.allows(t, "r1", "r2", "x") != "x" {
		t.Error("refused, and yet:", s.allows(t, "r1", "r2", "x"))
	}
	s.push(t, registry.Push{Archive: second, Activate: true, DropChanges: true})
	if s.allows(t, "r1", "r2", "x", "f") != "r2 f" {
		t.Error(s.allows(t, "r1", "r2", "x", "f"))
	}
	s.mustChange(t, upsert(t, "/lists/permitted/z", "true"))
	if _, err := s.Rollback(t.Context(), registry.Change{Name: "main"}); err != nil {
		t.Fatal(err)
	}
	if s.allows(t, "r1", "r2", "x", "z") != "x" {
		t.Error("after the rollback:", s.allows(t, "r1", "r2", "x", "z"))
	}
	s.mustChange(t, upsert(t, "/lists/permitted/w", "true"))
	if _, err := s.Activate(t.Context(), registry.Change{Name: "main", Revision: "r2", DropChanges: true}); err != nil {
		t.Fatal(err)
	}
	if s.allows(t, "r2", "x", "z", "w") != "r2 z" {
		t.Error(s.allows(t, "r2", "x", "z", "w"))
	}
	s.Forget() // keys may have changed: all is verified again
	s.mustChange(t, upsert(t, "/lists/permitted/v", "true"))
	if s.allows(t, "r2", "z", "v") != "r2 z v" {
		t.Error(s.allows(t, "r2", "z", "v"))
	}
}

// TestDataRefused: what is refused leaves everything as it was.
func TestDataRefused(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil).load(t)
	if _, err := s.change(t, upsert(t, "/lists/a", "1")); codeOf(err) != string(bundles.CodeNotFound) {
		t.Error("nothing is active:", err)
	}
	s.push(t, registry.Push{Archive: facts(t, "r1", 1), Activate: true})
	before := s.engine.Snapshot()
	tag := func(pointer string) string {
		d, err := s.Document("main", path(t, pointer))
		if err != nil {
			t.Fatal(err)
		}
		return d.Tag
	}
	deep := rar.StringValue("x")
	for range 200 {
		deep = rar.ArrayValue(deep)
	}
	for name, c := range map[string]struct {
		change registry.DataChange
		code   bundles.Code
	}{
		"not writable":          {registry.DataChange{Edits: []rar.Edit{upsert(t, "/fixed/names", `["evil"]`)}}, bundles.CodeNotWritable},
		"its neighbour":         {registry.DataChange{Edits: []rar.Edit{upsert(t, "/lists2", `1`)}}, bundles.CodeNotWritable},
		"above":                 {registry.DataChange{Edits: []rar.Edit{{Op: rar.Upsert, Value: rar.ObjectValue()}}}, bundles.CodeNotWritable},
		"one of several":        {registry.DataChange{Edits: []rar.Edit{upsert(t, "/lists/a", "1"), upsert(t, "/fixed/a", "1")}}, bundles.CodeNotWritable},
		"nothing to remove":     {registry.DataChange{Edits: []rar.Edit{upsert(t, "/lists/a", "1"), remove(t, "/lists/b")}}, bundles.CodeDataNotFound},
		"what policy needs":     {registry.DataChange{Edits: []rar.Edit{remove(t, "/lists/blocked")}}, "bundle.missing_data"},
		"of another kind":       {registry.DataChange{Edits: []rar.Edit{upsert(t, "/lists/blocked", `{"f": true}`)}}, "bundle.data_not_array"},
		"all of it":             {registry.DataChange{Edits: []rar.Edit{remove(t, "/lists")}}, "bundle.missing_data"},
		"too deep":              {registry.DataChange{Edits: []rar.Edit{{Op: rar.Upsert, Path: []string{"lists", "deep"}, Value: deep}}}, bundles.CodeDeltaInvalid},
		"another tag":           {registry.DataChange{Edits: []rar.Edit{upsert(t, "/lists/blocked", "[]")}, Path: path(t, "/lists/blocked"), Expect: []string{tag("/lists/permitted")}}, bundles.CodeDataChanged},
		"a tag of nothing":      {registry.DataChange{Edits: []rar.Edit{upsert(t, "/lists/a", "1")}, Path: path(t, "/lists/a"), Expect: []string{"*"}}, bundles.CodeDataChanged},
		"there already":         {registry.DataChange{Edits: []rar.Edit{upsert(t, "/lists/blocked", "[]")}, Path: path(t, "/lists/blocked"), ExpectAbsent: true}, bundles.CodeDataChanged},
		"no name":               {registry.DataChange{Name: "../main", Edits: []rar.Edit{upsert(t, "/lists/a", "1")}}, bundles.CodeNameInvalid},
		"the operator's bundle": {registry.DataChange{Name: "local", Edits: []rar.Edit{upsert(t, "/local/a", "1")}}, bundles.CodeNameLocal},
		"another name":          {registry.DataChange{Name: "other", Edits: []rar.Edit{upsert(t, "/lists/a", "1")}}, bundles.CodeNotFound},
	} {
		if c.change.Name == "" {
			c.change.Name = "main"
		}
		if _, err := s.ChangeData(t.Context(), c.change); codeOf(err) != string(c.code) {
			t.Errorf("%s: %v", name, err)
		}
		if s.engine.Snapshot() != before {
			t.Errorf("%s: what is live was touched", name)
		}
	}
	if last, err := s.store.LastChange(t.Context(), registry.DefaultTenant, "main", store.Digest(facts(t, "r1", 1))); err != nil || last != 0 {
		t.Error(last, err)
	}
	// With the right tag it is taken.
	_, err := s.ChangeData(t.Context(), registry.DataChange{
		Name: "main", Edits: []rar.Edit{upsert(t, "/lists/blocked", `["r1"]`)}, Path: path(t, "/lists/blocked"), Expect: []string{"x", tag("/lists/blocked")},
	})
	if err != nil || s.allows(t, "r1", "f") != "f" {
		t.Error(err, s.allows(t, "r1", "f"))
	}
}

// delta is a delta bundle.
func delta(t testing.TB, signed bool, base string, more, patch string) []byte {
	t.Helper()
	return pack(t, signed,
		file{".manifest", fmt.Sprintf(`{"revision":"d","roots":["authz","lists","fixed"],"metadata":{"authzd":{"base":%q%s}}}`, base, more)},
		file{"patch.json", patch})
}

// TestDelta: signed delta bundles change anything, in order, once, on their archive.
func TestDelta(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir, nil).load(t)
	base := store.Digest(facts(t, "r1", 5))
	s.push(t, registry.Push{Archive: facts(t, "r1", 5), Activate: true})
	names := `{"data":[{"op":"replace","path":"/fixed/names","value":["f","g"]}]}`
	refuse := func(what string, archive []byte, code bundles.Code) {
		t.Helper()
		before := s.engine.Snapshot()
		if _, err := s.Push(t.Context(), registry.Push{Name: "main", Archive: archive, Activate: true}); codeOf(err) != string(code) {
			t.Errorf("%s: %v", what, err)
		}
		if s.engine.Snapshot() != before {
			t.Error(what, ": what is live was touched")
		}
	}
	refuse("without a signature", delta(t, false, base, `,"sequence":6`, names), "bundle.signature_missing")
	refuse("a server's own, without a signature", delta(t, false, base, `,"after":0,"number":1`, names), "bundle.signature_missing")
	refuse("a server's own, signed", delta(t, true, base, `,"after":0,"number":1`, names), bundles.CodeDeltaInvalid)
	refuse("not above the archive", delta(t, true, base, `,"sequence":5`, names), bundles.CodeDeltaStale)
	refuse("of another archive", delta(t, true, "sha256:00", `,"sequence":6`, names), bundles.CodeDeltaStale)
	refuse("a case fails", delta(t, true, base, `,"sequence":6`, `{"data":[{"op":"replace","path":"/fixed/names","value":["g"]}]}`), bundles.CodeTestFailed)
	refuse("for another name", delta(t, true, base, `,"sequence":6,"name":"other"`, names), bundles.CodeNameOther)
	refuse("outside the roots", delta(t, true, base, `,"sequence":6`, `{"data":[{"op":"upsert","path":"/else","value":1}]}`), "bundle.outside_roots")
	good := delta(t, true, base, `,"sequence":6`, names)
	if _, err := s.Push(t.Context(), registry.Push{Name: "main", Archive: good}); codeOf(err) != string(bundles.CodeUnsupported) {
		t.Error("not activated:", err)
	}
	if got := s.push(t, registry.Push{Archive: good, Activate: true, Who: "bob"}); got.Unchanged || got.Changes != 1 {
		t.Errorf("%+v", got)
	}
	if s.allows(t, "f", "g") != "f g" {
		t.Error(s.allows(t, "f", "g"))
	}
	if got := s.push(t, registry.Push{Archive: good, Activate: true}); !got.Unchanged {
		t.Errorf("once more: %+v", got)
	}
	s.mustChange(t, upsert(t, "/lists/permitted/x", "true"))
	s.push(t, registry.Push{Archive: delta(t, true, base, `,"sequence":9`, `{"data":[{"op":"upsert","path":"fixed/names","value":["f"]}]}`), Activate: true})
	if s.allows(t, "f", "g", "x") != "f x" {
		t.Error(s.allows(t, "f", "g", "x"))
	}
	refuse("an old one", good, bundles.CodeDeltaStale)
	refuse("between", delta(t, true, base, `,"sequence":8`, names), bundles.CodeDeltaStale)
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	s = start(t, dir, nil).load(t)
	if s.allows(t, "f", "g", "x") != "f x" {
		t.Error("after a restart:", s.allows(t, "f", "g", "x"))
	}
	refuse("an old one after a restart", good, bundles.CodeDeltaStale)
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	// A delta bundle that its key does not stand for any more takes the policy away, as
	// an archive does.
	s = start(t, dir, func(o *registry.Options) {
		o.Verify = func(archive []byte) (bundles.Content, error) {
			c, err := verify(archive)
			if err == nil && c.Delta != nil {
				return c, &bundles.Error{Code: bundles.CodeKeyUnknown}
			}
			return c, err
		}
	})
	if _, err := s.Load(t.Context(), []engine.Bundle{local(t)}); codeOf(err) != string(bundles.CodeKeyUnknown) || s.engine.Snapshot() != nil {
		t.Error(err)
	}
}

// TestChangesTogether: many callers at once, each of whom is answered for its own; those
// at fault do not hold up the others, and no decision is without a snapshot.
func TestChangesTogether(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir, nil).load(t)
	s.push(t, registry.Push{Archive: facts(t, "r1", 1), Activate: true})
	var group sync.WaitGroup
	const callers, each = 8, 30
	var mu sync.Mutex
	seen := map[int64]bool{}
	for g := range callers {
		group.Go(func() {
			for i := range each {
				name := fmt.Sprintf("a%d-%d", g, i)
				switch i % 5 {
				case 3:
					if _, err := s.change(t, remove(t, "/lists/blocked")); codeOf(err) != "bundle.missing_data" {
						t.Error(err)
					}
				case 4:
					if _, err := s.change(t, upsert(t, "/fixed/x", "1")); codeOf(err) != string(bundles.CodeNotWritable) {
						t.Error(err)
					}
				default:
					got, err := s.change(t, upsert(t, "/lists/permitted/"+name, "true"))
					if err != nil {
						t.Error(err)
						continue
					}
					if s.allows(t, name) != name {
						t.Error("not in force:", name)
					}
					mu.Lock()
					if seen[got.Number] {
						t.Error("a number twice:", got.Number)
					}
					seen[got.Number] = true
					mu.Unlock()
				}
			}
		})
	}
	group.Wait()
	if len(seen) != callers*each*3/5 {
		t.Error(len(seen))
	}
	d, err := s.Document("main", []string{"lists"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	s = start(t, dir, nil).load(t)
	if again, err := s.Document("main", []string{"lists"}); err != nil || again.Tag != d.Tag {
		t.Errorf("%s\n%s", d.JSON, again.JSON)
	}
}

// TestChangeGivenUp: a caller who goes away before its change is begun changes nothing.
func TestChangeGivenUp(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil).load(t)
	s.push(t, registry.Push{Archive: facts(t, "r1", 1), Activate: true})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var made, given int
	for i := range 50 {
		name := "x" + strconv.Itoa(i)
		_, err := s.ChangeData(ended, registry.DataChange{Name: "main", Edits: []rar.Edit{upsert(t, "/lists/permitted/"+name, "true")}})
		switch allowed := s.allows(t, name) == name; {
		case err == nil && allowed:
			made++
		case errors.Is(err, context.Canceled) && !allowed:
			given++
		default:
			t.Errorf("%v, allowed %v", err, allowed)
		}
	}
	if made+given != 50 {
		t.Error(made, given)
	}
}

// follower takes step by step what Next offers, as a server that follows does.
func follower(t *testing.T, from, to *stand, tag string) string {
	t.Helper()
	for range 200 {
		if live, _ := from.Tag("main"); live == tag {
			return tag
		}
		step, err := from.Next(t.Context(), "main", tag)
		if err != nil {
			t.Fatal(err)
		}
		archive, err := step.Read()
		if err != nil || int64(len(archive)) != step.Size {
			t.Fatal(len(archive), step.Size, err)
		}
		to.push(t, registry.Push{Archive: archive, Activate: true, DropChanges: true, Followed: true, Tag: step.Tag})
		if got, _ := to.Tag("main"); got != step.Tag {
			t.Fatalf("at %s, not %s", got, step.Tag)
		}
		tag = step.Tag
	}
	t.Fatal("never there")
	return ""
}

// TestNext: followers that begin anywhere come to the same data, through random
// changes of which some are signed, and some set anew what others have set.
func TestNext(t *testing.T) {
	t.Parallel()
	seeds := uint64(6)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 11)) //nolint:gosec // a test's
		source := start(t, t.TempDir(), nil).load(t)
		near, late := start(t, t.TempDir(), nil).load(t), start(t, t.TempDir(), nil).load(t)
		archive := facts(t, "r1", 1)
		source.push(t, registry.Push{Archive: archive, Activate: true})
		nearTag, lateTag := "", ""
		for i := range 40 {
			at := "/lists/permitted/" + []string{"a", "b", "c", "c/d", "c/e"}[r.IntN(5)]
			switch r.IntN(9) {
			case 0:
				source.push(t, registry.Push{
					Archive:  delta(t, true, store.Digest(archive), `,"sequence":`+strconv.Itoa(i+2), fmt.Sprintf(`{"data":[{"op":"upsert","path":"/fixed/n","value":%d}]}`, i)),
					Activate: true,
				})
			case 1, 2:
				if _, err := source.change(t, remove(t, at)); err != nil && codeOf(err) != string(bundles.CodeDataNotFound) {
					t.Fatal(err)
				}
			case 3:
				source.mustChange(t, upsert(t, at, `{}`), upsert(t, "/lists/n", strconv.Itoa(i)))
			case 4:
				nearTag = follower(t, source, near, nearTag)
			case 5:
				if r.IntN(4) == 0 {
					lateTag = follower(t, source, late, lateTag)
				}
			default:
				if _, err := source.change(t, upsert(t, at, fmt.Sprintf(`{"d": {"i": %d}}`, i))); err != nil {
					t.Fatal(err)
				}
			}
		}
		fresh := start(t, t.TempDir(), nil).load(t)
		for _, f := range []struct {
			*stand
			tag string
		}{{near, nearTag}, {late, lateTag}, {fresh, ""}} {
			follower(t, source, f.stand, f.tag)
			for _, root := range []string{"lists", "fixed"} {
				want, err := source.Document("main", []string{root})
				got, gotErr := f.Document("main", []string{root})
				if err != nil || gotErr != nil || want.Tag != got.Tag {
					t.Errorf("seed %d: %s, not %s (%v, %v)", seed, got.JSON, want.JSON, gotErr, err)
				}
			}
		}
		// What is on the disk comes to the same.
		again, err := source.Document("main", []string{"lists"})
		if err != nil {
			t.Fatal(err)
		}
		if err := source.store.Close(); err != nil {
			t.Fatal(err)
		}
		reopened := start(t, source.dir, nil).load(t)
		if got, err := reopened.Document("main", []string{"lists"}); err != nil || got.Tag != again.Tag {
			t.Errorf("seed %d, after a restart: %s, not %s", seed, got.JSON, again.JSON)
		}
	}
}

// TestFollowedIsBounded: a source that was taken over changes nothing beyond what the
// signed manifest lets be changed, and not out of order.
func TestFollowedIsBounded(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil).load(t)
	archive := facts(t, "r1", 1)
	s.push(t, registry.Push{Archive: archive, Activate: true, Followed: true})
	made := func(d bundles.Delta) []byte {
		out, err := bundles.PackDelta(&d, "r1#1", []string{"lists"})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	base := store.Digest(archive)
	for name, c := range map[string]struct {
		archive []byte
		code    bundles.Code
	}{
		"not writable":    {made(bundles.Delta{Edits: []rar.Edit{upsert(t, "/fixed/names", `["evil"]`)}, Base: base, Number: 1}), bundles.CodeNotWritable},
		"a gap":           {made(bundles.Delta{Edits: []rar.Edit{upsert(t, "/lists/a", "1")}, Base: base, After: 1, Number: 2}), bundles.CodeDeltaStale},
		"another archive": {made(bundles.Delta{Edits: []rar.Edit{upsert(t, "/lists/a", "1")}, Base: "sha256:00", Number: 1}), bundles.CodeDeltaStale},
		"as if signed":    {delta(t, false, base, `,"sequence":6`, `{"data":[{"op":"upsert","path":"/fixed/n","value":1}]}`), "bundle.signature_missing"},
		"a whole one":     {pack(t, false, file{"data.json", `{"lists": 1}`}), "bundle.signature_missing"},
	} {
		_, err := s.Push(t.Context(), registry.Push{Name: "main", Archive: c.archive, Activate: true, Followed: true})
		if codeOf(err) != string(c.code) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if tag, _ := s.Tag("main"); tag != base {
		t.Error(tag)
	}
	s.push(t, registry.Push{Archive: made(bundles.Delta{Edits: []rar.Edit{upsert(t, "/lists/a", "1")}, Base: base, Number: 3}), Activate: true, Followed: true})
	if tag, _ := s.Tag("main"); !strings.HasPrefix(tag, base+".3.") {
		t.Error(tag)
	}
}

// TestChangesBusy: so many changes wait and no more, those whose callers go away
// meanwhile are not made, and all others are.
func TestChangesBusy(t *testing.T) {
	t.Parallel()
	asked, release := make(chan struct{}), make(chan struct{})
	var hold atomic.Bool
	s := start(t, t.TempDir(), func(o *registry.Options) {
		o.Ask = func(live *engine.Snapshot) bundles.Ask {
			if hold.Load() {
				asked <- struct{}{}
				<-release
			}
			return ask(live)
		}
	}).load(t)
	archive := facts(t, "r1", 1)
	s.push(t, registry.Push{Archive: archive, Activate: true})
	hold.Store(true)
	var group sync.WaitGroup
	group.Go(func() { // its cases are asked
		signed := delta(t, true, store.Digest(archive), `,"sequence":2`, `{"data":[{"op":"upsert","path":"/fixed/names","value":["f","g"]}]}`)
		if _, err := s.Push(t.Context(), registry.Push{Name: "main", Archive: signed, Activate: true}); err != nil {
			t.Error(err)
		}
	})
	<-asked
	hold.Store(false)
	ctx, leave := context.WithCancel(t.Context())
	var refused, left, made atomic.Int64
	full := make(chan struct{})
	// One more than there is place for, whichever of them that is.
	for i := range registry.MaxChanging + 1 {
		mine := t.Context()
		if i%10 == 0 {
			mine = ctx
		}
		group.Go(func() {
			_, err := s.ChangeData(mine, registry.DataChange{Name: "main", Edits: []rar.Edit{upsert(t, fmt.Sprint("/lists/permitted/n", i), "true")}})
			switch {
			case err == nil:
				made.Add(1)
			case codeOf(err) == string(bundles.CodeBusy):
				refused.Add(1)
				close(full)
			case errors.Is(err, context.Canceled):
				left.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	<-full
	leave()
	for left.Load() < (registry.MaxChanging+1)/10-1 {
		runtime.Gosched()
	}
	close(release)
	group.Wait()
	d, err := s.Document("main", []string{"lists", "permitted"})
	if err != nil {
		t.Fatal(err)
	}
	if there := int64(bytes.Count(d.JSON, []byte(`"n`))); refused.Load() != 1 || made.Load() != there || made.Load()+left.Load() != registry.MaxChanging || s.allows(t, "g") != "g" {
		t.Errorf("%d refused, %d left, %d made, %d there", refused.Load(), left.Load(), made.Load(), there)
	}
}

// TestChangesFull: one change too many on top of an archive is refused, and what is
// live stays, until another one is released.
func TestChangesFull(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("keeps and loads as many changes as there may be")
	}
	dir := t.TempDir()
	s := start(t, dir, nil).load(t)
	archive := facts(t, "r1", 1)
	s.push(t, registry.Push{Archive: archive, Activate: true})
	base := store.Digest(archive)
	made, err := bundles.PackDelta(&bundles.Delta{Edits: []rar.Edit{upsert(t, "/lists/permitted/x", "true")}, Base: base, Number: 1}, "r1", []string{"authz", "lists", "fixed"})
	if err != nil {
		t.Fatal(err)
	}
	many := make([]store.Change, store.MaxChanges)
	for i := range many {
		many[i] = store.Change{Base: base, Number: int64(i) + 1, Digest: store.Digest(made), Archive: made}
	}
	if err := errors.Join(s.store.AddChanges(t.Context(), registry.DefaultTenant, "main", many, nil), s.store.Close()); err != nil {
		t.Fatal(err)
	}
	s = start(t, dir, nil).load(t)
	before := s.engine.Snapshot()
	if _, err := s.change(t, upsert(t, "/lists/permitted/y", "true")); codeOf(err) != string(bundles.CodeChangesFull) {
		t.Error(err)
	}
	signed := delta(t, true, base, `,"sequence":2`, `{"data":[{"op":"upsert","path":"/lists/permitted/y","value":true}]}`)
	if _, err := s.Push(t.Context(), registry.Push{Name: "main", Archive: signed, Activate: true}); codeOf(err) != string(bundles.CodeChangesFull) {
		t.Error(err)
	}
	if s.engine.Snapshot() != before || s.allows(t, "x", "y") != "x" {
		t.Error("what is live was touched:", s.allows(t, "x", "y"))
	}
	s.push(t, registry.Push{Archive: facts(t, "r2", 3), Activate: true, DropChanges: true})
	s.mustChange(t, upsert(t, "/lists/permitted/y", "true"))
	if s.allows(t, "x", "y") != "y" {
		t.Error(s.allows(t, "x", "y"))
	}
}

// TestRemovedParentIsKept: what removes a document needs what made it, also when a part
// of it is set anew.
func TestRemovedParentIsKept(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil).load(t)
	s.push(t, registry.Push{Archive: facts(t, "r1", 1), Activate: true})
	s.mustChange(t, upsert(t, "/lists/x/y", "1"))
	s.mustChange(t, remove(t, "/lists/x"))
	s.mustChange(t, upsert(t, "/lists/x/y", "2"))
	s.load(t)
	if got, err := s.Document("main", []string{"lists", "x"}); err != nil || string(got.JSON) != `{"y":2}` {
		t.Errorf("%s, %v", got.JSON, err)
	}
}

// randomEdit is an edit somewhere below root, which may not succeed; a plain one sets or
// removes members.
func randomEdit(t testing.TB, r *rand.Rand, root string, plain bool) rar.Edit {
	t.Helper()
	steps := []string{"a", "b", "a/b", "a~1b", "0", "1", "-", "é"}
	if plain {
		steps = steps[:2]
	}
	path := []string{root}
	for range 1 + r.IntN(4) {
		path = append(path, steps[r.IntN(len(steps))])
	}
	at := strings.Join(path, "/")
	values := []string{`{}`, `[]`, `7`, `null`, `{"a":{"b":1}}`, `[1,[2],{"a":3}]`, `{"0":{},"a":{"a":{"a":{}}}}`, strconv.Itoa(r.IntN(1000))}
	e := upsert(t, at, values[r.IntN(len(values))])
	if plain {
		e.Value = rar.ObjectValue()
	}
	switch r.IntN(4) {
	case 0:
		return remove(t, at)
	case 1:
		if !plain && r.IntN(3) == 0 {
			e.Op = rar.Replace
		}
	}
	return e
}

// TestStoredIsLive: after any changes of two bundles a reload, and followers that began
// anywhere, come to the data that is live. DATA_SEEDS is how many sequences of changes
// are made; default 2, one of either kind.
func TestStoredIsLive(t *testing.T) {
	t.Parallel()
	seeds := uint64(2)
	if testing.Short() {
		seeds = 1
	}
	if text := os.Getenv("DATA_SEEDS"); text != "" {
		var err error
		if seeds, err = strconv.ParseUint(text, 10, 32); err != nil {
			t.Fatal(err)
		}
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 5)) //nolint:gosec // a test's
		s, near := start(t, t.TempDir(), nil).load(t), start(t, t.TempDir(), nil).load(t)
		archive := facts(t, "r1", 1)
		s.push(t, registry.Push{Archive: archive, Activate: true})
		s.push(t, registry.Push{Name: "other", Activate: true, Archive: pack(t, true,
			file{".manifest", `{"revision":"o1","roots":["more"],"metadata":{"authzd":{"writable_data":["more/a","more/b"]}}}`}, file{"data.json", `{"more":{"a":{"a":[1,2]}}}`})})
		nearTag, made, plain := "", 0, seed%2 == 0
		same := func(of *stand, name string, path ...string) {
			t.Helper()
			want, err := s.Document(name, path)
			got, gotErr := of.Document(name, path)
			if err != nil || gotErr != nil || want.Tag != got.Tag || want.Revision != got.Revision {
				t.Fatalf("seed %d, after %d: %s (%s), not %s (%s) (%v, %v)", seed, made, got.JSON, got.Revision, want.JSON, want.Revision, gotErr, err)
			}
		}
		for i := range 150 {
			name, root := "main", "/lists/a"
			if r.IntN(4) == 0 {
				name, root = "other", "/more/"+[]string{"a", "b"}[r.IntN(2)]
			}
			edits := []rar.Edit{randomEdit(t, r, root, plain)}
			if !plain && r.IntN(5) == 0 {
				edits = append(edits, randomEdit(t, r, root, plain), upsert(t, root, `{"a":{}}`))
			}
			var err error
			if r.IntN(40) == 0 {
				_, err = s.Push(t.Context(), registry.Push{Name: "main", Archive: delta(t, true, store.Digest(archive), `,"sequence":`+strconv.Itoa(i+2),
					string(bundles.AppendPatch(nil, []rar.Edit{randomEdit(t, r, "/lists/a", plain)}))), Activate: true})
			} else {
				_, err = s.ChangeData(t.Context(), registry.DataChange{Name: name, Edits: edits})
			}
			if err == nil {
				made++
			} else if codeOf(err) != string(bundles.CodeDataNotFound) {
				t.Fatal(err)
			}
			if r.IntN(12) == 0 {
				nearTag = follower(t, s, near, nearTag)
				same(near, "main", "lists")
			}
			if r.IntN(8) == 0 {
				before := []registry.Document{}
				for _, at := range [][]string{{"main", "lists"}, {"other", "more"}} {
					d, err := s.Document(at[0], at[1:])
					if err != nil {
						t.Fatal(err)
					}
					before = append(before, d)
				}
				s.load(t)
				for n, at := range [][]string{{"main", "lists"}, {"other", "more"}} {
					if d, err := s.Document(at[0], at[1:]); err != nil || d.Tag != before[n].Tag || d.Revision != before[n].Revision {
						t.Fatalf("seed %d, reloaded after %d: %s, not %s, %v", seed, made, d.JSON, before[n].JSON, err)
					}
				}
			}
		}
		fresh := start(t, t.TempDir(), nil).load(t)
		follower(t, s, fresh, "")
		same(fresh, "main", "lists")
		if made < 40 {
			t.Errorf("seed %d: only %d were made", seed, made)
		}
	}
}

// TestRefusedIsNotKept: where nothing is live, a change is compiled; what is refused then
// is not found again under the number of the next one.
func TestRefusedIsNotKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir, nil).load(t)
	base := store.Digest(facts(t, "r1", 5))
	s.push(t, registry.Push{Archive: facts(t, "r1", 5), Activate: true})
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	s = start(t, dir, func(o *registry.Options) { // as if a later server asked more of policy
		o.Verify = func(archive []byte) (bundles.Content, error) {
			c, err := verify(archive)
			if c.Delta == nil && err == nil {
				c.Bundle.Modules = append(c.Bundle.Modules, engine.Module{Path: "more.rego", Text: "package authz\n\nforbid[\"more\"] := {} if data.lists.needed[input.action.name]\n"})
			}
			return c, err
		}
	})
	if _, err := s.Load(t.Context(), []engine.Bundle{local(t)}); err == nil || s.engine.Snapshot() != nil {
		t.Fatal("it is live:", err)
	}
	bad := delta(t, true, base, `,"sequence":6`, `{"data":[{"op":"upsert","path":"/lists/needed","value":{}},{"op":"replace","path":"/fixed/names","value":["g"]}]}`)
	if _, err := s.Push(t.Context(), registry.Push{Name: "main", Archive: bad, Activate: true}); codeOf(err) != string(bundles.CodeTestFailed) {
		t.Fatal(err)
	}
	s.mustChange(t, upsert(t, "/lists/needed", `{}`))
	if got := s.allows(t, "f", "g"); got != "f" {
		t.Error("allowed by what was refused:", got)
	}
}

// TestNothingIsLearnt: who may not write somewhere does not learn what is there.
func TestNothingIsLearnt(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil).load(t)
	s.push(t, registry.Push{Archive: facts(t, "r1", 1), Activate: true})
	there, err := s.Document("main", path(t, "/fixed/names"))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []registry.DataChange{
		{Path: path(t, "/fixed/names"), Expect: []string{there.Tag}},
		{Path: path(t, "/fixed/names"), Expect: []string{"sha256:00"}},
		{Path: path(t, "/fixed/names"), ExpectAbsent: true},
		{Path: path(t, "/fixed/nobody"), ExpectAbsent: true},
	} {
		d.Name, d.Edits = "main", []rar.Edit{{Op: rar.Upsert, Path: d.Path, Value: rar.ObjectValue()}}
		if _, err := s.ChangeData(t.Context(), d); codeOf(err) != string(bundles.CodeNotWritable) {
			t.Errorf("%+v: %v", d, err)
		}
	}
}

// TestWritableElement: where one element of an array may be written, the others stay
// where they are.
func TestWritableElement(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil).load(t)
	s.push(t, registry.Push{Name: "other", Activate: true, Archive: pack(t, true,
		file{".manifest", `{"revision":"o1","roots":["more"],"metadata":{"authzd":{"writable_data":["more/list/0","more/list/-"]}}}`}, file{"data.json", `{"more":{"list":[{"a":1},2]}}`})})
	replace := upsert(t, "/more/list/0", "{}")
	replace.Op = rar.Replace
	for want, edits := range map[bundles.Code][]rar.Edit{
		bundles.CodeNotWritable: {remove(t, "/more/list/0"), upsert(t, "/more/list/0", "3"), upsert(t, "/more/list/-", "3"), upsert(t, "/more/list/1", "3")},
		"<nil>":                 {upsert(t, "/more/list/0/a", "2"), replace, upsert(t, "/more/list/0/a", "3")},
	} {
		for _, e := range edits {
			if _, err := s.ChangeData(t.Context(), registry.DataChange{Name: "other", Edits: []rar.Edit{e}}); codeOf(err) != string(want) {
				t.Errorf("%+v: %v", e, err)
			}
		}
	}
	s.load(t)
	if got, err := s.Document("other", path(t, "/more")); err != nil || string(got.JSON) != `{"list":[{"a":3},2]}` {
		t.Errorf("%s, %v", got.JSON, err)
	}
}

// TestReleaseFromBeforeADelta: whoever has an older release, signed all the same, does
// not undo a signed delta bundle with it.
func TestReleaseFromBeforeADelta(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil).load(t)
	first := facts(t, "r1", 1)
	s.push(t, registry.Push{Archive: first, Activate: true})
	s.push(t, registry.Push{Archive: delta(t, true, store.Digest(first), `,"sequence":5`, `{"data":[{"op":"upsert","path":"/lists/blocked","value":["r3"]}]}`), Activate: true})
	older := registry.Push{Name: "main", Archive: facts(t, "r3", 3), Activate: true, DropChanges: true, Followed: true}
	if _, err := s.Push(t.Context(), older); codeOf(err) != string(bundles.CodeStaleRevision) {
		t.Error(err)
	}
	if got := s.push(t, registry.Push{Archive: first, Activate: true}); !got.Unchanged {
		t.Errorf("the active one: %+v", got)
	}
	older.AllowOlder = true
	s.push(t, older)
	s.push(t, registry.Push{Archive: facts(t, "r5", 5), Activate: true, DropChanges: true})
}

// TestStats: what was loaded and changed is counted.
func TestStats(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil).load(t)
	s.push(t, registry.Push{Archive: facts(t, "r1", 1), Activate: true})
	s.mustChange(t, upsert(t, "/lists/permitted/x", "true"))
	if _, err := s.change(t, remove(t, "/lists/blocked")); err == nil {
		t.Fatal("removed")
	}
	got := s.Stats()
	if got.Made != 1 || got.Refused != 1 || len(got.Active) != 1 || got.Active[0].Changes != 1 || got.Active[0].Bytes == 0 || got.Active[0].Name != "main" {
		t.Errorf("%+v", got)
	}
	for _, stage := range registry.Stages() {
		if n := got.Stages[stage]; n.Count == 0 || n.Busy != 0 || n.Took <= 0 {
			t.Errorf("%s: %+v", stage, n)
		}
	}
}

// TestStoredAndNotTold: a change that is stored, and whose answer was lost, is there with
// the next one.
func TestStoredAndNotTold(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), nil).load(t)
	archive := facts(t, "r1", 1)
	s.push(t, registry.Push{Archive: archive, Activate: true})
	packed, err := bundles.PackDelta(&bundles.Delta{Edits: []rar.Edit{upsert(t, "/lists/blocked", `["f"]`)}, Base: store.Digest(archive), Number: 1}, "r1#1", []string{"lists"})
	if err != nil {
		t.Fatal(err)
	}
	row := store.Change{Base: store.Digest(archive), Number: 1, Archive: packed, Digest: store.Digest(packed)}
	if err := s.store.AddChanges(t.Context(), registry.DefaultTenant, "main", []store.Change{row}, nil); err != nil {
		t.Fatal(err)
	}
	if got := s.mustChange(t, upsert(t, "/lists/permitted/x", "true")); got.Number != 2 {
		t.Errorf("%+v", got)
	}
	if got := s.allows(t, "f", "x"); got != "x" {
		t.Error(got)
	}
}

// TestLines: changes of two servers are told apart also where they have the same numbers,
// and those of one that was restored from what it lost.
func TestLines(t *testing.T) {
	t.Parallel()
	archive := facts(t, "r1", 1)
	a, b := start(t, t.TempDir(), nil).load(t), start(t, t.TempDir(), nil).load(t)
	for _, s := range []*stand{a, b} {
		s.push(t, registry.Push{Archive: archive, Activate: true})
	}
	a.mustChange(t, upsert(t, "/lists/blocked", `["f"]`))
	b.mustChange(t, upsert(t, "/lists/n", `1`))
	mine, _ := a.Tag("main")
	other, _ := b.Tag("main")
	if mine == other {
		t.Fatal("two lines of one name:", mine)
	}
	step, err := a.Next(t.Context(), "main", other)
	if err != nil || step.Tag != store.Digest(archive) || step.Latest != mine {
		t.Errorf("%+v, %v", step, err)
	}
	a.mustChange(t, upsert(t, "/lists/n", `2`))
	if step, err = a.Next(t.Context(), "main", other); err != nil || step.Tag != store.Digest(archive) {
		t.Errorf("%+v, %v", step, err)
	}
	// After a restart numbers go on in a line of their own, and the old one still counts.
	if err := a.store.Close(); err != nil {
		t.Fatal(err)
	}
	a = start(t, a.dir, nil).load(t)
	a.mustChange(t, upsert(t, "/lists/blocked", `[]`)) // in place of number 1
	if step, err = a.Next(t.Context(), "main", mine); err != nil || !strings.HasPrefix(step.Tag, store.Digest(archive)+".3.") {
		t.Errorf("%+v, %v", step, err)
	}
	if step, err = a.Next(t.Context(), "main", strings.Replace(mine, ".1.", ".3.", 1)); err != nil || step.Tag != store.Digest(archive) {
		t.Errorf("beyond the end of its line: %+v, %v", step, err)
	}
}
