package engine

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/authzd/authzd/rar"
)

// TestCredentialCheckBounds: a credential counts until the second it ends, and a clock
// may be off by clockSkew for its beginning only.
func TestCredentialCheckBounds(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	sound := Credential{
		ID: "c", VerifiedBy: "pdp", Issuer: "i", Subject: "s", Audience: []string{"x", "a"}, ExpiresAt: now.Add(1),
		NotBefore: now.Add(clockSkew), IssuedAt: now.Add(clockSkew), Bound: true, BoundBy: "dpop",
	}
	for _, tt := range []struct {
		name     string
		change   func(c *Credential)
		audience string
		want     Code
	}{
		{"at every bound", func(*Credential) {}, "a", ""},
		{"ends now", func(c *Credential) { c.ExpiresAt = now }, "a", CodeTokenExpired},
		{"begins later than clocks differ", func(c *Credential) { c.NotBefore = now.Add(clockSkew + 1) }, "a", CodeTokenNotYet},
		{"made later than clocks differ", func(c *Credential) { c.IssuedAt = now.Add(clockSkew + 1) }, "a", CodeTokenNotYet},
		{"no beginning", func(c *Credential) { c.NotBefore, c.IssuedAt = time.Time{}, time.Time{} }, "a", ""},
		{"another audience", func(*Credential) {}, "b", CodeTokenAudience},
		{"no server", func(c *Credential) { c.Audience = []string{""} }, "", CodeTokenAudience},
		{"no audience", func(c *Credential) { c.Audience = nil }, "a", CodeTokenAudience},
		{"bound and not proved", func(c *Credential) { c.BoundBy = "" }, "a", CodeTokenProof},
		{"neither bound nor proved", func(c *Credential) { c.Bound, c.BoundBy = false, "" }, "a", ""},
		{"proved and not bound", func(c *Credential) { c.Bound = false }, "a", ""},
	} {
		c := sound
		tt.change(&c)
		if got := c.check(tt.audience, now); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestUnixSeconds: RFC 7519 section 2, as far as RFC 3339 can write it.
func TestUnixSeconds(t *testing.T) {
	t.Parallel()
	for literal, want := range map[string]int64{
		"1": 1, "1.9": 1, "1e3": 1000, "1E3": 1000, "123456789012": 123456789012, "253402300799": maxUnixTime, "253402300799.9": maxUnixTime, "1795370400.999": 1795370400,
		"0": 0, "0.9": 0, "-1": 0, "-0.5": 0, "1e-1": 0, "253402300800": 0, "1e12": 0, "1000000000000": 0, "1e400": 0,
	} {
		v, err := rar.NumberValue(literal)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := unixSeconds(v); ok != (want > 0) || ok && got != want {
			t.Errorf("%s: %d %v, want %d", literal, got, ok, want)
		}
	}
	if _, ok := unixSeconds(rar.StringValue("1")); ok {
		t.Error("a text is a time")
	}
}

func TestActorsAreBounded(t *testing.T) {
	t.Parallel()
	for more, want := range []Code{"", CodeTokenActors} {
		v := rar.Value{}
		for i := range maxActors + more {
			members := []rar.Member{{Name: "sub", Value: rar.StringValue("s" + strconv.Itoa(i))}}
			if v.Kind() != rar.Absent {
				members = append(members, rar.Member{Name: "act", Value: v})
			}
			v = rar.ObjectValue(members...)
		}
		chain, code := actors(rar.ObjectValue(rar.Member{Name: "act", Value: v}), "i")
		if code != want || (code == "") != (len(chain) == maxActors) {
			t.Errorf("%d actors: %d, %q", maxActors+more, len(chain), code)
		}
		if len(chain) > 0 && (chain[0] != Actor{"i", "s7"} || chain[7] != Actor{"i", "s0"}) {
			t.Errorf("actors %v", chain)
		}
	}
}

// TestScopeTokens: RFC 6749 section 3.3, with the neighbours of each range.
func TestScopeTokens(t *testing.T) {
	t.Parallel()
	for _, r := range "!#[]~aZ09:/" {
		if !validScope("x" + string(r)) {
			t.Errorf("%q is refused", r)
		}
	}
	for _, r := range " \"\\\x7f\x1f\té" {
		if validScope("x"+string(r)) || validScope(string(r)+"x") {
			t.Errorf("%q is taken", r)
		}
	}
	if validScope("") {
		t.Error("nothing is a scope")
	}
	for text, want := range map[string][]string{"": nil, "a": {"a"}, " a  b ": {"a", "b"}, "a\tb": {"a\tb"}} {
		r := claimReader{claims: rar.ObjectValue(rar.Member{Name: "scope", Value: rar.StringValue(text)})}
		if got := r.scopes(); strings.Join(got, "|") != strings.Join(want, "|") || r.bad {
			t.Errorf("%q: %q", text, got)
		}
	}
	for by, want := range map[string]bool{"": true, "dpop": true, "mtls": true, "mtls+dpop": true, "DPoP": false, "dpop+mtls": false, "x": false} {
		if validBinding(by) != want {
			t.Errorf("bound by %q: %v", by, !want)
		}
	}
}

// TestOrderOfPermits: the priority counts first, then how hard the hardest is, then how
// many are unmet; of met ones the fewest obligations.
func TestOrderOfPermits(t *testing.T) {
	t.Parallel()
	scope, proof := &scopes{names: []string{"s"}}, possession{}
	permitOf := func(priority, obligations int, unmet ...requirement) *weighed {
		return &weighed{permit: &permit{priority: priority, obligations: make([]rar.Value, obligations)}, unmet: unmet}
	}
	for name, pair := range map[string][2]*weighed{
		"priority before hardness": {permitOf(1, 0, proof), permitOf(2, 0, scope)},
		"priority before number":   {permitOf(1, 0, scope, scope), permitOf(2, 0, scope)},
		"hardness before number":   {permitOf(1, 0, scope, scope), permitOf(1, 0, proof)},
		"number":                   {permitOf(1, 0, scope), permitOf(1, 0, scope, scope)},
		"an unmet one, before obligations that no door carries": {permitOf(1, 0, proof), permitOf(1, 1)},
	} {
		if !pair[0].easier(pair[1]) || pair[1].easier(pair[0]) || pair[0].easier(pair[0]) {
			t.Errorf("easier: %s", name)
		}
	}
	for name, pair := range map[string][2]*weighed{
		"priority":    {permitOf(1, 2), permitOf(2, 1)},
		"obligations": {permitOf(1, 1), permitOf(1, 2)},
	} {
		if !pair[0].better(pair[1]) || pair[1].better(pair[0]) || pair[0].better(pair[0]) {
			t.Errorf("better: %s", name)
		}
	}
}

// TestUnionsOfRemedies: what two requirements ask for is asked once, and what one asks
// twice stays twice.
func TestUnionsOfRemedies(t *testing.T) {
	t.Parallel()
	text := func(v []rar.Value) string { return string(rar.ArrayValue(v...).AppendJSON(nil)) }
	a, b, c := rar.IntValue(1), rar.IntValue(2), rar.IntValue(3)
	if got := text(unionDetails([]rar.Value{a, b}, []rar.Value{b, c, c, a})); got != "[1,2,3,3]" {
		t.Errorf("details %s", got)
	}
	first := []rar.Value{a}
	if got := text(unionDetails(first, []rar.Value{b})); got != "[1,2]" || text(first) != "[1]" {
		t.Errorf("details %s of %s", got, text(first))
	}
	if got := strings.Join(union([]string{"x", "y"}, []string{"y", "z", "z"}), " "); got != "x y z" {
		t.Errorf("scopes %s", got)
	}
}
