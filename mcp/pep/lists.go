package pep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

// NeedsKey is the member of a listed tool's _meta that tells what calling it
// takes: an object with access ("possible", or "after_remediation": not with the
// credentials at hand), and as far as policy tells, scopes,
// authorization_details_types, acr_values, max_age, proof_of_possession,
// approval, token.
const NeedsKey = "io.github.authzd/needs"

// templateType is the resource type that a resource template is asked about as:
// the action is resources/templates/list, the id the template.
const templateType = "resource_template"

const (
	toolsAtOnce   = 500
	queriesAtOnce = 50
)

// listMember names the member of a method's result that is shortened; empty for
// methods that list nothing.
func listMember(method string) string {
	switch method {
	case methodToolsList:
		return "tools"
	case methodResourcesList:
		return "resources"
	case methodTemplatesList:
		return "resourceTemplates"
	case methodPromptsList:
		return "prompts"
	}
	return ""
}

// entry is what becomes of one entry of a list.
type entry struct {
	keep bool
	// note is what a tool needs; absent: nothing to say.
	note rar.Value
}

// Filter shortens the result of a list to what the caller could use, and
// reports whether it changed anything. Cursors stay, so that a page may come out
// empty. An error means that the result must not be sent.
//
// A tool is left out if no arguments would be allowed; a resource or prompt if
// the question for it, for a prompt without arguments, is denied for good; a
// template if its own question is. An entry without name is left out.
func (e *Enforcer) Filter(ctx context.Context, c Caller, method string, result rar.Value) (rar.Value, bool, error) {
	member := listMember(method)
	list, ok := result.Get(member)
	if member == "" || !ok || list.Kind() != rar.Array {
		return result, false, nil // nothing is listed
	}
	judged, err := e.judgeList(ctx, c, method, list)
	if err != nil || e.opts.Observe {
		return result, false, err
	}
	kept, changed := make([]rar.Value, 0, list.Len()), false
	for i, j := range judged {
		one := list.Index(i)
		if j.note.Kind() != rar.Absent {
			meta, _ := one.Get("_meta")
			if meta.Kind() != rar.Object {
				meta = rar.ObjectValue()
			}
			one, changed = with(one, "_meta", with(meta, NeedsKey, j.note)), true
		}
		if j.keep {
			kept = append(kept, one)
		}
		changed = changed || !j.keep
	}
	if changed {
		result = with(result, member, rar.ArrayValue(kept...))
	}
	// What one caller may see is not for a cache that others share (absent means
	// public, MCP 2026-07-28).
	scope, given := result.Get("cacheScope")
	if (given || c.ProtocolVersion >= stateless) && scope.Text() != "private" {
		return with(result, "cacheScope", rar.StringValue("private")), true, nil
	}
	return result, changed, nil
}

// judgeList judges every entry of a list. In observe mode it fails never.
func (e *Enforcer) judgeList(ctx context.Context, c Caller, method string, list rar.Value) ([]entry, error) {
	judge := e.judgeOthers
	if method == methodToolsList {
		judge = e.judgeToolList
	}
	out, err := judge(ctx, c, method, list)
	left := 0
	for _, j := range out {
		if j.keep {
			left++
		}
	}
	switch {
	case err != nil:
		e.opts.Log.LogAttrs(ctx, slog.LevelError, "list not authorized", slog.String("method", method), slog.String("error", err.Error()))
	case e.opts.Observe && left < list.Len():
		e.opts.Log.LogAttrs(ctx, slog.LevelInfo, "list, not enforced", slog.String("method", method),
			slog.Int("listed", list.Len()), slog.Int("would_list", left))
	}
	if e.opts.Observe {
		return nil, nil
	}
	return out, err
}

// judgeToolList asks once about many tools.
func (e *Enforcer) judgeToolList(ctx context.Context, c Caller, _ string, list rar.Value) ([]entry, error) {
	names := make([]string, list.Len())
	seen := map[string]bool{}
	var ask [][]byte
	for i := range list.Len() {
		if names[i] = text(list.Index(i), "name"); names[i] != "" && !seen[names[i]] {
			seen[names[i]] = true
			ask = append(ask, list.Index(i).AppendJSON(nil))
		}
	}
	judged := make(map[string]*authzdv1.FilteredTool, len(ask))
	for len(ask) > 0 {
		n := min(len(ask), toolsAtOnce)
		if err := e.judgeTools(ctx, c, ask[:n], judged); err != nil {
			return nil, err
		}
		ask = ask[n:]
	}
	out := make([]entry, list.Len())
	for i, name := range names {
		switch tool := judged[name]; tool.GetAccess() {
		case authzdv1.ToolAccess_TOOL_ACCESS_POSSIBLE, authzdv1.ToolAccess_TOOL_ACCESS_AFTER_REMEDIATION:
			out[i] = entry{keep: true, note: e.note(tool)}
		case authzdv1.ToolAccess_TOOL_ACCESS_HIDDEN, authzdv1.ToolAccess_TOOL_ACCESS_UNSPECIFIED:
		default: // what is not known hides
		}
	}
	return out, nil
}

