package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/mcp"
	"github.com/authzd/authzd/rar"
)

// Config is everything that authzd serve can be told. A setting has one name in
// three spellings: --max-depth, AUTHZD_MAX_DEPTH, and max_depth in the
// configuration file. A flag wins over the environment, the environment over
// the file, the file over the default.
type Config struct {
	HTTP            string
	GRPC            string
	Bundles         []string
	Signing         signing
	Watch           bool
	DataDir         string
	Follow          following
	ReferenceKeys   []string
	DenialForm      string
	DenialCode      int
	ExtraMCPMethods bool
	ShutdownGrace   time.Duration
	MaxRequestBytes int
	MaxBatchBytes   int
	MaxDepth        int
	MaxBatch        int
	MaxTools        int
	DecisionTimeout time.Duration
	Workers         int
	Evaluator       string
	VerifySample    int
	MemoryBudget    string
	Queue           int
	QueueTime       time.Duration
	GRPCKeepalive   time.Duration
	DecisionSteps   int
	LogLevel        string
	TLSCert         string
	TLSKey          string
	TLSClientCA     string
	KeysFile        string
	Callers         string
	Issuers         string
	AllowedHosts    []string
}

const (
	envPrefix = "AUTHZD_"
	// configFlag names the file, so it cannot stand in one.
	configFlag = "config"
	bundleFlag = "bundle"
	// bundleKeyFlag takes files with public keys.
	bundleKeyFlag = "bundle-key"
	// referenceKeyFlag takes files, the current key's first.
	referenceKeyFlag = "reference-key"
	keysFlag         = "keys-file"
	allowedHostFlag  = "allowed-host"
)

// isList tells the settings that may be given several times.
func isList(flag *pflag.Flag) bool { return flag.Value.Type() == "stringArray" }

