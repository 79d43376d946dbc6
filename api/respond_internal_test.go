package api

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	"pgregory.net/rapid"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/mcp"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

// everyFieldSet fails if a field below m is unset, so that a field added to the
// contract is also added to the test.
func everyFieldSet(t *testing.T, m protoreflect.Message, but ...string) {
	t.Helper()
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if len(but) > 0 && string(fd.Name()) == but[0] {
			continue
		}
		if !m.Has(fd) {
			t.Errorf("the test leaves %s unset", fd.FullName())
			continue
		}
		switch {
		case fd.Kind() != protoreflect.MessageKind || fd.IsMap() || isTimestamp(fd):
		case fd.IsList():
			everyFieldSet(t, m.Get(fd).List().Get(0).Message(), but...)
		default:
			everyFieldSet(t, m.Get(fd).Message(), but...)
		}
	}
}

func texts(t *rapid.T, label string) []string {
	return rapid.SliceOfN(anyText(), 0, 3).Draw(t, label)
}

func anyText() *rapid.Generator[string] {
	return rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "a", "\"<\\>\u2028\x00", "\xff", "é😀"}))
}

func someValue(t *rapid.T) rar.Value {
	n := rapid.IntRange(-5, 5).Draw(t, "n")
	number, err := rar.NumberValue("12000.50")
	if err != nil {
		t.Fatal(err)
	}
	return rar.ObjectValue(
		rar.Member{Name: "id", Value: rar.StringValue(anyText().Draw(t, "text"))},
		rar.Member{Name: "n", Value: rar.IntValue(int64(n))},
		rar.Member{Name: "amount", Value: number},
	)
}

func someRemedy(t *rapid.T) engine.Remedy {
	r := engine.Remedy{MaxAge: -1, Held: rapid.Bool().Draw(t, "held")}
	r.Kind = rapid.SampledFrom([]engine.Kind{
		engine.KindScopes, engine.KindAuthorizationDetails, engine.KindAuthentication, engine.KindProofOfPossession,
		engine.KindToken, engine.KindApproval, "other",
	}).Draw(t, "kind")
	switch r.Kind { //nolint:exhaustive // the others have no members
	case engine.KindScopes:
		r.Scopes = texts(t, "scopes")
	case engine.KindAuthorizationDetails:
		r.SingleUse = rapid.Bool().Draw(t, "single use")
		for range rapid.IntRange(0, 2).Draw(t, "details") {
			r.Details = append(r.Details, someValue(t))
		}
	case engine.KindAuthentication:
		r.ACRValues = texts(t, "acr")
		r.MaxAge = rapid.Int64Range(-1, 1<<40).Draw(t, "max age")
	case engine.KindToken:
		r.Reference = rapid.SampledFrom([]string{"", strings.Repeat("r", 32)}).Draw(t, "reference")
		r.TokenPresented = rapid.Bool().Draw(t, "presented")
	case engine.KindApproval:
		r.Approval = &engine.ApprovalRemedy{Title: anyText().Draw(t, "title")}
	}
	return r
}

func someDecision(t *rapid.T) engine.Decision {
	text := func(label string) string { return anyText().Draw(t, label) }
	d := engine.Decision{
		Allow: rapid.Bool().Draw(t, "allow"), ID: text("id"), Rule: text("rule"),
		Message: text("message"), MessageAdmin: text("admin"), CallDigest: "sha-256:abc",
		Policy:  engine.PolicyRef{Bundle: text("bundle"), Revision: text("revision")},
		Subject: engine.SubjectRef{Issuer: text("issuer"), ID: text("subject")},
	}
	for range rapid.IntRange(0, 2).Draw(t, "reasons") {
		d.Reasons = append(d.Reasons, engine.Reason{Code: "requirement.unmet", Kind: engine.KindScopes, Rule: text("r"), Message: text("m"), Detail: texts(t, "detail")})
	}
	for range rapid.IntRange(0, 2).Draw(t, "rejected") {
		d.Rejected = append(d.Rejected, engine.RejectedCredential{ID: "c", Code: "token.expired"})
	}
	if d.Allow {
		for range rapid.IntRange(0, 3).Draw(t, "met") {
			d.Met = append(d.Met, engine.Met{Kind: engine.KindScopes, CredentialID: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "credential")})
		}
		for range rapid.IntRange(0, 2).Draw(t, "obligations") {
			d.Obligations = append(d.Obligations, someValue(t))
		}
		d.ExpiresAt = time.Unix(rapid.Int64Range(1, 1<<33).Draw(t, "at"), rapid.Int64Range(0, 999).Draw(t, "ms")*1e6).UTC()
		return d
	}
	if rapid.Bool().Draw(t, "fault") {
		d.Error = &engine.Fault{Code: engine.CodeArgumentsInvalid, Message: text("fault"), Path: "/mcp"}
	}
	status := rapid.SampledFrom([]engine.Status{engine.Available, engine.Unavailable, engine.Undisclosed}).Draw(t, "status")
	d.Remediation = &engine.Remediation{Status: status, ContextID: "authzctx_abcdefghijklmnopqrstuv"}
	for range rapid.IntRange(0, 3).Draw(t, "remedies") {
		d.Remediation.Remedies = append(d.Remediation.Remedies, someRemedy(t))
	}
	return d
}

