package soak_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/tests/bench/workload"
)

const (
	// perCaller is how many calls each caller has in flight at most.
	perCaller = 16
	// deadline is how long a call may take, and wait for others: a machine that is busy
	// elsewhere may have the server stand still for a second, which is then taken for
	// the time of one decision.
	deadline = 2 * time.Minute
)

// client asks, and returns an answer to each item: if the call was refused, one that
// has its code.
type client func(ctx context.Context, a *ask) ([]answer, error)

// open connects all callers, and returns a client for each call that may be in flight.
func (s *stand) open(t *testing.T) (clients []client, closeAll func()) {
	t.Helper()
	var closes []func()
	for _, name := range callers() {
		var c client
		if strings.HasPrefix(name, "grpc") {
			conn, err := grpc.NewClient(s.server.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			closes = append(closes, func() { _ = conn.Close() })
			c = overGRPC(authzdv1.NewDecisionServiceClient(conn), s.keys[name])
		} else {
			transport := &http.Transport{MaxIdleConnsPerHost: perCaller}
			closes = append(closes, transport.CloseIdleConnections)
			c = overREST(transport, "http://"+s.server.HTTP, s.keys[name])
		}
		for range perCaller {
			clients = append(clients, c)
		}
	}
	return clients, sync.OnceFunc(func() {
		for _, c := range closes {
			c()
		}
	})
}

func overGRPC(c authzdv1.DecisionServiceClient, key string) client {
	return func(ctx context.Context, a *ask) ([]answer, error) {
		ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key), deadline)
		defer cancel()
		if a.single != nil {
			got, err := c.Check(ctx, a.single)
			if err != nil {
				return refused(err)
			}
			return []answer{decided(got)}, nil
		}
		got, err := c.CheckBatch(ctx, a.batch)
		if err != nil {
			return refused(err)
		}
		var all []answer
		for _, it := range got.GetItems() {
			if it.GetCheck() != nil {
				all = append(all, decided(it.GetCheck()))
			} else {
				all = append(all, answer{code: it.GetError().GetCode()})
			}
		}
		return all, nil
	}
}

// refused is the answer of a gRPC status with authzd's code; any other error stays one.
func refused(err error) ([]answer, error) {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == "authzd" {
			return []answer{{code: info.GetReason()}}, nil
		}
	}
	return nil, err
}

func decided(r *authzdv1.CheckResponse) answer {
	a := answer{revision: r.GetPolicy().GetRevision()}
	a.Allow, a.Rule = r.GetDecision() == authzdv1.Decision_DECISION_ALLOW, r.GetRule()
	if reasons := r.GetReasons(); len(reasons) > 0 {
		a.Code = reasons[0].GetCode()
	}
	var hints []string
	for _, h := range r.GetRemediation().GetHints() {
		hints = append(hints, workload.Hint(h.GetType(), h.GetScopes(), string(h.GetAuthorizationDetails()), h.GetHeld()))
	}
	a.Hints = workload.Join(hints)
	return a
}

// restAnswer is what matters of a CheckResponse, or of an error.
type restAnswer struct {
	Decision, Rule string
	Reasons        []struct{ Code string }
	Remediation    struct {
		Hints []struct {
			Type    string
			Scopes  []string
			Details json.RawMessage `json:"authorization_details"`
			Held    bool
		}
	}
	Policy struct{ Revision string }
	Code   string
	// Items are the answers of a batch.
	Items []struct {
		Check *restAnswer
		Error struct{ Code string }
	}
}

func overREST(transport *http.Transport, url, key string) client {
	return func(ctx context.Context, a *ask) ([]answer, error) {
		ctx, cancel := context.WithTimeout(ctx, deadline)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+a.path, strings.NewReader(a.body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := transport.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return nil, fmt.Errorf("read the answer: %w", err)
		}
		var got restAnswer
		if err := json.Unmarshal(text, &got); err != nil {
			return nil, fmt.Errorf("%s: %w: %.200s", resp.Status, err, text)
		}
		return got.answers(resp.StatusCode)
	}
}

func (r *restAnswer) answers(status int) ([]answer, error) {
	switch {
	case status != http.StatusOK && r.Code != "" && r.Decision == "":
		return []answer{{code: r.Code}}, nil
	case status != http.StatusOK:
		return nil, fmt.Errorf("status %d: %+v", status, r)
	case r.Items == nil:
		return []answer{r.decided()}, nil
	}
	var all []answer
	for _, it := range r.Items {
		switch {
		case it.Check != nil && it.Error.Code == "":
			all = append(all, it.Check.decided())
		case it.Check == nil && it.Error.Code != "":
			all = append(all, answer{code: it.Error.Code})
		default:
			return nil, errors.New("an item has neither a decision nor an error, or both")
		}
	}
	return all, nil
}

func (r *restAnswer) decided() answer {
	a := answer{revision: r.Policy.Revision}
	a.Allow, a.Rule = r.Decision == "ALLOW", r.Rule
	if len(r.Reasons) > 0 {
		a.Code = r.Reasons[0].Code
	}
	var hints []string
	for _, h := range r.Remediation.Hints {
		hints = append(hints, workload.Hint(h.Type, h.Scopes, string(h.Details), h.Held))
	}
	a.Hints = workload.Join(hints)
	return a
}
