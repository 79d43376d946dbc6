package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// listenLoopback opens address, which must be on loopback: without TLS and
// callers, whoever can connect may ask and assert anything.
func listenLoopback(ctx context.Context, address string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, errorf(CodeNotLoopback, "", "listen on %q: %w", address, err)
	}
	ip, err := loopbackIP(ctx, host)
	if err != nil {
		return nil, errorf(CodeNotLoopback, "", "listen on %q: %w", address, err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(ip.String(), port))
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", address, err)
	}
	if at, ok := l.Addr().(*net.TCPAddr); !ok || !at.IP.IsLoopback() {
		_ = l.Close()
		return nil, errorf(CodeNotLoopback, "", "listen on %q: the address turned out to be %s", address, l.Addr())
	}
	return l, nil
}

// loopbackIP returns the address that host stands for. A name must resolve to
// loopback only, and what it resolved to is what is listened on: a second
// look-up could say something else.
func loopbackIP(ctx context.Context, host string) (netip.Addr, error) {
	if host == "" {
		return netip.Addr{}, errors.New("an empty host is every interface; write 127.0.0.1")
	}
	ips := []netip.Addr{}
	if ip, err := netip.ParseAddr(host); err == nil {
		ips = append(ips, ip)
	} else if ips, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
		return netip.Addr{}, fmt.Errorf("resolve the host: %w", err)
	}
	var best netip.Addr
	for _, ip := range ips {
		if !ip.Unmap().IsLoopback() {
			return netip.Addr{}, fmt.Errorf("%s is not a loopback address: others could call, unknown and unencrypted; add --tls-cert and --tls-key, and for the callers --keys-file, or --tls-client-ca with --callers", ip)
		}
		if !best.IsValid() || ip.Unmap().Is4() {
			best = ip
		}
	}
	if !best.IsValid() {
		return netip.Addr{}, errors.New("the host has no address")
	}
	return best, nil
}

// hostAllowed tells whether an HTTP request was meant for this server. A page
// whose name was made to resolve to 127.0.0.1 (DNS rebinding) sends its own
// name as Host.
func (s *Server) hostAllowed(r *http.Request) bool {
	host := r.Host
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if strings.EqualFold(name, "localhost") {
		return true
	}
	if ip, err := netip.ParseAddr(name); err == nil && (ip.Unmap().IsLoopback() || ip.Unmap() == localIP(r)) {
		return true
	}
	for _, allowed := range s.opts.AllowedHosts {
		if strings.EqualFold(allowed, name) || strings.EqualFold(allowed, host) {
			return true
		}
	}
	return false
}

// localIP is the address that the client connected to. Whoever sends it as Host
// has no name that could have been made to resolve to it.
func localIP(r *http.Request) netip.Addr {
	at, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return at.AddrPort().Addr().Unmap()
}

// acceptSilence is how long nothing more is logged of connections that can not be
// taken.
const acceptSilence = 10 * time.Second

// watchedListener tells of connections that can not be taken, for want of
// descriptors; its server goes on and tries again.
type watchedListener struct {
	net.Listener
	log *slog.Logger
	// failed counts; nil: nobody.
	failed prometheus.Counter
	// said is when it was logged last; only Accept uses it, which one goroutine calls.
	said time.Time
}

// Watched gives l with the connections that it fails to take counted and logged, for a
// program that serves others beside [Server.Local].
func (s *Server) Watched(l net.Listener) net.Listener { return s.watched(l, doorLocal) }

// Watched gives l with the connections that it fails to take logged, for a program that
// has no [Server].
func Watched(l net.Listener, log *slog.Logger) net.Listener {
	return &watchedListener{Listener: l, log: log}
}

func (s *Server) watched(l net.Listener, d door) net.Listener {
	return &watchedListener{Listener: l, log: s.log, failed: s.metrics.unaccepted.WithLabelValues(string(d))}
}

func (l *watchedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil || errors.Is(err, net.ErrClosed) {
		return conn, err //nolint:wrapcheck // a listener's own error, which its server looks at
	}
	if l.failed != nil {
		l.failed.Inc()
	}
	if time.Since(l.said) > acceptSilence {
		l.said = time.Now()
		l.log.Error("a connection can not be taken, others wait", "address", l.Addr().String(), "error", err.Error())
	}
	return nil, err //nolint:wrapcheck // as above
}
