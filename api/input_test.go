package api_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/authzd/authzd/api"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// wantFault checks the coded status that gRPC carries.
func wantFault(t *testing.T, name string, err error, code, path string) {
	t.Helper()
	st, _ := status.FromError(err)
	for _, d := range st.Details() {
		info, ok := d.(*errdetails.ErrorInfo)
		if !ok {
			continue
		}
		if info.GetDomain() != "authzd" || info.GetReason() != code || info.GetMetadata()["path"] != path || info.GetMetadata()["request_id"] == "" {
			t.Errorf("%s: %v, want %s at %q", name, info, code, path)
		}
		if st.Message() == "" {
			t.Errorf("%s: no message", name)
		}
		return
	}
	t.Errorf("%s: no ErrorInfo in %v, want %s at %q", name, err, code, path)
}

// badInput is the REST table: every way to get a request wrong, with code and
// pointer, and never a decision.
func badInput() map[string]struct{ body, code, path string } {
	ok := claims(``)
	deep := strings.Repeat("[", 100) + strings.Repeat("]", 100)
	long := strings.Repeat("x", 300<<10)
	q := func(old, replacement string) string {
		return strings.Replace(query("read", `{}`, ok), old, replacement, 1)
	}
	return map[string]struct{ body, code, path string }{
		"no body":               {"", "request.empty", ""},
		"white space":           {" \n\t ", "request.empty", ""},
		"empty query":           {"{}", "request.empty", ""},
		"context only":          {`{"context": {}}`, "request.empty", ""},
		"not JSON":              {"amount=1", "request.syntax", ""},
		"cut short":             {`{"mcp": {"method"`, "request.syntax", "/mcp"},
		"NaN":                   {q(`"arguments": {}`, `"arguments": {"n": NaN}`), "request.syntax", "/mcp/params/arguments/n"},
		"BOM":                   {"\uFEFF" + query("read", `{}`, ok), "request.syntax", ""},
		"invalid UTF-8":         {q(`"arguments": {}`, "\"arguments\": {\"n\": \"\xff\"}"), "request.syntax", ""},
		"lone surrogate":        {q(`"arguments": {}`, `"arguments": {"n": "\ud800"}`), "request.syntax", "/mcp/params/arguments/n"},
		"trailing data":         {query("read", `{}`, ok) + "{}", "request.trailing_data", ""},
		"array":                 {"[]", "request.wrong_type", ""},
		"null":                  {"null", "request.wrong_type", ""},
		"text":                  {`"x"`, "request.wrong_type", ""},
		"duplicate key":         {q(`"id": "primary"`, `"id": "primary", "id": "other"`), "request.duplicate_key", "/credentials/0/id"},
		"duplicate in claims":   {q(`"iss"`, `"aud": "x", "iss"`), "request.duplicate_key", "/credentials/0/claims/aud"},
		"duplicate in args":     {q(`"arguments": {}`, `"arguments": {"a/b": {"n": 1, "\u006e": 2}}`), "request.duplicate_key", "/mcp/params/arguments/a~1b/n"},
		"case variant":          {q(`"arguments": {}`, `"arguments": {"amount": 1, "Amount": 2}`), "request.case_variant_key", "/mcp/params/arguments/Amount"},
		"case variant on top":   {q(`{"mcp"`, `{"MCP": {}, "mcp"`), "request.case_variant_key", "/mcp"},
		"wrong case":            {q(`"mcp"`, `"Mcp"`), "request.unknown_member", "/Mcp"},
		"unknown member":        {q(`{"mcp"`, `{"explain": true, "mcp"`), "request.unknown_member", "/explain"},
		"unknown in mcp":        {q(`"server"`, `"a/b~c": 1, "server"`), "request.unknown_member", "/mcp/a~1b~0c"},
		"unknown in credential": {q(`"id": "primary"`, `"id": "primary", "verified_by": "pdp"`), "request.unknown_member", "/credentials/0/verified_by"},
		"camelCase":             {q(`protocol_version`, `protocolVersion`), "request.unknown_member", "/mcp/protocolVersion"},
		"too deep":              {q(`"arguments": {}`, `"arguments": {"n": `+deep+`}`), "request.too_deep", "/mcp/params/arguments/n" + strings.Repeat("/0", 60)},
		"too large":             {q(`"arguments": {}`, `"arguments": {"n": "`+long+`"}`), "request.too_large", ""},
		"huge exponent":         {q(`"arguments": {}`, `"arguments": {"n": 1e999999999}`), "request.number_out_of_range", "/mcp/params/arguments/n"},
		"mcp is text":           {`{"mcp": "tools/call"}`, "request.wrong_type", "/mcp"},
		"mcp is null":           {`{"mcp": null}`, "request.wrong_type", "/mcp"},
		"method is number":      {q(`"tools/call"`, `1`), "request.wrong_type", "/mcp/method"},
		"method is empty":       {q(`"tools/call"`, `""`), "request.missing_member", "/mcp/method"},
		"method missing":        {`{"mcp": {}}`, "request.missing_member", "/mcp/method"},
		"method unknown":        {q(`"tools/call"`, `"tools/burn"`), "mcp.method_unknown", "/mcp/method"},
		"method passes":         {q(`"tools/call"`, `"ping"`), "request.invalid_value", "/mcp/method"},
		"params is array":       {q(`"params": {"name": "read", "arguments": {}}`, `"params": []`), "request.wrong_type", "/mcp/params"},
		"params is null":        {q(`"params": {"name": "read", "arguments": {}}`, `"params": null`), "request.wrong_type", "/mcp/params"},
		"tool name missing":     {q(`"name": "read", `, ``), "mcp.mapping", "/mcp/params/name"},
		"tool name is number":   {q(`"name": "read"`, `"name": 5`), "mcp.mapping", "/mcp/params/name"},
		"arguments is array":    {q(`"arguments": {}`, `"arguments": []`), "request.wrong_type", "/mcp/params/arguments"},
		"transport unknown":     {q(`"http", "proto`, `"HTTP", "proto`), "request.invalid_value", "/mcp/transport"},
		"capabilities is list":  {q(`"client_capabilities": {}`, `"client_capabilities": []`), "request.wrong_type", "/mcp/client_capabilities"},
		"tool is text":          {q(`"server"`, `"tool": "read", "server"`), "request.wrong_type", "/mcp/tool"},
		"own mapping":           {q(`"server"`, `"tool": {"inputSchema": {"x-authzen-mapping": {}}}, "server"`), "mcp.mapping_unsupported", "/mcp"},
		"credentials is object": {`{"mcp": {"method": "tools/list", "server": "s"}, "credentials": {}}`, "request.wrong_type", "/credentials"},
		"credential is text":    {`{"mcp": {"method": "tools/list", "server": "s"}, "credentials": ["x"]}`, "request.wrong_type", "/credentials/0"},
		"credential id missing": {q(`"id": "primary", `, ``), "request.missing_member", "/credentials/0/id"},
		"claims missing":        {q(`"claims": `+ok, `"bound_by": ""`), "request.missing_member", "/credentials/0/claims"},
		"claims is text":        {q(ok, `"eyJ"`), "request.wrong_type", "/credentials/0/claims"},
		"access token":          {q(`"claims": `+ok, `"access_token": "eyJ"`), "request.access_token_unsupported", "/credentials/0/access_token"},
		"token and claims":      {q(`"claims"`, `"access_token": "eyJ", "claims"`), "request.invalid_value", "/credentials/0/access_token"},
		"bound_by unknown":      {q(`"claims"`, `"bound_by": "tls", "claims"`), "request.invalid_value", "/credentials/0/bound_by"},
		"same id twice":         {q(`"credentials": [`, `"credentials": [{"id": "primary", "claims": `+ok+`}, `), "request.invalid_value", "/credentials/1/id"},
		"subject without id":    {q(`{"mcp"`, `{"subject": {"type": "identity"}, "mcp"`), "request.missing_member", "/subject/id"},
		"subject id is number":  {q(`{"mcp"`, `{"subject": {"type": "identity", "id": 5}, "mcp"`), "request.wrong_type", "/subject/id"},
		"issuer is number":      {q(`{"mcp"`, `{"subject": {"type": "identity", "id": "a", "properties": {"issuer": 5}}, "mcp"`), "request.wrong_type", "/subject/properties/issuer"},
		"action only":           {`{"action": {"name": "read"}}`, "request.missing_member", "/resource"},
		"resource only":         {`{"resource": {"type": "page", "id": "1"}}`, "request.missing_member", "/action"},
		"action without name":   {`{"action": {}, "resource": {"type": "page", "id": "1"}}`, "request.missing_member", "/action/name"},
		"resource without type": {`{"action": {"name": "read"}, "resource": {"id": "1"}}`, "request.missing_member", "/resource/type"},
		"properties is list":    {`{"action": {"name": "read", "properties": []}, "resource": {"type": "page", "id": "1"}}`, "request.wrong_type", "/action/properties"},
		"context is list":       {q(`{"mcp"`, `{"context": [], "mcp"`), "request.wrong_type", "/context"},
		"commit without key":    {q(`{"mcp"`, `{"commit": {}, "mcp"`), "request.missing_member", "/commit/idempotency_key"},
		"commit is true":        {q(`{"mcp"`, `{"commit": true, "mcp"`), "request.wrong_type", "/commit"},
		"revision incomplete":   {q(`{"mcp"`, `{"require_revision": {"bundle": "main"}, "mcp"`), "request.missing_member", "/require_revision/revision"},
		"name too long":         {q(`"https://mcp.example.com", "transport"`, `"`+strings.Repeat("x", 5000)+`", "transport"`), "request.too_large", "/mcp/server"},
		"other tool":            {q(`{"mcp"`, `{"resource": {"type": "tool", "id": "pay"}, "mcp"`), "request.mcp_mismatch", "/resource/id"},
		"other method":          {q(`{"mcp"`, `{"action": {"name": "tools/list"}, "mcp"`), "request.mcp_mismatch", "/action/name"},
		"tool without mcp":      {`{"action": {"name": "tools/call"}, "resource": {"type": "tool", "id": "read"}}`, "request.mcp_missing", "/mcp"},
		"other agent":           {q(`{"mcp"`, `{"context": {"agent": "other"}, "mcp"`), "request.agent_mismatch", "/context/agent"},
	}
}

