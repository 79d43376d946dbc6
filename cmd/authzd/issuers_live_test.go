package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const (
	asA = "https://a.example.com"
	asB = "https://b.example.com"
)

// issuersOf is a file with one issuer whose claims may be asserted.
func issuersOf(issuer string) string {
	return "issuers:\n  - issuer: " + issuer + "\n    keys: {file: jwks.json}\n    accept_asserted: true\n"
}

// A changed file takes over as a whole, a faulty or absent one changes nothing.
func TestIssuersReload(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	file := filepath.Join(t.TempDir(), "issuers.yaml")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(filepath.Dir(file), name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("jwks.json", `{"keys": [{"kty": "EC", "crv": "P-256", "kid": "k1", "alg": "ES256", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}`)
	write("issuers.yaml", issuersOf(asA))
	var log logBuffer
	s, err := openIssuers(file, slog.New(slog.NewJSONHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx) }()

	first := s.live.Load()
	s.reload(ctx)
	if s.live.Load() != first {
		t.Error("the same file made a new verifier")
	}
	write("issuers.yaml", issuersOf(asB)+"    no_such: 1\n")
	s.reload(ctx)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	s.reload(ctx)
	if s.live.Load() != first || !s.Admits(asA, "m") || s.Admits(asB, "m") {
		t.Error("a faulty or absent file changed who is trusted")
	}
	if told := log.String(); strings.Count(told, "the old ones stay") != 2 || !strings.Contains(told, "no_such") {
		t.Errorf("told: %s", told)
	}

	write("issuers.yaml", issuersOf(asB))
	s.reload(ctx)
	for deadline := time.Now().Add(10 * time.Second); s.live.Load() == first && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	if s.Admits(asA, "m") || !s.Admits(asB, "m") {
		t.Error("the new file does not count")
	}
	if status := s.Status(); len(status) != 1 || status[0].Issuer != asB || !status[0].Usable {
		t.Errorf("%+v: took over before its keys were there", status)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	// After the end nobody takes a new file, and nobody waits for that.
	write("issuers.yaml", issuersOf(asA))
	s.reload(ctx)
}
