package failclosed_test

import (
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

const (
	// batches is how many batches each suite is asked for, batchSize how many queries
	// one has at most.
	batches   = 25
	batchSize = 24
)

// TestBatchIsItsSingles: each query of a batch is answered as it is alone, whatever
// stands beside it: good ones, mutants, the same one twice.
func TestBatchIsItsSingles(t *testing.T) {
	t.Parallel()
	rounds := batches
	if testing.Short() {
		rounds /= 5
	}
	for i, s := range loadSuites(t) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			d := openDoors(t, openLibrary(t, s.dir))
			r := rand.New(rand.NewPCG(uint64(i), 3)) //nolint:gosec // the same batches each time is the point
			groups := sharing(s.cases(t))
			seen := map[string]int{}
			for range rounds {
				group := groups[r.IntN(len(groups))]
				var singles []*authzdv1.CheckRequest
				for range 1 + r.IntN(batchSize) {
					singles = append(singles, group[r.IntN(len(group))])
				}
				d.compareBatch(t, singles, seen)
			}
			if !testing.Short() && (seen["ALLOW"] == 0 && oracleAllows(t, s) || seen["DENY"] == 0) {
				t.Errorf("%v: these batches could not fail", seen)
			}
		})
	}
}

// sharing groups the queries that protobuf can say by their credentials, which a batch
// shares. There is a group for each base query at least.
func sharing(all []testCase) [][]*authzdv1.CheckRequest {
	index := map[string]int{}
	var groups [][]*authzdv1.CheckRequest
	for _, c := range all {
		m, _ := message(c.Query)
		if m == nil {
			continue
		}
		key, err := proto.MarshalOptions{Deterministic: true}.Marshal(&authzdv1.CheckRequest{Credentials: m.GetCredentials()})
		if err != nil { // text that is no UTF-8
			continue
		}
		at, ok := index[string(key)]
		if !ok {
			at = len(groups)
			index[string(key)] = at
			groups = append(groups, nil)
		}
		groups[at] = append(groups[at], m)
	}
	return groups
}

// compareBatch asks singles alone and at once.
func (d *doors) compareBatch(t *testing.T, singles []*authzdv1.CheckRequest, seen map[string]int) {
	t.Helper()
	batch := &authzdv1.CheckBatchRequest{Credentials: singles[0].GetCredentials()}
	for _, m := range singles {
		batch.Queries = append(batch.Queries, &authzdv1.CheckBatchQuery{
			Mcp: m.GetMcp(), Subject: m.GetSubject(), Action: m.GetAction(), Resource: m.GetResource(), Context: m.GetContext(), Commit: m.GetCommit(),
		})
	}
	answers, batchErr := d.grpc.CheckBatch(t.Context(), batch)
	if batchErr == nil && len(answers.GetItems()) != len(singles) {
		t.Fatalf("%d answers to %d queries", len(answers.GetItems()), len(singles))
	}
	for i, m := range singles {
		alone, err := d.grpc.Check(t.Context(), m)
		switch {
		case batchErr != nil && err == nil && alone.GetDecision() == authzdv1.Decision_DECISION_ALLOW:
			t.Errorf("a batch fails, %v, of which a query is allowed alone: %v", batchErr, m)
		case batchErr != nil:
			_ = codeOfStatus(t, batchErr)
			seen["ERROR"]++
		case err != nil:
			seen["ERROR"]++
			if got, want := answers.GetItems()[i].GetError().GetCode(), codeOfStatus(t, err); got != want {
				t.Errorf("query %d of a batch is answered %v, alone %s: %v", i, answers.GetItems()[i], want, m)
			}
		default:
			got := answers.GetItems()[i].GetCheck()
			if alone.GetDecision() == authzdv1.Decision_DECISION_ALLOW {
				seen["ALLOW"]++
			} else {
				seen["DENY"]++
			}
			if got, alone := lasting(got), lasting(alone); !proto.Equal(got, alone) {
				t.Errorf("query %d of a batch is answered\n%v\nalone\n%v\nto %v", i, got, alone, m)
			}
		}
	}
}

// lasting leaves out what differs from one decision to the next: its ids, and
// times.
func lasting(r *authzdv1.CheckResponse) *authzdv1.CheckResponse {
	r, _ = proto.Clone(r).(*authzdv1.CheckResponse)
	r.DecisionId = ""
	r.ExpiresAt = nil
	r.Denial = nil // has the id of the remediation in it
	if r.GetRemediation() != nil {
		r.Remediation.AuthorizationContextId = ""
	}
	return r
}
