package policies_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

// verdictOf puts a decision into the words of the reading.
func verdictOf(t *testing.T, d *engine.Decision, err error) verdict {
	t.Helper()
	var e *engine.Error
	if errors.As(err, &e) {
		return verdict{Error: string(e.Code)}
	}
	v := verdict{Allow: d.Allow, Rule: d.Rule, Message: d.Message}
	if d.Error != nil {
		v.Fault = string(d.Error.Code)
		v.Message = "" // of a fault of the arguments
		if !strings.HasPrefix(v.Fault, "request.") && d.Error.Code != engine.CodeBudget {
			v.Fault = policyFault
		}
	}
	for _, r := range d.Rejected {
		v.Rejected = append(v.Rejected, r.ID+" "+string(r.Code))
	}
	for _, m := range d.Met {
		v.Met = append(v.Met, string(m.Kind)+" by "+m.CredentialID)
	}
	for _, o := range d.Obligations {
		v.Obligations = append(v.Obligations, canon(plainValue(t, o)))
	}
	if r := d.Remediation; r != nil {
		v.Status, v.InWords = string(r.Status), r.InWords
		for i := range r.Remedies {
			v.Remedies = append(v.Remedies, remedyText(t, &r.Remedies[i]))
		}
		slices.Sort(v.Remedies)
	}
	for _, r := range d.Reasons {
		aside := r.Code == engine.CodeUnmet || r.Code == engine.CodeHintDropped || r.Code == engine.CodePermitted
		if r.Code == engine.CodeNoPermit || r.Rule != "" && !aside && r.Kind == "" {
			v.Reasons = append(v.Reasons, string(r.Code))
		}
	}
	slices.Sort(v.Reasons)
	return v
}

func remedyText(t *testing.T, r *engine.Remedy) string {
	t.Helper()
	switch r.Kind {
	case engine.KindToken:
		return tokenRemedy(r.TokenPresented, r.Scopes)
	case engine.KindScopes:
		return fmt.Sprintf("scopes %v held %v", r.Scopes, r.Held)
	case engine.KindAuthorizationDetails:
		return fmt.Sprintf("authorization_details %s single use %v", canon(plainValue(t, rar.ArrayValue(r.Details...))), r.SingleUse)
	case engine.KindAuthentication:
		age := any(nil)
		if r.MaxAge >= 0 {
			age = r.MaxAge
		}
		return fmt.Sprintf("authentication %v %v", r.ACRValues, age)
	default:
		return string(r.Kind)
	}
}

func plainValue(t *testing.T, v rar.Value) any {
	t.Helper()
	return parseJSON(t, v.AppendJSON(nil))
}
