package mcp_test

import (
	"strings"
	"testing"

	"github.com/authzd/authzd/mcp"
	"github.com/authzd/authzd/rar"
)

// TestAcceptTxnChallenge: a transaction challenge is sent to who accepts it by a
// boolean of RFC 9651 section 3.3.6, whatever its parameters (section 3.1.2) if they
// are well-formed; to nobody else.
func TestAcceptTxnChallenge(t *testing.T) {
	t.Parallel()
	vectors := load[denialVector](t, "denials.json", "mcp-denial/1")
	var denial mcp.Denial
	for _, v := range vectors {
		if len(denial.Remedies) == 0 && strings.HasPrefix(v.Name, "txn-") {
			denial = v.Given.denial(t)
		}
	}
	if len(denial.Remedies) == 0 {
		t.Fatal("no vector of a transaction challenge")
	}
	for value, want := range map[string]bool{
		"?1": true, " ?1 ": true, "?1;a": true, "?1;a;b": true, "?1; a=1": true, "?1;*a=x": true, "?1;a0_-.*=1": true,
		`?1;a="x y~"`: true, `?1;a="\""`: true, `?1;a="\\";b`: true, "?1;a=:YQ==:": true, "?1;a=\"\"": true,
		"": false, "?0": false, "?1;": false, "?1;0a=1": false, "?1;-a": false, "?1;.a": false, "?1;a=": false, "?1a": false, "?1;a=(": false,
		"?1;a=x\x7f": false, "?1;a=\x7f": false, "?1;a=x y": false, `?1;a="x`: false, "?1;a=\"\x7f\"": false, "?1;a=\"\x1f\"": false, `?1;a="\"`: false, "?1;a=:YQ": false,
		`?1;a=:":"`: false, `?1;a="\x"`: false, "?1;a=:Y Q:": false, `?1;a=:Y\Q:`: false, "?1;a=:Y\"Q:": false, "?1;a=::": true, `?1;a="a\\\"b"`: true,
	} {
		d := denial
		d.Request.Headers = []mcp.Header{{Name: "accept-txn-challenge", Value: value}}
		resp, err := mcp.Render(d)
		if err != nil {
			t.Fatal(err)
		}
		sent := false
		for _, h := range headerValues(resp, "WWW-Authenticate") {
			sent = sent || strings.Contains(h, "transaction_challenge=")
		}
		if sent != want {
			t.Errorf("%q: sent %v, want %v", value, sent, want)
		}
	}
}

// TestNotFoundCode: MCP 2026-07-28 forbids the code for a hidden resource that the
// revisions before it have.
func TestNotFoundCode(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]int64{"2025-06-18": -32002, "2025-11-25": -32002, "2026-07-28": -32602} {
		resp, err := mcp.Render(mcp.Denial{
			Remediation: mcp.Undisclosed, Message: "No.", ContextID: "authzctx_7c5d1d79", Transport: "http", ProtocolVersion: version,
			Request: mcp.Request{Method: "resources/read"},
		})
		if code, _ := resp.Error.Get("code"); err != nil || !rar.Equal(code, rar.IntValue(want)) {
			t.Errorf("%s: code %s, want %d, %v", version, code.Text(), want, err)
		}
	}
}

// TestScopesOfAnyVisibleCharacter: RFC 6749 section 3.3 has scopes of %x21,
// %x23-5B and %x5D-7E.
func TestScopesOfAnyVisibleCharacter(t *testing.T) {
	t.Parallel()
	for scope, want := range map[string]bool{"a~": true, "!": true, "a[]": true, "a b": false, `a"`: false, `a\`: false, "a\x7f": false, "a\x1f": false, "": false} {
		resp, _ := mcp.Render(mcp.Denial{
			Remediation: mcp.Available, Message: "No.", ContextID: "authzctx_7c5d1d79", Transport: "http", ProtocolVersion: "2026-07-28",
			Request: mcp.Request{Method: "tools/call", ToolName: "t"}, Remedies: []mcp.Remedy{mcp.ScopesRemedy{Scopes: []string{scope}}},
			Server: mcp.Server{ResourceMetadata: "https://mcp.example.com/.well-known/oauth-protected-resource"},
		})
		told := false
		for _, h := range headerValues(resp, "WWW-Authenticate") {
			told = told || strings.Contains(h, `scope="`+scope+`"`)
		}
		if told != want {
			t.Errorf("scope %q: told %v, want %v", scope, told, want)
		}
	}
}
