package callers

import (
	"fmt"
	"strings"
)

// Rights is a set of rights. The zero set has none.
type Rights uint16

// The rights that exist. Each is a set of one.
const (
	// Check asks for decisions, comparisons and plans.
	Check Rights = 1 << iota
	// Assert is believed about claims and about who the subject is.
	Assert
	// Explain sees a decision rule by rule.
	Explain
	// Push uploads bundles.
	Push
	// Activate makes a bundle live.
	Activate
	// Approve answers requests for approval.
	Approve
	// Audit reads decisions and metrics.
	Audit
	// Admin does what no other right covers.
	Admin
	// Data changes data where a bundle lets it.
	Data

	// All is every right there is.
	All = Check | Assert | Explain | Push | Activate | Approve | Audit | Admin | Data
)

// names are in the order of the constants.
func names() []string {
	return []string{"check", "assert", "explain", "push", "activate", "approve", "audit", "admin", "data"}
}

// Has tells whether every right of want is in r. No right includes another.
func (r Rights) Has(want Rights) bool { return want != 0 && r&want == want }

// Names lists the rights by name.
func (r Rights) Names() []string {
	var out []string
	for i, name := range names() {
		if r&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return out
}

// String joins the names.
func (r Rights) String() string { return strings.Join(r.Names(), ",") }

// ParseRights reads names of rights; each may stand once, and at least one.
func ParseRights(list []string) (Rights, error) {
	var out Rights
	for _, s := range list {
		right := Rights(0)
		for i, name := range names() {
			if s == name {
				right = 1 << i
			}
		}
		switch {
		case right == 0:
			return 0, fmt.Errorf("%q is not one of %s", s, strings.Join(names(), ", "))
		case out.Has(right):
			return 0, fmt.Errorf("%q is given twice", s)
		}
		out |= right
	}
	if out == 0 {
		return 0, fmt.Errorf("needs at least one of %s", strings.Join(names(), ", "))
	}
	return out, nil
}
