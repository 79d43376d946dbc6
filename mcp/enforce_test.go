package mcp_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/authzd/authzd/mcp"
	"github.com/authzd/authzd/rar"
)

type enforcementVector struct {
	Name      string          `json:"name"`
	Basis     string          `json:"basis"`
	Note      string          `json:"note"`
	API       string          `json:"api"`
	Entries   int             `json:"entries"`
	RequestID json.RawMessage `json:"request_id"`
	PDP       struct {
		pdpAnswer
		MetadataHasBatch *bool             `json:"metadata_has_batch"`
		Single           []json.RawMessage `json:"single"`
	} `json:"pdp"`
	Expect struct {
		Allow bool            `json:"allow"`
		Error json.RawMessage `json:"error"`
	} `json:"expect"`
}

type pdpAnswer struct {
	Status int             `json:"status"`
	Body   json.RawMessage `json:"body"`
	Raw    *string         `json:"raw"`
	Fault  string          `json:"fault"`
}

func (a pdpAnswer) answer() mcp.PDPAnswer {
	out := mcp.PDPAnswer{Status: a.Status, Body: a.Body}
	if a.Raw != nil {
		out.Body = []byte(*a.Raw)
	}
	if a.Fault != "" {
		out.Err = errors.New(a.Fault)
	}
	return out
}

// single are the answers of a decision point that has no batch API: a status,
// or the body of a 200.
func (v enforcementVector) single(t *testing.T) []mcp.PDPAnswer {
	t.Helper()
	var out []mcp.PDPAnswer
	for _, raw := range v.PDP.Single {
		if status, ok := value(t, raw).Get("status"); ok {
			if status.Text() != "500" {
				t.Fatalf("a status that this test does not know: %s", raw)
			}
			out = append(out, mcp.PDPAnswer{Status: 500})
			continue
		}
		out = append(out, mcp.PDPAnswer{Status: 200, Body: raw})
	}
	return out
}

func TestEnforcementVectors(t *testing.T) {
	t.Parallel()
	vectors := load[enforcementVector](t, "coaz-enforcement.json", "coaz-enforcement/1")
	if len(vectors) != 43 {
		t.Errorf("%d vectors, want 43", len(vectors))
	}
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			var err error
			switch {
			case v.PDP.MetadataHasBatch != nil && !*v.PDP.MetadataHasBatch:
				_, err = mcp.EnforceEvaluation(v.Entries, v.single(t)...)
			case v.API == "evaluations":
				_, err = mcp.EnforceEvaluations(v.Entries, v.PDP.answer())
			default:
				_, err = mcp.EnforceEvaluation(v.Entries, v.PDP.answer())
			}
			if allowed := err == nil; allowed != v.Expect.Allow {
				t.Fatalf("allowed %v (%v), want %v; %s", allowed, err, v.Expect.Allow, v.Note)
			}
			if v.Expect.Allow {
				return
			}
			message := mcp.Refusal(err).Message(optional(t, v.RequestID))
			want := value(t, v.Expect.Error)
			code, _ := message.Lookup("/error/code")
			id, _ := message.Get("id")
			wantCode, _ := want.Get("code")
			wantID, _ := want.Get("id")
			if !rar.Equal(code, wantCode) || !rar.Equal(id, wantID) {
				t.Errorf("sends %s, want %s", render(message), render(want))
			}
		})
	}
}

// TestEnforceNothing: no way of asking nothing is a permit.
func TestEnforceNothing(t *testing.T) {
	t.Parallel()
	yes := mcp.PDPAnswer{Status: 200, Body: []byte(`{"decision":true}`)}
	list := func(body string) mcp.PDPAnswer { return mcp.PDPAnswer{Status: 200, Body: []byte(body)} }
	for name, enforce := range map[string]func() ([]rar.Value, error){
		"nothing asked":              func() ([]rar.Value, error) { return mcp.EnforceEvaluation(0) },
		"nothing asked, a yes":       func() ([]rar.Value, error) { return mcp.EnforceEvaluation(0, yes) },
		"no answer":                  func() ([]rar.Value, error) { return mcp.EnforceEvaluation(1) },
		"two answers for one":        func() ([]rar.Value, error) { return mcp.EnforceEvaluation(1, yes, yes) },
		"one answer for two":         func() ([]rar.Value, error) { return mcp.EnforceEvaluation(2, yes) },
		"an empty list for none":     func() ([]rar.Value, error) { return mcp.EnforceEvaluations(0, list(`{"evaluations":[]}`)) },
		"entries that are no object": func() ([]rar.Value, error) { return mcp.EnforceEvaluations(1, list(`{"evaluations":[true]}`)) },
		"a member given twice": func() ([]rar.Value, error) {
			return mcp.EnforceEvaluation(1, list(`{"decision":false,"decision":true}`))
		},
		"something behind the answer": func() ([]rar.Value, error) { return mcp.EnforceEvaluation(1, list(`{"decision":true}{}`)) },
		"more answers than questions, the first a denial": func() ([]rar.Value, error) {
			return mcp.EnforceEvaluations(1, list(`{"evaluations":[{"decision":false},{"decision":true}]}`))
		},
		"a list that is an object": func() ([]rar.Value, error) {
			return mcp.EnforceEvaluations(1, list(`{"evaluations":{"0":{"decision":true}}}`))
		},
	} {
		_, err := enforce()
		var e *mcp.Error
		if !errors.As(err, &e) || e.Code != mcp.CodePDPFault {
			t.Errorf("%s: got %v, want %s", name, err, mcp.CodePDPFault)
		}
	}
}

