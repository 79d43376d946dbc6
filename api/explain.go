package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"

	"github.com/authzd/authzd/engine"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

// placeQuery is where an ExplainRequest has its query.
const placeQuery = "/query"

// Explain decides a query on a worker of the pool and tells why.
func (d *decisionService) Explain(ctx context.Context, m *authzdv1.ExplainRequest) (*authzdv1.ExplainResponse, error) {
	s := d.server
	c := callFrom(ctx)
	if err := checkKnown(m.ProtoReflect(), ""); err != nil {
		return nil, err
	}
	if m.GetQuery() == nil {
		return nil, missing(placeQuery)
	}
	at := s.pool.seat(c.caller.Name, 1)
	defer at.leave()
	r, err := s.prepare(ctx, c, at, func() (Request, error) { w := s.wire(c); return w.request(m.GetQuery()) }, settling(false))
	if err != nil {
		return nil, placed(placeQuery, err)
	}
	var out *authzdv1.ExplainResponse
	if full := at.onWorker(ctx, func(ctx context.Context) { out, err = s.explain(ctx, c, r, m.GetTrace()) }); full != nil {
		return nil, full
	}
	if err != nil {
		return nil, placed(placeQuery, err)
	}
	return out, nil
}

// explain is decide for those who ask why. What it answers is no decision, and is
// not counted as one.
func (s *Server) explain(ctx context.Context, c call, r Request, trace bool) (*authzdv1.ExplainResponse, error) {
	snapshot, err := s.liveSnapshot()
	if err != nil {
		return nil, err
	}
	if len(r.presented) > 0 {
		return nil, errors.New("a query came past the check of its credentials")
	}
	r.Query.Audience = s.audience(c)
	if err := c.believe(&r); err != nil {
		return nil, err
	}
	x, err := s.opts.Engine.ExplainOn(ctx, snapshot, r.Query, engine.ExplainOptions{Trace: trace})
	if err != nil {
		return nil, fmt.Errorf("explain: %w", err)
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "a decision was explained",
		slog.String("request_id", c.requestID), slog.String("door", string(c.door)), slog.String("caller", c.caller.Name),
		slog.String("decision_id", x.Decision.ID), slog.Bool("trace", trace))
	return Explained(&x, r, s.opts.Denial), nil
}

// Explained makes the answer of Explain of the engine's explanation of r.
func Explained(x *engine.Explanation, r Request, o DenialOptions) *authzdv1.ExplainResponse {
	resp := Respond(x.Decision, r, o)
	out := &authzdv1.ExplainResponse{Check: resp.Proto()}
	out.Check.CallDigest, out.Check.ExpiresAt = "", nil
	for i := range x.Evaluations {
		out.Evaluations = append(out.Evaluations, evaluationProto(&x.Evaluations[i]))
	}
	return out
}

func evaluationProto(e *engine.Evaluation) *authzdv1.ExplainedEvaluation {
	out := &authzdv1.ExplainedEvaluation{
		Action:    &authzdv1.Action{Name: valid(e.Action.Name), Properties: textOf(e.Action.Properties)},
		Resource:  &authzdv1.Resource{Type: valid(e.Resource.Type), Id: valid(e.Resource.ID), Properties: textOf(e.Resource.Properties)},
		Evaluator: string(e.Evaluator), HandedOver: e.HandedOver, Incomplete: valid(e.Incomplete),
	}
	for i := range e.Rules {
		r := &e.Rules[i]
		rule := &authzdv1.ExplainedRule{Path: valid(r.Path), Outcome: string(r.Outcome)}
		for j := range r.Definitions {
			rule.Definitions = append(rule.Definitions, definitionProto(&r.Definitions[j]))
		}
		out.Rules = append(out.Rules, rule)
	}
	for i := range e.Permits {
		p := &e.Permits[i]
		permit := &authzdv1.ExplainedPermit{Rule: valid(p.Name), Priority: count32(p.Priority)}
		for _, m := range p.Met {
			permit.Met = append(permit.Met, &authzdv1.MetRequirement{Kind: string(m.Kind), CredentialId: valid(m.CredentialID)})
		}
		for j := range p.Unmet {
			permit.Unmet = append(permit.Unmet, reasonProto(&p.Unmet[j]))
		}
		out.Permits = append(out.Permits, permit)
	}
	for _, name := range e.Forbids {
		out.Forbids = append(out.Forbids, valid(name))
	}
	for _, line := range e.Trace {
		out.Trace = append(out.Trace, valid(line))
	}
	return out
}

func definitionProto(d *engine.ExplainedDefinition) *authzdv1.ExplainedDefinition {
	out := &authzdv1.ExplainedDefinition{
		File: valid(d.File), Line: count32(d.Line), Outcome: string(d.Outcome), Evaluated: count32(d.Evaluated), Error: valid(d.Error),
	}
	if at := d.StoppedAt; at != nil {
		out.StoppedAt = &authzdv1.ExplainedExpression{Line: count32(at.Line), Text: valid(at.Text)}
	}
	return out
}

func count32(n int) int32 { return int32(min(max(n, 0), math.MaxInt32)) }

// textOf is nothing for what is absent.
func textOf(v rar.Value) []byte {
	if v.Kind() == rar.Absent {
		return nil
	}
	return v.AppendJSON(nil)
}
