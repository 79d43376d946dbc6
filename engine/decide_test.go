package engine_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

// anyTool declares tool t with one free argument x.
const anyTool = `{"authzd_tools": {"t": {"arguments": {"type": "object", "properties": {"x": true}}}}}`

// TestPolicyOutcomes walks what policy can say; each wrong form denies.
func TestPolicyOutcomes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, policy string
		allow        bool
		fault        engine.Code
		reason       engine.Code
		status       engine.Status
		rule         string
	}{
		{name: "permit without requirement", policy: `permit["a"] := {}`, allow: true, reason: engine.CodePermitted, rule: "a"},
		{name: "plain allow", policy: `allow if true`, allow: true, reason: engine.CodePermitted, rule: "allow"},
		{name: "plain allow false", policy: `default allow := false`, reason: engine.CodeNoPermit, status: engine.Undisclosed},
		{name: "nothing defined", policy: `allow if input.tenant == "none"`, reason: engine.CodeNoPermit, status: engine.Undisclosed},
		{name: "allow a string", policy: `allow := "yes"`, fault: engine.CodeMalformedOutput},
		{name: "allow an object", policy: `allow := {"a": 1}`, fault: engine.CodeMalformedOutput},
		{name: "allow a set", policy: `allow contains "x"`, fault: engine.CodeMalformedOutput},
		{name: "permit true", policy: `permit := true`, fault: engine.CodeMalformedOutput},
		{name: "permit a set", policy: `permit contains "x"`, fault: engine.CodeMalformedOutput},
		{name: "rule true", policy: `permit["a"] := true`, fault: engine.CodeMalformedOutput},
		{name: "rule without name", policy: `permit[""] := {}`, fault: engine.CodeMalformedOutput},
		{name: "unknown member", policy: `permit["a"] := {"requires": []}`, fault: engine.CodeMalformedOutput},
		{name: "require an object", policy: `permit["a"] := {"require": {}}`, fault: engine.CodeMalformedOutput},
		{name: "require null", policy: `permit["a"] := {"require": null}`, fault: engine.CodeMalformedOutput},
		{name: "require empty", policy: `permit["a"] := {"require": []}`, fault: engine.CodeEmptyRequirement},
		{name: "require a set", policy: `permit["a"] := {"require": set()}`, fault: engine.CodeMalformedOutput},
		{name: "require a string", policy: `permit["a"] := {"require": ["scopes"]}`, fault: engine.CodeMalformedOutput},
		{name: "kind a number", policy: `permit["a"] := {"require": [{"kind": 1}]}`, fault: engine.CodeMalformedOutput},
		{name: "kind missing", policy: `permit["a"] := {"require": [{"scopes": ["a"]}]}`, fault: engine.CodeMalformedOutput},
		{name: "unknown kind", policy: `permit["a"] := {"require": [{"kind": "karma"}]}`, fault: engine.CodeUnknownRequirement},
		{name: "token is no requirement", policy: `permit["a"] := {"require": [{"kind": "token"}]}`, fault: engine.CodeUnknownRequirement},
		{name: "scopes empty", policy: `permit["a"] := {"require": [authzd.scopes([])]}`, fault: engine.CodeEmptyRequirement},
		{name: "scopes a string", policy: `permit["a"] := {"require": [{"kind": "scopes", "scopes": "s"}]}`, fault: engine.CodeMalformedOutput},
		{name: "scopes a number", policy: `permit["a"] := {"require": [{"kind": "scopes", "scopes": [1]}]}`, fault: engine.CodeMalformedOutput},
		{name: "scopes an empty string", policy: `permit["a"] := {"require": [{"kind": "scopes", "scopes": [""]}]}`, fault: engine.CodeMalformedOutput},
		{name: "scopes with a blank", policy: `permit["a"] := {"require": [{"kind": "scopes", "scopes": ["a b"]}]}`, fault: engine.CodeMalformedOutput},
		{name: "scopes with more", policy: `permit["a"] := {"require": [{"kind": "scopes", "scopes": ["a"], "any": true}]}`, fault: engine.CodeMalformedOutput},
		{name: "details empty", policy: `permit["a"] := {"require": [authzd.authorization_details([])]}`, fault: engine.CodeEmptyRequirement},
		{name: "details an empty text", policy: `permit["a"] := {"require": [{"kind": "authorization_details", "authorization_details": ""}]}`, fault: "rar.not_array"},
		{name: "details missing", policy: `permit["a"] := {"require": [{"kind": "authorization_details"}]}`, fault: "rar.not_array"},
		{name: "details undeclared", policy: `permit["a"] := {"require": [authzd.authorization_details([{"type": "zzz"}])]}`, fault: "rar.unknown_type"},
		{name: "details with more", policy: `permit["a"] := {"require": [{"kind": "authorization_details", "authorization_details": [{"type": "zzz"}], "singleuse": true}]}`, fault: engine.CodeMalformedOutput},
		{name: "single_use not a boolean", policy: `permit["a"] := {"require": [{"kind": "authorization_details", "authorization_details": [{"type": "zzz"}], "single_use": 1}]}`, fault: engine.CodeMalformedOutput},
		{name: "authentication empty", policy: `permit["a"] := {"require": [authzd.authentication({})]}`, fault: engine.CodeEmptyRequirement},
		{name: "authentication age negative", policy: `permit["a"] := {"require": [authzd.authentication({"max_age": -1})]}`, fault: engine.CodeMalformedOutput},
		{name: "approval without approver", policy: `permit["a"] := {"require": [authzd.approval({"workflow": "w"})]}`, fault: engine.CodeMalformedOutput},
		{name: "approval without workflow", policy: `permit["a"] := {"require": [{"kind": "approval", "approver": "subject"}]}`, fault: engine.CodeMalformedOutput},
		{name: "approval with an empty workflow", policy: `permit["a"] := {"require": [{"kind": "approval", "workflow": "", "approver": "subject"}]}`, fault: engine.CodeMalformedOutput},
		{name: "approval with more", policy: `permit["a"] := {"require": [{"kind": "approval", "workflow": "w", "approver": "subject", "by": "x"}]}`, fault: engine.CodeMalformedOutput},
		{name: "authentication of this moment", policy: `permit["a"] := {"require": [{"kind": "authentication", "max_age": 0}]}`, reason: engine.CodeUnmet, status: engine.Available, rule: "a"},
		{name: "approval", policy: `permit["a"] := {"require": [authzd.approval({"workflow": "w", "approver": "subject"})]}`, reason: engine.CodeApprovalUnavailable, status: engine.Undisclosed, rule: "a"},
		{name: "possession unmet", policy: `permit["a"] := {"require": [{"kind": "proof_of_possession"}]}`, reason: engine.CodeUnmet, status: engine.Available, rule: "a"},
		{name: "authentication with more", policy: `permit["a"] := {"require": [{"kind": "authentication", "max_age": 60, "acr": "x"}]}`, fault: engine.CodeMalformedOutput},
		{name: "acr_values a text", policy: `permit["a"] := {"require": [{"kind": "authentication", "acr_values": "x"}]}`, fault: engine.CodeMalformedOutput},
		{name: "acr_values of numbers", policy: `permit["a"] := {"require": [{"kind": "authentication", "acr_values": [1], "max_age": 60}]}`, fault: engine.CodeMalformedOutput},
		{name: "an approval that binds a text", policy: `permit["a"] := {"require": [{"kind": "approval", "workflow": "w", "approver": "subject", "binds": "x"}]}`, fault: engine.CodeMalformedOutput},
		{name: "an approval with a number for its title", policy: `permit["a"] := {"require": [{"kind": "approval", "workflow": "w", "approver": "subject", "title": 1}]}`, fault: engine.CodeMalformedOutput},
		{name: "an approval with an empty title", policy: `permit["a"] := {"require": [{"kind": "approval", "workflow": "w", "approver": "subject", "title": ""}]}`, fault: engine.CodeMalformedOutput},
		{name: "possession with more", policy: `permit["a"] := {"require": [{"kind": "proof_of_possession", "alg": "x"}]}`, fault: engine.CodeMalformedOutput},
		{name: "priority a string", policy: `permit["a"] := {"priority": "1"}`, fault: engine.CodeMalformedOutput},
		{name: "priority too large", policy: `permit["a"] := {"priority": 1001}`, fault: engine.CodeMalformedOutput},
		{name: "obligation without id", policy: `permit["a"] := {"obligations": [{}]}`, fault: engine.CodeMalformedOutput},
		{name: "obligations an object", policy: `permit["a"] := {"obligations": {}}`, fault: engine.CodeMalformedOutput},
		{name: "one malformed of two", policy: `permit["a"] := {}` + "\n" + `permit["b"] := []`, fault: engine.CodeMalformedOutput},
		{name: "two values of a permit", policy: `permit["a"] := {"priority": 1} if input.tenant == "default"` + "\n" + `permit["a"] := {"priority": 2} if input.action.name == "tools/call"`, fault: engine.CodeAmbiguousPermit},
		{name: "two values of a forbid", policy: `forbid["a"] := {"message": "x"} if input.tenant == "default"` + "\n" + `forbid["a"] := {"message": "y"} if input.action.name == "tools/call"`, fault: engine.CodeAmbiguousForbid},
		{name: "two values of a helper", policy: `h := 1 if input.tenant == "default"` + "\n" + `h := 2 if input.action.name == "tools/call"` + "\n" + `permit["a"] := {} if h == 1`, fault: engine.CodeConflict},
		{name: "builtin error", policy: `permit["a"] := {} if to_number(input.tenant) == 1`, fault: engine.CodeBuiltinError},
		{name: "builtin error in a forbid", policy: `permit["a"] := {}` + "\n" + `forbid["b"] := {} if to_number(input.tenant) == 1`, fault: engine.CodeBuiltinError},
		{name: "forbid wins", policy: `permit["a"] := {}` + "\n" + `forbid["b"] := {}`, reason: engine.CodeForbidden, status: engine.Undisclosed, rule: "b"},
		{name: "forbid with code", policy: `forbid["b"] := {"code": "fraud.blocked", "remediation": "unavailable"}`, reason: "fraud.blocked", status: engine.Unavailable, rule: "b"},
		{name: "undisclosed wins", policy: `forbid["b"] := {"remediation": "unavailable"}` + "\n" + `forbid["c"] := {}`, reason: engine.CodeForbidden, status: engine.Undisclosed, rule: "b"},
		{name: "forbid with our code", policy: `forbid["b"] := {"code": "engine.permitted"}`, fault: engine.CodeMalformedOutput},
		{name: "forbid true", policy: `forbid["b"] := true`, fault: engine.CodeMalformedOutput},
		{name: "forbid a set", policy: `forbid contains "b"`, fault: engine.CodeMalformedOutput},
		{name: "forbid unknown member", policy: `forbid["b"] := {"msg": "x"}`, fault: engine.CodeMalformedOutput},
		{name: "forbid remediation available", policy: `forbid["b"] := {"remediation": "available"}`, fault: engine.CodeMalformedOutput},
		{name: "forbid message a number", policy: `forbid["b"] := {"message": 1}`, fault: engine.CodeMalformedOutput},
		{name: "plain deny", policy: "allow := true\ndeny := true", reason: engine.CodeForbidden, status: engine.Undisclosed, rule: "deny"},
		{name: "plain deny false", policy: "allow := true\ndeny := false", allow: true, reason: engine.CodePermitted, rule: "allow"},
		{name: "plain deny set empty", policy: "allow := true\n" + `deny contains "no" if input.tenant == "other"`, allow: true, reason: engine.CodePermitted, rule: "allow"},
		{name: "plain deny set", policy: "allow := true\n" + `deny contains "no"`, reason: engine.CodeForbidden, status: engine.Undisclosed, rule: "deny"},
		{name: "plain deny objects", policy: "allow := true\n" + `deny contains {"message": "no", "remediation": "unavailable"}`, reason: engine.CodeForbidden, status: engine.Unavailable, rule: "deny"},
		{name: "plain deny array", policy: "allow := true\n" + `deny := ["no"]`, fault: engine.CodeMalformedOutput},
		{name: "plain deny empty array", policy: "allow := true\n" + `deny := []`, fault: engine.CodeMalformedOutput},
		{name: "plain deny object", policy: "allow := true\n" + `deny := {"a": 1}`, fault: engine.CodeMalformedOutput},
		{name: "plain deny null", policy: "allow := true\n" + `deny := null`, fault: engine.CodeMalformedOutput},
		{name: "plain deny of numbers", policy: "allow := true\n" + `deny contains 1`, fault: engine.CodeMalformedOutput},
		{name: "other rules do not count", policy: "allow := true\n" + `other := to_number("x")`, allow: true, reason: engine.CodePermitted, rule: "allow"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := newEngine(compile(t, "package authz\n\nimport data.authzd.v1 as authzd\n\n"+imported(c.policy), anyTool))
			d := decide(t, e, call(t, "t", "", credential(t, "c", claims(""))))
			if d.Allow != c.allow || d.Rule != c.rule {
				t.Fatalf("allow %v rule %q, error %+v, reasons %+v", d.Allow, d.Rule, d.Error, d.Reasons)
			}
			if c.fault != "" {
				if d.Error == nil || d.Error.Code != c.fault || d.Remediation.Status != engine.Undisclosed {
					t.Fatalf("want fault %s, got %+v", c.fault, d.Error)
				}
				if len(d.Reasons) != 1 || d.Reasons[0].Code != c.fault {
					t.Errorf("want reason %s alone, got %+v", c.fault, d.Reasons)
				}
				return
			}
			if d.Error != nil || len(d.Reasons) == 0 || d.Reasons[0].Code != c.reason {
				t.Fatalf("want reason %s, got %+v, error %+v", c.reason, d.Reasons, d.Error)
			}
			if !c.allow && d.Remediation.Status != c.status {
				t.Errorf("want status %s, got %s", c.status, d.Remediation.Status)
			}
		})
	}
}

