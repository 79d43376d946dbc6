package engine

import (
	"fmt"

	"github.com/authzd/authzd/rar"
)

// details is met by a credential whose authorization_details cover every
// required object (rar.md section 6).
type details struct {
	required []rar.Value
	// singleUse: of the requirement, or of any required object's type.
	singleUse bool
	types     *rar.Types
	matchEach bool
}

// readDetails validates what policy demands against the declared types: a
// fault in it is a fault of the policy and denies.
func readDetails(m *members, types *rar.Types) (requirement, *shapeError) {
	if err := m.closed("authorization_details", "single_use"); err != nil {
		return nil, err
	}
	list, _ := m.value.Get("authorization_details")
	if list.Kind() == rar.Array && list.Len() == 0 {
		return nil, &shapeError{code: CodeEmptyRequirement, path: m.path + ".authorization_details", text: "is empty"}
	}
	d := &details{types: types}
	if v, ok := m.value.Get("single_use"); ok {
		if v.Kind() != rar.Bool {
			return nil, malformed(m.path+".single_use", "must be true or false")
		}
		d.matchEach = v.Bool()
		d.singleUse = v.Bool()
	}
	required, err := types.ParseValue(list)
	if err != nil {
		return nil, &shapeError{code: rarCode(err), path: m.path + ".authorization_details", text: err.Error()}
	}
	d.required = required
	for _, r := range required {
		typ, _ := r.Get("type")
		d.singleUse = d.singleUse || types.SingleUse(typ.Text())
	}
	return d, nil
}

// locate fills in the resource where the need leaves its location open.
func (d *details) locate(resource string) {
	var changed []rar.Value // a copy: the list is part of what policy returned
	for i, v := range d.required {
		located, ok := d.types.Located(v, resource)
		if !ok {
			continue
		}
		if changed == nil {
			changed = append(changed, d.required...)
		}
		changed[i] = located
	}
	if changed != nil {
		d.required = changed
	}
}

func (d *details) kind() Kind { return KindAuthorizationDetails }

func (d *details) covered(u *usable) (rar.Result, error) {
	return d.types.Covers(u.details, d.required, rar.CoverOptions{
		SingleUse: d.matchEach, GrantedValidated: true, RequiredValidated: true, Skipped: u.skipped,
	})
}

func (d *details) meets(u *usable, at *judgement) (bool, Reason) {
	res, err := d.covered(u)
	if err != nil {
		return false, Reason{Code: rarCode(err), Kind: KindAuthorizationDetails, Message: err.Error()}
	}
	if !res.Covered {
		r := Reason{
			Code: CodeUnmet, Kind: KindAuthorizationDetails,
			Message: "credential " + u.ID + " does not cover the required authorization_details",
		}
		for _, b := range res.Because {
			place := ""
			if b.Required >= 0 {
				place = fmt.Sprintf("/%d", b.Required)
			}
			r.Detail = append(r.Detail, place+b.Pointer+": "+string(b.Code))
		}
		return false, r
	}
	if !d.singleUse {
		return true, Reason{}
	}
	// Consumption has no store yet: authority for one use is never taken on
	// trust (contract, "single_use").
	if at.commit == nil {
		return false, Reason{
			Code: CodeCommitRequired, Kind: KindAuthorizationDetails,
			Message: "single-use authority is consumed only by a query with commit",
		}
	}
	return false, Reason{
		Code: CodeUseNotRecorded, Kind: KindAuthorizationDetails,
		Message: "this server has no store to record the use of single-use authority",
	}
}

func (d *details) remedy() Remedy {
	return Remedy{Kind: KindAuthorizationDetails, Details: d.required, SingleUse: d.singleUse, MaxAge: -1}
}

// selfCovers tells whether a grant of exactly the hint would satisfy the
// requirement; a hint that fails this is never sent (rar.md section 9).
func (d *details) selfCovers() bool {
	res, err := d.types.Covers(d.required, d.required, rar.CoverOptions{SingleUse: d.matchEach})
	return err == nil && res.Covered
}
