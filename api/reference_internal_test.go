package api

import (
	"encoding/base64"
	"regexp"
	"strings"
	"testing"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

// TestReferenceTravels: the reference reaches the caller over both doors and the
// MCP client in the challenge; those of earlier keys reach the caller only.
func TestReferenceTravels(t *testing.T) {
	t.Parallel()
	current, previous := strings.Repeat("c", 32), strings.Repeat("p", 32)
	details := rar.ObjectValue(rar.Member{Name: "type", Value: rar.StringValue("payment")})
	d := engine.Decision{Remediation: &engine.Remediation{Status: engine.Available, Remedies: []engine.Remedy{{
		Kind: engine.KindAuthorizationDetails, Details: []rar.Value{details}, MaxAge: -1,
		Reference: current, PreviousReferences: []string{previous},
	}}}}
	r := Request{Query: &engine.Query{
		Action: engine.Action{Name: "tools/call"},
		MCP:    &engine.MCP{Method: "tools/call", Transport: "http", ProtocolVersion: "2026-07-28", Server: "https://mcp.example.com"},
	}}
	resp := Respond(d, r, DenialOptions{})
	if resp.Fault != nil {
		t.Fatal(resp.Fault)
	}
	challenge := headers(resp.Denial.Headers)["WWW-Authenticate"]
	found := regexp.MustCompile(`authorization_remediation="([^"]*)"`).FindStringSubmatch(challenge)
	if found == nil {
		t.Fatalf("challenge %q", challenge)
	}
	told, err := base64.RawURLEncoding.DecodeString(found[1])
	if err != nil || !strings.Contains(string(told), `"authorization_reference":"`+current+`"`) || strings.Contains(string(told), previous) {
		t.Errorf("the client is told %s (%v)", told, err)
	}
	hint := resp.Proto().GetRemediation().GetHints()[0]
	if hint.GetAuthorizationReference() != current || len(hint.GetPreviousAuthorizationReferences()) != 1 {
		t.Errorf("gRPC hint %v", hint)
	}
	if rest := string(resp.AppendJSON(nil)); !strings.Contains(rest, `"authorization_reference":"`+current+`"`) ||
		!strings.Contains(rest, `"previous_authorization_references":["`+previous+`"]`) {
		t.Errorf("REST answer %s", rest)
	}
}
