package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/authzd/authzd/tests/bench/workload"
	"github.com/authzd/authzd/tests/tokens"
)

// What authzd proxy adds to a tool call: the same call, over streamable HTTP, to
// a server of the official Go SDK without sessions that answers in JSON, once
// directly and once through each proxy. A relay that looks at nothing (net/http's
// ReverseProxy) shows what any proxy adds here.

// helperArg makes of this program the MCP server, or the relay.
const helperArg = "-helper"

// Labels of the cases; what the others add is against the first.
const (
	labelDirect = "no proxy"
	labelRelay  = "a relay that looks at nothing"
	labelAll    = "authzd proxy, allow-all policy, `--subject`"
	labelPay    = "authzd proxy, payments example, ES256 token"
)

const (
	payResource = "https://mcp.example.com"
	payCall     = `{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{"name":"payments.initiate",` +
		`"arguments":{"amount":"123.50","currency":"EUR","creditorAccount":"DE89370400440532013000"}}}`
	payDetails = `[{"type":"payment_initiation","actions":["initiate"],"locations":["https://mcp.example.com"],` +
		`"instructedAmount":{"currency":"EUR","amount":"123.50"},"creditorAccount":{"iban":"DE89370400440532013000"}}]`
	paid = "paid 123.50"
)

// serveHelper is the MCP server without arguments, and with a URL a relay to it.
func serveHelper(args []string, out io.Writer) error {
	h := mcpServer()
	if len(args) > 0 {
		to, err := url.Parse(args[0])
		if err != nil {
			return fmt.Errorf("relay: %w", err)
		}
		h = &httputil.ReverseProxy{
			Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(to) },
			Transport:     &http.Transport{MaxIdleConnsPerHost: 1024, DisableCompression: true},
			FlushInterval: -1,
		}
	}
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if _, err := fmt.Fprintf(out, "{\"event\":\"ready\",\"listen\":%q}\n", l.Addr()); err != nil {
		return fmt.Errorf("write the ready line: %w", err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	return fmt.Errorf("serve: %w", server.Serve(l))
}

type payment struct {
	Amount   string `json:"amount"`
	Currency string `json:"currency"`
	Creditor string `json:"creditorAccount"`
}

func mcpServer() http.Handler {
	s := mcp.NewServer(&mcp.Implementation{Name: "payments", Version: "1"}, nil)
	for _, name := range []string{"payments.initiate", "payments.status", "payments.cancel", "payments.list"} {
		mcp.AddTool(s, &mcp.Tool{Name: name, Description: "A tool of the benchmark."}, func(_ context.Context, _ *mcp.CallToolRequest, in payment) (*mcp.CallToolResult, any, error) {
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "paid " + in.Amount}}}, nil, nil
		})
	}
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, &mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true})
}

// proxies are the processes under test.
type proxies struct {
	direct, relay, all, pay *server
	token                   string
}

func startProxies(ctx context.Context, cfg config, cpus cpuPlan, dir string) (*proxies, error) {
	p := &proxies{}
	self, err := os.Executable()
	if err != nil {
		return p, fmt.Errorf("find this program: %w", err)
	}
	if p.direct, err = startReady(ctx, cpus, "", self, helperArg); err != nil {
		return p, err
	}
	upstream := "http://" + p.direct.http + "/"
	if p.relay, err = startReady(ctx, cpus, "", self, helperArg, upstream); err != nil {
		return p, err
	}
	bundle := filepath.Join(dir, "all")
	issuers, err := p.write(dir, bundle)
	if err != nil {
		return p, err
	}
	authzd := func(args ...string) (*server, error) {
		return startReady(ctx, cpus, cfg.authzdGOGC, append([]string{
			filepath.Join(cfg.bin, "authzd"), "proxy", "--listen", "127.0.0.1:0", "--upstream", upstream,
		}, args...)...)
	}
	if p.all, err = authzd("--bundle", "bench="+bundle, "--subject", "alice"); err != nil {
		return p, err
	}
	p.pay, err = authzd("--bundle", "payments=policies/examples/payments", "--issuers", issuers, "--resource", payResource)
	return p, err
}

// write writes a bundle that allows all, and an issuer whose token it keeps.
func (p *proxies) write(dir, bundle string) (issuers string, err error) {
	if err := os.Mkdir(bundle, 0o700); err != nil {
		return "", fmt.Errorf("write a bundle: %w", err)
	}
	for name, text := range map[string]string{
		"policy.rego": "package authz\n\npermit[\"all\"] := {}\n",
		".manifest":   `{"revision": "bench-1", "metadata": {"authzd": {"contract": 1}}}`,
	} {
		if err := os.WriteFile(filepath.Join(bundle, name), []byte(text), 0o600); err != nil {
			return "", fmt.Errorf("write a bundle: %w", err)
		}
	}
	issuer, err := tokens.New("https://as.example.com")
	if err != nil {
		return "", err
	}
	p.token, err = issuer.Token(map[string]any{
		"sub": "alice@example.com", "aud": payResource, "scope": "payments", "authorization_details": json.RawMessage(payDetails),
	})
	if err != nil {
		return "", err
	}
	return issuer.Write(dir)
}

