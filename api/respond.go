package api

import (
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/mcp"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

// DenialOptions say what a denial tells of the MCP server that sends it.
type DenialOptions struct {
	// ResourceMetadata gives for the identifier of an MCP server the URL of its
	// RFC 9728 document. One that is not here has it at the well-known place
	// (RFC 9728 section 3.1).
	ResourceMetadata map[string]string
	// HeaderLimit bounds one challenge in bytes; default mcp.DefaultHeaderLimit.
	HeaderLimit int
	// ProofAlgs are the JWS algorithms that proofs of possession may use;
	// default ES256.
	ProofAlgs []string
	// Form is how missing authorization_details are told over HTTP where the
	// query does not say; default mcp.PreferChallenge.
	Form mcp.Preference
	// DenialCode is the code of JSON-RPC errors that tell a denial; default, and
	// where it is not an mcp.ValidDenialCode, mcp.DefaultDenialCode.
	DenialCode int
}

// ValidDenialForm tells the values of mcp.denial_form.
func ValidDenialForm(s string) bool {
	switch mcp.Preference(s) {
	case mcp.PreferChallenge, mcp.PreferResult, mcp.PreferByClient:
		return true
	}
	return false
}

// Response is a decision with the denial for the MCP client, ready for either
// wire.
type Response struct {
	Decision engine.Decision
	// Message is what the client is told in words; empty on an allow.
	Message string
	// Remediation and Remedies are what the client can make use of.
	Remediation engine.Status
	Remedies    []engine.Remedy
	// Denial is what to send to the MCP client; unset on an allow.
	Denial mcp.Response
	// CredentialIDs are the credentials that met a requirement.
	CredentialIDs []string
	// Handle is the handle that the message echoes, for the log.
	Handle string
	// Fault is what was left out of the denial because it could not be sent; for
	// the log.
	Fault error
}

// Respond makes a response of the engine's decision on r: one renderer behind
// every door.
func Respond(d engine.Decision, r Request, o DenialOptions) Response {
	resp := Response{Decision: d, Handle: r.Handle}
	if d.Allow {
		for _, m := range d.Met {
			if !slices.Contains(resp.CredentialIDs, m.CredentialID) {
				resp.CredentialIDs = append(resp.CredentialIDs, m.CredentialID)
			}
		}
		return resp
	}
	denial := o.denial(&d, &r)
	resp.Remedies = remediesFor(&d, denial.Transport)
	denial.Remedies, denial.Remediation = o.remedies(resp.Remedies, denial.Remediation)
	if denial.Message == "" {
		words := denial
		if d.Remediation != nil && d.Remediation.InWords {
			words.Remediation = mcp.Available
		}
		denial.Message = mcp.Words(words)
	}
	resp.Message = denial.Message
	resp.Denial, resp.Fault = mcp.Render(denial)
	// What the client is told may be less than what policy offers. The hints
	// follow it, so that no reader holds a remedy for available that is not.
	resp.Remediation = engine.Status(resp.Denial.Remediation)
	if resp.Remediation != engine.Available {
		resp.Remedies = nil
	}
	// What is to be obtained comes before what is held already.
	slices.SortStableFunc(resp.Remedies, func(a, b engine.Remedy) int {
		switch {
		case a.Held == b.Held:
			return 0
		case a.Held:
			return 1
		}
		return -1
	})
	return resp
}

func (o DenialOptions) denial(d *engine.Decision, r *Request) mcp.Denial {
	out := mcp.Denial{
		Remediation: mcp.Undisclosed, Message: d.Message, AllNeeded: true,
		Transport: mcp.TransportHTTP, ClientCapabilities: r.Capabilities,
		Request: mcp.Request{GrantedScopes: d.GrantedScopes},
	}
	if d.Remediation != nil {
		out.Remediation, out.ContextID = mcp.Remediation(d.Remediation.Status), d.Remediation.ContextID
	}
	server := r.Query.Audience
	out.Request.Method = r.Query.Action.Name
	if m := r.Query.MCP; m != nil {
		out.Transport, out.ProtocolVersion, out.Request.Method = m.Transport, m.ProtocolVersion, m.Method
		if m.Server != "" {
			server = m.Server
		}
		if name, ok := m.Params.Get("name"); ok && name.Kind() == rar.String {
			out.Request.ToolName = name.Text()
		}
	}
	out.Server = mcp.Server{
		ResourceMetadata: o.resourceMetadata(server), HeaderLimit: o.HeaderLimit, DenialCode: o.DenialCode, ErrorBodies: r.Query.MCP != nil, NameHeldScopes: true,
	}
	if out.Preference = r.DenialForm; out.Preference == "" {
		out.Preference = o.Form
	}
	return out
}

// resourceMetadata: RFC 9728 section 3.1 puts the well-known part between host
// and path.
func (o DenialOptions) resourceMetadata(server string) string {
	if at, ok := o.ResourceMetadata[server]; ok {
		return at
	}
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		(u.Scheme != "https" && u.Scheme != "http") {
		return ""
	}
	return u.Scheme + "://" + u.Host + "/.well-known/oauth-protected-resource" + strings.TrimSuffix(u.EscapedPath(), "/")
}

// remediesFor drops what the client holds already where only one kind can be
// asked for: over stdio a hint must satisfy the call alone (SEP-2643). On HTTP
// it stays, because the next token must hold everything.
func remediesFor(d *engine.Decision, transport string) []engine.Remedy {
	if d.Remediation == nil || len(d.Remediation.Remedies) == 0 {
		return nil
	}
	out := make([]engine.Remedy, 0, len(d.Remediation.Remedies))
	for _, r := range d.Remediation.Remedies {
		if !r.Held || transport == mcp.TransportHTTP {
			out = append(out, r)
		}
	}
	return out
}

// remedies translates for the renderer. A remedy that it has no form for makes
// the denial undisclosed: leaving it out would promise too much.
func (o DenialOptions) remedies(list []engine.Remedy, status mcp.Remediation) ([]mcp.Remedy, mcp.Remediation) {
	out := make([]mcp.Remedy, 0, len(list))
	for i := range list {
		r := &list[i]
		switch r.Kind {
		case engine.KindScopes:
			out = append(out, mcp.ScopesRemedy{Scopes: r.Scopes, Held: r.Held})
		case engine.KindAuthorizationDetails:
			out = append(out, mcp.AuthorizationDetailsRemedy{
				AuthorizationDetails: rar.ArrayValue(r.Details...), SingleUse: r.SingleUse, AuthorizationReference: r.Reference,
			})
		case engine.KindAuthentication:
			a := mcp.AuthenticationRemedy{ACRValues: r.ACRValues}
			if r.MaxAge >= 0 {
				a.MaxAge = &r.MaxAge
			}
			out = append(out, a)
		case engine.KindProofOfPossession:
			out = append(out, mcp.ProofOfPossessionRemedy{Algs: o.proofAlgs()})
		case engine.KindToken:
			t := mcp.TokenRemedy{State: mcp.TokenAbsent, Scopes: r.Scopes}
			if r.TokenPresented {
				t.State = mcp.TokenInvalid
			}
			out = append(out, t)
		case engine.KindApproval:
			if status == mcp.Available {
				status = mcp.Undisclosed
			}
		default:
			status = mcp.Undisclosed
		}
	}
	return out, status
}

func (o DenialOptions) proofAlgs() []string {
	if len(o.ProofAlgs) == 0 {
		return []string{"ES256"}
	}
	return o.ProofAlgs
}

// headers joins the fields of one name (RFC 9110 section 5.3).
func headers(list []mcp.Header) map[string]string {
	out := make(map[string]string, len(list))
	for _, h := range list {
		name := http.CanonicalHeaderKey(h.Name)
		if strings.EqualFold(name, "WWW-Authenticate") {
			name = "WWW-Authenticate" // As RFC 9110 spells it.
		}
		if have, ok := out[name]; ok {
			out[name] = have + ", " + h.Value
		} else {
			out[name] = h.Value
		}
	}
	return out
}

// Proto makes the gRPC message.
func (r *Response) Proto() *authzdv1.CheckResponse {
	d := &r.Decision
	out := &authzdv1.CheckResponse{
		Decision: authzdv1.Decision_DECISION_DENY, DecisionId: valid(d.ID), Rule: valid(d.Rule),
		CredentialIds: r.CredentialIDs, CallDigest: d.CallDigest,
		Message: valid(r.Message), MessageAdmin: valid(d.MessageAdmin),
	}
	if d.Allow {
		out.Decision = authzdv1.Decision_DECISION_ALLOW
	}
	for i := range d.Reasons {
		out.Reasons = append(out.Reasons, reasonProto(&d.Reasons[i]))
	}
	if f := d.Error; f != nil {
		out.Error = &authzdv1.Error{Code: string(f.Code), Message: valid(f.Message), Path: valid(f.Path)}
	}
	if !d.Allow {
		out.Remediation = r.remediationProto()
		out.Denial = denialProto(&r.Denial)
	}
	for _, m := range d.Met {
		out.Met = append(out.Met, &authzdv1.MetRequirement{Kind: string(m.Kind), CredentialId: m.CredentialID})
	}
	for _, o := range d.Obligations {
		out.Obligations = append(out.Obligations, o.AppendJSON(nil))
	}
	if !d.ExpiresAt.IsZero() {
		out.ExpiresAt = timestamppb.New(d.ExpiresAt)
	}
	out.Policy = &authzdv1.PolicyRevision{Bundle: valid(d.Policy.Bundle), Revision: valid(d.Policy.Revision)}
	out.RejectedCredentials = rejectedProto(d.Rejected)
	if d.Subject != (engine.SubjectRef{}) {
		out.Subject = &authzdv1.Identity{Issuer: valid(d.Subject.Issuer), Id: valid(d.Subject.ID)}
	}
	return out
}

func reasonProto(r *engine.Reason) *authzdv1.Reason {
	out := &authzdv1.Reason{Code: string(r.Code), Kind: string(r.Kind), Rule: valid(r.Rule), Message: valid(r.Message)}
	for _, d := range r.Detail {
		out.Detail = append(out.Detail, valid(d))
	}
	return out
}

func (r *Response) remediationProto() *authzdv1.Remediation {
	out := &authzdv1.Remediation{Status: string(r.Remediation)}
	if r.Decision.Remediation != nil {
		out.AuthorizationContextId = r.Decision.Remediation.ContextID
	}
	for i := range r.Remedies {
		out.Hints = append(out.Hints, hintProto(&r.Remedies[i]))
	}
	return out
}

func hintProto(e *engine.Remedy) *authzdv1.Hint {
	h := &authzdv1.Hint{
		Type: string(e.Kind), Scopes: e.Scopes, SingleUse: e.SingleUse, AcrValues: e.ACRValues,
		Held: e.Held, TokenPresented: e.TokenPresented,
		AuthorizationReference: e.Reference, PreviousAuthorizationReferences: e.PreviousReferences,
	}
	if len(e.Details) > 0 {
		h.AuthorizationDetails = rar.ArrayValue(e.Details...).AppendJSON(nil)
	}
	if age, ok := maxAge(e); ok {
		h.MaxAge = &age
	}
	if e.Approval != nil {
		h.Title = valid(e.Approval.Title)
	}
	return h
}

// maxAge tells the age that is asked for, if it is.
func maxAge(r *engine.Remedy) (int32, bool) {
	if r.Kind != engine.KindAuthentication || r.MaxAge < 0 {
		return 0, false
	}
	return int32(min(r.MaxAge, math.MaxInt32)), true
}

func denialProto(m *mcp.Response) *authzdv1.Denial {
	out := &authzdv1.Denial{}
	if m.HTTPStatus != 0 {
		out.Http = &authzdv1.HTTPDenial{Status: int32(m.HTTPStatus), Headers: headers(m.Headers)} //nolint:gosec // an HTTP status
	}
	if m.Result.Kind() != rar.Absent {
		out.McpResult = m.Result.AppendJSON(nil)
	}
	if m.Error.Kind() != rar.Absent {
		out.McpError = m.Error.AppendJSON(nil)
	}
	return out
}

// valid keeps a stray byte in a policy's message from failing the whole answer
// in protobuf.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
