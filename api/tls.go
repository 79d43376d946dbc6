package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"google.golang.org/grpc/credentials"
)

// tlsState is one reading of the files of Access. It is not changed, and
// connections keep the one that they began with.
type tlsState struct {
	web, rpc *tls.Config
	// roots are the certificates that vouch for callers, by their bytes.
	roots map[string]bool
}

const (
	protoHTTP1 = "http/1.1"
	protoHTTP2 = "h2"
)

func (x *access) loadTLS() error {
	pair, err := tls.LoadX509KeyPair(x.opts.CertFile, x.opts.KeyFile)
	if err != nil {
		return fmt.Errorf("TLS certificate %s with key %s: %w", x.opts.CertFile, x.opts.KeyFile, err)
	}
	if now := x.opts.Now(); now.After(pair.Leaf.NotAfter) {
		return fmt.Errorf("TLS certificate %s: expired at %s", x.opts.CertFile, pair.Leaf.NotAfter.Format(time.RFC3339))
	}
	st := &tlsState{}
	config := &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, Time: x.opts.Now,
		// A resumed session would not be held against the client CAs of now.
		SessionTicketsDisabled: x.opts.ClientCAFile != "",
	}
	if x.opts.ClientCAFile != "" {
		if config.ClientCAs, st.roots, err = readRoots(x.opts.ClientCAFile); err != nil {
			return fmt.Errorf("client CA %s: %w", x.opts.ClientCAFile, err)
		}
		config.ClientAuth = tls.RequireAndVerifyClientCert
		if x.opts.KeysFile != "" {
			config.ClientAuth = tls.VerifyClientCertIfGiven
		}
	}
	st.web, st.rpc = config, config.Clone()
	st.web.NextProtos = []string{protoHTTP2, protoHTTP1}
	st.rpc.NextProtos = []string{protoHTTP2}
	x.tls.Store(st)
	return nil
}

// readRoots reads certificates and refuses anything else in the file: a key
// left in it, or an authority left out for a typing error, is a mistake.
func readRoots(file string) (*x509.CertPool, map[string]bool, error) {
	text, err := os.ReadFile(file) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, nil, err //nolint:wrapcheck // names the file itself
	}
	pool, raw := x509.NewCertPool(), map[string]bool{}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, nil, fmt.Errorf("holds a %s", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, err //nolint:wrapcheck // says what
		}
		if !cert.IsCA {
			return nil, nil, fmt.Errorf("the certificate of %q is not an authority's", cert.Subject)
		}
		pool.AddCert(cert)
		raw[string(cert.Raw)] = true
	}
	if len(raw) == 0 {
		return nil, nil, errors.New("holds no certificate")
	}
	return pool, raw, nil
}

// stillVouchedFor judges a connection at each call: it may be older than the
// last change of client CAs, or outlive its certificate.
func (x *access) stillVouchedFor(chains [][]*x509.Certificate, now time.Time) bool {
	st := x.tls.Load()
	if st == nil {
		return false
	}
	for _, chain := range chains {
		good := len(chain) > 0 && st.roots[string(chain[len(chain)-1].Raw)]
		for _, cert := range chain {
			good = good && !now.After(cert.NotAfter) && !now.Before(cert.NotBefore)
		}
		if good {
			return true
		}
	}
	return false
}

// webTLS and rpcTLS take for each connection what the files held last.
func (x *access) webTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{protoHTTP2, protoHTTP1},
		SessionTicketsDisabled: x.opts.ClientCAFile != "",
		GetConfigForClient:     func(*tls.ClientHelloInfo) (*tls.Config, error) { return x.tls.Load().web, nil },
	}
}

func (x *access) rpcTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{protoHTTP2},
		SessionTicketsDisabled: x.opts.ClientCAFile != "",
		GetConfigForClient:     func(*tls.ClientHelloInfo) (*tls.Config, error) { return x.tls.Load().rpc, nil },
	}
}

// doorCredentials secure the public listener, and have its connections counted. The
// in-memory one has none, and is told apart by the type of its connections.
type doorCredentials struct {
	credentials.TransportCredentials
	unread *unreadAnswers
}

// ServerHandshake secures one connection.
func (d doorCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if _, inside := conn.(memoryConn); inside {
		return conn, insideInfo{}, nil
	}
	secured, info, err := d.TransportCredentials.ServerHandshake(conn)
	if err != nil {
		return nil, nil, err //nolint:wrapcheck // grpc-go's own
	}
	return d.unread.connected(secured), info, nil
}

// Clone keeps the type, which grpc-go asks for.
func (d doorCredentials) Clone() credentials.TransportCredentials {
	return doorCredentials{d.TransportCredentials.Clone(), d.unread}
}

// insideInfo is of a connection that never left the process.
type insideInfo struct{}

// AuthType names it.
func (insideInfo) AuthType() string { return "memory" }

// listen opens address: on loopback, or anywhere once connections are secured
// and callers known.
func (s *Server) listen(ctx context.Context, address string) (net.Listener, error) {
	if !s.opts.Access.secured() {
		return listenLoopback(ctx, address)
	}
	if host, _, err := net.SplitHostPort(address); err != nil || host == "" {
		return nil, errorf(CodeNotLoopback, "", "listen on %q: name a host; every interface is 0.0.0.0 or [::]", address)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", address, err)
	}
	return l, nil
}
