package api_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/api/callers"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// both asks Check, and CheckBatch through the gateway, over REST and gRPC. It
// returns the code of each error, or "" for an answer.
func both(t *testing.T, d *doors, header map[string]string) map[string]string {
	t.Helper()
	q := query("read", `{}`, claims(`, "scope": "read"`))
	out := map[string]string{}
	web := map[string]string{"Content-Type": "application/json"}
	for k, v := range header {
		web[k] = v
	}
	for path, body := range map[string]string{"/v1/check": q, "/v1/check:batch": batchOf(t, q)} {
		got := d.do(t, http.MethodPost, path, body, web)
		code, _ := got.json(t)["code"].(string)
		out[path] = code
		if (code == "") != (got.status == 200) || (code == "api.unauthenticated") != (got.status == 401) || (code == "api.right_missing") != (got.status == 403) {
			t.Errorf("%s: status %d with code %q", path, got.status, code)
		}
		if (got.status == 401) != (got.header.Get("WWW-Authenticate") == "Bearer") {
			t.Errorf("%s: %d with WWW-Authenticate %q", path, got.status, got.header.Get("WWW-Authenticate"))
		}
	}
	_, err := d.rpc.Check(withHeaders(t.Context(), header), request(t, q))
	out["gRPC"] = reasonOf(t, err)
	want := map[string]codes.Code{"": codes.OK, "api.unauthenticated": codes.Unauthenticated, "api.right_missing": codes.PermissionDenied}
	if status.Code(err) != want[out["gRPC"]] {
		t.Errorf("gRPC: %v with code %q", err, out["gRPC"])
	}
	return out
}

func wantBoth(t *testing.T, d *doors, header map[string]string, want string) {
	t.Helper()
	for door, code := range both(t, d, header) {
		if code != want {
			t.Errorf("%s: code %q, want %q", door, code, want)
		}
	}
}

func TestCallersByKey(t *testing.T) {
	t.Parallel()
	s := secure(t, nil)
	good := makeKey(t, s.keysFile, callers.Key{Name: "gateway", Rights: callers.Check | callers.Assert})
	other := makeKey(t, s.keysFile, callers.Key{Name: "auditor", Rights: callers.All &^ callers.Check})
	expired := makeKey(t, s.keysFile, callers.Key{Name: "old", Rights: callers.All, Created: time.Now().Add(-time.Hour), Expires: time.Now().Add(-time.Second)})
	young := makeKey(t, s.keysFile, callers.Key{Name: "young", Rights: callers.All, Created: time.Now().Add(-time.Hour), Expires: time.Now().Add(time.Hour)})
	revoked := makeKey(t, s.keysFile, callers.Key{Name: "gone", Rights: callers.All})
	revoke(t, s.keysFile, "gone")
	foreign := makeKey(t, filepath.Join(t.TempDir(), "other.json"), callers.Key{Name: "gateway", Rights: callers.All})
	s.server.Reload(t.Context())
	d := s.as(t, nil)
	const no, right = "api.unauthenticated", "api.right_missing"
	id, secret := good[:len("authzd_")+16], good[len("authzd_")+16:]
	for name, c := range map[string]struct {
		header map[string]string
		want   string
	}{
		"good key":                {keyHeader(good), ""},
		"scheme in another case":  {map[string]string{"Authorization": "bearer " + good}, ""},
		"not yet expired":         {keyHeader(young), ""},
		"no key":                  {nil, no},
		"empty":                   {map[string]string{"Authorization": ""}, no},
		"scheme alone":            {map[string]string{"Authorization": "Bearer"}, no},
		"no scheme":               {map[string]string{"Authorization": good}, no},
		"Basic":                   {map[string]string{"Authorization": "Basic " + good}, no},
		"two spaces":              {map[string]string{"Authorization": "Bearer  " + good}, no},
		"two keys":                {map[string]string{"Authorization": "Bearer " + good + ", Bearer " + good}, no},
		"wrong secret":            {keyHeader(tamper(good)), no},
		"upper case":              {keyHeader(strings.ToUpper(good)), no},
		"upper-case prefix":       {keyHeader("AUTHZD" + good[6:]), no},
		"upper-case id":           {keyHeader("authzd_" + strings.ToUpper(id[7:]) + "x" + secret[1:]), no},
		"one more character":      {keyHeader(good + "A"), no},
		"padded":                  {keyHeader(good + "="), no},
		"the secret alone":        {keyHeader(secret), no},
		"id with another secret":  {keyHeader(id + other[len(id):]), no},
		"another last character":  {keyHeader(good[:len(good)-1] + string(sibling(good[len(good)-1]))), no},
		"expired":                 {keyHeader(expired), no},
		"revoked":                 {keyHeader(revoked), no},
		"key of another file":     {keyHeader(foreign), no},
		"right missing":           {keyHeader(other), right},
		"key in another header":   {map[string]string{"X-Api-Key": good, "Proxy-Authorization": "Bearer " + good}, no},
		"forged gateway metadata": {map[string]string{"authzd-caller-name-bin": "first", "authzd-caller-rights": "255", "authzd-caller-audience-bin": "", "authzd-request-id": "x"}, no},
		"gateway's header prefix": {map[string]string{"Grpc-Metadata-Authorization": "Bearer " + good, "Grpc-Metadata-authzd-caller-rights": "255"}, no},
		"spoofed certificate":     {map[string]string{"X-Forwarded-Client-Cert": "URI=spiffe://example.org/ns/gateway", "X-Forwarded-User": "agent-1", "Ssl-Client-S-Dn": "CN=agent-1"}, no},
		"more rights by metadata": {map[string]string{"Authorization": "Bearer " + other, "authzd-caller-rights": "255"}, right},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantBoth(t, d, c.header, c.want)
		})
	}
	t.Cleanup(func() {
		log := s.logs.String()
		for _, secret := range []string{good, other, expired, revoked, foreign, young} {
			if strings.Contains(log, secret[len("authzd_")+17:]) {
				t.Error("the log holds a secret")
			}
		}
		for _, want := range []string{`"caller":"gateway"`, `"caller":"auditor"`, `"caller":"gone"`, `"reason":"revoked"`, `"reason":"expired"`, `"reason":"wrong_secret"`, `"reason":"unknown_key"`} {
			if !strings.Contains(log, want) {
				t.Errorf("no %s in the log", want)
			}
		}
	})
}

