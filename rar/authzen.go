package rar

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Names of the types by which a client puts AuthZEN questions into
// authorization_details (draft-brossard-oauth-rar-authzen). They compare without
// regard to case, unlike every other type.
const (
	typeEvaluation  = "authzen_evaluation"
	typeEvaluations = "authzen_evaluations"
)

// AuthZENCall is a question to a PDP that stands in authorization_details.
type AuthZENCall struct {
	// Index is the place of the object in the array, Type its type as it was
	// spelled.
	Index int
	Type  string
	// Batch: the question is for AuthZEN's Access Evaluations API, else for its
	// Access Evaluation API.
	Batch bool
	// Body is the AuthZEN 1.0 request.
	Body Value
}

// AuthZENCalls finds the questions in authorization_details, in their order.
// Objects of other types are not touched. One that is malformed is an *Error of
// the kinds of RFC 9396 section 5 whose Path starts at the array; then nothing
// is to be asked, because a request is refused as a whole.
//
// Only the form of AuthZEN 1.0 is taken: attributes under properties, and
// evaluations as an array; the draft's examples are older.
func AuthZENCalls(details Value) ([]AuthZENCall, error) {
	if err := boundedArray(details, Limits{}.withDefaults()); err != nil {
		return nil, err
	}
	var calls []AuthZENCall
	for i, v := range details.list() {
		if v.kind != Object {
			return nil, notObject(i, v)
		}
		call, err := authZENCall(v)
		if err != nil {
			err.Path = "/" + strconv.Itoa(i) + err.Path
			return nil, err
		}
		if call != nil {
			call.Index = i
			calls = append(calls, *call)
		}
	}
	return calls, nil
}

// authZENCall reads one object; nil: it is of another type.
func authZENCall(v Value) (*AuthZENCall, *Error) {
	name, _ := v.Get("type")
	if name.kind != String {
		return nil, &Error{Code: CodeMissingType, Err: errors.New("the object has no type that is a string")}
	}
	batch := strings.EqualFold(name.str(), typeEvaluations)
	if !batch && !strings.EqualFold(name.str(), typeEvaluation) {
		return nil, nil //nolint:nilnil // another type
	}
	for i := range v.Len() {
		if m := v.Member(i).Name; m != "type" && m != "request" {
			return nil, &Error{Code: CodeUnknownField, Path: appendToken("", m), Err: errors.New("the type has type and request only")}
		}
	}
	body, ok := v.Get("request")
	if !ok {
		return nil, missingField("/request")
	}
	if err := checkAuthZEN(body, batch); err != nil {
		err.Path = "/request" + err.Path
		return nil, err
	}
	return &AuthZENCall{Type: name.str(), Batch: batch, Body: body}, nil
}

func missingField(path string) *Error {
	return &Error{Code: CodeMissingField, Path: path, Err: errors.New("the member is required")}
}

// entities are the members of an AuthZEN evaluation that are required, each
// with its own required members (AuthZEN 1.0 section 5).
func entities() [][]string {
	return [][]string{{"subject", "type", "id"}, {"action", "name"}, {"resource", "type", "id"}}
}

// checkAuthZEN wants every evaluation complete: of a batch, what an item leaves
// out comes from the request's own members (AuthZEN 1.0 section 7).
func checkAuthZEN(body Value, batch bool) *Error {
	if body.kind != Object {
		return &Error{Code: CodeWrongType, Err: fmt.Errorf("%s where an object belongs", body.kind)}
	}
	items := Value{kind: Array}
	if batch {
		var ok bool
		if items, ok = body.Get("evaluations"); !ok {
			return missingField("/evaluations")
		}
		if items.kind != Array {
			return &Error{Code: CodeWrongType, Path: "/evaluations", Err: fmt.Errorf("%s where an array belongs", items.kind)}
		}
		for i, item := range items.list() {
			if item.kind != Object {
				return &Error{Code: CodeWrongType, Path: "/evaluations/" + strconv.Itoa(i), Err: fmt.Errorf("%s where an object belongs", item.kind)}
			}
		}
	}
	for _, e := range entities() {
		if err := checkEntity(body, "", e, items.Len() == 0); err != nil {
			return err
		}
		_, shared := body.Get(e[0])
		for i, item := range items.list() {
			if err := checkEntity(item, "/evaluations/"+strconv.Itoa(i), e, !shared); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkEntity holds one of the entities of v, if it is there or has to be.
func checkEntity(v Value, at string, names []string, required bool) *Error {
	at += "/" + names[0]
	entity, ok := v.Get(names[0])
	switch {
	case !ok && !required:
		return nil
	case !ok:
		return missingField(at)
	case entity.kind != Object:
		return &Error{Code: CodeWrongType, Path: at, Err: fmt.Errorf("%s where an object belongs", entity.kind)}
	}
	for _, name := range names[1:] {
		m, ok := entity.Get(name)
		switch {
		case !ok:
			return missingField(at + "/" + name)
		case m.kind != String:
			return &Error{Code: CodeWrongType, Path: at + "/" + name, Err: fmt.Errorf("%s where a string belongs", m.kind)}
		}
	}
	return nil
}

// Answer makes the object that stands for the call in the answer: its type, and
// the PDP's response under response. Give one decision for each evaluation. One
// evaluation without its decision is answered with a deny.
func (c AuthZENCall) Answer(decisions ...bool) Value {
	response := decisionObject(len(decisions) == 1 && decisions[0])
	if c.Batch {
		list := make([]Value, len(decisions))
		for i, d := range decisions {
			list[i] = decisionObject(d)
		}
		response = ObjectValue(Member{Name: "evaluations", Value: ArrayValue(list...)})
	}
	return ObjectValue(Member{Name: "type", Value: StringValue(c.Type)}, Member{Name: "response", Value: response})
}

func decisionObject(allow bool) Value {
	return ObjectValue(Member{Name: "decision", Value: BoolValue(allow)})
}