// define declares the flags of c with their defaults.
func (c *Config) define(f *pflag.FlagSet) {
	f.String(configFlag, "", "YAML file with settings, named as the flags are, with underscores")
	f.StringVar(&c.HTTP, "http", "127.0.0.1:8181", "address of REST; port 0 takes a free one; off loopback only with TLS and known callers")
	f.StringVar(&c.GRPC, "grpc", "127.0.0.1:8182", "address of gRPC; port 0 takes a free one; off loopback only with TLS and known callers")
	f.StringArrayVar(&c.Bundles, bundleFlag, nil, "NAME=PATH of a bundle, folder or archive; may be repeated")
	c.Signing.define(f)
	f.BoolVar(&c.Signing.UnsignedOffLoopback, unsignedFlag, false, "take unsigned bundles though an address is off loopback: whoever can write to their files decides for all callers")
	f.BoolVar(&c.Watch, "watch", false, "load bundles and their keys again when their files change; what can not be loaded leaves the old policy live")
	f.StringVar(&c.DataDir, "data-dir", "", "folder that keeps pushed bundles (authzd bundle push); needs --"+bundleKeyFlag+"; without it nothing can be pushed")
	c.Follow.define(f)
	f.StringArrayVar(&c.ReferenceKeys, referenceKeyFlag, nil, "FILE with a key for authorization references (authzd rar keygen); may be repeated: the first makes them, the others are recognised")
	f.StringVar(&c.DenialForm, "denial-form", "challenge", "form in which missing authorization_details are told over HTTP where a query does not say: challenge, result or auto (docs/mcp-clients.md)")
	f.IntVar(&c.DenialCode, "denial-code", mcp.DefaultDenialCode, "code of JSON-RPC errors that tell a denial of another method than tools/call; of the range that JSON-RPC reserves, -32768 to -32000, only COAZ-MCP's -32001 (docs/mcp-clients.md)")
	f.BoolVar(&c.ExtraMCPMethods, "extra-mcp-methods", true, "decide about MCP methods that COAZ-MCP leaves out (docs/policy.md): server/discover, subscriptions/listen, resources/templates/list, tasks/update; false refuses them as unknown")
	f.DurationVar(&c.ShutdownGrace, "shutdown-grace", 10*time.Second, "time that calls under way get to finish on SIGTERM")
	f.IntVar(&c.MaxRequestBytes, "max-request-bytes", api.DefaultMaxBytes, "largest query")
	f.IntVar(&c.MaxBatchBytes, "max-batch-bytes", api.DefaultMaxBatchBytes, "largest batch")
	f.IntVar(&c.MaxDepth, "max-depth", api.DefaultMaxDepth, "how deep a query may nest")
	f.IntVar(&c.MaxBatch, "max-batch", api.DefaultMaxBatch, "queries in one batch")
	f.IntVar(&c.MaxTools, "max-tools", api.DefaultMaxTools, "tools in one question which of them can be called")
	f.DurationVar(&c.DecisionTimeout, "decision-timeout", engine.DefaultBudget, "time for one evaluation of policy; beyond it the decision is a deny")
	f.IntVar(&c.DecisionSteps, "decision-steps", engine.DefaultMaxSteps, "expressions that the interpreter may evaluate for one decision, each time counted; beyond them it is a deny")
	f.StringVar(&c.Evaluator, "evaluator", evaluatorInterpreter, evaluatorUsage)
	f.IntVar(&c.VerifySample, "verify-sample", engine.DefaultVerifySample, "one decision of so many is evaluated by OPA's interpreter as well, after the answer, and compared; 0 none")
	f.StringVar(&c.MemoryBudget, "memory-budget", "", "memory to stay within, such as 2GiB, by collecting garbage more often near it; pushed bundles may take a quarter of it; default half of what the machine or its control group has; off leaves Go's defaults")
	f.IntVar(&c.Workers, "workers", 0, "evaluations at once; 0 takes a default by the number of CPUs")
	f.IntVar(&c.Queue, "queue", 0, "calls that may wait for a worker before others are refused; 0 takes a default")
	f.DurationVar(&c.QueueTime, "queue-time", api.DefaultQueueTime, "how long a call may have to wait for a worker; who would wait longer is refused at once; once somebody would have, a twentieth of it while more calls come than can be decided; two rounds of --workers in any case")
	f.DurationVar(&c.GRPCKeepalive, "grpc-keepalive", api.DefaultKeepalive, "how long nothing may come on a gRPC connection before its client is asked for a sign of life, and given up without one after a third of that; less than what a firewall or load balancer between keeps idle connections")
	f.StringVar(&c.TLSCert, "tls-cert", "", "PEM file with the certificate chain of both addresses; read again when it changes")
	f.StringVar(&c.TLSKey, "tls-key", "", "PEM file with its private key")
	f.StringVar(&c.TLSClientCA, "tls-client-ca", "", "PEM file with the authorities that vouch for callers by client certificates; needs --callers")
	f.StringVar(&c.Callers, "callers", "", "YAML or JSON file that gives the names in client certificates their rights (docs/security.md)")
	f.StringVar(&c.KeysFile, keysFlag, "", "file with the static keys of callers (authzd keys create)")
	f.StringVar(&c.Issuers, "issuers", "", "YAML or JSON file with the issuers whose access tokens count (docs/security.md); without it tokens are refused, and the claims of callers are believed")
	f.StringArrayVar(&c.AllowedHosts, allowedHostFlag, nil, "NAME that HTTP requests may give as Host, beside loopback and the address itself; may be repeated")
	f.StringVar(&c.LogLevel, "log-level", "info", "debug, info, warn or error")
}

// fill sets what no flag set: from the environment, then from the file. It
// reports every fault.
func (c *Config) fill(f *pflag.FlagSet, getenv func(string) string) error {
	var faults []error
	f.VisitAll(func(flag *pflag.Flag) {
		text := getenv(envName(flag.Name))
		if flag.Changed || text == "" || !isSetting(flag) {
			return
		}
		values := []string{text}
		if isList(flag) {
			values = strings.Split(text, ",")
		}
		if err := setFlag(f, flag.Name, values); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", envName(flag.Name), err))
		}
	})
	name := f.Lookup(configFlag).Value.String()
	if name == "" {
		return errors.Join(faults...)
	}
	return errors.Join(append(faults, fillFromFile(f, name))...)
}

func isSetting(flag *pflag.Flag) bool { return flag.Name != "help" }

