package api

import (
	"context"
	"crypto/x509"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/authzd/authzd/api/callers"
	"github.com/authzd/authzd/engine"
)

// Access says how connections are secured and who may call. The zero Access
// listens on loopback only, where whoever can connect has every right.
type Access struct {
	// CertFile and KeyFile hold the certificate chain and key (PEM) of both
	// listeners; both or neither. Default none: no TLS.
	CertFile, KeyFile string
	// ClientCAFile holds the certificates (PEM) of those who may vouch for
	// callers; default none: no client certificates. Certificates are required,
	// or optional where KeysFile is set. It needs CertFile and CallersFile.
	ClientCAFile string
	// CallersFile gives the names in client certificates their rights.
	CallersFile string
	// KeysFile holds static keys; default none.
	KeysFile string
	// Now is the clock of expiry; default time.Now.
	Now func() time.Time
}

// known tells whether callers are told apart.
func (a Access) known() bool { return a.KeysFile != "" || a.ClientCAFile != "" }

// secured tells whether the doors may be reached by others than this host.
func (a Access) secured() bool { return a.CertFile != "" && a.known() }

func (a Access) validate() error {
	switch {
	case (a.CertFile == "") != (a.KeyFile == ""):
		return errors.New("a TLS certificate and its key belong together: give both")
	case a.ClientCAFile != "" && a.CertFile == "":
		return errors.New("client certificates need TLS: give a certificate and key of the server")
	case (a.ClientCAFile == "") != (a.CallersFile == ""):
		return errors.New("the file of client CAs and the file that gives callers their rights belong together: give both")
	}
	return nil
}

// access is the state of Access: both parts are replaced as a whole when files
// change.
type access struct {
	opts  Access
	book  atomic.Pointer[callers.Book]
	tls   atomic.Pointer[tlsState]
	files []*watched
}

func newAccess(a Access) (*access, error) {
	if err := a.validate(); err != nil {
		return nil, err
	}
	if a.Now == nil {
		a.Now = time.Now
	}
	x := &access{opts: a}
	if a.CertFile != "" {
		x.files = append(x.files, watch("tls", x.loadTLS, a.CertFile, a.KeyFile, a.ClientCAFile))
	}
	if a.known() {
		x.files = append(x.files, watch("callers", x.loadBook, a.KeysFile, a.CallersFile))
	}
	for _, f := range x.files {
		f.look()
		if err := f.load(); err != nil {
			return nil, err
		}
	}
	return x, nil
}

func (x *access) loadBook() error {
	book, err := callers.Load(x.opts.KeysFile, x.opts.CallersFile)
	if err != nil {
		// Whoever removed the file meant that nobody is let in; and whoever made it
		// unreadable may have revoked a key in it.
		if x.book.Load() != nil && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)) {
			x.book.Store(&callers.Book{})
		}
		return err //nolint:wrapcheck // names the file itself
	}
	x.book.Store(book)
	return nil
}

// refused is why somebody is not let in. It is for us: the caller is told the
// same for every reason.
type refused struct {
	reason callers.Reason
	// name is whose key or certificate was presented, where that is known.
	name string
}

func unauthenticated() *Error {
	return errorf(CodeUnauthenticated, "", "this server wants to know who calls: send a valid key as \"Authorization: Bearer\", or use a client certificate that it knows")
}

// credentialsOf are what a connection and a request present. A request that
// gives a key is judged by it alone, so that a bad key is never made good by
// the certificate of a proxy in between.
type credentialsOf struct {
	authorization []string
	chains        [][]*x509.Certificate
}

