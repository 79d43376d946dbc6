package api

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/authzd/authzd/engine"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

const (
	methodToolsCall = "tools/call"
	// mappingMember of an inputSchema says that the question of a call is made of
	// its arguments (COAZ-MCP).
	mappingMember = "x-authzen-mapping"
	// toolsAtOnce is how many tools one turn on a worker answers for, so that a
	// long list does not keep decisions waiting.
	toolsAtOnce = 32
)

// FilterTools answers part by part on workers of the pool, all on one snapshot.
func (d *decisionService) FilterTools(ctx context.Context, m *authzdv1.FilterToolsRequest) (*authzdv1.FilterToolsResponse, error) {
	s, c := d.server, callFrom(ctx)
	var tools []engine.ListedTool
	at := s.pool.seat(c.caller.Name, max(1, (len(m.GetTools())+toolsAtOnce-1)/toolsAtOnce))
	defer at.leave()
	r, err := s.prepare(ctx, c, at, func() (Request, error) {
		w := s.wire(c)
		r, list, err := w.filter(m)
		tools = list
		return r, err
	}, settling(true))
	if err != nil {
		return nil, err
	}
	if err := at.take(ctx); err != nil {
		return nil, err
	}
	snapshot, err := s.liveSnapshot()
	if err != nil {
		return nil, err
	}
	r.Query.Audience = s.audience(c)
	if err := c.believe(&r); err != nil {
		return nil, err
	}
	began := time.Now()
	out := &authzdv1.FilterToolsResponse{Policy: policyProto(snapshot.Policy())}
	for first := true; first || len(tools) > 0; first = false {
		part := tools[:min(toolsAtOnce, len(tools))]
		tools = tools[len(part):]
		var found engine.FilterResult
		if full := at.onWorker(ctx, func(ctx context.Context) {
			found, err = s.opts.Engine.FilterTools(ctx, snapshot, &engine.FilterQuery{Caller: *r.Query, Tools: part})
		}); full != nil {
			return nil, full
		}
		if err != nil {
			return nil, fmt.Errorf("filter tools: %w", err)
		}
		if first {
			out.RejectedCredentials = rejectedProto(found.Rejected)
		}
		for i := range found.Tools {
			out.Tools = append(out.Tools, filteredProto(&found.Tools[i]))
		}
	}
	s.logFilter(ctx, c, out, time.Since(began))
	return out, nil
}

// logFilter writes counts only: a list of what somebody may do is not for a log.
func (s *Server) logFilter(ctx context.Context, c call, out *authzdv1.FilterToolsResponse, took time.Duration) {
	if !s.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	hidden := 0
	for _, t := range out.GetTools() {
		if t.GetAccess() == authzdv1.ToolAccess_TOOL_ACCESS_HIDDEN {
			hidden++
		}
	}
	s.log.LogAttrs(ctx, slog.LevelDebug, "tools filtered",
		slog.String("request_id", c.requestID), slog.String("door", string(c.door)), slog.String("caller", c.caller.Name),
		slog.Int("tools", len(out.GetTools())), slog.Int("hidden", hidden),
		slog.String("bundle", out.GetPolicy().GetBundle()), slog.String("revision", out.GetPolicy().GetRevision()),
		slog.Duration("took", took))
}

// filter decodes a FilterToolsRequest: the query of a call of no tool yet, and
// the tools.
func (w *wire) filter(m *authzdv1.FilterToolsRequest) (Request, []engine.ListedTool, error) {
	if n := len(m.GetTools()); n > w.limits.MaxTools {
		return Request{}, nil, errorf(CodeTooLarge, "/tools", "%d tools where %d are allowed", n, w.limits.MaxTools)
	}
	if err := checkKnown(m.ProtoReflect(), ""); err != nil {
		return Request{}, nil, err
	}
	if err := checkListed(m.GetMcp()); err != nil {
		return Request{}, nil, err
	}
	p := parts{require: w.require(m.GetRequireRevision())}
	w.query(&p, &authzdv1.CheckBatchQuery{Mcp: m.GetMcp(), Subject: m.GetSubject(), Context: m.GetContext()})
	p.credentials = w.credentials(m.GetCredentials())
	tools := w.tools(m.GetTools())
	if w.err != nil {
		return Request{}, nil, w.err
	}
	// The engine puts each tool into the place of this one.
	p.mcp.Method = methodToolsCall
	p.action, p.resource = &engine.Action{Name: methodToolsCall}, &engine.Resource{Type: "tool", ID: "any"}
	r, err := p.request()
	return r, tools, err
}

