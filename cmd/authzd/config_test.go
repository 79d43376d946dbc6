package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/authzd/authzd/bundles/follow"
)

// settings reads flags, environment and file as serve does.
func settings(t *testing.T, flags []string, env map[string]string, file string) (Config, error) {
	t.Helper()
	var c Config
	f := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	c.define(f)
	if file != "" {
		path := filepath.Join(t.TempDir(), "authzd.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		flags = append(flags, "--config", path)
	}
	if err := f.Parse(flags); err != nil {
		return c, err
	}
	if err := c.fill(f, func(name string) string { return env[name] }); err != nil {
		return c, err
	}
	return c, c.Validate()
}

func TestConfigPrecedence(t *testing.T) {
	t.Parallel()
	file := "http: 127.0.0.1:1\ngrpc: 127.0.0.1:2\nmax_depth: 3\nbundle: [a=/file, b=/file]\nshutdown_grace: 4s\nworkers: 5\n"
	env := map[string]string{"AUTHZD_GRPC": "127.0.0.1:20", "AUTHZD_MAX_DEPTH": "30", "AUTHZD_BUNDLE": "a=/env, c=/env", "AUTHZD_QUEUE": ""}
	got, err := settings(t, []string{"--max-depth", "300"}, env, file)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		HTTP: "127.0.0.1:1", GRPC: "127.0.0.1:20", Bundles: []string{"a=/env", "c=/env"}, ShutdownGrace: 4 * time.Second,
		Follow:          following{Interval: 10 * time.Second},
		MaxRequestBytes: 256 << 10, MaxBatchBytes: 4 << 20, MaxDepth: 300, MaxBatch: 100, MaxTools: 1000, DecisionTimeout: time.Second, DecisionSteps: 10_000_000, QueueTime: 100 * time.Millisecond, GRPCKeepalive: time.Minute,
		Workers: 5, VerifySample: 10000, Evaluator: "interpreter", LogLevel: "info", DenialForm: "challenge", DenialCode: -31403, ExtraMCPMethods: true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got, err = settings(t, []string{"--bundle", "x=/flag", "--bundle", "y=/flag"}, env, file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"x=/flag", "y=/flag"}, got.Bundles); diff != "" {
		t.Error(diff)
	}
}

func TestConfigFileByEnvironment(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte("log_level: debug"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := settings(t, nil, map[string]string{"AUTHZD_CONFIG": path}, "")
	if err != nil || got.LogLevel != "debug" {
		t.Errorf("config %v, %v", got, err)
	}
}

func TestConfigRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		flags []string
		env   map[string]string
		file  string
		want  []string
	}{
		{"unknown key", nil, nil, "htpt: x", []string{"htpt: no such setting"}},
		{"key spelt as a flag", nil, nil, "max-depth: 1", []string{"max-depth: no such setting"}},
		{"file within the file", nil, nil, "config: x", []string{"config: no such setting"}},
		{"key twice", nil, nil, "http: a\nhttp: b", []string{"already defined"}},
		{"no map", nil, nil, "- http", []string{"must be a map"}},
		{"no YAML", nil, nil, "http: [", []string{"authzd.yaml"}},
		{"value is a map", nil, nil, "http: {a: b}", []string{"http: must be one value, not object"}},
		{"bundle is text", nil, nil, "bundle: a=b", []string{"must be a list of NAME=PATH"}},
		{"bundle of numbers", nil, nil, "bundle: [1]", []string{"must be a list of NAME=PATH"}},
		{"all faults of a file", nil, nil, "max_depth: x\nqueue: y\nfoo: 1", []string{"max_depth", "queue", "foo"}},
		{"one key is text", nil, nil, "reference_key: /k", []string{"reference_key: must be a list of files"}},
		{"absent file", []string{"--config", "/absent.yaml"}, nil, "", []string{"/absent.yaml"}},
		{"environment", nil, map[string]string{"AUTHZD_WORKERS": "many"}, "", []string{"AUTHZD_WORKERS"}},
		{
			"all faults of the values",
			[]string{
				"--http", "here", "--grpc", ":8182", "--bundle", "a", "--bundle", "b=x", "--bundle", "b=y", "--shutdown-grace", "-1s",
				"--max-depth", "0", "--queue", "-1", "--queue-time", "0s", "--grpc-keepalive", "900ms", "--decision-steps", "0", "--log-level", "loud", "--denial-form", "loud", "--denial-code", "-32401", "--decision-timeout", "0s",
			},
			nil, "",
			[]string{
				`http: "here"`, `grpc: ":8182" is every interface`, `"a" is not NAME=PATH`, `the name "b" is given twice`, "shutdown-grace: -1s is not a time above 0", "decision-timeout: 0s is not a time above 0",
				"max-depth: 0", "queue: -1", "queue-time: 0s is not a time above 0", "grpc-keepalive: 900ms", "decision-steps: 0", "log-level", "denial-form", "denial-code: -32401",
			},
		},
		{"certificate without key", []string{"--tls-cert", "c"}, nil, "", []string{"tls-cert and tls-key belong together"}},
		{"client CA alone", []string{"--tls-client-ca", "c"}, nil, "", []string{"tls-client-ca: needs tls-cert", "tls-client-ca and callers belong together"}},
		{"callers alone", nil, nil, "callers: c", []string{"tls-client-ca and callers belong together"}},
		{"one host is text", nil, nil, "allowed_host: a", []string{"must be a list of names"}},
		{"port", []string{"--http", "127.0.0.1:65536"}, nil, "", []string{"no port"}},
		{"follow without a folder", []string{"--follow", "main=https://example.com"}, nil, "", []string{"give --data-dir"}},
		{"follow in the clear", []string{"--follow", "main=http://example.com"}, nil, "", []string{"must be https"}},
		{"follow nothing", []string{"--follow", "main", "--follow-token-file", "x"}, nil, "", []string{"is not NAME=FILE"}},
		{"follow twice", []string{"--follow", "a=https://e.com", "--follow", "a=https://f.com"}, nil, "", []string{"given twice"}},
		{"follow what is local", []string{"--bundle", "a=x", "--follow", "a=https://e.com"}, nil, "", []string{`the name "a" is one of --bundle`}},
		{"token of nobody", []string{"--follow-token-file", "a=x"}, nil, "", []string{`no bundle "a" is followed`}},
		{"token twice", []string{"--follow", "a=https://e.com", "--follow-token-file", "a=x", "--follow-token-file", "a=y"}, nil, "", []string{"given twice"}},
		{"age without a source", []string{"--max-bundle-age", "1s"}, nil, "", []string{"need --follow", "is below 5s"}},
		{"certificate of a follower without key", []string{"--follow-cert", "c", "--follow-interval", "0s"}, nil, "", []string{"follow-cert and follow-key belong together", "follow-interval: 0s is not a time above 0"}},
		{"follow is text", nil, nil, "follow: a", []string{"must be a list of NAME=URL"}},
		{"bundle name", []string{"--bundle", "../a=x"}, nil, "", []string{"is not NAME=PATH"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := settings(t, tt.flags, tt.env, tt.file)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in %v", want, err)
				}
			}
		})
	}
}

