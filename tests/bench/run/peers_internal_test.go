package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/reflection"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/tests/bench/workload"
)

func TestPeersFlags(t *testing.T) {
	t.Parallel()
	cfg, err := parsePeersFlags([]string{"-peers", "-without", "cerbos,openfga", "-secs", "500ms"})
	if err != nil || cfg.rounds != 5 || cfg.secs != 500*time.Millisecond || len(cfg.without) != 2 || cfg.opaGOGC != "400" {
		t.Errorf("%+v, %v", cfg, err)
	}
	for _, bad := range [][]string{
		{"-rounds=0"}, {"-rounds=101"}, {"-secs=0s"}, {"-secs=-1s"}, {"-secs=2m"}, {"-warm=-1s"}, {"-warm=2m"}, {"-without=opa"}, {"-without=cerbos,"}, {"-c=16"}, {"more"},
	} {
		if _, err := parsePeersFlags(bad); err == nil {
			t.Errorf("%v: accepted", bad)
		}
	}
	for _, arg := range []string{"-peers", "--peers", "-peers=true", "--peers=true"} {
		if !asksFor(peersFlag)(arg) || asksFor(bundlesFlag)(arg) {
			t.Errorf("%s is not understood", arg)
		}
	}
	if asksFor(peersFlag)("-peersx") || asksFor(peersFlag)("peers") || asksFor(peersFlag)("-peers=false") {
		t.Error("another argument asks for peers")
	}
}

func TestPeerGoals(t *testing.T) {
	t.Parallel()
	r := peersReport{Evaluated: []string{"x: compiled; 100.0 % compiled"}}
	for round, rps := range []float64{100, 200, 400} {
		r.Samples = append(r.Samples,
			sample{Case: peerOPAPlain, Round: round, InFlight: 16, RPS: rps, P99: 1000, ServerCPU: 400},
			sample{Case: peerGRPCPlain, Round: round, InFlight: 16, RPS: rps * (5 + float64(round)/10), P99: 200 + 100*float64(round), ServerCPU: 100},
			sample{Case: peerRESTPlain, Round: round, InFlight: 16, RPS: rps * 6},
			sample{Case: peerEcho, Round: round, InFlight: 16, RPS: rps * 25},
			sample{Case: peerOpenFGAGRPC, Round: round, InFlight: 16, RPS: rps / 2})
	}
	var out strings.Builder
	if err := r.write(&out); err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{
		"- evaluated: x: compiled; 100.0 % compiled\n",
		"| gRPC against OPA's REST, the same plain policy | 16 | ≥ 5 | ≥ 8 | 5.00 / 5.10 / 5.20 | met | 4.00 |\n",
		"| gRPC against OPA's REST, the same plain policy | 64 | ≥ 5 | ≥ 8 |  | left out |  |\n",
		"| REST against OPA's REST, the same plain policy | 16 | ≥ 4 | ≥ 6 | 6.00 / 6.00 / 6.00 | stretch met | 0.00 |\n",
		"| p99, gRPC against OPA's REST, the same plain policy | 16 | ≤ 0.35 | ≤ 0.2 | 0.20 / 0.30 / 0.40 | met |  |\n",
		"| gRPC against gRPC alone | 16 | ≥ 0.3 | ≥ 0.5 | 0.20 / 0.20 / 0.21 | **not met** | 0.00 |\n",
		"| gRPC against OpenFGA's gRPC | 16 |  |  | 10.00 / 10.20 / 10.40 | no goal | 0.00 |\n",
		"| gRPC against Cerbos's gRPC | 16 | ≥ 5 | ≥ 8 |  | left out |  |\n",
	} {
		if !strings.Contains(out.String(), row) {
			t.Errorf("want the row\n%sin\n%s", row, out.String())
		}
	}
	file := filepath.Join(t.TempDir(), "out.json")
	if err := r.writeJSON(file); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), `"case": "OpenFGA gRPC"`) {
		t.Errorf("%s, %v", text, err)
	}
}

