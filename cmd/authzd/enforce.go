package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"os/user"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/mcp"
	"github.com/authzd/authzd/mcp/pep"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// Values of --mode.
const (
	modeEnforce = "enforce"
	modeObserve = "observe"
)

// enforceConfig is what proxy and wrap have in common. Of Config it uses what a
// service within the process needs.
type enforceConfig struct {
	Config
	PDP          string
	remote       remoteOptions
	Subject      string
	Resource     string
	Evaluator    string
	VerifySample int

	Mode       string
	PlainLists bool
	Timeout    time.Duration
	MaxMessage int
	MaxResult  int

	flags *pflag.FlagSet
}

// define declares the flags; usage and defaults that differ are the command's.
func (c *enforceConfig) define(f *pflag.FlagSet, logLevel string) {
	c.flags = f
	f.String(configFlag, "", "YAML file with settings, named as the flags are, with underscores")
	f.StringArrayVar(&c.Bundles, bundleFlag, nil, "NAME=PATH of a bundle that decides in this process, folder or archive; may be repeated")
	f.StringVar(&c.PDP, "pdp", "", "gRPC ADDR of the authzd that decides, in the place of --bundle")
	c.Signing.define(f)
	f.StringArrayVar(&c.ReferenceKeys, referenceKeyFlag, nil, "FILE with a key for authorization references (authzd rar keygen); may be repeated; not with --pdp")
	f.StringVar(&c.Issuers, "issuers", "", "YAML or JSON file with the issuers whose access tokens count (docs/security.md); not with --pdp")
	f.StringVar(&c.DenialForm, "denial-form", "challenge", "form in which missing authorization_details are told over HTTP: challenge, result or auto (docs/mcp-clients.md); not with --pdp")
	f.IntVar(&c.DenialCode, "denial-code", mcp.DefaultDenialCode, "code of JSON-RPC errors that tell a denial of another method than tools/call (docs/mcp-clients.md); not with --pdp")
	f.BoolVar(&c.ExtraMCPMethods, "extra-mcp-methods", true, "decide about MCP methods that COAZ-MCP leaves out (docs/policy.md); false refuses them as unknown; not with --pdp")
	f.DurationVar(&c.DecisionTimeout, "decision-timeout", engine.DefaultBudget, "time for one evaluation of policy; beyond it the decision is a deny; not with --pdp")
	f.StringVar(&c.Evaluator, "evaluator", evaluatorInterpreter, evaluatorUsage+"; not with --pdp")
	f.IntVar(&c.VerifySample, "verify-sample", engine.DefaultVerifySample, "one decision of so many is evaluated by OPA's interpreter as well, after the answer, and compared; 0 none; not with --pdp")
	f.StringVar(&c.Subject, "subject", "", "person on whose behalf every client acts, without an access token: for personal use")
	f.StringVar(&c.Resource, "resource", "", "resource identifier of the MCP server, the audience of its tokens")
	f.StringVar(&c.Mode, "mode", modeEnforce, "enforce, or observe: decide and log, and enforce nothing")
	f.BoolVar(&c.PlainLists, "plain-lists", false, "leave listed tools without the note of what they need ("+pep.NeedsKey+" in _meta)")
	f.DurationVar(&c.Timeout, "ask-timeout", pep.DefaultTimeout, "time for one question to the decision service; beyond it the request is refused")
	f.IntVar(&c.MaxMessage, "max-message-bytes", pep.DefaultMaxMessage, "largest message of a client")
	f.IntVar(&c.MaxResult, "max-result-bytes", pep.DefaultMaxResult, "largest list, and largest event or line, of the server")
	f.StringVar(&c.LogLevel, "log-level", logLevel, "debug, info, warn or error; info has each denial, debug each decision")
	c.remote.defineFor(f, "pdp")
}