// imported uses the library's import in a policy that has no need of it:
// strict mode refuses an unused one.
func imported(policy string) string {
	if strings.Contains(policy, "authzd.") {
		return policy
	}
	return policy + "\n\nlibrary := authzd.decimal(\"1\")\n"
}

// TestQueryErrors: no decision, a code and a place, and nothing like an allow.
func TestQueryErrors(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, "package authz\nallow := true", anyTool))
	good := func() *engine.Query { return call(t, "t", `{}`, credential(t, "c", claims(""))) }
	for _, c := range []struct {
		name   string
		change func(*engine.Query) *engine.Query
		code   engine.Code
		path   string
	}{
		{"no query", func(*engine.Query) *engine.Query { return nil }, engine.CodeEmptyQuery, ""},
		{"no action", func(q *engine.Query) *engine.Query { q.Action.Name = ""; return q }, engine.CodeMissingMember, "/action/name"},
		{"no resource", func(q *engine.Query) *engine.Query { q.Resource.ID = ""; return q }, engine.CodeMissingMember, "/resource"},
		{"subject without id", func(q *engine.Query) *engine.Query { q.Subject = &engine.Subject{Type: "identity"}; return q }, engine.CodeMissingMember, "/subject"},
		{"context a list", func(q *engine.Query) *engine.Query { q.Context = rar.ArrayValue(); return q }, engine.CodeWrongType, "/context"},
		{"agent a number", func(q *engine.Query) *engine.Query { q.Context = decode(t, `{"agent": 1}`); return q }, engine.CodeWrongType, "/context/agent"},
		{"another agent", func(q *engine.Query) *engine.Query { q.Context = decode(t, `{"agent": "x"}`); return q }, engine.CodeAgentMismatch, "/context/agent"},
		{"call without message", func(q *engine.Query) *engine.Query { q.MCP = nil; return q }, engine.CodeMCPMissing, "/mcp"},
		{"another method", func(q *engine.Query) *engine.Query { q.MCP.Method = "tools/list"; return q }, engine.CodeMCPMismatch, "/action/name"},
		{"no method", func(q *engine.Query) *engine.Query { q.MCP.Method = ""; return q }, engine.CodeMissingMember, "/mcp/method"},
		{"another tool", func(q *engine.Query) *engine.Query { q.Resource.ID = "u"; return q }, engine.CodeMCPMismatch, "/resource/id"},
		{"tool of another type of case", func(q *engine.Query) *engine.Query { q.MCP.Params = decode(t, `{"name": "T"}`); return q }, engine.CodeMCPMismatch, "/resource/id"},
		{"a resource of another type", func(q *engine.Query) *engine.Query { q.Resource.Type = "file"; return q }, engine.CodeMCPMismatch, "/resource/type"},
		{"no tool name", func(q *engine.Query) *engine.Query { q.MCP.Params = decode(t, `{}`); return q }, engine.CodeMissingMember, "/mcp/params/name"},
		{"tool name a number", func(q *engine.Query) *engine.Query { q.MCP.Params = decode(t, `{"name": 1}`); return q }, engine.CodeMissingMember, "/mcp/params/name"},
		{"arguments null", func(q *engine.Query) *engine.Query {
			q.MCP.Params = decode(t, `{"name": "t", "arguments": null}`)
			return q
		}, engine.CodeWrongType, "/mcp/params/arguments"},
		{"arguments a list", func(q *engine.Query) *engine.Query {
			q.MCP.Params = decode(t, `{"name": "t", "arguments": []}`)
			return q
		}, engine.CodeWrongType, "/mcp/params/arguments"},
		{"a credential without id", func(q *engine.Query) *engine.Query { q.Credentials[0].ID = ""; return q }, engine.CodeInvalidValue, "/credentials"},
		{"credential ids repeat", func(q *engine.Query) *engine.Query {
			q.Credentials = append(q.Credentials, q.Credentials[0])
			return q
		}, engine.CodeInvalidValue, "/credentials"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d, err := e.Decide(t.Context(), c.change(good()))
			wantError(t, d, err, c.code, c.path)
		})
	}
}