func someRequest(t *rapid.T) Request {
	q := &engine.Query{Action: engine.Action{Name: "read"}}
	if rapid.Bool().Draw(t, "mcp") {
		q.MCP = &engine.MCP{
			Method:          rapid.SampledFrom([]string{"tools/call", "resources/read", "tools/list"}).Draw(t, "method"),
			Params:          rar.ObjectValue(rar.Member{Name: "name", Value: rar.StringValue(anyText().Draw(t, "tool"))}),
			Transport:       rapid.SampledFrom([]string{"http", "stdio", ""}).Draw(t, "transport"),
			ProtocolVersion: rapid.SampledFrom([]string{"2026-07-28", "2025-11-25", "2025-06-18", ""}).Draw(t, "version"),
			Server:          rapid.SampledFrom([]string{"https://mcp.example.com/x/", "not a url", "", "http://127.0.0.1:1/mcp"}).Draw(t, "server"),
		}
	}
	return Request{Query: q}
}

// The JSON of REST's hot path is what the codec makes of the gRPC message.
func TestAnswerHasOneForm(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		resp := Respond(someDecision(t), someRequest(t), DenialOptions{})
		direct := resp.AppendJSON(nil)
		message := resp.Proto()
		viaCodec, err := MarshalJSON(message)
		if err != nil {
			t.Fatalf("encode: %v", err)
		}
		a, err := rar.DecodeStrict(direct, rar.Limits{MaxBytes: 1 << 20})
		if err != nil {
			t.Fatalf("direct JSON: %v\n%s", err, direct)
		}
		b, err := rar.DecodeStrict(viaCodec, rar.Limits{MaxBytes: 1 << 20})
		if err != nil {
			t.Fatalf("codec's JSON: %v\n%s", err, viaCodec)
		}
		if !rar.Equal(a, b) {
			t.Fatalf("direct: %s\ncodec:  %s", direct, viaCodec)
		}
		var back authzdv1.CheckResponse
		if err := UnmarshalJSON(direct, &back, Limits{}); err != nil {
			t.Fatalf("the codec does not read it: %v\n%s", err, direct)
		}
		if _, err := proto.Marshal(message); err != nil {
			t.Fatalf("no protobuf: %v", err)
		}
	})
}

// A hint stands in the answer only if the client is offered it too.
func TestHintsFollowTheDenial(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := someDecision(t)
		resp := Respond(d, someRequest(t), DenialOptions{})
		if d.Allow {
			if resp.Message != "" || resp.Denial.HTTPStatus != 0 || resp.Denial.Result.Kind() != rar.Absent {
				t.Fatalf("an allow with a denial: %+v", resp)
			}
			return
		}
		if len(resp.Remedies) > 0 && (resp.Remediation != engine.Available || d.Remediation.Status != engine.Available) {
			t.Fatalf("hints with %s of policy's %s", resp.Remediation, d.Remediation.Status)
		}
		if resp.Message == "" {
			t.Fatalf("a deny without words: %+v", resp)
		}
		none := resp.Denial.HTTPStatus == 0 && resp.Denial.Result.Kind() == rar.Absent && resp.Denial.Error.Kind() == rar.Absent
		if none {
			t.Fatalf("a deny with nothing to send: %+v", resp.Denial)
		}
	})
}