// sibling is a character that differs in the bits that base64 leaves unused at
// the end of a secret: it decodes alike and is another key.
func sibling(c byte) byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[strings.IndexByte(alphabet, c)^1]
}

func TestCallersTwoAuthorizationHeaders(t *testing.T) {
	t.Parallel()
	s := secure(t, nil)
	good := makeKey(t, s.keysFile, callers.Key{Name: "gateway", Rights: callers.All})
	s.server.Reload(t.Context())
	// A good certificate makes up for nothing.
	d := s.as(t, s.clientCA.client(t, named("agent-1")))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.url+"/openapi.json", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header["Authorization"] = []string{"Bearer " + good, "Bearer " + good}
	resp, err := d.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 401 {
		t.Errorf("status %d", resp.StatusCode)
	}
	ctx := withHeaders(withHeaders(t.Context(), keyHeader(good)), keyHeader(good))
	_, err = d.rpc.Check(ctx, request(t, query("read", `{}`, claims(``))))
	wantFault(t, "gRPC", err, "api.unauthenticated", "")
}

func TestCallersByCertificate(t *testing.T) {
	t.Parallel()
	s := secure(t, nil)
	key := makeKey(t, s.keysFile, callers.Key{Name: "auditor", Rights: callers.Audit})
	s.server.Reload(t.Context())
	const no, right = "api.unauthenticated", "api.right_missing"
	for name, c := range map[string]struct {
		cert   func(*x509.Certificate)
		header map[string]string
		want   string
	}{
		"common name":                {named("agent-1"), nil, ""},
		"SPIFFE id":                  {named("", "spiffe://example.org/ns/gateway"), nil, ""},
		"SPIFFE id before the name":  {named("nobody", "spiffe://example.org/ns/gateway"), nil, ""},
		"without assert":             {named("reader"), nil, ""},
		"unlisted":                   {named("agent-2"), nil, no},
		"another case":               {named("Agent-1"), nil, no},
		"trailing space":             {named("agent-1 "), nil, no},
		"no name":                    {named(""), nil, no},
		"SPIFFE id as common name":   {named("spiffe://example.org/ns/gateway"), nil, no},
		"upper case in the domain":   {named("", "spiffe://EXAMPLE.org/ns/gateway"), nil, no},
		"another path":               {named("", "spiffe://example.org/ns/gateway/x"), nil, no},
		"dot segments":               {named("", "spiffe://example.org/ns/x/../gateway"), nil, no},
		"percent-encoded":            {named("", "spiffe://example.org/ns/%67ateway"), nil, no},
		"with a query":               {named("", "spiffe://example.org/ns/gateway?x"), nil, no},
		"two SPIFFE ids":             {named("agent-1", "spiffe://example.org/ns/gateway", "spiffe://example.org/ns/other"), nil, no},
		"listed name, other SPIFFE":  {named("agent-1", "spiffe://example.org/ns/other"), nil, no},
		"good certificate, bad key":  {named("agent-1"), keyHeader("authzd_0000000000000000_" + strings.Repeat("A", 43)), no},
		"a key decides, not the TLS": {named("agent-1"), keyHeader(key), right},
		"an alternative DNS name":    {func(c *x509.Certificate) { c.DNSNames = []string{"agent-1"} }, nil, no},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantBoth(t, s.as(t, s.clientCA.client(t, c.cert)), c.header, c.want)
		})
	}
}

