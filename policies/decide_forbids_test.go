package policies_test

import (
	"encoding/json"
	"slices"
	"strings"
	"unicode"

	"github.com/authzd/authzd/engine"
)

// forbid is one reason to deny.
type forbid struct{ name, code, message, remediation string }

func forbidsOf(out output) []forbid {
	var all []forbid
	add := func(name string, v any) {
		f := forbid{name: name, code: "engine.forbidden", remediation: "undisclosed", message: stringOf(at(v, "message"))}
		if code := stringOf(at(v, "code")); code != "" {
			f.code = code
		}
		if at(v, "remediation") == "unavailable" {
			f.remediation = "unavailable"
		}
		if text, plain := v.(string); plain {
			f.message = text
		}
		all = append(all, f)
	}
	for _, name := range names(object(out.forbid)) {
		add(name, object(out.forbid)[name])
	}
	if out.deny == true {
		add("deny", nil)
	}
	for _, v := range array(out.deny) {
		add("deny", v)
	}
	slices.SortStableFunc(all, func(a, b forbid) int { return strings.Compare(a.name, b.name) })
	return all
}

// forbidden: the first by name is the rule, and undisclosed wins.
func forbidden(a *asked, forbids []forbid) verdict {
	v := denied(engine.Unavailable)
	v.Rule, v.Message = forbids[0].name, filled(forbids[0].message, a)
	for _, f := range forbids {
		v.Reasons = append(v.Reasons, f.code)
		if f.remediation == "undisclosed" {
			v.Status = "undisclosed"
		}
	}
	slices.Sort(v.Reasons)
	return v
}

// filled puts arguments into the places of a message.
func filled(text string, a *asked) string {
	const place = "{/mcp/params/arguments/"
	done := ""
	for {
		before, rest, found := strings.Cut(text, place)
		if done += before; !found {
			return done
		}
		name, after, _ := strings.Cut(rest, "}")
		value, has := object(argumentsOf(a))[name]
		done += shown(value, has)
		text = after
	}
}

// shown is a value in a message: a text as it is, without control characters, and
// with an end.
func shown(v any, has bool) string {
	s, isString := v.(string)
	if !isString {
		var b strings.Builder
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		_ = e.Encode(v) // a strings.Builder takes everything
		s = strings.TrimSuffix(b.String(), "\n")
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, s)
	if !has || s == "" {
		return "–"
	}
	return s
}
