package pep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/authzd/authzd/rar"
)

// tool finds the entry of the tool that is called.
func (m *middleware) tool(ctx context.Context, next mcp.MethodHandler, method string, req mcp.Request) []byte {
	call, ok := req.(*mcp.CallToolRequest)
	if !ok || method != methodToolsCall {
		return nil
	}
	return m.tools.entry(ctx, m.e, call.Params.Name, func(ctx context.Context) (map[string]listedTool, error) {
		return fetchTools(ctx, func(ctx context.Context, params rar.Value) (rar.Value, error) {
			list := &mcp.ListToolsRequest{Session: call.Session, Params: &mcp.ListToolsParams{Cursor: text(params, "cursor")}, Extra: call.Extra}
			result, err := next(ctx, methodToolsList, list)
			if err != nil {
				return rar.Value{}, err //nolint:wrapcheck // wrapped by fetchTools
			}
			return valueOf(result, m.e.opts.MaxResult)
		}, rar.Value{})
	}).text
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
func (m *middleware) complete(ctx context.Context, next mcp.MethodHandler, method string, req mcp.Request) error {
	call, ok := req.(*mcp.CallToolRequest)
	if method != methodToolsCall {
		return nil
	}
	if !ok || call.Params == nil {
		return errors.New("a tools/call without params")
	}
	arguments := rar.ObjectValue()
	if len(call.Params.Arguments) > 0 {
		v, err := rar.DecodeStrict(call.Params.Arguments, rar.Limits{MaxBytes: m.e.opts.MaxMessage, MaxDepth: maxDepth, RejectCaseVariants: true})
		if err != nil {
			return &argumentsError{"The arguments can not be read, or could be read in two ways."}
		}
		arguments = v
	}
	if !m.o.AnyNumber && !survives(arguments) {
		return &argumentsError{"The arguments hold a number that this server can not hold exactly."}
	}
	entry, err := rar.DecodeStrict(m.tool(ctx, next, method, req), rar.Limits{MaxBytes: m.e.opts.MaxResult, MaxDepth: maxDepth})
	if err != nil {
		return nil //nolint:nilerr // no entry: the service refuses, unless policy declares the tool
	}
	schema, _ := entry.Get("inputSchema")
	if completed := withDefaults(arguments, schema); arguments.Kind() == rar.Object && !rar.Equal(completed, arguments) {
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
	case list.Kind() == rar.Null, list.Kind() == rar.Absent:
		return result, nil
	default:
		judged, err = m.e.judgeList(ctx, c, method, list)
	}
	if m.e.opts.Observe {
		return result, nil
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
	return nil, undecided(fmt.Errorf("a list of the unknown kind %T", result))
}

func keep[T any](list []T, judged []entry) ([]T, error) {
	if len(list) != len(judged) {
		return nil, undecided(errors.New("the answer is not about each entry"))
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
