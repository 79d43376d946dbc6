package mcp

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/authzd/authzd/rar"
)

// Form names the form in which a denial was told, for logs and metrics.
type Form string

// The forms. The first five are the cases of SEP-2643.
const (
	FormURL         Form = "url"         // case 1, or error -32042 of 2025-11-25
	FormTask        Form = "task"        // case 2
	FormRemediation Form = "remediation" // case 3
	FormFinal       Form = "final"       // case 4
	FormChallenge   Form = "challenge"   // case 5
	FormError       Form = "error"       // a JSON-RPC error
)

// Response is what goes on the wire, ready but for the JSON-RPC id. At most one
// of Result and Error is present, the body of the response under its status and
// headers; with neither, the HTTP response has no MCP message in its body.
type Response struct {
	Form Form
	// Remediation is what the client is told, which may be less than what policy
	// offered.
	Remediation Remediation
	// HTTPStatus is zero when the transport is not HTTP.
	HTTPStatus int
	Headers    []Header
	// Result is the JSON-RPC result: CallToolResult, InputRequiredResult or
	// CreateTaskResult. Absent: none.
	Result rar.Value
	// Error is the JSON-RPC error object. Absent: none.
	Error rar.Value
}

type renderer struct {
	d                Denial
	rev              revision
	kinds            Kinds
	headerLimit      int
	resourceMetadata string
}

// Render tells a denial in the form that this client on this transport
// understands. The response can always be sent, and always refuses: an error
// comes beside it and only reports, as CodeDenialInvalid, what was malformed in
// d and therefore left out.
//
// The offers are tried in policy's order and the first that the client can act
// on is sent; when there is none the client is told that the denial is
// undisclosed, which it must not take for final. Missing or unknown facts about
// the client count against the offer:
//   - an unknown transport gets no remedies at all;
//   - an unknown protocol version gets HTTP challenges, which do not depend on
//     it, and nothing else. A version later than 2026-07-28 counts as that one;
//   - a method other than tools/call has no result that could carry the
//     envelope (SEP-2643 leaves it open): the envelope is sent in data._meta of
//     a JSON-RPC error with Server.DenialCode. A resource that
//     policy denies without offering anything is answered as not found.
func Render(d Denial) (Response, error) {
	r := &renderer{
		d:           d,
		rev:         revisionOf(d.ProtocolVersion),
		kinds:       Actionable(d.Transport, d.ProtocolVersion, d.Request.Method, d.ClientCapabilities),
		headerLimit: d.Server.HeaderLimit,
	}
	if r.headerLimit <= 0 {
		r.headerLimit = DefaultHeaderLimit
	}
	if r.d.Message == "" {
		r.d.Message = Words(d)
	}
	faults := r.checkFrame()
	if d.Remediation != Available {
		return r.final(), faults
	}
	list, err := offers(d)
	faults = errors.Join(faults, err)
	for _, o := range list {
		if resp, ok := r.offer(o); ok {
			return resp, faults
		}
	}
	return r.final(), faults
}

// checkFrame drops what is malformed outside the remedies.
func (r *renderer) checkFrame() error {
	var faults []error
	if r.d.ContextID != "" && !isHandle(r.d.ContextID) {
		faults = append(faults, fail(CodeDenialInvalid, "/context_id", "not opaque"))
		r.d.ContextID = ""
	}
	if url := r.d.Server.ResourceMetadata; url == "" || isWord(url) {
		r.resourceMetadata = url
	} else {
		faults = append(faults, fail(CodeDenialInvalid, "/server/resource_metadata", "not a URL in ASCII"))
	}
	if err := checkAll(r.d.Server.DPoPAlgs, isProofAlg, "/server/dpop_algs", "not an asymmetric algorithm (RFC 9449)"); err != nil {
		faults = append(faults, err)
		r.d.Server.DPoPAlgs = nil
	}
	return errors.Join(faults...)
}

