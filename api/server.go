package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/authzd/authzd/bundles/follow"
	"github.com/authzd/authzd/bundles/registry"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/engine/blocklist"
)

// Defaults of Options.
const (
	DefaultHTTPAddr    = "127.0.0.1:8181"
	DefaultGRPCAddr    = "127.0.0.1:8182"
	DefaultMaxDuration = 10 * time.Second
	DefaultGrace       = 10 * time.Second
	DefaultQueue       = 1024
	DefaultQueueTime   = 100 * time.Millisecond
	DefaultKeepalive   = time.Minute
	leastKeepalive     = time.Second
	workersPerCore     = 2
)

// Options configure a Server. Only Engine is required.
type Options struct {
	// Engine decides. Its live snapshot may change, or be absent, at any time.
	Engine *engine.Engine
	// HTTPAddr and GRPCAddr are what to listen on; loopback only, unless Access
	// has TLS and callers. Defaults
	// DefaultHTTPAddr and DefaultGRPCAddr; port 0 takes a free one.
	HTTPAddr, GRPCAddr string
	// Access secures the connections and knows the callers.
	Access Access
	// Verifier verifies access tokens, and says whose claims may be asserted;
	// default none: tokens are refused, and claims are the caller's word.
	Verifier Verifier
	// AllowedHosts are further names that an HTTP request may give as Host;
	// default none but localhost, loopback addresses and the address
	// that the connection came in on.
	AllowedHosts []string
	// Bundles takes pushed bundles; default none: pushing is refused.
	Bundles *registry.Registry
	// Blocks is the block list of Engine; default none: blocking is refused.
	Blocks *blocklist.List
	// Follow says whether bundles of other servers are here and fresh; while they
	// are not, nothing is decided. Default none are followed.
	Follow *follow.Followers
	// Audience is the resource identifier of callers whose query names no MCP
	// server; default none, so that no credential is usable for such a query.
	Audience string
	// Denial says what denials tell of MCP servers.
	Denial DenialOptions
	// StrictMethods refuses methods of MCP that the table of COAZ-MCP lacks
	// (server/discover, subscriptions/listen, resources/templates/list,
	// tasks/update); default: they are asked about.
	StrictMethods bool
	// Limits bound requests.
	Limits Limits
	// MaxDuration bounds one call, waiting included; default
	// DefaultMaxDuration. A caller's own deadline may be earlier.
	MaxDuration time.Duration
	// Workers is how many decisions run at once; default two a core.
	Workers int
	// Queue is how many calls may wait for one of them; default DefaultQueue.
	Queue int
	// QueueTime is how long a call may have to wait, as far as that can be told; who would
	// wait longer is refused at once. Once somebody would have, it is a twentieth of that
	// while more calls come than can be decided. Two rounds of Workers may wait in any
	// case. Default DefaultQueueTime.
	QueueTime time.Duration
	// Keepalive is how long nothing may come on a gRPC connection before its client is
	// asked for a sign of life; without one it is given up after a third of that. Less than
	// a second is a second; default DefaultKeepalive.
	Keepalive time.Duration
	// Grace is how long calls under way may take to end when Run's context is
	// done; default DefaultGrace.
	Grace time.Duration
	// Log receives one line for each decision (debug) and each fault; default
	// nothing.
	Log *slog.Logger
	// LogLost is how many lines of the log could not be kept or written; default: no
	// metric tells.
	LogLost func() uint64
	// NewRequestID makes the ids that errors and logs carry; default a ULID.
	NewRequestID func() string
}

