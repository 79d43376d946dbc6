package api_test

import (
	"encoding/json"
	"strings"
	"testing"
)

// A proof that was used up for a list shortens that list, and opens nothing.
func TestProofsOfLists(t *testing.T) {
	t.Parallel()
	i := newIssuing(t)
	d := i.start(t, nil)
	token := i.bound(t)
	cred := func(proof string) string {
		text, err := json.Marshal(object{"id": "a", "access_token": token, "scheme": "DPoP", "dpop_proof": proof, "http_method": "POST", "http_url": endpoint})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	one := strings.TrimSuffix(presenting(t, "bound"), `, "credentials": []}`) + `}`
	batch := func(proof string, listing bool) map[string]any {
		t.Helper()
		more := ""
		if listing {
			more = `, "listing": true`
		}
		got := d.post(t, "/v1/check:batch", `{"credentials": [`+cred(proof)+`], "queries": [`+one+`]`+more+`}`)
		var m struct {
			Items []struct{ Check map[string]any }
		}
		if err := json.Unmarshal(got.body, &m); err != nil || len(m.Items) != 1 || m.Items[0].Check == nil {
			t.Fatalf("%v: %s", err, got.body)
		}
		return m.Items[0].Check
	}
	filter := func(proof string) string {
		t.Helper()
		got := d.post(t, "/v1/tools:filter", `{"mcp": {"server": "https://mcp.example.com", "transport": "http"}, "credentials": [`+cred(proof)+`], "tools": [{"name": "bound", "inputSchema": {"type": "object"}}]}`)
		return string(got.body)
	}

	used := i.proof(t, token, "used")
	if got := outcome(t, d.post(t, "/v1/check", strings.Replace(presenting(t, "bound"), `"credentials": []`, `"credentials": [`+cred(used)+`]`, 1)).body); got != "ALLOW" {
		t.Fatalf("the request itself: %s", got)
	}
	if got := batch(used, false); got["decision"] != "DENY" {
		t.Errorf("a used proof opens a call: %v", got)
	}
	for range 2 {
		listed := batch(used, true)
		if listed["decision"] != "ALLOW" || listed["call_digest"] != nil || listed["expires_at"] != nil {
			t.Errorf("a list: %v", listed)
		}
		if got := filter(used); strings.Contains(got, "token.proof") {
			t.Errorf("tools: %s", got)
		}
	}
	// What was never shown for a request, or not like this, is judged like any
	// other, and is used up by it.
	other := i.proof(t, token, "other")
	if got := filter(other); strings.Contains(got, "token.proof") {
		t.Errorf("a fresh proof: %s", got)
	}
	if got := filter(other); !strings.Contains(got, "token.proof") {
		t.Errorf("a proof that a list has used up: %s", got)
	}
	if got := batch(strings.ToUpper(used), true); got["decision"] != "DENY" {
		t.Errorf("another proof: %v", got)
	}
}