// offer renders o if the client can act on every part of it.
func (r *renderer) offer(o offer) (Response, bool) {
	for _, a := range o.approvals {
		if !r.canApprove(a) {
			return Response{}, false
		}
	}
	if o.credentials != nil {
		return r.credentials(o.credentials, len(o.approvals) == 0)
	}
	if len(o.approvals) == 0 {
		return Response{}, false
	}
	switch a := o.approvals[0].(type) {
	case URLRemedy:
		return r.page(a), true
	case OutOfBandRemedy:
		return r.task(a.Task), true
	default:
		return Response{}, false
	}
}

func (r *renderer) canApprove(a Remedy) bool {
	switch a := a.(type) {
	case URLRemedy:
		return r.kinds.Has(KindURL) && (r.rev >= revision2026 || a.ElicitationID != "")
	case OutOfBandRemedy:
		return r.kinds.Has(KindOutOfBand)
	default:
		return false
	}
}

// credentials: a challenge on HTTP; where none is possible, or it is longer
// than a header may be, the hint of case 3, if details are all that is missing.
func (r *renderer) credentials(n *need, alone bool) (Response, bool) {
	result := alone && n.detailsOnly() && r.rev != revisionUnknown &&
		r.d.Request.Method == methodToolsCall && r.kinds.Has(KindAuthorizationDetails)
	if r.d.Transport == TransportHTTP && (!result || !r.prefersResult()) {
		if resp, ok := r.challenge(n); ok {
			return r.withBody(resp, n), true
		}
	}
	if !result {
		return Response{}, false
	}
	return r.result(FormRemediation, Available, r.toolError(r.envelope(Available, n.hint()))), true
}

// hint is that of SEP-2643 case 3.
func (n *need) hint() rar.Value {
	fields := n.remediation()
	members := []rar.Member{member("type", str(hintCredential))}
	for i := range fields.Len() {
		members = append(members, fields.Member(i))
	}
	return object(members...)
}

func (r *renderer) prefersResult() bool {
	switch r.d.Preference {
	case PreferResult:
		return true
	case PreferByClient:
		return !isObjectAt(r.d.ClientCapabilities, "extensions", DenialsExtension)
	case PreferChallenge:
	}
	return false
}

// withBody puts a JSON-RPC error under a challenge, in the form that denials of
// other methods than tools/call have. An HTTP API has no such body.
func (r *renderer) withBody(resp Response, n *need) Response {
	if !r.d.Server.ErrorBodies || r.d.Request.Method == "" {
		return resp
	}
	envelope := r.envelope(Available)
	if n.detailsOnly() {
		envelope = r.envelope(Available, n.hint())
	}
	resp.Error = rpcError(r.d.Server.denialCode(), r.d.Message, member("data", object(meta(envelope))))
	return resp
}

// page is case 1. Before 2026-07-28 the page is asked for by an error, for which
// no envelope is defined.
func (r *renderer) page(a URLRemedy) Response {
	if r.rev < revision2026 {
		resp := Response{Form: FormURL, Remediation: Available, Headers: r.headers(Available)}
		resp.HTTPStatus = r.status()
		resp.Error = rpcError(rpcURLElicitation, r.d.Message,
			member("data", object(member("elicitations", rar.ArrayValue(object(
				member("mode", str("url")),
				member("elicitationId", str(a.ElicitationID)),
				member("url", str(a.URL)),
				member("message", str(a.Message)),
			))))))
		return resp
	}
	members := []rar.Member{
		member("resultType", str("input_required")),
		member("inputRequests", object(member(a.Key, object(
			member("method", str("elicitation/create")),
			member("params", object(
				member("mode", str("url")),
				member("url", str(a.URL)),
				member("message", str(a.Message)),
			)),
		)))),
	}
	if a.RequestState != "" {
		members = append(members, member("requestState", str(a.RequestState)))
	}
	// The hint has no pointer: the URL is read from inputRequests.
	members = append(members, meta(r.envelope(Available, object(member("type", str(hintURL))))))
	return r.result(FormURL, Available, object(members...))
}

