package rar

import "slices"

// locations is the common data element that names where a right holds (RFC
// 9396 section 2.2).
const locations = "locations"

// Located returns v, which is valid for its type, with locations naming the
// resource server, if v leaves them open and the type declares them as a subset
// that a grant may be silent on (absent "any"). Then nothing is made wider: a
// grant without locations holds everywhere, one with locations has to name this
// one, and a grant that does no longer fails to cover a need that is silent
// (RFC 9396 section 12 on ambiguity). Otherwise, and where the schema does not
// take the resource, it returns false.
func (t *Types) Located(v Value, resource string) (Value, bool) {
	ty := t.lookup(typeOf(v))
	if ty == nil || resource == "" {
		return v, false
	}
	rule := ty.rules.child(locations)
	if rule == nil || rule.rule != ruleSubset || !rule.absentAny || rule.items != nil {
		return v, false
	}
	if _, has := v.Get(locations); has {
		return v, false
	}
	located := listValue(Object, append(slices.Clip(v.list()), StringValue(locations), ArrayValue(StringValue(resource))))
	if ty.validate(located) != nil {
		return v, false
	}
	return located, true
}