// checkListed refuses what belongs to one call.
func checkListed(m *authzdv1.MCPMessage) error {
	switch {
	case m == nil:
		return missing("/mcp")
	case m.GetMethod() != "" && m.GetMethod() != methodToolsCall:
		return errorf(CodeInvalidValue, "/mcp/method", `is "tools/call", or left out`)
	case len(m.GetParams()) > 0:
		return errorf(CodeInvalidValue, "/mcp/params", "belongs to one call; the tools are in tools")
	case len(m.GetTool()) > 0:
		return errorf(CodeInvalidValue, "/mcp/tool", "belongs to one call; the tools are in tools")
	}
	return nil
}

// tools decodes entries of tools/list. Members that are not looked at are the
// server's business.
func (w *wire) tools(list [][]byte) []engine.ListedTool {
	out := make([]engine.ListedTool, 0, len(list))
	seen := make(map[string]bool, len(list))
	for i, text := range list {
		at := "/tools/" + strconv.Itoa(i)
		if len(text) == 0 {
			w.fail(missing(at))
		}
		entry := w.object(text, 2, "/tools", strconv.Itoa(i))
		if w.err != nil {
			return nil
		}
		name, given := entry.Get("name")
		switch {
		case !given || name.Kind() == rar.String && name.Text() == "":
			w.fail(missing(at + "/name"))
		case name.Kind() != rar.String:
			w.fail(wrongType(at+"/name", "a string", name))
		case seen[name.Text()]:
			w.fail(errorf(CodeInvalidValue, at+"/name", "another tool has the same name"))
		}
		t := engine.ListedTool{Name: w.text(name.Text(), at, "name"), Entry: entry}
		seen[t.Name] = true
		schema, _ := entry.Get("inputSchema")
		_, t.ArgumentsMapped = schema.Get(mappingMember)
		out = append(out, t)
	}
	return out
}

func filteredProto(t *engine.FilteredTool) *authzdv1.FilteredTool {
	out := &authzdv1.FilteredTool{Name: t.Name, Access: authzdv1.ToolAccess_TOOL_ACCESS_HIDDEN, Rule: valid(t.Rule)}
	switch t.Access {
	case engine.ToolPossible:
		out.Access = authzdv1.ToolAccess_TOOL_ACCESS_POSSIBLE
	case engine.ToolAfterRemediation:
		out.Access = authzdv1.ToolAccess_TOOL_ACCESS_AFTER_REMEDIATION
	case engine.ToolHidden:
	}
	if n := t.Needs; n != nil {
		out.Needs = &authzdv1.ToolNeeds{
			Scopes: validAll(n.Scopes), AuthorizationDetailsTypes: validAll(n.DetailTypes), AcrValues: validAll(n.ACRValues),
			ProofOfPossession: n.ProofOfPossession, Approval: n.Approval, Token: n.Token,
		}
		if n.MaxAge >= 0 {
			age := int32(n.MaxAge) //nolint:gosec // at most ten years
			out.Needs.MaxAge = &age
		}
	}
	return out
}

func rejectedProto(list []engine.RejectedCredential) []*authzdv1.RejectedCredential {
	var out []*authzdv1.RejectedCredential
	for _, c := range list {
		out = append(out, &authzdv1.RejectedCredential{Id: c.ID, Code: string(c.Code)})
	}
	return out
}