// Certificates that do not verify end the handshake, at both doors.
func TestCallersHandshakes(t *testing.T) {
	t.Parallel()
	optional, mandatory := secure(t, nil), secure(t, func(o *api.Options) { o.Access.KeysFile = "" })
	for name, c := range map[string]struct {
		server *secured
		cert   func(s *secured) *tls.Certificate
	}{
		"another CA": {optional, func(*secured) *tls.Certificate { return newAuthority(t, "client CA").client(t, named("agent-1")) }},
		"another CA, required": {mandatory, func(*secured) *tls.Certificate {
			return newAuthority(t, "client CA").client(t, named("agent-1"))
		}},
		"the server's CA": {optional, func(s *secured) *tls.Certificate { return s.ca.client(t, named("agent-1")) }},
		"expired": {optional, func(s *secured) *tls.Certificate {
			return s.clientCA.client(t, func(c *x509.Certificate) {
				c.Subject.CommonName, c.NotAfter = "agent-1", time.Now().Add(-time.Minute)
			})
		}},
		"a server's certificate": {optional, func(s *secured) *tls.Certificate {
			return s.clientCA.client(t, func(c *x509.Certificate) {
				c.Subject.CommonName, c.ExtKeyUsage = "agent-1", []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
			})
		}},
		"none where one is required": {mandatory, func(*secured) *tls.Certificate { return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := c.server.as(t, c.cert(c.server))
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.url+"/healthz", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			if resp, err := d.http.Do(req); err == nil {
				_ = resp.Body.Close()
				t.Errorf("REST answered %d", resp.StatusCode)
			}
			if _, err := d.rpc.Check(t.Context(), request(t, query("read", `{}`, claims(``)))); status.Code(err) != codes.Unavailable {
				t.Errorf("gRPC: %v", err)
			}
		})
	}
	wantBoth(t, mandatory.as(t, mandatory.clientCA.client(t, named("agent-1"))), nil, "")
}

