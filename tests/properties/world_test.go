package properties_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/engine"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

// world is the engines and interfaces that are asked, about one policy after the other:
// what one leaves behind must not show with the next.
type world struct {
	// doors are of an engine with compiled policy, interpreted is one without.
	doors       *doors
	interpreted *engine.Engine
	// sum counts what was asked, and how it was answered.
	sum map[string]int
}

// question is a query, and what it is answered alone: the response, or the error.
type question struct {
	query    *authzdv1.CheckRequest
	text     []byte
	answer   answer
	response *authzdv1.CheckResponse
	fault    *authzdv1.Error
}

// ask asks about one policy. The error is the first difference.
func (w *world) ask(ctx context.Context, p *policy, a *asker) error {
	dir, err := os.MkdirTemp("", "properties-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	dirs, err := p.save(dir)
	if err != nil {
		return err
	}
	for _, e := range []*engine.Engine{w.doors.engine, w.interpreted} {
		s, err := compile(ctx, dirs)
		if refused, ok := errors.AsType[*engine.CompileError](err); ok {
			w.sum["policies refused: "+string(refused.Findings[0].Code)]++
			w.sum["policies refused"]++
			return nil
		}
		if err != nil {
			return err
		}
		e.Swap(s)
		e.Prepare(s) //nolint:contextcheck // it takes none
		if state, _ := s.Evaluator(); e == w.doors.engine && state != engine.EvaluatorCompiled {
			w.sum["policies not compiled"]++
		}
	}
	w.sum["policies"]++
	for range callers {
		if err := w.caller(ctx, dirs, a); err != nil {
			return err
		}
	}
	return nil
}

// caller asks what one caller asks: each call alone, then all in a batch, and the list.
func (w *world) caller(ctx context.Context, dirs map[string]string, a *asker) error {
	c := a.caller()
	spoilt := a.odds(20) // which of several faults is told is not promised
	if spoilt {
		a.spoilCredentials(c)
	}
	questions := make([]question, calls)
	for i := range questions {
		q := &questions[i]
		q.query = a.call(c)
		if !spoilt && a.odds(20) {
			a.spoil(q.query)
		}
		if err := w.alone(ctx, q); err != nil {
			return fmt.Errorf("%w\n%s", err, q.text)
		}
		w.count(q)
		if err := w.explained(ctx, q); err != nil {
			return fmt.Errorf("%w\n%s", err, q.text)
		}
		if err := w.listed(ctx, a, q); err != nil {
			return fmt.Errorf("%w\n%s\nis answered %s", err, q.text, q.answer)
		}
	}
	q := questions[a.r.IntN(calls)] // drawn with -short, too: the rest must be the same
	if a.odds(callers/checked) && authzd != "" {
		got, err := check(ctx, authzd, dirs, q.text)
		if err == nil && !strings.Contains(string(got), tooSlow) {
			err = same("the library", q.answer, "authzd check", got)
			w.sum["authzd check"]++
		}
		if err != nil {
			return fmt.Errorf("%w\n%s", err, q.text)
		}
	}
	return w.batch(ctx, a, questions)
}

// same is an error if two interfaces answer differently.
func same(one string, a answer, other string, b answer) error {
	if a == b {
		return nil
	}
	at := 0
	for at < min(len(a), len(b)) && a[at] == b[at] {
		at++
	}
	return fmt.Errorf("%s answers\n%s\n%s answers\n%s\nwhich part at %q and %q, to", one, a, other, b, a[at:min(at+40, len(a))], b[at:min(at+40, len(b))])
}

// alone asks q of every interface.
func (w *world) alone(ctx context.Context, q *question) error {
	var err error
	if q.text, err = api.MarshalJSON(q.query); err != nil {
		return err
	}
	slow, d1, err := library(ctx, w.interpreted, q.text)
	if err != nil {
		return err
	}
	fast, d2, err := library(ctx, w.doors.engine, q.text)
	if err != nil {
		return err
	}
	if err := same("OPA's interpreter", slow, "compiled policy", fast); err != nil {
		return err
	}
	if diff := cmp.Diff(d1, d2, toTheLetter()); diff != "" {
		return fmt.Errorf("OPA's interpreter and compiled policy decide differently (-interpreter +compiled):\n%s\non", diff)
	}
	q.answer = slow
	rest, err := w.doors.post(ctx, "/v1/check", q.query)
	if err == nil {
		err = same("the library", slow, "REST", rest)
	}
	if err != nil {
		return err
	}
	for name, check := range map[string]func() (*authzdv1.CheckResponse, error){
		"gRPC":                   func() (*authzdv1.CheckResponse, error) { return w.doors.rpc.Check(ctx, q.query) },
		"the service in process": func() (*authzdv1.CheckResponse, error) { return w.doors.local.Check(ctx, q.query) },
	} {
		response, err := check()
		got, fault := message(response, err)
		if fault == nil {
			fault = same("the library", slow, name, got)
		}
		if fault != nil {
			return fault
		}
		q.response, q.fault = response, faultOf(err)
	}
	return nil
}

// explained asks why q is answered as it is, if it is about to be executed: that is what
// Explain decides, and nothing may be executed on it.
func (w *world) explained(ctx context.Context, q *question) error {
	if q.response == nil || q.query.GetCommit() == nil {
		return nil
	}
	want, err := message(q.item(0, true).GetCheck(), nil)
	if err != nil {
		return err
	}
	r, err := w.doors.rpc.Explain(ctx, &authzdv1.ExplainRequest{Query: q.query})
	if err != nil {
		return fmt.Errorf("explain: %w", err)
	}
	got, err := message(r.GetCheck(), nil)
	if err != nil {
		return err
	}
	w.sum["explained"]++
	return same("Check", want, "Explain", got)
}

// toTheLetter compares all of two decisions; equal numbers may not be written otherwise.
func toTheLetter() cmp.Options {
	return cmp.Options{
		cmp.Exporter(func(reflect.Type) bool { return true }),
		cmp.Comparer(func(a, b rar.Value) bool {
			return a.Kind() == b.Kind() && string(a.AppendJSON(nil)) == string(b.AppendJSON(nil))
		}),
	}
}

// batch asks questions together, in any order, some twice, some not at all.
func (w *world) batch(ctx context.Context, a *asker, questions []question) error {
	batch := &authzdv1.CheckBatchRequest{Credentials: questions[0].query.GetCredentials(), Listing: a.odds(4)}
	want := &authzdv1.CheckBatchResponse{}
	var text strings.Builder
	for range 1 + a.r.IntN(2*calls) {
		q := questions[a.r.IntN(calls)]
		want.Items = append(want.Items, q.item(len(batch.GetQueries()), batch.GetListing()))
		batch.Queries = append(batch.Queries, &authzdv1.CheckBatchQuery{
			Mcp: q.query.GetMcp(), Subject: q.query.GetSubject(), Action: q.query.GetAction(), Resource: q.query.GetResource(),
			Context: q.query.GetContext(), Commit: q.query.GetCommit(),
		})
		fmt.Fprintf(&text, "%s\n", q.text)
	}
	w.sum["queries in batches"] += len(batch.GetQueries())
	each, err := message(want, nil)
	if err != nil {
		return err
	}
	document := inOneDocument(want)
	// What they share may be at fault, and so are all of them.
	probe := &authzdv1.CheckRequest{Credentials: batch.GetCredentials(), Action: &authzdv1.Action{Name: "a"}, Resource: &authzdv1.Resource{Type: "t", Id: "i"}}
	alone, err := message(w.doors.rpc.Check(ctx, probe))
	if err != nil {
		return err
	}
	if strings.Contains(string(alone), ` at "/credentials`) {
		w.sum["batches refused"]++
		each, document = alone, nil
		for _, item := range want.GetItems() {
			if item.GetError() == nil {
				return fmt.Errorf("the credentials are refused, %s, and a query with them is answered %v", alone, item)
			}
		}
	}
	rest, err := w.doors.post(ctx, "/v1/check:batch", batch)
	if err == nil && !slices.Contains(document, rest) {
		err = same("each alone", append(document, each)[0], "a batch by REST", rest)
	}
	if err == nil {
		var rpc answer
		if rpc, err = message(w.doors.rpc.CheckBatch(ctx, batch)); err == nil {
			err = same("each alone", each, "a batch by gRPC", rpc)
		}
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, text.String())
	}
	return nil
}

