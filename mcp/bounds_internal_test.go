package mcp

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/netip"
	"regexp/syntax"
	"strconv"
	"strings"
	"testing"
	"time"

	"cel.dev/cel-go/common/types"

	"github.com/authzd/authzd/rar"
)

func TestRevisionOf(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]revision{
		"2024-11-05": revisionOld, "2025-11-24": revisionOld, "0000-00-00": revisionOld,
		"2025-11-25": revision2025, "2026-07-27": revision2025,
		"2026-07-28": revision2026, "2026-07-29": revision2026, "9999-99-99": revision2026,
		"": revisionUnknown, "2026-07-2": revisionUnknown, "2026-07-288": revisionUnknown, "2026/07-28": revisionUnknown, "2026-07/28": revisionUnknown,
		"2026-07-2:": revisionUnknown, "2026-07-2/": revisionUnknown, ":026-07-28": revisionUnknown, "2026-0a-28": revisionUnknown, "20260-7-28": revisionUnknown,
	} {
		if got := revisionOf(version); got != want {
			t.Errorf("%q is revision %d, want %d", version, got, want)
		}
	}
}

// TestCharacters holds the first and the last of each range of characters, and their
// neighbours, against what a sender may use.
func TestCharacters(t *testing.T) {
	t.Parallel()
	type check struct {
		name string
		is   func(string) bool
		yes  string // each character beside others
		no   string
	}
	for _, c := range []check{
		{"scope", isScope, "!#[]~aZ09:/", " \"\\\x7f\x1f\té"},
		{"word", isWord, "!\"\\~a", " \x7f\x1f\té"},
		{"algorithm", isProofAlg, "!~A", " \"\\\x7f"},
		{"handle", isHandle, "azAZ09-_.~+=", "/:@ ,%"},
	} {
		for _, r := range c.yes {
			if !c.is("x" + string(r) + "x") {
				t.Errorf("%s: %q is refused", c.name, r)
			}
		}
		for _, r := range c.no {
			if c.is("x"+string(r)+"x") || c.is(string(r)+"x") || c.is("x"+string(r)) {
				t.Errorf("%s: %q is taken", c.name, r)
			}
		}
		if c.is("") {
			t.Errorf("%s: nothing is taken", c.name)
		}
	}
	for text, want := range map[string]bool{
		"a.b.c": true, "-.9_.Z": true, "a.b": false, "a.b.c.d": false, ".b.c": false, "a..c": false, "a.b.": false, "a.b.c=": false, "a.b .c": false, "": false,
	} {
		if isCompactJWS(text) != want {
			t.Errorf("JWS %q: %v", text, !want)
		}
	}
	for alg, want := range map[string]bool{"ES256": true, "none": false, "HS256": false, "NHS": true, "nonesuch": true} {
		if isProofAlg(alg) != want {
			t.Errorf("algorithm %q: %v", alg, !want)
		}
	}
	if !isHandle(strings.Repeat("x", maxHandle)) || isHandle(strings.Repeat("x", maxHandle+1)) {
		t.Error("the length of a handle")
	}
}

func TestLoopback(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"localhost": true, "127.0.0.1": true, netip.MustParseAddr("127.255.255.254").String(): true, "::1": true,
		"": false, "126.255.255.255": false, "128.0.0.0": false, "0.0.0.0": false, "localhost.example": false, "127.0.0.1.example": false, "::2": false,
	} {
		if isLoopback(host) != want {
			t.Errorf("%q: %v", host, !want)
		}
	}
}

