package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/authzd/authzd/tests/bench/workload"
)

// startBeside starts a peer on free ports and waits for its health.
func (p *peers) startBeside(ctx context.Context, health string, argv func(httpAddr, grpcAddr string) ([]string, error)) (*server, error) {
	httpAddr, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	grpcAddr, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	args, err := argv(httpAddr, grpcAddr)
	if err != nil {
		return nil, err
	}
	s, stdout, err := start(p.cpus, "", args...)
	if err != nil {
		return nil, fmt.Errorf("%w (or leave it out: -without)", err)
	}
	s.drain(stdout)
	s.http, s.grpc = httpAddr, grpcAddr
	p.running = append(p.running, s)
	if err := s.waitHealthy(ctx, health); err != nil {
		return nil, fmt.Errorf("start %s: %w: %s", filepath.Base(args[0]), err, s.stderr)
	}
	return s, nil
}

// startCerbos serves the policy from a folder, with audit log and telemetry off.
func (p *peers) startCerbos(ctx context.Context) error {
	s, err := p.startBeside(ctx, "/_cerbos/health", func(httpAddr, grpcAddr string) ([]string, error) {
		dir, err := p.folder(p.w.WriteCerbos)
		if err != nil {
			return nil, fmt.Errorf("cerbos: %w", err)
		}
		config := map[string]any{
			"server":    map[string]any{"httpListenAddr": httpAddr, "grpcListenAddr": grpcAddr},
			"telemetry": map[string]any{"disabled": true},
			"audit":     map[string]any{"enabled": false},
			"storage":   map[string]any{"driver": "disk", "disk": map[string]any{"directory": dir, "watchForChanges": false}},
		}
		text, err := json.Marshal(config) // a part of YAML
		if err != nil {
			return nil, fmt.Errorf("cerbos: %w", err)
		}
		file := filepath.Join(p.dir, "cerbos.yaml")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			return nil, fmt.Errorf("cerbos: %w", err)
		}
		return []string{filepath.Join(p.cfg.bin, "cerbos"), "server", "--config", file, "--log-level=error"}, nil
	})
	if err != nil {
		return err
	}
	const method = "/cerbos.svc.v1.CerbosService/CheckResources"
	api, err := reflectService(ctx, s.grpc, method)
	if err != nil {
		return fmt.Errorf("cerbos: %w", err)
	}
	defer api.close()
	var bodies [][]byte
	for i := range p.w.Requests {
		text, err := workload.CerbosRequest(p.w.Requests[i].Query)
		if err != nil {
			return err
		}
		b, err := api.encode(method, text)
		if err != nil {
			return fmt.Errorf("cerbos: %w", err)
		}
		bodies = append(bodies, b)
	}
	p.add(peerCerbosGRPC, s, bodies, grpcMethodOpener(s.grpc, method, cerbosAllows), 16)
	return nil
}

// cerbosAllows reads results[0].actions of a CheckResourcesResponse, of which
// there is one.
func cerbosAllows(text []byte) (bool, error) {
	const results, actions, value, allow = 2, 2, 2, 1
	for _, number := range []protowire.Number{results, actions} {
		f, err := protoField(text, number, protowire.BytesType)
		if err != nil || f == nil {
			return false, errors.Join(errors.New("an answer of Cerbos without an effect"), err)
		}
		if text, _ = protowire.ConsumeBytes(f); text == nil {
			return false, errors.New("an answer of Cerbos without an effect")
		}
	}
	return protoEnum(text, value, allow)
}

// startOpenFGA serves from memory, with model and grants written to it.
func (p *peers) startOpenFGA(ctx context.Context) error {
	s, err := p.startBeside(ctx, "/healthz", func(httpAddr, grpcAddr string) ([]string, error) {
		return []string{
			filepath.Join(p.cfg.bin, "openfga"), "run", "--datastore-engine=memory", "--http-addr=" + httpAddr, "--grpc-addr=" + grpcAddr,
			"--log-level=error", "--playground-enabled=false", "--metrics-enabled=false",
		}, nil
	})
	if err != nil {
		return err
	}
	const service = "/openfga.v1.OpenFGAService/"
	api, err := reflectService(ctx, s.grpc, service+"Check")
	if err != nil {
		return fmt.Errorf("openfga: %w", err)
	}
	defer api.close()
	store, model, err := p.fillOpenFGA(ctx, api, service)
	if err != nil {
		return fmt.Errorf("openfga: %w", err)
	}
	var bodies [][]byte
	var want []bool
	for i := range p.w.Requests {
		text, allow, err := p.w.OpenFGARequest(p.w.Requests[i].Query, store, model)
		if err != nil {
			return err
		}
		b, err := api.encode(service+"Check", text)
		if err != nil {
			return fmt.Errorf("openfga: %w", err)
		}
		bodies, want = append(bodies, b), append(want, allow)
	}
	p.add(peerOpenFGAGRPC, s, bodies, grpcMethodOpener(s.grpc, service+"Check", openFGAAllows), 16).want = want
	return nil
}

func (p *peers) fillOpenFGA(ctx context.Context, api *reflected, service string) (store, model string, err error) {
	var made struct {
		ID    string `json:"id"`
		Model string `json:"authorizationModelId"`
	}
	if err := api.call(ctx, service+"CreateStore", map[string]any{"name": "bench"}, &made); err != nil {
		return "", "", err
	}
	text, err := workload.OpenFGAModel()
	if err != nil {
		return "", "", err
	}
	body := map[string]any{}
	if err := json.Unmarshal(text, &body); err != nil {
		return "", "", fmt.Errorf("read the model: %w", err)
	}
	body["store_id"] = made.ID
	if err := api.call(ctx, service+"WriteAuthorizationModel", body, &made); err != nil {
		return "", "", err
	}
	const most = 50 // in one Write; more than 100 are refused
	for part := range slices.Chunk(p.w.OpenFGATuples(), most) {
		err := api.call(ctx, service+"Write", map[string]any{
			"store_id": made.ID, "authorization_model_id": made.Model, "writes": map[string]any{"tuple_keys": part},
		}, nil)
		if err != nil {
			return "", "", err
		}
	}
	return made.ID, made.Model, nil
}

// openFGAAllows reads allowed of a CheckResponse.
func openFGAAllows(text []byte) (bool, error) { return protoEnum(text, 1, 1) }

// protoField finds the last field of a number; nil if there is none.
func protoField(text []byte, number protowire.Number, want protowire.Type) ([]byte, error) {
	var found []byte
	for len(text) > 0 {
		num, typ, n := protowire.ConsumeTag(text)
		if n < 0 {
			return nil, fmt.Errorf("decode the answer: %w", protowire.ParseError(n))
		}
		text = text[n:]
		size := protowire.ConsumeFieldValue(num, typ, text)
		if size < 0 {
			return nil, fmt.Errorf("decode the answer: %w", protowire.ParseError(size))
		}
		if num == number && typ == want {
			found = text[:size]
		}
		text = text[size:]
	}
	return found, nil
}

// protoEnum tells whether a number is what it must be; missing, it is zero.
func protoEnum(text []byte, number protowire.Number, want uint64) (bool, error) {
	f, err := protoField(text, number, protowire.VarintType)
	if err != nil || f == nil {
		return false, err
	}
	v, _ := protowire.ConsumeVarint(f)
	return v == want, nil
}
