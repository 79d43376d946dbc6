package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/mcp"
)

func newServe(std stdio, getenv func(string) string) *cobra.Command {
	var c Config
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve decisions over gRPC and REST",
		Long: "Serves decisions. Standard output gets one line of JSON once the server can decide; standard error\n" +
			"gets the log, one line of JSON each. SIGTERM lets calls under way finish, SIGHUP loads bundles,\n" +
			"reference keys, issuers, certificates and callers again and keeps the old ones if the new are at fault. Certificates,\n" +
			"keys of callers and --callers are also read when they change, and with --watch bundles. Without --bundle everything is denied.\n\n" +
			"With --bundle-key every bundle must be signed by one of these keys (docs/bundles.md). Without, bundles need no\n" +
			"signature while both addresses are on loopback; elsewhere they do, unless --" + unsignedFlag + " says otherwise.\n\n" +
			"With --data-dir bundles can be pushed to the server (authzd bundle push); they survive a restart, and always need a\n" +
			"signature. They are live together with those of --bundle, whose names they can not have.\n\n" +
			"With --follow NAME=URL a bundle is kept as another server has it, verified and tested as if it had been pushed. The\n" +
			"server goes on deciding while that one is away, up to --max-bundle-age.\n\n" +
			"With --issuers access tokens are verified, and claims and subjects that callers assert count only where their\n" +
			"issuer admits it. SIGHUP reads the file again.\n\n" +
			"Whoever reaches a loopback address may call, unless --keys-file or --tls-client-ca is given. Any other\n" +
			"address needs --tls-cert, --tls-key, and one of these two (docs/security.md).\n\n" +
			"Every flag is also an environment variable (--max-depth is AUTHZD_MAX_DEPTH; AUTHZD_BUNDLE takes a\n" +
			"comma-separated list) and a key of the --config file (max_depth; bundle takes a list).\n" +
			"No call waits for the log: lines that can not be written are lost and counted.\n" +
			"The garbage collector runs at GOGC=400, less where much is live, within --memory-budget; GOGC and GOMEMLIMIT are honoured.",
		Example: `  authzd serve --bundle main=policy --watch
  authzd serve --bundle main=policy.tar.gz --bundle-key release.pub.pem --bundle-scope production`,
		Args: cobra.NoArgs,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := c.fill(cmd.Flags(), getenv); err != nil {
			return err
		}
		if err := c.Validate(); err != nil {
			return err
		}
		return serve(cmd.Context(), std, c)
	}
	c.define(cmd.Flags())
	return cmd
}

// readyEvery is how often a server that waits for a policy looks for it.
const readyEvery = 25 * time.Millisecond

