package pep

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/authzd/authzd/mcp"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

const (
	headerSession = "Mcp-Session-Id"
	headerVersion = "Mcp-Protocol-Version"
	// lastBatches is the one revision of streamable HTTP that has JSON-RPC
	// batches.
	lastBatches = "2025-03-26"
	// bodyTime is how long a client may take to send one message.
	bodyTime = 30 * time.Second
)

// exchange is one HTTP request of a client and what its answer needs.
type exchange struct {
	caller Caller
	// standing is the session and the credential without its proof.
	standing [sha256.Size]byte
	// body is what the client posted; nil for other methods.
	body []byte
	// session is the one that the request belongs to; never nil, but without id
	// where the server has no sessions.
	session *httpSession
	// own are this request's messages whose answers are looked at.
	own map[string]pending
	// answered are those whose answer has come; dropped: a message that could be
	// one was not passed on.
	answered map[string]bool
	dropped  bool
	// owner is who has begun a session with this request.
	owner *authzdv1.Identity
	// until is when the leave to have it ends.
	until time.Time
	// id is that of the request, for errors of ours.
	id rar.Value
}

type exchangeKey struct{}

// post judges the messages of one POST and lets its body go on as it came.
func (p *Proxy) post(w http.ResponseWriter, r *http.Request) {
	// What is decided as UTF-8 must not be read as something else.
	kind, more, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if charset, given := more["charset"]; err != nil || kind != "application/json" || len(r.Header.Values("Content-Type")) > 1 ||
		given && !strings.EqualFold(charset, "utf-8") {
		http.Error(w, "the body must be application/json in UTF-8", http.StatusUnsupportedMediaType)
		return
	}
	if r.Header.Get("Content-Encoding") != "" {
		http.Error(w, "the body must not be encoded", http.StatusUnsupportedMediaType)
		return
	}
	// Where the connection has no deadlines it has none to set.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(p.e.opts.Now().Add(bodyTime))
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(p.e.opts.MaxMessage)))
	if err != nil {
		var tooLong *http.MaxBytesError
		if errors.As(err, &tooLong) {
			p.send(w, failure(rar.Value{}, http.StatusRequestEntityTooLarge, rpcInvalidRequest,
				"The message is longer than "+strconv.Itoa(p.e.opts.MaxMessage)+" bytes."))
			return
		}
		// It was too slow, or has gone.
		w.Header().Set("Connection", "close")
		http.Error(w, "the body did not come", http.StatusRequestTimeout)
		return
	}
	_ = control.SetReadDeadline(time.Time{})
	list, batch, err := decode(raw, p.e.opts.MaxMessage)
	if err != nil {
		p.send(w, malformed(err))
		return
	}
	x, refused := p.begin(r)
	if refused != nil {
		p.send(w, *refused)
		return
	}
	if batch && x.caller.ProtocolVersion != lastBatches {
		p.send(w, failure(rar.Value{}, http.StatusBadRequest, rpcInvalidRequest, "This revision of MCP has no JSON-RPC batches."))
		return
	}
	if refused := p.judge(r, x, list, batch); refused != nil {
		p.send(w, *refused)
		return
	}
	x.body = raw
	out := r.Clone(context.WithValue(r.Context(), exchangeKey{}, x))
	x.send(out)
	p.upstream.ServeHTTP(w, out)
}

// begin finds out who calls, and in which session.
func (p *Proxy) begin(r *http.Request) (*exchange, *reply) {
	x := &exchange{own: map[string]pending{}, answered: map[string]bool{}}
	var err error
	if x.caller, err = p.caller(r); err != nil {
		bad := failure(rar.Value{}, http.StatusBadRequest, rpcInvalidRequest, err.Error())
		return nil, &bad
	}
	x.standing = standingOf(r.Header.Get(headerSession), x.caller)
	version := r.Header.Get(headerVersion)
	x.caller.ProtocolVersion = version
	ids := r.Header.Values(headerSession)
	if len(ids) == 0 {
		x.session = &httpSession{session: session{version: version}}
		return x, nil
	}
	x.session = p.sessions.get(ids[0])
	if x.session == nil && p.e.opts.Observe {
		x.session = &httpSession{session: session{version: version}}
	}
	if x.session == nil || len(ids) > 1 {
		// MCP, session management: the client begins a new one.
		gone := failure(rar.Value{}, http.StatusNotFound, rpcInvalidRequest, "This session is not known here. Begin a new one.")
		return nil, &gone
	}
	x.caller = x.session.describe(x.caller, &message{})
	if version != "" && x.caller.ProtocolVersion != "" && version != x.caller.ProtocolVersion {
		bad := failure(rar.Value{}, http.StatusBadRequest, rpcInvalidRequest, "The protocol version is not that of the session.")
		return nil, &bad
	}
	return x, nil
}

// judge decides every message. It returns what the client is answered; nil: the
// request goes on.
func (p *Proxy) judge(r *http.Request, x *exchange, list []message, batch bool) *reply {
	refused := map[int]reply{}
	for i := range list {
		if out := p.judgeOne(r, x, &list[i]); out != nil {
			refused[i] = *out
		}
	}
	if len(refused) == 0 {
		return nil
	}
	x.forget()
	if out, ok := refused[0]; ok && !batch {
		return &out
	}
	// Notifications have no answer but the status.
	if out, ok := refused[0]; ok && !slices.ContainsFunc(list, func(m message) bool { return m.kind == kindRequest }) {
		return &out
	}
	// One status can not answer several messages, so a batch is refused in its
	// body.
	body := refuseAll(list, true, func(i int, m *message) reply {
		if out, ok := refused[i]; ok {
			return out
		}
		return failure(m.id, 0, rpcInternal, textBatch)
	})
	return &reply{status: http.StatusOK, body: body}
}

