package properties_test

import (
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// faultOf is the error that gRPC gives; nil if there is none.
func faultOf(err error) *authzdv1.Error {
	if err == nil {
		return nil
	}
	s := status.Convert(err)
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return &authzdv1.Error{Code: info.GetReason(), Path: info.GetMetadata()["path"], Message: s.Message(), RequestId: info.GetMetadata()["request_id"]}
		}
	}
	return &authzdv1.Error{Message: s.Message()}
}

func (w *world) count(q *question) {
	w.sum["queries"]++
	switch r := q.response; {
	case q.fault != nil:
		w.sum["error"]++
		w.sum["error "+q.fault.GetCode()]++
	case r.GetDecision() == authzdv1.Decision_DECISION_ALLOW:
		w.sum["allow"]++
		if len(r.GetMet()) > 0 {
			w.sum["allow by what a credential holds"]++
		}
	case r.GetError() != nil:
		w.sum["deny by a fault"]++
		w.sum["deny "+r.GetError().GetCode()]++
	default:
		w.sum["deny "+r.GetRemediation().GetStatus()]++
		for _, h := range r.GetRemediation().GetHints() {
			w.sum["hint "+h.GetType()]++
		}
		if strings.HasPrefix(r.GetRule(), "f") {
			w.sum["deny by a forbid"]++
		}
	}
}

// judge fails if a difference could hide, because hardly anything of a kind was asked.
func (w *world) judge(t *testing.T) {
	t.Helper()
	if w.sum["policies refused"] > w.sum["policies"] {
		t.Error("most policies are refused")
	}
	if w.sum["queries"] < policies*callers*calls/2 {
		return // a look at one seed
	}
	for _, least := range []struct {
		what    string
		percent int
	}{
		{"allow", 10},
		{"allow by what a credential holds", 3},
		{"deny available", 5},
		{"deny undisclosed", 5},
		{"deny by a forbid", 2},
		{"deny by a fault", 5},
		{"error", 5},
	} {
		if w.sum[least.what]*100 < w.sum["queries"]*least.percent {
			t.Errorf("of %d queries %d: %s", w.sum["queries"], w.sum[least.what], least.what)
		}
	}
	if w.sum["queries"] < 5000 {
		return // what is rare need not be there
	}
	for _, some := range []string{
		"hint scopes", "hint authorization_details", "hint authentication", "hint token", "hint proof_of_possession",
		"listed TOOL_ACCESS_POSSIBLE", "listed TOOL_ACCESS_AFTER_REMEDIATION", "listed TOOL_ACCESS_HIDDEN", "queries in batches", "batches refused", "explained",
		"deny unavailable", "deny request.arguments_invalid", "deny engine.builtin_error",
	} {
		if w.sum[some] < 5 {
			t.Errorf("hardly anything of this kind: %s", some)
		}
	}
}
