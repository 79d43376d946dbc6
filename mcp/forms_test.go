package mcp_test

import (
	"strings"
	"testing"
	"time"

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
		"with a token":                   {needsDetails(t, `{}`, mcp.PreferResult, mcp.TokenRemedy{State: mcp.TokenInvalid}), mcp.FormChallenge, 401},
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
	d := needsDetails(t, declared, mcp.PreferChallenge)
	field := func(limit int) string {
		d.Server.HeaderLimit = limit
		resp, _ := mcp.Render(d)
		return strings.Join(headerValues(resp, "WWW-Authenticate"), "\n")
	}
	whole := field(0)
	short, _, _ := strings.Cut(whole, ", error_description=")
	for limit, want := range map[int]string{len(whole): whole, len(whole) - 1: short, len(short): short, len(short) - 1: ""} {
		if got := field(limit); got != want {
			t.Errorf("limit %d: %q, want %q", limit, got, want)
		}
	}
}

// TestNoDescription: a text that the field can not carry leaves no empty parameter.
func TestNoDescription(t *testing.T) {
	t.Parallel()
	d := needsDetails(t, `{}`, "")
	d.Message = "許可されていません"
	resp, err := mcp.Render(d)
	if field := headerValues(resp, "WWW-Authenticate"); err != nil || len(field) != 1 || strings.Contains(field[0], "error_description") {
		t.Errorf("%q, %v", field, err)
	}
}

// TestAlgorithmsOfAProof: those of the remedy are asked for, else those of the server.
func TestAlgorithmsOfAProof(t *testing.T) {
	t.Parallel()
	for want, algs := range map[string][]string{"ES256": {"ES256"}, "PS256 EdDSA": nil} {
		d := needsDetails(t, `{}`, "", mcp.ProofOfPossessionRemedy{Algs: algs})
		d.Server.DPoPAlgs = []string{"PS256", "EdDSA"}
		resp, err := mcp.Render(d)
		if err != nil {
			t.Fatal(err)
		}
		if _, params, err := parseChallenge(headerValues(resp, "WWW-Authenticate")[0]); err != nil || params["algs"] != want {
			t.Errorf("%q: algs %q, %v, want %q", algs, params["algs"], err, want)
		}
	}
}

// TestTokenBeforeTransaction: who has no token gets to know where to get one, and no
// challenge for a transaction.
func TestTokenBeforeTransaction(t *testing.T) {
	t.Parallel()
	const metadata = "https://mcp.example.com/.well-known/oauth-protected-resource"
	txn := mcp.TxnChallengeRemedy{Challenge: "a.b.c", AuthorizationDetails: value(t, []byte(`[{"type":"payment"}]`))}
	for name, c := range map[string]struct {
		remedies            []mcp.Remedy
		metadata, challenge string
	}{
		"with a token": {[]mcp.Remedy{txn}, "", "a.b.c"},
		"without":      {[]mcp.Remedy{mcp.TokenRemedy{State: mcp.TokenAbsent}, txn}, metadata, ""},
	} {
		d := needsDetails(t, `{}`, "")
		d.Remedies, d.Server.ResourceMetadata = c.remedies, metadata
		d.Request.Headers = []mcp.Header{{Name: "Accept-Txn-Challenge", Value: "?1"}}
		resp, err := mcp.Render(d)
		if err != nil {
			t.Fatal(err)
		}
		_, params, err := parseChallenge(headerValues(resp, "WWW-Authenticate")[0])
		if err != nil || params["resource_metadata"] != c.metadata || params["transaction_challenge"] != c.challenge {
			t.Errorf("%s: %q, %v", name, params, err)
		}
	}
}

// TestReferenceOfOneDemand: a reference names one demand, and is lost where two are put
// together.
func TestReferenceOfOneDemand(t *testing.T) {
	t.Parallel()
	more := func(singleUse bool) mcp.Remedy {
		return mcp.AuthorizationDetailsRemedy{
			AuthorizationDetails: value(t, []byte(`[{"type": "other"}]`)), AuthorizationReference: "other", SingleUse: singleUse,
		}
	}
	for name, c := range map[string]struct {
		denial mcp.Denial
		want   string
	}{
		"one":                 {needsDetails(t, `{}`, mcp.PreferResult), "ref"},
		"two":                 {needsDetails(t, `{}`, mcp.PreferResult, more(false)), ""},
		"two, one for a use":  {needsDetails(t, `{}`, mcp.PreferResult, more(true)), ""},
		"two, beside a scope": {needsDetails(t, `{}`, mcp.PreferResult, mcp.ScopesRemedy{Scopes: []string{"s"}, Held: true}, more(false)), ""},
	} {
		resp, err := mcp.Render(c.denial)
		envelope, _ := envelopeOf(resp)
		if hint, ok := envelope.Lookup("/remediationHints/0"); err != nil || !ok {
			t.Errorf("%s: no hint, %v", name, err)
		} else if got, _ := hint.Get("authorization_reference"); got.Text() != c.want {
			t.Errorf("%s: reference %q, want %q", name, got.Text(), c.want)
		}
	}
}