// A key of the file and a variable exist for each flag, under the same name.
func TestEveryFlagHasThreeNames(t *testing.T) {
	t.Parallel()
	var c Config
	f := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	c.define(f)
	f.VisitAll(func(flag *pflag.Flag) {
		if flag.Name == configFlag {
			return
		}
		value := flag.DefValue
		if isList(flag) {
			value = "a=b"
		}
		// Neither stands alone.
		if flag.Name == followFlag || flag.Name == followTokenFlag {
			return
		}
		if _, err := settings(t, nil, map[string]string{envName(flag.Name): value}, ""); err != nil {
			t.Errorf("%s=%s: %v", envName(flag.Name), value, err)
		}
		text := strings.ReplaceAll(flag.Name, "-", "_") + `: "` + value + `"`
		if isList(flag) {
			text = strings.ReplaceAll(flag.Name, "-", "_") + ": [a=b]"
		}
		if _, err := settings(t, nil, nil, text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	})
}

// Sources are told by the environment and by the file as they are by flags.
func TestFollowHasThreeNames(t *testing.T) {
	t.Parallel()
	with := []string{"--data-dir", "d", "--bundle-key", "k"}
	env := map[string]string{"AUTHZD_FOLLOW": "a=https://e.com,b=https://f.com/b.tgz", "AUTHZD_FOLLOW_TOKEN_FILE": "b=t"}
	file := "follow: ['a=https://e.com', 'b=https://f.com/b.tgz']\nfollow_token_file: [b=t]\n"
	want := []follow.Source{{Name: "a", URL: "https://e.com"}, {Name: "b", URL: "https://f.com/b.tgz", TokenFile: "t"}}
	for name, given := range map[string]struct {
		env  map[string]string
		file string
	}{"environment": {env, ""}, "file": {nil, file}} {
		c, err := settings(t, with, given.env, given.file)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := c.Follow.sources()
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
}

func TestReferenceKeyFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := strings.Repeat("k", 43)
	good := []string{write("new", key+"\n"), write("old", strings.Repeat("o", 42)+"w")}
	if keys, err := readReferenceKeys(good); err != nil || len(keys) != 2 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	bad := []string{
		filepath.Join(dir, "absent"), write("short", "a2V5"), write("text", "a password, not a key: !!"), write("huge", strings.Repeat("k", maxKeyBytes+1)),
	}
	keys, err := readReferenceKeys(bad)
	if err == nil || len(keys) != 0 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	for _, want := range []string{"absent: ", "short: a reference key of 3 bytes", "text: a reference key is", "huge: larger than"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

func TestBundleNames(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/a/payments": "payments", "/a/payments.tar.gz": "payments", "b.tgz": "b", "/": "bundle", "/a/my bundle": "my-bundle", "/a/.x": "x",
	} {
		if got := nameOf(path); got != want {
			t.Errorf("%s is named %q, want %q", path, got, want)
		}
	}
}
