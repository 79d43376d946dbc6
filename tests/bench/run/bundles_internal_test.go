package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

func TestBundlesFlags(t *testing.T) {
	t.Parallel()
	cfg, err := parseBundlesFlags([]string{"-bundles", "-rules", "20", "-cases", "opa,grpc", "-secs", "2s"})
	if err != nil || cfg.rules != 20 || cfg.rounds != 5 || cfg.secs != 2*time.Second || len(cfg.cases) != 2 || cfg.longest() < 2*time.Minute {
		t.Errorf("%+v, %v", cfg, err)
	}
	for _, bad := range []string{
		"-rounds=0", "-data=-1", "-data=NaN", "-rate=0", "-rate=NaN", "-rate=Inf", "-conns=0", "-secs=0s", "-warm=-1s", "-after=2m",
		"-limit=0s", "-cases=", "-cases=rest,rest", "-cases=http", "more",
	} {
		if _, err := parseBundlesFlags([]string{bad}); err == nil {
			t.Errorf("%s: accepted", bad)
		}
	}
}

// TestReaders: an answer that is of two revisions is told.
func TestReaders(t *testing.T) {
	t.Parallel()
	check := func(rule, revision string) []byte {
		text, err := proto.Marshal(&authzdv1.CheckResponse{Rule: rule, Policy: &authzdv1.PolicyRevision{Revision: revision}})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for name, c := range map[string]struct {
		read  reader
		in    answer
		want  string
		wrong bool
	}{
		"gRPC allow":       {read: readCheckResponse, in: answer{allow: true, text: check("call-r1", "r1")}, want: "r1"},
		"gRPC deny":        {read: readCheckResponse, in: answer{text: check("", "r1")}, want: "r1"},
		"gRPC mixed":       {read: readCheckResponse, in: answer{allow: true, text: check("call-r0", "r1")}, want: "r1", wrong: true},
		"gRPC mixed deny":  {read: readCheckResponse, in: answer{text: check("call-r0", "r1")}, want: "r1", wrong: true},
		"gRPC no rule":     {read: readCheckResponse, in: answer{allow: true, text: check("", "r1")}, want: "r1", wrong: true},
		"gRPC no protobuf": {read: readCheckResponse, in: answer{text: []byte{0xff}}, wrong: true},
		"REST allow":       {read: readCheckJSON, in: answer{allow: true, text: []byte(`{"rule":"call-r1","policy":{"revision":"r1"}}`)}, want: "r1"},
		"REST mixed":       {read: readCheckJSON, in: answer{allow: true, text: []byte(`{"rule":"call-r1","policy":{"revision":"r2"}}`)}, want: "r2", wrong: true},
		"REST no JSON":     {read: readCheckJSON, in: answer{text: []byte(`{`)}, wrong: true},
		"OPA":              {read: readOPA, in: answer{text: []byte(`{"result":{"allow":true,"rules":"r1","release":"r1"}}`)}, want: "r1"},
		"OPA mixed":        {read: readOPA, in: answer{text: []byte(`{"result":{"allow":true,"rules":"r1","release":"r2"}}`)}, want: "r1", wrong: true},
		"OPA undefined":    {read: readOPA, in: answer{text: []byte(`{}`)}, wrong: true},
	} {
		got, err := c.read(c.in)
		if got != c.want || (err != nil) != c.wrong {
			t.Errorf("%s: %q, %v; want %q, wrong %v", name, got, err, c.want, c.wrong)
		}
	}
}

// TestBundleSource: a client that has the current archive waits for the next.
func TestBundleSource(t *testing.T) {
	t.Parallel()
	s, err := newBundleSource(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	get := func(etag string) (http.Header, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.addr+"/bundle.tar.gz", http.NoBody)
		if err != nil {
			t.Error(err)
			return nil, ""
		}
		req.Header.Set("If-None-Match", etag)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return nil, ""
		}
		defer resp.Body.Close() //nolint:errcheck // it was read
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		return resp.Header, string(text)
	}
	s.publish([]byte("one"))
	header, text := get("")
	if text != "one" || header.Get("Content-Type") != "application/vnd.openpolicyagent.bundles" {
		t.Fatalf("%q, %v", text, header)
	}
	next := make(chan string)
	go func() {
		_, text := get(header.Get("ETag"))
		next <- text
	}()
	s.publish([]byte("two"))
	if got := <-next; got != "two" {
		t.Errorf("the next archive is %q", got)
	}
}

