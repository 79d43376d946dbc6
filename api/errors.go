package api

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/bundles/registry"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/mcp"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
	"github.com/authzd/authzd/store"
)

// errorDomain is the domain of google.rpc.ErrorInfo.
const errorDomain = "authzd"

// statusClientClosed is what nginx and grpc-gateway answer to a client that
// has gone; there is no number of an RFC for it.
const statusClientClosed = 499

// outcome is a row of the error table: how a code looks on the wire.
type outcome struct {
	grpc codes.Code
	http int
	// oauth is the OAuth error that says the same, where OAuth is spoken.
	oauth string
	// inner: the code is a reason within a decision, or a fault of a policy at
	// compile time. Met as the error of a call, it is our own fault.
	inner bool
}

// lookup is the error table of every package. A code without a row is false,
// and answered as CodeInternal; a test walks all codes that are declared.
func lookup(code string) (outcome, bool) {
	switch Code(code) {
	case CodeSyntax, CodeTrailingData, CodeDuplicateKey, CodeCaseVariantKey, CodeTooDeep,
		CodeNumberOutOfRange, CodeUnknownMember, CodeMalformed, CodeWrongType, CodeInvalidValue,
		CodeMissingMember, CodeEmpty, CodeAccessTokenUnsupported, CodeRequestBody:
		return outcome{grpc: codes.InvalidArgument, http: http.StatusBadRequest}, true
	case CodeTooLarge:
		return outcome{grpc: codes.ResourceExhausted, http: http.StatusRequestEntityTooLarge}, true
	case CodeOverloaded:
		return outcome{grpc: codes.ResourceExhausted, http: http.StatusTooManyRequests}, true
	case CodeRevisionNotActive:
		return outcome{grpc: codes.FailedPrecondition, http: http.StatusConflict}, true
	case CodeHostRefused, CodeOriginRefused, CodeRightMissing:
		return outcome{grpc: codes.PermissionDenied, http: http.StatusForbidden}, true
	case CodeContentType:
		return outcome{grpc: codes.InvalidArgument, http: http.StatusUnsupportedMediaType}, true
	case CodeUnauthenticated:
		return outcome{grpc: codes.Unauthenticated, http: http.StatusUnauthorized}, true
	case CodeNotFound:
		return outcome{grpc: codes.Unimplemented, http: http.StatusNotFound}, true
	case CodeMethodNotAllowed:
		return outcome{grpc: codes.Unimplemented, http: http.StatusMethodNotAllowed}, true
	case CodeStoreUnavailable:
		return outcome{grpc: codes.Unavailable, http: http.StatusServiceUnavailable}, true
	case CodeInternal:
		return outcome{grpc: codes.Internal, http: http.StatusInternalServerError}, true
	case CodeNotAcceptable:
		return outcome{grpc: codes.FailedPrecondition, http: http.StatusNotAcceptable}, true
	case CodeNotLoopback:
		return outcome{grpc: codes.FailedPrecondition, http: http.StatusInternalServerError, inner: true}, true
	}
	return lookupOthers(code)
}