// serve runs the server until ctx is done.
func serve(ctx context.Context, std stdio, c Config) (err error) {
	level, err := c.level()
	if err != nil {
		return err
	}
	log, lines := newLog(std, level)
	defer lines.start(ctx)()
	collecting, err := memory(c.MemoryBudget).set(std, log)
	if err != nil {
		return err
	}
	refs, err := c.bundleRefs()
	if err != nil {
		return err
	}
	keys, err := readReferenceKeys(c.ReferenceKeys)
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		log.Info("no reference key is configured: hints carry no authorization_reference")
	}
	p := policySource{
		refs: refs, signing: c.Signing, keyFiles: c.ReferenceKeys, log: log,
		engine: engine.New(engine.Options{Budget: c.DecisionTimeout, MaxSteps: int64(c.DecisionSteps), ReferenceKeys: keys, Compiled: c.Evaluator == evaluatorCompiled, VerifySample: orNever(c.VerifySample), Log: log}),
	}
	if c.Watch {
		p.watched = newWatched(p.files())
	}
	if p.pushed, err = openPushed(ctx, c.DataDir, memory(c.MemoryBudget), p.engine, log); err != nil {
		return err
	}
	// No call is under way when serving has ended.
	defer func() { err = errors.Join(err, p.pushed.close()) }()
	if err := p.begin(ctx); err != nil {
		return err
	}
	followers, err := c.Follow.open(p.pushed, log)
	if err != nil {
		return err
	}
	p.fresh = followers.Fresh
	issuers, err := c.issuers(log)
	if err != nil {
		return err
	}
	if c.KeysFile == "" && c.TLSClientCA == "" {
		log.Info("callers are not told apart: whoever can connect has every right")
	}
	options := api.Options{
		Engine: p.engine, HTTPAddr: c.HTTP, GRPCAddr: c.GRPC,
		Limits:  api.Limits{MaxBytes: c.MaxRequestBytes, MaxBatchBytes: c.MaxBatchBytes, MaxDepth: c.MaxDepth, MaxBatch: c.MaxBatch, MaxTools: c.MaxTools},
		Workers: c.Workers, Queue: c.Queue, QueueTime: c.QueueTime, Keepalive: c.GRPCKeepalive, Grace: c.ShutdownGrace, Log: log, LogLost: lines.lost.Load,
		Access: api.Access{
			CertFile: c.TLSCert, KeyFile: c.TLSKey, ClientCAFile: c.TLSClientCA, CallersFile: c.Callers, KeysFile: c.KeysFile,
		},
		AllowedHosts: c.AllowedHosts,
		Denial:       api.DenialOptions{Form: mcp.Preference(c.DenialForm), DenialCode: c.DenialCode},
		// Options say what is left out, so that their zero value is the default.
		StrictMethods: !c.ExtraMCPMethods,
		Bundles:       p.pushed.bundles(), Blocks: p.pushed.blockList(),
		Follow: followers,
	}
	if issuers != nil { // a nil pointer would be a Verifier that is there
		options.Verifier = issuers
		p.reloadIssuers = issuers.reload
	}
	server, err := api.New(options)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	p.reloadServer, p.counted = server.Reload, server.CountReload
	if err := server.Listen(ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	// Heard from here on: a signal that arrives before must not end the process.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)

	group, running := errgroup.WithContext(ctx)
	// Tokens of calls under way need the verifier until the server has ended.
	verifying, stopVerifying := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() error {
		defer stopVerifying()
		return server.Run(running)
	})
	group.Go(func() error { p.reloadOn(running, hangups); return nil })
	group.Go(func() error { return p.pushed.run(running) })
	group.Go(func() error { return followers.Run(running) })
	group.Go(func() error { return p.engine.Verify(running) })
	group.Go(func() error { return collecting(running) })
	if issuers != nil {
		group.Go(func() error { return issuers.run(verifying) })
	}
	group.Go(func() error {
		if live := p.firstSnapshot(running); live != nil {
			return writeReady(std.out, server, live)
		}
		return nil
	})
	err = group.Wait()
	log.Info("stopped")
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// issuers opens the file of --issuers; nil: no issuer is configured.
func (c *Config) issuers(log *slog.Logger) (*issuerSource, error) {
	if c.Issuers == "" {
		log.Info("no issuer is configured: access tokens are refused, and claims are believed as callers assert them")
		return nil, nil //nolint:nilnil // none is an answer
	}
	return openIssuers(c.Issuers, log)
}

// writeReady prints the one line that scripts wait for.
func writeReady(w io.Writer, s *api.Server, live *engine.Snapshot) error {
	line := struct {
		Event    string `json:"event"`
		HTTP     string `json:"http"`
		GRPC     string `json:"grpc"`
		Revision string `json:"revision"`
	}{"ready", s.HTTPAddr().String(), s.GRPCAddr().String(), live.Policy().Revision}
	if err := json.NewEncoder(w).Encode(line); err != nil {
		return fmt.Errorf("write the ready line: %w", err)
	}
	return nil
}

// policySource loads the bundles that the operator named.
type policySource struct {
	refs []bundleRef
	// signing says what signatures the bundles need.
	signing signing
	// watched tells when files of bundles or their keys change; nil: nobody
	// looks.
	watched *watched
	// pushed keeps pushed bundles; nil: none are taken.
	pushed *pushed
	// fresh tells why nothing may be decided though a policy is live; nil: never.
	fresh func() error
	// counted counts what was loaded again, or not; nil: nobody does.
	counted func(files string, loaded bool)
	// keyFiles are those of --reference-key.
	keyFiles []string
	engine   *engine.Engine
	log      *slog.Logger
	// reloadServer reads the server's own files; nil: it has none.
	reloadServer func(context.Context)
	// reloadIssuers reads the file of issuers; nil: there is none.
	reloadIssuers func(context.Context)
}

// load compiles the bundles and makes them live. On an error what was live
// stays.
func (p *policySource) load(ctx context.Context) error {
	if p.signing.UnsignedOffLoopback {
		p.log.Warn("unsigned bundles are taken off loopback: whoever can write to their files decides", "flag", unsignedFlag)
	}
	verify, err := p.signing.verification()
	// A key that was withdrawn stops counting for pushes whatever else is wrong.
	p.pushed.trust(verify)
	if err != nil {
		return err
	}
	set, err := openVerified(p.refs, verify)
	if err != nil {
		return err
	}
	warnings, err := p.goLive(ctx, verify, set)
	if err != nil {
		return err
	}
	for _, w := range set.warnings() {
		p.log.Warn("file left out", "detail", w)
	}
	for _, w := range warnings {
		p.log.Warn("policy warning", "code", string(w.Code), "file", w.File, "row", w.Row, "col", w.Col, "message", w.Message)
	}
	for i, s := range set.signatures {
		p.log.Info("bundle verified", "bundle", p.refs[i].Name, "key", s.KeyID, "algorithm", s.Algorithm, "scope", s.Scope, "digest", s.Digest)
	}
	if len(p.refs) == 0 && (p.pushed == nil || !p.pushed.registry.Pushed()) {
		p.log.Warn("no bundle is configured: the default policy denies every call")
	}
	live := p.engine.Snapshot().Policy()
	p.log.Info("policy is live", "bundle", live.Bundle, "revision", live.Revision)
	return nil
}

