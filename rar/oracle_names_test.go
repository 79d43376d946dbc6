package rar_test

import (
	"regexp"
	"strings"

	"github.com/authzd/authzd/rar"
)

// The rule oracle on prefix and glob.

var (
	schemeText  = regexp.MustCompile(`\A[A-Za-z][A-Za-z0-9+.-]*://`)
	encodedText = regexp.MustCompile(`(?i)%2e|%2f|%5c`)
)

// names compares by prefix or glob, one value or each of several.
func (n *ruleNode) names(g, r any) rar.Code {
	if jsonKind(g) != jsonKind(r) {
		return rar.CodeTypeMismatch
	}
	if jsonKind(r) != "array" {
		return n.name([]any{g}, r)
	}
	if len(asArray(r)) == 0 {
		return rar.CodeRequiredEmpty
	}
	for _, want := range asArray(r) {
		if code := n.name(asArray(g), want); code != "" {
			return code
		}
	}
	return ""
}

func (n *ruleNode) name(granted []any, want any) rar.Code {
	w, isText := want.(string)
	refused := rar.Code("")
	if isText {
		refused = n.refused(w)
	}
	for _, g := range granted {
		if sameJSON(g, want) {
			return ""
		}
		if p, ok := g.(string); ok && isText && refused == "" && n.reaches(p, w) {
			return ""
		}
	}
	switch {
	case refused != "":
		return refused
	case n.rule == "prefix":
		return rar.CodeNotPrefix
	}
	return rar.CodeNoGlobMatch
}

func (n *ruleNode) reaches(granted, want string) bool {
	if n.rule == "glob" {
		return globMatches(granted, want)
	}
	return pathBelow(granted, want)
}

// refused says why a needed name is covered by nothing but itself.
func (n *ruleNode) refused(want string) rar.Code {
	switch {
	case n.rule == "glob" && strings.Contains(want, "*"):
		return rar.CodePatternInRequired
	case n.rule == "prefix" && unsafePath(want):
		return rar.CodeUnsafePath
	}
	return ""
}

func unsafePath(p string) bool {
	if strings.ContainsAny(p, `\?#`) || encodedText.MatchString(p) {
		return true
	}
	// The host of a URL may be empty, as in file:///a.
	segments := strings.Split(p[len(schemeText.FindString(p)):], "/")
	for i, s := range segments {
		inner := i > 0 && i < len(segments)-1
		if s == "." || s == ".." || s == "" && inner {
			return true
		}
	}
	return false
}

// pathBelow reports whether want continues granted at a slash. The slashes of a
// scheme are no borders.
func pathBelow(granted, want string) bool {
	if granted == "" || !strings.HasPrefix(want, granted) || len(granted) < len(schemeText.FindString(want)) {
		return false
	}
	return strings.HasSuffix(granted, "/") || strings.HasPrefix(want[len(granted):], "/")
}

// globMatches tries every length for every star.
func globMatches(pattern, s string) bool {
	switch {
	case pattern == "":
		return s == ""
	case strings.HasPrefix(pattern, "*"):
		rest := strings.TrimPrefix(pattern, "*")
		over := strings.HasPrefix(rest, "*")
		rest = strings.TrimPrefix(rest, "*")
		for i := 0; ; i++ {
			if globMatches(rest, s[i:]) {
				return true
			}
			if i == len(s) || s[i] == '/' && !over {
				return false
			}
		}
	}
	return s != "" && s[0] == pattern[0] && globMatches(pattern[1:], s[1:])
}