func TestPack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{".manifest": "{}", "policy.rego": "package bench"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	archive, err := pack(dir)
	if err != nil {
		t.Fatal(err)
	}
	zip, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, h.Name+"="+string(text))
	}
	if want := "/.manifest={} /policy.rego=package bench"; strings.Join(got, " ") != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestBundlesReport(t *testing.T) {
	t.Parallel()
	r := bundlesReport{Tally: tally{Requests: 9}}
	for round := range 3 {
		add := func(label, phase string, took, p99 float64) {
			r.Samples = append(r.Samples, outcome{Case: label, Round: round, Phase: phase, Took: took, P99: p99 * float64(round+1), Requests: 5})
		}
		add(labelGRPC, phaseSteady, 0, 1000)
		add(labelGRPC, phaseActivation, 4000, 1400)
		add(labelGRPC, stepRollback, 250, 1000)
		add("OPA REST", phaseSteady, 0, 1000)
		add("OPA REST", stepPublish, 2000, 5000)
	}
	var out strings.Builder
	if err := r.writeTable(&out); err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{
		"| authzd gRPC | push and activate | 4000 / 4000 / 4000 | 5 | 0.00 / 0.00 / 0.00 | 1.40 / 2.80 / 4.20 | 1.40 / 1.40 / 1.40 | 0.00 / 0.00 / 0.00 | 0 / 0 / 0 | 0 / 0 / 0 | 0 / 0 / 0 |\n",
		"| none | all | 0, 0, 0 of 9 | met |\n",
		"| at most 1.5 | authzd gRPC | 1.40 / 1.40 / 1.40 | met |\n",
		"| at most 1.5 | OPA REST | 5.00 / 5.00 / 5.00 | **not met** |\n",
		"| roll back | under 200 ms | authzd gRPC | 250 / 250 / 250 ms | **not met** |\n",
	} {
		if !strings.Contains(out.String(), row) {
			t.Errorf("want the row\n%sin\n%s", row, out.String())
		}
	}
	out.Reset()
	large := bundlesReport{Tally: r.Tally, Samples: r.Samples, large: true, dataMB: 80}
	for i := range large.Samples {
		o := &large.Samples[i]
		o.Max, o.RSS, o.Rest, o.Peak = 2*o.P99, 240, 160, 800
	}
	if err := large.writeTable(&out); err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{
		"| resident memory before a change against the JSON | at most 4 | authzd gRPC | 2.00 / 2.00 / 2.00 | met |\n",
		"| resident memory after it | at most 4 | OPA REST | 3.00 / 3.00 / 3.00 | met |\n",
		"| peak memory | at most 8 | authzd gRPC | 10.00 / 10.00 / 10.00 | **not met** |\n",
		"| longest latency during the activation against steady | at most 3 | authzd gRPC | 1.40 / 1.40 / 1.40 | met |\n",
		"| activation against OPA's | at most 0.4 | authzd gRPC | 2.00 / 2.00 / 2.00 | **not met** |\n",
	} {
		if !strings.Contains(out.String(), row) {
			t.Errorf("want the row\n%sin\n%s", row, out.String())
		}
	}
	if o := (&stretch{}).outcome(nil); o.Requests != 0 || math.IsNaN(o.P99) {
		t.Errorf("of nothing: %+v", o)
	}
}

// TestWalk: the steps are done in turn, under load; what they took and the time
// after it are told apart, and answers of the right revision are no fault.
func TestWalk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var live atomic.Value
		live.Store(baseRevision)
		c := bundleCase{
			read: readText, questions: []question{{allow: true}},
			open: func(_ context.Context, n int) ([]caller, func(), error) {
				return slices.Repeat([]caller{func(context.Context, []byte) (answer, error) {
					text, _ := live.Load().(string)
					return answer{allow: true, text: []byte(text)}, nil
				}}, n), func() {}, nil
			},
			usage:   func() (time.Duration, float64) { return 0, 7 },
			peak:    func() float64 { return 9 },
			prepare: func(context.Context, string) error { return nil },
			steps: []bundleStep{
				{label: stepPush, do: func(ctx context.Context, _ string) error { pause(ctx, 2*time.Second); return nil }},
				{label: stepActivate, fresh: true, do: func(_ context.Context, revision string) error { live.Store(revision); return nil }},
				{label: stepRepublish, base: true, seen: true, do: func(context.Context, string) error { live.Store(baseRevision); return nil }},
			},
		}
		cfg := &bundlesConfig{rate: 99, conns: 3, warm: time.Second, secs: time.Second, after: time.Second, limit: time.Minute}
		var r bundlesReport
		for round := range 2 {
			if err := r.measure(t.Context(), cfg, &c, round); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Tally.err(); err != nil || r.Tally.Requests < 2*6*99 {
			t.Errorf("%v, %+v", err, r.Tally)
		}
		var got []string
		for _, s := range r.Samples[:len(r.Samples)/2] {
			got = append(got, fmt.Sprintf("%s %.0f ms of %d requests", s.Phase, s.Took, (s.Requests+5)/10*10))
		}
		want := []string{
			"steady 0 ms of 100 requests", "push 2000 ms of 300 requests", "activate 0 ms of 100 requests",
			"push and activate 2000 ms of 400 requests", "publish the old one again 10 ms of 100 requests",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		// A server that says it has activated and has not is caught.
		c.steps[1].do = func(context.Context, string) error { return nil }
		if err := r.measure(t.Context(), cfg, &c, 2); err != nil {
			t.Fatal(err)
		}
		if err := r.Tally.err(); err == nil || r.Tally.Stale == 0 {
			t.Errorf("%v, %+v", err, r.Tally)
		}
		// One that never answers by the revision, and one that refuses, fail the round.
		cfg.limit = 5 * time.Second
		c.steps[1].seen = true
		if err := r.measure(t.Context(), cfg, &c, 3); err == nil || !strings.Contains(err.Error(), "activate: no answer by revision r4 within 5s") {
			t.Error(err)
		}
		c.steps[0].do = func(context.Context, string) error { return errors.New("refused") }
		if err := r.measure(t.Context(), cfg, &c, 4); err == nil || !strings.Contains(err.Error(), "push: refused") {
			t.Error(err)
		}
	})
}
