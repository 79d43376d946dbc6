package engine

import "strings"

// scopes is met by a credential that holds them all (RFC 6750 section 3.1).
type scopes struct{ names []string }

func readScopes(m *members) (requirement, *shapeError) {
	if err := m.closed("scopes"); err != nil {
		return nil, err
	}
	names, err := m.texts("scopes")
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		if !validScope(n) {
			return nil, malformed(m.path+".scopes", "%q is not a scope token (RFC 6749 section 3.3)", n)
		}
	}
	return &scopes{names: names}, nil
}

// validScope: scope-token = 1*( %x21 / %x23-5B / %x5D-7E ).
func validScope(s string) bool {
	for _, c := range []byte(s) {
		if c < 0x21 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return s != ""
}

func (s *scopes) kind() Kind { return KindScopes }

func (s *scopes) meets(u *usable, _ *judgement) (bool, Reason) {
	var missing []string
	for _, n := range s.names {
		if !contains(u.Scopes, n) {
			missing = append(missing, n)
		}
	}
	if len(missing) == 0 {
		return true, Reason{}
	}
	return false, Reason{
		Code: CodeUnmet, Kind: KindScopes,
		Message: "credential " + u.ID + " lacks scope " + strings.Join(missing, " "),
	}
}

func (s *scopes) remedy() Remedy { return Remedy{Kind: KindScopes, Scopes: s.names, MaxAge: -1} }
