package follow

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/bundles/registry"
)

const (
	dialTime = 5 * time.Second
	// pingEvery is how long a connection is silent before it is asked for a sign,
	// which has to come within pingTime.
	pingEvery = 10 * time.Second
	pingTime  = 5 * time.Second
	// answerTime is for the answer's head, beyond the wait.
	answerTime = 10 * time.Second
	// downloadTime is for all of an answer, beyond the wait.
	downloadTime = time.Minute
	maxHeader    = 16 << 10
	maxToken     = 16 << 10
	// maxTag bounds the tag that is sent with each request.
	maxTag = 256
	// typeLongPoll is how a source says that it keeps requests.
	typeLongPoll = "application/vnd.openpolicyagent.bundles"
)

func newTransport(config *tls.Config, wait time.Duration) *http.Transport {
	return &http.Transport{
		DialContext:       (&net.Dialer{Timeout: dialTime}).DialContext,
		ForceAttemptHTTP2: true,
		// A source whose host vanished sends nothing; without pings its connection
		// would be tried for minutes.
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingEvery, PingTimeout: pingTime},
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    dialTime,
		ResponseHeaderTimeout:  wait + answerTime,
		MaxResponseHeaderBytes: maxHeader,
		IdleConnTimeout:        90 * time.Second,
		DisableCompression:     true,
	}
}

// ParseURL is where the archive of a source is.
func ParseURL(s Source) (*url.URL, error) {
	bad := func(why string) error { return fmt.Errorf("follow: the URL of %q %s", s.Name, why) }
	if !registry.Named(s.Name) {
		return nil, fmt.Errorf("follow: %q is no name of a bundle", s.Name)
	}
	u, err := url.Parse(s.URL)
	switch {
	case err != nil, u.Host == "", u.Scheme != "https" && u.Scheme != "http":
		return nil, bad("is not https://HOST[:PORT][/PATH]")
	case u.User != nil, u.Fragment != "":
		return nil, bad("must have neither a user nor a fragment; a token is given by a file")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return nil, bad("must be https, because it is off loopback")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/bundles/" + s.Name + ".tar.gz"
	}
	return u, nil
}

// isLoopback tells this machine by address or by the one name that RFC 6761
// reserves for it.
func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

// declinedError is an answer that is neither an archive nor "not modified". It
// holds no body: that may be a page that echoes what was sent.
type declinedError struct{ status int }

// Error tells the number.
func (e *declinedError) Error() string {
	return "the source answered " + strconv.Itoa(e.status) + " " + http.StatusText(e.status)
}

// answer is an archive, or none if it is the one that is known.
type answer struct {
	etag    string
	archive []byte
	keeps   bool
	// latest is the tag of what the source has, if more is to come; "" if not.
	latest string
	// at is when it began, by the clock of ages.
	at time.Time
}

// ask sends one request; known is the tag of what is not wanted again.
func (f *follower) ask(ctx context.Context, known string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, f.wait+downloadTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url.String(), http.NoBody)
	if err != nil {
		return answer{}, fmt.Errorf("ask the source: %w", err)
	}
	// Delta bundles are taken of an authzd alone: others do not say what they change.
	prefer := "authzd-changes;modes=snapshot"
	if !f.unsure {
		prefer += ";wait=" + strconv.Itoa(max(1, int(f.wait/time.Second)))
	}
	req.Header.Set("Prefer", prefer)
	req.Header.Set("User-Agent", "authzd")
	if known != "" {
		req.Header.Set("If-None-Match", known)
	}
	if f.source.TokenFile != "" {
		token, err := readToken(f.source.TokenFile)
		if err != nil {
			return answer{}, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := f.client.Do(req)
	if err != nil {
		return answer{}, fmt.Errorf("ask the source: %w", err)
	}
	at := f.opts.Now()
	defer func() { _ = res.Body.Close() }()
	switch {
	case res.StatusCode == http.StatusNotModified && known != "":
		return answer{etag: known, at: at}, nil
	case res.StatusCode != http.StatusOK:
		return answer{}, &declinedError{res.StatusCode}
	}
	archive, err := io.ReadAll(io.LimitReader(res.Body, bundles.DefaultMaxArchiveBytes+1))
	switch {
	case err != nil:
		return answer{}, fmt.Errorf("read the archive: %w", err)
	case len(archive) > bundles.DefaultMaxArchiveBytes:
		return answer{}, fmt.Errorf("the archive is larger than %d bytes", bundles.DefaultMaxArchiveBytes)
	case len(archive) == 0:
		return answer{}, errors.New("the answer is empty")
	}
	return answer{etag: tagOf(res.Header.Get("ETag")), archive: archive, keeps: res.Header.Get("Content-Type") == typeLongPoll, latest: tagOf(res.Header.Get("X-Latest")), at: at}, nil
}

// tagOf is an entity tag that can be sent back (RFC 9110 section 8.8.3), or none.
func tagOf(header string) string {
	opaque := strings.TrimPrefix(header, "W/")
	if len(header) > maxTag || len(opaque) < 2 || opaque[0] != '"' || opaque[len(opaque)-1] != '"' {
		return ""
	}
	if strings.ContainsFunc(opaque[1:len(opaque)-1], func(r rune) bool { return r <= ' ' || r == '"' || r >= 0x7f }) {
		return ""
	}
	return header
}

func readToken(name string) (string, error) {
	file, err := os.Open(name) //nolint:gosec // the operator names the file
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	defer file.Close() //nolint:errcheck // read only, nothing to lose
	text, err := io.ReadAll(io.LimitReader(file, maxToken+1))
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" || len(text) > maxToken || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("read the token: %s holds no token", name)
	}
	return token, nil
}