// TestPeerGoalsAreMeasured: each goal names cases that are measured, under a load
// that they are measured under.
func TestPeerGoalsAreMeasured(t *testing.T) {
	t.Parallel()
	at16and64 := map[string]bool{peerOPAPlain: true, peerOPAPlainGOGC: true, peerGRPCPlain: true}
	for _, g := range peerGoals() {
		for _, k := range []key{g.of, g.than} {
			if k.inFlight != 16 && (k.inFlight != 64 || !at16and64[k.label]) {
				t.Errorf("%s: %+v is not measured", g.text, k)
			}
		}
		if g.must > 0 && (g.stretch < g.must) != g.tail {
			t.Errorf("%s: stretch %v, must %v", g.text, g.stretch, g.must)
		}
	}
}

func TestReadEvaluator(t *testing.T) {
	t.Parallel()
	state, counts, err := readEvaluator(strings.NewReader(`# HELP authzd_policy_evaluator x
authzd_policy_evaluator{state="compiled"} 1
authzd_evaluations_total{by="compiled",reason=""} 30
authzd_evaluations_total{by="handed_over",reason="ambiguous_key"} 10
authzd_evaluations_total{by="interpreted",reason=""} 0
authzd_decisions_total{decision="allow"} 7
`))
	if want := "75.0 % compiled, 25.0 % handed over (ambiguous_key)"; err != nil || state != "compiled" || counts != want {
		t.Errorf("%q, %q, %v", state, counts, err)
	}
	if _, _, err := readEvaluator(strings.NewReader(`authzd_evaluations_total{by="compiled",reason=""} many`)); err == nil {
		t.Error("a count that is no number was read")
	}
	if state, counts, err := readEvaluator(strings.NewReader("")); state != "" || counts != "" || err != nil {
		t.Errorf("nothing: %q, %q, %v", state, counts, err)
	}
}

// cerbosAnswer is a CheckResourcesResponse with one effect.
func cerbosAnswer(effect uint64) []byte {
	field := func(number protowire.Number, v []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), v)
	}
	action := field(1, []byte("tool"))
	if effect > 0 {
		action = protowire.AppendVarint(protowire.AppendTag(action, 2, protowire.VarintType), effect)
	}
	result := append(field(1, field(1, []byte("id"))), field(2, action)...)
	return append(append(field(1, []byte("request")), field(2, result)...), field(3, []byte("call"))...)
}

func TestPeerAnswers(t *testing.T) {
	t.Parallel()
	for effect, want := range map[uint64]bool{0: false, 1: true, 2: false, 3: false, 1 << 40: false} {
		if allow, err := cerbosAllows(cerbosAnswer(effect)); err != nil || allow != want {
			t.Errorf("effect %d: allow %v, %v", effect, allow, err)
		}
	}
	allowed := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1)
	for name, c := range map[string]struct {
		text []byte
		want bool
	}{"allowed": {allowed, true}, "not said": {nil, false}, "another field": {[]byte{0x10, 1}, false}} {
		if allow, err := openFGAAllows(c.text); err != nil || allow != c.want {
			t.Errorf("%s: allow %v, %v", name, allow, err)
		}
	}
	for _, bad := range [][]byte{{0xff}, {0x0a, 5}, nil, {0x12, 0}} {
		if allow, err := cerbosAllows(bad); allow || err == nil {
			t.Errorf("Cerbos %x: allow %v, %v; want an error", bad, allow, err)
		}
	}
	if allow, err := openFGAAllows([]byte{0x08}); allow || err == nil {
		t.Errorf("OpenFGA, cut: allow %v, %v; want an error", allow, err)
	}
	for text, want := range map[string]bool{`{"result":true}`: true, `{"result":true,"x":1}`: true, `{"result":false}`: false, `{}`: false, `{"decision_id":"result\":true"}`: false} {
		if plainAllows([]byte(text)) != want {
			t.Errorf("%s: want %v", text, want)
		}
	}
}

