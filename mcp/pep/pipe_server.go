package pep

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/authzd/authzd/rar"
)

// fromServer reads the server's lines until it ends. They go to the client as
// they are, but for lists, and for answers to our own requests.
func (p *Pipe) fromServer(ctx context.Context) error {
	lines := lineReader{r: bufio.NewReaderSize(p.o.ServerOut, 64<<10), limit: p.e.opts.MaxResult}
	for {
		line, tooLong, err := lines.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && ctx.Err() != nil:
			return nil //nolint:nilerr // we were told to stop
		case err != nil:
			return fmt.Errorf("read from the server: %w", err)
		case tooLong:
			return fmt.Errorf("read from the server: a message is longer than %d bytes", p.e.opts.MaxResult)
		}
		out := p.look(ctx, line)
		if out == nil {
			continue
		}
		if err := p.writeClient(out); err != nil {
			return err
		}
	}
}

// look gives the line that the client is sent for a line of the server; nil:
// none.
func (p *Pipe) look(ctx context.Context, line []byte) []byte {
	if !p.session.waiting() && !mayMention(line, listChanged) && !mayMention(line, p.prefix) && !mayList(line) {
		return line
	}
	v, err := rar.DecodeStrict(line, rar.Limits{MaxBytes: p.e.opts.MaxResult, MaxDepth: maxDepth})
	if err != nil {
		if p.e.opts.Observe {
			return line
		}
		// It could be the list that somebody waits for.
		p.e.opts.Log.LogAttrs(ctx, slog.LevelWarn, "a line of the server was dropped: it can not be read, and lists are to be shortened",
			slog.String("error", err.Error()))
		return nil
	}
	if v.Kind() == rar.Array {
		return p.lookAtBatch(ctx, v, line)
	}
	out, keep := p.lookAtOne(ctx, v, line)
	if !keep {
		return nil
	}
	return out
}

// lookAtBatch looks at each message of a batch.
func (p *Pipe) lookAtBatch(ctx context.Context, v rar.Value, line []byte) []byte {
	out, changed := []byte{'['}, false
	for i := range v.Len() {
		text := v.Index(i).AppendJSON(nil)
		one, keep := p.lookAtOne(ctx, v.Index(i), text)
		changed = changed || !keep || string(one) != string(text)
		if !keep {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, one...)
	}
	if !changed {
		return line
	}
	return append(out, ']')
}

// lookAtOne tells what becomes of one message of the server.
func (p *Pipe) lookAtOne(ctx context.Context, v rar.Value, raw []byte) ([]byte, bool) {
	if text(v, "method") == notificationToolsChanged {
		p.session.tools.changed()
	}
	id, hasID := v.Get("id")
	if _, isCall := v.Get("method"); isCall || !hasID {
		return raw, true
	}
	if p.deliver(id, v) {
		return nil, false
	}
	return p.lookAtResponse(ctx, id, v, raw), true
}

// lookAtResponse shortens the answer to a list and notes that to initialize.
func (p *Pipe) lookAtResponse(ctx context.Context, id, v rar.Value, raw []byte) []byte {
	result, ok := v.Get("result")
	asked, expected := p.session.answers(id, result)
	switch {
	case !ok:
		return raw
	case !expected:
		// A second answer, or one under another spelling of the id: what looks like a
		// list is one.
		if asked.method = listIn(result); asked.method == "" {
			return raw
		}
		credentials, subject, err := p.o.Identify(ctx)
		if err != nil && !p.e.opts.Observe {
			return failure(id, 0, rpcInternal, textFilter).body
		}
		asked.caller = p.session.describe(Caller{Transport: "stdio", Credentials: credentials, Subject: subject}, &message{})
	case asked.method == methodInitialize:
		p.session.initialized(asked, result)
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

// deliver hands a response to our own request to who waits for it. One that
// comes too late is nobody's, least of all the client's.
func (p *Pipe) deliver(id, v rar.Value) bool {
	p.ownMu.Lock()
	answer, ok := p.own[idKey(id)]
	p.ownMu.Unlock()
	if ok {
		select {
		case answer <- v:
		default: // the server has answered twice
		}
		return true
	}
	return id.Kind() == rar.String && len(id.Text()) > len(p.prefix) && id.Text()[:len(p.prefix)] == p.prefix
}

func (p *Pipe) writeClient(line []byte) error {
	p.clientMu.Lock()
	defer p.clientMu.Unlock()
	return writeLine(p.o.ClientOut, line, "client")
}

func (p *Pipe) writeServer(line []byte) error {
	p.serverMu.Lock()
	defer p.serverMu.Unlock()
	return writeLine(p.o.ServerIn, line, "server")
}

func (p *Pipe) closeServer() {
	p.serverMu.Lock()
	defer p.serverMu.Unlock()
	_ = p.o.ServerIn.Close() // whoever reads it notices
}

func writeLine(w io.Writer, line []byte, whom string) error {
	if _, err := w.Write(append(line[:len(line):len(line)], '\n')); err != nil {
		return fmt.Errorf("write to the %s: %w", whom, err)
	}
	return nil
}

// lineReader reads lines of bounded length.
type lineReader struct {
	r     *bufio.Reader
	limit int
}

// next gives a line without its end. One that has more than a byte beyond the limit, its
// end included, is skipped and reported. A last line without an end counts.
func (l *lineReader) next() (line []byte, tooLong bool, err error) {
	for {
		part, err := l.r.ReadSlice('\n')
		if !tooLong {
			line = append(line, part...)
			tooLong = len(line) > l.limit+1
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			if tooLong {
				line = nil
			}
			continue
		case err != nil && len(line) == 0 && !tooLong:
			return nil, false, err //nolint:wrapcheck // the caller knows what it reads
		case tooLong:
			return nil, true, nil
		}
		return trimEnd(line), false, nil
	}
}

func trimEnd(line []byte) []byte {
	for len(line) > 0 && (line[len(line)-1] == '\n' || line[len(line)-1] == '\r') {
		line = line[:len(line)-1]
	}
	return line
}