func wantError(t *testing.T, d engine.Decision, err error, code engine.Code, path string) {
	t.Helper()
	var e *engine.Error
	if !errors.As(err, &e) || e.Code != code || e.Path != path {
		t.Fatalf("want %s at %q, got %v", code, path, err)
	}
	if d.Allow || d.ID != "" {
		t.Fatalf("an error came with decision %+v", d)
	}
}

// TestSubjectOfTwoIssuers: the same sub under two issuers is two people.
func TestSubjectOfTwoIssuers(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, `package authz
permit["boss"] := {} if {
	input.subject.id == "alice@example.com"
	input.subject.properties.issuer == "https://as.example.com"
}`, anyTool))
	ours := credential(t, "ours", claims(""))
	theirs := credential(t, "theirs", strings.Replace(claims(""), testIssuer, "https://evil.example.com", 1))
	subject := &engine.Subject{Type: "identity", ID: alice}

	for _, order := range [][]engine.Credential{{ours, theirs}, {theirs, ours}} {
		q := call(t, "t", "", order...)
		q.Subject = subject
		d, err := e.Decide(t.Context(), q)
		wantError(t, d, err, engine.CodeSubjectAmbiguous, "/subject")

		q = call(t, "t", "", order...)
		q.Subject = &engine.Subject{Type: "identity", ID: alice, Issuer: testIssuer}
		if d := decide(t, e, q); !d.Allow || len(d.Rejected) != 1 || d.Rejected[0].Code != engine.CodeTokenSubject {
			t.Errorf("the named issuer: %+v", d)
		}

		q = call(t, "t", "", ours, credential(t, "again", claims("")))
		q.Subject = subject
		if d := decide(t, e, q); !d.Allow || len(d.Rejected) > 0 || d.Subject.Issuer != testIssuer {
			t.Errorf("two of one issuer: %+v", d)
		}

		bob := credential(t, "bob", strings.Replace(claims(""), alice, "bob@example.com", 1))
		bob.Issuer = "https://evil.example.com"
		q = call(t, "t", "", ours, bob)
		q.Subject = subject
		if d := decide(t, e, q); !d.Allow || d.Subject.Issuer != testIssuer {
			t.Errorf("beside another's: allow %v for %+v", d.Allow, d.Subject)
		}

		q = call(t, "t", "", order...)
		d = decide(t, e, q)
		if d.Allow != (order[0].ID == "ours") || d.Subject.Issuer != order[0].Issuer {
			t.Errorf("first credential %s: allow %v for %+v", order[0].ID, d.Allow, d.Subject)
		}
	}
}

