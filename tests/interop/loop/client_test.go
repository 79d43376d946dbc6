package loop_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"
)

// client is an MCP client's OAuth side together with its user's browser.
type client struct {
	as   *authServer
	id   string
	user string
	http *http.Client
	// key, if it has one, is what its tokens are bound to (RFC 9449).
	key *proofKey
}

func newClient(t *testing.T, as *authServer, id, user string) *client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	// Redirects are followed one by one: some lead to pages that the user answers.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client{as: as, id: id, user: user, http: &http.Client{Jar: jar, CheckRedirect: stay}}
}

// ask is what the client asks the authorization server for.
type ask struct {
	// Details is the text of authorization_details; empty leaves it out.
	Details  string
	Scope    string
	Resource string
}

// consent is the form that the user sends; the names are those of consent.mjs.
type consent map[string]string

// oauthError is an error answer of RFC 6749 section 5.2.
type oauthError struct {
	Status      int    `json:"-"`
	Code        string `json:"error"`
	Description string `json:"error_description"`
}

// token is a token response.
type token struct {
	oauthError
	Access  string          `json:"access_token"`
	Refresh string          `json:"refresh_token"`
	ID      string          `json:"id_token"`
	Type    string          `json:"token_type"`
	Scope   string          `json:"scope"`
	Details json.RawMessage `json:"authorization_details"`
}

// pushed is a request that the server has taken (RFC 9126).
type pushed struct {
	oauthError
	URI      string `json:"request_uri"`
	verifier string
	resource string
}

// obtain goes the whole way and fails the test unless it ends with a token.
func (c *client) obtain(t *testing.T, a ask, form consent) token {
	t.Helper()
	request := c.push(t, a)
	if request.Code != "" {
		t.Fatalf("request for %s refused: %+v", a.Details, request.oauthError)
	}
	code := c.authorize(t, request, form)
	tok := c.exchange(t, request, code)
	if tok.Code != "" || tok.Access == "" {
		t.Fatalf("no token for %s: %+v", a.Details, tok.oauthError)
	}
	return tok
}

// push sends the authorization request over the back channel (RFC 9126).
func (c *client) push(t *testing.T, a ask) pushed {
	t.Helper()
	verifier := rand.Text() + rand.Text()
	challenge := sha256.Sum256([]byte(verifier))
	form := url.Values{
		"response_type":         {"code"},
		"client_id":             {c.id},
		"redirect_uri":          {callback},
		"code_challenge_method": {"S256"},
		"code_challenge":        {base64.RawURLEncoding.EncodeToString(challenge[:])},
	}
	for name, value := range map[string]string{"scope": a.Scope, "resource": a.Resource, "authorization_details": a.Details} {
		if value != "" {
			form.Set(name, value)
		}
	}
	var out pushed
	out.Status = c.post(t, c.as.PAR, form, &out)
	out.verifier, out.resource = verifier, a.Resource
	return out
}

// authorize is the browser: it follows the server's redirects, logs its user in
// and answers the consent page, and returns the code that the client is sent.
func (c *client) authorize(t *testing.T, request pushed, form consent) string {
	t.Helper()
	query := url.Values{"client_id": {c.id}, "request_uri": {request.URI}}
	at := c.as.Authorization + "?" + query.Encode()
	for range 12 {
		if strings.HasPrefix(at, callback) {
			back, err := url.Parse(at)
			if err != nil || back.Query().Get("code") == "" || back.Query().Get("iss") != c.as.Issuer {
				t.Fatalf("back at the client: %s: %v", at, err)
			}
			return back.Query().Get("code")
		}
		at = c.step(t, at, form)
	}
	t.Fatal("the authorization server redirects in circles")
	return ""
}

// step loads one page and returns where the browser is sent next.
func (c *client) step(t *testing.T, at string, form consent) string {
	t.Helper()
	got := c.get(t, at)
	if got.Status == http.StatusOK {
		var page struct{ Prompt string }
		if err := json.Unmarshal(got.Body, &page); err != nil {
			t.Fatalf("%s: %v\n%s", at, err, got.Body)
		}
		answers := url.Values{"login": {c.user}}
		if page.Prompt == "consent" {
			answers = url.Values{}
			for name, value := range form {
				answers.Set(name, value)
			}
		}
		got = c.submit(t, at+"/"+page.Prompt, answers)
	}
	if got.Location == "" {
		t.Fatalf("%s: %d, and no way on\n%s", at, got.Status, got.Body)
	}
	return got.Location
}

func (c *client) get(t *testing.T, at string) reply {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	return send(t, c.http, req, http.StatusOK, http.StatusFound, http.StatusSeeOther)
}

func (c *client) submit(t *testing.T, at string, form url.Values) reply {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if c.key != nil && at == c.as.Token {
		req.Header.Set("DPoP", c.key.sign(t, newProof(at, "")))
	}
	return send(t, c.http, req,
		http.StatusOK, http.StatusCreated, http.StatusFound, http.StatusSeeOther, http.StatusBadRequest, http.StatusUnauthorized,
		http.StatusRequestEntityTooLarge)
}

// post sends a form to an endpoint that answers JSON and returns the status.
func (c *client) post(t *testing.T, at string, form url.Values, into any) int {
	t.Helper()
	got := c.submit(t, at, form)
	if err := json.Unmarshal(got.Body, into); err != nil {
		t.Fatalf("%s: %d: %v\n%s", at, got.Status, err, got.Body)
	}
	return got.Status
}

func (c *client) exchange(t *testing.T, request pushed, code string) token {
	t.Helper()
	return c.tokens(t, url.Values{
		"grant_type":    {"authorization_code"},
		"code":          {code},
		"code_verifier": {request.verifier},
		"redirect_uri":  {callback},
		"resource":      {request.resource},
	})
}

// refresh asks for a new access token; details, if not empty, for fewer than
// were granted (RFC 9396 section 6).
func (c *client) refresh(t *testing.T, refreshToken, details string) token {
	t.Helper()
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refreshToken}, "resource": {mcpServer}}
	if details != "" {
		form.Set("authorization_details", details)
	}
	return c.tokens(t, form)
}

func (c *client) tokens(t *testing.T, form url.Values) token {
	t.Helper()
	form.Set("client_id", c.id)
	var out token
	out.Status = c.post(t, c.as.Token, form, &out)
	return out
}