// lookupOthers is the part for the codes of the other packages.
func lookupOthers(code string) (outcome, bool) {
	switch engine.Code(code) { //nolint:exhaustive // the rest travels inside decisions
	case engine.CodeMCPMissing, engine.CodeMCPMismatch, engine.CodeAgentMismatch, engine.CodeSubjectAmbiguous:
		return outcome{grpc: codes.InvalidArgument, http: http.StatusBadRequest}, true
	case engine.CodeNotReady:
		return outcome{grpc: codes.Unavailable, http: http.StatusServiceUnavailable}, true
	case engine.CodeCancelled:
		return outcome{grpc: codes.Canceled, http: statusClientClosed}, true
	case engine.CodeDeadline:
		return outcome{grpc: codes.DeadlineExceeded, http: http.StatusGatewayTimeout}, true
	case engine.CodeToolUnknown, engine.CodeArgumentsInvalid:
		return outcome{grpc: codes.InvalidArgument, http: http.StatusBadRequest, inner: true}, true
	}
	switch rar.Code(code) { //nolint:exhaustive // the rest stands by its family
	case rar.CodeInvalidRequired, rar.CodeTooComplex:
		return outcome{grpc: codes.InvalidArgument, http: http.StatusBadRequest}, true
	}
	switch mcp.Code(code) {
	case mcp.CodeMapping, mcp.CodeMappingUnsupported, mcp.CodeMappingInvalid, mcp.CodeMappingSubject, mcp.CodeMethodUnknown, mcp.CodeHeaderMismatch, mcp.CodeMessageInvalid:
		return outcome{grpc: codes.InvalidArgument, http: http.StatusBadRequest}, true
	case mcp.CodeEnvelopeInvalid, mcp.CodeDenialInvalid, mcp.CodeDenied, mcp.CodePDPFault, mcp.CodeRequestState:
		return outcome{grpc: codes.Internal, http: http.StatusInternalServerError, inner: true}, true
	}
	return lookupFamily(code)
}

// lookupFamily is the part of the table for codes that travel inside decisions
// and compile-time findings: they stand by their family.
func lookupFamily(code string) (outcome, bool) {
	family, _, _ := strings.Cut(code, ".")
	switch family {
	case "token":
		// RFC 6750 section 3.1: the client learns no more than this.
		return outcome{grpc: codes.Internal, http: http.StatusInternalServerError, oauth: "invalid_token", inner: true}, true
	case "rar":
		return outcome{
			grpc: codes.InvalidArgument, http: http.StatusBadRequest,
			oauth: rar.Code(code).OAuthError(), inner: rar.Code(code).OAuthError() == "",
		}, true
	case "bundle":
		return lookupBundle(bundles.Code(code)), true
	case "engine", "requirement", "approval":
		return lookupBlock(engine.Code(code)), true
	}
	return outcome{}, false
}

// lookupBlock is the part for changes of the block list; everything else of
// these families travels inside decisions.
func lookupBlock(code engine.Code) outcome {
	switch code { //nolint:exhaustive // see above
	case engine.CodeBlocksUnavailable, engine.CodeBlocksFull:
		return outcome{grpc: codes.FailedPrecondition, http: http.StatusConflict}
	case engine.CodeBlockNotFound:
		return outcome{grpc: codes.NotFound, http: http.StatusNotFound}
	}
	return outcome{grpc: codes.Internal, http: http.StatusInternalServerError, inner: true}
}

// lookupBundle is the part for what is pushed and activated: whoever is told
// such a code has done it.
func lookupBundle(code bundles.Code) outcome {
	switch code { //nolint:exhaustive // the rest is what is wrong with the archive
	case bundles.CodeNameInvalid:
		return outcome{grpc: codes.InvalidArgument, http: http.StatusBadRequest}
	case bundles.CodeTooLarge:
		return outcome{grpc: codes.ResourceExhausted, http: http.StatusRequestEntityTooLarge}
	case bundles.CodeNotFound, bundles.CodeDataNotFound:
		return outcome{grpc: codes.NotFound, http: http.StatusNotFound}
	case bundles.CodeNotWritable:
		return outcome{grpc: codes.PermissionDenied, http: http.StatusForbidden}
	case bundles.CodeDataChanged:
		return outcome{grpc: codes.Aborted, http: http.StatusPreconditionFailed}
	case bundles.CodeBusy:
		return outcome{grpc: codes.ResourceExhausted, http: http.StatusTooManyRequests}
	case bundles.CodeNotReceived, bundles.CodeOutdated:
		return outcome{grpc: codes.Unavailable, http: http.StatusServiceUnavailable}
	case bundles.CodePushUnavailable, bundles.CodeNameLocal, bundles.CodeStaleRevision, bundles.CodeNotStaged, bundles.CodeNamesFull,
		bundles.CodeDeltaStale, bundles.CodeChangesFull, bundles.CodeChangesLost, bundles.CodeFollowed:
		return outcome{grpc: codes.FailedPrecondition, http: http.StatusConflict}
	}
	return outcome{grpc: codes.InvalidArgument, http: http.StatusUnprocessableEntity}
}

