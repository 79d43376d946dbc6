package mcp

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/authzd/authzd/rar"
)

// PDPAnswer is what came back from an AuthZEN decision point.
type PDPAnswer struct {
	// Status and Body are the HTTP response; redirects are not to be followed.
	Status int
	Body   []byte
	// Err says that there is no response: refused, timed out, cut off, no TLS.
	Err error
}

// maxAnswerBytes bounds an answer before it is decoded.
const maxAnswerBytes = 1 << 20

// EnforceEvaluation holds answers of the Access Evaluation API against what was
// asked: one answer for each of the entries, at least one, in their order. Only
// nil lets the message pass: each answer is 200 and says decision true. Otherwise
// the first that does not decides: an *Error with CodeDenied or CodePDPFault,
// for [Refusal].
//
// The contexts are those of the answers up to there, Absent where there is none.
// Obligations in them are the caller's to honour: one that it can not meet makes
// a denial of the permit.
func EnforceEvaluation(entries int, answers ...PDPAnswer) (contexts []rar.Value, err error) {
	if entries < 1 {
		return nil, fail(CodePDPFault, "", "nothing was asked")
	}
	for i := range answers {
		body, err := answers[i].decode()
		if err != nil {
			return contexts, err
		}
		context, err := permits(body, "")
		contexts = append(contexts, context)
		if err != nil {
			return contexts, err
		}
	}
	if len(answers) != entries {
		return contexts, countFault(len(answers), entries)
	}
	return contexts, nil
}

// EnforceEvaluations does so with one answer of the Access Evaluations API. Only
// its list counts: a decision beside it answers nothing. A list that ends early
// is a denial if it ends with one.
func EnforceEvaluations(entries int, answer PDPAnswer) (contexts []rar.Value, err error) {
	body, err := answer.decode()
	if err != nil {
		return nil, err
	}
	list, _ := body.Get("evaluations")
	if list.Kind() != rar.Array {
		return nil, fail(CodePDPFault, "/evaluations", "is not a list")
	}
	if entries < 1 || list.Len() > entries {
		return nil, countFault(list.Len(), entries)
	}
	for i := range list.Len() {
		context, err := permits(list.Index(i), fmt.Sprintf("/evaluations/%d", i))
		contexts = append(contexts, context)
		if err != nil {
			return contexts, err
		}
	}
	if list.Len() != entries {
		return contexts, countFault(list.Len(), entries)
	}
	return contexts, nil
}

func countFault(got, want int) error {
	return &Error{Code: CodePDPFault, Err: fmt.Errorf("%d decisions where %d were asked for", got, want)}
}

// decode: no status but 200 is an answer. The others are about the PEP's call.
func (a *PDPAnswer) decode() (rar.Value, error) {
	if a.Err != nil {
		return rar.Value{}, &Error{Code: CodePDPFault, Err: fmt.Errorf("ask the decision point: %w", a.Err)}
	}
	if a.Status != http.StatusOK {
		return rar.Value{}, &Error{Code: CodePDPFault, Err: fmt.Errorf("the decision point answered with status %d", a.Status)}
	}
	v, err := rar.DecodeStrict(a.Body, rar.Limits{MaxBytes: maxAnswerBytes, MaxDepth: 64})
	if err != nil {
		return rar.Value{}, &Error{Code: CodePDPFault, Err: fmt.Errorf("decode the answer: %w", err)}
	}
	return v, nil
}

// permits reads one decision.
func permits(v rar.Value, at string) (context rar.Value, err error) {
	decision, _ := v.Get("decision")
	if decision.Kind() != rar.Bool {
		return rar.Value{}, &Error{Code: CodePDPFault, Path: at + "/decision", Err: errors.New("is not true or false")}
	}
	context, _ = v.Get("context")
	if !decision.Bool() {
		return context, &Error{Code: CodeDenied, Path: at + "/decision", Err: errors.New("the decision point denied")}
	}
	return context, nil
}

// Message makes the JSON-RPC message of a response with a body; id is that of
// the request, Absent where it could not be read. Absent: there is no body.
func (r Response) Message(id rar.Value) rar.Value {
	if id.Kind() == rar.Absent {
		id = rar.NullValue()
	}
	body := member("error", r.Error)
	if r.Error.Kind() == rar.Absent {
		if body = member("result", r.Result); r.Result.Kind() == rar.Absent {
			return rar.Value{}
		}
	}
	return object(member("jsonrpc", str("2.0")), member("id", id), body)
}