func (p *Proxy) judgeOne(r *http.Request, x *exchange, m *message) *reply {
	if m.kind == kindRequest {
		x.id = m.id
	}
	c := x.session.describe(x.caller, m)
	if c.ProtocolVersion == "" {
		c.ProtocolVersion = r.Header.Get(headerVersion)
	}
	var tool listedTool
	if name := text(m.params, "name"); m.method == methodToolsCall && name != "" {
		var out *reply
		if tool, out = p.tool(r, x, m, c); out != nil {
			return out
		}
	}
	if m.method != "" {
		if _, err := mcp.CheckHeaders(fields(r.Header), m.value, tool.repeated); err != nil && !p.e.opts.Observe {
			out := mismatch(m.id, err)
			return &out
		}
	}
	if m.passes() {
		return p.admit(r.Context(), x, m.id)
	}
	ruling := p.e.Decide(r.Context(), c, Request{Method: m.method, Params: m.paramsText(), Tool: tool.text})
	if !ruling.Go {
		out := refusal(m.id, ruling)
		return &out
	}
	if out := p.own(r.Context(), x, m, ruling); out != nil {
		return out
	}
	return p.follow(x, m, c)
}

// own ties a session to who began it.
func (p *Proxy) own(ctx context.Context, x *exchange, m *message, ruling Ruling) *reply {
	switch {
	case p.e.opts.Observe:
	case x.session.owner != nil && !proto.Equal(x.session.owner, ruling.Subject):
		out := p.foreign(ctx, m.id)
		return &out
	case m.method == methodInitialize && ruling.Subject == nil:
		out := failure(m.id, http.StatusOK, rpcInternal, textUndecided)
		return &out
	case m.method == methodInitialize:
		x.owner, x.until = ruling.Subject, ruling.Until
	}
	p.learn(x, ruling)
	return nil
}

// learn notes for as long as the answer holds who has been admitted, and to
// whose session.
func (p *Proxy) learn(x *exchange, ruling Ruling) {
	p.admitted.add(x.standing, ruling.Until, p.e.opts.Now())
}

// follow remembers a request whose answer is to be looked at.
func (p *Proxy) follow(x *exchange, m *message, c Caller) *reply {
	if m.method != methodInitialize && listMember(m.method) == "" {
		return nil
	}
	_, same := x.own[idKey(m.id)] // of a batch
	if x.session.id != "" && !same {
		same = !x.session.expect(m, c)
	}
	if same && !p.e.opts.Observe {
		// Not one of own, whose end would be that of the other request too.
		out := failure(m.id, http.StatusOK, rpcInvalidRequest, textSameID)
		return &out
	}
	x.own[idKey(m.id)] = pending{method: m.method, caller: c}
	return nil
}

// admit lets pass what needs no decision, if whoever sends it is the one whose
// session it is, or, without a session, may have one. The question is that for
// initialize (server/discover since 2026-07-28): about the caller, and not about
// the message.
func (p *Proxy) admit(ctx context.Context, x *exchange, id rar.Value) *reply {
	// A used proof proves nothing.
	if p.e.opts.Observe || repeatable(x.caller.Credentials) && x.session.owner != nil && p.admitted.has(x.standing, p.e.opts.Now()) {
		return nil
	}
	q := Request{Method: methodInitialize, Params: rar.ObjectValue(
		rar.Member{Name: "protocolVersion", Value: rar.StringValue(x.caller.ProtocolVersion)}).AppendJSON(nil)}
	if x.caller.ProtocolVersion >= stateless {
		q = Request{Method: methodDiscover}
	}
	ruling := p.e.Decide(ctx, x.caller, q)
	switch {
	case !ruling.Go:
		out := refusal(id, ruling)
		return &out
	case x.session.owner == nil:
		p.learn(x, ruling)
		return nil
	case !proto.Equal(x.session.owner, ruling.Subject):
		out := p.foreign(ctx, id)
		return &out
	}
	p.learn(x, ruling)
	return nil
}

// foreign refuses a session to who is not its owner, as if it were not there.
func (p *Proxy) foreign(ctx context.Context, id rar.Value) reply {
	p.e.opts.Log.LogAttrs(ctx, slog.LevelWarn, "a session was used by another person than the one who began it")
	return failure(id, http.StatusNotFound, rpcInvalidRequest, "This session is not known here. Begin a new one.")
}

// other serves GET, the stream of a session, and DELETE, its end.
func (p *Proxy) other(w http.ResponseWriter, r *http.Request) {
	x, refused := p.begin(r)
	if refused == nil {
		refused = p.admit(r.Context(), x, rar.Value{})
	}
	if refused != nil {
		p.send(w, *refused)
		return
	}
	ctx, cancel := context.WithCancel(context.WithValue(r.Context(), exchangeKey{}, x))
	defer cancel()
	if r.Method == http.MethodGet {
		//nolint:contextcheck // the stream ends with the proxy, too
		defer context.AfterFunc(p.draining, cancel)()
	}
	out := r.Clone(ctx)
	out.Body, out.ContentLength = http.NoBody, 0
	p.upstream.ServeHTTP(w, out)
}

// send writes an answer of our own.
func (p *Proxy) send(w http.ResponseWriter, out reply) {
	h := w.Header()
	for name, value := range out.headers {
		h.Set(name, value)
	}
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store")
	}
	if out.body != nil {
		h.Set("Content-Type", "application/json")
	}
	w.WriteHeader(out.status)
	_, _ = w.Write(out.body) // the client has gone
}

// fields are the header fields that MCP wants to be those of the body.
func fields(h http.Header) []mcp.Header {
	var out []mcp.Header
	for name, values := range h {
		for _, v := range values {
			out = append(out, mcp.Header{Name: name, Value: v})
		}
	}
	return out
}