// begin is the first load.
func (p *policySource) begin(ctx context.Context) error {
	err := p.load(ctx)
	if err != nil && p.pushed.mayWait(err) {
		p.log.Error("no policy is live: the active bundles can not be loaded; push or activate one that can", "error", err.Error())
		return nil
	}
	return err
}

// goLive compiles the set, with what was pushed, and makes it live.
func (p *policySource) goLive(ctx context.Context, verify *verification, set *policySet) ([]engine.Finding, error) {
	if p.pushed != nil {
		return p.pushed.load(ctx, verify, set)
	}
	snapshot, warnings, err := set.compile(ctx)
	if err == nil {
		p.engine.Swap(snapshot)
		p.engine.Prepare(snapshot) //nolint:contextcheck // its own bound; what it makes is kept
	}
	return warnings, err
}

// The values of --evaluator.
const (
	evaluatorInterpreter = "interpreter"
	evaluatorCompiled    = "compiled"
	evaluatorUsage       = "what evaluates policy: interpreter, OPA's, or compiled: Go closures, many times faster, experimental: they have been seen to answer otherwise than OPA for uncommon policy (docs/adr/0022-compiled-evaluation.md)"
)

func validEvaluator(text string) error {
	if text != evaluatorInterpreter && text != evaluatorCompiled {
		return fmt.Errorf("evaluator: %q is neither %s nor %s", text, evaluatorInterpreter, evaluatorCompiled)
	}
	return nil
}

// orNever is the engine's word for a flag whose 0 is none.
func orNever(sample int) int {
	if sample == 0 {
		return -1
	}
	return sample
}

// firstSnapshot waits until a decision can be made; nil: that did not come.
func (p *policySource) firstSnapshot(ctx context.Context) *engine.Snapshot {
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	for {
		// In this order: what is live after the bundles came is made of them.
		if p.fresh == nil || p.fresh() == nil {
			if live := p.engine.Snapshot(); live != nil {
				return live
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// reloadOn loads everything again on every signal, and the bundles when they
// change and are watched, until ctx is done.
func (p *policySource) reloadOn(ctx context.Context, hangups <-chan os.Signal) {
	var ticks <-chan time.Time // nil: never
	if p.watched != nil {
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		ticks = tick.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
			if p.watched.changed() {
				p.log.Info("files of bundles have changed")
				p.reloadBundles(ctx)
			}
		case <-hangups:
			if p.watched != nil {
				p.watched.look()
			}
			p.reload(ctx)
		}
	}
}

// reload reads keys and bundles anew; what can not be read stays as it was.
func (p *policySource) reload(ctx context.Context) {
	if keys, err := readReferenceKeys(p.keyFiles); err != nil {
		p.log.Error("reference keys not loaded, the old ones stay", "error", err.Error())
	} else {
		p.engine.SetReferenceKeys(keys)
	}
	if p.reloadServer != nil {
		p.reloadServer(ctx)
	}
	if p.reloadIssuers != nil {
		p.reloadIssuers(ctx)
	}
	p.reloadBundles(ctx)
}

func (p *policySource) reloadBundles(ctx context.Context) {
	err := p.load(ctx)
	if err != nil {
		p.logRefused(err)
	}
	if p.counted != nil {
		p.counted("bundles", err == nil)
	}
}

// files are where bundles and their keys come from.
func (p *policySource) files() []string {
	var out []string
	for _, ref := range p.refs {
		out = append(out, ref.Path)
	}
	for _, v := range p.signing.BundleKeys {
		_, name := splitKeyFile(v)
		out = append(out, name)
	}
	return out
}

func (p *policySource) logRefused(err error) {
	var live engine.PolicyRef
	if s := p.engine.Snapshot(); s != nil {
		live = s.Policy()
	}
	var refused *engine.CompileError
	if !errors.As(err, &refused) {
		p.log.Error("bundles not loaded, the old policy stays", "revision", live.Revision, "error", err.Error())
		return
	}
	p.log.Error("bundles not loaded, the old policy stays", "revision", live.Revision, "error", strings.Join(findingTexts(refused.Findings), "\n"))
}
