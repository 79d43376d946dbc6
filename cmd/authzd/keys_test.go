package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// keysFile holds one key.
func keysFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "keys.json")
	if code, _, stderr := command(t, "", "keys", "create", "first", "--rights", "check", "--keys-file", file); code != 0 {
		t.Fatal(stderr)
	}
	return file
}

func TestKeysCommands(t *testing.T) {
	t.Parallel()
	file := keysFile(t)
	keys := func(args ...string) (int, string, string) {
		return command(t, "", append(append([]string{"keys"}, args...), "--keys-file", file)...)
	}
	code, key, stderr := keys("create", "gateway", "--rights", "check,assert", "--expires", "720h", "--audience", "https://mcp.example.com")
	key = strings.TrimSuffix(key, "\n")
	if code != 0 || stderr != "" || !regexp.MustCompile(`^authzd_[0-9a-f]{16}_[A-Za-z0-9_-]{43}$`).MatchString(key) {
		t.Fatalf("code %d, %q, %q", code, key, stderr)
	}
	_, second, _ := keys("create", "gateway", "--rights", "check")
	id, secret := key[7:23], key[24:]
	if strings.TrimSpace(second) == key {
		t.Error("two keys are the same")
	}
	text, err := os.ReadFile(file)
	if err != nil || strings.Contains(string(text), secret) {
		t.Errorf("the file holds the secret, or %v", err)
	}
	_, list, _ := keys("list")
	if !regexp.MustCompile(`(?m)^`+id+`\tgateway\tcheck,assert\tvalid until [0-9T:Z-]+\thttps://mcp.example.com$`).MatchString(list) ||
		strings.Count(list, "\n") != 3 || strings.Contains(list, secret) {
		t.Errorf("list %q", list)
	}
	if code, out, _ := keys("revoke", "gateway", "--id", id); code != 0 || out != id+"\n" {
		t.Errorf("revoke one: code %d, %q", code, out)
	}
	if code, out, _ := keys("revoke", "gateway"); code != 0 || out == id+"\n" || len(out) != 17 {
		t.Errorf("revoke the rest: code %d, %q", code, out)
	}
	if _, list, _ := keys("list"); strings.Count(list, "\trevoked ") != 2 || strings.Count(list, "\tvalid\n") != 1 {
		t.Errorf("list %q", list)
	}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"revoked already":    {[]string{"revoke", "gateway"}, "is left to revoke"},
		"another case":       {[]string{"revoke", "First"}, "is left to revoke"},
		"id of another":      {[]string{"revoke", "first", "--id", id}, "is left to revoke"},
		"no rights":          {[]string{"create", "x"}, "rights"},
		"empty rights":       {[]string{"create", "x", "--rights", ""}, "at least one"},
		"unknown right":      {[]string{"create", "x", "--rights", "root"}, `"root" is not one of`},
		"negative expiry":    {[]string{"create", "x", "--rights", "check", "--expires", "-1h"}, "--expires"},
		"a control sign":     {[]string{"create", "x\ny", "--rights", "check"}, "printable"},
		"two names":          {[]string{"create", "x", "y", "--rights", "check"}, "accepts 1 arg"},
		"unknown command":    {[]string{"rotate"}, "unknown"},
		"less than a second": {[]string{"create", "x", "--rights", "check", "--expires", "1ms"}, "at least a second"},
	} {
		if code, out, stderr := keys(c.args...); code != 1 || out != "" || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: code %d, %q, %q", name, code, out, stderr)
		}
	}
	if after, err := os.ReadFile(file); err != nil || strings.Count(string(after), `"id"`) != 3 {
		t.Errorf("a refused command changed the keys: %s, %v", after, err)
	}
	if code, _, stderr := command(t, "", "keys", "list", "--keys-file", "/absent.json"); code != 1 || !strings.Contains(stderr, "/absent.json") {
		t.Errorf("an absent file: code %d, %q", code, stderr)
	}
	if code, _, stderr := command(t, "", "keys", "list"); code != 1 || !strings.Contains(stderr, "keys-file") {
		t.Errorf("no file: code %d, %q", code, stderr)
	}
}

func TestLoopbackAddresses(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]bool{
		"127.0.0.1:1": true, "127.8.8.8:1": true, "localhost:1": true, "[::1]:1": true, "[::ffff:127.0.0.1]:1": true,
		"127.0.0.1.example:1": false, "localhost.example:1": false, "10.0.0.1:1": false, "0.0.0.0:1": false, "127.0.0.1": false, "": false,
	} {
		if got := isLoopback(addr); got != want {
			t.Errorf("%q: %v", addr, got)
		}
	}
	// Elsewhere is never plain.
	for addr, want := range map[string]string{"127.0.0.1:1": "insecure", "authzd.example:1": "tls"} {
		creds, err := (&remoteOptions{}).transport(addr)
		if err != nil || creds.Info().SecurityProtocol != want {
			t.Errorf("%s: %v, %v", addr, creds, err)
		}
	}
}