const storeMessage = "what the server keeps can not be read or written now: try again later; the server's log says why under the request id"

const internalMessage = "the request could not be processed; the server's log says why under the request id"

// fault is an error as a client may see it.
type fault struct {
	code    string
	message string
	path    string
	outcome outcome
	// report says what is wrong with a bundle.
	report *authzdv1.BundleReport
	// cause is for the log only; set where the client gets a fixed sentence.
	cause error
}

// faultOf classes err by the error table. What has no code is internal: its
// text stays in the log.
func faultOf(err error) fault {
	f := coded(err)
	if f.code != "" {
		if o, ok := lookup(f.code); ok && !o.inner && o.grpc != codes.Internal {
			f.outcome = o
			return f
		}
	}
	o, _ := lookup(string(CodeInternal))
	return fault{code: string(CodeInternal), message: internalMessage, outcome: o, cause: err}
}

// coded finds the domain error in err. The texts of domain errors are written
// for whoever sent the request.
func coded(err error) fault {
	if own, ok := errors.AsType[*Error](err); ok {
		return fault{code: string(own.Code), path: own.Path, message: text(own.Err)}
	}
	if eng, ok := errors.AsType[*engine.Error](err); ok {
		return engineFault(eng)
	}
	if bun, ok := errors.AsType[*bundles.Error](err); ok { // before what the decoder said, which it places
		f := fault{code: string(bun.Code), path: bun.Path, message: text(bun.Err)}
		if report, ok := registry.ReportOf(err); ok {
			f.report = reportOf(report)
		}
		return f
	}
	if kept, ok := errors.AsType[*store.Error](err); ok && kept.Code == store.CodeUnavailable {
		return fault{code: string(CodeStoreUnavailable), message: storeMessage, cause: err} // which names files
	}
	if rare, ok := errors.AsType[*rar.Error](err); ok {
		return fault{code: string(rare.Code), path: rare.Path, message: text(rare.Err)}
	}
	if msg, ok := errors.AsType[*mcp.Error](err); ok {
		return fault{code: string(msg.Code), path: msg.Path, message: text(msg.Err)}
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fault{code: string(engine.CodeDeadline), message: deadlineMessage}
	case errors.Is(err, context.Canceled):
		return fault{code: string(engine.CodeCancelled), message: cancelledMessage}
	}
	return fault{}
}

const (
	deadlineMessage  = "no decision was reached before the deadline"
	cancelledMessage = "the caller went away before a decision was reached"
)

func engineFault(e *engine.Error) fault {
	f := fault{code: string(e.Code), path: e.Path, message: text(e.Err)}
	switch e.Code { //nolint:exhaustive // only these wrap a cause that is not ours
	case engine.CodeDeadline:
		f.message = deadlineMessage
	case engine.CodeCancelled:
		f.message = cancelledMessage
	}
	return f
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return strings.ToValidUTF8(err.Error(), "\uFFFD")
}

// status makes the gRPC form: google.rpc.ErrorInfo carries what the REST body
// does.
func (f fault) status(requestID string) error {
	st := &statuspb.Status{
		Code: int32(f.outcome.grpc), Message: f.message, //nolint:gosec // a status code, below 17
		Details: []*anypb.Any{{TypeUrl: errorInfoURL, Value: f.errorInfo(requestID)}},
	}
	if f.outcome.http == http.StatusTooManyRequests {
		st.Details = append(st.Details, &anypb.Any{TypeUrl: retryInfoURL, Value: retryInfo(retryAfter())})
	}
	if f.report != nil {
		report, err := anypb.New(f.report)
		if err != nil {
			return status.ErrorProto(st)
		}
		st.Details = append(st.Details, report)
	}
	return status.ErrorProto(st)
}

