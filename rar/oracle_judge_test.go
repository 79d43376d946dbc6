package rar_test

import (
	"github.com/authzd/authzd/rar"
)

// oracleTypes is what the oracle knows of the declared types.
type oracleTypes struct {
	rules     map[string]*ruleNode
	singleUse map[string]bool
	// valid is the schema's verdict on an object of a declared type.
	valid func(object map[string]any) bool
}

// verdict is the oracle's answer; err is "" unless the need itself is faulty.
type verdict struct {
	err     rar.Code
	covered bool
	because []rar.Reason
}

// judge answers as Covers should.
func (o *oracleTypes) judge(granted, required []any, singleUse bool) verdict {
	if len(required) == 0 {
		return verdict{because: []rar.Reason{{Required: -1, Code: rar.CodeRequiredEmpty}}}
	}
	for _, r := range required {
		if code := o.fault(r); code != "" {
			return verdict{err: code}
		}
	}
	v := verdict{covered: true}
	var consuming []int // needs that hold a granted object of their own
	for i, r := range required {
		if why := o.nearest(granted, r); why != nil {
			v.covered = false
			for _, f := range why {
				v.because = append(v.because, rar.Reason{Required: i, Pointer: f.pointer, Code: f.code})
			}
			continue
		}
		if object, _ := r.(map[string]any); !singleUse && !o.singleUse[typeOf(object)] {
			continue
		}
		with := append(consuming[:len(consuming):len(consuming)], i)
		if o.matchable(granted, required, with, map[int]bool{}) {
			consuming = with
			continue
		}
		v.covered = false
		v.because = append(v.because, rar.Reason{Required: i, Code: rar.CodeGrantedUsedUp})
	}
	return v
}

func typeOf(object map[string]any) string {
	name, _ := object["type"].(string)
	return name
}

func (o *oracleTypes) fault(required any) rar.Code {
	object, ok := required.(map[string]any)
	switch {
	case !ok:
		return rar.CodeInvalidRequired
	case o.rules[typeOf(object)] == nil:
		return rar.CodeUnknownType
	case !o.valid(object):
		return rar.CodeInvalidRequired
	}
	return ""
}

// pair compares one granted object with one needed object of its type.
func (o *oracleTypes) pair(granted, required any) (same, usable bool, why []finding) {
	g, _ := granted.(map[string]any)
	r, _ := required.(map[string]any)
	if g == nil || typeOf(g) != typeOf(r) {
		return false, false, nil
	}
	if !o.valid(g) {
		return true, false, nil
	}
	return true, true, o.rules[typeOf(r)].members(g, r, "", "type")
}

// nearest returns nil if one granted object covers the need, else why the one
// with the fewest failing fields does not.
func (o *oracleTypes) nearest(granted []any, required any) []finding {
	best := []finding{{code: rar.CodeNoGrantedType}}
	found := false
	for _, g := range granted {
		same, usable, why := o.pair(g, required)
		switch {
		case !same:
		case !usable:
			if !found {
				best = []finding{{code: rar.CodeGrantedInvalid}}
			}
		case len(why) == 0:
			return nil
		case !found || len(why) < len(best):
			best, found = why, true
		}
	}
	return best
}

// matchable tries every assignment of granted objects to the needs.
func (o *oracleTypes) matchable(granted, required []any, needs []int, taken map[int]bool) bool {
	if len(needs) == 0 {
		return true
	}
	for j, g := range granted {
		if taken[j] {
			continue
		}
		if _, usable, why := o.pair(g, required[needs[0]]); !usable || len(why) > 0 {
			continue
		}
		taken[j] = true
		if o.matchable(granted, required, needs[1:], taken) {
			return true
		}
		delete(taken, j)
	}
	return false
}
