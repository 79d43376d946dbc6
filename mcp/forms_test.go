package mcp_test

import (
	"strings"
	"testing"

	"github.com/authzd/authzd/mcp"
	"github.com/authzd/authzd/rar"
)

const declared = `{"extensions": {"io.modelcontextprotocol/structured-authorization-denials": {}}}`

// needsDetails is a denial of a call that lacks details, over HTTP.
func needsDetails(t *testing.T, capabilities string, p mcp.Preference, more ...mcp.Remedy) mcp.Denial {
	t.Helper()
	return mcp.Denial{
		Remediation: mcp.Available, Message: "It needs your consent.", ContextID: "authzctx_abcdefghijklmnopqrstuv", AllNeeded: true,
		Remedies: append([]mcp.Remedy{mcp.AuthorizationDetailsRemedy{
			AuthorizationDetails: value(t, []byte(`[{"type": "payment"}]`)), AuthorizationReference: "ref",
		}}, more...),
		Request: mcp.Request{Method: "tools/call", ToolName: "pay"}, Transport: mcp.TransportHTTP, ProtocolVersion: "2026-07-28",
		ClientCapabilities: value(t, []byte(capabilities)), Preference: p,
		Server: mcp.Server{ErrorBodies: true},
	}
}

// TestPreference: the tool result is chosen only where its hint is enough, and
// only by who wants it.
func TestPreference(t *testing.T) {
	t.Parallel()
	held := mcp.ScopesRemedy{Scopes: []string{"payments"}, Held: true}
	missing := mcp.ScopesRemedy{Scopes: []string{"payments"}}
	for name, c := range map[string]struct {
		denial mcp.Denial
		form   mcp.Form
		status int
	}{
		"by default":                     {needsDetails(t, `{}`, ""), mcp.FormChallenge, 401},
		"an unknown preference":          {needsDetails(t, `{}`, "loud"), mcp.FormChallenge, 401},
		"challenge":                      {needsDetails(t, `{}`, mcp.PreferChallenge), mcp.FormChallenge, 401},
		"result":                         {needsDetails(t, declared, mcp.PreferResult), mcp.FormRemediation, 200},
		"auto, undeclared":               {needsDetails(t, `{}`, mcp.PreferByClient), mcp.FormRemediation, 200},
		"auto, of another kind":          {needsDetails(t, `{"extensions": []}`, mcp.PreferByClient), mcp.FormRemediation, 200},
		"auto, declared":                 {needsDetails(t, declared, mcp.PreferByClient), mcp.FormChallenge, 401},
		"with scopes that are held":      {needsDetails(t, `{}`, mcp.PreferResult, held), mcp.FormRemediation, 200},
		"with scopes that are missing":   {needsDetails(t, `{}`, mcp.PreferResult, missing), mcp.FormChallenge, 401},
		"with scopes missing, then held": {needsDetails(t, `{}`, mcp.PreferResult, missing, held), mcp.FormChallenge, 401},
		"with both":                      {needsDetails(t, `{}`, mcp.PreferResult, held, missing), mcp.FormChallenge, 401},
		"with a sign-in":                 {needsDetails(t, `{}`, mcp.PreferResult, mcp.AuthenticationRemedy{ACRValues: []string{"mfa"}}), mcp.FormChallenge, 401},
	} {
		resp, err := mcp.Render(c.denial)
		if err != nil || resp.Form != c.form || resp.HTTPStatus != c.status || resp.Remediation != mcp.Available {
			t.Errorf("%s: %s %d %s, %v", name, resp.Form, resp.HTTPStatus, resp.Remediation, err)
		}
		if got := strings.Join(headerValues(resp, "Cache-Control"), ","); got != "no-store" && c.form == mcp.FormRemediation {
			t.Errorf("%s: Cache-Control %q", name, got)
		}
	}
	// Methods without a tool result, and unknown revisions, keep the challenge.
	other := needsDetails(t, `{}`, mcp.PreferResult)
	other.Request.Method = "resources/read"
	old := needsDetails(t, `{}`, mcp.PreferResult)
	old.ProtocolVersion = ""
	for _, d := range []mcp.Denial{other, old} {
		if resp, _ := mcp.Render(d); resp.Form != mcp.FormChallenge {
			t.Errorf("%s %q: %s", d.Request.Method, d.ProtocolVersion, resp.Form)
		}
	}
}

