package api_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/api/callers"
	"github.com/authzd/authzd/engine"
)

// serial is of the certificate that a listener shows now.
func serial(t *testing.T, s *secured, addr net.Addr, protos ...string) (number string, version uint16, proto string) {
	t.Helper()
	c := s.config(nil)
	c.NextProtos = protos
	conn, err := (&tls.Dialer{Config: c}).DialContext(t.Context(), "tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	state := conn.(*tls.Conn).ConnectionState() //nolint:forcetypeassert // what tls.Dialer makes
	return state.PeerCertificates[0].SerialNumber.String(), state.Version, state.NegotiatedProtocol
}

func TestTLS(t *testing.T) {
	t.Parallel()
	s := secure(t, nil)
	for _, addr := range []net.Addr{s.server.HTTPAddr(), s.server.GRPCAddr()} {
		if _, version, proto := serial(t, s, addr, "h2"); version != tls.VersionTLS13 || proto != "h2" {
			t.Errorf("%s: version %x, %q", addr, version, proto)
		}
		old := s.config(nil)
		old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		if conn, err := (&tls.Dialer{Config: old}).DialContext(t.Context(), "tcp", addr.String()); err == nil {
			_ = conn.Close()
			t.Errorf("%s: TLS 1.1 is spoken", addr)
		}
	}
	// Without TLS nobody is answered. The doors of start are such clients.
	if got := s.do(t, http.MethodGet, "/healthz", "", nil); got.status != 400 || strings.Contains(string(got.body), "live") {
		t.Errorf("plain HTTP: %d %s", got.status, got.body)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := s.rpc.Check(ctx, request(t, query("read", `{}`, claims(``)))); status.Code(err) != codes.Unavailable {
		t.Errorf("plain gRPC: %v", err)
	}
}

// A new pair is shown without a restart; a faulty one leaves the old, is logged
// and counted.
func TestTLSReload(t *testing.T) {
	t.Parallel()
	s := secure(t, nil)
	key := makeKey(t, s.keysFile, callers.Key{Name: "auditor", Rights: callers.Audit})
	first, _, _ := serial(t, s, s.server.HTTPAddr())
	cert, private := s.ca.issue(t, forServer)
	put(t, s.certFile, cert) // its key is not there yet
	s.server.Reload(t.Context())
	for _, addr := range []net.Addr{s.server.HTTPAddr(), s.server.GRPCAddr()} {
		if got, _, _ := serial(t, s, addr, "h2"); got != first {
			t.Errorf("%s: a half-changed pair is shown", addr)
		}
	}
	metrics := string(s.as(t, nil).do(t, http.MethodGet, "/metrics", "", keyHeader(key)).body)
	if !strings.Contains(metrics, `authzd_reloads_total{files="tls",outcome="failed"}`) || !strings.Contains(metrics, `authzd_callers_refused_total{door="rest",reason="expired"} 0`) {
		t.Errorf("metrics:\n%s", metrics)
	}
	if !strings.Contains(s.logs.String(), "files not loaded") {
		t.Errorf("log %s", s.logs)
	}
	put(t, s.keyFile, private)
	s.server.Reload(t.Context())
	for _, addr := range []net.Addr{s.server.HTTPAddr(), s.server.GRPCAddr()} {
		if got, _, _ := serial(t, s, addr, "h2"); got == first {
			t.Errorf("%s: the old certificate is shown", addr)
		}
	}
}

// What is taken away ends at once, also on connections that are open.
func TestCallersEndAtOnce(t *testing.T) {
	t.Parallel()
	s := secure(t, nil)
	key := makeKey(t, s.keysFile, callers.Key{Name: "gateway", Rights: callers.Check | callers.Assert})
	s.server.Reload(t.Context())
	byKey, byCert := s.as(t, nil), s.as(t, s.clientCA.client(t, named("agent-1")))
	wantBoth(t, byKey, keyHeader(key), "")
	wantBoth(t, byCert, nil, "")

	revoke(t, s.keysFile, "gateway")
	s.server.Reload(t.Context())
	wantBoth(t, byKey, keyHeader(key), "api.unauthenticated")
	wantBoth(t, byCert, nil, "")

	put(t, s.list, []byte("agent-1: {rights: [audit]}\n"))
	s.server.Reload(t.Context())
	wantBoth(t, byCert, nil, "api.right_missing")
	// A faulty list leaves the old one.
	put(t, s.list, []byte("agent-1: {rights: [everything]}\n"))
	s.server.Reload(t.Context())
	wantBoth(t, byCert, nil, "api.right_missing")
	put(t, s.list, []byte(listed))
	s.server.Reload(t.Context())
	wantBoth(t, byCert, nil, "")
	put(t, s.list, []byte("other: {rights: [check]}\n"))
	s.server.Reload(t.Context())
	wantBoth(t, byCert, nil, "api.unauthenticated")
	put(t, s.list, []byte(listed))
	s.server.Reload(t.Context())
	wantBoth(t, byCert, nil, "")

	put(t, s.clientCAFile, newAuthority(t, "client CA").pem)
	s.server.Reload(t.Context())
	wantBoth(t, byCert, nil, "api.unauthenticated")
}

// A file that is gone lets nobody in.
func TestCallersFileGone(t *testing.T) {
	t.Parallel()
	s := secure(t, nil)
	key := makeKey(t, s.keysFile, callers.Key{Name: "gateway", Rights: callers.Check | callers.Assert})
	s.server.Reload(t.Context())
	d := s.as(t, nil)
	wantBoth(t, d, keyHeader(key), "")
	put(t, s.keysFile, []byte("{"))
	s.server.Reload(t.Context())
	wantBoth(t, d, keyHeader(key), "")
	if err := os.Remove(s.keysFile); err != nil {
		t.Fatal(err)
	}
	s.server.Reload(t.Context())
	wantBoth(t, d, keyHeader(key), "api.unauthenticated")
}

// Without a signal, changes are seen soon.
func TestCallersAreWatched(t *testing.T) {
	t.Parallel()
	s := secure(t, nil)
	key := makeKey(t, s.keysFile, callers.Key{Name: "gateway", Rights: callers.Check | callers.Assert})
	d := s.as(t, nil)
	until := func(want int) {
		t.Helper()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			if got := d.do(t, http.MethodGet, "/openapi.json", "", keyHeader(key)); got.status == want {
				return
			}
			select {
			case <-tick.C:
			case <-t.Context().Done():
				t.Fatal("the change was not seen")
			}
		}
	}
	until(200)
	revoke(t, s.keysFile, "gateway")
	until(401)
}

// A certificate ends when it expires, and not when its connection does; so does
// a key.
func TestCallersExpireUnderWay(t *testing.T) {
	t.Parallel()
	clock := make(chan time.Duration, 1)
	clock <- 0
	s := secure(t, func(o *api.Options) {
		o.Access.Now = func() time.Time {
			late := <-clock
			clock <- late
			return time.Now().Add(late)
		}
	})
	key := makeKey(t, s.keysFile, callers.Key{
		Name: "gateway", Rights: callers.Check | callers.Assert, Created: time.Now().Add(-time.Hour), Expires: time.Now().Add(time.Minute),
	})
	s.server.Reload(t.Context())
	byKey, byCert := s.as(t, nil), s.as(t, s.clientCA.client(t, func(c *x509.Certificate) {
		c.Subject.CommonName, c.NotAfter = "agent-1", time.Now().Add(time.Minute)
	}))
	wantBoth(t, byKey, keyHeader(key), "")
	wantBoth(t, byCert, nil, "")
	<-clock
	clock <- 2 * time.Minute
	wantBoth(t, byKey, keyHeader(key), "api.unauthenticated")
	wantBoth(t, byCert, nil, "api.unauthenticated")
}

// A header that is too large ends the call, at little cost.
func TestCallersHugeHeader(t *testing.T) {
	t.Parallel()
	s := secure(t, nil)
	d := s.as(t, nil)
	// HTTP/2 clients hold such a header back by themselves.
	transport := &http.Transport{TLSClientConfig: s.config(nil)}
	t.Cleanup(transport.CloseIdleConnections)
	d.http = &http.Client{Transport: transport, Timeout: 20 * time.Second}
	for _, size := range []int{10 << 10, 200 << 10} {
		header := keyHeader("authzd_" + strings.Repeat("a", size))
		if got := d.do(t, http.MethodPost, "/v1/check", query("read", `{}`, claims(``)), header); got.status != 401 && got.status != 431 {
			t.Errorf("REST, %d bytes: %d", size, got.status)
		}
		_, err := d.rpc.Check(withHeaders(t.Context(), header), request(t, query("read", `{}`, claims(``))))
		if code := status.Code(err); code != codes.Unauthenticated && code != codes.Internal && code != codes.Unavailable {
			t.Errorf("gRPC, %d bytes: %v", size, err)
		}
	}
}

func TestAccessRefusesFiles(t *testing.T) {
	t.Parallel()
	s := secure(t, nil)
	at := func(name, text string) string {
		file := filepath.Join(t.TempDir(), name)
		put(t, file, []byte(text))
		return file
	}
	_, otherKey := s.ca.issue(t, forServer)
	expired, expiredKey := s.ca.issue(t, func(c *x509.Certificate) { forServer(c); c.NotAfter = time.Now().Add(-time.Minute) })
	leaf, _ := s.clientCA.issue(t, named("agent-1"))
	open := at("open.yaml", listed)
	if err := os.Chmod(open, 0o666); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*api.Access)
		want   string
	}{
		"key of another certificate": {func(a *api.Access) { a.KeyFile = at("k", string(otherKey)) }, "private key does not match"},
		"expired":                    {func(a *api.Access) { a.CertFile, a.KeyFile = at("c", string(expired)), at("k", string(expiredKey)) }, "expired at"},
		"no certificate":             {func(a *api.Access) { a.CertFile = at("c", "x") }, "TLS certificate"},
		"absent certificate":         {func(a *api.Access) { a.CertFile = "/absent.crt" }, "/absent.crt"},
		"certificate without key":    {func(a *api.Access) { a.KeyFile = "" }, "belong together"},
		"client CA without TLS":      {func(a *api.Access) { a.CertFile, a.KeyFile = "", "" }, "need TLS"},
		"client CA without callers":  {func(a *api.Access) { a.CallersFile = "" }, "belong together"},
		"callers without client CA":  {func(a *api.Access) { a.ClientCAFile = "" }, "belong together"},
		"client CA is a leaf":        {func(a *api.Access) { a.ClientCAFile = at("ca", string(leaf)) }, "is not an authority's"},
		"client CA is a key":         {func(a *api.Access) { a.ClientCAFile = at("ca", string(otherKey)) }, "holds a PRIVATE KEY"},
		"client CA is empty":         {func(a *api.Access) { a.ClientCAFile = at("ca", "") }, "holds no certificate"},
		"absent keys":                {func(a *api.Access) { a.KeysFile = "/absent.json" }, "/absent.json"},
		"absent callers":             {func(a *api.Access) { a.CallersFile = "/absent.yaml" }, "/absent.yaml"},
		"callers that all may write": {func(a *api.Access) { a.CallersFile = open }, "everybody may write"},
		"unknown right":              {func(a *api.Access) { a.CallersFile = at("l", "a: {rights: [chek]}") }, `"chek" is not one of check`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := api.Access{CertFile: s.certFile, KeyFile: s.keyFile, ClientCAFile: s.clientCAFile, CallersFile: s.list, KeysFile: s.keysFile}
			c.change(&a)
			_, err := api.New(api.Options{Engine: engine.New(engine.Options{}), Access: a})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// Off loopback needs both TLS and callers; the refusal says what to add. Nothing
// is opened here but loopback.
func TestOffLoopback(t *testing.T) {
	t.Parallel()
	s := secure(t, nil)
	for name, c := range map[string]struct {
		access api.Access
		may    bool
	}{
		"nothing":      {api.Access{}, false},
		"keys alone":   {api.Access{KeysFile: s.keysFile}, false},
		"TLS alone":    {api.Access{CertFile: s.certFile, KeyFile: s.keyFile}, false},
		"TLS and keys": {api.Access{CertFile: s.certFile, KeyFile: s.keyFile, KeysFile: s.keysFile}, true},
		"TLS and certificates": {api.Access{
			CertFile: s.certFile, KeyFile: s.keyFile, ClientCAFile: s.clientCAFile, CallersFile: s.list,
		}, true},
	} {
		// An address of nobody: it can not be listened on, but only who may
		// leave loopback gets to try.
		srv, err := api.New(api.Options{Engine: engine.New(engine.Options{}), HTTPAddr: "192.0.2.1:0", GRPCAddr: "127.0.0.1:0", Access: c.access})
		if err != nil {
			t.Fatal(err)
		}
		err = srv.Listen(t.Context())
		var refused *api.Error
		switch isRefused := errors.As(err, &refused) && refused.Code == api.CodeNotLoopback; {
		case err == nil:
			t.Errorf("%s: listens", name)
		case isRefused == c.may:
			t.Errorf("%s: %v", name, err)
		case isRefused && (!strings.Contains(err.Error(), "--tls-cert") || !strings.Contains(err.Error(), "--keys-file")):
			t.Errorf("%s: the refusal does not say what to add: %v", name, err)
		}
	}
	srv, err := api.New(api.Options{
		Engine: engine.New(engine.Options{}), HTTPAddr: ":0",
		Access: api.Access{CertFile: s.certFile, KeyFile: s.keyFile, KeysFile: s.keysFile},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Listen(t.Context()); err == nil {
		t.Error("an empty host is listened on")
	}
}

func TestHostsOfASecuredServer(t *testing.T) {
	t.Parallel()
	s := secure(t, func(o *api.Options) { o.AllowedHosts = []string{"authzd.internal"} })
	d := s.as(t, nil)
	for host, want := range map[string]int{
		"authzd.internal": 200, "AUTHZD.internal:8181": 200, "127.0.0.1": 200, "localhost": 200,
		"evil.example": 403, "authzd.internal.evil.example": 403, "192.0.2.1": 403, "[2001:db8::1]:1": 403,
	} {
		if got := d.do(t, http.MethodGet, "/healthz", "", map[string]string{"Host": host}); got.status != want {
			t.Errorf("%s: %d, want %d", host, got.status, want)
		}
	}
	// What is open tells no more than up or down.
	if got := d.do(t, http.MethodGet, "/readyz", "", nil); got.status != 200 || string(got.body) != "{\"status\":\"ready\"}\n" {
		t.Errorf("readyz: %d %s", got.status, got.body)
	}
	// A configured audience stands in for the server that a query does not name.
	gateway := s.as(t, s.clientCA.client(t, named("", "spiffe://example.org/ns/gateway")))
	q := strings.Replace(query("read", `{}`, claims(`, "scope": "read"`)), `"server": "https://mcp.example.com", `, ``, 1)
	q = strings.Replace(q, `{"mcp":`, `{"action": {"name": "tools/call"}, "resource": {"type": "tool", "id": "read"}, "mcp":`, 1)
	if got := gateway.post(t, "/v1/check", q); got.json(t)["decision"] != "ALLOW" {
		t.Errorf("with an audience: %s", got.body)
	}
	if got := gateway.post(t, "/v1/check:batch", batchOf(t, q)); !strings.Contains(string(got.body), "ALLOW") {
		t.Errorf("with an audience, through the gateway: %s", got.body)
	}
	if got := s.as(t, s.clientCA.client(t, named("agent-1"))).post(t, "/v1/check", q); got.json(t)["decision"] != "DENY" {
		t.Errorf("without an audience: %s", got.body)
	}
}

// Who is refused takes no place of those who are not: with one worker and a
// queue of one, no refusal is answered as overload.
func TestRefusalsTakeNoPlace(t *testing.T) {
	t.Parallel()
	s := secure(t, func(o *api.Options) { o.Workers, o.Queue = 1, 1 })
	good := makeKey(t, s.keysFile, callers.Key{Name: "gateway", Rights: callers.Check | callers.Assert})
	s.server.Reload(t.Context())
	d := s.as(t, nil)
	q := query("read", `{}`, claims(`, "scope": "read"`))
	m, bad := request(t, q), keyHeader(tamper(good))
	var calls sync.WaitGroup
	for range 32 {
		calls.Go(func() {
			for range 10 {
				if _, err := d.rpc.Check(withHeaders(t.Context(), bad), m); status.Code(err) != codes.Unauthenticated {
					t.Errorf("refused as %v", err)
				}
			}
		})
	}
	for range 50 {
		if _, err := d.rpc.Check(withHeaders(t.Context(), keyHeader(good)), m); err != nil {
			t.Errorf("a known caller: %v", err)
		}
	}
	calls.Wait()
}
