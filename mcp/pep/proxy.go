package pep

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

// UpstreamAuth says which credential the server behind a [Proxy] is sent.
type UpstreamAuth string

// The ways of UpstreamAuth.
const (
	// AuthNone sends none: the server trusts whoever reaches it.
	AuthNone UpstreamAuth = "none"
	// AuthHeader sends one header of the proxy's own.
	AuthHeader UpstreamAuth = "header"
	// AuthPassthrough hands the client's token on, which MCP forbids to a server
	// that the token was not issued for.
	AuthPassthrough UpstreamAuth = "passthrough"
)

// metadataPath is where protected resource metadata stands (RFC 9728 section 3).
const metadataPath = "/.well-known/oauth-protected-resource"

// ProxyOptions configure a Proxy. Enforcer and Upstream are required.
type ProxyOptions struct {
	Enforcer *Enforcer
	// Upstream is the server's MCP endpoint. The proxy serves at the same path.
	Upstream *url.URL
	// UpstreamAuth; default AuthNone.
	UpstreamAuth UpstreamAuth
	// UpstreamHeader is the name and value of AuthHeader's header.
	UpstreamHeader [2]string
	// Transport reaches the server; default one with a pool for many sessions.
	Transport http.RoundTripper
	// Subject is on whose behalf every client acts. Default nil: a client shows
	// an access token.
	Subject *authzdv1.Subject
	// PublicURL is the endpoint as clients see it, which DPoP proofs name;
	// default the Enforcer's Server.
	PublicURL string
	// AllowedHosts are further names that a request may give as Host; loopback
	// and the host of PublicURL always may.
	AllowedHosts []string
	// AllowedOrigins are web origins whose pages may call; default none.
	AllowedOrigins []string
	// Metadata gives the members of RFC 9728 metadata that follow from policy, a
	// JSON object; default none.
	Metadata func(context.Context) ([]byte, error)
	// AuthorizationServers go into the metadata.
	AuthorizationServers []string
	// MaxSessions and SessionTTL bound what is remembered of sessions; default
	// DefaultMaxSessions and DefaultSessionTTL.
	MaxSessions int
	SessionTTL  time.Duration
}

// Proxy enforces in front of a server that speaks streamable HTTP. It is an
// [http.Handler].
type Proxy struct {
	o        ProxyOptions
	e        *Enforcer
	sessions *sessions
	admitted *admitted
	upstream *httputil.ReverseProxy
	hosts    []string
	// loose are tools of servers without sessions, by whoever asked.
	loose *looseTools
	// draining is done when streams are to end.
	draining context.Context //nolint:containedctx // the handler's life, not a call's
	drain    context.CancelFunc
}

// NewProxy makes a Proxy. It opens no connection.
func NewProxy(o ProxyOptions) (*Proxy, error) {
	switch {
	case o.Enforcer == nil || o.Upstream == nil:
		return nil, errors.New("pep: Enforcer and Upstream are required")
	case o.Upstream.Scheme != "http" && o.Upstream.Scheme != "https" || o.Upstream.Host == "" || o.Upstream.User != nil || o.Upstream.Fragment != "":
		return nil, errors.New("pep: Upstream is an http or https URL without user and fragment")
	}
	switch o.UpstreamAuth {
	case "":
		o.UpstreamAuth = AuthNone
	case AuthNone, AuthPassthrough:
	case AuthHeader:
		if o.UpstreamHeader[0] == "" || o.UpstreamHeader[1] == "" {
			return nil, errors.New("pep: UpstreamAuth header needs a name and a value")
		}
	default:
		return nil, errors.New("pep: UpstreamAuth is none, header or passthrough")
	}
	if o.PublicURL == "" {
		o.PublicURL = o.Enforcer.opts.Server
	}
	if o.MaxSessions <= 0 {
		o.MaxSessions = DefaultMaxSessions
	}
	if o.SessionTTL <= 0 {
		o.SessionTTL = DefaultSessionTTL
	}
	if o.Transport == nil {
		o.Transport = upstreamTransport()
	}
	p := &Proxy{
		o: o, e: o.Enforcer, sessions: newSessions(o.MaxSessions, o.SessionTTL, o.Enforcer.opts.Now),
		hosts: slices.Clone(o.AllowedHosts), loose: newLooseTools(), admitted: newAdmitted(),
	}
	if u, err := url.Parse(o.PublicURL); err == nil && u.Host != "" {
		p.hosts = append(p.hosts, u.Hostname())
	}
	p.upstream = p.reverse()
	p.draining, p.drain = context.WithCancel(context.Background())
	return p, nil
}

