package pep

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

// PipeOptions are the two ends that a [Pipe] connects. All are required but
// Identify.
type PipeOptions struct {
	Enforcer *Enforcer
	// ClientIn is what the client writes, ClientOut what it reads.
	ClientIn  io.Reader
	ClientOut io.Writer
	// ServerIn is what the server reads, ServerOut what it writes. ServerIn is
	// closed when the client has ended.
	ServerIn  io.WriteCloser
	ServerOut io.Reader
	// Identify tells on whose authority the client acts. It is asked for every
	// request, so that the client can remedy a denial by replacing a token.
	Identify func(context.Context) ([]*authzdv1.Credential, *authzdv1.Subject, error)
}

// queued bounds the messages of a client that wait for their decisions.
const queued = 64

// Pipe enforces between a client and a server that speak JSON-RPC in lines (MCP
// transport "stdio"). Requests are decided side by side and go on in the order
// in which they came, byte for byte.
type Pipe struct {
	o       PipeOptions
	e       *Enforcer
	session session

	clientMu, serverMu sync.Mutex

	// own are requests of ours that the server is to answer.
	ownMu  sync.Mutex
	own    map[string]chan rar.Value
	prefix string
	count  atomic.Int64
}

// NewPipe makes a Pipe.
func NewPipe(o PipeOptions) (*Pipe, error) {
	if o.Enforcer == nil || o.ClientIn == nil || o.ClientOut == nil || o.ServerIn == nil || o.ServerOut == nil {
		return nil, errors.New("pep: an Enforcer and both ends are required")
	}
	if o.Identify == nil {
		o.Identify = func(context.Context) ([]*authzdv1.Credential, *authzdv1.Subject, error) { return nil, nil, nil }
	}
	return &Pipe{o: o, e: o.Enforcer, own: map[string]chan rar.Value{}, prefix: "authzd-" + rand.Text() + "-", session: session{recall: maxRecent}}, nil
}

// step is one message of the client on its way: what is to be written, and to
// whom, once it is decided.
type step struct {
	done     chan struct{}
	toServer []byte
	toClient []byte
}

// Run works until the server has ended what it writes, or ctx is done. The
// client may end before. An error is one of reading or writing.
func (p *Pipe) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	steps := make(chan *step, queued)
	ended := make(chan struct{})
	group.Go(func() error {
		defer close(ended)
		return p.fromServer(ctx)
	})
	group.Go(func() error { return p.onward(ctx, steps, ended) })
	// Not in the group: a read of the client's end can not be interrupted, and the
	// process ends when the server has.
	go func() {
		defer close(steps)
		p.fromClient(ctx, steps, ended)
	}()
	return group.Wait() //nolint:wrapcheck // wrapped where it happens
}

// fromClient reads the client's lines and has each looked at.
func (p *Pipe) fromClient(ctx context.Context, steps chan<- *step, ended <-chan struct{}) {
	lines := lineReader{r: bufio.NewReaderSize(p.o.ClientIn, 64<<10), limit: p.e.opts.MaxMessage}
	for {
		line, tooLong, err := lines.next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				p.e.opts.Log.LogAttrs(ctx, slog.LevelError, "read from the client", slog.String("error", err.Error()))
			}
			return
		}
		if len(line) == 0 && !tooLong {
			continue
		}
		s := &step{done: make(chan struct{})}
		select {
		case steps <- s:
		case <-ended:
			return
		case <-ctx.Done():
			return
		}
		if tooLong {
			s.toClient = failure(rar.Value{}, 0, rpcInvalidRequest, fmt.Sprintf("The message is longer than %d bytes.", p.e.opts.MaxMessage)).body
			close(s.done)
			continue
		}
		p.take(ctx, line, s)
	}
}

// take decides one line. What passes is ready at once; what is asked about is
// decided while later lines are read.
func (p *Pipe) take(ctx context.Context, line []byte, s *step) {
	list, batch, err := decode(line, p.e.opts.MaxMessage)
	// White space to JSON, and to some servers the end of a line.
	if err == nil && bytes.IndexByte(line, '\r') >= 0 {
		err = errNotJSON
	}
	if err != nil && !p.e.opts.Observe {
		s.toClient = malformed(err).body
		close(s.done)
		return
	}
	if err != nil || !batch && list[0].passes() {
		s.toServer = line
		close(s.done)
		return
	}
	go func() {
		defer close(s.done)
		out := p.decide(ctx, list, batch)
		if s.toClient = out; out == nil {
			s.toServer = line
		}
	}()
}

// onward writes what was decided, in the order in which it came, and closes the
// server's end after the last of it.
func (p *Pipe) onward(ctx context.Context, steps <-chan *step, ended <-chan struct{}) error {
	defer p.closeServer()
	for {
		var s *step
		select {
		case next, more := <-steps:
			if !more {
				return nil
			}
			s = next
		case <-ended:
			return nil
		case <-ctx.Done():
			return nil
		}
		<-s.done // bounded by the Enforcer's timeout
		if s.toClient != nil {
			if err := p.writeClient(s.toClient); err != nil {
				return err
			}
		}
		if s.toServer != nil {
			if err := p.writeServer(s.toServer); err != nil {
				// The server may have ended; what it wrote is still to be read.
				p.e.opts.Log.LogAttrs(ctx, slog.LevelWarn, "write to the server", slog.String("error", err.Error()))
				return nil
			}
		}
	}
}