func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func setFlag(f *pflag.FlagSet, name string, values []string) error {
	for _, v := range values {
		if err := f.Set(name, strings.TrimSpace(v)); err != nil {
			return err
		}
	}
	return nil
}

// maxConfigBytes bounds the configuration file.
const maxConfigBytes = 1 << 20

func fillFromFile(f *pflag.FlagSet, name string) error {
	file, err := os.Open(name) //nolint:gosec // the operator names the file
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	defer file.Close() //nolint:errcheck // read only, nothing to lose
	data, err := io.ReadAll(io.LimitReader(file, maxConfigBytes+1))
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	doc, err := bundles.DecodeYAML(data, bundles.Limits{MaxYAMLBytes: maxConfigBytes})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if doc.Kind() != rar.Object {
		return fmt.Errorf("%s: must be a map of settings", name)
	}
	var faults []error
	for i := range doc.Len() {
		m := doc.Member(i)
		if err := fillMember(f, m.Name, m.Value); err != nil {
			faults = append(faults, fmt.Errorf("%s: %s: %w", name, m.Name, err))
		}
	}
	return errors.Join(faults...)
}

func fillMember(f *pflag.FlagSet, key string, v rar.Value) error {
	flag := f.Lookup(strings.ReplaceAll(key, "_", "-"))
	if flag == nil || strings.Contains(key, "-") || flag.Name == configFlag || !isSetting(flag) {
		return errors.New("no such setting")
	}
	values, err := settingTexts(flag, v)
	if err != nil || flag.Changed {
		return err
	}
	return setFlag(f, flag.Name, values)
}

// settingTexts spells a setting as its flag would be given.
func settingTexts(flag *pflag.Flag, v rar.Value) ([]string, error) {
	if isList(flag) {
		if v.Kind() != rar.Array {
			return nil, errors.New("must be a list of " + listOf(flag.Name))
		}
		out := make([]string, 0, v.Len())
		for i := range v.Len() {
			if v.Index(i).Kind() != rar.String {
				return nil, errors.New("must be a list of " + listOf(flag.Name))
			}
			out = append(out, v.Index(i).Text())
		}
		return out, nil
	}
	switch v.Kind() {
	case rar.String, rar.Number:
	case rar.Bool:
		return []string{strconv.FormatBool(v.Bool())}, nil
	default:
		return nil, fmt.Errorf("must be one value, not %s", v.Kind())
	}
	return []string{v.Text()}, nil
}

func listOf(name string) string {
	switch name {
	case bundleFlag:
		return "NAME=PATH"
	case bundleKeyFlag:
		return "[ID=]FILE"
	case followFlag:
		return "NAME=URL"
	case followTokenFlag:
		return "NAME=FILE"
	case allowedHostFlag:
		return "names"
	case allowedOriginFlag, issuingFlag:
		return "URLs"
	}
	return "files"
}

// readReferenceKeys reads the files of --reference-key and reports every fault.
func readReferenceKeys(files []string) ([]rar.ReferenceKey, error) {
	var faults []error
	keys := make([]rar.ReferenceKey, 0, len(files))
	for _, name := range files {
		key, err := readReferenceKey(name)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s %s: %w", referenceKeyFlag, name, err))
			continue
		}
		keys = append(keys, key)
	}
	return keys, errors.Join(faults...)
}

const maxKeyBytes = 4 << 10

func readReferenceKey(name string) (rar.ReferenceKey, error) {
	file, err := os.Open(name) //nolint:gosec // the operator names the file
	if err != nil {
		return rar.ReferenceKey{}, err //nolint:wrapcheck // names the file itself
	}
	defer file.Close() //nolint:errcheck // read only, nothing to lose
	text, err := io.ReadAll(io.LimitReader(file, maxKeyBytes+1))
	if err != nil {
		return rar.ReferenceKey{}, err //nolint:wrapcheck // names the file itself
	}
	if len(text) > maxKeyBytes {
		return rar.ReferenceKey{}, fmt.Errorf("larger than %d bytes", maxKeyBytes)
	}
	return rar.ParseReferenceKey(text)
}

