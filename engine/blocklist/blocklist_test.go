package blocklist_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/engine/blocklist"
	"github.com/authzd/authzd/rar"
	"github.com/authzd/authzd/store"
)

// stand is a data directory, an engine that permits everything, and a clock.
type stand struct {
	dir    string
	now    time.Time
	store  *store.Store
	engine *engine.Engine
	list   *blocklist.List
	ids    int
}

func newStand(t *testing.T) *stand {
	t.Helper()
	s := &stand{dir: filepath.Join(t.TempDir(), "data"), now: time.Date(2026, 11, 24, 12, 0, 0, 123456789, time.UTC)}
	s.open(t)
	t.Cleanup(func() { _ = s.store.Close() })
	return s
}

func (s *stand) clock() time.Time { return s.now }

// open is a start of the server.
func (s *stand) open(t *testing.T) {
	t.Helper()
	var err error
	if s.store, err = store.Open(t.Context(), s.dir, store.Options{}); err != nil {
		t.Fatal(err)
	}
	metadata, err := rar.DecodeStrict([]byte(`{"contract": 1, "untyped_tools": true}`), rar.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	snapshot, _, err := engine.Compile(t.Context(), []engine.Bundle{{
		Name: "main", Revision: "1", Roots: []string{""}, Metadata: metadata, Data: rar.ObjectValue(),
		Modules: []engine.Module{{Path: "p.rego", Text: "package authz\npermit[\"any\"] := {}"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.engine = engine.New(engine.Options{Now: s.clock})
	s.engine.Swap(snapshot)
	if s.list, err = s.openList(t); err != nil {
		t.Fatal(err)
	}
}

func (s *stand) openList(t *testing.T) (*blocklist.List, error) {
	t.Helper()
	return blocklist.Open(t.Context(), blocklist.Options{Store: s.store, Engine: s.engine, Now: s.clock, NewID: func() string {
		s.ids++
		return fmt.Sprintf("%04d", s.ids)
	}})
}

func (s *stand) restart(t *testing.T) {
	t.Helper()
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	s.open(t)
}

// allows asks whether a subject may do something.
func (s *stand) allows(t *testing.T, subject string) bool {
	t.Helper()
	d, err := s.engine.Decide(t.Context(), &engine.Query{
		Subject: &engine.Subject{Type: "identity", ID: subject}, Action: engine.Action{Name: "read"}, Resource: engine.Resource{Type: "page", ID: "p"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return d.Allow
}

func request(value string) blocklist.Request {
	return blocklist.Request{Kind: engine.BlockSubject, Value: value, For: time.Hour, Who: "root", Why: "stolen laptop"}
}

func TestCreateLiftRestart(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	for _, who := range []string{"alice", "bob"} {
		if !s.allows(t, who) {
			t.Fatal(who)
		}
	}
	b, err := s.list.Create(t.Context(), request("alice"))
	if err != nil || s.allows(t, "alice") || !s.allows(t, "bob") {
		t.Fatal(b, err)
	}
	s.restart(t)
	if s.allows(t, "alice") || !s.allows(t, "bob") {
		t.Error("the block did not survive")
	}
	at := s.now.Truncate(time.Microsecond)
	want := blocklist.Block{Block: store.Block{
		Tenant: "default", ID: "0001", Kind: "subject", Target: "alice", Why: "stolen laptop", CreatedBy: "root", CreatedAt: at, EndsAt: at.Add(time.Hour),
	}, State: blocklist.Active}
	list, err := s.list.Blocks(t.Context())
	if diff := cmp.Diff([]blocklist.Block{want}, list); err != nil || diff != "" {
		t.Error(err, diff)
	}
	s.now = s.now.Add(time.Minute)
	want.LiftedBy, want.LiftedWhy, want.LiftedAt, want.State = "carol", "found it", at.Add(time.Minute), blocklist.Lifted
	for _, who := range []string{"carol", "mallory"} { // the second finds it lifted
		got, err := s.list.Lift(t.Context(), "0001", who, "found it")
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Error(err, diff)
		}
		if !s.allows(t, "alice") {
			t.Error("the block holds after it was lifted")
		}
		s.restart(t)
	}
	var coded *engine.Error
	if _, err := s.list.Lift(t.Context(), "0009", "", ""); !errors.As(err, &coded) || coded.Code != engine.CodeBlockNotFound {
		t.Error(err)
	}
}

func TestBlockEndsByItself(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	if _, err := s.list.Create(t.Context(), request("alice")); err != nil {
		t.Fatal(err)
	}
	s.now = s.now.Add(time.Hour - time.Millisecond)
	if s.allows(t, "alice") {
		t.Error("it ended too early")
	}
	s.now = s.now.Add(time.Millisecond)
	if !s.allows(t, "alice") {
		t.Error("it did not end")
	}
	list, err := s.list.Blocks(t.Context())
	if err != nil || list[0].State != blocklist.Ended {
		t.Error(list, err)
	}
	// Lifting what has ended is recorded: it would hold again if the clock were set
	// back.
	if b, err := s.list.Lift(t.Context(), "0001", "bob", ""); err != nil || b.State != blocklist.Lifted || b.LiftedBy != "bob" {
		t.Error(b, err)
	}
	s.restart(t)
	if !s.allows(t, "alice") {
		t.Error("it came back")
	}
}

func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	for name, c := range map[string]struct {
		change func(*blocklist.Request)
		code   engine.Code
		path   string
	}{
		"no time":        {func(r *blocklist.Request) { r.For = 0 }, engine.CodeInvalidValue, "/for_seconds"},
		"a time before":  {func(r *blocklist.Request) { r.For = -time.Second }, engine.CodeInvalidValue, "/for_seconds"},
		"too long":       {func(r *blocklist.Request) { r.For = blocklist.MaxFor + 1 }, engine.CodeInvalidValue, "/for_seconds"},
		"no reason":      {func(r *blocklist.Request) { r.Why = "" }, engine.CodeInvalidValue, "/why"},
		"unknown kind":   {func(r *blocklist.Request) { r.Kind = "person" }, engine.CodeInvalidValue, "/kind"},
		"nobody":         {func(r *blocklist.Request) { r.Value = "" }, engine.CodeMissingMember, "/value"},
		"issuer of tool": {func(r *blocklist.Request) { r.Kind, r.Issuer = engine.BlockTool, "x" }, engine.CodeInvalidValue, "/issuer"},
	} {
		r := request("alice")
		c.change(&r)
		var coded *engine.Error
		if _, err := s.list.Create(t.Context(), r); !errors.As(err, &coded) || coded.Code != c.code || coded.Path != c.path {
			t.Errorf("%s: %v", name, err)
		}
	}
	if list, err := s.list.Blocks(t.Context()); err != nil || len(list) != 0 || !s.allows(t, "alice") {
		t.Error(list, err)
	}
}

// A block that can not be recorded is none, and one that can not be loaded keeps
// the server from starting.
func TestStoreFails(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	if _, err := s.list.Create(t.Context(), request("alice")); err != nil {
		t.Fatal(err)
	}
	// What no version has written.
	bad := store.Block{Tenant: "default", ID: "x", Kind: "planet", Target: "mars", CreatedAt: s.now, EndsAt: s.now.Add(time.Hour)}
	if err := s.store.AddBlock(t.Context(), bad); err != nil {
		t.Fatal(err)
	}
	if l, err := s.openList(t); err == nil || l != nil {
		t.Error("opened with a block that nobody understands")
	}
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.list.Create(t.Context(), request("bob")); err == nil || !s.allows(t, "bob") {
		t.Error("a block that is not on disk holds:", err)
	}
	if _, err := s.list.Lift(t.Context(), "0001", "", ""); err == nil || s.allows(t, "alice") {
		t.Error("a block that is not lifted on disk does not hold:", err)
	}
	if l, err := s.openList(t); err == nil || l != nil {
		t.Error("opened without what is stored")
	}
}

func TestFull(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	blocklist.Fill(s.list, engine.MaxBlocks, s.now.Add(time.Minute))
	var coded *engine.Error
	if _, err := s.list.Create(t.Context(), request("alice")); !errors.As(err, &coded) || coded.Code != engine.CodeBlocksFull {
		t.Error(err)
	}
	// Those that have ended make room.
	s.now = s.now.Add(time.Minute)
	if _, err := s.list.Create(t.Context(), request("alice")); err != nil || s.allows(t, "alice") {
		t.Error(err)
	}
}

// A clock that was ahead for a while has not ended what it called ended,
// whatever was done meanwhile.
func TestClockAhead(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(s *stand) error{
		"create": func(s *stand) error { _, err := s.list.Create(t.Context(), request("bob")); return err },
		"lift": func(s *stand) error {
			b, err := s.list.Create(t.Context(), request("bob"))
			if err == nil {
				_, err = s.list.Lift(t.Context(), b.ID, "carol", "")
			}
			return err
		},
		"restart": func(s *stand) error {
			if err := s.store.Close(); err != nil {
				return err
			}
			s.open(t)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStand(t)
			if _, err := s.list.Create(t.Context(), request("alice")); err != nil {
				t.Fatal(err)
			}
			s.now = s.now.Add(1000 * time.Hour)
			if !s.allows(t, "alice") {
				t.Error("the block does not end")
			}
			if err := meanwhile(s); err != nil {
				t.Fatal(err)
			}
			s.now = s.now.Add(-1000 * time.Hour)
			list, err := s.list.Blocks(t.Context())
			if err != nil || list[len(list)-1].State != blocklist.Active || s.allows(t, "alice") {
				t.Errorf("%+v, allowed %t, %v", list, s.allows(t, "alice"), err)
			}
		})
	}
}

// Without a message policy sees the resource of tools/call as the tool.
func TestToolWithoutMessage(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	q := &engine.Query{
		Subject: &engine.Subject{Type: "identity", ID: "alice"}, Action: engine.Action{Name: "tools/call"}, Resource: engine.Resource{Type: "tool", ID: "pay"},
	}
	if d, err := s.engine.Decide(t.Context(), q); err != nil || !d.Allow {
		t.Fatal(d, err)
	}
	r := request("pay")
	r.Kind = engine.BlockTool
	if _, err := s.list.Create(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if d, err := s.engine.Decide(t.Context(), q); err != nil || d.Allow {
		t.Error(d, err)
	}
}