// task is case 2. SEP-2643's samples leave out members that SEP-2663 requires.
func (r *renderer) task(t Task) Response {
	ttl := rar.NullValue()
	if t.TTLMillis != nil {
		ttl = rar.IntValue(*t.TTLMillis)
	}
	members := []rar.Member{
		member("resultType", str("task")),
		member("taskId", str(t.ID)),
		member("status", str("working")),
	}
	if t.StatusMessage != "" {
		members = append(members, member("statusMessage", str(t.StatusMessage)))
	}
	members = append(members,
		member("createdAt", str(t.CreatedAt.UTC().Format(time.RFC3339Nano))),
		member("lastUpdatedAt", str(t.LastUpdatedAt.UTC().Format(time.RFC3339Nano))),
		member("ttlMs", ttl),
	)
	if t.PollIntervalMillis > 0 {
		members = append(members, member("pollIntervalMs", rar.IntValue(t.PollIntervalMillis)))
	}
	members = append(members, meta(r.envelope(Available, object(member("type", str(hintTask))))))
	return r.result(FormTask, Available, object(members...))
}

// final is case 4, and the end of every denial that could not be told better.
// Only policy's own word is final: a remedy that this client can not act on is
// undisclosed, because another client would be offered it.
func (r *renderer) final() Response {
	remediation := Undisclosed
	if r.d.Remediation == Unavailable {
		remediation = Unavailable
	}
	if r.d.Request.Method == methodToolsCall {
		return r.result(FormFinal, remediation, r.toolError(r.envelope(remediation)))
	}
	resp := Response{Form: FormError, Remediation: remediation, HTTPStatus: r.status()}
	if r.hidden() {
		resp.Error = rpcError(r.notFoundCode(), "Resource not found")
		return resp
	}
	resp.Error = rpcError(r.d.Server.denialCode(), r.d.Message, member("data", object(meta(r.envelope(remediation)))))
	return resp
}

// hidden: a resource that may not be read should not be known to exist. Where
// policy means to tell of a remedy there is nothing to hide.
func (r *renderer) hidden() bool {
	return strings.HasPrefix(r.d.Request.Method, "resources/") &&
		r.d.Request.Method != "resources/list" &&
		r.d.Request.Method != "resources/templates/list" &&
		r.d.Remediation != Available
}

// notFoundCode: MCP 2026-07-28 forbids the code that its forerunners used.
func (r *renderer) notFoundCode() int64 {
	if r.rev == revision2025 || r.rev == revisionOld {
		return rpcResourceNotFoundOld
	}
	return rpcInvalidParams
}

// toolError is a CallToolResult that tells the denial in words as well, for
// clients and models that know nothing of the envelope.
func (r *renderer) toolError(envelope rar.Value) rar.Value {
	var members []rar.Member
	if r.rev >= revision2026 {
		members = append(members, member("resultType", str("complete")))
	}
	return object(append(members,
		member("content", rar.ArrayValue(object(
			member("type", str("text")),
			member("text", str(r.d.Message)),
		))),
		member("isError", rar.BoolValue(true)),
		meta(envelope),
	)...)
}

func (r *renderer) envelope(remediation Remediation, hints ...rar.Value) rar.Value {
	members := []rar.Member{
		member("reason", str(reasonInsufficient)),
		member("remediation", str(string(remediation))),
	}
	if r.d.ContextID != "" {
		members = append(members, member("authorizationContextId", str(r.d.ContextID)))
	}
	if len(hints) > 0 {
		members = append(members, member("remediationHints", rar.ArrayValue(hints...)))
	}
	return object(members...)
}

func (r *renderer) result(form Form, remediation Remediation, result rar.Value) Response {
	return Response{
		Form:        form,
		Remediation: remediation,
		HTTPStatus:  r.status(),
		Headers:     r.headers(remediation),
		Result:      result,
	}
}

func (r *renderer) status() int {
	if r.d.Transport == TransportHTTP {
		return http.StatusOK
	}
	return 0
}

// headers: remediation data is made for one call and one client.
func (r *renderer) headers(remediation Remediation) []Header {
	if r.d.Transport == TransportHTTP && remediation == Available {
		return []Header{noStore()}
	}
	return nil
}

func meta(envelope rar.Value) rar.Member {
	return member("_meta", object(member(EnvelopeKey, envelope)))
}