func fullResponse(t *testing.T) *authzdv1.CheckResponse {
	t.Helper()
	return &authzdv1.CheckResponse{
		Decision: authzdv1.Decision_DECISION_DENY, DecisionId: "id", Rule: "r",
		Reasons: []*authzdv1.Reason{{Code: "c", Kind: "k", Rule: "r", Message: "m", Detail: []string{"d"}}},
		Error:   &authzdv1.Error{Code: "c", Message: "m", Path: "/p", RequestId: "q"},
		Remediation: &authzdv1.Remediation{Status: "available", AuthorizationContextId: "x", Hints: []*authzdv1.Hint{{
			Type: "t", Scopes: []string{"s"}, AuthorizationDetails: []byte(`[{"type":"x","n":9007199254740993}]`),
			AuthorizationReference: "ref", SingleUse: true, AcrValues: []string{"a"}, MaxAge: proto.Int32(0), Held: true, TokenPresented: true, Title: "t",
			PreviousAuthorizationReferences: []string{"old"},
		}}},
		Denial: &authzdv1.Denial{
			Http:      &authzdv1.HTTPDenial{Status: 401, Headers: map[string]string{"B": "2", "A": "1"}},
			McpResult: []byte(`{"isError":true}`), McpError: []byte(`{"code":-1}`),
		},
		CredentialIds: []string{"c"}, Met: []*authzdv1.MetRequirement{{Kind: "k", CredentialId: "c"}},
		Obligations: [][]byte{[]byte(`{"id":"o","n":12000.50}`)}, CallDigest: "d",
		ExpiresAt: timestamppb.New(time.Date(2026, 11, 22, 18, 0, 0, 5e6, time.UTC)),
		Policy:    &authzdv1.PolicyRevision{Bundle: "b", Revision: "r"}, RejectedCredentials: []*authzdv1.RejectedCredential{{Id: "c", Code: "x"}},
		Message: "m", MessageAdmin: "ma", Subject: &authzdv1.Identity{Issuer: "i", Id: "s"},
	}
}

func TestCodecRoundTrip(t *testing.T) {
	t.Parallel()
	full := fullResponse(t)
	everyFieldSet(t, full.ProtoReflect())
	for name, m := range map[string]*authzdv1.CheckBatchResponse{
		"full":  {Items: []*authzdv1.CheckBatchItem{{Answer: &authzdv1.CheckBatchItem_Check{Check: full}}, {Answer: &authzdv1.CheckBatchItem_Error{Error: full.GetError()}}, {}}},
		"empty": {},
		"unset": {Items: []*authzdv1.CheckBatchItem{{Answer: &authzdv1.CheckBatchItem_Check{Check: &authzdv1.CheckResponse{Denial: &authzdv1.Denial{}}}}}},
	} {
		text, err := MarshalJSON(m)
		if err != nil {
			t.Fatal(err)
		}
		var object map[string]any
		if err := json.Unmarshal(text, &object); err != nil {
			t.Fatalf("%s: %v: %s", name, err, text)
		}
		var back authzdv1.CheckBatchResponse
		if err := UnmarshalJSON(text, &back, Limits{}); err != nil {
			t.Fatalf("%s: %v: %s", name, err, text)
		}
		if diff := cmp.Diff(m, &back, protocmp.Transform()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	text, err := MarshalJSON(full)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"decision":"DENY"`, `"authorization_details":[{"type":"x","n":9007199254740993}]`, `"obligations":[{"id":"o","n":12000.50}]`,
		`"max_age":0`, `"headers":{"A":"1","B":"2"}`, `"expires_at":"2026-11-22T18:00:00.005Z"`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	text, err = MarshalJSON(&authzdv1.CheckResponse{Denial: &authzdv1.Denial{}})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"reasons":[],"denial":{"http":null,"mcp_result":null,"mcp_error":null},"credential_ids":[],"met":[],"obligations":[],"rejected_credentials":[]}`
	if string(text) != want {
		t.Errorf("unset members: %s", text)
	}
}

func TestCodecRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, code, path string }{
		"unknown enum":     {`{"decision": "MAYBE"}`, "request.invalid_value", "/decision"},
		"protobuf enum":    {`{"decision": "DECISION_ALLOW"}`, "request.invalid_value", "/decision"},
		"enum number":      {`{"decision": 1}`, "request.wrong_type", "/decision"},
		"text for bool":    {`{"remediation": {"hints": [{"held": "true"}]}}`, "request.wrong_type", "/remediation/hints/0/held"},
		"fraction":         {`{"remediation": {"hints": [{"max_age": 1.5}]}}`, "request.invalid_value", "/remediation/hints/0/max_age"},
		"text for number":  {`{"remediation": {"hints": [{"max_age": "1"}]}}`, "request.wrong_type", "/remediation/hints/0/max_age"},
		"number too large": {`{"denial": {"http": {"status": 4294967296}}}`, "request.invalid_value", "/denial/http/status"},
		"header number":    {`{"denial": {"http": {"headers": {"A/b": 1}}}}`, "request.wrong_type", "/denial/http/headers/A~1b"},
		"headers list":     {`{"denial": {"http": {"headers": []}}}`, "request.wrong_type", "/denial/http/headers"},
		"not a time":       {`{"expires_at": "tomorrow"}`, "request.invalid_value", "/expires_at"},
		"time as number":   {`{"expires_at": 1}`, "request.wrong_type", "/expires_at"},
		"null":             {`{"rule": null}`, "request.wrong_type", "/rule"},
		"null message":     {`{"error": null}`, "request.wrong_type", "/error"},
		"list element":     {`{"credential_ids": ["a", 1]}`, "request.wrong_type", "/credential_ids/1"},
		"unknown":          {`{"error": {"Code": ""}}`, "request.unknown_member", "/error/Code"},
	} {
		err := UnmarshalJSON([]byte(c.text), &authzdv1.CheckResponse{}, Limits{})
		if f := faultOf(err); f.code != c.code || f.path != c.path {
			t.Errorf("%s: %v, want %s at %s", name, err, c.code, c.path)
		}
	}
	err := UnmarshalJSON([]byte(`{"check": {}, "error": {}}`), &authzdv1.CheckBatchItem{}, Limits{})
	if f := faultOf(err); f.code != "request.invalid_value" || f.path != "/error" {
		t.Errorf("two of a oneof: %v", err)
	}
	// What has no JSON form is our fault, not silently something.
	for _, m := range []proto.Message{wrapperspb.Bytes([]byte("x")), wrapperspb.Double(1), wrapperspb.UInt32(1)} {
		if _, err := MarshalJSON(m); err == nil {
			t.Errorf("%T was encoded", m)
		}
	}
	if err := UnmarshalJSON([]byte(`{"value": "eA=="}`), &wrapperspb.BytesValue{}, Limits{}); err == nil {
		t.Error("bytes that are no JSON were decoded")
	}
	if text, err := MarshalJSON(durationpb.New(time.Second)); err != nil || string(text) != `{"seconds":1}` {
		t.Errorf("64-bit numbers: %s %v", text, err)
	}
}