// serveEchoing serves the fixed answer with reflection and returns its address.
func serveEchoing(t *testing.T) string {
	t.Helper()
	s := newEcho()
	reflection.Register(s)
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l) //nolint:errcheck // it ends with the test
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

func TestReflection(t *testing.T) {
	t.Parallel()
	const method = authzdv1.DecisionService_Check_FullMethodName
	addr := serveEchoing(t)
	api, err := reflectService(t.Context(), addr, method)
	if err != nil {
		t.Fatal(err)
	}
	defer api.close()
	b, err := api.encode(method, []byte(`{"mcp": {"method": "tools/call", "server": "https://s"}, "context": "e30="}`))
	if err != nil {
		t.Fatal(err)
	}
	var got authzdv1.CheckRequest
	if err := proto.Unmarshal(b, &got); err != nil || got.GetMcp().GetServer() != "https://s" || string(got.GetContext()) != "{}" {
		t.Errorf("%v, %v", &got, err)
	}
	var answer struct{ Decision, Rule string }
	if err := api.call(t.Context(), method, map[string]any{}, &answer); err != nil || answer.Decision != "DECISION_ALLOW" || answer.Rule != "allow" {
		t.Errorf("%+v, %v", answer, err)
	}
	if _, err := api.encode(method, []byte(`{"unknown": 1}`)); err == nil {
		t.Error("a member that the message does not have was encoded")
	}
	for _, bad := range []string{"", "/authzd.v1.DecisionService", "/authzd.v1.DecisionService/None", "/authzd.v1.None/Check", "/authzd.v1.CheckRequest/x"} {
		if _, err := api.encode(bad, []byte("{}")); err == nil {
			t.Errorf("%q: a request was encoded", bad)
		}
	}
	if _, err := reflectService(t.Context(), addr, "/none.v1.None/None"); err == nil {
		t.Error("a service that is not there was found")
	}
}

// TestFixedAnswers: the case's own answers count, and a wrong one fails the run.
func TestFixedAnswers(t *testing.T) {
	t.Parallel()
	w, err := workload.New()
	if err != nil {
		t.Fatal(err)
	}
	r, err := encodeRequests(w)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{len(w.Requests), len(w.Requests), len(w.Requests)}, []int{len(r.grpc), len(r.opa), len(r.opaInput)}); diff != "" {
		t.Error(diff)
	}
	c := benchCase{
		label: "x", bodies: r.grpc[:50], open: grpcOpener(serveEchoing(t)),
		usage: func() (time.Duration, float64) { return 0, 0 },
	}
	if err := agree(t.Context(), &c, w); err == nil {
		t.Error("the workload's answers agree with a server that allows all")
	}
	c.want = make([]bool, len(c.bodies))
	for i := range c.want {
		c.want[i] = true
	}
	if err := agree(t.Context(), &c, w); err != nil {
		t.Error(err)
	}
	c.want[7] = false
	if _, err := measure(t.Context(), &c, w, 2, config{secs: 100 * time.Millisecond}); err == nil {
		t.Error("a wrong answer under load is no error")
	}
}

func TestMissingPeer(t *testing.T) {
	t.Parallel()
	w, err := workload.New()
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func(*peers) error{
		"cerbos":  func(p *peers) error { return p.startCerbos(t.Context()) },
		"openfga": func(p *peers) error { return p.startOpenFGA(t.Context()) },
	} {
		p := &peers{cfg: &peersConfig{config: config{bin: t.TempDir()}}, w: w, dir: t.TempDir()}
		if err := f(p); err == nil || !strings.Contains(err.Error(), "-without") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if v := moduleVersion(filepath.Join(t.TempDir(), "none")); v != "unknown" {
		t.Errorf("version %q of nothing", v)
	}
}