// inOneDocument is what REST may answer where queries of a batch are no JSON that authzd
// takes: that is a fault of the whole body, and in gRPC of the one query that holds it.
// Which of several is told is not promised.
func inOneDocument(items *authzdv1.CheckBatchResponse) []answer {
	var out []answer
	for _, item := range items.GetItems() {
		switch e := item.GetError(); api.Code(e.GetCode()) { //nolint:exhaustive // faults of JSON
		case api.CodeSyntax, api.CodeDuplicateKey, api.CodeCaseVariantKey, api.CodeNumberOutOfRange:
			out = append(out, errorAnswer(e.GetCode(), e.GetPath(), e.GetMessage()))
		}
	}
	return out
}

// item is the answer to q as number i of a batch.
func (q *question) item(i int, listing bool) *authzdv1.CheckBatchItem {
	if q.fault != nil {
		f := proto.CloneOf(q.fault)
		f.Path = fmt.Sprintf("/queries/%d%s", i, f.GetPath())
		return &authzdv1.CheckBatchItem{Answer: &authzdv1.CheckBatchItem_Error{Error: f}}
	}
	r := proto.CloneOf(q.response)
	if listing { // nothing may be executed on it
		r.CallDigest, r.ExpiresAt = "", nil
	}
	return &authzdv1.CheckBatchItem{Answer: &authzdv1.CheckBatchItem_Check{Check: r}}
}