func (p *proxies) stop() {
	for _, s := range []*server{p.pay, p.all, p.relay, p.direct} {
		if s != nil {
			s.stop()
		}
	}
}

func (p *proxies) cases() []benchCase {
	var out []benchCase
	for _, c := range []struct {
		label string
		s     *server
	}{{labelDirect, p.direct}, {labelRelay, p.relay}, {labelAll, p.all}, {labelPay, p.pay}} {
		out = append(out, benchCase{
			label: c.label, usage: c.s.usage, bodies: [][]byte{[]byte(payCall)},
			open: httpOpener(c.s.http, "/", func(text []byte) bool { return bytes.Contains(text, []byte(paid)) },
				"Accept: application/json, text/event-stream\r\n", "Mcp-Protocol-Version: 2025-11-25\r\n", "Authorization: Bearer "+p.token+"\r\n"),
		})
	}
	return out
}

func runProxy(ctx context.Context, cfg config, cpus cpuPlan, out, progress io.Writer) error {
	dir, err := os.MkdirTemp("", "authzd-bench-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder, nothing to lose
	p, err := startProxies(ctx, cfg, cpus, dir)
	defer p.stop()
	if err != nil {
		return err
	}
	w := &workload.Workload{Requests: []workload.Request{{Query: []byte(payCall), Allow: true}}}
	cases := p.cases()
	for i := range cases {
		if err := agree(ctx, &cases[i], w); err != nil {
			return err
		}
	}
	r := report{Environment: environment{
		Machine: fmt.Sprintf("%s, %s/%s", cpuModel(), runtime.GOOS, runtime.GOARCH), Pinning: cpus.String(), Go: runtime.Version(),
		Authzd: versionOf(ctx, filepath.Join(cfg.bin, "authzd")), Rounds: fmt.Sprintf("%d of %s each, after %s of load", cfg.rounds, cfg.secs, cfg.warm),
	}}
	for round := range cfg.rounds {
		for _, c := range cfg.inFlight {
			for i := range cases {
				m, err := measure(ctx, &cases[i], w, c, cfg)
				if err != nil {
					return fmt.Errorf("%s, %d in flight: %w", cases[i].label, c, err)
				}
				m.Round = round
				r.Samples = append(r.Samples, m)
			}
		}
		_, _ = fmt.Fprintf(progress, "round %d of %d\n", round+1, cfg.rounds)
	}
	if err := r.writeProxyTable(out); err != nil {
		return err
	}
	if cfg.jsonFile != "" {
		if err := r.writeJSON(cfg.jsonFile); err != nil {
			return err
		}
	}
	return r.judgeProxy(cfg)
}

func (r *report) writeProxyTable(out io.Writer) error {
	e := r.Environment
	var b strings.Builder
	fmt.Fprintf(&b, "\n- machine: %s; %s\n- versions: %s; authzd: %s\n- rounds: %s; cells are min / median / max over rounds\n\n",
		e.Machine, e.Pinning, e.Go, e.Authzd, e.Rounds)
	b.WriteString("| case | in flight | p50 µs | it adds | p99 µs | it adds | req/s | its own CPU µs/req | RSS MB |\n|---|---|---|---|---|---|---|---|---|\n")
	keys, by := r.rows()
	for _, k := range keys {
		v, ref := by[k], by[key{labelDirect, k.inFlight}]
		p50, p99 := func(s *sample) float64 { return s.P50 }, func(s *sample) float64 { return s.P99 }
		fmt.Fprintf(&b, "| %s | %d | %s | %s | %s | %s | %s | %s | %.0f |\n", k.label, k.inFlight,
			spread("%.0f", column(v, p50)), spread("%.0f", added(v, ref, p50)), spread("%.0f", column(v, p99)), spread("%.0f", added(v, ref, p99)),
			spread("%.0f", column(v, func(s *sample) float64 { return s.RPS })),
			spread("%.0f", column(v, func(s *sample) float64 { return s.ServerCPU })),
			median(column(v, func(s *sample) float64 { return s.ServerRSS })))
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// added are differences within one round, so that a slow spell of the machine
// falls on both.
func added(v, ref []sample, field func(*sample) float64) []float64 {
	out := make([]float64, 0, len(v))
	for i := range v {
		out = append(out, field(&v[i])-field(&ref[i]))
	}
	return out
}

// judgeProxy compares with the goal what is added at the least in flight.
func (r *report) judgeProxy(cfg config) error {
	if cfg.want <= 0 {
		return nil
	}
	least := slices.Min(cfg.inFlight)
	_, by := r.rows()
	var faults []error
	for _, label := range []string{labelAll, labelPay} {
		got := median(added(by[key{label, least}], by[key{labelDirect, least}], func(s *sample) float64 { return s.P50 })) / 1e3
		if got > cfg.want {
			faults = append(faults, fmt.Errorf("%s adds %.3f ms at %d in flight, want %.3f at most", label, got, least, cfg.want))
		}
	}
	return errors.Join(faults...)
}
