package pep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/authzd/authzd/rar"
)

// idleTime is how long a connection to the server is kept unused. Servers on
// Node.js and uvicorn close theirs after five seconds, and a request that is just
// being written then is lost: nobody may send it again.
const idleTime = 4 * time.Second

// upstreamTransport keeps connections for many sessions with one server.
func upstreamTransport() *http.Transport {
	return &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 10 * time.Minute, // a tool may take its time before it answers
		IdleConnTimeout:       idleTime,
		MaxIdleConns:          1024,
		MaxIdleConnsPerHost:   1024,
		ForceAttemptHTTP2:     true,
		DisableCompression:    true,
	}
}

func (p *Proxy) reverse() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport: p.o.Transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			p.outgoing(r.Out)
			r.SetXForwarded()
			if x, ok := r.Out.Context().Value(exchangeKey{}).(*exchange); ok && x.body != nil {
				x.send(r.Out)
			}
		},
		// Events and what has no length go on as they come, the rest at its end.
		ModifyResponse: p.incoming,
		BufferPool:     &buffers{},
		ErrorHandler:   p.failed,
		ErrorLog:       slog.NewLogLogger(p.e.opts.Log.Handler(), slog.LevelDebug),
	}
}

// buffers are what answers are copied through. They are small, because a stream
// keeps one for as long as it is open.
type buffers struct{ free sync.Pool }

// Get takes one.
func (b *buffers) Get() []byte {
	if p, ok := b.free.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, bufferBytes)
}

// Put gives it back.
func (b *buffers) Put(p []byte) { b.free.Put(&p) }

const bufferBytes = 8 << 10

// send makes what the client sent the body of a request. The transport sees that
// it is in memory: it goes in one write with the head, and once more where a kept
// connection turns out to be closed before anything was written.
func (x *exchange) send(r *http.Request) {
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(x.body)), int64(len(x.body))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(x.body)), nil }
}

// outgoing addresses a request to the server and takes the client's credentials
// off it.
func (p *Proxy) outgoing(r *http.Request) {
	u := *p.o.Upstream
	r.URL, r.Host = &u, u.Host
	h := r.Header
	token := h.Values("Authorization")
	for _, name := range []string{"Authorization", "DPoP", "Proxy-Authorization", "Cookie", "Origin", "Referer"} {
		h.Del(name)
	}
	// What some servers take for a header that was looked at, or for another method.
	for name := range h {
		if strings.Contains(name, "_") || strings.HasPrefix(name, "X-Http-Method") || strings.HasPrefix(name, "X-Method") {
			h.Del(name)
			delete(h, name)
		}
	}
	h.Del("Trailer")
	r.Trailer = nil
	// What is looked at must be plain.
	h.Set("Accept-Encoding", "identity")
	switch p.o.UpstreamAuth {
	case AuthHeader:
		h.Set(p.o.UpstreamHeader[0], p.o.UpstreamHeader[1])
	case AuthPassthrough:
		h["Authorization"] = token
		if len(token) == 0 {
			h.Del("Authorization")
		}
	case AuthNone:
	}
}

var errUpstream = errors.New("the server's answer can not be passed on")

// incoming looks at the server's answer.
func (p *Proxy) incoming(r *http.Response) error {
	x, _ := r.Request.Context().Value(exchangeKey{}).(*exchange)
	if x == nil {
		return errUpstream
	}
	if err := p.foreignHead(r, x); err != nil {
		return err
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		kind = ""
	}
	// The answer to a GET may bring the answer to any request of before.
	resumes := r.Request.Method == http.MethodGet && r.StatusCode < http.StatusMultipleChoices && r.ContentLength != 0
	if p.e.opts.Observe && len(x.own) == 0 {
		return nil
	}
	encoded := r.Header.Get("Content-Encoding") != "" && r.Header.Get("Content-Encoding") != "identity"
	switch {
	case kind == "text/event-stream" && !encoded:
		began := p.beginner(r, x)
		events := newEventReader(r.Body, p.e.opts.MaxResult, func(data []byte) ([]byte, bool) {
			return p.lookAtEvent(r.Request.Context(), x, began, data)
		})
		events.end = x.unanswered
		r.Body = events
		r.ContentLength = -1
		r.Header.Del("Content-Length")
		return nil
	case len(x.own) == 0 && !resumes:
		return nil
	case kind == "application/json" && !encoded:
		return p.lookAtBody(r, x)
	case r.StatusCode >= http.StatusMultipleChoices:
		x.forget()
		return nil
	}
	return fmt.Errorf("%w: a list is to be shortened, and it is of type %q", errUpstream, r.Header.Get("Content-Type"))
}