// TestRejectedIsNotNone: who presents nothing but unusable credentials is not judged as
// one who needs none, whoever the subject is said to be.
func TestRejectedIsNotNone(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, "package authz\nallow := true", anyTool))
	subject := &engine.Subject{Type: "identity", ID: alice, Issuer: testIssuer}
	none, checked, atTheDoor := call(t, "t", ""), call(t, "t", "", credential(t, "c", strings.Replace(claims(""), testServer, "https://other.example.com", 1))), call(t, "t", "")
	atTheDoor.Rejected = []engine.RejectedCredential{{ID: "c", Code: engine.CodeTokenExpired}}
	for q, allow := range map[*engine.Query]bool{none: true, checked: false, atTheDoor: false} {
		q.Subject = subject
		if d := decide(t, e, q); d.Allow != allow || len(d.Rejected) > 0 == allow {
			t.Errorf("allow %v, rejected %+v", d.Allow, d.Rejected)
		}
	}
}

// TestCredentialOfAnother: what another one's credential holds meets no requirement.
func TestCredentialOfAnother(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, "package authz\npermit[\"a\"] := {\"require\": [{\"kind\": \"scopes\", \"scopes\": [\"pay\"]}]}", anyTool))
	ours, able := credential(t, "ours", claims("")), claims(`"scope": "pay"`)
	if d := decide(t, e, call(t, "t", "", ours, credential(t, "same", able))); !d.Allow {
		t.Fatalf("the subject's own: %+v", d.Reasons)
	}
	for name, theirs := range map[string]string{
		"subject": strings.Replace(able, alice, "bob@example.com", 1),
		"issuer":  strings.Replace(able, testIssuer, "https://evil.example.com", 1),
	} {
		q := call(t, "t", "", ours, credential(t, "theirs", theirs))
		d := decide(t, e, q)
		if d.Allow || len(d.Rejected) != 1 || d.Rejected[0].ID != "theirs" || d.Rejected[0].Code != engine.CodeTokenSubject {
			t.Errorf("another %s: allow %v, rejected %+v", name, d.Allow, d.Rejected)
		}
	}
}

