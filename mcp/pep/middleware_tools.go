package pep

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"strconv"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/authzd/authzd/rar"
)

// tool finds the entry of the tool that is called, as the server lists it now
// to this caller; nil if it does not. It is never remembered: the defaults of a
// schema that has been replaced are not those that the SDK applies.
func (m *middleware) tool(ctx context.Context, next mcp.MethodHandler, call *mcp.CallToolRequest) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, m.e.opts.Timeout)
	defer cancel()
	meta := mcp.Meta{}
	for _, key := range []string{mcp.MetaKeyProtocolVersion, mcp.MetaKeyClientInfo, mcp.MetaKeyClientCapabilities} {
		if v, ok := call.Params.Meta[key]; ok {
			meta[key] = v
		}
	}
	var found []*mcp.Tool
	cursor := ""
	for range maxToolPages {
		result, err := next(ctx, methodToolsList, &mcp.ListToolsRequest{
			Session: call.Session, Params: &mcp.ListToolsParams{Meta: meta, Cursor: cursor}, Extra: call.Extra,
		})
		if err != nil {
			return nil, fmt.Errorf("list the server's tools: %w", err)
		}
		page, ok := result.(*mcp.ListToolsResult)
		if !ok {
			return nil, fmt.Errorf("list the server's tools: a list of the unknown kind %T", result)
		}
		for _, t := range page.Tools {
			if t != nil && t.Name == call.Params.Name {
				found = append(found, t)
			}
		}
		if cursor = page.NextCursor; cursor == "" {
			// Of two tools of one name the server calls one, and nobody knows which.
			if len(found) != 1 {
				return nil, nil
			}
			return encode(found[0])
		}
	}
	return nil, fmt.Errorf("list the server's tools: more than %d pages", maxToolPages)
}

func valueOf(v any, limit int) (rar.Value, error) {
	raw, err := encode(v)
	if err != nil {
		return rar.Value{}, err
	}
	return rar.DecodeStrict(raw, rar.Limits{MaxBytes: limit, MaxDepth: maxDepth}) //nolint:wrapcheck // names the place
}

// argumentsError is about what the client sent.
type argumentsError struct{ text string }

func (e *argumentsError) Error() string { return e.text }

// complete adds to the arguments of a call what the tool's schema has as
// defaults, and refuses numbers that the SDK's typed tools would change.
func (m *middleware) complete(call *mcp.CallToolRequest, tool []byte) error {
	arguments := rar.NullValue()
	if len(call.Params.Arguments) > 0 {
		v, err := rar.DecodeStrict(call.Params.Arguments, rar.Limits{MaxBytes: m.e.opts.MaxMessage, MaxDepth: maxDepth, RejectCaseVariants: true})
		if err != nil {
			return &argumentsError{"The arguments can not be read, or could be read in two ways."}
		}
		arguments = v
	}
	completed := arguments
	switch arguments.Kind() {
	case rar.Object:
	case rar.Null: // no arguments: the SDK takes both for an empty object
		call.Params.Arguments, completed = nil, rar.ObjectValue()
	default:
		return &argumentsError{"The arguments are not a JSON object."}
	}
	if tool != nil {
		entry, err := rar.DecodeStrict(tool, rar.Limits{MaxBytes: m.e.opts.MaxResult, MaxDepth: maxDepth})
		if err != nil {
			return fmt.Errorf("read the tool's entry: %w", err)
		}
		schema, _ := entry.Get("inputSchema")
		completed = withDefaults(completed, schema)
	}
	if !m.o.AnyNumber && !survives(completed) {
		return &argumentsError{"The arguments hold a number that this server can not hold exactly."}
	}
	if completed.Len() > 0 && !rar.Equal(completed, arguments) {
		call.Params.Arguments = completed.AppendJSON(nil)
	}
	return nil
}

// survives tells whether every number is the same after a way through float64.
func survives(v rar.Value) bool {
	switch v.Kind() {
	case rar.Number:
		f, err := strconv.ParseFloat(v.Text(), 64)
		if err != nil {
			return false
		}
		back, err := rar.NumberValue(strconv.FormatFloat(f, 'g', -1, 64))
		return err == nil && rar.Equal(back, v)
	case rar.Array:
		for i := range v.Len() {
			if !survives(v.Index(i)) {
				return false
			}
		}
	case rar.Object:
		for i := range v.Len() {
			if !survives(v.Member(i).Value) {
				return false
			}
		}
	case rar.Absent, rar.Null, rar.Bool, rar.String:
	}
	return true
}

