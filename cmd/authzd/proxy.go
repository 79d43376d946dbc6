package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/mcp/pep"
)

// proxyConfig is everything that authzd proxy can be told.
type proxyConfig struct {
	enforceConfig
	Upstream       string
	Listen         string
	UpstreamAuth   string
	UpstreamHeader string
	AllowedOrigins []string
	Issuing        []string
	MaxSessions    int
	SessionTTL     time.Duration

	upstream *url.URL
}

const (
	allowedOriginFlag = "allowed-origin"
	issuingFlag       = "authorization-server"
	upstreamHeaderEnv = "upstream-header-env"

	proxyGCPercent = 200
)

func newProxy(std stdio, getenv func(string) string) *cobra.Command {
	var c proxyConfig
	cmd := &cobra.Command{
		Use:   "proxy --upstream URL [flags]",
		Short: "Enforce decisions in front of an MCP server that speaks streamable HTTP",
		Long: "Stands in front of an MCP server that speaks streamable HTTP: every request is decided before the server\n" +
			"sees it, lists are shortened to what the client could use, and what is allowed goes on byte for byte.\n" +
			"Standard output gets one line of JSON once the proxy listens; standard error the log, one line of JSON each.\n\n" +
			"A client acts on the access token that it sends, which needs --issuers, or --pdp with issuers there. The\n" +
			"token ends here: the server gets no credential, or the one of --upstream-auth. With --subject there are no\n" +
			"tokens, and every client acts for this person: for personal use, on loopback only.\n\n" +
			"At the well-known place stands the server's protected resource metadata (RFC 9728) with what the live policy\n" +
			"can ask for; /healthz and /readyz tell of the proxy. SIGTERM lets calls under way end, SIGHUP loads bundles,\n" +
			"keys and issuers again. The garbage collector runs at GOGC=200 unless GOGC is set; GOMEMLIMIT is honoured.\n\n" +
			"Every flag is also an environment variable (--upstream is AUTHZD_UPSTREAM) and a key of the --config file.",
		Example: `  authzd proxy --upstream http://127.0.0.1:3001/mcp --bundle main=policy --issuers issuers.yaml --resource https://mcp.example.com/mcp
  authzd proxy --upstream http://127.0.0.1:3001/mcp --bundle main=policy --subject "$USER"`,
		Args: cobra.NoArgs,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := c.fill(cmd.Flags(), getenv); err != nil {
			return err
		}
		if err := c.validate(getenv); err != nil {
			return err
		}
		// As for serve, but sessions and streams are kept, so less.
		if getenv("GOGC") == "" {
			debug.SetGCPercent(proxyGCPercent)
		}
		return c.serve(cmd.Context(), std)
	}
	f := cmd.Flags()
	c.define(f, "info")
	f.StringVar(&c.Upstream, "upstream", "", "URL of the server's MCP endpoint; the proxy serves at the same path")
	f.StringVar(&c.Listen, "listen", "127.0.0.1:8183", "address to listen on; port 0 takes a free one; off loopback only with --tls-cert and without --subject")
	f.StringVar(&c.UpstreamAuth, "upstream-auth", "none", "credential for the server: none, header (the variable of --"+upstreamHeaderEnv+"), or passthrough: the client's own token, which MCP forbids to a server that it was not issued for")
	f.StringVar(&c.UpstreamHeader, upstreamHeaderEnv, "", `environment variable with one header for the server, as "Name: value"`)
	f.BoolVar(&c.Signing.UnsignedOffLoopback, unsignedFlag, false, "take unsigned bundles though --listen is off loopback: whoever can write to their files decides for all clients")
	f.BoolVar(&c.Watch, "watch", false, "load bundles and their keys again when their files change; what can not be loaded leaves the old policy live")
	f.StringVar(&c.TLSCert, "tls-cert", "", "PEM file with the certificate chain of the address")
	f.StringVar(&c.TLSKey, "tls-key", "", "PEM file with its private key")
	f.StringArrayVar(&c.AllowedHosts, allowedHostFlag, nil, "NAME that requests may give as Host, beside loopback and that of --resource; may be repeated")
	f.StringArrayVar(&c.AllowedOrigins, allowedOriginFlag, nil, "ORIGIN of web pages that may call, such as https://app.example.com; may be repeated")
	f.StringArrayVar(&c.Issuing, issuingFlag, nil, "URL of an authorization server, for the resource metadata; default those of --issuers; may be repeated")
	f.IntVar(&c.MaxSessions, "max-sessions", pep.DefaultMaxSessions, "sessions that are remembered; the least used is forgotten first, and its client starts anew")
	f.DurationVar(&c.SessionTTL, "session-ttl", pep.DefaultSessionTTL, "how long an unused session is remembered")
	f.DurationVar(&c.ShutdownGrace, "shutdown-grace", 10*time.Second, "time that calls under way get to finish on SIGTERM")
	return cmd
}

