package soak_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/tests/bench/workload"
)

// ask is one call, in the forms of both doors, and what is known of its answers.
type ask struct {
	// items are the questions; several are a batch.
	items []item
	// path and body are REST's. Of single and batch, gRPC's, one is set.
	path, body string
	single     *authzdv1.CheckRequest
	batch      *authzdv1.CheckBatchRequest
}

// item is a question that is decided, or else a query that is refused with code.
type item struct {
	question *workload.Question
	code     string
}

// answer is what a door said to one item.
type answer struct {
	workload.Outcome
	revision string
	// code is that of the error which came instead of a decision.
	code string
}

// newAsks makes the mix: of 20 calls, 16 ask one question, three a batch of them, and
// one is malformed.
func newAsks(t *testing.T, w *workload.Workload) []ask {
	t.Helper()
	questions, err := w.Questions()
	if err != nil {
		t.Fatal(err)
	}
	var all []ask
	for i := range questions {
		q := &questions[i]
		var a ask
		switch i % 20 {
		case 3, 9, 16:
			a, err = newBatch(w, q, i%3 == 0)
		case 12:
			a, err = newMalformed(q, i/20)
		default:
			a.items, a.path, a.body = []item{{question: q}}, "/v1/check", string(q.Query)
			a.single, err = workload.CheckRequest(q.Query)
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, a)
	}
	return all
}

// newBatch asks about a question and its like, and if asked to about something
// malformed between them.
func newBatch(w *workload.Workload, q *workload.Question, malformed bool) (ask, error) {
	a := ask{path: "/v1/check:batch", batch: &authzdv1.CheckBatchRequest{}}
	questions, err := w.Batch(q)
	if err != nil {
		return a, err
	}
	var credentials json.RawMessage
	var queries []map[string]json.RawMessage
	for i := range questions {
		r, err := workload.CheckRequest(questions[i].Query)
		if err != nil {
			return a, err
		}
		var query map[string]json.RawMessage
		if err := json.Unmarshal(questions[i].Query, &query); err != nil {
			return a, fmt.Errorf("read a query: %w", err)
		}
		credentials, a.batch.Credentials = query["credentials"], r.GetCredentials()
		delete(query, "credentials")
		it := item{question: &questions[i]}
		if malformed && i == 1 {
			it = item{code: "request.missing_member"}
			query["mcp"], r.Mcp = json.RawMessage(`{"params":{}}`), &authzdv1.MCPMessage{Params: []byte(`{}`)}
		}
		queries = append(queries, query)
		a.batch.Queries = append(a.batch.Queries, &authzdv1.CheckBatchQuery{Mcp: r.GetMcp(), Subject: r.GetSubject(), Context: r.GetContext()})
		a.items = append(a.items, it)
	}
	body, err := json.Marshal(map[string]any{"credentials": credentials, "queries": queries})
	a.body = string(body)
	return a, err
}

// newMalformed spoils a question in one of several ways.
func newMalformed(q *workload.Question, way int) (ask, error) {
	r, err := workload.CheckRequest(q.Query)
	if err != nil {
		return ask{}, err
	}
	a := ask{path: "/v1/check", body: string(q.Query), single: r}
	var code string
	replace := func(before, after string) { a.body = strings.Replace(a.body, before, after, 1) }
	switch way % 4 {
	case 0:
		code = "request.duplicate_key"
		replace(`"context":{`, `"context":{"tenant":"","tenant":"",`)
		r.Context = []byte(`{"tenant":"","tenant":""}`)
	case 1:
		code = "request.syntax"
		replace(`"params":{`, `"params":{,`)
		r.Mcp.Params = []byte(`{,`)
	case 2:
		code = "request.missing_member"
		replace(`"method":"tools/call",`, "")
		r.Mcp.Method = ""
	case 3:
		code = "request.wrong_type"
		replace(`"claims":{`, `"claims":[],"unused":{`)
		replace(`,"unused":{`, `,"context":{`)
		r.Credentials[0].Claims = []byte(`[]`)
	}
	a.items = []item{{code: code}}
	return a, nil
}

// judge says what is wrong with the answers to a call that was under way from sent to
// done; nil if they are right.
func (a *ask) judge(l *timeline, answers []answer, sent, done time.Time) error {
	if len(answers) != len(a.items) {
		return fmt.Errorf("%d answers to %d questions", len(answers), len(a.items))
	}
	revision := ""
	for i, it := range a.items {
		got := &answers[i]
		if it.question == nil || got.code != "" {
			if got.code != it.code {
				return fmt.Errorf("item %d: refused with %q, want %q: %+v", i, got.code, it.code, got)
			}
			continue
		}
		if revision != "" && got.revision != revision {
			return fmt.Errorf("item %d is answered by %s, another by %s", i, got.revision, revision)
		}
		revision = got.revision
		state := l.at(revision, sent, done)
		if state == nil {
			return fmt.Errorf("item %d is answered by the revision %q, which was not active", i, revision)
		}
		want, err := state.Outcome(it.question)
		if err != nil {
			return err
		}
		if got.Outcome != want {
			return fmt.Errorf("item %d by %s: got %+v, want %+v", i, revision, got.Outcome, want)
		}
	}
	return nil
}