// withDefaults completes an object as the SDK does (jsonschema-go,
// Resolved.ApplyDefaults): properties that are not required and missing get
// their default, and so on below properties.
func withDefaults(v, schema rar.Value) rar.Value {
	properties, _ := schema.Get("properties")
	if v.Kind() != rar.Object || properties.Kind() != rar.Object {
		return v
	}
	required := map[string]bool{}
	if list, _ := schema.Get("required"); list.Kind() == rar.Array {
		for i := range list.Len() {
			required[list.Index(i).Text()] = true
		}
	}
	for i := range properties.Len() {
		p := properties.Member(i)
		if required[p.Name] {
			continue
		}
		have, given := v.Get(p.Name)
		byDefault, hasDefault := p.Value.Get("default")
		switch {
		case given:
			if below := withDefaults(have, p.Value); have.Kind() == rar.Object && !rar.Equal(below, have) {
				v = with(v, p.Name, below)
			}
		case hasDefault:
			v = with(v, p.Name, withDefaults(byDefault, p.Value))
		case hasDefaults(p.Value):
			v = with(v, p.Name, withDefaults(rar.ObjectValue(), p.Value))
		}
	}
	return v
}

func hasDefaults(schema rar.Value) bool {
	if _, ok := schema.Get("default"); ok {
		return true
	}
	properties, _ := schema.Get("properties")
	for i := range properties.Len() {
		if hasDefaults(properties.Member(i).Value) {
			return true
		}
	}
	return false
}

// shorten leaves out of a list what the caller could not use.
func (m *middleware) shorten(ctx context.Context, c Caller, method string, result mcp.Result) (mcp.Result, error) {
	value, err := valueOf(result, m.e.opts.MaxResult)
	list, _ := value.Get(listMember(method))
	var judged []entry
	switch {
	case err != nil:
		m.e.opts.Log.LogAttrs(ctx, slog.LevelError, "list not authorized", slog.String("method", method), slog.String("error", err.Error()))
	case list.Kind() == rar.Null, list.Kind() == rar.Absent:
		return result, nil
	default:
		judged, err = m.e.judgeList(ctx, c, method, list)
	}
	if err != nil {
		return nil, &jsonrpc.Error{Code: jsonrpc.CodeInternalError, Message: textFilter}
	}
	return shortened(result, judged)
}

// shortened makes a result of the entries that are kept. The server's own value
// is left as it is: it may be one that the server keeps.
func shortened(result mcp.Result, judged []entry) (mcp.Result, error) {
	const private = "private"
	var err error
	switch r := result.(type) {
	case *mcp.ListToolsResult:
		out := *r
		out.CacheScope = private
		if out.Tools, err = keep(r.Tools, judged); err == nil {
			for i, t := range out.Tools {
				out.Tools[i] = noted(t, r.Tools, judged)
			}
		}
		return &out, err
	case *mcp.ListResourcesResult:
		out := *r
		out.CacheScope = private
		out.Resources, err = keep(r.Resources, judged)
		return &out, err
	case *mcp.ListResourceTemplatesResult:
		out := *r
		out.CacheScope = private
		out.ResourceTemplates, err = keep(r.ResourceTemplates, judged)
		return &out, err
	case *mcp.ListPromptsResult:
		out := *r
		out.CacheScope = private
		out.Prompts, err = keep(r.Prompts, judged)
		return &out, err
	}
	return nil, errUndecided() // a list of an unknown kind
}

func keep[T any](list []T, judged []entry) ([]T, error) {
	if len(list) != len(judged) {
		return nil, errUndecided() // the answer is not about each entry
	}
	out := make([]T, 0, len(list))
	for i, j := range judged {
		if j.keep {
			out = append(out, list[i])
		}
	}
	return out, nil
}

// noted is the tool with what it needs, as a copy where there is something to
// say.
func noted(t *mcp.Tool, all []*mcp.Tool, judged []entry) *mcp.Tool {
	for i, other := range all {
		if other != t || judged[i].note.Kind() == rar.Absent {
			continue
		}
		out := *t
		if out.Meta = maps.Clone(t.Meta); out.Meta == nil {
			out.Meta = mcp.Meta{}
		}
		out.Meta[NeedsKey] = json.RawMessage(judged[i].note.AppendJSON(nil))
		return &out
	}
	return t
}
