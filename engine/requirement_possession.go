package engine

import "github.com/authzd/authzd/rar"

// possession is met by a credential that is bound to a key and whose holder
// proved it (RFC 9449, RFC 8705).
type possession struct{}

func readPossession(m *members) (requirement, *shapeError) {
	if err := m.closed(); err != nil {
		return nil, err
	}
	return possession{}, nil
}

func (possession) kind() Kind { return KindProofOfPossession }

func (possession) meets(u *usable, _ *judgement) (bool, Reason) {
	if u.BoundBy != "" {
		return true, Reason{}
	}
	return false, Reason{
		Code: CodeUnmet, Kind: KindProofOfPossession,
		Message: "credential " + u.ID + " is a bearer token, not bound to a key",
	}
}

func (possession) remedy() Remedy { return Remedy{Kind: KindProofOfPossession, MaxAge: -1} }

// approval is met by a recorded yes that covers the call. No approvals can be
// recorded yet, so it is always unmet.
type approval struct {
	workflow, approver, title string
}

func readApproval(m *members) (requirement, *shapeError) {
	if err := m.closed("workflow", "approver", "binds", "expires_in", "title"); err != nil {
		return nil, err
	}
	a := &approval{}
	var ok bool
	var err *shapeError
	if a.workflow, ok, err = m.text("workflow"); err != nil || !ok {
		return nil, orMissing(err, m.path+".workflow")
	}
	if a.approver, ok, err = m.text("approver"); err != nil || !ok {
		return nil, orMissing(err, m.path+".approver")
	}
	if a.title, _, err = m.text("title"); err != nil {
		return nil, err
	}
	if v, ok := m.value.Get("binds"); ok {
		if _, valid := stringList(v); !valid {
			return nil, malformed(m.path+".binds", "must be an array of strings")
		}
	}
	if v, ok := m.value.Get("expires_in"); ok && v.Kind() != rar.Number && v.Kind() != rar.String {
		return nil, malformed(m.path+".expires_in", "must be a number of seconds or a duration")
	}
	return a, nil
}

func orMissing(err *shapeError, path string) *shapeError {
	if err != nil {
		return err
	}
	return malformed(path, "is missing")
}

func (a *approval) kind() Kind { return KindApproval }

func (a *approval) meets(*usable, *judgement) (bool, Reason) {
	return false, Reason{
		Code: CodeApprovalUnavailable, Kind: KindApproval,
		Message: "workflow " + a.workflow + " cannot be asked: this server records no approvals",
	}
}

func (a *approval) remedy() Remedy {
	return Remedy{Kind: KindApproval, MaxAge: -1, Approval: &ApprovalRemedy{
		Workflow: a.workflow, BySubject: a.approver == "subject", Title: a.title,
	}}
}
