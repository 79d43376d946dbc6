package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

const (
	introspectionTimeout = 2 * time.Second
	maxIntrospection     = 64 << 10
)

// introspector asks the authorization server what an access token stands for
// (RFC 7662). A server whose tokens are JWTs would verify a signature instead;
// authzd gets claims either way.
type introspector struct {
	url    string
	secret string
	client *http.Client
}

// claims returns the token's claims, or nil if it is not active. Whether they
// suit the call, its audience and time included, is authzd's to judge.
func (i *introspector) claims(ctx context.Context, token string) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, introspectionTimeout)
	defer cancel()
	form := url.Values{"token": {token}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, i.url, strings.NewReader(form))
	if err != nil {
		return nil, fmt.Errorf("introspect: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("payments-server", i.secret)
	resp, err := i.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("introspect: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("introspect: status %d", resp.StatusCode)
	}
	// Members stay JSON text: an amount in authorization_details keeps its digits.
	var claims map[string]json.RawMessage
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxIntrospection)).Decode(&claims); err != nil {
		return nil, fmt.Errorf("introspect: %w", err)
	}
	if string(claims["active"]) != "true" {
		return nil, nil
	}
	delete(claims, "active")
	delete(claims, "token_type")
	return json.Marshal(claims)
}

// verify is an [auth.TokenVerifier]. It keeps the claims for [pep.VerifiedToken].
func (i *introspector) verify(ctx context.Context, token string, _ *http.Request) (*auth.TokenInfo, error) {
	claims, err := i.claims(ctx, token)
	if err != nil {
		// The SDK shows this text to the client.
		return nil, errors.New("the token cannot be verified now")
	}
	if claims == nil {
		return nil, auth.ErrInvalidToken
	}
	var known struct {
		Issuer  string `json:"iss"`
		Subject string `json:"sub"`
		Expires int64  `json:"exp"`
	}
	if err := json.Unmarshal(claims, &known); err != nil || known.Expires <= 0 {
		return nil, auth.ErrInvalidToken
	}
	return &auth.TokenInfo{
		UserID:     known.Issuer + " " + known.Subject,
		Expiration: time.Unix(known.Expires, 0),
		Extra:      map[string]any{"claims": claims},
	}, nil
}

// ofFile returns a function that reads the token anew for each request, so that
// whoever started this server over stdio can replace it.
func (i *introspector) ofFile(path string) func(context.Context, mcp.Request) ([]*authzdv1.Credential, *authzdv1.Subject, error) {
	return func(ctx context.Context, _ mcp.Request) ([]*authzdv1.Credential, *authzdv1.Subject, error) {
		token := os.Getenv("PAYMENTS_TOKEN")
		if path != "" {
			content, err := os.ReadFile(path) //nolint:gosec // the operator's own flag
			if err != nil {
				return nil, nil, fmt.Errorf("read token file: %w", err)
			}
			token = strings.TrimSpace(string(content))
		}
		if token == "" {
			return nil, nil, nil
		}
		claims, err := i.claims(ctx, token)
		if err != nil || claims == nil {
			return nil, nil, err
		}
		return []*authzdv1.Credential{{Id: "access-token", Claims: claims}}, nil, nil
	}
}