// identify finds the caller.
func (x *access) identify(p credentialsOf) (callers.Caller, *refused) {
	if !x.opts.known() {
		return callers.Caller{Rights: callers.All}, nil
	}
	now, book := x.opts.Now(), x.book.Load()
	switch {
	case len(p.authorization) == 1:
		key, ok := bearer(p.authorization[0])
		if !ok {
			return callers.Caller{}, &refused{reason: callers.ReasonMalformed}
		}
		c, name, why := book.ByKey(key, now)
		if why != "" {
			return callers.Caller{}, &refused{why, name}
		}
		return c, nil
	case len(p.authorization) > 1:
		return callers.Caller{}, &refused{reason: callers.ReasonMalformed}
	case len(p.chains) == 0:
		return callers.Caller{}, &refused{reason: callers.ReasonNone}
	}
	if !x.stillVouchedFor(p.chains, now) {
		return callers.Caller{}, &refused{reason: callers.ReasonCertificate}
	}
	name, err := callers.NameOf(p.chains[0][0])
	if err != nil {
		return callers.Caller{}, &refused{reason: callers.ReasonCertificate}
	}
	c, why := book.ByName(name)
	if why != "" {
		return callers.Caller{}, &refused{why, name}
	}
	return c, nil
}

// bearer takes the token of an Authorization header (RFC 6750 section 2.1; the
// scheme in any case, RFC 9110 section 11.1).
func bearer(header string) (string, bool) {
	scheme, token, ok := strings.Cut(header, " ")
	return token, ok && strings.EqualFold(scheme, "Bearer")
}

// enter is the one check of who may call what: both doors ask it for every
// call, before the body is read. It settles the caller of c.
func (s *Server) enter(ctx context.Context, c *call, method string, who func() (callers.Caller, *refused)) error {
	need := needOf(method)
	if !need.open {
		if err := s.settleCaller(ctx, c, method, need, who); err != nil {
			return err
		}
	}
	if s.isFull(peerOf(ctx), *c) {
		return errUnread
	}
	if !need.decides() || fromGateway(ctx) { // counted where it came in
		return nil
	}
	var err error
	c.arrival, err = s.pool.arrive(ctx, c.caller.Name) // before anything of it is read
	return err
}

// settleCaller settles who calls, and that he may.
func (s *Server) settleCaller(ctx context.Context, c *call, method string, may need, who func() (callers.Caller, *refused)) error {
	caller, why := who()
	if why != nil {
		s.logRefused(ctx, *c, why.reason, why.name, method)
		return unauthenticated()
	}
	c.caller = caller
	switch {
	case !may.known:
		return errorf(CodeNotFound, "", "no such method")
	case may.right != 0 && !caller.Rights.Has(may.right):
		s.logRefused(ctx, *c, callers.ReasonRight, caller.Name, method)
		return rightMissing("", may.right)
	}
	return nil
}

func rightMissing(path string, right callers.Rights) *Error {
	return errorf(CodeRightMissing, path, "this needs the right %q, which the caller does not have", right)
}

// logRefused writes a line that an operator sees only where a known name was
// presented: anybody can send anything else, as often as they like.
func (s *Server) logRefused(ctx context.Context, c call, why callers.Reason, name, method string) {
	s.metrics.refusals.WithLabelValues(string(why), string(c.door)).Inc()
	level := slog.LevelDebug
	if name != "" {
		level = slog.LevelWarn
	}
	s.log.LogAttrs(ctx, level, "caller refused", slog.String("request_id", c.requestID), slog.String("door", string(c.door)),
		slog.String("reason", string(why)), slog.String("caller", name), slog.String("method", method))
}

// webCaller finds the caller of an HTTP request: by its key or the certificate
// of its connection, and by nothing else that it says.
func (s *Server) webCaller(r *http.Request) (callers.Caller, *refused) {
	p := credentialsOf{authorization: r.Header["Authorization"]}
	if r.TLS != nil {
		p.chains = r.TLS.VerifiedChains
	}
	return s.access.identify(p)
}

// rpcCaller finds the caller of a gRPC call. The gateway's word is taken on the
// in-memory connection, which no client can reach.
func (s *Server) rpcCaller(ctx context.Context) (callers.Caller, *refused) {
	if fromGateway(ctx) {
		if c, ok := carried(ctx); ok {
			return c, nil
		}
		return callers.Caller{}, &refused{reason: callers.ReasonNone}
	}
	var p credentialsOf
	p.authorization = metadata.ValueFromIncomingContext(ctx, "authorization")
	if at, ok := peer.FromContext(ctx); ok {
		if info, ok := at.AuthInfo.(credentials.TLSInfo); ok {
			p.chains = info.State.VerifiedChains
		}
	}
	return s.access.identify(p)
}

