package pep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// Request is one request of a client, as it is to be executed.
type Request struct {
	// Method is the JSON-RPC method.
	Method string
	// Params is the text of the JSON object params; nil if there is none.
	Params []byte
	// Tool is the called tool's entry of tools/list, a JSON object; nil if it is
	// not known.
	Tool []byte
}

// Ruling is what follows for one request. The zero Ruling refuses.
type Ruling struct {
	// Go: the request may be executed, exactly as it was asked about.
	Go bool
	// Denial is the service's own text of a deny; nil where there was no
	// decision.
	Denial *authzdv1.Denial
	// Subject is who was decided about; nil if that is not known.
	Subject *authzdv1.Identity
	// Until is when Go ends.
	Until time.Time
	// fault is what is wrong with the request itself, so that no decision was
	// possible.
	fault error
	// version is the revision that the client speaks.
	version string
}

// Decide asks about one request. It never fails: what can not be decided is
// refused, and the reason goes to the log.
func (e *Enforcer) Decide(ctx context.Context, c Caller, r Request) Ruling {
	began := e.opts.Now()
	answer, err := e.ask(ctx, c, r)
	ruling := Ruling{Subject: answer.GetSubject(), version: c.ProtocolVersion}
	if err == nil {
		err = e.keep(ctx, answer)
	}
	switch {
	case err != nil:
		ruling.fault = faultOf(err)
	case answer.GetDecision() == authzdv1.Decision_DECISION_ALLOW:
		ruling.Go, ruling.Until = true, answer.GetExpiresAt().AsTime()
	default:
		ruling.Denial = answer.GetDenial()
	}
	e.log(ctx, r, answer, err, e.opts.Now().Sub(began))
	if e.opts.Observe {
		ruling.Go, ruling.Denial = true, nil
	}
	return ruling
}

// ask puts the question.
func (e *Enforcer) ask(ctx context.Context, c Caller, r Request) (*authzdv1.CheckResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, e.opts.Timeout)
	defer cancel()
	m := e.message(c, r.Method, r.Params)
	m.Tool = r.Tool
	answer, err := e.opts.Decider.Check(ctx, &authzdv1.CheckRequest{
		Mcp: m, Subject: c.Subject, Credentials: c.Credentials,
	})
	if err != nil {
		return nil, fmt.Errorf("ask for a decision: %w", err)
	}
	if answer == nil {
		return nil, errors.New("ask for a decision: the answer is empty")
	}
	return answer, nil
}

func (e *Enforcer) message(c Caller, method string, params []byte) *authzdv1.MCPMessage {
	return &authzdv1.MCPMessage{
		Method: method, Params: params, Server: e.opts.Server, Transport: c.Transport,
		ProtocolVersion: c.ProtocolVersion, ClientCapabilities: c.Capabilities,
	}
}

// keep tells whether an allow is one that can be kept: a fault means that the
// request must not be executed. A deny has nothing to keep.
func (e *Enforcer) keep(ctx context.Context, a *authzdv1.CheckResponse) error {
	switch a.GetDecision() {
	case authzdv1.Decision_DECISION_ALLOW:
	case authzdv1.Decision_DECISION_DENY:
		return nil
	case authzdv1.Decision_DECISION_UNSPECIFIED:
		return errors.New("the answer holds no decision")
	default:
		return errors.New("the answer holds no decision that is known")
	}
	switch until := a.GetExpiresAt(); {
	case until == nil || !until.IsValid():
		return errors.New("the allow does not say when it ends")
	case !e.opts.Now().Before(until.AsTime()):
		return errors.New("the allow has ended")
	case a.GetCallDigest() == "":
		return errors.New("the allow does not say for which call it is")
	}
	for _, o := range a.GetObligations() {
		if e.opts.Fulfil == nil || e.opts.Observe {
			return errors.New("the allow has an obligation that is not known here")
		}
		if err := e.opts.Fulfil(ctx, o); err != nil {
			return fmt.Errorf("fulfil an obligation: %w", err)
		}
	}
	return nil
}

// log writes one line for each decision. A deny is normal operation; no
// decision is a fault.
func (e *Enforcer) log(ctx context.Context, r Request, a *authzdv1.CheckResponse, err error, took time.Duration) {
	level, outcome := slog.LevelInfo, "deny"
	switch {
	case err != nil:
		level, outcome = slog.LevelError, "no decision"
	case a.GetDecision() == authzdv1.Decision_DECISION_ALLOW:
		level, outcome = slog.LevelDebug, "allow"
	}
	if e.opts.Observe && outcome != "allow" {
		outcome += ", not enforced"
	}
	if !e.opts.Log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", r.Method), slog.String("outcome", outcome), slog.Duration("took", took),
	}
	if name := nameIn(r.Params); name != "" {
		attrs = append(attrs, slog.String("name", name))
	}
	if id := a.GetDecisionId(); id != "" {
		attrs = append(attrs, slog.String("decision_id", id), slog.String("rule", a.GetRule()),
			slog.String("revision", a.GetPolicy().GetRevision()))
	}
	if list := a.GetReasons(); len(list) > 0 && outcome != "allow" {
		attrs = append(attrs, slog.String("code", list[0].GetCode()))
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	e.opts.Log.LogAttrs(ctx, level, "decision", attrs...)
}
