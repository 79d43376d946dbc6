package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

const hinted = `[{"type":"payment_initiation","actions":["initiate"],"locations":["https://mcp.example.com"],` +
	`"instructedAmount":{"currency":"EUR","amount":"120.00"},"creditorAccount":{"iban":"DE89370400440532013000"}}]`

func TestChallengeInWords(t *testing.T) {
	t.Parallel()
	remediation := base64.RawURLEncoding.EncodeToString([]byte(`{"authorization_details":` + hinted + `}`))
	o, err := (&challengeError{status: 401, headers: []string{
		`Bearer error="insufficient_authorization", error_description="no, not yet", authorization_remediation="` + remediation + `", scope="payments"`,
	}}).outcome()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	(&screen{out: &out}).approval(o.refused)
	for _, want := range []string{"initiate one payment of 120.00 EUR", "to the account DE89370400440532013000", "at https://mcp.example.com"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, out.String())
		}
	}
}

func TestChallengeWithoutRemedy(t *testing.T) {
	t.Parallel()
	for _, header := range []string{
		"",
		"Bearer",
		`Bearer error="invalid_token"`,
		`Bearer error="insufficient_authorization"`,
		`Bearer error="insufficient_authorization", authorization_remediation="%%%"`,
		`Bearer error="insufficient_authorization", authorization_remediation="W10"`,
		`Bearer error="`,
	} {
		if o, err := (&challengeError{status: 401, headers: []string{header}}).outcome(); err == nil {
			t.Errorf("%q: %+v, want an error", header, o.refused)
		}
	}
}

func TestResultOfADenial(t *testing.T) {
	t.Parallel()
	read := func(text string) (outcome, error) {
		var result mcp.CallToolResult
		if err := json.Unmarshal([]byte(text), &result); err != nil {
			t.Fatal(err)
		}
		return (&agent{}).read(&result)
	}
	o, err := read(`{"content":[{"type":"text","text":"ask"}],"isError":true,"_meta":{"` + envelopeKey + `":{"reason":"insufficient_authorization",
		"remediation":"available","remediationHints":[{"type":"of tomorrow"},{"type":"authorization_remediation","authorization_details":` + hinted + `}]}}}`)
	if err != nil || o.refused == nil || o.refused.final || !strings.Contains(string(o.refused.details), "120.00") {
		t.Errorf("refused = %+v, %v", o.refused, err)
	}
	o, err = read(`{"content":[{"type":"text","text":"blocked"}],"isError":true,"_meta":{"` + envelopeKey + `":{"reason":"insufficient_authorization","remediation":"unavailable"}}}`)
	if err != nil || o.refused == nil || !o.refused.final || o.refused.details != nil {
		t.Errorf("refused = %+v, %v", o.refused, err)
	}
	if _, err = read(`{"content":[{"type":"text","text":"no such payment"}],"isError":true}`); err == nil {
		t.Error("a failed tool is no refusal and no payment, but there was no error")
	}
}

// A step that fails, fails the demo, and the later steps still run.
func TestFailedStepFailsTheDemo(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	d := &demo{screen: screen{out: &out}, logs: &logTail{}}
	ran := 0
	for _, err := range []error{nil, errors.New("surprise"), nil} {
		d.step(t.Context(), "a step", func(context.Context) error { ran++; return err })
	}
	if err := d.summary(); err == nil || ran != 3 {
		t.Errorf("summary = %v after %d steps", err, ran)
	}
	if !strings.Contains(out.String(), "FAILED   2. a step") || !strings.Contains(out.String(), "surprise") {
		t.Errorf("the screen does not tell:\n%s", out.String())
	}
}

// Nothing is granted that no refusal asked for.
func TestNoTokenWithoutRefusal(t *testing.T) {
	t.Parallel()
	d := &demo{screen: screen{out: &bytes.Buffer{}}, authority: &authority{granted: map[string]map[string]any{}}}
	if _, err := d.newToken(); err == nil || len(d.authority.granted) != 0 {
		t.Errorf("error %v, %d tokens", err, len(d.authority.granted))
	}
}

func TestIntrospection(t *testing.T) {
	t.Parallel()
	a := &authority{secret: "s", granted: map[string]map[string]any{}}
	token := a.grant([]string{"payments"}, json.RawMessage(hinted))
	ask := func(secret, token string) (int, string) {
		form := url.Values{"token": {token}}.Encode()
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/introspect", strings.NewReader(form))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.SetBasicAuth("payments-server", secret)
		rec := httptest.NewRecorder()
		a.introspect(rec, req)
		return rec.Code, rec.Body.String()
	}
	if code, body := ask("s", token); code != http.StatusOK || !strings.Contains(body, `"active":true`) || !strings.Contains(body, `"120.00"`) {
		t.Errorf("%d %s", code, body)
	}
	if code, body := ask("s", "another"); code != http.StatusOK || strings.TrimSpace(body) != `{"active":false}` {
		t.Errorf("unknown token: %d %s", code, body)
	}
	if code, body := ask("guess", token); code != http.StatusUnauthorized || body != "" {
		t.Errorf("wrong secret: %d %s", code, body)
	}
}
