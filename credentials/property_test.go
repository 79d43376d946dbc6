package credentials_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/authzd/authzd/credentials"
)

// TestNoChangedTokenVerifies changes tokens and proofs at random. None may
// verify but the unchanged, and none may be seen in what is returned or
// logged, whatever it is.
func TestNoChangedTokenVerifies(t *testing.T) {
	t.Parallel()
	w, c, log := newWorld(), newClock(), &logged{}
	v := start(t, trust(t, w), credentials.Options{
		Now: c.now, Transport: w, Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	f := readAttacks(t)
	w.text("https://opaque.example/introspect", 200, `<html>`)
	var bases []credentials.Presented
	for _, name := range []string{"jwt", "plain", "dpop", "mtls", "entra", "strict", "opaque"} {
		bases = append(bases, present(t, readScene(t, f.Bases[name])))
	}
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SampledFrom(bases).Draw(t, "base")
		field := &p.Token
		if p.Proof != "" && rapid.Bool().Draw(t, "proof") {
			field = &p.Proof
		}
		before := *field
		*field = changed(t, before)
		if before == *field {
			return
		}
		got, rejected := v.Verify(t.Context(), p)
		if rejected == nil {
			t.Fatalf("a changed token verifies: %+v", got)
		}
		printed := fmt.Sprintf("%v %+v %#v %q %s %v", p, p, p, p, log.String(), rejected)
		for _, part := range strings.Split(p.Token+"."+p.Proof, ".") {
			if len(part) >= 8 && strings.Contains(printed, part) {
				t.Fatalf("%q is printed", part)
			}
		}
	})
}

func changed(t *rapid.T, s string) string {
	i := rapid.IntRange(0, len(s)-1).Draw(t, "at")
	switch rapid.IntRange(0, 4).Draw(t, "how") {
	case 0:
		return s[:i] + string(rapid.Byte().Draw(t, "byte")) + s[i+1:]
	case 1:
		return s[:i] + s[i+1:]
	case 2:
		return s[:i]
	case 3:
		return s[:i] + rapid.StringMatching(`[A-Za-z0-9_.~ =-]{1,12}`).Draw(t, "text") + s[i:]
	}
	return s + s[i:]
}
