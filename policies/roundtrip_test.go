package policies_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

// minRoundTrips is how many of an example's cases end in an allow once their
// hints are followed.
const minRoundTrips = 5

// checkRoundTrips grants what each hint of the cases asks for, as it stands, and
// asks again: the call must then be allowed. A hint that leads nowhere sends an
// agent in circles.
func checkRoundTrips(t *testing.T, content bundles.Content, s *engine.Snapshot, asked []asking) {
	t.Helper()
	trips := 0
	hinted := map[string]bool{}
	for _, a := range asked {
		query, response := a.query, a.response
		for round := 0; offers(response); round++ {
			if round == 3 {
				t.Errorf("%s: no end of hints: %s", a.result.Name, response.AppendJSON(nil))
				break
			}
			query = grant(t, query, hintsOf(t, response, hinted), a.now)
			response = answer(t.Context(), t, s, query, a.now).Response
			if decision, _ := response.Get("decision"); decision.Text() == "ALLOW" {
				trips++
			} else if !offers(response) {
				t.Errorf("%s: granted what the hints ask for, still %s", a.result.Name, response.AppendJSON(nil))
			}
		}
	}
	if trips < minRoundTrips {
		t.Errorf("%d round trips, want %d at least", trips, minRoundTrips)
	}
	declared, _ := content.Bundle.Data.Get("authzd_types")
	for i := range declared.Len() {
		if name := declared.Member(i).Name; !hinted[name] {
			t.Errorf("no case is offered details of the type %s", name)
		}
	}
}

// offers reports whether an answer has hints that a credential can follow.
// Without any usable credential the hint is a token, which says nothing more.
func offers(response rar.Value) bool {
	decision, _ := response.Get("decision")
	status, _ := response.Lookup("/remediation/status")
	kind, ok := response.Lookup("/remediation/hints/0/type")
	return decision.Text() == "DENY" && status.Text() == "available" && ok && kind.Text() != "token"
}

type hint struct {
	Type                 string           `json:"type"`
	Scopes               []string         `json:"scopes"`
	AuthorizationDetails []map[string]any `json:"authorization_details"`
	ACRValues            []string         `json:"acr_values"`
}

// hintsOf reads the hints of an answer, and notes the types of their details.
func hintsOf(t *testing.T, response rar.Value, types map[string]bool) []hint {
	t.Helper()
	var out []hint
	v, _ := response.Lookup("/remediation/hints")
	decode(t, v.AppendJSON(nil), &out)
	for _, h := range out {
		for _, d := range h.AuthorizationDetails {
			if name, ok := d["type"].(string); ok {
				types[name] = true
			}
		}
	}
	return out
}

// grant gives the first credential of query exactly what hints ask for: the
// details in place of those it has, the scopes beside those it has.
func grant(t *testing.T, query []byte, hints []hint, now time.Time) []byte {
	t.Helper()
	var q map[string]any
	decode(t, query, &q)
	credentials, _ := q["credentials"].([]any)
	if len(credentials) == 0 {
		t.Fatalf("nothing to grant to in %s", query)
	}
	credential, _ := credentials[0].(map[string]any)
	claims, ok := credential["claims"].(map[string]any)
	if !ok {
		t.Fatalf("no claims in %s", query)
	}
	for _, h := range hints {
		switch h.Type {
		case "scopes":
			held, _ := claims["scope"].(string)
			claims["scope"] = strings.TrimSpace(held + " " + strings.Join(h.Scopes, " "))
		case "authorization_details":
			claims["authorization_details"] = h.AuthorizationDetails
		case "authentication":
			claims["auth_time"] = now.Unix()
			if len(h.ACRValues) > 0 {
				claims["acr"] = h.ACRValues[0]
			}
		default:
			t.Fatalf("a hint of type %q", h.Type)
		}
	}
	out, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// decode keeps numbers as they are written.
func decode(t *testing.T, text []byte, into any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}