func TestBadInputREST(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	for name, c := range badInput() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := d.post(t, "/v1/check", c.body)
			m := got.json(t)
			path, _ := m["path"].(string)
			if m["code"] != c.code || path != c.path {
				t.Errorf("%d %.300s\nwant %s at %q", got.status, got.body, c.code, c.path)
			}
			if got.status < 400 || got.status >= 500 || m["decision"] != nil {
				t.Errorf("status %d, decision %v", got.status, m["decision"])
			}
			if m["message"] == "" || m["request_id"] != got.header.Get("X-Request-Id") || m["request_id"] == "" {
				t.Errorf("message %q, request id %q, header %q", m["message"], m["request_id"], got.header.Get("X-Request-Id"))
			}
		})
	}
}

// The same faults through gRPC, where free JSON is bytes; the pointers are
// REST's.
func TestBadInputGRPC(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	type message = authzdv1.CheckRequest
	deep := strings.Repeat("[", 100) + strings.Repeat("]", 100)
	for name, c := range map[string]struct {
		change     func(m *message)
		code, path string
	}{
		"empty":             {func(m *message) { *m = message{} }, "request.empty", ""},
		"params syntax":     {func(m *message) { m.Mcp.Params = []byte(`{"name": `) }, "request.syntax", "/mcp/params/name"},
		"params UTF-8":      {func(m *message) { m.Mcp.Params = []byte("{\"name\": \"\xff\"}") }, "request.syntax", "/mcp/params"},
		"params trailing":   {func(m *message) { m.Mcp.Params = []byte(`{} {}`) }, "request.trailing_data", "/mcp/params"},
		"params array":      {func(m *message) { m.Mcp.Params = []byte(`[]`) }, "request.wrong_type", "/mcp/params"},
		"params null":       {func(m *message) { m.Mcp.Params = []byte(`null`) }, "request.wrong_type", "/mcp/params"},
		"params duplicate":  {func(m *message) { m.Mcp.Params = []byte(`{"name": "read", "arguments": {"amount": 1, "amount": 2}}`) }, "request.duplicate_key", "/mcp/params/arguments/amount"},
		"params case":       {func(m *message) { m.Mcp.Params = []byte(`{"name": "read", "Name": "pay"}`) }, "request.case_variant_key", "/mcp/params/Name"},
		"params deep":       {func(m *message) { m.Mcp.Params = []byte(`{"name": "read", "arguments": {"n": ` + deep + `}}`) }, "request.too_deep", "/mcp/params/arguments/n" + strings.Repeat("/0", 60)},
		"params large":      {func(m *message) { m.Mcp.Params = []byte(`{"name": "` + strings.Repeat("x", 300<<10) + `"}`) }, "request.too_large", "/mcp/params"},
		"params exponent":   {func(m *message) { m.Mcp.Params = []byte(`{"name": "read", "arguments": {"n": 1e999999999}}`) }, "request.number_out_of_range", "/mcp/params/arguments/n"},
		"claims duplicate":  {func(m *message) { m.Credentials[0].Claims = []byte(`{"aud": "a", "aud": "b"}`) }, "request.duplicate_key", "/credentials/0/claims/aud"},
		"claims missing":    {func(m *message) { m.Credentials[0].Claims = nil }, "request.missing_member", "/credentials/0/claims"},
		"access token":      {func(m *message) { m.Credentials[0].Claims, m.Credentials[0].AccessToken = nil, "eyJ" }, "request.access_token_unsupported", "/credentials/0/access_token"},
		"context list":      {func(m *message) { m.Context = []byte(`[1]`) }, "request.wrong_type", "/context"},
		"transport":         {func(m *message) { m.Mcp.Transport = "pipe" }, "request.invalid_value", "/mcp/transport"},
		"method unknown":    {func(m *message) { m.Mcp.Method = "tools/burn" }, "mcp.method_unknown", "/mcp/method"},
		"mismatch":          {func(m *message) { m.Resource = &authzdv1.Resource{Type: "tool", Id: "pay"} }, "request.mcp_mismatch", "/resource/id"},
		"unknown field":     {func(m *message) { m.Mcp.ProtoReflect().SetUnknown(unknownField()) }, "request.unknown_member", "/mcp"},
		"unknown on top":    {func(m *message) { m.ProtoReflect().SetUnknown(unknownField()) }, "request.unknown_member", ""},
		"unknown in a list": {func(m *message) { m.Credentials[0].ProtoReflect().SetUnknown(unknownField()) }, "request.unknown_member", "/credentials/0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := request(t, query("read", `{}`, claims(`, "scope": "read"`)))
			c.change(m)
			resp, err := d.rpc.Check(t.Context(), m)
			if resp != nil {
				t.Errorf("a decision: %v", resp)
			}
			wantFault(t, name, err, c.code, c.path)
		})
	}
}

