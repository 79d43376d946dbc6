package pep

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// eventReader passes a stream of server-sent events on, event by event, and
// lets look replace or drop the data of each. What is not changed is passed on
// byte for byte. An event that the stream ends in is dropped, as readers do.
type eventReader struct {
	body  io.ReadCloser
	lines *bufio.Reader
	// look gets the data of an event. It returns the data to send instead, and
	// false to drop the event.
	look func(data []byte) ([]byte, bool)
	// end gives what follows the last event where the stream ends as it should;
	// default nothing.
	end   func() []byte
	limit int
	ready []byte
	begun bool
	err   error
}

func newEventReader(body io.ReadCloser, limit int, look func([]byte) ([]byte, bool)) *eventReader {
	return &eventReader{body: body, lines: bufio.NewReaderSize(body, bufferBytes), look: look, limit: limit}
}

// Read gives bytes of whole events.
func (r *eventReader) Read(p []byte) (int, error) {
	for len(r.ready) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		if !r.begun {
			r.begin()
		}
		if r.ready, r.err = r.event(); errors.Is(r.err, io.EOF) && r.end != nil {
			r.ready = r.end()
		}
	}
	n := copy(p, r.ready)
	r.ready = r.ready[n:]
	return n, nil
}

// Close closes the stream of the server.
func (r *eventReader) Close() error { return r.body.Close() } //nolint:wrapcheck // as it is

// begin drops the byte order mark that a stream may begin with, as readers do.
func (r *eventReader) begin() {
	r.begun = true
	if mark, err := r.lines.Peek(3); err == nil && string(mark) == "\ufeff" {
		_, _ = r.lines.Discard(3) // they are there
	}
}

// event reads lines up to the empty one that ends an event.
func (r *eventReader) event() ([]byte, error) {
	var raw []byte
	var data [][2]int // where the data lines stand in raw
	line := 0
	for {
		part, err := r.lines.ReadSlice('\n')
		raw = append(raw, part...)
		if len(raw) > r.limit {
			return nil, fmt.Errorf("an event of the server is longer than %d bytes", r.limit)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return nil, err //nolint:wrapcheck // io.EOF, or the server's
		}
		text := trimEnd(raw[line:])
		// To readers a CR alone ends a line, too. Nobody writes so, and what stands
		// behind it would not be looked at.
		if bytes.IndexByte(text, '\r') >= 0 {
			return nil, errors.New("an event of the server has a CR alone")
		}
		if len(text) == 0 {
			return r.judge(raw, data), nil
		}
		if bytes.HasPrefix(text, []byte("data:")) || bytes.Equal(text, []byte("data")) {
			data = append(data, [2]int{line, len(raw)})
		}
		line = len(raw)
	}
}

// judge gives what is sent for an event.
func (r *eventReader) judge(raw []byte, data [][2]int) []byte {
	if len(data) == 0 {
		return raw
	}
	var text []byte
	for i, at := range data {
		if i > 0 {
			text = append(text, '\n')
		}
		value := bytes.TrimPrefix(trimEnd(raw[at[0]:at[1]]), []byte("data"))
		text = append(text, bytes.TrimPrefix(bytes.TrimPrefix(value, []byte(":")), []byte(" "))...)
	}
	if len(text) == 0 {
		return raw
	}
	out, keep := r.look(text)
	if keep && bytes.Equal(out, text) {
		return raw
	}
	// Fields such as id stay, so that a stream can be resumed after this event.
	var rest []byte
	from := 0
	for i, at := range data {
		rest = append(rest, raw[from:at[0]]...)
		if i == 0 && keep {
			rest = append(append(append(rest, "data: "...), out...), '\n')
		}
		from = at[1]
	}
	return append(rest, raw[from:]...)
}