// Drain ends the streams that clients listen to, which would otherwise hold up a
// shutdown. Calls under way go on.
func (p *Proxy) Drain() { p.drain() }

// Sessions is how many sessions are remembered.
func (p *Proxy) Sessions() int { return p.sessions.len() }

// ServeHTTP serves the endpoint and the resource's metadata, and nothing else of
// the server.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !p.Serves(r.Host) {
		http.Error(w, "this host is not served here", http.StatusMisdirectedRequest)
		return
	}
	if !p.page(w, r) {
		return
	}
	// What a client names in Connection is taken off on the way, so after it was
	// judged.
	for _, names := range r.Header.Values("Connection") {
		for name := range strings.SplitSeq(names, ",") {
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "", "keep-alive", "close", "te":
			default:
				http.Error(w, "the header Connection names what this server does not know", http.StatusBadRequest)
				return
			}
		}
	}
	// What changes the protocol would be a way past every message.
	if r.Header.Get("Upgrade") != "" {
		http.Error(w, "this server does not change protocols", http.StatusBadRequest)
		return
	}
	path := p.endpoint()
	if p.isMetadata(r) {
		p.metadata(w, r)
		return
	}
	if r.URL.Path != path || r.URL.RawQuery != "" {
		http.NotFound(w, r)
		return
	}
	switch r.Method {
	case http.MethodPost:
		p.post(w, r)
	case http.MethodGet, http.MethodDelete:
		p.other(w, r)
	default:
		w.Header().Set("Allow", "GET, POST, DELETE")
		http.Error(w, "this method is not served here", http.StatusMethodNotAllowed)
	}
}

func (p *Proxy) endpoint() string {
	if path := p.o.Upstream.Path; path != "" {
		return path
	}
	return "/"
}

// Serves tells whether a request may give this Host; see AllowedHosts.
func (p *Proxy) Serves(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	if ip, err := netip.ParseAddr(name); err == nil && ip.Unmap().IsLoopback() || strings.EqualFold(name, "localhost") {
		return true
	}
	return slices.ContainsFunc(p.hosts, func(h string) bool { return strings.EqualFold(h, name) })
}

// caller reads on whose authority a request comes.
func (p *Proxy) caller(r *http.Request) (Caller, error) {
	c := Caller{Transport: "http"}
	if p.o.Subject != nil {
		c.Subject = p.o.Subject
		return c, nil
	}
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return c, nil
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if token = strings.TrimSpace(token); len(values) > 1 || !ok || token == "" {
		return c, errors.New("the header Authorization is not one scheme and one token")
	}
	if !strings.EqualFold(scheme, "Bearer") && !strings.EqualFold(scheme, "DPoP") {
		return c, errors.New("the scheme of the header Authorization is neither Bearer nor DPoP")
	}
	credential := &authzdv1.Credential{Id: "access-token", AccessToken: token, Scheme: scheme}
	if proofs := r.Header.Values("DPoP"); len(proofs) > 1 {
		return c, errors.New("the header DPoP is repeated")
	} else if len(proofs) == 1 {
		credential.DpopProof, credential.HttpMethod, credential.HttpUrl = proofs[0], r.Method, p.o.PublicURL
	}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		sum := sha256.Sum256(r.TLS.PeerCertificates[0].Raw)
		credential.CertificateThumbprint = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	c.Credentials = []*authzdv1.Credential{credential}
	return c, nil
}

// metadata serves protected resource metadata: what the live policy can ask for,
// and who issues tokens.
func (p *Proxy) metadata(w http.ResponseWriter, r *http.Request) {
	doc := rar.ObjectValue(rar.Member{Name: "resource", Value: rar.StringValue(p.e.opts.Server)})
	if len(p.o.AuthorizationServers) > 0 {
		doc = with(doc, "authorization_servers", stringsValue(p.o.AuthorizationServers))
	}
	if p.o.Metadata != nil {
		ctx, cancel := context.WithTimeout(r.Context(), p.e.opts.Timeout)
		defer cancel()
		raw, err := p.o.Metadata(ctx)
		more, decodeErr := rar.DecodeStrict(raw, rar.Limits{MaxBytes: DefaultMaxMessage})
		if err = errors.Join(err, decodeErr); err != nil {
			p.e.opts.Log.LogAttrs(ctx, slog.LevelError, "resource metadata", slog.String("error", err.Error()))
			http.Error(w, "the metadata is not to be had now", http.StatusServiceUnavailable)
			return
		}
		for i := range more.Len() {
			if m := more.Member(i); m.Name != "resource" {
				doc = with(doc, m.Name, m.Value)
			}
		}
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "max-age=60")
	_, _ = w.Write(doc.AppendJSON(nil)) // the client has gone
}