func (c *proxyConfig) validate(getenv func(string) string) error {
	faults := []error{c.enforceConfig.validate(c.Listen)}
	bad := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if err := validAddress(c.Listen); err != nil {
		bad("listen: %w", err)
	}
	var err error
	if c.upstream, err = url.Parse(c.Upstream); c.Upstream == "" || err != nil {
		bad("upstream: give the URL of the server's MCP endpoint")
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		bad("tls-cert and tls-key belong together: give both")
	}
	if !isLoopback(c.Listen) {
		if c.TLSCert == "" {
			bad("listen: %s is not loopback: give --tls-cert and --tls-key", c.Listen)
		}
		if c.Subject != "" {
			bad("subject: whoever reaches %s would act as %q; it is for loopback only", c.Listen, c.Subject)
		}
	}
	if c.Subject == "" && c.Issuers == "" && c.PDP == "" {
		bad("nobody could verify access tokens: give --issuers, --pdp, or --subject for personal use")
	}
	switch pep.UpstreamAuth(c.UpstreamAuth) {
	case pep.AuthNone, pep.AuthPassthrough:
		if c.UpstreamHeader != "" {
			bad("%s: needs --upstream-auth header", upstreamHeaderEnv)
		}
	case pep.AuthHeader:
		if _, err := header(getenv(c.UpstreamHeader)); err != nil {
			bad("%s: %w", upstreamHeaderEnv, err)
		}
	default:
		bad("upstream-auth: %q is not one of none, header, passthrough", c.UpstreamAuth)
	}
	faults = append(faults, validTimes(flagTime{"shutdown-grace", c.ShutdownGrace}, flagTime{"session-ttl", c.SessionTTL})...)
	if c.MaxSessions < 1 {
		bad("max-sessions: %d is below 1", c.MaxSessions)
	}
	return errors.Join(faults...)
}

// header reads "Name: value".
func header(s string) ([2]string, error) {
	name, value, ok := strings.Cut(s, ":")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	if !ok || name == "" || value == "" || strings.ContainsAny(s, "\r\n") {
		return [2]string{}, errors.New(`name a variable that holds "Name: value"`)
	}
	return [2]string{name, value}, nil
}

