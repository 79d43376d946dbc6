package rar

import "strings"

// pathCovers reports whether granted is a prefix of required that ends at a
// slash. The required path is known to be safe and different from granted.
func pathCovers(granted, required string) bool {
	// An empty grant is a placeholder (RFC 9396 §7.1), not the root. And a
	// border inside "https://" would grant every host there is.
	if granted == "" || len(granted) < schemeLength(required) || !strings.HasPrefix(required, granted) {
		return false
	}
	return strings.HasSuffix(granted, "/") || strings.HasPrefix(required[len(granted):], "/")
}

// unsafePath reports whether a server that normalises could read path as one
// outside its own prefix: dot segments, empty inner segments, backslashes, a
// query or fragment, and percent-encoded dots and slashes.
func unsafePath(path string) bool {
	if strings.ContainsAny(path, `\?#`) {
		return true
	}
	for i := range len(path) - 2 {
		if path[i] != '%' {
			continue
		}
		switch strings.ToLower(path[i+1 : i+3]) {
		case "2e", "2f", "5c":
			return true
		}
	}
	rest := path[schemeLength(path):]
	for first := true; ; first = false {
		segment, after, more := strings.Cut(rest, "/")
		switch {
		case segment == "." || segment == "..":
			return true
		case segment == "" && !first && more:
			return true // an empty segment that is neither first nor last
		case !more:
			return false
		}
		rest = after
	}
}

// schemeLength returns the length of a leading "scheme://" (RFC 3986 §3.1), 0
// if there is none; its slashes are not segments.
func schemeLength(path string) int {
	i := strings.Index(path, "://")
	if i <= 0 {
		return 0
	}
	for j, c := range []byte(path[:i]) {
		letter := (c|0x20) >= 'a' && (c|0x20) <= 'z'
		other := (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.'
		if !letter && (j == 0 || !other) {
			return 0
		}
	}
	return i + len("://")
}

// globMatches reports whether pattern matches the whole of s: * is any run of
// characters without a slash, ** any run at all, everything else itself. Bytes
// serve for characters, since both sides are UTF-8.
func (c *comparer) globMatches(pattern, s string) bool {
	star := strings.IndexByte(pattern, '*')
	if star < 0 || !c.spend(len(pattern)) {
		return false // without a pattern only equality covers
	}
	last := strings.LastIndexByte(pattern, '*') + 1
	if len(s) < star+len(pattern)-last || s[:star] != pattern[:star] || !strings.HasSuffix(s, pattern[last:]) {
		return false
	}
	s = s[star : len(s)-len(pattern)+last]
	pattern = pattern[star:last]
	// reached[i] tells whether pattern[:i] matches the text so far; the cost is
	// the product of the lengths, whatever the pattern.
	if !c.spend(len(pattern) * (len(s) + 1)) {
		return false
	}
	var buf [64]bool
	reached := append(buf[:0], make([]bool, len(pattern)+1)...)
	reached[0] = true
	skipStars(pattern, reached)
	for i := range len(s) {
		step(pattern, reached, s[i])
		skipStars(pattern, reached)
	}
	return reached[len(pattern)]
}

// skipStars lets every star match nothing.
func skipStars(pattern string, reached []bool) {
	for i := range len(pattern) {
		if reached[i] && pattern[i] == '*' {
			reached[i+1] = true
		}
	}
}

// step consumes one byte of the text in place, from the end of the pattern so
// that each state is read before it is written.
func step(pattern string, reached []bool, c byte) {
	for i := len(pattern); i >= 0; i-- {
		byLiteral := i > 0 && pattern[i-1] != '*' && pattern[i-1] == c && reached[i-1]
		byStar := i < len(pattern) && reached[i] && starTakes(pattern, i, c)
		reached[i] = byLiteral || byStar
	}
}

// starTakes reports whether pattern[i] is a star that may match c: a slash takes a star
// behind another one, which is reached wherever that is, since it may match nothing.
func starTakes(pattern string, i int, c byte) bool {
	return pattern[i] == '*' && (c != '/' || i > 0 && pattern[i-1] == '*')
}