func (e *Enforcer) judgeTools(ctx context.Context, c Caller, tools [][]byte, judged map[string]*authzdv1.FilteredTool) error {
	ctx, cancel := context.WithTimeout(ctx, e.opts.Timeout)
	defer cancel()
	answer, err := e.opts.Decider.FilterTools(ctx, &authzdv1.FilterToolsRequest{
		Mcp: e.message(c, "", nil), Subject: c.Subject, Credentials: c.Credentials, Tools: tools,
	})
	if err != nil {
		return fmt.Errorf("ask about tools: %w", err)
	}
	if len(answer.GetTools()) != len(tools) {
		return errors.New("ask about tools: the answer is not about each of them")
	}
	for _, t := range answer.GetTools() {
		judged[t.GetName()] = t
	}
	return nil
}

// note tells what a tool needs, if anything is known to be needed.
func (e *Enforcer) note(t *authzdv1.FilteredTool) rar.Value {
	access := "possible"
	if t.GetAccess() == authzdv1.ToolAccess_TOOL_ACCESS_AFTER_REMEDIATION {
		access = "after_remediation"
	}
	n := t.GetNeeds()
	if e.opts.PlainLists || n == nil && access == "possible" {
		return rar.Value{}
	}
	members := []rar.Member{{Name: "access", Value: rar.StringValue(access)}}
	texts := func(name string, list []string) {
		if len(list) > 0 {
			members = append(members, rar.Member{Name: name, Value: stringsValue(list)})
		}
	}
	flag := func(name string, set bool) {
		if set {
			members = append(members, rar.Member{Name: name, Value: rar.BoolValue(true)})
		}
	}
	texts("scopes", n.GetScopes())
	texts("authorization_details_types", n.GetAuthorizationDetailsTypes())
	texts("acr_values", n.GetAcrValues())
	if n != nil && n.MaxAge != nil {
		members = append(members, rar.Member{Name: "max_age", Value: rar.IntValue(int64(n.GetMaxAge()))})
	}
	flag("proof_of_possession", n.GetProofOfPossession())
	flag("approval", n.GetApproval())
	flag("token", n.GetToken())
	return rar.ObjectValue(members...)
}

// judgeOthers asks about each entry what the call for it would be asked about.
func (e *Enforcer) judgeOthers(ctx context.Context, c Caller, method string, list rar.Value) ([]entry, error) {
	out := make([]entry, list.Len())
	for from := 0; from < list.Len(); from += queriesAtOnce {
		var queries []*authzdv1.CheckBatchQuery
		var asked []int
		for i := from; i < min(from+queriesAtOnce, list.Len()); i++ {
			if q := e.question(c, method, list.Index(i)); q != nil {
				queries, asked = append(queries, q), append(asked, i)
			}
		}
		if len(queries) == 0 {
			continue
		}
		items, err := e.batch(ctx, c, queries)
		if err != nil {
			return nil, err
		}
		for i, item := range items {
			a := item.GetCheck()
			out[asked[i]].keep = a.GetDecision() == authzdv1.Decision_DECISION_ALLOW || remediable(a)
		}
	}
	return out, nil
}

// question is what stands behind one entry of a list; nil: nothing can.
func (e *Enforcer) question(c Caller, method string, entry rar.Value) *authzdv1.CheckBatchQuery {
	call, from, member := methodResourcesRead, "uri", "uri"
	switch method {
	case methodPromptsList:
		call, from, member = methodPromptsGet, "name", "name"
	case methodTemplatesList:
		id := text(entry, "uriTemplate")
		if id == "" {
			return nil
		}
		return &authzdv1.CheckBatchQuery{
			Mcp: e.message(c, method, nil), Subject: c.Subject,
			Action: &authzdv1.Action{Name: method}, Resource: &authzdv1.Resource{Type: templateType, Id: id},
		}
	}
	id := text(entry, from)
	if id == "" {
		return nil
	}
	params := rar.ObjectValue(rar.Member{Name: member, Value: rar.StringValue(id)}).AppendJSON(nil)
	return &authzdv1.CheckBatchQuery{Mcp: e.message(c, call, params), Subject: c.Subject}
}

func (e *Enforcer) batch(ctx context.Context, c Caller, queries []*authzdv1.CheckBatchQuery) ([]*authzdv1.CheckBatchItem, error) {
	ctx, cancel := context.WithTimeout(ctx, e.opts.Timeout)
	defer cancel()
	answer, err := e.opts.Decider.CheckBatch(ctx, &authzdv1.CheckBatchRequest{Credentials: c.Credentials, Queries: queries, Listing: true})
	if err != nil {
		return nil, fmt.Errorf("ask about a list: %w", err)
	}
	if len(answer.GetItems()) != len(queries) {
		return nil, errors.New("ask about a list: the answer is not about each entry")
	}
	return answer.GetItems(), nil
}

// with sets a member of an object, in its place if it has it.
func with(v rar.Value, name string, value rar.Value) rar.Value {
	members, found := make([]rar.Member, 0, v.Len()+1), false
	for i := range v.Len() {
		m := v.Member(i)
		if m.Name == name {
			m.Value, found = value, true
		}
		members = append(members, m)
	}
	if !found {
		members = append(members, rar.Member{Name: name, Value: value})
	}
	return rar.ObjectValue(members...)
}

func stringsValue(list []string) rar.Value {
	values := make([]rar.Value, len(list))
	for i, s := range list {
		values[i] = rar.StringValue(s)
	}
	return rar.ArrayValue(values...)
}