// listed asks which tools the caller of q sees, if q is a call of one. Whatever is allowed
// has been possible in an answer to the same question (docs/policy.md).
func (w *world) listed(ctx context.Context, a *asker, q *question) error {
	m := q.query.GetMcp()
	if m.GetMethod() != "tools/call" || len(q.query.GetAction().GetProperties())+len(q.query.GetResource().GetProperties()) > 0 {
		return nil
	}
	r, err := api.DecodeQuery(q.text, api.Limits{})
	if err != nil {
		return nil //nolint:nilerr // then there is nothing that could be listed
	}
	params, _ := r.Query.MCP.Params.Get("name")
	called := params.Text()
	list := &authzdv1.FilterToolsRequest{
		Mcp: proto.CloneOf(m), Subject: q.query.GetSubject(), Credentials: q.query.GetCredentials(), Context: q.query.GetContext(),
		Tools: [][]byte{entry(called, r.Query.MCP.Tool)},
	}
	list.Mcp.Params, list.Mcp.Tool = nil, nil
	for _, t := range a.tools {
		if t.name != called {
			list.Tools = append(list.Tools, entry(t.name, rar.Value{}))
		}
	}
	a.r.Shuffle(len(list.GetTools()), func(i, j int) { list.Tools[i], list.Tools[j] = list.Tools[j], list.Tools[i] })
	answered, err := w.doors.rpc.FilterTools(ctx, list)
	rpc, fault := message(answered, err)
	if fault != nil {
		return fault
	}
	rest, err := w.doors.post(ctx, "/v1/tools:filter", list)
	if err == nil {
		err = same("gRPC", rpc, "REST", rest)
	}
	if err != nil {
		return fmt.Errorf("a list: %w", err)
	}
	return w.judgeList(q, called, answered)
}

// entry is that of a tool in tools/list.
func entry(name string, of rar.Value) []byte {
	members := []rar.Member{{Name: "name", Value: rar.StringValue(name)}}
	for i := range of.Len() {
		if m := of.Member(i); m.Name != "name" {
			members = append(members, m)
		}
	}
	return rar.ObjectValue(members...).AppendJSON(nil)
}

func (w *world) judgeList(q *question, called string, answered *authzdv1.FilterToolsResponse) error {
	allowed := q.response.GetDecision() == authzdv1.Decision_DECISION_ALLOW
	found := false
	for _, t := range answered.GetTools() {
		w.sum["listed "+t.GetAccess().String()]++
		if t.GetName() != called {
			continue
		}
		found = true
		if allowed && t.GetAccess() != authzdv1.ToolAccess_TOOL_ACCESS_POSSIBLE {
			return fmt.Errorf("a call of %s is allowed, and the list says %v", called, t)
		}
	}
	if allowed && !found {
		return fmt.Errorf("a call of %s is allowed, and the list does not have it: %v", called, answered)
	}
	return nil
}
