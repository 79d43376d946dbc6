package engine

import (
	"fmt"
	"strings"
	"time"
)

// authentication is RFC 9470 step-up: one of the acr values, and a login not
// older than maxAge seconds.
type authentication struct {
	acrValues []string
	maxAge    int64 // -1: any age
}

const maxAuthAge = 10 * 365 * 24 * 3600

func readAuthentication(m *members) (requirement, *shapeError) {
	if err := m.closed("acr_values", "max_age"); err != nil {
		return nil, err
	}
	a := &authentication{maxAge: -1}
	if _, ok := m.value.Get("acr_values"); ok {
		list, err := m.texts("acr_values")
		if err != nil {
			return nil, err
		}
		a.acrValues = list
	}
	if v, ok := m.value.Get("max_age"); ok {
		if a.maxAge, ok = smallInt(v, maxAuthAge); !ok {
			return nil, malformed(m.path+".max_age", "must be a number of seconds from 0 to %d", maxAuthAge)
		}
	}
	if a.acrValues == nil && a.maxAge < 0 {
		return nil, &shapeError{code: CodeEmptyRequirement, path: m.path, text: "needs acr_values or max_age"}
	}
	return a, nil
}

func (a *authentication) kind() Kind { return KindAuthentication }

func (a *authentication) meets(u *usable, at *judgement) (bool, Reason) {
	if a.acrValues != nil && !contains(a.acrValues, u.ACR) {
		return false, Reason{
			Code: CodeUnmet, Kind: KindAuthentication,
			Message: fmt.Sprintf("credential %s has acr %q, wanted one of %s", u.ID, u.ACR, strings.Join(a.acrValues, " ")),
		}
	}
	if a.maxAge < 0 {
		return true, Reason{}
	}
	// RFC 9470 section 3: without auth_time nothing shows that the login is
	// fresh; one in the future is not believed beyond clock skew.
	age := at.now.Sub(u.AuthTime)
	if u.AuthTime.IsZero() || age > time.Duration(a.maxAge)*time.Second || age < -clockSkew {
		return false, Reason{
			Code: CodeUnmet, Kind: KindAuthentication,
			Message: fmt.Sprintf("credential %s does not show a login within %d seconds", u.ID, a.maxAge),
		}
	}
	return true, Reason{}
}

func (a *authentication) remedy() Remedy {
	return Remedy{Kind: KindAuthentication, ACRValues: a.acrValues, MaxAge: a.maxAge}
}