// TestAudiences: exactly one identifier is this server's, and it is text.
func TestAudiences(t *testing.T) {
	t.Parallel()
	text := func(list ...string) rar.Value {
		return rar.ArrayOf(len(list), func(i int) rar.Value { return str(list[i]) })
	}
	for _, tt := range []struct {
		name string
		aud  rar.Value
		own  string
		want string // "": refused
	}{
		{"the only one", text("a"), "", "a"},
		{"the only one, and it is configured", text("a"), "a", "a"},
		{"the last of several", text("a", "b"), "b", "b"},
		{"several, none configured", text("a", "b"), "", ""},
		{"several, another configured", text("a", "b"), "c", ""},
		{"the only one is another", text("a"), "b", ""},
		{"none", text(), "", ""},
		{"none, and one is configured", text(), "a", ""},
		{"an empty one", text(""), "", ""},
		{"empty ones", text("", ""), "", ""},
		{"the only one is a number", rar.ArrayValue(rar.IntValue(1)), "", ""},
		{"a number is no name", rar.ArrayValue(rar.IntValue(1), rar.IntValue(2)), "1", ""},
		{"a number beside it", rar.ArrayValue(rar.IntValue(1), str("1")), "1", "1"},
	} {
		got, err := fromAudiences(tt.aud, tt.own)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s: %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
}

// TestParamHeadersOfEmptyValues: a field that is absent or can not be read is not one
// that is empty.
func TestParamHeadersOfEmptyValues(t *testing.T) {
	t.Parallel()
	const name = headerParam + "P"
	for _, tt := range []struct {
		name  string
		lines []Header
		value rar.Value
		ok    bool
	}{
		{"empty and empty", []Header{{name, ""}}, str(""), true},
		{"absent and empty", nil, str(""), false},
		{"unreadable and empty", []Header{{name, "=?base64?!?="}}, str(""), false},
		{"encoded", []Header{{name, "=?base64?w6Q=?="}}, str("ä"), true},
		{"encoded, not padded", []Header{{name, "=?base64?w6Q?="}}, str("ä"), false},
		{"encoded nothing", []Header{{name, "=?base64??="}}, str(""), true},
		{"not closed is as it is", []Header{{name, "=?base64?w6Q="}}, str("=?base64?w6Q="), true},
		{"true", []Header{{name, "true"}}, rar.BoolValue(true), true},
		{"false", []Header{{name, "false"}}, rar.BoolValue(false), true},
		{"true for false", []Header{{name, "true"}}, rar.BoolValue(false), false},
		{"false for true", []Header{{name, "false"}}, rar.BoolValue(true), false},
		{"other words", []Header{{name, "True"}}, rar.BoolValue(true), false},
		{"a number spelt otherwise", []Header{{name, "1.0"}}, rar.IntValue(1), true},
		{"another number", []Header{{name, "2"}}, rar.IntValue(1), false},
		{"no number", []Header{{name, "x"}}, rar.IntValue(0), false},
		{"a number for a text", []Header{{name, "1.0"}}, str("1"), false},
		{"a list has no form", []Header{{name, "[]"}}, rar.ArrayValue(), false},
		{"null and absent", nil, rar.NullValue(), true},
		{"null and there", []Header{{name, ""}}, rar.NullValue(), false},
		{"missing and absent", nil, rar.Value{}, true},
		{"missing and there", []Header{{name, ""}}, rar.Value{}, false},
		{"tab within", []Header{{name, " \ta\tb\t "}}, str("a\tb"), true},
		{"a tilde", []Header{{name, "~"}}, str("~"), true},
		{"beyond the tilde", []Header{{name, "\x7f"}}, str("\x7f"), false},
		{"a space within", []Header{{name, "a b"}}, str("a b"), true},
		{"below the space", []Header{{name, "a\x1fb"}}, str("a\x1fb"), false},
	} {
		params := object()
		if tt.value.Kind() != rar.Absent {
			params = object(member("arguments", object(member("p", tt.value))))
		}
		err := checkParams(tt.lines, params, []ParamHeader{{Pointer: "/p", Header: "P"}})
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestAcceptsTxnChallenge(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{
		"?1": true, " ?1 ": true, "?1;a": true, "?1; a=1;*b=\"x;\\\"y\";c=:YQ==:": true, "?1;a=b;a0_-.*=1.5": true, "?1;a=b!~": true, `?1;a=" ~"`: true, "?1;z": true,
		"": false, "?0": false, "1": false, "?1, ?1": false, "?1a": false, "?1;": false, "?1;A": false, "?1;0a": false, "?1;a=": false, "?1;a=;b": false,
		`?1;a="x`: false, `?1;a="`: false, "?1;a=:x": false, "?1;a=\"\x1f\"": false, "?1;a=\"\x7f\"": false, "?1;a=b c": false, "?1;a=\x7f": false, "?1 ;a": false, `?1;a="\`: false,
	} {
		if got := acceptsTxnChallenge([]Header{{"accept-txn-challenge", value}, {"Other", "?0"}}); got != want {
			t.Errorf("%q: %v", value, got)
		}
	}
	if acceptsTxnChallenge([]Header{{"Accept-Txn-Challenge", "?1"}, {"accept-txn-challenge", "?1"}}) || acceptsTxnChallenge(nil) {
		t.Error("two fields, or none, are taken")
	}
}

// TestDescribable: error_description has 200 octets at most, and ends with a word.
func TestDescribable(t *testing.T) {
	t.Parallel()
	const fits, rest = maxDescription, maxDescription - len("...")
	x := func(n int) string { return strings.Repeat("x", n) }
	for text, want := range map[string]string{
		x(fits):                       x(fits),
		x(fits + 1):                   x(rest) + "...",
		x(rest) + " yyyy":             x(rest) + "...",
		x(rest+1) + " yyyy":           x(rest) + "...",
		x(rest-1) + " yyyy":           x(rest-1) + "...",
		x(rest-2) + ", yyyyy":         x(rest-2) + "...",
		x(fits/2) + " " + x(fits):     x(fits/2) + "...",
		x(fits/2-1) + " " + x(fits):   x(fits/2-1) + " " + x(rest-fits/2) + "...",
		" a=\"b\"\\c\x1f\u007f\u00a0": "a:'b'/c",
		"‘a’ – “b”—c~":                "'a' - 'b'-c~",
		"a\u0080":                     "", "日": "",
	} {
		if got := describable(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for seconds, want := range map[int64]string{
		1: "1 second", 2: "2 seconds", 59: "59 seconds", 60: "1 minute", 61: "61 seconds", 90: "90 seconds", 120: "2 minutes",
		3540: "59 minutes", 3599: "3599 seconds", 3600: "1 hour", 3601: "3601 seconds", 3660: "61 minutes", 7200: "2 hours",
	} {
		if got := duration(seconds); got != want {
			t.Errorf("%d is %q, want %q", seconds, got, want)
		}
	}
}

// TestRequestStateBounds: a key or a state just within its bound serves, one beyond
// does not, and a state ends with the second that it says.
func TestRequestStateBounds(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	key := []byte(strings.Repeat("k", minStateKey))
	open := func(key []byte, sealed, principal string, at time.Time) error {
		_, err := OpenRequestState([][]byte{key}, sealed, at, principal, "m", "d")
		return err
	}
	state := RequestState{Principal: "p", Method: "m", ArgumentsDigest: "d", Expires: now}
	sealed, err := state.Seal(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := open(key, sealed, "p", now.Add(-1)); err != nil {
		t.Errorf("before it ends: %v", err)
	}
	if open(key, sealed, "p", now) == nil {
		t.Error("it counts when it has ended")
	}
	short := key[1:]
	if _, err := state.Seal(short); err == nil {
		t.Error("a short key seals")
	}
	text, _, _ := strings.Cut(sealed, ".")
	h := hmac.New(sha256.New, short)
	h.Write([]byte("authzd request state v1\x00" + text))
	if open(short, text+"."+base64.RawURLEncoding.EncodeToString(h.Sum(nil)), "p", now.Add(-1)) == nil {
		t.Error("a short key opens")
	}
	long := strings.Repeat("A", maxState)
	long += "." + base64.RawURLEncoding.EncodeToString(stateSum(key, long))
	if open(key, long, "p", now.Add(-1)) == nil {
		t.Error("a long state opens")
	}
	// The text grows by four for three bytes of the principal.
	for more, want := range map[int]bool{0: true, 1: false} {
		s := state
		s.Principal = strings.Repeat("p", 1+(maxState-len(sealed))/4*3+3*more)
		sealed, err := s.Seal(key)
		if err == nil {
			if openErr := open(key, sealed, s.Principal, now.Add(-1)); openErr != nil {
				t.Errorf("what is sealed does not open: %v", openErr)
			}
		}
		if (err == nil) != want || want && len(sealed) <= maxState-4 {
			t.Errorf("a principal of %s bytes: %d, %v", strconv.Itoa(len(s.Principal)), len(sealed), err)
		}
	}
}

// TestRemedyOfAChallenge: a signed challenge does not make up for details that could
// not be sent.
func TestRemedyOfAChallenge(t *testing.T) {
	t.Parallel()
	typed := rar.ArrayValue(object(member("type", str("t"))))
	for name, r := range map[string]TxnChallengeRemedy{
		"no details":      {Challenge: "a.b.c"},
		"untyped details": {Challenge: "a.b.c", AuthorizationDetails: rar.ArrayValue(object())},
		"no JWS":          {Challenge: "a.b", AuthorizationDetails: typed},
	} {
		if checkRemedy(r, "") == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := checkRemedy(TxnChallengeRemedy{Challenge: "a.b.c", AuthorizationDetails: typed}, ""); err != nil {
		t.Error(err)
	}
}

// TestScopesOfAToken: the scopes of a first token are held against what a challenge can
// carry, as those of any other.
func TestScopesOfAToken(t *testing.T) {
	t.Parallel()
	for scope, want := range map[string]bool{"read": true, "a b": false, "a\r\nX: y": false, `a"`: false, "": false} {
		if err := checkRemedy(TokenRemedy{State: TokenAbsent, Scopes: []string{scope}}, ""); (err == nil) != want {
			t.Errorf("%q: %v", scope, err)
		}
	}
}

// TestTaskBounds: a task may end at once and be asked for at any pace.
func TestTaskBounds(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]bool{0: true, -1: false} {
		at := time.Unix(1_700_000_000, 0)
		task := Task{ID: "t", CreatedAt: at, LastUpdatedAt: at}
		ttl, poll := task, task
		ttl.TTLMillis, poll.PollIntervalMillis = &n, n
		if (checkTask(ttl, "") == nil) != want || (checkTask(poll, "") == nil) != want {
			t.Errorf("%d ms: %v, %v", n, checkTask(ttl, ""), checkTask(poll, ""))
		}
	}
}

// TestCompilerPanics: an expression that makes the compiler panic is refused, and none
// is taken in its place.
func TestCompilerPanics(t *testing.T) {
	t.Parallel()
	c := mappingCompiler{} // without an environment
	x, err := c.expression("token.sub", "/at")
	var e *Error
	if x != nil || !errors.As(err, &e) || e.Code != CodeMappingInvalid || e.Path != "/at" {
		t.Errorf("%v, %v, want %s", x, err, CodeMappingInvalid)
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	most := strings.Repeat("é", maxPrintable)
	for text, want := range map[string]string{"a\x00\n\xffb": "ab", most: most, most + "é": most + "…"} {
		if got := printable(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// TestMethodsOfSignInsJoined: of two demands the methods that serve both are named, and
// a demand without any leaves those of the other.
func TestMethodsOfSignInsJoined(t *testing.T) {
	t.Parallel()
	age := int64(60)
	for name, c := range map[string]struct {
		first, second []string
		want          string // "": refused
	}{
		"the first alone":  {[]string{"a", "b"}, nil, "a b"},
		"the second alone": {nil, []string{"a", "b"}, "a b"},
		"some of both":     {[]string{"a", "b", "c"}, []string{"c", "b"}, "b c"},
		"none of both":     {[]string{"a"}, []string{"b"}, ""},
	} {
		n, refused := need{}, error(nil)
		for _, acr := range [][]string{c.first, c.second} {
			if err := n.addAuthentication(AuthenticationRemedy{ACRValues: acr, MaxAge: &age}, "/at"); err != nil {
				refused = err
			}
		}
		if got := strings.Join(n.authentication.ACRValues, " "); (refused == nil) != (c.want != "") || refused == nil && got != c.want {
			t.Errorf("%s: %q, %v, want %q", name, got, refused, c.want)
		}
	}
}

// TestPatternWork: a pattern times its text is bounded, and so is a pattern.
func TestPatternWork(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]int{"a": 2, "abc": 4, "[a-z]": 3, ".": 1, "ab|cd": 7, "(ab)": 4, "a{0}": 3, "a{3}": 9, "(abc){2,5}": 30, "(a{3}){4}": 44} {
		re, err := syntax.Parse(pattern, syntax.Perl)
		if err != nil {
			t.Fatal(err)
		}
		if got := steps(re); got != want {
			t.Errorf("%s has %d steps, want %d", pattern, got, want)
		}
	}
	for pattern, most := range map[string]int{"[a-z]*": maxMatchWork/4 - 1, "aaaaaaa": maxMatchWork/8 - 1} {
		for more, want := range []bool{true, false} {
			got := match(types.String(strings.Repeat("a", most+more)), types.String(pattern))
			if ok := got == types.True; ok != want {
				t.Errorf("%s on %d bytes: %v", pattern, most+more, got)
			}
		}
	}
}

// TestSignInsJoined: of two ages the shorter one counts, whichever comes first.
func TestSignInsJoined(t *testing.T) {
	t.Parallel()
	long, short := int64(600), int64(60)
	for name, c := range map[string]struct{ first, second, want *int64 }{
		"the second is shorter": {&long, &short, &short},
		"the first is shorter":  {&short, &long, &short},
		"only the first":        {&short, nil, &short},
		"only the second":       {nil, &short, &short},
		"none":                  {},
	} {
		n := need{}
		for _, age := range []*int64{c.first, c.second} {
			if err := n.addAuthentication(AuthenticationRemedy{ACRValues: []string{"x"}, MaxAge: age}, ""); err != nil {
				t.Fatal(err)
			}
		}
		if got := n.authentication.MaxAge; got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestURLOfAPage(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]bool{
		"https://a.example/x": true, "http://localhost:1/x": true, "http://127.0.0.1/x": true,
		"http://a.example/x": false, "https:///x": false, "https:x": false, "/x": false, "": false, "https://u@a.example/x": false, "ftp://a.example/x": false, "ftp://localhost/x": false, "javascript://127.0.0.1/%0aalert(1)": false, "https://%": false,
	} {
		if err := checkURLRemedy(URLRemedy{Key: "k", Message: "m", URL: url}, ""); (err == nil) != want {
			t.Errorf("%q: %v", url, err)
		}
	}
}
