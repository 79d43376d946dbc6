package engine_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

// TestRefusedBundlesByCode provokes what Compile refuses or warns about for
// reasons that lie outside the Rego: manifest, roots, types, several bundles.
func TestRefusedBundlesByCode(t *testing.T) {
	t.Parallel()
	const policy = "package authz\nallow := true"
	authz := func(name, manifest string) engine.Bundle {
		b := bundle(t, policy, `{}`, manifest)
		b.Name, b.Roots = name, []string{"authz"}
		return b
	}
	named := func(name string, roots ...string) engine.Bundle {
		return engine.Bundle{Name: name, Revision: "r1", Roots: roots, Data: decode(t, `{}`)}
	}
	outside := authz("test", `{"contract": 1}`)
	outside.Data = decode(t, `{"lists": {"blocked": []}}`)
	elsewhere := authz("test", `{"contract": 1}`)
	elsewhere.Roots = []string{"rules"}
	second := authz("second", `{"contract": 1, "entrypoint": "authz2"}`)
	second.Roots, second.Modules[0].Text = []string{"authz2"}, "package authz2\nallow := true"

	for _, c := range []struct {
		name    string
		bundles []engine.Bundle
		code    engine.Code
		// warns: the bundles are taken, with a warning.
		warns bool
	}{
		{"no contract", []engine.Bundle{authz("test", `{}`)}, engine.CodeBundleContractMissing, false},
		{"another contract", []engine.Bundle{authz("test", `{"contract": 2}`)}, engine.CodeBundleContractUnsupported, false},
		{"unknown metadata", []engine.Bundle{authz("test", `{"contract": 1, "strict": true}`)}, engine.CodeBundleMetadata, false},
		{"unknown requirement kind", []engine.Bundle{authz("test", `{"contract": 1, "requirement_kinds": ["karma"]}`)}, engine.CodeBundleRequirementKind, false},
		{"a token is no requirement", []engine.Bundle{authz("test", `{"contract": 1, "requirement_kinds": ["token"]}`)}, engine.CodeBundleRequirementKind, false},
		{"no entry point", []engine.Bundle{authz("test", `{"contract": 1, "entrypoint": "other"}`)}, engine.CodeBundleEntrypointMissing, false},
		{"no module at all", []engine.Bundle{named("data", "lists")}, engine.CodeBundleEntrypointMissing, false},
		{"two entry points", []engine.Bundle{authz("test", `{"contract": 1}`), second}, engine.CodeBundleEntrypointConflict, false},
		{"one root in two bundles", []engine.Bundle{authz("test", `{"contract": 1}`), named("data", "authz/lists")}, engine.CodeBundleRootsConflict, false},
		{"data outside the roots", []engine.Bundle{outside}, engine.CodeBundleOutsideRoots, false},
		{"a module outside the roots", []engine.Bundle{elsewhere}, engine.CodeBundleOutsideRoots, false},
		{"a tool without arguments", []engine.Bundle{bundle(t, policy, `{"authzd_tools": {"t": {}}}`, `{"contract": 1}`)}, engine.CodeBundleToolInvalid, false},
		{"types in an array", []engine.Bundle{bundle(t, policy, `{"authzd_types": []}`, `{"contract": 1}`)}, engine.CodeBundleTypeInvalid, false},
		{"a type without schema", []engine.Bundle{bundle(t, policy, `{"authzd_types": {"a": {"type": "a"}}}`, `{"contract": 1}`)}, engine.CodeBundleTypeInvalid, false},
		{"text that is no Rego", []engine.Bundle{bundle(t, "package authz\nallow if", `{}`, `{"contract": 1}`)}, engine.CodePolicySyntax, false},
		{"untyped tools", []engine.Bundle{authz("test", `{"contract": 1, "untyped_tools": true}`)}, engine.CodeBundleLaxContract, true},
		{"lax forbids", []engine.Bundle{authz("test", `{"contract": 1, "lax_forbids": true}`)}, engine.CodeBundleLaxContract, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, findings, err := engine.Compile(t.Context(), c.bundles)
			if c.warns != (err == nil) || c.warns != (s != nil) {
				t.Fatalf("snapshot %v, error %v", s != nil, err)
			}
			if !c.warns {
				var refused *engine.CompileError
				if !errors.As(err, &refused) {
					t.Fatalf("want a CompileError, got %v", err)
				}
				findings = refused.Findings
			}
			if !slices.ContainsFunc(findings, func(f engine.Finding) bool { return f.Code == c.code && f.Message != "" }) {
				t.Errorf("want %s, got %v", c.code, findings)
			}
		})
	}
}

// TestRequirementKinds: a bundle may say that it uses what this engine has.
func TestRequirementKinds(t *testing.T) {
	t.Parallel()
	compileWith(t, "package authz\nallow := true", `{}`,
		`{"contract": 1, "requirement_kinds": ["scopes", "authorization_details", "authentication", "proof_of_possession", "approval"]}`)
}