// Validate reports every fault of the settings.
func (c *Config) Validate() error {
	var faults []error
	bad := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	for _, a := range []struct{ flag, addr string }{{"http", c.HTTP}, {"grpc", c.GRPC}} {
		if err := validAddress(a.addr); err != nil {
			bad("%s: %w", a.flag, err)
		}
	}
	refs, err := c.bundleRefs()
	if err != nil {
		faults = append(faults, err)
	}
	if err := c.Follow.validate(c.DataDir, refs); err != nil {
		faults = append(faults, err)
	}
	if c.DataDir != "" && len(c.Signing.BundleKeys) == 0 {
		bad("data-dir: pushed bundles need a signature: give --%s", bundleKeyFlag)
	}
	if err := errors.Join(c.Signing.validate(c.Bundles, c.HTTP, c.GRPC), memory(c.MemoryBudget).valid(), validEvaluator(c.Evaluator)); err != nil {
		faults = append(faults, err)
	}
	faults = append(faults, validTimes(
		flagTime{"shutdown-grace", c.ShutdownGrace}, flagTime{"decision-timeout", c.DecisionTimeout}, flagTime{"queue-time", c.QueueTime})...)
	if c.GRPCKeepalive < time.Second {
		bad("grpc-keepalive: %s is not a time of at least %s", c.GRPCKeepalive, time.Second)
	}
	for _, n := range []struct {
		flag     string
		n, least int
	}{
		{"max-request-bytes", c.MaxRequestBytes, 1},
		{"max-batch-bytes", c.MaxBatchBytes, 1},
		{"max-depth", c.MaxDepth, 1},
		{"max-batch", c.MaxBatch, 1},
		{"max-tools", c.MaxTools, 1},
		{"workers", c.Workers, 0},
		{"verify-sample", c.VerifySample, 0},
		{"queue", c.Queue, 0},
		{"decision-steps", c.DecisionSteps, 1},
	} {
		if n.n < n.least {
			bad("%s: %d is below %d", n.flag, n.n, n.least)
		}
	}
	if !api.ValidDenialForm(c.DenialForm) {
		bad("denial-form: %q is not one of challenge, result, auto", c.DenialForm)
	}
	if c.DenialCode == 0 || !mcp.ValidDenialCode(c.DenialCode) {
		bad("denial-code: %d is reserved by JSON-RPC or MCP for something else, or is no number of 32 bits; of -32768 to -32000 only -32001 is possible", c.DenialCode)
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		bad("tls-cert and tls-key belong together: give both")
	}
	if c.TLSClientCA != "" && c.TLSCert == "" {
		bad("tls-client-ca: needs tls-cert and tls-key")
	}
	if (c.TLSClientCA == "") != (c.Callers == "") {
		bad("tls-client-ca and callers belong together: a certificate gives a name, and callers its rights")
	}
	if _, err := c.level(); err != nil {
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// flagTime is a flag that has to be a time above 0.
type flagTime struct {
	flag string
	d    time.Duration
}

// validTimes reports those that are not.
func validTimes(list ...flagTime) []error {
	var faults []error
	for _, f := range list {
		if f.d <= 0 {
			faults = append(faults, fmt.Errorf("%s: %s is not a time above 0", f.flag, f.d))
		}
	}
	return faults
}

func validAddress(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT", addr)
	}
	if host == "" {
		return fmt.Errorf("%q is every interface: write 127.0.0.1:%s", addr, port)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q has no port from 0 to 65535", addr)
	}
	return nil
}

// bundleRefs reads --bundle; names are unique.
func (c *Config) bundleRefs() ([]bundleRef, error) {
	var faults []error
	seen := map[string]bool{}
	refs := make([]bundleRef, 0, len(c.Bundles))
	for _, s := range c.Bundles {
		ref, err := parseBundleRef(s)
		switch {
		case err != nil:
			faults = append(faults, err)
		case seen[ref.Name]:
			faults = append(faults, fmt.Errorf("bundle: the name %q is given twice", ref.Name))
		}
		seen[ref.Name] = true
		refs = append(refs, ref)
	}
	return refs, errors.Join(faults...)
}

func (c *Config) level() (slog.Level, error) {
	switch c.LogLevel {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return slog.LevelInfo, fmt.Errorf("log-level: %q is not one of debug, info, warn, error", c.LogLevel)
}
