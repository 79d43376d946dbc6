package api_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/api/callers"
	"github.com/authzd/authzd/credentials"
	"github.com/authzd/authzd/engine"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

// signer signs tokens or proofs with ES256.
type signer struct{ key *ecdsa.PrivateKey }

func newSigner(t *testing.T) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{key}
}

type object = map[string]any

func (s signer) jwk(t *testing.T) object {
	t.Helper()
	point, err := s.key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return object{"kty": "EC", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])}
}

func (s signer) thumbprint(t *testing.T) string {
	t.Helper()
	k := s.jwk(t)
	sum := sha256.Sum256(fmt.Appendf(nil, `{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}`, k["x"], k["y"]))
	return b64(sum[:])
}

func (s signer) sign(t *testing.T, header, payload object) string {
	t.Helper()
	part := func(o object) string {
		text, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		return b64(text)
	}
	signed := part(header) + "." + part(payload)
	sum := sha256.Sum256([]byte(signed))
	r, v, err := ecdsa.Sign(rand.Reader, s.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + b64(append(r.FillBytes(make([]byte, 32)), v.FillBytes(make([]byte, 32))...))
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// issuing is an authorization server that the servers of these tests trust.
type issuing struct {
	as, client signer
	config     credentials.Config
}

const issuerURL = "https://as.example.com"

func newIssuing(t *testing.T) *issuing {
	t.Helper()
	i := &issuing{as: newSigner(t), client: newSigner(t)}
	key := i.as.jwk(t)
	maps.Copy(key, object{"kid": "k1", "alg": "ES256", "use": "sig"})
	set, err := json.Marshal(object{"keys": []any{key}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(file, set, 0o600); err != nil {
		t.Fatal(err)
	}
	i.config.Issuers = []credentials.Issuer{{Issuer: issuerURL, Keys: credentials.KeySource{File: file}}}
	return i
}

// token signs the claims of a good token with changes; nil removes a claim.
func (i *issuing) token(t *testing.T, change object) string {
	t.Helper()
	c := object{
		"iss": issuerURL, "sub": "alice", "aud": "https://mcp.example.com", "client_id": "https://agent.example/cimd.json",
		"jti": "t-1", "iat": now().Add(-time.Minute).Unix(), "exp": now().Add(time.Hour).Unix(), "scope": "read",
	}
	for name, v := range change {
		if c[name] = v; v == nil {
			delete(c, name)
		}
	}
	return i.as.sign(t, object{"typ": "at+jwt", "alg": "ES256", "kid": "k1"}, c)
}

const endpoint = "https://mcp.example.com/mcp"

// bound is a token bound to the client's key, and proof one for it.
func (i *issuing) bound(t *testing.T) string {
	t.Helper()
	return i.token(t, object{"cnf": object{"jkt": i.client.thumbprint(t)}})
}

func (i *issuing) proof(t *testing.T, token, id string) string {
	t.Helper()
	sum := sha256.Sum256([]byte(token))
	return i.client.sign(t, object{"typ": "dpop+jwt", "alg": "ES256", "jwk": i.client.jwk(t)},
		object{"jti": id, "htm": "POST", "htu": endpoint, "iat": now().Unix(), "ath": b64(sum[:])})
}

// start runs a server that trusts i.
func (i *issuing) start(t *testing.T, change func(*api.Options)) *doors {
	t.Helper()
	v, err := credentials.New(i.config, credentials.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := v.Run(ctx); err != nil {
			t.Errorf("run the verifier: %v", err)
		}
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return start(t, func(o *api.Options) {
		o.Verifier = v
		o.Access.Now = now
		if change != nil {
			change(o)
		}
	})
}

// presenting is a tools/call with these members of credentials.
func presenting(t *testing.T, tool string, list ...object) string {
	t.Helper()
	if list == nil {
		list = []object{}
	}
	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return `{"mcp": {"method": "tools/call", "params": {"name": "` + tool + `", "arguments": {}},
		"server": "https://mcp.example.com", "transport": "http", "protocol_version": "2026-07-28"}, "credentials": ` + string(text) + `}`
}

// outcome is a decision in short: "ALLOW", or "DENY" with the codes of the
// credentials that were rejected; or the code of an error.
func outcome(t *testing.T, body []byte) string {
	t.Helper()
	var m struct {
		Code, Path, Decision string
		Rejected             []struct{ ID, Code string } `json:"rejected_credentials"`
	}
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if m.Decision == "" {
		return strings.TrimSpace(m.Code + " " + m.Path)
	}
	out := []string{m.Decision}
	for _, r := range m.Rejected {
		out = append(out, r.ID+"="+r.Code)
	}
	return strings.Join(out, " ")
}

// everywhere asks a query at each door, with a proof of its own each time, and
// wants the same outcome; through the gateway it is a batch of two.
func (d *doors) everywhere(t *testing.T, key, want string, query func(n string) string) {
	t.Helper()
	header := map[string]string{"Content-Type": "application/json"}
	if key != "" {
		header["Authorization"] = "Bearer " + key
	}
	if got := outcome(t, d.do(t, http.MethodPost, "/v1/check", query("rest"), header).body); got != want {
		t.Errorf("REST: %s, want %s", got, want)
	}
	ctx := t.Context()
	if key != "" {
		ctx = withHeaders(ctx, map[string]string{"authorization": header["Authorization"]})
	}
	if resp, err := d.rpc.Check(ctx, request(t, query("grpc"))); err != nil {
		code, path, _ := strings.Cut(want, " ")
		wantFault(t, "gRPC", err, code, path)
	} else if text, err := api.MarshalJSON(resp); err != nil || outcome(t, text) != want {
		t.Errorf("gRPC: %v, %s, want %s", err, text, want)
	}
	var one map[string]json.RawMessage
	if err := json.Unmarshal([]byte(query("batch")), &one); err != nil {
		t.Fatal(err)
	}
	batch := object{"credentials": one["credentials"]}
	delete(one, "credentials")
	batch["queries"] = []any{one, one}
	body, err := json.Marshal(batch)
	if err != nil {
		t.Fatal(err)
	}
	got := d.do(t, http.MethodPost, "/v1/check:batch", string(body), header)
	var items struct {
		Code  string
		Items []struct{ Check, Error json.RawMessage }
	}
	if err := json.Unmarshal(got.body, &items); err != nil {
		t.Fatal(err)
	}
	if items.Code != "" {
		if got := outcome(t, got.body); got != want {
			t.Errorf("batch: %s, want %s", got, want)
		}
		return
	}
	for i, item := range items.Items {
		answer := item.Check
		if answer == nil {
			answer = item.Error
		}
		in := strings.Replace(outcome(t, answer), fmt.Sprintf("/queries/%d", i), "", 1)
		if in != want {
			t.Errorf("batch, query %d: %s, want %s", i, in, want)
		}
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	i := newIssuing(t)
	d := i.start(t, nil)
	good := i.token(t, nil)
	bearer := func(token string) object { return object{"id": "a", "access_token": token} }
	for name, c := range map[string]struct {
		want  string
		creds []object
	}{
		"good":               {"ALLOW", []object{bearer(good)}},
		"with a scheme":      {"ALLOW", []object{{"id": "a", "access_token": good, "scheme": "bearer"}}},
		"other scope":        {"DENY", []object{bearer(i.token(t, object{"scope": "write"}))}},
		"changed":            {"DENY a=token.signature", []object{bearer(good[:len(good)-4] + "AAAA")}},
		"other audience":     {"DENY a=token.audience", []object{bearer(i.token(t, object{"aud": "https://other.example.com"}))}},
		"expired":            {"DENY a=token.expired", []object{bearer(i.token(t, object{"exp": now().Add(-time.Hour).Unix()}))}},
		"unknown issuer":     {"DENY a=token.issuer", []object{bearer(i.token(t, object{"iss": "https://as.example.com/"}))}},
		"nonsense":           {"DENY a=token.malformed", []object{bearer("x")}},
		"claims":             {"DENY a=token.issuer", []object{{"id": "a", "claims": object{"iss": issuerURL, "sub": "alice"}}}},
		"second is good":     {"ALLOW a=token.malformed", []object{bearer("x"), {"id": "b", "access_token": good}}},
		"of two people":      {"ALLOW b=token.subject", []object{bearer(good), {"id": "b", "access_token": i.token(t, object{"sub": "bob"})}}},
		"none":               {"DENY", nil},
		"same id":            {"request.invalid_value /credentials/1/id", []object{bearer(good), bearer(good)}},
		"bound_by":           {"request.invalid_value /credentials/0/bound_by", []object{{"id": "a", "access_token": good, "bound_by": "dpop"}}},
		"claims and a proof": {"request.invalid_value /credentials/0/dpop_proof", []object{{"id": "a", "claims": object{}, "dpop_proof": "x"}}},
		"other scheme":       {"request.invalid_value /credentials/0/scheme", []object{{"id": "a", "access_token": good, "scheme": "Basic"}}},
		"no token":           {"request.missing_member /credentials/0/claims", []object{{"id": "a"}}},
		"proof too long":     {"request.too_large /credentials/0/dpop_proof", []object{{"id": "a", "access_token": good, "dpop_proof": strings.Repeat("x", 8<<10+1)}}},
		"token too long":     {"request.too_large /credentials/0/access_token", []object{bearer(strings.Repeat("x", 16<<10+1))}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d.everywhere(t, "", c.want, func(string) string { return presenting(t, "read", c.creds...) })
		})
	}
}

// A proof counts once, and the queries of a batch share it.
func TestProofs(t *testing.T) {
	t.Parallel()
	i := newIssuing(t)
	d := i.start(t, nil)
	token := i.bound(t)
	cred := func(proof string) object {
		return object{"id": "a", "access_token": token, "scheme": "DPoP", "dpop_proof": proof, "http_method": "POST", "http_url": endpoint}
	}
	d.everywhere(t, "", "ALLOW", func(n string) string { return presenting(t, "bound", cred(i.proof(t, token, n))) })
	d.everywhere(t, "", "DENY a=token.proof", func(n string) string { return presenting(t, "bound", cred(i.proof(t, token, n))) })
	d.everywhere(t, "", "DENY a=token.proof", func(string) string {
		return presenting(t, "bound", object{"id": "a", "access_token": token})
	})
	d.everywhere(t, "", "DENY a=token.proof", func(n string) string {
		c := cred(i.proof(t, token, n+" as Bearer"))
		c["scheme"] = "Bearer"
		return presenting(t, "bound", c)
	})
	d.everywhere(t, "", "DENY a=token.proof", func(n string) string {
		c := cred(i.proof(t, token, n+" elsewhere"))
		c["http_url"] = "https://mcp.example.com/other"
		return presenting(t, "bound", c)
	})
}

// In a batch a token is judged for the server of each query.
func TestTokensOfABatch(t *testing.T) {
	t.Parallel()
	i := newIssuing(t)
	d := i.start(t, nil)
	one := strings.TrimSuffix(presenting(t, "read"), `, "credentials": []}`) + `}`
	other := strings.Replace(one, "https://mcp.example.com", "https://other.example.com", 1)
	got := d.post(t, "/v1/check:batch", `{"credentials": [{"id": "a", "access_token": "`+i.token(t, nil)+`"}], "queries": [`+one+`,`+other+`,`+one+`]}`)
	var m struct {
		Items []struct{ Check json.RawMessage }
	}
	if err := json.Unmarshal(got.body, &m); err != nil || len(m.Items) != 3 {
		t.Fatalf("%v: %s", err, got.body)
	}
	for n, want := range []string{"ALLOW", "DENY a=token.audience", "ALLOW"} {
		if in := outcome(t, m.Items[n].Check); in != want {
			t.Errorf("query %d: %s, want %s", n, in, want)
		}
	}
}

func TestPlanWithTokens(t *testing.T) {
	t.Parallel()
	i := newIssuing(t)
	d := i.start(t, nil)
	plan := func(token string) string {
		t.Helper()
		body := `{"calls": [` + strings.TrimSuffix(presenting(t, "read"), `, "credentials": []}`) + `}], "credentials": [{"id": "a", "access_token": "` + token + `"}]}`
		var m struct{ Status, Code string }
		if err := json.Unmarshal(d.post(t, "/v1/authorization-details:plan", body).body, &m); err != nil {
			t.Fatal(err)
		}
		return m.Status + m.Code
	}
	if got := plan(i.token(t, nil)); got != api.PlanAllowed {
		t.Errorf("a good token: %s", got)
	}
	if got := plan(i.token(t, object{"scope": "write"})); got != api.PlanObtainable {
		t.Errorf("a token of another scope: %s", got)
	}
	if got := plan("x"); got == api.PlanAllowed {
		t.Errorf("no token: %s", got)
	}
}

// Claims count where their issuer and the caller's rights admit them, and a
// token whoever brings it.
func TestTokensAndRights(t *testing.T) {
	t.Parallel()
	i := newIssuing(t)
	i.config.Issuers[0].AcceptAsserted = true
	keys := filepath.Join(t.TempDir(), "keys.json")
	check := makeKey(t, keys, callers.Key{Name: "check", Rights: callers.Check, Audience: "https://mcp.example.com"})
	assert := makeKey(t, keys, callers.Key{Name: "assert", Rights: callers.Check | callers.Assert})
	d := i.start(t, func(o *api.Options) { o.Access.KeysFile = keys })
	claims := object{
		"iss": issuerURL, "sub": "alice", "aud": "https://mcp.example.com", "client_id": "c", "jti": "j", "scope": "read",
		"iat": now().Add(-time.Minute).Unix(), "exp": now().Add(time.Hour).Unix(),
	}
	thumb := sha256.Sum256([]byte("a certificate"))
	mtls := i.token(t, object{"cnf": object{"x5t#S256": b64(thumb[:])}})
	token := i.bound(t)
	for name, c := range map[string]struct {
		key, want string
		cred      func(n string) object
	}{
		"claims, assert": {assert, "ALLOW", func(string) object { return object{"id": "a", "claims": claims} }},
		"claims, check":  {check, "DENY a=token.asserter", func(string) object { return object{"id": "a", "claims": claims} }},
		"token, check":   {check, "ALLOW", func(string) object { return object{"id": "a", "access_token": i.token(t, nil)} }},
		"thumbprint, assert": {assert, "ALLOW", func(string) object {
			return object{"id": "a", "access_token": mtls, "certificate_thumbprint": b64(thumb[:])}
		}},
		"thumbprint, check": {check, "DENY a=token.proof", func(string) object {
			return object{"id": "a", "access_token": mtls, "certificate_thumbprint": b64(thumb[:])}
		}},
		"other certificate": {assert, "DENY a=token.proof", func(string) object {
			return object{"id": "a", "access_token": mtls, "certificate_thumbprint": b64(make([]byte, 32))}
		}},
		"proof, check": {check, "ALLOW", func(n string) object {
			return object{"id": "a", "access_token": token, "dpop_proof": i.proof(t, token, n), "http_method": "POST", "http_url": endpoint}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d.everywhere(t, c.key, c.want, func(n string) string { return presenting(t, "read", c.cred(n)) })
		})
	}
	t.Run("another type, check", func(t *testing.T) {
		t.Parallel()
		d.everywhere(t, check, "api.right_missing /subject/type", func(string) string {
			q := presenting(t, "read", object{"id": "a", "access_token": i.token(t, nil)})
			return strings.Replace(q, `{"mcp"`, `{"subject": {"type": "service", "id": "alice"}, "mcp"`, 1)
		})
	})
	t.Run("another server, check", func(t *testing.T) {
		t.Parallel()
		d.everywhere(t, check, "api.right_missing /mcp/server", func(string) string {
			q := presenting(t, "read", object{"id": "a", "access_token": i.token(t, object{"aud": "https://other.example.com"})})
			return strings.Replace(q, `"server": "https://mcp.example.com"`, `"server": "https://other.example.com"`, 1)
		})
	})
}

// A subject without a credential is taken where its claims would be.
func TestBareSubjects(t *testing.T) {
	t.Parallel()
	i := newIssuing(t)
	other := i.config.Issuers[0]
	other.Issuer, other.AcceptAsserted = "https://asserted.example.com", true
	i.config.Issuers = append(i.config.Issuers, other)
	d := i.start(t, nil)
	bare := func(properties string) func(string) string {
		return func(string) string {
			return strings.Replace(presenting(t, "read"), `{"mcp"`, `{"subject": {"type": "identity", "id": "alice"`+properties+`}, "mcp"`, 1)
		}
	}
	const refused = "request.invalid_value /subject/properties/issuer"
	d.everywhere(t, "", refused, bare(""))
	d.everywhere(t, "", refused, bare(`, "properties": {"issuer": "`+issuerURL+`"}`))
	d.everywhere(t, "", refused, bare(`, "properties": {"issuer": "https://evil.example.com"}`))
	// Decided by policy, which wants a scope.
	d.everywhere(t, "", "DENY", bare(`, "properties": {"issuer": "https://asserted.example.com"}`))
}

// Whatever is presented, no part of it is in an answer, a log or a metric.
func TestTokensStaySecret(t *testing.T) {
	t.Parallel()
	i := newIssuing(t)
	d := i.start(t, nil)
	token := i.bound(t)
	proof := i.proof(t, token, "once")
	var seen bytes.Buffer
	for _, c := range []object{
		{"id": "a", "access_token": token, "dpop_proof": proof, "http_method": "POST", "http_url": endpoint},
		{"id": "a", "access_token": token, "dpop_proof": proof, "http_method": "POST", "http_url": endpoint},
		{"id": "a", "access_token": token},
		{"id": "a", "access_token": token, "bound_by": "dpop"},
		{"id": "a", "access_token": token, "claims": object{}},
		{"id": "a", "access_token": token[:len(token)-8] + "AAAAAAAA"},
		{"id": "a", "access_token": strings.ReplaceAll(token, ".", "")},
		{"id": "a", "access_token": []string{token}},
		{"id": "a", token: 1},
	} {
		q := presenting(t, "bound", c)
		seen.Write(d.post(t, "/v1/check", q).body)
		seen.Write(d.post(t, "/v1/check", q[:len(q)-1]).body)
		m := &authzdv1.CheckRequest{}
		if api.UnmarshalJSON([]byte(q), m, api.Limits{}) == nil {
			resp, err := d.rpc.Check(t.Context(), m)
			_, _ = fmt.Fprint(&seen, resp, err)
		}
	}
	// What policy sees is an answer too: this permit hands out its input.
	unbound := i.token(t, nil)
	seen.Write(d.post(t, "/v1/check", presenting(t, "echo", object{"id": "a", "access_token": unbound})).body)
	seen.Write(d.do(t, http.MethodGet, "/metrics", "", nil).body)
	_, _ = io.WriteString(&seen, d.logs.String())
	secrets := slices.Concat(strings.Split(token, ".")[1:], strings.Split(proof, ".")[1:], strings.Split(unbound, ".")[1:])
	for _, secret := range secrets {
		if strings.Contains(seen.String(), secret[:40]) {
			t.Errorf("a part of a token was told: %s", seen.String())
		}
	}
	for _, want := range []string{
		`"decision":"ALLOW"`, `"verified_by":"pdp"`, `authzd_credentials_verified_total{outcome="ok"} 2`, `"rejected":["token.proof"]`, `authzd_credentials_verified_total{outcome="token.signature"} 2`,
		`authzd_issuer_keys_usable{issuer="https://as.example.com"} 1`,
	} {
		if !strings.Contains(seen.String(), want) {
			t.Errorf("nothing tells %s: %s", want, seen.String())
		}
	}
}

// waiting is a verifier whose issuer is away.
type waiting struct{ asked chan struct{} }

func (w waiting) Verify(ctx context.Context, p credentials.Presented) (engine.Credential, *engine.RejectedCredential) {
	w.asked <- struct{}{}
	<-ctx.Done()
	return engine.Credential{}, &engine.RejectedCredential{ID: p.ID, Code: engine.CodeIssuerUnavailable}
}

func (w waiting) Admits(string, string) bool { return false }

func (w waiting) Asserted(id, _, _ string, _ rar.Value) (engine.Credential, *engine.RejectedCredential) {
	return engine.Credential{}, &engine.RejectedCredential{ID: id, Code: engine.CodeTokenIssuer}
}

// away is a verifier whose issuers do not answer.
type away struct{ waiting }

func (away) Verify(_ context.Context, p credentials.Presented) (engine.Credential, *engine.RejectedCredential) {
	return engine.Credential{}, &engine.RejectedCredential{ID: p.ID, Code: engine.CodeIssuerUnavailable}
}

// A client whose issuer is away is not sent for another token.
func TestIssuerAway(t *testing.T) {
	t.Parallel()
	d := start(t, func(o *api.Options) { o.Verifier = away{} })
	q := presenting(t, "read", object{"id": "a", "access_token": "t"})
	d.everywhere(t, "", "DENY a=engine.issuer_unavailable", func(string) string { return q })
	var m struct {
		Error       struct{ Code string }
		Remediation struct{ Status string }
		Denial      struct {
			HTTP struct {
				Status  int
				Headers map[string]string
			}
		}
	}
	if err := json.Unmarshal(d.post(t, "/v1/check", q).body, &m); err != nil {
		t.Fatal(err)
	}
	if m.Error.Code != "engine.issuer_unavailable" || m.Remediation.Status == "available" ||
		m.Denial.HTTP.Status == http.StatusUnauthorized || m.Denial.HTTP.Headers["WWW-Authenticate"] != "" {
		t.Errorf("%+v", m)
	}
}

// While a token waits for its issuer, others are decided: it takes no worker.
func TestWaitingTokensTakeNoWorker(t *testing.T) {
	t.Parallel()
	w := waiting{asked: make(chan struct{})}
	d := start(t, func(o *api.Options) { o.Verifier, o.Workers = w, 1 })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 4)
	q := presenting(t, "read", object{"id": "a", "access_token": "t"})
	for range cap(ended) {
		go func() {
			_, err := d.rpc.Check(ctx, request(t, q))
			ended <- err
		}()
		<-w.asked
	}
	if got := outcome(t, d.post(t, "/v1/check", presenting(t, "read")).body); got != "DENY" {
		t.Errorf("a query beside them: %s", got)
	}
	cancel()
	for range cap(ended) {
		if err := <-ended; err == nil {
			t.Error("a call that was given up was answered")
		}
	}
}