// TestSingleUseIsNeverTakenOnTrust: without commit, and with it as long as
// nothing can record the use, authority for one use meets nothing.
func TestSingleUseIsNeverTakenOnTrust(t *testing.T) {
	t.Parallel()
	const policy = `package authz
import data.authzd.v1 as authzd
permit["once"] := {"require": [authzd.single_use([{"type": "payment", "amount": "80.50", "payee": "bob"}])]}
`
	e := newEngine(compile(t, policy, paymentsData))
	q := call(t, "pay", `{"amount": "80.50", "payee": "bob"}`, credential(t, "c", claims(details8050)))
	wantReason(t, decide(t, e, q), engine.CodeCommitRequired)
	q.Commit = &engine.Commit{IdempotencyKey: "k1"}
	wantReason(t, decide(t, e, q), engine.CodeUseNotRecorded)
}

// TestHintsThatWouldNotHelp: a client that followed them would come back to
// the same deny.
func TestHintsThatWouldNotHelp(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, paymentsPolicy, paymentsData))
	plain := credential(t, "plain", claims(`"scope": "payments"`))
	expired := credential(t, "expired", `{"iss": "`+testIssuer+`", "sub": "`+alice+`", "aud": "`+testServer+`", "exp": 1795370399, `+
		`"client_id": "agent", "scope": "payments", `+details8050+`}`)
	q := call(t, "pay", `{"amount": "80.50", "payee": "bob"}`, plain, expired)
	d := decide(t, e, q)
	wantReason(t, d, engine.CodeHintDropped)
	if d.Remediation.Status != engine.Undisclosed {
		t.Errorf("status %s", d.Remediation.Status)
	}
	// The neighbour: an expired token that did not cover the need hides no hint.
	q = call(t, "pay", `{"amount": "80.51", "payee": "bob"}`, plain, expired)
	if d := decide(t, e, q); d.Remediation.Status != engine.Available || hasReason(d, engine.CodeHintDropped) {
		t.Errorf("a need that no presented token covers: %+v", d)
	}
}

// TestSkippedDetailsAreReported: an object of an undeclared type grants
// nothing, and the rest of the claim still counts.
func TestSkippedDetailsAreReported(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, paymentsPolicy, paymentsData))
	arguments := `{"amount": "80.50", "payee": "bob"}`
	both := `"scope": "payments", "authorization_details": [{"type": "zzz"}, {"type": "payment", "amount": "80.50", "payee": "bob"}]`
	d := decide(t, e, call(t, "pay", arguments, credential(t, "c", claims(both))))
	if !d.Allow || !hasReason(d, engine.CodeTokenDetails) {
		t.Errorf("allow %v, reasons %+v", d.Allow, d.Reasons)
	}
	if r := d.Reasons[0]; len(r.Detail) != 1 || !strings.Contains(r.Detail[0], string(rar.CodeUnknownType)) {
		t.Errorf("what is said of the skipped object: %q", r.Detail)
	}
	only := `"scope": "payments", "authorization_details": [{"type": "zzz"}]`
	d = decide(t, e, call(t, "pay", arguments, credential(t, "c", claims(only))))
	wantReason(t, d, engine.CodeTokenDetails)
}

func wantReason(t *testing.T, d engine.Decision, code engine.Code) {
	t.Helper()
	if d.Allow || !hasReason(d, code) {
		t.Errorf("want a deny with %s, got allow %v, reasons %+v, error %+v", code, d.Allow, d.Reasons, d.Error)
	}
}

func hasReason(d engine.Decision, code engine.Code) bool {
	return slices.ContainsFunc(d.Reasons, func(r engine.Reason) bool { return r.Code == code })
}

// TestTypeForOneUse: what its type grants for one use meets no requirement again and
// again, whether or not policy says so.
func TestTypeForOneUse(t *testing.T) {
	t.Parallel()
	policy := `package authz
permit["a"] := {"require": [{"kind": "authorization_details", "authorization_details": [{"type": "payment", "amount": "1", "payee": "bob"}]}]}`
	held := claims(`"authorization_details": [{"type": "payment", "amount": "80.50", "payee": "bob"}]`)
	for more, allow := range map[string]bool{``: true, `"single_use": true, `: false} {
		e := newEngine(compile(t, policy, strings.Replace(paymentsData, `"type": "payment",`, more+`"type": "payment",`, 1)))
		d := decide(t, e, call(t, "pay", `{"amount": "1", "payee": "bob"}`, credential(t, "c", held)))
		if d.Allow != allow || hasReason(d, engine.CodeCommitRequired) == allow {
			t.Errorf("%q: allow %v, %+v", more, d.Allow, d.Reasons)
		}
	}
}