// TestErrorBodies: under a challenge stands what the challenge says, for MCP
// methods only.
func TestErrorBodies(t *testing.T) {
	t.Parallel()
	const at = "/data/_meta/io.modelcontextprotocol~1authorization"
	body := func(d mcp.Denial) rar.Value {
		t.Helper()
		resp, err := mcp.Render(d)
		if err != nil || resp.Form != mcp.FormChallenge || resp.Result.Kind() != rar.Absent {
			t.Fatalf("%s %v", resp.Form, err)
		}
		return resp.Error
	}
	details := body(needsDetails(t, `{}`, ""))
	for pointer, want := range map[string]string{
		"/code": "-31403", "/message": "It needs your consent.",
		at + "/reason": "insufficient_authorization", at + "/remediation": "available",
		at + "/authorizationContextId":                          "authzctx_abcdefghijklmnopqrstuv",
		at + "/remediationHints/0/type":                         "authorization_remediation",
		at + "/remediationHints/0/authorization_reference":      "ref",
		at + "/remediationHints/0/authorization_details/0/type": "payment",
	} {
		if got, _ := details.Lookup(pointer); got.Text() != want {
			t.Errorf("%s: %q, want %q", pointer, got.Text(), want)
		}
	}
	// The hint promises that its details are enough, so not where more is missing.
	more := body(needsDetails(t, `{}`, "", mcp.ScopesRemedy{Scopes: []string{"payments"}}))
	if _, has := more.Lookup(at + "/remediationHints"); has {
		t.Errorf("a hint that is not enough: %s", render(more))
	}
	// Nor where no details are missing.
	none := needsDetails(t, `{}`, "")
	none.Remedies = []mcp.Remedy{mcp.ScopesRemedy{Scopes: []string{"payments"}, Held: true}}
	if got := body(none); strings.Contains(render(got), "remediationHints") {
		t.Errorf("a hint of no details: %s", render(got))
	}
	plain := needsDetails(t, `{}`, "")
	plain.Server.ErrorBodies = false
	api := needsDetails(t, `{}`, "")
	api.Request.Method = ""
	for _, d := range []mcp.Denial{plain, api} {
		if got := body(d); got.Kind() != rar.Absent {
			t.Errorf("a body nobody asked for: %s", render(got))
		}
	}
}

// TestHeaderLimit: the least limit is one, of a header that holds nothing; none and less
// than none stand for the default.
func TestHeaderLimit(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int]mcp.Form{1: mcp.FormRemediation, 0: mcp.FormChallenge, -1: mcp.FormChallenge} {
		d := needsDetails(t, declared, mcp.PreferChallenge)
		d.Server.HeaderLimit = limit
		if resp, err := mcp.Render(d); err != nil || resp.Form != want {
			t.Errorf("limit %d: %s, %v, want %s", limit, resp.Form, err, want)
		}
	}
}

// TestDescriptionIsNoParameter: text of the call does not become a parameter for
// a client that searches the field for one.
func TestDescriptionIsNoParameter(t *testing.T) {
	t.Parallel()
	for _, d := range []mcp.Denial{
		needsDetails(t, `{}`, "", mcp.ScopesRemedy{Scopes: []string{"payments"}}),
		needsDetails(t, `{}`, "", mcp.AuthenticationRemedy{ACRValues: []string{"mfa"}}),
		needsDetails(t, `{}`, "", mcp.ProofOfPossessionRemedy{Algs: []string{"ES256"}}),
	} {
		d.Message = ""
		d.Request.ToolName = `x scope=admin, resource_metadata="https://evil.example/", error=none`
		resp, err := mcp.Render(d)
		if err != nil || resp.Form != mcp.FormChallenge {
			t.Fatalf("%s %v", resp.Form, err)
		}
		field := headerValues(resp, "WWW-Authenticate")[0]
		at := strings.Index(field, ", error_description=")
		if at < 0 || strings.Contains(field[at+len(", error_description="):], "=") {
			t.Errorf("%s", field)
		}
		_, params, err := parseChallenge(field)
		if err != nil || !strings.Contains(params["error_description"], "scope:admin") {
			t.Errorf("%v %q", err, params)
		}
	}
}

// TestHeldScopesAreNamed: or a client asks for everything that is supported.
func TestHeldScopesAreNamed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		remedies []mcp.Remedy
		want     string
	}{
		"details":     {nil, "profile read"},
		"with scopes": {[]mcp.Remedy{mcp.ScopesRemedy{Scopes: []string{"pay", "read"}}}, "profile read pay"},
		"a sign-in":   {[]mcp.Remedy{mcp.AuthenticationRemedy{ACRValues: []string{"mfa"}}}, "profile read"},
		"a proof":     {[]mcp.Remedy{mcp.ProofOfPossessionRemedy{Algs: []string{"ES256"}}}, "profile read"},
		"a new token": {[]mcp.Remedy{mcp.TokenRemedy{State: mcp.TokenInvalid}}, ""},
	} {
		d := needsDetails(t, `{}`, "", c.remedies...)
		d.Request.GrantedScopes = []string{"profile", "read", "profile", "not a scope"}
		d.Server.NameHeldScopes = true
		resp, err := mcp.Render(d)
		if err != nil {
			t.Fatal(err)
		}
		_, params, err := parseChallenge(headerValues(resp, "WWW-Authenticate")[0])
		if err != nil || params["scope"] != c.want {
			t.Errorf("%s: scope %q, want %q", name, params["scope"], c.want)
		}
		d.Remedies = []mcp.Remedy{mcp.ScopesRemedy{Scopes: []string{"pay"}}}
		alone, _ := mcp.Render(d)
		if _, params, err := parseChallenge(headerValues(alone, "WWW-Authenticate")[0]); err != nil || params["scope"] != "pay" {
			t.Errorf("%s: a missing scope beside %q", name, params["scope"])
		}
	}
	for _, d := range []mcp.Denial{needsDetails(t, `{}`, ""), needsDetails(t, `{}`, "", mcp.ScopesRemedy{Scopes: []string{"pay"}})} {
		resp, _ := mcp.Render(d)
		again, _ := mcp.Render(d)
		if headerValues(again, "WWW-Authenticate")[0] != headerValues(resp, "WWW-Authenticate")[0] {
			t.Error("a challenge that varies is followed for ever by some clients")
		}
	}
}
