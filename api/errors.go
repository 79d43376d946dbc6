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
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/bundles/registry"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/mcp"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
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
	var own *Error
	var eng *engine.Error
	var rare *rar.Error
	var msg *mcp.Error
	var bun *bundles.Error
	switch {
	case errors.As(err, &own):
		return fault{code: string(own.Code), path: own.Path, message: text(own.Err)}
	case errors.As(err, &eng):
		return engineFault(eng)
	case errors.As(err, &bun): // before what the decoder said, which it places
		f := fault{code: string(bun.Code), path: bun.Path, message: text(bun.Err)}
		if report, ok := registry.ReportOf(err); ok {
			f.report = reportOf(report)
		}
		return f
	case errors.As(err, &rare):
		return fault{code: string(rare.Code), path: rare.Path, message: text(rare.Err)}
	case errors.As(err, &msg):
		return fault{code: string(msg.Code), path: msg.Path, message: text(msg.Err)}
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
	st := status.New(f.outcome.grpc, f.message)
	info := &errdetails.ErrorInfo{
		Reason: f.code, Domain: errorDomain,
		Metadata: map[string]string{"path": f.path, "request_id": requestID},
	}
	details := []protoadapt.MessageV1{info}
	if f.outcome.http == http.StatusTooManyRequests {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter())})
	}
	if f.report != nil {
		details = append(details, protoadapt.MessageV1Of(f.report))
	}
	withInfo, err := st.WithDetails(details...)
	if err != nil {
		return st.Err()
	}
	return withInfo.Err()
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
