package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

func TestBlock(t *testing.T) {
	p := newPushStand(t)
	_, stop := p.serve(t)
	p.remote(t, 0, "main v1 is active", "bundle", "push", p.path("v1.tar.gz"), "--name", "main", "--activate")
	query := func(subject string) string {
		file := p.path(subject + ".json")
		text := `{"subject":{"type":"identity","id":"` + subject + `","properties":{"issuer":"https://as.example.com"}},"action":{"name":"read"},"resource":{"type":"page","id":"p"}}`
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	alice, bob := query("alice"), query("bob")
	p.remote(t, 0, "", "check", "-f", alice)
	p.remote(t, 0, "is blocked until", "block", "subject", "alice", "--issuer", "https://as.example.com", "--for", "1h", "--why", "stolen laptop")
	id, _, _ := strings.Cut(p.out, ":")
	p.remote(t, 2, "engine.blocked", "check", "-f", alice)
	p.remote(t, 0, "", "check", "-f", bob)
	p.remote(t, 0, "is blocked until", "block", "subject", "alice", "--issuer", "https://other.example.com", "--for", "1s", "--why", "x")
	for _, kind := range []string{"agent", "client", "tool"} {
		p.remote(t, 0, `"state":"active"`, "block", kind, "x\ny", "--for", "90m", "--why", "ticket 4711", "-o", "json")
	}
	p.remote(t, 0, "is blocked until", "block", "tenant", "default", "--for", "1h", "--why", "all stop")
	everybody, _, _ := strings.Cut(p.out, ":")
	p.remote(t, 2, "engine.blocked", "check", "-f", bob)
	p.remote(t, 0, "", "block", "lift", everybody)
	p.remote(t, 0, "", "check", "-f", bob)
	p.remote(t, 0, "stolen laptop", "block", "list")
	if lines := strings.Count(p.out, "\n"); lines != 7 || !strings.Contains(p.out, id) || !strings.Contains(p.out, `"x\ny"`) {
		t.Errorf("%d lines:\n%s", lines, p.out)
	}
	if code := stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	_, stop = p.serve(t)
	p.remote(t, 2, "engine.blocked", "check", "-f", alice)
	p.remote(t, 0, "is not blocked any more (lifted)", "block", "lift", id, "--why", "found it")
	p.remote(t, 0, "", "check", "-f", alice)
	p.remote(t, 0, "found it", "block", "list", "-o", "json")
	if !json.Valid([]byte(p.out)) {
		t.Error(p.out)
	}
	p.remote(t, 1, "engine.block_not_found", "block", "lift", "nothing")
	p.remote(t, 1, "--for", "block", "tool", "pay", "--for", "0s", "--why", "x")
	p.remote(t, 1, "request.invalid_value at /for_seconds", "block", "tool", "pay", "--for", "721h", "--why", "x")
	p.remote(t, 1, "request.invalid_value at /why", "block", "tool", "pay", "--for", "1h", "--why", "")
	p.remote(t, 1, "why", "block", "tool", "pay", "--for", "1h")
	p.remote(t, 1, "issuer", "block", "tool", "pay", "--for", "1h", "--why", "x", "--issuer", "x")
	stop()
}
