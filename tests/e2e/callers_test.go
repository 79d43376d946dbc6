package e2e_test

import (
	"bytes"
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
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// certificates writes a throw-away CA and certificates of a server and a client,
// as files of dir.
func certificates(t *testing.T, dir string) {
	t.Helper()
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	write := func(name, kind string, der []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	template := func(n int64, name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(n), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		}
	}
	ca, caKey := template(1, "throw-away CA"), newKey()
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	write("ca.crt", "CERTIFICATE", der)
	server, client := template(2, "authzd"), template(3, "gateway")
	server.IPAddresses, server.ExtKeyUsage = []net.IP{net.IPv4(127, 0, 0, 1)}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	client.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	for name, cert := range map[string]*x509.Certificate{"server": server, "client": client} {
		key := newKey()
		if der, err = x509.CreateCertificate(rand.Reader, cert, ca, &key.PublicKey, caKey); err != nil {
			t.Fatal(err)
		}
		write(name+".crt", "CERTIFICATE", der)
		if der, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
			t.Fatal(err)
		}
		write(name+".key", "PRIVATE KEY", der)
	}
}

// authzd runs the binary to its end.
func authzd(t *testing.T, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(binDir, "authzd"), args...)
	cmd.Env = append(os.Environ(), env...)
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	_ = cmd.Run()
	return cmd.ProcessState.ExitCode(), out.String(), err.String()
}

// A server with TLS answers callers that it knows, over both doors and to the
// command line, and forgets a key when it is revoked.
func TestServeKnowsItsCallers(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	dir := t.TempDir()
	certificates(t, dir)
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(at("callers.yaml"), []byte("gateway: {rights: [check, assert]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keyOf := func(name, rights string) string {
		code, key, stderr := authzd(t, nil, "keys", "create", name, "--rights", rights, "--keys-file", at("keys.json"))
		if code != 0 {
			t.Fatal(stderr)
		}
		return strings.TrimSpace(key)
	}
	good, asker, auditor := keyOf("pep", "check,assert"), keyOf("asker", "check"), keyOf("auditor", "audit")
	s := start(t, nil, "--bundle", "payments="+filepath.Join(repository(t), "policies/examples/payments"),
		"--tls-cert", at("server.crt"), "--tls-key", at("server.key"), "--tls-client-ca", at("ca.crt"),
		"--callers", at("callers.yaml"), "--keys-file", at("keys.json"), "--log-level", "debug")
	allow := filepath.Join(repository(t), "examples/payments/allow.json")
	ask := func(key string, flags ...string) (int, string) {
		code, out, stderr := authzd(t, []string{"KEY=" + key}, append([]string{"check", "-f", allow, "--addr", s.GRPC, "--tls-ca", at("ca.crt")}, flags...)...)
		return code, out + stderr
	}
	withKey := []string{"--key-env", "KEY"}
	for name, c := range map[string]struct {
		key   string
		flags []string
		code  int
		want  string
	}{
		"key":                 {good, withKey, 0, `"decision":"ALLOW"`},
		"certificate":         {"", []string{"--cert", at("client.crt"), "--key", at("client.key")}, 0, `"decision":"ALLOW"`},
		"nothing":             {"", nil, 1, "api.unauthenticated"},
		"wrong key":           {good[:len(good)-4] + "AAAA", withKey, 1, "api.unauthenticated"},
		"no right":            {auditor, withKey, 1, "api.right_missing"},
		"the server's own":    {"", []string{"--cert", at("server.crt"), "--key", at("server.key")}, 1, ""},
		"may not name server": {asker, withKey, 1, "api.right_missing"},
	} {
		if code, text := ask(c.key, c.flags...); code != c.code || !strings.Contains(text, c.want) {
			t.Errorf("%s: code %d, %s", name, code, text)
		}
	}
	if code, _, stderr := authzd(t, nil, "check", "-f", allow, "--addr", s.GRPC); code != 1 {
		t.Errorf("without TLS: code %d, %s", code, stderr)
	}
	code, _, stderr := authzd(t, []string{"KEY=" + good}, "rar", "types", "--addr", s.GRPC, "--tls-ca", at("ca.crt"), "--key-env", "KEY")
	if code != 0 {
		t.Errorf("rar types: code %d, %s", code, stderr)
	}

	roots := x509.NewCertPool()
	text, err := os.ReadFile(at("ca.crt"))
	if err != nil || !roots.AppendCertsFromPEM(text) {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	web := &http.Client{Transport: transport}
	status := func(path, key string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+s.HTTP+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if key != "" {
			req.Header.Set("Authorization", "Bearer "+key)
		}
		resp, err := web.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	for _, c := range []struct {
		path, key string
		want      int
	}{
		{"/healthz", "", 200},
		{"/readyz", "", 200},
		{"/openapi.json", "", 401},
		{"/openapi.json", auditor, 200},
		{"/metrics", "", 401},
		{"/metrics", good, 403},
		{"/metrics", auditor, 200},
		{"/v1/authorization-details/types", auditor, 403},
		{"/v1/authorization-details/types", asker, 200},
	} {
		if got := status(c.path, c.key); got != c.want {
			t.Errorf("%s: %d, want %d", c.path, got, c.want)
		}
	}

	if code, _, stderr := authzd(t, nil, "keys", "revoke", "pep", "--keys-file", at("keys.json")); code != 0 {
		t.Fatal(stderr)
	}
	deadline := time.Now().Add(20 * time.Second)
	for status("/openapi.json", good) != http.StatusUnauthorized {
		if time.Now().After(deadline) {
			t.Fatal("a revoked key is good")
		}
	}
	if code, text := ask(good, withKey...); code != 1 || !strings.Contains(text, "api.unauthenticated") {
		t.Errorf("a revoked key: code %d, %s", code, text)
	}
	if code := s.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
	log := s.Log.String()
	for _, key := range []string{good, asker, auditor} {
		if strings.Contains(log, key[24:]) {
			t.Error("the log holds a secret")
		}
	}
	if !strings.Contains(log, `"caller":"pep"`) || !strings.Contains(log, `"reason":"revoked"`) {
		t.Errorf("the log does not name who was refused, or who asked:\n%s", log)
	}
}
