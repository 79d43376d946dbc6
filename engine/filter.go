package engine

import (
	"context"
	"sort"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/rar"
)

// ToolAccess is what can be said of a tool before its arguments are known. The
// zero value hides it.
type ToolAccess uint8

// What FilterTools answers.
const (
	// ToolHidden: no arguments would be allowed.
	ToolHidden ToolAccess = iota
	// ToolAfterRemediation: some may be, once what is missing is obtained.
	ToolAfterRemediation
	// ToolPossible: some may be, as things are.
	ToolPossible
)

// FilterQuery asks which tools the caller could call.
type FilterQuery struct {
	// Caller is what a tools/call of this caller has but for the tool. Action,
	// Resource and Commit do not count; MCP is required, and its Method, Params
	// and Tool do not count either.
	Caller Query
	// Tools have different names.
	Tools []ListedTool
}

// ListedTool is one tool of a server.
type ListedTool struct {
	Name string
	// Entry is the tool's entry of tools/list, an object, or absent.
	Entry rar.Value
	// ArgumentsMapped: what is asked about a call of this tool is made of its
	// arguments (COAZ's x-authzen-mapping), so nothing is known before.
	ArgumentsMapped bool
}

// FilterResult is the answer, one for each tool in their order.
type FilterResult struct {
	Tools    []FilteredTool
	Policy   PolicyRef
	Rejected []RejectedCredential
}

// FilteredTool is the answer for one tool.
type FilteredTool struct {
	Name   string
	Access ToolAccess
	// Needs is nil if nothing is known to be needed, and if the tool is hidden. It
	// is not to be changed.
	Needs *ToolNeeds
	// Rule is the permit that would decide, or the forbid that hides; empty if
	// none is known. Never for the MCP client.
	Rule string
}

// FilterTools answers on s, which a caller may share between parts of one list.
//
// Whatever DecideOn allows with the same caller, context and snapshot, at the
// same time and with no properties of action and resource, is reported as
// possible. So is a tool for which the weaker policy is at fault or out of time:
// this is a list, and each call is still decided. Errors are those of DecideOn.
func (e *Engine) FilterTools(ctx context.Context, s *Snapshot, q *FilterQuery) (FilterResult, error) {
	f, err := e.newFiltering(ctx, s, q)
	if err != nil {
		return FilterResult{}, err
	}
	out := FilterResult{Policy: s.policy, Rejected: f.in.rejected, Tools: make([]FilteredTool, len(q.Tools))}
	for i := range q.Tools {
		if err := contextError(ctx); err != nil {
			return FilterResult{}, err
		}
		out.Tools[i] = f.answer(ctx, &q.Tools[i])
	}
	return out, nil
}

// filtering is one FilterTools under way.
type filtering struct {
	weaker   *filter
	engine   *Engine
	snapshot *Snapshot
	// in is of the caller; its query is that of a call of each tool in turn.
	in     input
	query  Query
	mcp    MCP
	caller pairs
	key    filterKey
	// needsToken: no credential counts, and policy is not asked.
	needsToken bool
	// blocks is the block list of this call, blocked that it has the caller.
	blocks  blocks
	blocked bool
}

func (e *Engine) newFiltering(ctx context.Context, s *Snapshot, q *FilterQuery) (*filtering, error) {
	if s == nil {
		return nil, errorf(CodeNotReady, "", "no policy is loaded")
	}
	if err := contextError(ctx); err != nil {
		return nil, err
	}
	if q == nil {
		return nil, errorf(CodeEmptyQuery, "", "no query")
	}
	if q.Caller.MCP == nil {
		return nil, errorf(CodeMCPMissing, "/mcp", "the MCP server whose tools are meant is missing")
	}
	f := &filtering{engine: e, snapshot: s, query: q.Caller, mcp: *q.Caller.MCP}
	f.query.Commit, f.query.MCP = &Commit{}, &f.mcp // judged as if committed, consuming nothing
	f.query.Action = Action{Name: methodToolsCall}
	f.setTool(&ListedTool{Name: "any"})
	if err := f.query.validate(false); err != nil {
		return nil, err
	}
	if err := checkTools(q.Tools); err != nil {
		return nil, err
	}
	var err error
	if f.weaker, err = s.filter.get(ctx); err != nil {
		return nil, err
	}
	f.in = input{query: &f.query, now: e.opts.Now(), decisionID: e.opts.NewID()}
	if err := f.in.identify(s.types); err != nil {
		return nil, err
	}
	f.blocks = e.blockList()
	f.blocked = f.blocks.caller(&f.in) != nil
	presented := len(q.Caller.Credentials) + len(q.Caller.Rejected)
	f.needsToken = len(f.in.usable) == 0 && (presented > 0 || q.Caller.Subject == nil)
	f.caller = callerOf[*ast.Term, pairs](&f.in, terms{f.weaker.words})
	f.key = callerKey(&f.in, f.caller)
	return f, nil
}