// decide asks about every request in a line. It returns what the client is
// answered, or nil: the line goes on.
func (p *Pipe) decide(ctx context.Context, list []message, batch bool) []byte {
	credentials, subject, err := p.o.Identify(ctx)
	if err != nil {
		p.e.opts.Log.LogAttrs(ctx, slog.LevelError, "no identity", slog.String("error", err.Error()))
		if !p.e.opts.Observe {
			return refuseAll(list, batch, func(int, *message) reply { return reply{} })
		}
	}
	from := Caller{Transport: "stdio", Credentials: credentials, Subject: subject}
	refused := map[int]reply{}
	for i := range list {
		m := &list[i]
		if m.passes() {
			continue
		}
		c := p.session.describe(from, m)
		tool, err := p.tool(ctx, m)
		if err != nil && !p.e.opts.Observe {
			refused[i] = reply{}
			continue
		}
		r := p.e.Decide(ctx, c, Request{Method: m.method, Params: m.paramsText(), Tool: tool.text})
		switch {
		case !r.Go:
			refused[i] = refusal(m.id, r)
		case !p.session.expect(m, c) && !p.e.opts.Observe:
			refused[i] = failure(m.id, 0, rpcInvalidRequest, textSameID)
		}
	}
	if len(refused) == 0 {
		return nil
	}
	// Of a batch everything goes on or nothing: a part would not be the bytes that
	// were decided.
	return refuseAll(list, batch, func(i int, m *message) reply {
		if r, ok := refused[i]; ok {
			return r
		}
		p.session.answered(m.id)
		return failure(m.id, 0, rpcInternal, textBatch)
	})
}

// refuseAll answers every request of a line.
func refuseAll(list []message, batch bool, answer func(int, *message) reply) []byte {
	if !batch {
		return answer(0, &list[0]).overStdio(list[0].id)
	}
	out := []byte{'['}
	for i := range list {
		if list[i].kind != kindRequest {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, answer(i, &list[i]).overStdio(list[i].id)...)
	}
	return append(out, ']')
}

// tool finds the entry of the tool that is called.
func (p *Pipe) tool(ctx context.Context, m *message) (listedTool, error) {
	name := text(m.params, "name")
	if m.method != methodToolsCall || name == "" {
		return listedTool{}, nil
	}
	meta, _ := m.params.Get("_meta")
	return p.session.tools.entry(ctx, p.e, name, func(ctx context.Context) (map[string]listedTool, error) {
		return fetchTools(ctx, p.ask, describing(meta))
	})
}

// describing keeps of a request's _meta what every request of 2026-07-28 says of
// its client.
func describing(meta rar.Value) rar.Value {
	var members []rar.Member
	for i := range meta.Len() {
		switch m := meta.Member(i); m.Name {
		case metaVersion, metaCapabilities, "io.modelcontextprotocol/clientInfo":
			members = append(members, m)
		}
	}
	if len(members) == 0 {
		return rar.Value{}
	}
	return rar.ObjectValue(members...)
}

// ask sends the server a tools/list of our own and waits for its result.
func (p *Pipe) ask(ctx context.Context, params rar.Value) (rar.Value, error) {
	id := rar.StringValue(p.prefix + strconv.FormatInt(p.count.Add(1), 10))
	answer := make(chan rar.Value, 1)
	p.ownMu.Lock()
	p.own[idKey(id)] = answer
	p.ownMu.Unlock()
	defer func() {
		p.ownMu.Lock()
		delete(p.own, idKey(id))
		p.ownMu.Unlock()
	}()
	if err := p.writeServer(listRequest(id, params)); err != nil {
		return rar.Value{}, err
	}
	select {
	case v := <-answer:
		return resultOf(v)
	case <-ctx.Done():
		return rar.Value{}, ctx.Err() //nolint:wrapcheck // wrapped by fetchTools
	}
}

func listRequest(id, params rar.Value) []byte {
	return rar.ObjectValue(
		rar.Member{Name: "jsonrpc", Value: rar.StringValue("2.0")},
		rar.Member{Name: "id", Value: id},
		rar.Member{Name: "method", Value: rar.StringValue(methodToolsList)},
		rar.Member{Name: "params", Value: params},
	).AppendJSON(nil)
}

func resultOf(v rar.Value) (rar.Value, error) {
	if result, ok := v.Get("result"); ok && result.Kind() == rar.Object {
		return result, nil
	}
	fault, _ := v.Get("error")
	return rar.Value{}, fmt.Errorf("the server answers with an error: %q", text(fault, "message"))
}
