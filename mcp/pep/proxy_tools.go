package pep

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"sync"

	"github.com/authzd/authzd/rar"
)

// maxLoose bounds the callers whose tools are remembered without a session.
const maxLoose = 256

// looseTools are the tools of a server without sessions, by caller, because
// callers may be shown different ones.
type looseTools struct {
	mu    sync.Mutex
	books map[[sha256.Size]byte]*toolBook
	// last are the tools fetched last: most callers see the same, and then share
	// them.
	last map[string]listedTool
	// places bounds how many fetch at once: whoever calls is not known yet.
	places chan struct{}
}

func newLooseTools() *looseTools {
	return &looseTools{books: map[[sha256.Size]byte]*toolBook{}, places: make(chan struct{}, 16)}
}

// fetch fetches in one of the places.
func (l *looseTools) fetch(ctx context.Context, f fetcher) (map[string]listedTool, error) {
	select {
	case l.places <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err() //nolint:wrapcheck // its text is enough
	}
	defer func() { <-l.places }()
	tools, err := f(ctx)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if maps.EqualFunc(tools, l.last, func(a, b listedTool) bool { return bytes.Equal(a.text, b.text) }) {
		return l.last, nil
	}
	l.last = tools
	return tools, nil
}

func (l *looseTools) of(c Caller, session string) *toolBook {
	who := c.Subject.GetId()
	for _, credential := range c.Credentials {
		who = credential.GetAccessToken()
	}
	key := sha256.Sum256([]byte(session + "\x00" + who))
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.books[key]
	if !ok {
		if len(l.books) >= maxLoose {
			clear(l.books) // they are fetched again
		}
		b = &toolBook{}
		l.books[key] = b
	}
	return b
}

func (l *looseTools) changed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.books {
		b.changed()
	}
}

// toolsChanged forgets what is known of tools, if v says that they changed.
func (p *Proxy) toolsChanged(x *exchange, v rar.Value) {
	if text(v, "method") != notificationToolsChanged {
		return
	}
	x.session.tools.changed()
	p.loose.changed()
}

// tool finds the entry of the tool that is called. It returns an answer where
// the request is refused before it is decided.
//
// The server is asked on behalf of those alone who have been admitted: nobody
// else makes the proxy say anything, least of all in another's session. A proof
// of possession is good for one question; who needs it for this one has to call
// again.
func (p *Proxy) tool(r *http.Request, x *exchange, m *message, c Caller) (listedTool, *reply) {
	meta, _ := m.params.Get("_meta")
	var refused *reply
	fetch := func(ctx context.Context) (map[string]listedTool, error) {
		if !p.e.opts.Observe && !p.admitted.has(x.standing, p.e.opts.Now()) {
			if refused = p.admit(ctx, x, m.id); refused == nil && !repeatable(c.Credentials) {
				again := failure(m.id, http.StatusOK, rpcInternal, textUndecided)
				refused = &again
			}
			if refused != nil {
				return nil, errNotAdmitted
			}
		}
		return fetchTools(ctx, func(ctx context.Context, params rar.Value) (rar.Value, error) {
			return p.ask(ctx, r, c, params)
		}, describing(meta))
	}
	// What is shown to who is not known to be the owner is not what the owner is
	// shown.
	book := &x.session.tools
	if x.session.owner == nil || !p.admitted.has(x.standing, p.e.opts.Now()) {
		book = p.loose.of(c, x.session.id)
	}
	tool, err := book.entry(r.Context(), p.e, text(m.params, "name"), func(ctx context.Context) (map[string]listedTool, error) {
		return p.loose.fetch(ctx, fetch)
	})
	if err != nil && refused == nil && !p.e.opts.Observe {
		unknown := failure(m.id, http.StatusOK, rpcInternal, textUndecided)
		refused = &unknown
	}
	return tool, refused
}

// ask sends the server a tools/list of our own, in the session and with the
// headers of r, and gives its result.
func (p *Proxy) ask(ctx context.Context, r *http.Request, c Caller, params rar.Value) (rar.Value, error) {
	id := rar.StringValue("authzd-" + rand.Text())
	out, err := http.NewRequestWithContext(ctx, http.MethodPost, p.o.Upstream.String(), bytes.NewReader(listRequest(id, params)))
	if err != nil {
		return rar.Value{}, fmt.Errorf("make a request: %w", err)
	}
	out.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}}
	for _, name := range []string{headerSession, headerVersion, "Authorization"} {
		if v := r.Header.Values(name); len(v) > 0 {
			out.Header[http.CanonicalHeaderKey(name)] = v
		}
	}
	if c.ProtocolVersion >= stateless {
		out.Header.Set("Mcp-Method", methodToolsList)
	}
	p.outgoing(out)
	resp, err := p.o.Transport.RoundTrip(out)
	if err != nil {
		return rar.Value{}, fmt.Errorf("ask the server: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // read as far as is needed
	if resp.StatusCode != http.StatusOK {
		return rar.Value{}, fmt.Errorf("ask the server: it answers %s", resp.Status)
	}
	v, err := p.answerTo(id, resp)
	if err != nil {
		return rar.Value{}, fmt.Errorf("ask the server: %w", err)
	}
	return resultOf(v)
}

// answerTo reads the response with that id from JSON or a stream of events.
func (p *Proxy) answerTo(id rar.Value, resp *http.Response) (rar.Value, error) {
	limits := rar.Limits{MaxBytes: p.e.opts.MaxResult, MaxDepth: maxDepth}
	body := io.LimitReader(resp.Body, int64(p.e.opts.MaxResult)+1)
	var found rar.Value
	take := func(raw []byte) {
		if v, err := rar.DecodeStrict(raw, limits); err == nil {
			if got, ok := v.Get("id"); ok && rar.Equal(got, id) {
				found = v
			}
		}
	}
	switch kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind {
	case "application/json":
		raw, err := io.ReadAll(body)
		if err != nil {
			return rar.Value{}, err //nolint:wrapcheck // wrapped by ask
		}
		take(raw)
	case "text/event-stream":
		events := &eventReader{body: resp.Body, lines: bufio.NewReader(body), limit: p.e.opts.MaxResult, look: func(data []byte) ([]byte, bool) {
			take(data)
			return data, true
		}}
		for found.Kind() == rar.Absent {
			if _, err := events.event(); err != nil {
				return rar.Value{}, fmt.Errorf("no answer in the stream: %w", err)
			}
		}
	}
	if found.Kind() == rar.Absent {
		return rar.Value{}, errors.New("no answer")
	}
	return found, nil
}