// fromGateway recognises the gateway's connection by its type.
func fromGateway(ctx context.Context) bool {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return false
	}
	_, inside := p.Addr.(memoryAddr)
	return inside
}

// Keys of the caller that the HTTP door has verified, on its way through the
// gateway. They count on the in-memory connection only.
const (
	callerNameKey     = "authzd-caller-name-bin"
	callerRightsKey   = "authzd-caller-rights"
	callerAudienceKey = "authzd-caller-audience-bin"
)

func carry(c callers.Caller) metadata.MD {
	return metadata.Pairs(callerNameKey, c.Name, callerRightsKey, strconv.Itoa(int(c.Rights)), callerAudienceKey, c.Audience)
}

func carried(ctx context.Context) (c callers.Caller, ok bool) {
	one := func(key string) string {
		v := metadata.ValueFromIncomingContext(ctx, key)
		if len(v) != 1 {
			ok = false
			return ""
		}
		return v[0]
	}
	ok = true
	c.Name, c.Audience = one(callerNameKey), one(callerAudienceKey)
	rights, err := strconv.ParseUint(one(callerRightsKey), 10, 16)
	if err != nil || !ok {
		return callers.Caller{}, false
	}
	c.Rights = callers.Rights(rights)
	return c, true
}

// audience is of queries that name no MCP server.
func (s *Server) audience(c call) string {
	if c.caller.Audience != "" {
		return c.caller.Audience
	}
	return s.opts.Audience
}

// believe takes from r what its caller may not assert (docs/security.md). Such
// claims are a credential that does not count. What else says who is meant is
// refused, because without it the question would be another one: a subject that
// no credential names, its properties, and an MCP server that is not the one
// configured for the caller, for whose tokens it would be believed. r.Query has
// its Audience.
func (c call) believe(r *Request) error {
	if c.caller.Rights.Has(callers.Assert) {
		return nil
	}
	q := r.Query
	if err := c.meant(q, len(q.Credentials)+len(q.Rejected)); err != nil {
		return err
	}
	if mapping := q.Mapping; mapping != nil {
		// The tool's entry is the caller's word, and says here what is asked.
		q.Mapping = func(ctx context.Context, in engine.MappingInput) (engine.Mapped, error) {
			if in.Mode == engine.RefuseDeclared {
				return mapping(ctx, in)
			}
			return engine.Mapped{}, rightMissing(mappingPath, callers.Assert)
		}
	}
	var believed []engine.Credential
	rejected := append([]engine.RejectedCredential(nil), q.Rejected...)
	for i := range q.Credentials {
		if q.Credentials[i].VerifiedBy == verifiedByPEP {
			rejected = append(rejected, engine.RejectedCredential{ID: q.Credentials[i].ID, Code: engine.CodeTokenAsserter})
			continue
		}
		believed = append(believed, q.Credentials[i])
	}
	q.Credentials, q.Rejected = believed, rejected
	return nil
}

// meant is the part of believe that refuses. q has its Audience, and presents n
// credentials.
func (c call) meant(q *engine.Query, n int) error {
	if c.caller.Rights.Has(callers.Assert) {
		return nil
	}
	if q.MCP != nil && q.MCP.Server != "" && q.MCP.Server != q.Audience {
		return rightMissing("/mcp/server", callers.Assert)
	}
	if s := q.Subject; s != nil {
		if n == 0 {
			return rightMissing("/subject", callers.Assert)
		}
		// A credential names a person or a client; of what type policy would take
		// that to be is not for this caller to say.
		if s.Type != subjectType {
			return rightMissing("/subject/type", callers.Assert)
		}
		for i := range s.Properties.Len() {
			if m := s.Properties.Member(i); m.Name != "issuer" {
				return rightMissing("/subject/properties/"+escape(m.Name), callers.Assert)
			}
		}
	}
	return nil
}

// subjectType is the type of subjects that credentials name.
const subjectType = "identity"

// verifiedByPEP marks claims that a caller asserts.
const verifiedByPEP = "pep"
