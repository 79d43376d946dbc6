package main

import (
	"strings"
	"testing"
)

// mappedBundle is a folder whose policy permits what the mapping of the query
// below asks. Setting is declared_mappings; its case wants ALLOW.
func mappedBundle(t *testing.T, setting string) string {
	t.Helper()
	return bundle(t, map[string]string{
		".manifest": `{"roots": ["authz", "authzd_tools"], "metadata": {"authzd": {"contract": 1, "declared_mappings": "` + setting + `"}}}`,
		"policy.rego": `package authz

import data.authzd.v1 as authzd

permit["read"] := {"require": [authzd.scopes(["read"])]} if {
	input.action.name == "read"
	input.resource.id == "/a"
}
`,
		"authzd_tools/copy/data.json": `{"arguments": {"type": "object", "properties": {"from": {"type": "string"}}, "required": ["from"]}}`,
		"cases/query.json":            mappedQuery("$token.sub"),
		"cases/copy.yaml": `cases:
  the mapping asks:
    query_file: query.json
    want: {decision: ALLOW, rule: read}
  of somebody else:
    query_file: query.json
    set: {/mcp/tool/inputSchema/x-authzen-mapping/evaluation/subject/id: bob}
    want: {error: mcp.mapping_subject}
`,
	})
}

func mappedQuery(subject string) string {
	return `{"mcp": {"method": "tools/call", "params": {"name": "copy", "arguments": {"from": "/a"}},
		"server": "https://mcp.example.com", "transport": "http", "protocol_version": "2026-07-28",
		"tool": {"inputSchema": {"type": "object", "x-authzen-mapping": {"evaluation": {"subject": {"id": "` + subject + `"},
			"action": {"name": "read"}, "resource": {"type": "file", "id": "$params.arguments.from"}, "context": {"agent": "$token.client_id"}}}}}},
	"credentials": [{"id": "c", "claims": {"iss": "https://as.example.com", "sub": "alice", "aud": "https://mcp.example.com",
		"exp": 4102444800, "client_id": "agent", "scope": "read"}}]}`
}

// TestCheckDeclaredMapping: the command line answers as the server does.
func TestCheckDeclaredMapping(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		setting, subject string
		code             int
		out              string
	}{
		{"verified_subject", "$token.sub", 0, `"rule":"read"`},
		{"any_subject", "$token.sub", 0, `"rule":"read"`},
		{"refuse", "$token.sub", 1, `"code":"mcp.mapping_unsupported"`},
		{"verified_subject", "bob", 1, `"code":"mcp.mapping_subject"`},
		{"verified_subject", "$token.nope", 1, `"path":"/mcp/tool/inputSchema/x-authzen-mapping/evaluation/subject/id"`},
		{"any_subject", "bob", 0, `"code":"engine.subject_unverified"`},
	} {
		code, stdout, stderr := command(t, mappedQuery(c.subject), "check", "-f", "-", "--bundle", mappedBundle(t, c.setting))
		if code != c.code || !strings.Contains(stdout, c.out) {
			t.Errorf("%s of %s: exit %d\n%s%s", c.subject, c.setting, code, stdout, stderr)
		}
	}
}

func TestCasesWithDeclaredMapping(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := command(t, "", "test", mappedBundle(t, "verified_subject"))
	if code != 0 || !strings.Contains(stdout, "2 passed, 0 failed") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	code, stdout, _ = command(t, "", "test", mappedBundle(t, "refuse"))
	if code == 0 || !strings.Contains(stdout, "mcp.mapping_unsupported") {
		t.Errorf("where policy refuses mappings: exit %d\n%s", code, stdout)
	}
}
