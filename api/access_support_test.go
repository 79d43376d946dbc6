package api_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/api/callers"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// authority is a throw-away CA.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue makes a certificate and its key, in PEM.
func (a *authority) issue(t *testing.T, change func(*x509.Certificate)) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

func forServer(c *x509.Certificate) {
	c.Subject.CommonName = "authzd"
	c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
}

func named(commonName string, uris ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject.CommonName = commonName
		for _, text := range uris {
			u, err := url.Parse(text)
			if err != nil {
				panic(err)
			}
			c.URIs = append(c.URIs, u)
		}
	}
}

// client is the certificate of a caller.
func (a *authority) client(t *testing.T, change func(*x509.Certificate)) *tls.Certificate {
	t.Helper()
	cert, key := a.issue(t, change)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return &pair
}

// put replaces a file as an operator's tools do: as a whole.
func put(t *testing.T, file string, text []byte) {
	t.Helper()
	if err := os.WriteFile(file+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// makeKey adds a key to a file and returns its text.
func makeKey(t *testing.T, file string, k callers.Key) string {
	t.Helper()
	if k.Created.IsZero() {
		k.Created = now()
	}
	var text string
	err := callers.UpdateKeys(file, true, func(keys []callers.Key) ([]callers.Key, error) {
		var err error
		k, text, err = callers.NewKey(k, rand.Reader)
		return append(keys, k), err
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// revoke ends every key of a name.
func revoke(t *testing.T, file, name string) {
	t.Helper()
	err := callers.UpdateKeys(file, false, func(keys []callers.Key) ([]callers.Key, error) {
		for i := range keys {
			if keys[i].Name == name {
				keys[i].Revoked = now()
			}
		}
		return keys, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// secured is a server with TLS, keys and client certificates.
type secured struct {
	*doors
	dir                          string
	ca, clientCA                 *authority
	certFile, keyFile            string
	clientCAFile, keysFile, list string
}

const listed = `
agent-1: {rights: [check, assert]}
reader: {rights: [check], audience: "https://mcp.example.com"}
homeless: {rights: [check]}
spiffe://example.org/ns/gateway: {rights: [check, assert, audit], audience: "https://mcp.example.com"}
`

// secure starts a server; change may take parts away again.
func secure(t *testing.T, change func(*api.Options)) *secured {
	t.Helper()
	dir := t.TempDir()
	s := &secured{
		dir: dir, ca: newAuthority(t, "server CA"), clientCA: newAuthority(t, "client CA"),
		certFile: filepath.Join(dir, "tls.crt"), keyFile: filepath.Join(dir, "tls.key"),
		clientCAFile: filepath.Join(dir, "ca.crt"), keysFile: filepath.Join(dir, "keys.json"), list: filepath.Join(dir, "callers.yaml"),
	}
	cert, key := s.ca.issue(t, forServer)
	put(t, s.certFile, cert)
	put(t, s.keyFile, key)
	put(t, s.clientCAFile, s.clientCA.pem)
	put(t, s.list, []byte(listed))
	makeKey(t, s.keysFile, callers.Key{Name: "first", Rights: callers.All})
	s.doors = start(t, func(o *api.Options) {
		o.Access = api.Access{
			CertFile: s.certFile, KeyFile: s.keyFile, ClientCAFile: s.clientCAFile, CallersFile: s.list, KeysFile: s.keysFile, Now: time.Now,
		}
		if change != nil {
			change(o)
		}
	})
	return s
}

// config is a client's TLS.
func (s *secured) config(cert *tls.Certificate) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(s.ca.cert)
	c := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	if cert != nil {
		// Sent also where the server asks for other authorities.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	return c
}

// as is a client for both doors with a certificate, which may be nil.
func (s *secured) as(t *testing.T, cert *tls.Certificate) *doors {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: s.config(cert), ForceAttemptHTTP2: true}
	conn, err := grpc.NewClient(s.server.GRPCAddr().String(), grpc.WithTransportCredentials(credentials.NewTLS(s.config(cert))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = conn.Close()
	})
	d := *s.doors
	d.url = "https://" + s.server.HTTPAddr().String()
	d.http = &http.Client{Transport: transport, Timeout: 20 * time.Second}
	d.conn, d.rpc = conn, authzdv1.NewDecisionServiceClient(conn)
	return &d
}

// withHeaders sends the same as metadata.
func withHeaders(ctx context.Context, header map[string]string) context.Context {
	var pairs []string
	for k, v := range header {
		pairs = append(pairs, k, v)
	}
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}

// tamper changes one character of a secret.
func tamper(key string) string {
	c := "A"
	if key[30] == 'A' {
		c = "B"
	}
	return key[:30] + c + key[31:]
}

func keyHeader(key string) map[string]string {
	return map[string]string{"Authorization": "Bearer " + key}
}

// reasonOf is the code in a gRPC error, or "".
func reasonOf(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == "authzd" {
			return info.GetReason()
		}
	}
	t.Errorf("no code in %v", err)
	return "none"
}
