package mcp_test

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/authzd/authzd/mcp"
	"github.com/authzd/authzd/rar"
)

// anyText draws text that has little respect for headers.
func anyText() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.String(),
		rapid.StringMatching(`[a-z:/.]{1,12}`),
		rapid.SampledFrom([]string{"", "read", "a b", "x\r\nSet-Cookie: a=b", `q"\`, "\x00", "\xff\xfe", "ü", "urn:acr:mfa", "https://mcp.example.com/a"}),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 40), func(b []byte) string { return string(b) }),
	)
}

func anyDetails() *rapid.Generator[rar.Value] {
	return rapid.Custom(func(t *rapid.T) rar.Value {
		if rapid.IntRange(0, 9).Draw(t, "broken") == 0 {
			return rapid.SampledFrom([]rar.Value{{}, rar.NullValue(), rar.ArrayValue(), rar.ArrayValue(rar.IntValue(1))}).Draw(t, "details")
		}
		objects := make([]rar.Value, 0, 3)
		for range rapid.IntRange(1, 3).Draw(t, "n") {
			objects = append(objects, rar.ObjectValue(
				rar.Member{Name: "type", Value: rar.StringValue(anyText().Draw(t, "type"))},
				rar.Member{Name: anyText().Draw(t, "name"), Value: rar.StringValue(anyText().Draw(t, "value"))},
			))
		}
		return rar.ArrayValue(objects...)
	})
}

func anyRemedy() *rapid.Generator[mcp.Remedy] {
	return rapid.Custom(func(t *rapid.T) mcp.Remedy {
		words := rapid.SliceOfN(anyText(), 0, 3)
		age := rapid.Ptr(rapid.Int64(), true)
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0:
			return mcp.ScopesRemedy{Scopes: words.Draw(t, "scopes"), Description: anyText().Draw(t, "description")}
		case 1, 2:
			return mcp.AuthorizationDetailsRemedy{
				AuthorizationDetails: anyDetails().Draw(t, "details"), SingleUse: rapid.Bool().Draw(t, "single"),
				AuthorizationReference: anyText().Draw(t, "reference"),
			}
		case 3:
			return mcp.TxnChallengeRemedy{
				Challenge: rapid.OneOf(anyText(), rapid.Just("a.b.c")).Draw(t, "jws"), AuthorizationDetails: anyDetails().Draw(t, "details"),
			}
		case 4:
			return mcp.AuthenticationRemedy{ACRValues: words.Draw(t, "acr"), MaxAge: age.Draw(t, "age")}
		case 5:
			return mcp.ProofOfPossessionRemedy{Algs: words.Draw(t, "algs")}
		case 6:
			return mcp.TokenRemedy{State: mcp.TokenState(anyText().Draw(t, "state")), Scopes: words.Draw(t, "scopes")}
		case 7:
			return mcp.URLRemedy{
				Key: anyText().Draw(t, "key"), URL: anyText().Draw(t, "url"), Message: anyText().Draw(t, "message"),
				RequestState: anyText().Draw(t, "state"), ElicitationID: anyText().Draw(t, "id"),
			}
		case 8:
			return mcp.OutOfBandRemedy{Task: mcp.Task{
				ID: anyText().Draw(t, "id"), StatusMessage: anyText().Draw(t, "status"), CreatedAt: time.Unix(1795370000, 0),
				LastUpdatedAt: time.Unix(1795370000, 0), TTLMillis: age.Draw(t, "ttl"), PollIntervalMillis: rapid.Int64().Draw(t, "poll"),
			}}
		default:
			return rapid.SampledFrom([]mcp.Remedy{nil, (*mcp.ScopesRemedy)(nil), &mcp.URLRemedy{}}).Draw(t, "foreign")
		}
	})
}

func anyDenial(t *rapid.T) mcp.Denial {
	caps := rapid.SampledFrom([]string{
		`{}`, `null`, `[]`, `{"elicitation":{"url":{}}}`, `{"elicitation":{}}`,
		`{"elicitation":{"url":{}},"extensions":{"io.modelcontextprotocol/tasks":{}}}`,
	}).Draw(t, "caps")
	capabilities, err := rar.DecodeStrict([]byte(caps), rar.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return mcp.Denial{
		Remediation: mcp.Remediation(rapid.OneOf(rapid.Just("available"), rapid.SampledFrom([]string{"unavailable", "undisclosed", "", "x"})).Draw(t, "remediation")),
		Message:     anyText().Draw(t, "message"),
		ContextID:   rapid.OneOf(anyText(), rapid.Just("authzctx_1")).Draw(t, "handle"),
		Remedies:    rapid.SliceOfN(anyRemedy(), 0, 4).Draw(t, "remedies"),
		AllNeeded:   rapid.Bool().Draw(t, "all"),
		Request: mcp.Request{
			Method:        rapid.SampledFrom([]string{"tools/call", "tools/call", "resources/read", "prompts/get", "tools/list", ""}).Draw(t, "method"),
			ToolName:      anyText().Draw(t, "tool"),
			GrantedScopes: rapid.SliceOfN(anyText(), 0, 3).Draw(t, "granted"),
			Headers: []mcp.Header{{
				Name: "Accept-Txn-Challenge", Value: rapid.OneOf(rapid.Just("?1"), rapid.StringMatching(`\?1(;[a-z]+(="?[a-z\\"]*)?)*`), anyText()).Draw(t, "accept"),
			}},
		},
		Transport:          rapid.SampledFrom([]string{"http", "http", "stdio", "", "x"}).Draw(t, "transport"),
		ProtocolVersion:    rapid.OneOf(rapid.SampledFrom([]string{"2026-07-28", "2025-11-25", "2025-06-18", "2030-01-01"}), anyText()).Draw(t, "version"),
		ClientCapabilities: capabilities,
		Server: mcp.Server{
			ResourceMetadata: anyText().Draw(t, "metadata"),
			HeaderLimit:      rapid.IntRange(-1, 400).Draw(t, "limit"),
			DPoPAlgs:         rapid.SliceOfN(anyText(), 0, 2).Draw(t, "algs"),
		},
	}
}

// TestRenderAlwaysRefuses: whatever is given, what comes out can be sent, does
// refuse, and tells no more than policy let out.
func TestRenderAlwaysRefuses(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		d := anyDenial(rt)
		resp, _ := mcp.Render(d)
		checkInvariants(t, resp)
		if t.Failed() {
			rt.Fatalf("denial %+v", d)
		}
		if d.Remediation != mcp.Available && resp.Remediation == mcp.Available {
			rt.Fatalf("policy said %q, told as available: %s", d.Remediation, dump(resp))
		}
		if d.Remediation != mcp.Unavailable && resp.Remediation == mcp.Unavailable {
			rt.Fatalf("policy said %q, told as unavailable", d.Remediation)
		}
		if limit := d.Server.HeaderLimit; limit > 0 {
			for _, c := range headerValues(resp, "WWW-Authenticate") {
				if len(c) > limit {
					rt.Fatalf("challenge of %d octets over %d", len(c), limit)
				}
			}
		}
		if d.Transport != mcp.TransportHTTP && (resp.HTTPStatus != 0 || len(resp.Headers) > 0) {
			rt.Fatalf("HTTP on transport %q: %s", d.Transport, dump(resp))
		}
		wire := string(resp.Result.AppendJSON(nil)) + string(resp.Error.AppendJSON(nil))
		if strings.ContainsAny(wire, "\r\n") {
			rt.Fatalf("a line break on stdio ends the message: %q", wire)
		}
		mcp.Words(d)
	})
}

// TestDetailsSurvive: what the client decodes from header or hint is what was
// given, member for member, digit for digit.
func TestDetailsSurvive(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		digits := rapid.StringMatching(`-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,20})?`).Draw(rt, "number")
		number, err := rar.NumberValue(digits)
		if err != nil {
			rt.Fatal(err)
		}
		details := rar.ArrayValue(rar.ObjectValue(
			rar.Member{Name: "type", Value: rar.StringValue("t" + anyText().Draw(rt, "type"))},
			rar.Member{Name: "amount", Value: number},
			rar.Member{Name: "text", Value: rar.StringValue(anyText().Draw(rt, "text"))},
		))
		want := string(details.AppendJSON(nil))
		for _, transport := range []string{mcp.TransportHTTP, mcp.TransportStdio} {
			resp, err := mcp.Render(mcp.Denial{
				Remediation: mcp.Available, Message: "Denied.", Transport: transport, ProtocolVersion: "2026-07-28",
				Request:  mcp.Request{Method: "tools/call"},
				Remedies: []mcp.Remedy{mcp.AuthorizationDetailsRemedy{AuthorizationDetails: details}},
			})
			if err != nil {
				rt.Fatal(err)
			}
			got, ok := detailsOf(rt, resp)
			if s := string(got.AppendJSON(nil)); !ok || s != want {
				rt.Fatalf("%s: got %s, want %s", transport, s, want)
			}
		}
	})
}

func detailsOf(t *rapid.T, resp mcp.Response) (rar.Value, bool) {
	if resp.Form == mcp.FormRemediation {
		envelope, _ := envelopeOf(resp)
		return envelope.Lookup("/remediationHints/0/authorization_details")
	}
	_, params, err := parseChallenge(headerValues(resp, "WWW-Authenticate")[0])
	if err != nil {
		t.Fatal(err)
	}
	text, err := base64.RawURLEncoding.DecodeString(params["authorization_remediation"])
	if err != nil {
		t.Fatal(err)
	}
	v, err := rar.DecodeStrict(text, rar.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return v.Get("authorization_details")
}

// TestActionableIsRendered: a remedy of a kind that is said to be actionable is
// told to the client, and one that is not, is not.
func TestActionableIsRendered(t *testing.T) {
	t.Parallel()
	remedies := map[string]mcp.Remedy{
		mcp.KindScopes: mcp.ScopesRemedy{Scopes: []string{"read"}},
		mcp.KindAuthorizationDetails: mcp.AuthorizationDetailsRemedy{
			AuthorizationDetails: value(t, []byte(`[{"type":"t"}]`)),
		},
		mcp.KindAuthentication:    mcp.AuthenticationRemedy{ACRValues: []string{"mfa"}},
		mcp.KindProofOfPossession: mcp.ProofOfPossessionRemedy{Algs: []string{"ES256"}},
		mcp.KindURL:               mcp.URLRemedy{Key: "k", URL: "https://mcp.example.com/a", Message: "m", ElicitationID: "e"},
		mcp.KindOutOfBand: mcp.OutOfBandRemedy{Task: mcp.Task{
			ID: "t", CreatedAt: time.Unix(1795370000, 0), LastUpdatedAt: time.Unix(1795370000, 0),
		}},
	}
	rapid.Check(t, func(rt *rapid.T) {
		d := anyDenial(rt)
		d.Remediation, d.Server.HeaderLimit, d.Server.ResourceMetadata = mcp.Available, 0, ""
		d.AllNeeded = true
		needed := rapid.SliceOfNDistinct(rapid.SampledFrom(allKinds()), 1, 4, rapid.ID[string]).Draw(rt, "needed")
		d.Remedies = nil
		for _, kind := range needed {
			d.Remedies = append(d.Remedies, remedies[kind])
		}
		kinds := mcp.Actionable(d.Transport, d.ProtocolVersion, d.Request.Method, d.ClientCapabilities)
		resp, _ := mcp.Render(d)
		if got, want := resp.Remediation == mcp.Available, kinds.HasAll(needed...); got != want {
			rt.Fatalf("told: %v, actionable: %v; %v over %s: %s", got, want, needed, d.Transport, dump(resp))
		}
	})
}