func checkTools(tools []ListedTool) error {
	seen := make(map[string]bool, len(tools))
	for i := range tools {
		t := &tools[i]
		at := "/tools/" + strconv.Itoa(i)
		if t.Name == "" {
			return errorf(CodeMissingMember, at+"/name", "a tool needs a name")
		}
		if seen[t.Name] {
			return errorf(CodeInvalidValue, at+"/name", "another tool has the same name")
		}
		seen[t.Name] = true
		if err := wantObject(at, t.Entry); err != nil {
			return err
		}
	}
	return nil
}

// setTool makes the query one of a call of t without arguments.
func (f *filtering) setTool(t *ListedTool) {
	f.query.Resource = Resource{Type: resourceTool, ID: t.Name}
	f.mcp.Method, f.mcp.Tool = methodToolsCall, t.Entry
	f.mcp.Params = rar.ObjectValue(rar.Member{Name: "name", Value: rar.StringValue(t.Name)})
}

// answer is that of the cache, or a new one. What is blocked is not of the
// cache: it comes and goes without a new snapshot.
func (f *filtering) answer(ctx context.Context, t *ListedTool) FilteredTool {
	if f.blocked || f.blocks.holds(BlockTool, t.Name, f.in.now) != nil {
		return FilteredTool{Name: t.Name}
	}
	key := f.key.of(t)
	cache := &f.weaker.cache
	if known, ok := cache.get(key, f.in.now); ok {
		known.Name = t.Name
		return known
	}
	f.setTool(t)
	out, certain := f.judge(ctx, t)
	out.Name = t.Name
	// What policy says of another second is not known, and a fault may pass.
	if certain && !f.weaker.readsTime {
		cache.put(key, out, f.in.now)
	}
	return out
}

// judge answers for one tool, and tells whether policy was asked to the end.
func (f *filtering) judge(ctx context.Context, t *ListedTool) (FilteredTool, bool) {
	if _, fault := f.snapshot.schemaFor(t.Name, &f.mcp); fault != nil {
		return FilteredTool{}, true // every call of it is refused
	}
	possible := FilteredTool{Access: ToolPossible}
	switch {
	case f.needsToken:
		return FilteredTool{Access: ToolAfterRemediation, Needs: &ToolNeeds{MaxAge: -1, Token: true}}, true
	case t.ArgumentsMapped:
		return possible, true
	case f.weaker.eval == nil:
		return possible, true
	}
	budget, stop := budgetContext(ctx, f.engine.opts.Budget)
	defer stop()
	f.in.params = presentedParams(&f.mcp)
	out, ok := f.weaker.evaluate(budget, &f.in, f.document(), f.snapshot.types, f.engine.opts.MaxSteps)
	if !ok {
		return possible, false
	}
	return f.weigh(&out), true
}

// document is the input of a call of the present tool.
func (f *filtering) document() ast.Value {
	b := terms{f.weaker.words}
	o := f.caller[:len(f.caller):len(f.caller)]
	o = b.set(o, wordNow, b.text(f.in.nowText()))
	o = b.set(o, wordResource, entityOf[*ast.Term, pairs](b, resourceTool, f.query.Resource.ID, rar.Value{}))
	return b.close(b.set(o, wordMCP, mcpOf[*ast.Term, pairs](&f.in, b))).Value
}

// weigh judges what holds as steps 5 to 8 of a decision do.
func (f *filtering) weigh(h *holding) FilteredTool {
	if len(h.forbids) > 0 {
		sort.SliceStable(h.forbids, func(i, j int) bool { return h.forbids[i].name < h.forbids[j].name })
		return FilteredTool{Rule: h.forbids[0].name}
	}
	if len(h.permits) == 0 {
		return FilteredTool{}
	}
	sort.SliceStable(h.permits, func(i, j int) bool { return h.permits[i].name < h.permits[j].name })
	d := &deciding{engine: f.engine, snapshot: f.snapshot, in: f.in}
	d.locate(h.permits)
	at := judgement{types: f.snapshot.types, now: f.in.now, commit: f.query.Commit}
	all := make([]weighed, len(h.permits))
	var best *weighed
	for i := range h.permits {
		all[i] = d.weighOne(&h.permits[i], &at)
		if w := &all[i]; len(w.unmet) == 0 && !w.stuck && (best == nil || w.better(best)) {
			best = w
		}
	}
	access := ToolPossible
	if best == nil {
		access, best = ToolAfterRemediation, d.offered(all)
	}
	return FilteredTool{Access: access, Needs: d.needs(best.permit), Rule: best.permit.name}
}

// offered is the permit whose remedies a denial would offer.
func (d *deciding) offered(all []weighed) *weighed {
	ranked := rank(all)
	for _, w := range ranked {
		if d.actionable(w) {
			return w
		}
	}
	return ranked[0]
}