// TestCredentialChecks: each fault alone makes the only credential unusable,
// and the client is told to get another token, not why.
func TestCredentialChecks(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, "package authz\nallow := true", anyTool))
	base := map[string]string{
		"iss": `"` + testIssuer + `"`, "sub": `"` + alice + `"`, "aud": `"` + testServer + `"`, "exp": "1795380000", "client_id": `"agent"`,
	}
	for _, c := range []struct {
		name, claim, value string
		code               engine.Code
	}{
		{"no issuer", "iss", "", engine.CodeTokenIssuer},
		{"issuer a number", "iss", "1", engine.CodeTokenClaims},
		{"no subject", "sub", "", engine.CodeTokenClaims},
		{"subject null", "sub", "null", engine.CodeTokenClaims},
		{"no expiry", "exp", "", engine.CodeTokenClaims},
		{"expiry a string", "exp", `"1795370000"`, engine.CodeTokenClaims},
		{"expiry huge", "exp", "1e300", engine.CodeTokenClaims},
		{"expiry negative", "exp", "-1", engine.CodeTokenClaims},
		{"expired", "exp", "1795370399", engine.CodeTokenExpired},
		{"expires now", "exp", "1795370400", engine.CodeTokenExpired},
		{"not yet", "nbf", "1795370461", engine.CodeTokenNotYet},
		{"issued in future", "iat", "1795370461", engine.CodeTokenNotYet},
		{"no audience", "aud", "", engine.CodeTokenAudience},
		{"another audience", "aud", `"https://other.example.com"`, engine.CodeTokenAudience},
		{"audience prefix", "aud", `"https://mcp.example.com/"`, engine.CodeTokenAudience},
		{"audience list without us", "aud", `["https://other.example.com"]`, engine.CodeTokenAudience},
		{"audience of numbers", "aud", `[1]`, engine.CodeTokenClaims},
		{"scope a list", "scope", `["a"]`, engine.CodeTokenClaims},
		{"bound, not proved", "cnf", `{"jkt": "x"}`, engine.CodeTokenProof},
		{"actor a string", "act", `"agent"`, engine.CodeTokenActors},
		{"actor null", "act", `null`, engine.CodeTokenActors},
		{"inner actor null", "act", `{"sub": "a", "act": null}`, engine.CodeTokenActors},
		{"actor without sub", "act", `{"iss": "x"}`, engine.CodeTokenActors},
		{"actors too deep", "act", strings.Repeat(`{"sub": "a", "act": `, 9) + `{"sub": "a"}` + strings.Repeat("}", 9), engine.CodeTokenActors},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var members []string
			for k, v := range base {
				if k != c.claim {
					members = append(members, `"`+k+`": `+v)
				}
			}
			if c.value != "" {
				members = append(members, `"`+c.claim+`": `+c.value)
			}
			q := call(t, "t", "")
			cred, rejected := engine.CredentialFromClaims("c", "pep", "", decode(t, "{"+strings.Join(members, ",")+"}"))
			if rejected != nil {
				q.Rejected = append(q.Rejected, *rejected)
			} else {
				q.Credentials = append(q.Credentials, cred)
			}
			past := engine.New(engine.Options{Now: func() time.Time { return time.Unix(1795370400, 0) }})
			past.Swap(e.Snapshot())
			d := decide(t, past, q)
			if d.Allow || len(d.Rejected) != 1 || d.Rejected[0].Code != c.code {
				t.Fatalf("want %s, got %+v", c.code, d.Rejected)
			}
			r := d.Remediation
			if r.Status != engine.Available || len(r.Remedies) != 1 || r.Remedies[0].Kind != engine.KindToken || !r.Remedies[0].TokenPresented {
				t.Errorf("remediation %+v", r)
			}
			if d.Reasons[0].Code != engine.CodeNoUsableCredential {
				t.Errorf("reasons %+v", d.Reasons)
			}
		})
	}
}

