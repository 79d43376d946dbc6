package failclosed_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/engine"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// doors are a running server's gRPC and REST interfaces.
type doors struct {
	web          *http.Client
	url, bundles string
	grpc         authzdv1.DecisionServiceClient
	pushes       authzdv1.BundleServiceClient
}

// openDoors serves e on free ports until the test ends.
func openDoors(t *testing.T, e *engine.Engine) *doors {
	t.Helper()
	s, err := api.New(api.Options{Engine: e, HTTPAddr: "127.0.0.1:0", GRPCAddr: "127.0.0.1:0", MaxDuration: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	if err := s.Listen(ctx); err != nil {
		stop()
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	return dialDoors(t, s.HTTPAddr().String(), s.GRPCAddr().String())
}

// dialDoors connects to a server until the test ends.
func dialDoors(t *testing.T, web, rpc string) *doors {
	t.Helper()
	conn, err := grpc.NewClient(rpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	d := &doors{
		web: &http.Client{Transport: &http.Transport{}}, url: "http://" + web + "/v1/check", bundles: "http://" + web + "/v1/bundles/",
		grpc: authzdv1.NewDecisionServiceClient(conn), pushes: authzdv1.NewBundleServiceClient(conn),
	}
	t.Cleanup(func() {
		d.web.CloseIdleConnections()
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// askREST posts a query text as it is.
func (d *doors) askREST(t testing.TB, query []byte) outcome {
	t.Helper()
	decided, answer, err := d.send(t, http.MethodPost, d.url, query)
	if err != nil {
		t.Errorf("REST: %v", err)
		return outcome{}
	}
	return outcomeOf(t, decided, answer)
}

// send gives a body to REST; ok is the status 200.
func (d *doors) send(t testing.TB, method, url string, body []byte) (ok bool, answer []byte, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := d.web.Do(req)
	if err != nil {
		return false, nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode == http.StatusOK, answer, err
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
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetReason() != "" {
			return info.GetReason()
		}
	}
	t.Errorf("an error without a code: %v", err)
	return ""
}