// validate reports every fault of what define declared; addresses are what is
// listened to.
func (c *enforceConfig) validate(addresses ...string) error {
	var faults []error
	bad := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if _, err := c.bundleRefs(); err != nil {
		faults = append(faults, err)
	}
	if err := errors.Join(c.Signing.validate(c.Bundles, addresses...), validEvaluator(c.Evaluator)); err != nil {
		faults = append(faults, err)
	}
	faults = append(faults, c.validatePDP()...)
	if c.Mode != modeEnforce && c.Mode != modeObserve {
		bad("mode: %q is not one of enforce, observe", c.Mode)
	}
	if !api.ValidDenialForm(c.DenialForm) {
		bad("denial-form: %q is not one of challenge, result, auto", c.DenialForm)
	}
	if c.DenialCode == 0 || !mcp.ValidDenialCode(c.DenialCode) {
		bad("denial-code: %d is reserved by JSON-RPC or MCP for something else, or is no number of 32 bits; of -32768 to -32000 only -32001 is possible", c.DenialCode)
	}
	if c.Subject != "" && c.Issuers != "" {
		bad("subject and issuers: with --issuers a person shows a token")
	}
	faults = append(faults, validTimes(flagTime{"decision-timeout", c.DecisionTimeout}, flagTime{"ask-timeout", c.Timeout})...)
	for _, n := range []struct {
		flag string
		n    int
	}{{"max-message-bytes", c.MaxMessage}, {"max-result-bytes", c.MaxResult}} {
		if n.n < 1 {
			bad("%s: %d is below 1", n.flag, n.n)
		}
	}
	if _, err := c.level(); err != nil {
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// validatePDP reports what does not go with --pdp, or without it.
func (c *enforceConfig) validatePDP() []error {
	if c.PDP == "" {
		if err := c.remote.localFor("pdp"); err != nil {
			return []error{err}
		}
		return nil
	}
	var faults []error
	if err := validAddress(c.PDP); err != nil {
		faults = append(faults, fmt.Errorf("pdp: %w", err))
	}
	if c.decidesHere() {
		faults = append(faults, errors.New("pdp: another authzd decides, so --bundle, --bundle-key, --watch, --issuers and --reference-key belong to it"))
	}
	for _, name := range []string{"denial-form", "denial-code", "extra-mcp-methods", "decision-timeout"} {
		if c.flags.Changed(name) {
			faults = append(faults, fmt.Errorf("%s: another authzd decides, so it belongs to that", name))
		}
	}
	return faults
}

// decidesHere tells whether something was given that another authzd would have
// no use for.
func (c *enforceConfig) decidesHere() bool {
	return len(c.Bundles) > 0 || c.Issuers != "" || len(c.ReferenceKeys) > 0 || len(c.Signing.BundleKeys) > 0 || c.Watch
}

func (c *enforceConfig) logger(std stdio) (*slog.Logger, *logQueue) {
	level, _ := c.level() // validated
	return newLog(std, level)
}

// enforcer makes the enforcement point, and says loudly if it enforces nothing.
func (c *enforceConfig) enforcer(d *decisions, log *slog.Logger) (*pep.Enforcer, error) {
	if c.Mode == modeObserve {
		log.Error("OBSERVE MODE: decisions are logged and NOT enforced; every request goes on", "mode", modeObserve)
	}
	return pep.New(pep.Options{ //nolint:wrapcheck // names what is missing
		Decider: d, Server: c.Resource, Observe: c.Mode == modeObserve, PlainLists: c.PlainLists,
		Timeout: c.Timeout, MaxMessage: c.MaxMessage, MaxResult: c.MaxResult, Log: log,
	})
}

// subject is the person of --subject.
func (c *enforceConfig) subject() *authzdv1.Subject {
	if c.Subject == "" {
		return nil
	}
	return &authzdv1.Subject{Type: "identity", Id: c.Subject}
}

// localUser names who runs this process.
func localUser() string {
	u, err := user.Current()
	if err != nil {
		return ""
	}
	return u.Username
}

// decisions is the service that decides: in this process, or another.
type decisions struct {
	pep.Decider
	// types tells what policy can ask for.
	types func(context.Context, *authzdv1.ListTypesRequest) (*authzdv1.ListTypesResponse, error)
	// ready tells why nothing can be decided; nil: it can.
	ready func(context.Context) error
	// revision is what decides, as far as that is known.
	revision func() string
	// run keeps it going until ctx is done.
	run   func(context.Context) error
	close func()
	// server has the metrics, and decides; nil: the other process does.
	server *api.Server
}

// decide opens the service.
func (c *enforceConfig) decide(ctx context.Context, std stdio, log *slog.Logger, lines *logQueue, reload bool) (*decisions, error) {
	if c.PDP != "" {
		return c.remoteDecisions(std)
	}
	return c.localDecisions(ctx, log, lines, reload)
}

func (c *enforceConfig) remoteDecisions(std stdio) (*decisions, error) {
	conn, err := c.remote.dial(std, c.PDP, pep.DialOptions()...)
	if err != nil {
		return nil, err
	}
	client := pep.NewClient(conn)
	return &decisions{
		Decider: client, types: client.ListTypes,
		ready:    func(ctx context.Context) error { return servedBy(ctx, conn) },
		revision: func() string { return "" },
		run:      func(ctx context.Context) error { <-ctx.Done(); return nil },
		close:    func() { _ = conn.Close() }, // nothing is under way
	}, nil
}

// servedBy asks a server whether it can decide.
func servedBy(ctx context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	answer, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	switch {
	case err != nil:
		return errors.New("the decision service is away")
	case answer.GetStatus() != healthpb.HealthCheckResponse_SERVING:
		return errors.New("the decision service has no policy")
	}
	return nil
}

// localDecisions loads policy into this process. With reload SIGHUP loads it
// again.
func (c *enforceConfig) localDecisions(ctx context.Context, log *slog.Logger, lines *logQueue, reload bool) (*decisions, error) {
	refs, err := c.bundleRefs()
	if err != nil {
		return nil, err
	}
	keys, err := readReferenceKeys(c.ReferenceKeys)
	if err != nil {
		return nil, err
	}
	p := policySource{
		refs: refs, signing: c.Signing, keyFiles: c.ReferenceKeys, log: log,
		engine: engine.New(engine.Options{Budget: c.DecisionTimeout, ReferenceKeys: keys, Compiled: c.Evaluator == evaluatorCompiled, VerifySample: orNever(c.VerifySample), Log: log}),
	}
	if c.Watch {
		p.watched = newWatched(p.files())
	}
	if err := p.load(ctx); err != nil {
		return nil, err
	}
	options := api.Options{
		Engine: p.engine, Log: log, LogLost: lines.lost.Load, Denial: api.DenialOptions{Form: mcp.Preference(c.DenialForm), DenialCode: c.DenialCode},
		StrictMethods: !c.ExtraMCPMethods,
		Limits:        api.Limits{MaxBytes: c.MaxMessage + api.DefaultMaxBytes, MaxBatchBytes: c.MaxResult},
	}
	issuers, err := c.issuers(log)
	if err != nil {
		return nil, err
	}
	if issuers != nil { // a nil pointer would be a Verifier that is there
		options.Verifier = issuers
		p.reloadIssuers = issuers.reload
	}
	server, err := api.New(options)
	if err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	p.counted = server.CountReload
	local := server.Local()
	return &decisions{
		Decider: local, types: local.ListTypes, server: server,
		ready:    func(context.Context) error { return nil },
		revision: func() string { return p.engine.Snapshot().Policy().Revision },
		close:    func() {},
		run: func(ctx context.Context) error {
			group, ctx := errgroup.WithContext(ctx)
			group.Go(func() error { return server.RunLocal(ctx) })
			group.Go(func() error { return p.engine.Verify(ctx) })
			if issuers != nil {
				group.Go(func() error { return issuers.run(ctx) })
			}
			if reload {
				hangups := make(chan os.Signal, 1)
				signal.Notify(hangups, syscall.SIGHUP)
				defer signal.Stop(hangups)
				group.Go(func() error { p.reloadOn(ctx, hangups); return nil })
			}
			return group.Wait()
		},
	}, nil
}

// metadata gives the members of RFC 9728 metadata that follow from policy.
func (d *decisions) metadata(resource string) func(context.Context) ([]byte, error) {
	return func(ctx context.Context) ([]byte, error) {
		answer, err := d.types(ctx, &authzdv1.ListTypesRequest{Resource: resource})
		if err != nil {
			return nil, fmt.Errorf("ask what policy can ask for: %w", err)
		}
		return answer.GetResourceMetadata(), nil
	}
}

// tokenIssuers are the issuers of the file of --issuers, for metadata.
func (c *Config) tokenIssuers() []string {
	if c.Issuers == "" {
		return nil
	}
	config, _, err := readIssuers(c.Issuers)
	if err != nil {
		return nil // said already
	}
	var out []string
	for _, i := range config.Issuers {
		out = append(out, i.Issuer)
	}
	return out
}
