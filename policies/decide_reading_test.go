package policies_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/authzd/authzd/engine"
)

// reading is the policy contract read plainly: what stock OPA makes of a policy,
// and the steps of a decision (DESIGN, section 3; docs/policy.md; docs/adr),
// written down with nothing of the engine but the types of a query.
type reading struct {
	policy  rego.PreparedEvalQuery
	tools   map[string]*jsonschema.Schema
	types   map[string]*detailsType
	untyped bool // the bundle admits tools without schema
}

// asked is one question.
type asked struct {
	tree  map[string]any // the body of POST /v1/check
	query *engine.Query  // what a door makes of it
	now   time.Time
}

// verdict is what is compared of a decision.
type verdict struct {
	// Error is the code of an error in place of a decision.
	Error string
	Allow bool
	Rule  string
	// Fault is the code of a fault of call or policy.
	Fault string
	// Reasons are the codes of forbids and of no permit.
	Reasons []string
	Status  string
	// Remedies in words of this test, InWords if they may be told though not as hints.
	Remedies []string
	InWords  bool
	Message  string
	// Met names the credential for each requirement of the permit.
	Met         []string
	Obligations []string
	Rejected    []string
}

func denied(status engine.Status) verdict { return verdict{Status: string(status)} }

// judge takes the steps of a decision.
func (r *reading) judge(ctx context.Context, a *asked) (verdict, error) {
	if code := r.malformed(a); code != "" { // 1
		return verdict{Error: code}, nil
	}
	w, code := r.whoAsks(a)
	if code != "" {
		return verdict{Error: code}, nil
	}
	v, err := r.decide(ctx, a, w)
	for _, c := range w.rejected {
		v.Rejected = append(v.Rejected, c.id+" "+c.code)
	}
	return v, err
}

func (r *reading) decide(ctx context.Context, a *asked, w *who) (verdict, error) {
	presented := len(array(a.tree["credentials"])) > 0
	if len(w.usable) == 0 && (presented || a.tree["subject"] == nil) { // 2
		v := denied(engine.Available)
		v.Remedies = []string{tokenRemedy(presented, nil)}
		return v, nil
	}
	if code := r.arguments(a); code != "" { // 3
		v := denied(engine.Undisclosed)
		v.Fault = code
		return v, nil
	}
	out, err := r.evaluate(ctx, a, w) // 4
	permits := permitsOf(out)
	if isFault(err) || slices.ContainsFunc(permits, func(p permit) bool { return !r.wellFormed(&p) }) {
		v := denied(engine.Undisclosed)
		v.Fault = policyFault
		return v, nil
	} else if err != nil {
		return verdict{}, err
	}
	if forbids := forbidsOf(out); len(forbids) > 0 { // 5
		return forbidden(a, forbids), nil
	}
	if len(permits) == 0 { // 6
		v := denied(engine.Undisclosed)
		v.Reasons = []string{"engine.no_permit"}
		return v, nil
	}
	for i := range permits {
		r.weigh(a, w, &permits[i])
	}
	if best := bestOf(permits); best != nil { // 7
		return verdict{Allow: true, Rule: best.name, Met: best.met, Obligations: texts(best.obligations)}, nil
	}
	return r.remedy(a, w, permits), nil // 8
}

// policyFault stands for every fault of policy: which it was is OPA's to say.
const policyFault = "policy"

func isFault(err error) bool {
	var e *topdown.Error
	return errors.As(err, &e)
}

// wellFormed: a requirement demands something, and details are of their type.
func (r *reading) wellFormed(p *permit) bool {
	if p.requirements != nil && len(p.requirements) == 0 {
		return false
	}
	for _, need := range p.requirements {
		list := array(need[stringOf(need["kind"])])
		switch need["kind"] {
		case "scopes", "authorization_details":
			if len(list) == 0 {
				return false
			}
		}
		for _, n := range array(need["authorization_details"]) {
			if d := r.types[stringOf(at(n, "type"))]; d == nil || d.schema.Validate(n) != nil {
				return false
			}
		}
	}
	return true
}

// malformed refuses what is no question: a message, an action and a resource that
// do not belong together.
func (r *reading) malformed(a *asked) string {
	q := a.query
	m := object(a.tree["mcp"])
	switch {
	case m == nil && q.Action.Name == "tools/call" && q.Resource.Type != "tool":
		return "request.mcp_mismatch"
	case m == nil && q.Action.Name == "tools/call" && !r.untyped:
		return "request.mcp_missing"
	case m == nil:
		return ""
	case q.Action.Name != m["method"]:
		return "request.mcp_mismatch"
	}
	tied := map[string][2]string{
		"tools/call": {"tool", "name"}, "prompts/get": {"prompt", "name"}, "resources/read": {"resource", "uri"},
		"resources/subscribe": {"resource", "uri"}, "resources/unsubscribe": {"resource", "uri"},
	}
	method := stringOf(m["method"])
	if args, given := object(m["params"])["arguments"]; given && method == "tools/call" && object(args) == nil {
		return "request.wrong_type"
	}
	to, ok := tied[method]
	if !ok {
		return ""
	}
	name := stringOf(at(m, "params", to[1]))
	switch {
	case name == "":
		return "request.missing_member"
	case q.Resource.Type != to[0] || q.Resource.ID != name:
		return "request.mcp_mismatch"
	}
	return ""
}

// arguments holds the arguments against the tool's schema.
func (r *reading) arguments(a *asked) string {
	if at(a.tree, "mcp", "method") != "tools/call" {
		return ""
	}
	schema := r.tools[stringOf(at(a.tree, "mcp", "params", "name"))]
	if schema == nil {
		if r.untyped {
			return ""
		}
		return "request.tool_unknown"
	}
	if schema.Validate(argumentsOf(a)) != nil {
		return "request.arguments_invalid"
	}
	return ""
}

// argumentsOf: arguments left out are {}.
func argumentsOf(a *asked) any {
	if args, given := object(at(a.tree, "mcp", "params"))["arguments"]; given {
		return args
	}
	return map[string]any{}
}

// output is what a policy says.
type output struct{ permit, forbid, allow, deny any }

// outputQuery asks for the four documents, undefined or not.
const outputQuery = `permit := [x | x := data.authz.permit]; forbid := [x | x := data.authz.forbid]
allow := [x | x := data.authz.allow]; deny := [x | x := data.authz.deny]`

func (r *reading) evaluate(ctx context.Context, a *asked, w *who) (output, error) {
	set, err := r.policy.Eval(ctx, rego.EvalInput(document(a, w)), rego.EvalTime(a.now))
	if err != nil {
		return output{}, err //nolint:wrapcheck // looked at by code
	}
	if len(set) != 1 {
		return output{}, fmt.Errorf("%d results", len(set))
	}
	one := func(name string) any {
		if list := array(set[0].Bindings[name]); len(list) > 0 {
			return list[0]
		}
		return nil
	}
	return output{one("permit"), one("forbid"), one("allow"), one("deny")}, nil
}