// TestOrderOfOffers: credentials are one offer, where the first of them stands; a remedy
// of nobody's spoils it.
func TestOrderOfOffers(t *testing.T) {
	t.Parallel()
	page := mcp.URLRemedy{Key: "k", URL: "https://mcp.example.com/a", Message: "m"}
	a, b := mcp.ScopesRemedy{Scopes: []string{"a"}}, mcp.ScopesRemedy{Scopes: []string{"b"}}
	for name, c := range map[string]struct {
		remedies []mcp.Remedy
		form     mcp.Form
	}{
		"credentials first":        {[]mcp.Remedy{a, page, b}, mcp.FormChallenge},
		"a page first":             {[]mcp.Remedy{page, a, b}, mcp.FormURL},
		"nobody's beside":          {[]mcp.Remedy{a, nil}, mcp.FormFinal},
		"nobody's before":          {[]mcp.Remedy{nil, a}, mcp.FormFinal},
		"nobody's, and a page":     {[]mcp.Remedy{a, nil, page}, mcp.FormURL},
		"a pointer is nobody's":    {[]mcp.Remedy{a, &b}, mcp.FormFinal},
		"nothing that can be told": {[]mcp.Remedy{nil}, mcp.FormFinal},
	} {
		d := needsDetails(t, `{"elicitation":{"url":{}}}`, "")
		d.Remedies, d.AllNeeded = c.remedies, false
		resp, _ := mcp.Render(d)
		if resp.Form != c.form || (resp.Remediation == mcp.Available) != (c.form != mcp.FormFinal) {
			t.Errorf("%s: %s, %s, want %s", name, resp.Form, resp.Remediation, c.form)
		}
		if c.form != mcp.FormChallenge {
			continue
		}
		if _, params, err := parseChallenge(headerValues(resp, "WWW-Authenticate")[0]); err != nil || params["scope"] != "a b" {
			t.Errorf("%s: scope %q, %v", name, params["scope"], err)
		}
	}
}

// TestPollInterval: a task without an interval says none.
func TestPollInterval(t *testing.T) {
	t.Parallel()
	for interval, want := range map[int64]string{0: "", 1: "1", 5000: "5000"} {
		at := time.Unix(1795370000, 0)
		d := needsDetails(t, `{"extensions":{"io.modelcontextprotocol/tasks":{}}}`, "")
		d.Remedies = []mcp.Remedy{mcp.OutOfBandRemedy{Task: mcp.Task{ID: "t", CreatedAt: at, LastUpdatedAt: at, PollIntervalMillis: interval}}}
		resp, err := mcp.Render(d)
		if got, _ := resp.Result.Get("pollIntervalMs"); err != nil || resp.Form != mcp.FormTask || got.Text() != want {
			t.Errorf("%d ms: %s, %q, %v", interval, resp.Form, got.Text(), err)
		}
	}
}

// TestFinalOfLists: that a list may not be read hides nothing, and nothing of a final
// denial is kept from caches.
func TestFinalOfLists(t *testing.T) {
	t.Parallel()
	for method, hidden := range map[string]bool{
		"resources/read": true, "resources/subscribe": true, "resources/list": false, "resources/templates/list": false, "tools/list": false, "tools/call": false,
	} {
		d := needsDetails(t, `{}`, "")
		d.Remediation, d.Request.Method = mcp.Undisclosed, method
		resp, err := mcp.Render(d)
		if err != nil || resp.Remediation != mcp.Undisclosed || len(resp.Headers) > 0 {
			t.Errorf("%s: %s, %v", method, dump(resp), err)
		}
		if code, has := resp.Error.Get("code"); has && rar.Equal(code, rar.IntValue(mcp.DefaultDenialCode)) == hidden {
			t.Errorf("%s: code %s", method, code.Text())
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