// foreignHead takes off an answer's head what is not the server's to say.
func (p *Proxy) foreignHead(r *http.Response, x *exchange) error {
	// It would lead the client past the proxy, with its token.
	if r.StatusCode >= http.StatusMultipleChoices && r.StatusCode < http.StatusBadRequest && r.StatusCode != http.StatusNotModified {
		return fmt.Errorf("%w: it leads elsewhere (%s)", errUpstream, r.Status)
	}
	// Which pages may call is ours to say.
	for name := range r.Header {
		if strings.HasPrefix(name, "Access-Control-") {
			r.Header.Del(name)
		}
	}
	// Challenges of the server are about the proxy's credential, not the client's.
	if p.o.UpstreamAuth != AuthPassthrough && (r.StatusCode == http.StatusUnauthorized || r.StatusCode == http.StatusForbidden) {
		return fmt.Errorf("%w: it refuses the proxy (%s); see --upstream-auth", errUpstream, r.Status)
	}
	if r.Request.Method == http.MethodDelete && r.StatusCode < 300 && x.session.id != "" {
		p.sessions.drop(x.session.id)
	}
	return nil
}

// beginner gives what remembers the session that the server begins with this
// answer, once its result is there.
func (p *Proxy) beginner(r *http.Response, x *exchange) func(pending, rar.Value) {
	id := r.Header.Get(headerSession)
	return func(asked pending, result rar.Value) {
		if id == "" || x.owner == nil && !p.e.opts.Observe {
			return
		}
		h := &httpSession{id: id, owner: x.owner}
		h.initialized(asked, result)
		if p.sessions.put(h) {
			p.admitted.add(standingOf(id, asked.caller), x.until, p.e.opts.Now())
		} else {
			p.e.opts.Log.Error("the server begins a session under an id that another one has")
		}
	}
}

// lookAtBody reads a whole answer in JSON.
func (p *Proxy) lookAtBody(r *http.Response, x *exchange) error {
	raw, err := io.ReadAll(io.LimitReader(r.Body, int64(p.e.opts.MaxResult)+1))
	_ = r.Body.Close() // read to its end, or given up
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errUpstream, err)
	case len(raw) > p.e.opts.MaxResult:
		return fmt.Errorf("%w: it is longer than %d bytes", errUpstream, p.e.opts.MaxResult)
	}
	out, keep := p.lookAtEvent(r.Request.Context(), x, p.beginner(r, x), raw)
	if !keep {
		return fmt.Errorf("%w: it is not JSON", errUpstream)
	}
	r.Body = io.NopCloser(bytes.NewReader(out))
	r.ContentLength = int64(len(out))
	r.Header.Set("Content-Length", strconv.Itoa(len(out)))
	return nil
}

// lookAtEvent looks at one text of the server: a message, or a batch of them.
func (p *Proxy) lookAtEvent(ctx context.Context, x *exchange, began func(pending, rar.Value), raw []byte) ([]byte, bool) {
	changed := mayMention(raw, listChanged)
	// A stream that stands for no request of its own may bring any answer.
	resumed := x.id.Kind() == rar.Absent && mayMention(raw, `"result"`)
	if len(x.own) == 0 && !changed && !resumed {
		return raw, true
	}
	v, err := rar.DecodeStrict(raw, rar.Limits{MaxBytes: p.e.opts.MaxResult, MaxDepth: maxDepth})
	if err != nil {
		p.e.opts.Log.LogAttrs(ctx, slog.LevelWarn, "a message of the server was dropped: it can not be read, and lists are to be shortened",
			slog.String("error", err.Error()))
		x.dropped = true
		return nil, p.e.opts.Observe
	}
	if changed {
		p.toolsChanged(x, v)
	}
	if v.Kind() != rar.Array {
		return p.lookAtMessage(ctx, x, began, v, raw), true
	}
	out := []byte{'['}
	for i := range v.Len() {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, p.lookAtMessage(ctx, x, began, v.Index(i), v.Index(i).AppendJSON(nil))...)
	}
	return append(out, ']'), true
}