// What a caller without assert says about identity counts for nothing: claims
// are a credential that is rejected, and a subject on the caller's word alone is
// refused. The neighbour with assert is answered.
func TestCallersWithoutAssert(t *testing.T) {
	t.Parallel()
	s := secure(t, nil)
	believed := s.as(t, s.clientCA.client(t, named("agent-1")))
	reader := s.as(t, s.clientCA.client(t, named("reader")))
	const page = `"action": {"name": "read"}, "resource": {"type": "page", "id": "p"}`
	const alice = `"subject": {"type": "identity", "id": "alice"}, `
	sound := `"credentials": [{"id": "a", "claims": ` + claims(``) + `}], "mcp": {"method": "tools/call", "params": {"name": "x"}, "server": "https://mcp.example.com"}`
	credential := `"credentials": [{"id": "a", "claims": ` + claims(`, "scope": "read"`) + `}]`
	for name, c := range map[string]struct {
		query, decision string // with assert
		rejected        string
		code, path      string
	}{
		"claims":             {query("read", `{}`, claims(`, "scope": "read"`)), "ALLOW", "token.asserter", "", ""},
		"malformed claims":   {query("read", `{}`, `{"iss": 5}`), "DENY", "token.claims", "", ""},
		"claims and subject": {`{` + alice + credential + `, ` + page + `}`, "DENY", "token.asserter", "", ""},
		"subject alone":      {`{` + alice + page + `}`, "ALLOW", "", "api.right_missing", "/subject"},
		"no subject":         {`{` + page + `}`, "DENY", "", "", ""},
		"subject's properties": {
			`{"subject": {"type": "identity", "id": "alice", "properties": {"groups/x": ["admin"]}}, ` + sound + `, ` + page + `}`,
			"", "", "api.right_missing", "/subject/properties/groups~1x",
		},
		"another MCP server": {
			strings.Replace(query("read", `{}`, `{"iss": "https://as.example.com", "sub": "alice", "aud": "https://upstream.example", "exp": 4102444800, "client_id": "c", "scope": "read"}`), "https://mcp.example.com", "https://upstream.example", 1),
			"ALLOW", "", "api.right_missing", "/mcp/server",
		},
		"subject's issuer": {
			`{"subject": {"type": "identity", "id": "alice", "properties": {"issuer": "https://as.example.com"}}, ` + credential + `, ` + page + `}`,
			"", "token.asserter", "", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.decision != "" {
				if got := believed.post(t, "/v1/check", c.query).json(t); got["decision"] != c.decision {
					t.Errorf("with assert: %v", got)
				}
			}
			got := reader.post(t, "/v1/check", c.query)
			m, err := reader.rpc.Check(t.Context(), request(t, c.query))
			batch := string(reader.post(t, "/v1/check:batch", batchOf(t, c.query)).body)
			if c.code != "" {
				if j := got.json(t); got.status != 403 || j["code"] != c.code || j["path"] != c.path {
					t.Errorf("REST: %d %s", got.status, got.body)
				}
				wantFault(t, "gRPC", err, c.code, c.path)
				if !strings.Contains(batch, `"path":"/queries/0`+c.path+`"`) || strings.Contains(batch, "ALLOW") {
					t.Errorf("batch: %s", batch)
				}
				return
			}
			if got.json(t)["decision"] != "DENY" || !strings.Contains(string(got.body), c.rejected) {
				t.Errorf("REST: %s", got.body)
			}
			if err != nil || m.GetDecision() != authzdv1.Decision_DECISION_DENY {
				t.Errorf("gRPC: %v, %v", m, err)
			}
			if !strings.Contains(batch, `"DENY"`) || strings.Contains(batch, "ALLOW") || !strings.Contains(batch, c.rejected) {
				t.Errorf("batch: %s", batch)
			}
		})
	}
	homeless := s.as(t, s.clientCA.client(t, named("homeless")))
	if got := homeless.post(t, "/v1/check", query("read", `{}`, claims(``))); got.status != 403 || got.json(t)["path"] != "/mcp/server" {
		t.Errorf("an MCP server for a caller without one: %s", got.body)
	}
	filter := filterBody(`[{"name": "read"}]`, claims(`, "scope": "read"`))
	if got := believed.post(t, filterPath, filter); !strings.Contains(string(got.body), `"POSSIBLE"`) {
		t.Errorf("tools with assert: %s", got.body)
	}
	if got := reader.post(t, filterPath, filter); !strings.Contains(string(got.body), `"needs":{"token":true}`) || !strings.Contains(string(got.body), "token.asserter") {
		t.Errorf("tools without assert: %s", got.body)
	}
	if got := homeless.post(t, filterPath, filter); got.status != 403 || got.json(t)["path"] != "/mcp/server" {
		t.Errorf("tools of an MCP server for a caller without one: %s", got.body)
	}
	plan := `{"credentials": [{"id": "a", "claims": ` + claims(`, "scope": "read"`) + `}], "calls": [{"mcp": {"method": "tools/call", "params": {"name": "read", "arguments": {}}, "server": "https://mcp.example.com", "transport": "http"}}]}`
	if got := believed.post(t, "/v1/authorization-details:plan", plan).json(t); got["status"] != "allowed" {
		t.Errorf("a plan with assert: %v", got)
	}
	if got := reader.post(t, "/v1/authorization-details:plan", plan); got.status != 200 || got.json(t)["status"] != "obtainable" && got.json(t)["status"] != "denied" {
		t.Errorf("a plan without assert: %s", got.body)
	}
}
