package pep_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// A proof of possession counts once: who has seen a request must not be able to
// do anything with it.
func TestUsedProof(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	var mu sync.Mutex
	service := &pdp{}
	service.answer = func(q *authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
		mu.Lock()
		defer mu.Unlock()
		proof := q.GetCredentials()[0].GetDpopProof() + " " + q.GetCredentials()[0].GetHttpMethod()
		if !strings.HasPrefix(proof, "proof") || !strings.HasSuffix(proof, " POST") || used[proof] { // all are made for POST
			return service.decide(q.GetMcp(), q.GetResource(), nil), nil // 401
		}
		used[proof] = true
		return allowed(&authzdv1.Identity{Id: "alice"}), nil
	}
	upstream := &plainServer{}
	front, p := behind(t, upstream, service)
	resp, _ := postAs(t, front, "alice", initialization, map[string]string{"DPoP": "proof-1"})
	seen := map[string]string{"Mcp-Session-Id": resp.Header.Get("Mcp-Session-Id"), "DPoP": "proof-2"}
	if resp, _ := postAs(t, front, "alice", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, seen); resp.StatusCode != http.StatusOK {
		t.Fatalf("the list: %d", resp.StatusCode)
	}
	if resp, _ := postAs(t, front, "alice", `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`, seen); resp.StatusCode != http.StatusUnauthorized {
		t.Fatalf("the list again: %d", resp.StatusCode)
	}
	resp, _ = postAs(t, front, "alice", `{"jsonrpc":"2.0","id":"elicit-1","result":{"action":"accept","content":{"sure":true}}}`, seen)
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("an answer to the server with the used proof: %d", resp.StatusCode)
	}
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		r, err := http.NewRequestWithContext(t.Context(), method, front.URL+"/mcp", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer alice")
		for k, v := range seen {
			r.Header.Set(k, v)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s with the used proof of a POST: %d; %d sessions left", method, resp.StatusCode, p.Sessions())
		}
	}
}