const (
	errorInfoURL = "type.googleapis.com/google.rpc.ErrorInfo"
	retryInfoURL = "type.googleapis.com/google.rpc.RetryInfo"
)

// errorInfo encodes google.rpc.ErrorInfo, field by field: under overload most calls
// get one, and making the message and encoding it by reflection was a good part of
// what a refusal cost.
func (f fault) errorInfo(requestID string) []byte {
	b := make([]byte, 0, 64+len(f.code)+len(f.path)+len(requestID))
	b = appendText(appendText(b, 1, f.code), 2, errorDomain)
	b = appendEntry(b, 3, "path", f.path)
	return appendEntry(b, 3, "request_id", requestID)
}

// retryInfo encodes google.rpc.RetryInfo.
func retryInfo(d time.Duration) []byte {
	var delay [16]byte
	seconds, nanos := uint64(d/time.Second), uint64(d%time.Second) //nolint:gosec // never negative
	text := protowire.AppendVarint(protowire.AppendTag(delay[:0], 1, protowire.VarintType), seconds)
	text = protowire.AppendVarint(protowire.AppendTag(text, 2, protowire.VarintType), nanos)
	return protowire.AppendBytes(protowire.AppendTag(make([]byte, 0, 2+len(text)), 1, protowire.BytesType), text)
}

// appendEntry appends an entry of a map from text to text.
func appendEntry(b []byte, n protowire.Number, key, value string) []byte {
	key, value = valid(key), valid(value)
	const tag = 1
	b = protowire.AppendTag(b, n, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(2*tag+protowire.SizeBytes(len(key))+protowire.SizeBytes(len(value)))) //nolint:gosec // never negative
	return appendText(appendText(b, 1, key), 2, value)
}

// appendText appends a field of text that is valid UTF-8, as protobuf wants it.
func appendText(b []byte, n protowire.Number, text string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), valid(text))
}

// retryAfter is when whoever is refused for want of room may try again: not all of
// them at once.
func retryAfter() time.Duration {
	return leastRetry + rand.N(leastRetry) //nolint:gosec // a spread, no secret
}

const leastRetry = time.Second

// appendJSON appends the REST form.
func (f fault) appendJSON(dst []byte, requestID string) []byte {
	dst = append(dst, `{"code":`...)
	dst = appendString(dst, f.code)
	dst = append(dst, `,"message":`...)
	dst = appendString(dst, f.message)
	if f.path != "" {
		dst = append(dst, `,"path":`...)
		dst = appendString(dst, f.path)
	}
	if requestID != "" {
		dst = append(dst, `,"request_id":`...)
		dst = appendString(dst, requestID)
	}
	if f.report != nil {
		if report, err := MarshalJSON(f.report); err == nil {
			dst = append(append(dst, `,"report":`...), report...)
		}
	}
	return append(dst, '}')
}

// faultOfStatus reads back what status made, for the gateway; ok is false for
// a status that is not ours.
func faultOfStatus(err error) (f fault, requestID string, ok bool) {
	st, isStatus := status.FromError(err)
	if !isStatus {
		return fault{}, "", false
	}
	var report *authzdv1.BundleReport
	for _, d := range st.Details() {
		if r, isReport := d.(*authzdv1.BundleReport); isReport {
			report = r
		}
	}
	for _, d := range st.Details() {
		info, isInfo := d.(*errdetails.ErrorInfo)
		if !isInfo || info.GetDomain() != errorDomain {
			continue
		}
		o, known := lookup(info.GetReason())
		if !known {
			return fault{}, "", false
		}
		md := info.GetMetadata()
		return fault{code: info.GetReason(), message: st.Message(), path: md["path"], outcome: o, report: report}, md["request_id"], true
	}
	return fault{}, "", false
}

func errorf(code Code, path, format string, args ...any) *Error {
	return &Error{Code: code, Path: path, Err: fmt.Errorf(format, args...)}
}
