package api_test

import (
	"context"
	"fmt"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/engine"
)

// A query is decided without a server: this is what authzd check does.
func ExampleDecodeQuery() {
	e := engine.New(engine.Options{})
	snapshot, _, err := engine.Compile(context.Background(), []engine.Bundle{{
		Name: "example", Revision: "1", Roots: []string{"authz"},
		Modules: []engine.Module{{Path: "policy.rego", Text: `package authz

allow if input.subject.id == "alice"
`}},
		Metadata: mustJSON(`{"contract": 1}`),
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	e.Swap(snapshot)
	for _, subject := range []string{"alice", "bob"} {
		req, err := api.DecodeQuery([]byte(`{"subject": {"type": "identity", "id": "`+subject+`"},
			"action": {"name": "read"}, "resource": {"type": "page", "id": "home"}}`), api.Limits{})
		if err != nil {
			fmt.Println(err)
			return
		}
		decision, err := e.Decide(context.Background(), req.Query)
		if err != nil {
			fmt.Println(err)
			return
		}
		answer := api.Respond(decision, req, api.DenialOptions{})
		fmt.Println(subject, answer.Proto().GetDecision(), answer.Decision.Reasons[0].Code)
	}
	_, err = api.DecodeQuery([]byte(`{"action": {"name": "read", "verb": 1}}`), api.Limits{})
	fmt.Println(err)
	// Output:
	// alice DECISION_ALLOW engine.permitted
	// bob DECISION_DENY engine.no_permit
	// request.unknown_member at /action/verb: no such member in this version of the contract
}