func TestNoCredential(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, `package authz
import data.authzd.v1 as authzd
permit["s"] := {"require": [authzd.scopes(["s"])]}`, anyTool))
	d := decide(t, e, call(t, "t", ""))
	if d.Allow || d.Reasons[0].Code != engine.CodeNoCredential || d.Remediation.Remedies[0].TokenPresented {
		t.Fatalf("without anything: %+v", d)
	}
	q := call(t, "t", "")
	q.Subject = &engine.Subject{Type: "identity", ID: alice}
	d = decide(t, e, q)
	r := d.Remediation
	if d.Allow || d.Rule != "s" || r.Status != engine.Available || r.Remedies[0].Kind != engine.KindToken || r.Remedies[0].Scopes[0] != "s" {
		t.Fatalf("with a subject: %+v %+v", d, r)
	}
	q.Actionable = engine.NewKindSet(engine.KindAuthorizationDetails)
	if d = decide(t, e, q); d.Remediation.Status != engine.Undisclosed {
		t.Errorf("a client that cannot be challenged: %+v", d.Remediation)
	}
}

// TestOneRequirementOneCredential: two credentials never add up.
func TestOneRequirementOneCredential(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, `package authz
import data.authzd.v1 as authzd
permit["s"] := {"require": [authzd.scopes(["a", "b"]), authzd.scopes(["c"])]}`, anyTool))
	a := credential(t, "a", claims(`"scope": "a c"`))
	b := credential(t, "b", claims(`"scope": "b"`))
	if d := decide(t, e, call(t, "t", "", a, b)); d.Allow {
		t.Fatal("two halves made a whole")
	}
	ab := credential(t, "ab", claims(`"scope": "b a"`))
	d := decide(t, e, call(t, "t", "", a, ab))
	if !d.Allow || d.Met[0].CredentialID != "ab" || d.Met[1].CredentialID != "a" {
		t.Fatalf("different requirements may be met by different credentials: %+v", d)
	}
}

