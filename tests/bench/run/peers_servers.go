package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/authzd/authzd/tests/bench/workload"
)

// peers are the processes under test.
type peers struct {
	cfg     *peersConfig
	cpus    cpuPlan
	w       *workload.Workload
	dir     string
	running []*server
	cases   []peerCase
	// engines are the authzds, by the label of their gRPC door.
	engines []peerEngine
}

type peerEngine struct {
	label  string
	server *server
}

func (p *peers) stop() {
	for _, s := range slices.Backward(p.running) {
		s.stop()
	}
}

// keep has a server stopped in the end.
func (p *peers) keep(s *server, err error) (*server, error) {
	if err == nil {
		p.running = append(p.running, s)
	}
	return s, err
}

func (p *peers) add(label string, s *server, bodies [][]byte, open opener, inFlight ...int) *peerCase {
	p.cases = append(p.cases, peerCase{benchCase: benchCase{label: label, bodies: bodies, open: open, usage: s.usage}, inFlight: inFlight})
	return &p.cases[len(p.cases)-1]
}

// start starts every server and lists the cases, those that are compared with
// each other side by side.
func (p *peers) start(ctx context.Context) error {
	r, err := encodeRequests(p.w)
	if err != nil {
		return err
	}
	for _, step := range []func(context.Context, *requests) error{
		p.startPlain, p.startOthers, p.startNeeds, p.startInterpreted,
	} {
		if err := step(ctx, &r); err != nil {
			return err
		}
	}
	return p.settle(ctx)
}

// shippedGOGC is what authzd sets itself.
const shippedGOGC = "400"

const (
	pathPlain = "/v1/data/authz/allow"
	pathNeeds = "/v1/data/bench/decision"
)

func (p *peers) startPlain(ctx context.Context, r *requests) error {
	opa, err := p.opa(ctx, "plain", "", p.plainOPA(workload.Plain))
	if err != nil {
		return err
	}
	same, err := p.opa(ctx, "plain-gogc", p.cfg.opaGOGC, p.plainOPA(workload.Plain))
	if err != nil {
		return err
	}
	authzd, err := p.authzd(ctx, peerGRPCPlain, p.plainBundle(workload.Plain))
	if err != nil {
		return err
	}
	p.add(peerOPAPlain, opa, r.opaInput, httpOpener(opa.http, pathPlain, plainAllows), 16, 64)
	p.add(peerOPAPlainGOGC, same, r.opaInput, httpOpener(same.http, pathPlain, plainAllows), 16, 64)
	p.add(peerGRPCPlain, authzd, r.grpc, grpcOpener(authzd.grpc), 16, 64)
	p.add(peerRESTPlain, authzd, r.rest, httpOpener(authzd.http, "/v1/check", restAllows), 16)
	return nil
}

func (p *peers) startOthers(ctx context.Context, r *requests) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	// The collector's setting is authzd's, so that the difference is authzd's work.
	echo, err := p.keep(startReady(ctx, p.cpus, cmp.Or(p.cfg.authzdGOGC, shippedGOGC), self, echoArg))
	if err != nil {
		return err
	}
	always := slices.Repeat([]bool{true}, len(r.grpc))
	p.add(peerEcho, echo, r.grpc, grpcOpener(echo.grpc), 16).want = always
	if !slices.Contains(p.cfg.without, peerCerbos) {
		if err := p.startCerbos(ctx); err != nil {
			return err
		}
	}
	if !slices.Contains(p.cfg.without, peerOpenFGA) {
		return p.startOpenFGA(ctx)
	}
	return nil
}

func (p *peers) startNeeds(ctx context.Context, r *requests) error {
	opa, err := p.opa(ctx, "needs", "", p.w.WriteOPA)
	if err != nil {
		return err
	}
	authzd, err := p.authzd(ctx, peerGRPCNeeds, p.w.WriteBundle)
	if err != nil {
		return err
	}
	p.add(peerOPANeeds, opa, r.opa, httpOpener(opa.http, pathNeeds, opaAllows), 16)
	p.add(peerGRPCNeeds, authzd, r.grpc, grpcOpener(authzd.grpc), 16)
	return nil
}

// startInterpreted is about policies that authzd leaves to OPA's interpreter.
func (p *peers) startInterpreted(ctx context.Context, r *requests) error {
	for _, c := range []struct {
		form        workload.PlainForm
		opa, authzd string
	}{
		{workload.HandedOver, peerOPAHanded, peerGRPCHanded},
		{workload.Refused, peerOPARefused, peerGRPCRefused},
	} {
		opa, err := p.opa(ctx, c.opa, "", p.plainOPA(c.form))
		if err != nil {
			return err
		}
		authzd, err := p.authzd(ctx, c.authzd, p.plainBundle(c.form))
		if err != nil {
			return err
		}
		p.add(c.opa, opa, r.opaInput, httpOpener(opa.http, pathPlain, plainAllows), 16)
		p.add(c.authzd, authzd, r.grpc, grpcOpener(authzd.grpc), 16)
	}
	return nil
}

func (p *peers) plainOPA(form workload.PlainForm) func(string) error {
	return func(dir string) error { return p.w.WritePlainOPA(dir, form) }
}

func (p *peers) plainBundle(form workload.PlainForm) func(string) error {
	return func(dir string) error { return p.w.WritePlainBundle(dir, form) }
}

// folder makes a folder and has it filled.
func (p *peers) folder(fill func(dir string) error) (string, error) {
	dir, err := os.MkdirTemp(p.dir, "")
	if err != nil {
		return "", fmt.Errorf("make a folder for the workload: %w", err)
	}
	return dir, fill(dir)
}

func (p *peers) opa(ctx context.Context, name, gogc string, fill func(dir string) error) (*server, error) {
	dir, err := p.folder(fill)
	if err != nil {
		return nil, fmt.Errorf("OPA, %s: %w", name, err)
	}
	return p.keep(startOPA(ctx, p.cfg.bin, p.cpus, dir, gogc))
}

func (p *peers) authzd(ctx context.Context, label string, fill func(dir string) error) (*server, error) {
	dir, err := p.folder(fill)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", label, err)
	}
	s, err := p.keep(startAuthzd(ctx, p.cfg.bin, p.cpus, dir, p.cfg.authzdGOGC, p.cfg.evaluator))
	if err == nil {
		p.engines = append(p.engines, peerEngine{label, s})
	}
	return s, err
}
