package workload_test

import (
	"bytes"
	"strconv"
	"testing"
	"time"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
	"github.com/authzd/authzd/tests/bench/workload"
)

// These tests see engine and bundles, unlike everything else below tests: the
// same question is measured in process, to tell what of a request's cost is the
// decision and what is the door.

func newWorkload(t testing.TB) *workload.Workload {
	t.Helper()
	w, err := workload.New()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func openBundle(t testing.TB, w *workload.Workload) engine.Bundle {
	t.Helper()
	dir := t.TempDir()
	if err := w.WriteBundle(dir); err != nil {
		t.Fatal(err)
	}
	content, err := bundles.Open(dir, bundles.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	b := content.Bundle
	b.Name = "bench"
	return b
}

func newEngine(t testing.TB, w *workload.Workload) *engine.Engine {
	t.Helper()
	s, _, err := engine.Compile(t.Context(), []engine.Bundle{openBundle(t, w)})
	if err != nil {
		t.Fatal(err)
	}
	e := engine.New(engine.Options{Compiled: true, Budget: time.Minute})
	e.Prepare(s)
	e.Swap(s)
	return e
}

// at reads a member by JSON Pointer; Absent if there is none.
func at(v rar.Value, pointer string) rar.Value {
	m, _ := v.Lookup(pointer)
	return m
}

// decodeQuery does what a door does with a body: strict JSON, then a query.
func decodeQuery(t testing.TB, text []byte) *engine.Query {
	t.Helper()
	v, err := rar.DecodeStrict(text, rar.Limits{RejectCaseVariants: true})
	if err != nil {
		t.Fatal(err)
	}
	cred, rejected := engine.CredentialFromClaims(at(v, "/credentials/0/id").Text(), "pep", "", at(v, "/credentials/0/claims"))
	if rejected != nil {
		t.Fatal(rejected.Code)
	}
	method, name := at(v, "/mcp/method").Text(), at(v, "/mcp/params/name").Text()
	return &engine.Query{
		Subject: &engine.Subject{
			Type: at(v, "/subject/type").Text(), ID: at(v, "/subject/id").Text(),
			Issuer: at(v, "/subject/properties/issuer").Text(), Properties: at(v, "/subject/properties"),
		},
		Action:   engine.Action{Name: method},
		Resource: engine.Resource{Type: "tool", ID: name},
		Context:  at(v, "/context"),
		MCP: &engine.MCP{
			Method: method, Params: at(v, "/mcp/params"), Server: at(v, "/mcp/server").Text(),
			Transport: at(v, "/mcp/transport").Text(), ProtocolVersion: at(v, "/mcp/protocol_version").Text(),
		},
		Credentials: []engine.Credential{cred},
		Actionable:  engine.NewKindSet(engine.KindScopes, engine.KindAuthorizationDetails, engine.KindToken),
	}
}

func queries(t testing.TB, w *workload.Workload) []*engine.Query {
	t.Helper()
	out := make([]*engine.Query, len(w.Requests))
	for i := range w.Requests {
		out[i] = decodeQuery(t, w.Requests[i].Query)
	}
	return out
}

// TestAnswers: the engine answers every request as worked out by hand, and for
// the reason that the request was made for.
func TestAnswers(t *testing.T) {
	t.Parallel()
	w := newWorkload(t)
	e := newEngine(t, w)
	outcomes := map[string]int{}
	for i, q := range queries(t, w) {
		d, err := e.Decide(t.Context(), q)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		if d.Allow != w.Requests[i].Allow || d.Error != nil {
			t.Fatalf("request %d: allow %v, want %v; error %+v, reasons %+v\n%s",
				i, d.Allow, w.Requests[i].Allow, d.Error, d.Reasons, w.Requests[i].Query)
		}
		if d.Allow {
			outcomes["allow"]++
			continue
		}
		kind := string(d.Reasons[0].Code)
		for _, r := range d.Remediation.Remedies {
			if !r.Held {
				kind = string(r.Kind)
			}
		}
		outcomes[kind]++
	}
	t.Log(outcomes)
	for _, want := range []string{"allow", "scopes", "authorization_details", string(engine.CodeForbidden), string(engine.CodeNoPermit)} {
		if outcomes[want] < 40 {
			t.Errorf("only %d requests end in %s: %v", outcomes[want], want, outcomes)
		}
	}
	if share := float64(w.Allowed()) / float64(len(w.Requests)); share < 0.77 || share > 0.81 {
		t.Errorf("%.1f %% of the requests are allowed, want about 79 %%", 100*share)
	}
}

// TestDeterministic: figures of two machines are about the same requests.
func TestDeterministic(t *testing.T) {
	t.Parallel()
	a, b := newWorkload(t), newWorkload(t)
	size := 0
	for i := range a.Requests {
		if !bytes.Equal(a.Requests[i].Query, b.Requests[i].Query) {
			t.Fatalf("request %d differs between two runs", i)
		}
		size += len(a.Requests[i].Query)
	}
	if mean := size / len(a.Requests); mean < 1300 || mean > 1900 {
		t.Errorf("requests are %d bytes on average, want about 1600", mean)
	}
}

func BenchmarkCompile(b *testing.B) {
	bundle := openBundle(b, newWorkload(b))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := engine.Compile(b.Context(), []engine.Bundle{bundle}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDecide is the decision alone, on queries that are decoded already.
func BenchmarkDecide(b *testing.B) {
	w := newWorkload(b)
	e, qs := newEngine(b, w), queries(b, w)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if d, err := e.Decide(b.Context(), qs[i]); err != nil || d.Allow != w.Requests[i].Allow {
			b.Fatal(d, err)
		}
		i = (i + 1) % len(qs)
	}
}

// BenchmarkDecodeAndDecide adds what a door does before: strict decoding.
func BenchmarkDecodeAndDecide(b *testing.B) {
	w := newWorkload(b)
	e := newEngine(b, w)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if d, err := e.Decide(b.Context(), decodeQuery(b, w.Requests[i].Query)); err != nil || d.Allow != w.Requests[i].Allow {
			b.Fatal(d, err)
		}
		i = (i + 1) % len(w.Requests)
	}
}

// filterQuery asks about every tool of the workload for the caller of a request.
func filterQuery(q *engine.Query) *engine.FilterQuery {
	caller := *q
	caller.MCP = &engine.MCP{Server: q.MCP.Server, Transport: q.MCP.Transport, ProtocolVersion: q.MCP.ProtocolVersion}
	out := &engine.FilterQuery{Caller: caller}
	for _, name := range workload.ToolNames() {
		out.Tools = append(out.Tools, engine.ListedTool{Name: name})
	}
	return out
}

// TestFilter: no tool is hidden from a caller who may call it, and what the
// caller's roles do not hold is.
func TestFilter(t *testing.T) {
	t.Parallel()
	w := newWorkload(t)
	e, qs := newEngine(t, w), queries(t, w)
	counts := map[engine.ToolAccess]int{}
	asked := 200
	if testing.Short() {
		asked = 20
	}
	for i, q := range qs[:asked] {
		out, err := e.FilterTools(t.Context(), e.Snapshot(), filterQuery(q))
		if err != nil {
			t.Fatal(err)
		}
		for _, tool := range out.Tools {
			counts[tool.Access]++
			if tool.Name == q.Resource.ID && w.Requests[i].Allow && tool.Access != engine.ToolPossible {
				t.Errorf("request %d is allowed, and %s was reported as %v", i, tool.Name, tool.Access)
			}
		}
	}
	t.Log(counts)
	// A caller has one or two of 20 roles, each with three tenths of the tools.
	if total := asked * len(workload.ToolNames()); counts[engine.ToolHidden] < total/3 || counts[engine.ToolAfterRemediation] == 0 || counts[engine.ToolPossible] == 0 {
		t.Errorf("of %d answers: %v", total, counts)
	}
}

// BenchmarkFilter asks about all 200 tools: with nothing remembered, because
// every caller is a new one, and again for the same caller.
func BenchmarkFilter(b *testing.B) {
	w := newWorkload(b)
	e, qs := newEngine(b, w), queries(b, w)
	b.Run("uncached", func(b *testing.B) {
		b.ReportAllocs()
		q := filterQuery(qs[0])
		for i := 0; b.Loop(); i++ {
			q.Caller.Credentials[0].TokenID = strconv.Itoa(i)
			if _, err := e.FilterTools(b.Context(), e.Snapshot(), q); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("cached", func(b *testing.B) {
		b.ReportAllocs()
		q := filterQuery(qs[1])
		for b.Loop() {
			if _, err := e.FilterTools(b.Context(), e.Snapshot(), q); err != nil {
				b.Fatal(err)
			}
		}
	})
}