func unknownField() []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, 1000, protowire.VarintType), 1)
}

// raw sends bytes as they are.
type raw struct{ data []byte }

type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) ([]byte, error) {
	r, ok := v.(*raw)
	if !ok {
		return nil, fmt.Errorf("not raw: %T", v)
	}
	return r.data, nil
}

func (rawCodec) Unmarshal([]byte, any) error { return nil }

func TestMalformedProtobuf(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	invalidText := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), []byte("\xff\xfe"))
	for name, data := range map[string][]byte{
		"cut short":            {0x0a, 0x05, 0x01},
		"bad tag":              {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"text not UTF-8":       protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), invalidText),
		"group without an end": {0x0b},
	} {
		err := d.conn.Invoke(t.Context(), authzdv1.DecisionService_Check_FullMethodName, &raw{data}, &emptypb.Empty{}, grpc.ForceCodec(rawCodec{}))
		wantFault(t, name, err, "request.malformed", "")
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, status.Code(err))
		}
	}
}

func TestMessageTooLarge(t *testing.T) {
	t.Parallel()
	d := start(t, func(o *api.Options) { o.Limits.MaxBatchBytes = 64 << 10 })
	m := &authzdv1.CheckRequest{Context: []byte(`{"a": "` + strings.Repeat("x", 100<<10) + `"}`)}
	if _, err := d.rpc.Check(t.Context(), m); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("gRPC: %v", err)
	}
	got := d.post(t, "/v1/check:batch", `{"queries": [], "credentials": [{"id": "`+strings.Repeat("x", 100<<10)+`"}]}`)
	if got.status != 413 || got.json(t)["code"] != "request.too_large" {
		t.Errorf("batch: %d %s", got.status, got.body)
	}
}