func TestArguments(t *testing.T) {
	t.Parallel()
	s := compile(t, "package authz\nallow := true", `{"authzd_tools": {"t": {"arguments": {
		"type": "object", "properties": {"n": {"type": "integer", "maximum": 9007199254740992}, "o": {"type": "object", "properties": {"p": {"type": "string"}}}},
		"required": ["n"]}}}}`)
	e := newEngine(s)
	cred := credential(t, "c", claims(""))
	for _, c := range []struct{ args, path string }{
		{`{"n": 1}`, ""},
		{`{"n": 1, "o": {"p": "x"}}`, ""},
		{`{}`, "/mcp/params/arguments"},
		{`{"n": null}`, "/mcp/params/arguments/n"},
		{`{"n": "1"}`, "/mcp/params/arguments/n"},
		{`{"n": [1]}`, "/mcp/params/arguments/n"},
		{`{"n": 1.5}`, "/mcp/params/arguments/n"},
		{`{"n": 9007199254740993}`, "/mcp/params/arguments/n"},
		{`{"n": 1, "m": 1}`, "/mcp/params/arguments/m"},
		{`{"n": 1, "N": 1}`, "/mcp/params/arguments/N"},
		{`{"n": 1, "o": {"p": "x", "q": 1}}`, "/mcp/params/arguments/o/q"},
	} {
		d := decide(t, e, call(t, "t", c.args, cred))
		if c.path == "" {
			if !d.Allow {
				t.Errorf("%s: %+v", c.args, d.Error)
			}
			continue
		}
		if d.Allow || d.Error == nil || d.Error.Code != engine.CodeArgumentsInvalid || d.Error.Path != c.path || d.Remediation.Status != engine.Undisclosed {
			t.Errorf("%s: want a fault at %s, got %+v", c.args, c.path, d.Error)
		}
		if want := "The arguments do not fit the tool's schema at " + c.path + "."; d.Message != want {
			t.Errorf("%s: %q, want %q", c.args, d.Message, want)
		}
	}
	d := decide(t, e, call(t, "u", `{}`, cred))
	if d.Allow || d.Error.Code != engine.CodeToolUnknown {
		t.Errorf("tool without schema: %+v", d)
	}
	q := call(t, "u", `{"y": 1}`, cred)
	q.MCP.Tool = decode(t, `{"inputSchema": {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "properties": {"x": {"type": "string"}}}}`)
	if d = decide(t, e, q); d.Allow || d.Error.Code != engine.CodeArgumentsInvalid {
		t.Errorf("the query's schema closes too: %+v", d)
	}
	q.MCP.Params = decode(t, `{"name": "u", "arguments": {"x": "1"}}`)
	if d = decide(t, e, q); !d.Allow {
		t.Errorf("the query's schema validates: %+v", d.Error)
	}
	q.MCP.Tool = decode(t, `{"inputSchema": {"type": "object", "properties": {"x": {"$ref": "#/$defs/s"}}, "$defs": {"s": {"type": "string"}}}}`)
	if d = decide(t, e, q); !d.Allow {
		t.Errorf("a schema that refers within itself: %+v", d.Error)
	}
	q.MCP.Tool = decode(t, `{"inputSchema": {"$ref": "https://example.com/schema.json"}}`)
	if d = decide(t, e, q); d.Allow || d.Error.Code != engine.CodeToolUnknown {
		t.Errorf("a schema from elsewhere: %+v", d)
	}
}

