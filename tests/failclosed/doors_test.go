package failclosed_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/engine"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	served "github.com/authzd/authzd/tests/internal/doors"
)

// doors are a running server's gRPC and REST interfaces.
type doors struct {
	*served.Doors
	grpc   authzdv1.DecisionServiceClient
	pushes authzdv1.BundleServiceClient
}

// checkPath is where REST takes queries.
const checkPath = "/v1/check"

// openDoors serves e on free ports until the test ends.
func openDoors(t *testing.T, e *engine.Engine) *doors {
	t.Helper()
	return asked(served.Open(t, api.Options{Engine: e, MaxDuration: time.Minute}))
}

func asked(d *served.Doors) *doors {
	return &doors{d, authzdv1.NewDecisionServiceClient(d.Conn), authzdv1.NewBundleServiceClient(d.Conn)}
}

// askREST posts a query text as it is.
func (d *doors) askREST(t testing.TB, query []byte) outcome {
	t.Helper()
	decided, answer, err := d.Send(t.Context(), http.MethodPost, checkPath, query)
	if err != nil {
		t.Errorf("REST: %v", err)
		return outcome{}
	}
	return outcomeOf(t, decided, answer)
}

// outcomeOf reads the JSON of an answer: a decision, or an error with a code.
func outcomeOf(t testing.TB, decided bool, body []byte) outcome {
	t.Helper()
	answer, err := parse(body)
	if err != nil {
		t.Errorf("an answer that is no JSON: %v: %s", err, body)
		return outcome{}
	}
	if !decided {
		code, ok := answer.get("code").str()
		if !ok || code == "" {
			t.Errorf("an error without a code: %s", body)
		}
		return outcome{"ERROR", code}
	}
	decision, _ := answer.get("decision").str()
	if decision != "ALLOW" && decision != "DENY" {
		t.Errorf("neither a decision nor an error: %s", body)
	}
	code, _ := answer.get("error", "code").str()
	return outcome{decision, code}
}

func (d *doors) askGRPC(t testing.TB, m *authzdv1.CheckRequest) outcome {
	t.Helper()
	r, err := d.grpc.Check(t.Context(), m)
	if err != nil {
		return outcome{"ERROR", codeOfStatus(t, err)}
	}
	switch r.GetDecision() {
	case authzdv1.Decision_DECISION_ALLOW:
		return outcome{"ALLOW", r.GetError().GetCode()}
	case authzdv1.Decision_DECISION_DENY:
		return outcome{"DENY", r.GetError().GetCode()}
	case authzdv1.Decision_DECISION_UNSPECIFIED:
	}
	t.Errorf("neither a decision nor an error: %v", r)
	return outcome{}
}

// codeOfStatus is the code that an error of gRPC carries; one without is a fault.
func codeOfStatus(t testing.TB, err error) string {
	t.Helper()
	info, err := served.Info(err)
	if err != nil {
		t.Error(err)
	}
	return info.GetReason()
}