func TestBadInputBatch(t *testing.T) {
	t.Parallel()
	d := start(t, nil)
	for name, c := range map[string]struct{ body, code, path string }{
		"no body":         {"", "request.empty", ""},
		"empty object":    {"{}", "request.empty", "/queries"},
		"not JSON":        {"{", "request.syntax", ""},
		"trailing":        {`{"queries": []} x`, "request.trailing_data", ""},
		"duplicate":       {`{"queries": [], "queries": []}`, "request.duplicate_key", "/queries"},
		"case variant":    {`{"queries": [], "Queries": []}`, "request.case_variant_key", "/Queries"},
		"unknown":         {`{"queries": [{"credentials": []}]}`, "request.unknown_member", "/queries/0/credentials"},
		"wrong type":      {`{"queries": {}}`, "request.wrong_type", "/queries"},
		"null element":    {`{"queries": [null]}`, "request.wrong_type", "/queries/0"},
		"text for object": {`{"queries": [{"mcp": "x"}]}`, "request.wrong_type", "/queries/0/mcp"},
		"number for text": {`{"queries": [{"mcp": {"method": 1}}]}`, "request.wrong_type", "/queries/0/mcp/method"},
		"credential":      {`{"queries": [{}], "credentials": [{"id": "a", "claims": 1}]}`, "request.wrong_type", "/credentials/0/claims"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := d.post(t, "/v1/check:batch", c.body)
			m := got.json(t)
			path, _ := m["path"].(string)
			if m["code"] != c.code || path != c.path || got.status < 400 || got.status >= 500 || m["request_id"] != got.header.Get("X-Request-Id") {
				t.Errorf("%d %s\nwant %s at %q", got.status, got.body, c.code, c.path)
			}
		})
	}
	// A fault of one query is that query's answer.
	got := d.post(t, "/v1/check:batch", `{"queries": [{"mcp": {"method": "tools/burn"}}]}`)
	if got.status != 200 || !strings.Contains(string(got.body), `"code":"mcp.method_unknown"`) || !strings.Contains(string(got.body), `"path":"/queries/0/mcp/method"`) {
		t.Errorf("%d %s", got.status, got.body)
	}
}