// unanswered answers at the end of a stream the requests whose answer may have
// been dropped. Where nothing was, the client may come back for the answer.
func (x *exchange) unanswered() []byte {
	var out []byte
	for _, key := range slices.Sorted(maps.Keys(x.own)) {
		id, err := rar.DecodeStrict([]byte(key), rar.Limits{})
		if !x.dropped || x.answered[key] || err != nil {
			continue
		}
		x.session.forget(key)
		out = append(out, "event: message\ndata: "...)
		out = append(out, failure(id, 0, rpcInternal, textNoAnswer).body...)
		out = append(out, "\n\n"...)
	}
	return out
}

// forget ends waiting for answers that will not come, so that the client may ask
// again, under the same id too.
func (x *exchange) forget() {
	for key := range x.own {
		x.session.forget(key)
	}
}

// lookAtMessage shortens a list and notes a session that begins.
func (p *Proxy) lookAtMessage(ctx context.Context, x *exchange, began func(pending, rar.Value), v rar.Value, raw []byte) []byte {
	id, hasID := v.Get("id")
	result, hasResult := v.Get("result")
	if _, isCall := v.Get("method"); isCall || !hasID {
		return raw
	}
	if !hasResult {
		x.answered[idKey(id)] = true
		x.session.answered(id)
		return raw
	}
	asked, expected := x.own[idKey(id)]
	if expected {
		x.answered[idKey(id)] = true
		x.session.answered(id)
	} else if asked, expected = x.session.answers(id, result); !expected {
		// A stream that is resumed may bring the answer to a request that nobody
		// remembers: what looks like a list is one.
		asked = pending{method: listIn(result), caller: x.caller}
	}
	if asked.method == methodInitialize {
		began(asked, result)
		return raw
	}
	shorter, changed, err := p.e.Filter(ctx, asked.caller, asked.method, result)
	switch {
	case err != nil:
		return failure(id, 0, rpcInternal, textFilter).body
	case changed:
		return with(v, "result", shorter).AppendJSON(nil)
	}
	return raw
}

// mayList tells cheaply whether a message could hold a list.
func mayList(raw []byte) bool {
	return mayMention(raw, `"tools"`) || mayMention(raw, `"resources"`) || mayMention(raw, `"resourceTemplates"`) || mayMention(raw, `"prompts"`)
}

// listIn tells which list a result looks like. What has the content of another
// method's result is that.
func listIn(result rar.Value) string {
	for _, other := range []string{"content", "contents", "messages", "capabilities"} {
		if _, has := result.Get(other); has {
			return ""
		}
	}
	for _, method := range []string{methodToolsList, methodResourcesList, methodTemplatesList, methodPromptsList} {
		if list, ok := result.Get(listMember(method)); ok && list.Kind() == rar.Array {
			return method
		}
	}
	return ""
}

// failed answers where the server does not, or not so that it could be passed
// on.
func (p *Proxy) failed(w http.ResponseWriter, r *http.Request, err error) {
	x, _ := r.Context().Value(exchangeKey{}).(*exchange)
	if x == nil {
		x = &exchange{}
	}
	x.forget()
	if r.Context().Err() != nil {
		return // the client has gone
	}
	p.e.opts.Log.LogAttrs(r.Context(), slog.LevelError, "no answer of the server", slog.String("error", err.Error()))
	p.send(w, failure(x.id, http.StatusBadGateway, rpcInternal, textNoAnswer))
}