// TestForbidUnderAQuerysSchema: a tool that policy did not know when it was
// compiled must not make a forbid vanish by leaving out what it reads.
func TestForbidUnderAQuerysSchema(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, paymentsPolicy+"\nallow := true\n", paymentsData))
	cred := credential(t, "c", claims(""))
	q := call(t, "other", `{"n": 1}`, cred)
	q.MCP.Tool = decode(t, `{"inputSchema": {"type": "object", "properties": {"n": {"type": "number"}}}}`)
	if d := decide(t, e, q); !d.Allow {
		t.Errorf("a tool without payee: %+v", d.Error)
	}
	q.MCP.Tool = decode(t, `{"inputSchema": {"type": "object", "properties": {"n": {"type": "number"}, "payee": {"type": "string"}}}}`)
	if d := decide(t, e, q); d.Allow || d.Error == nil || d.Error.Code != engine.CodeToolUnknown {
		t.Errorf("a tool whose payee is optional: %+v", d)
	}
}

func TestUntypedTools(t *testing.T) {
	t.Parallel()
	e := newEngine(compileWith(t, "package authz\nallow := true", `{}`, `{"contract": 1, "untyped_tools": true}`))
	q := call(t, "anything", `{"y": 1}`, credential(t, "c", claims("")))
	if d := decide(t, e, q); !d.Allow {
		t.Fatalf("%+v", d.Error)
	}
	q.MCP = nil
	q.Audience = testServer
	if d := decide(t, e, q); !d.Allow || d.CallDigest != "" {
		t.Fatalf("without the MCP message: %+v", d)
	}
}

func TestBudgetAndCancellation(t *testing.T) {
	t.Parallel()
	s := compile(t, `package authz
allow if {
	n := count([1 | some i in data.numbers; some j in data.numbers; some k in data.numbers; i + j + k == 1])
	n == 1
}`, `{"numbers": [`+strings.Repeat("1,", 999)+`1], "authzd_tools": {"t": {"arguments": {"type": "object"}}}}`)
	e := engine.New(engine.Options{Now: testNow, Budget: 20 * time.Millisecond})
	e.Swap(s)
	q := call(t, "t", "", credential(t, "c", claims("")))
	d := decide(t, e, q)
	if d.Allow || d.Error == nil || d.Error.Code != engine.CodeBudget {
		t.Fatalf("a runaway policy: %+v", d.Error)
	}
	e = engine.New(engine.Options{Now: testNow, Budget: time.Minute})
	e.Swap(s)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	d, err := e.Decide(ctx, q)
	wantError(t, d, err, engine.CodeDeadline, "")
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	d, err = e.Decide(ctx, q)
	wantError(t, d, err, engine.CodeCancelled, "")
}
