package credentials

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/authzd/authzd/rar"
)

const (
	fetchTimeout  = 5 * time.Second
	maxFetchBytes = 256 << 10
	maxAnswer     = 64 << 10
	maxHeader     = 16 << 10
)

// newClient makes the one HTTP client of a Verifier. It follows no redirect: a
// redirect is how an issuer's host would make us ask somebody inside our
// network. It uses no proxy, and reads no environment.
func newClient(transport http.RoundTripper) *http.Client {
	if transport == nil {
		transport = &http.Transport{
			DialContext:            (&net.Dialer{Timeout: fetchTimeout}).DialContext,
			ForceAttemptHTTP2:      true,
			TLSHandshakeTimeout:    fetchTimeout,
			ResponseHeaderTimeout:  fetchTimeout,
			MaxResponseHeaderBytes: maxHeader,
			MaxIdleConnsPerHost:    4,
			IdleConnTimeout:        90 * time.Second,
			DisableCompression:     true,
		}
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// isLoopback tells this machine by address or by the one name that RFC 6761
// reserves for it.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

var (
	errStatus = errors.New("answered with another status than 200")
	errTooBig = errors.New("the answer is too large")
)

// do sends a request within fetchTimeout and reads at most limit bytes. Errors
// hold no body: it may be a page that echoes what was sent.
func do(ctx context.Context, c *http.Client, req *http.Request, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req.Header.Set("Accept", "application/json")
	res, err := c.Do(req.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: %d", errStatus, res.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(body)) > limit:
		return nil, errTooBig
	}
	return body, nil
}

func get(ctx context.Context, c *http.Client, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	return do(ctx, c, req, maxFetchBytes)
}

// discover reads the address of the keys from the issuer's metadata. The
// metadata counts only if it names exactly this issuer (RFC 8414 section 3.3).
func discover(ctx context.Context, c *http.Client, issuer string) (string, error) {
	u, err := url.Parse(issuer)
	if err != nil {
		return "", err
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	origin := u.Scheme + "://" + u.Host
	var faults []error
	for _, address := range []string{
		origin + "/.well-known/oauth-authorization-server" + path,
		origin + path + "/.well-known/openid-configuration",
	} {
		jwks, err := readMetadata(ctx, c, address, issuer)
		if err == nil {
			return jwks, nil
		}
		faults = append(faults, fmt.Errorf("metadata %s: %w", address, err))
	}
	return "", errors.Join(faults...)
}

func readMetadata(ctx context.Context, c *http.Client, address, issuer string) (string, error) {
	body, err := get(ctx, c, address)
	if err != nil {
		return "", err
	}
	m, err := rar.DecodeStrict(body, rar.Limits{MaxBytes: maxFetchBytes})
	if err != nil {
		return "", errNoJSON
	}
	if named, _ := m.Get("issuer"); named.Kind() != rar.String || named.Text() != issuer {
		return "", errors.New("is another issuer's")
	}
	v, _ := m.Get("jwks_uri")
	jwks := v.Text()
	if err := checkURL(jwks); err != nil {
		return "", fmt.Errorf("jwks_uri: %w", err)
	}
	// An issuer elsewhere does not send us to services of this machine.
	if isLoopback(hostname(jwks)) && !isLoopback(hostname(issuer)) {
		return "", errors.New("jwks_uri: leads to this machine")
	}
	return jwks, nil
}

func hostname(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Hostname()
}