// TestEnforceKeepsContexts: what was answered before a fault is told with it.
func TestEnforceKeepsContexts(t *testing.T) {
	t.Parallel()
	yes := mcp.PDPAnswer{Status: 200, Body: []byte(`{"decision":true,"context":{"a":1}}`)}
	contexts, err := mcp.EnforceEvaluation(2, yes, mcp.PDPAnswer{Status: 500})
	if err == nil || len(contexts) != 1 || render(contexts[0]) != `{"a":1}` {
		t.Errorf("got %d contexts, %v", len(contexts), err)
	}
	contexts, err = mcp.EnforceEvaluation(2, yes, mcp.PDPAnswer{Status: 200, Body: []byte(`{"decision":false,"context":{"c":3}}`)})
	if err == nil || len(contexts) != 2 || render(contexts[1]) != `{"c":3}` {
		t.Errorf("a denial: %d contexts, %v", len(contexts), err)
	}
	// Obligations of a permit are in its context.
	contexts, err = mcp.EnforceEvaluation(1, yes)
	if err != nil || len(contexts) != 1 || render(contexts[0]) != `{"a":1}` {
		t.Errorf("a permit: %d contexts, %v", len(contexts), err)
	}
	contexts, err = mcp.EnforceEvaluations(1, mcp.PDPAnswer{Status: 200, Body: []byte(`{"evaluations":[{"decision":true,"context":{"b":2}}]}`)})
	if err != nil || len(contexts) != 1 || render(contexts[0]) != `{"b":2}` {
		t.Errorf("one entry: %d contexts, %v", len(contexts), err)
	}
	// So are those of answers that are too few.
	contexts, err = mcp.EnforceEvaluation(2, yes)
	if err == nil || len(contexts) != 1 || render(contexts[0]) != `{"a":1}` {
		t.Errorf("an answer too few: %d contexts, %v", len(contexts), err)
	}
	contexts, err = mcp.EnforceEvaluations(2, mcp.PDPAnswer{Status: 200, Body: []byte(`{"evaluations":[{"decision":true,"context":{"b":2}}]}`)})
	if err == nil || len(contexts) != 1 || render(contexts[0]) != `{"b":2}` {
		t.Errorf("an entry too few: %d contexts, %v", len(contexts), err)
	}
}

func TestEnforceContexts(t *testing.T) {
	t.Parallel()
	contexts, err := mcp.EnforceEvaluations(3, mcp.PDPAnswer{Status: 200, Body: []byte(
		`{"evaluations":[{"decision":true,"context":{"a":1}},{"decision":false,"context":{"reason":"no"}},{"decision":true}]}`)})
	if err == nil || len(contexts) != 2 || render(contexts[0]) != `{"a":1}` || render(contexts[1]) != `{"reason":"no"}` {
		t.Errorf("got %d contexts, %v", len(contexts), err)
	}
}

// TestEnforceUnanswered: what kept the answer away is told, and what came nevertheless
// permits nothing, from neither API.
func TestEnforceUnanswered(t *testing.T) {
	t.Parallel()
	cut := errors.New("cut off")
	yes := []byte(`{"decision":true,"evaluations":[{"decision":true}]}`)
	for name, c := range map[string]struct {
		answer mcp.PDPAnswer
		told   func(error) bool
	}{
		"cut off":             {mcp.PDPAnswer{Status: 200, Body: yes, Err: cut}, func(err error) bool { return errors.Is(err, cut) }},
		"another status":      {mcp.PDPAnswer{Status: 203, Body: yes}, func(err error) bool { return strings.Contains(err.Error(), "203") }},
		"no JSON":             {mcp.PDPAnswer{Status: 200, Body: yes[:len(yes)-1]}, isFormat},
		"no text":             {mcp.PDPAnswer{Status: 200}, isFormat},
		"more than one":       {mcp.PDPAnswer{Status: 200, Body: append(slices.Clone(yes), yes...)}, isFormat},
		"larger than allowed": {mcp.PDPAnswer{Status: 200, Body: append(slices.Clone(yes), bytes.Repeat([]byte(" "), 1<<20)...)}, isFormat},
	} {
		for api, enforce := range map[string]func() ([]rar.Value, error){
			"evaluation":  func() ([]rar.Value, error) { return mcp.EnforceEvaluation(1, c.answer) },
			"evaluations": func() ([]rar.Value, error) { return mcp.EnforceEvaluations(1, c.answer) },
		} {
			contexts, err := enforce()
			var e *mcp.Error
			if !errors.As(err, &e) || e.Code != mcp.CodePDPFault || !c.told(err) || len(contexts) > 0 {
				t.Errorf("%s, %s: %d contexts, %v", api, name, len(contexts), err)
			}
		}
	}
	if _, err := mcp.EnforceEvaluations(1, mcp.PDPAnswer{Status: 200, Body: yes}); err != nil {
		t.Errorf("the answer itself: %v", err)
	}
}

// isFormat: the decoder refused it.
func isFormat(err error) bool {
	var e *rar.Error
	return errors.As(err, &e)
}

func TestResponseMessage(t *testing.T) {
	t.Parallel()
	id, result := rar.IntValue(7), value(t, []byte(`{"a":1}`))
	for _, c := range []struct {
		r    mcp.Response
		id   rar.Value
		want string
	}{
		{mcp.Response{Result: result}, id, `{"jsonrpc":"2.0","id":7,"result":{"a":1}}`},
		{mcp.Response{Error: result}, id, `{"jsonrpc":"2.0","id":7,"error":{"a":1}}`},
		{mcp.Response{Error: result}, rar.Value{}, `{"jsonrpc":"2.0","id":null,"error":{"a":1}}`},
	} {
		if got := render(c.r.Message(c.id)); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
	if got := (mcp.Response{}).Message(id); got.Kind() != rar.Absent {
		t.Errorf("a message without a body: %s", render(got))
	}
}