// serve runs the proxy until ctx is done.
func (c *proxyConfig) serve(ctx context.Context, std stdio) error {
	log, lines := c.logger(std)
	defer lines.start(ctx)()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer listener.Close() //nolint:errcheck // closed by the server already
	if c.Resource == "" {
		c.Resource = "http://" + listener.Addr().String() + c.upstream.EscapedPath()
		if c.TLSCert != "" {
			c.Resource = "https" + strings.TrimPrefix(c.Resource, "http")
		}
	}
	d, err := c.decide(ctx, std, log, lines, true)
	if err != nil {
		return err
	}
	defer d.close()
	if d.server != nil {
		listener = d.server.Watched(listener)
	} else {
		listener = api.Watched(listener, log)
	}
	e, err := c.enforcer(d, log)
	if err != nil {
		return err
	}
	p, err := c.proxy(e, d, std)
	if err != nil {
		return err
	}
	c.warn(log)
	server := &http.Server{
		Handler: c.routes(p, d), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return c.run(ctx, std, server, listener, p, d)
}

func (c *proxyConfig) proxy(e *pep.Enforcer, d *decisions, std stdio) (*pep.Proxy, error) {
	o := pep.ProxyOptions{
		Enforcer: e, Upstream: c.upstream, UpstreamAuth: pep.UpstreamAuth(c.UpstreamAuth), Subject: c.subject(),
		AllowedHosts: c.AllowedHosts, AllowedOrigins: c.AllowedOrigins,
		Metadata: d.metadata(c.Resource), AuthorizationServers: c.Issuing,
		MaxSessions: c.MaxSessions, SessionTTL: c.SessionTTL,
	}
	if len(o.AuthorizationServers) == 0 {
		o.AuthorizationServers = c.tokenIssuers()
	}
	if o.UpstreamAuth == pep.AuthHeader {
		o.UpstreamHeader, _ = header(std.getenv(c.UpstreamHeader)) // validated
	}
	return pep.NewProxy(o) //nolint:wrapcheck // names what is wrong
}

// warn says what an operator should know who has not read the manual.
func (c *proxyConfig) warn(log *slog.Logger) {
	if c.UpstreamAuth == string(pep.AuthPassthrough) {
		log.Warn("the clients' access tokens are handed to the server: MCP forbids it for tokens that were not issued for that server")
	}
	if c.Subject != "" {
		log.Warn("access tokens are not looked at: whoever reaches this address acts for one person", "subject", c.Subject)
	}
}

func (c *proxyConfig) run(ctx context.Context, std stdio, server *http.Server, listener net.Listener, p *pep.Proxy, d *decisions) error {
	if c.TLSCert != "" {
		pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
		if err != nil {
			return fmt.Errorf("--tls-cert %s with --tls-key %s: %w", c.TLSCert, c.TLSKey, err)
		}
		// A client certificate is not asked who it is, only what a token may be bound
		// to (RFC 8705).
		server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert}
	}
	// Decisions are needed until the last call has ended.
	deciding, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, running := errgroup.WithContext(deciding)
	group.Go(func() error { return d.run(running) })
	group.Go(func() error {
		var err error
		if server.TLSConfig != nil {
			err = server.ServeTLS(listener, "", "")
		} else {
			err = server.Serve(listener)
		}
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("serve: %w", err)
	})
	group.Go(func() error {
		defer stop()
		select {
		case <-ctx.Done():
		case <-running.Done():
		}
		p.Drain()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.ShutdownGrace)
		defer cancel()
		if err := server.Shutdown(grace); err != nil {
			_ = server.Close() // who is left had the grace
		}
		return nil
	})
	if err := c.ready(std.out, listener.Addr().String(), d.revision()); err != nil {
		stop()
		return errors.Join(err, group.Wait())
	}
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err //nolint:wrapcheck // wrapped above
	}
	return nil
}

// ready prints the one line that scripts wait for.
func (c *proxyConfig) ready(w io.Writer, addr, revision string) error {
	line := struct {
		Event    string `json:"event"`
		Listen   string `json:"listen"`
		Upstream string `json:"upstream"`
		Resource string `json:"resource"`
		Mode     string `json:"mode"`
		Revision string `json:"revision,omitempty"`
	}{"ready", addr, c.upstream.Scheme + "://" + c.upstream.Host + c.upstream.EscapedPath(), c.Resource, c.Mode, revision}
	if err := json.NewEncoder(w).Encode(line); err != nil {
		return fmt.Errorf("write the ready line: %w", err)
	}
	return nil
}

// routes adds what tells of the proxy itself.
func (c *proxyConfig) routes(p *pep.Proxy, d *decisions) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", p)
	own := func(path string, h http.HandlerFunc) {
		if path != c.upstream.Path {
			mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
				if !p.Serves(r.Host) {
					http.Error(w, "this host is not served here", http.StatusMisdirectedRequest)
					return
				}
				h(w, r)
			})
		}
	}
	own("/healthz", func(w http.ResponseWriter, _ *http.Request) { tell(w, http.StatusOK, map[string]any{"status": "live"}) })
	own("/readyz", func(w http.ResponseWriter, r *http.Request) {
		say := map[string]any{"status": "ready", "mode": c.Mode, "sessions": p.Sessions()}
		if c.Mode == modeObserve {
			say["warning"] = "decisions are logged and NOT enforced"
		}
		if err := d.ready(r.Context()); err != nil {
			say["status"], say["reason"] = "not ready", err.Error()
			tell(w, http.StatusServiceUnavailable, say)
			return
		}
		tell(w, http.StatusOK, say)
	})
	if d.server != nil {
		own("/metrics", d.server.ServeMetrics)
	}
	return mux
}

func tell(w http.ResponseWriter, status int, v map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client has gone
}