// Every field of the contract has a JSON form.
func TestCodecKnowsTheContract(t *testing.T) {
	t.Parallel()
	messages := authzdv1.File_authzd_v1_decision_proto.Messages()
	for i := range messages.Len() {
		fields := messages.Get(i).Fields()
		for j := range fields.Len() {
			fd := fields.Get(j)
			switch k := fd.Kind(); {
			case fd.IsMap():
				if fd.MapKey().Kind() != protoreflect.StringKind || fd.MapValue().Kind() != protoreflect.StringKind {
					t.Errorf("%s: no JSON form", fd.FullName())
				}
			case k == protoreflect.BytesKind && isJSON(fd), k == protoreflect.StringKind, k == protoreflect.BoolKind,
				k == protoreflect.EnumKind, k == protoreflect.Int32Kind, k == protoreflect.Int64Kind, k == protoreflect.MessageKind:
			default:
				t.Errorf("%s: no JSON form", fd.FullName())
			}
		}
	}
}

func TestResourceMetadata(t *testing.T) {
	t.Parallel()
	o := DenialOptions{ResourceMetadata: map[string]string{"https://own.example": "https://own.example/meta"}}
	for server, want := range map[string]string{
		"https://own.example":         "https://own.example/meta",
		"https://mcp.example.com":     "https://mcp.example.com/.well-known/oauth-protected-resource",
		"https://mcp.example.com/":    "https://mcp.example.com/.well-known/oauth-protected-resource",
		"https://mcp.example.com/a/b": "https://mcp.example.com/.well-known/oauth-protected-resource/a/b",
		"http://127.0.0.1:80/mcp":     "http://127.0.0.1:80/.well-known/oauth-protected-resource/mcp",
		"https://u:p@mcp.example.com": "", "https://mcp.example.com/?q=1": "", "stdio:server": "", "": "", "https://": "", "%": "",
	} {
		if got := o.resourceMetadata(server); got != want {
			t.Errorf("%q: %q, want %q", server, got, want)
		}
	}
}

func TestHeadersOfOneName(t *testing.T) {
	t.Parallel()
	got := headers([]mcp.Header{{Name: "www-authenticate", Value: "Bearer a"}, {Name: "WWW-Authenticate", Value: "DPoP b"}, {Name: "cache-control", Value: "no-store"}})
	want := map[string]string{"WWW-Authenticate": "Bearer a, DPoP b", "Cache-Control": "no-store"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