func (o Options) withDefaults() Options {
	if o.HTTPAddr == "" {
		o.HTTPAddr = DefaultHTTPAddr
	}
	if o.GRPCAddr == "" {
		o.GRPCAddr = DefaultGRPCAddr
	}
	o.Limits = o.Limits.withDefaults()
	if o.MaxDuration <= 0 {
		o.MaxDuration = DefaultMaxDuration
	}
	if o.Workers <= 0 {
		o.Workers = workersPerCore * runtime.GOMAXPROCS(0)
	}
	if o.Queue <= 0 {
		o.Queue = DefaultQueue
	}
	if o.QueueTime <= 0 {
		o.QueueTime = DefaultQueueTime
	}
	if o.Keepalive <= 0 {
		o.Keepalive = DefaultKeepalive
	}
	o.Keepalive = max(o.Keepalive, leastKeepalive)
	if o.Grace <= 0 {
		o.Grace = DefaultGrace
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.NewRequestID == nil {
		o.NewRequestID = func() string { return ulid.Make().String() }
	}
	return o
}

// Server serves decisions over gRPC and HTTP. Make it with New, then Listen if
// the addresses must be known first, then Run.
type Server struct {
	opts      Options
	log       *slog.Logger
	pool      *pool
	unread    *unreadAnswers
	metrics   *metrics
	revisions *revisions
	health    *readiness
	access    *access
	mappings  *mappings
	// pushes has a place for each upload under way.
	pushes places
	// downloads has a place for each large archive that is being sent.
	downloads places
	// waiters has one for each follower that waits, watchers for each caller that
	// is told of bundles.
	waiters, watchers chan struct{}

	shown   *shown
	openapi []byte
	buffers sync.Pool

	http, grpc net.Listener
	// handlers are the HTTP handlers under way; net/http does not wait for those
	// that outlast the grace.
	handlers sync.WaitGroup
}

// New makes a server that listens on nothing and runs nothing yet.
func New(opts Options) (*Server, error) {
	if opts.Engine == nil {
		return nil, errors.New("api: Options.Engine is required")
	}
	opts = opts.withDefaults()
	access, err := newAccess(opts.Access)
	if err != nil {
		return nil, err
	}
	p := newPool(opts.Workers, opts.Queue, opts.QueueTime, runtime.GOMAXPROCS(0)/2)
	p.looks = true
	u := &unreadAnswers{}
	s := &Server{
		opts: opts, log: opts.Log, pool: p, unread: u, metrics: newMetrics(opts.Engine, p, u, opts.Verifier, opts.Follow, opts.Bundles),
		revisions: newRevisions(), health: newReadiness(), access: access, shown: newShown(),
		waiters: make(chan struct{}, maxWaiters), watchers: make(chan struct{}, maxWatchers),
		pushes: places{all: maxPushes, ofOne: maxPushesOfOne}, downloads: places{all: maxDownloads, ofOne: maxDownloadsOfOne},
	}
	s.health.look = s.observe
	if opts.LogLost != nil {
		s.metrics.countLost(opts.LogLost)
	}
	s.mappings = newMappings(s.warnMapping)
	if s.openapi, err = openapi(); err != nil {
		return nil, err
	}
	return s, nil
}

// Listen opens both listeners. An address that is not loopback is an *Error
// with CodeNotLoopback, unless there are TLS and callers. After an error, and after Run, nothing is open.
func (s *Server) Listen(ctx context.Context) error {
	var err error
	if s.http, err = s.listen(ctx, s.opts.HTTPAddr); err != nil {
		return err
	}
	if s.grpc, err = s.listen(ctx, s.opts.GRPCAddr); err != nil {
		_ = s.http.Close()
		s.http = nil
		return err
	}
	s.http, s.grpc = s.watched(s.http, doorREST), s.watched(s.grpc, doorGRPC)
	return nil
}

// HTTPAddr is the address listened on for HTTP, nil before Listen.
func (s *Server) HTTPAddr() net.Addr { return addrOf(s.http) }

// GRPCAddr is the address listened on for gRPC, nil before Listen.
func (s *Server) GRPCAddr() net.Addr { return addrOf(s.grpc) }

func addrOf(l net.Listener) net.Addr {
	if l == nil {
		return nil
	}
	return l.Addr()
}

// Run serves until ctx is done, then lets calls under way end within the grace,
// and returns nil. It calls Listen if that has not been done. It owns every
// goroutine and may be called once.
func (s *Server) Run(ctx context.Context) error {
	if s.http == nil {
		if err := s.Listen(ctx); err != nil {
			return err
		}
	}
	// What serves ends by its own shutdown and not with ctx, so that calls under
	// way can end.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	gw, err := s.newGateway(serving)
	if err != nil {
		_ = s.http.Close()
		_ = s.grpc.Close()
		return err
	}
	defer func() { _ = gw.conn.Close() }()
	stopping, stopStreams := context.WithCancel(serving)
	defer stopStreams()
	rpc := s.newGRPC(stopping)
	web := s.newHTTP(serving, gw)
	s.observe()

	group, failed := errgroup.WithContext(serving)
	group.Go(func() error { return s.pool.serve(serving) })
	group.Go(func() error { s.watch(serving); return nil })
	if len(s.access.files) > 0 {
		group.Go(func() error { s.watchFiles(serving); return nil })
	}
	group.Go(func() error { return servedUntil(rpc.Serve(s.grpc), grpc.ErrServerStopped, "gRPC") })
	group.Go(func() error {
		return servedUntil(rpc.Serve(memoryListener{gw.listener}), grpc.ErrServerStopped, "gateway")
	})
	group.Go(func() error { return servedUntil(s.serveWeb(web), http.ErrServerClosed, "HTTP") })
	group.Go(func() error {
		defer stop()
		select {
		case <-ctx.Done():
		case <-failed.Done():
		}
		s.shutdown(context.WithoutCancel(ctx), web, rpc, stopStreams)
		return nil
	})
	err = group.Wait()
	s.handlers.Wait()
	return err //nolint:wrapcheck // wrapped by servedUntil
}

// serveWeb serves HTTP, by TLS where there is a certificate.
func (s *Server) serveWeb(web *http.Server) error {
	if s.opts.Access.CertFile == "" {
		return web.Serve(s.http) //nolint:wrapcheck // wrapped by servedUntil
	}
	web.TLSConfig = s.access.webTLS()
	return web.ServeTLS(s.http, "", "") //nolint:wrapcheck // as above
}

func servedUntil(err, end error, what string) error {
	if err == nil || errors.Is(err, end) {
		return nil
	}
	return fmt.Errorf("serve %s: %w", what, err)
}

// shutdown ends HTTP first, because its calls may need gRPC, and leaves half of
// the grace to each.
func (s *Server) shutdown(ctx context.Context, web *http.Server, rpc *grpc.Server, stopStreams func()) {
	s.health.stop()
	stopStreams()
	half, cancel := context.WithTimeout(ctx, s.opts.Grace/2)
	defer cancel()
	if err := web.Shutdown(half); err != nil {
		_ = web.Close()
	}
	late := time.AfterFunc(s.opts.Grace/2, rpc.Stop)
	defer late.Stop()
	rpc.GracefulStop()
}

func (s *Server) newHTTP(serving context.Context, g *gateway) *http.Server {
	return &http.Server{
		Handler:           s.handler(g),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      s.opts.MaxDuration + 20*time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeaderBytes,
		BaseContext:       func(net.Listener) context.Context { return serving },
		// net/http's own lines are about clients that speak no HTTP.
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}
