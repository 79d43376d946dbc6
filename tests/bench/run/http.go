package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// The generator shares a machine with the server that it measures, so it speaks
// HTTP/1.1 itself, one connection a caller: net/http's client costs as much as a
// decision does.

// httpOpener posts JSON. Fields are further header fields, each with its end.
func httpOpener(addr, path string, allows func([]byte) bool, fields ...string) opener {
	head := "POST " + path + " HTTP/1.1\r\nHost: " + addr + "\r\n" + strings.Join(fields, "") + "Content-Type: application/json\r\nContent-Length: "
	return func(ctx context.Context, n int) ([]caller, func(), error) {
		var conns []net.Conn
		closeAll := func() {
			for _, c := range conns {
				c.Close() //nolint:errcheck,gosec // the measurement is over
			}
		}
		callers := make([]caller, n)
		for i := range callers {
			conn, err := dialLoopback(ctx, addr)
			if err != nil {
				closeAll()
				return nil, nil, err
			}
			if until, ok := ctx.Deadline(); ok {
				if err := conn.SetDeadline(until); err != nil {
					closeAll()
					return nil, nil, fmt.Errorf("bound the connection: %w", err)
				}
			}
			conns = append(conns, conn)
			h := &httpConn{conn: conn, r: bufio.NewReaderSize(conn, 64<<10), head: head}
			callers[i] = func(_ context.Context, body []byte) (answer, error) {
				text, err := h.post(body)
				return answer{allow: err == nil && allows(text), text: text}, err
			}
		}
		return callers, closeAll, nil
	}
}

func dialLoopback(ctx context.Context, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", addr, err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("refusing %s: loopback only", addr)
	}
	d := net.Dialer{Timeout: 5 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return conn, nil
}

// opaAllows reads {"result":{"allow":true,…}}.
func opaAllows(text []byte) bool { return bytes.Contains(text, []byte(`"allow":true`)) }

// restAllows reads {"decision":"ALLOW",…}.
func restAllows(text []byte) bool {
	return bytes.HasPrefix(text, []byte(`{"decision":"ALLOW"`))
}

type httpConn struct {
	conn    net.Conn
	r       *bufio.Reader
	head    string
	out, in []byte
}

// post sends body and returns the answer's, which the next call overwrites.
func (h *httpConn) post(body []byte) ([]byte, error) {
	h.out = append(h.out[:0], h.head...)
	h.out = strconv.AppendInt(h.out, int64(len(body)), 10)
	h.out = append(h.out, "\r\n\r\n"...)
	h.out = append(h.out, body...)
	if _, err := h.conn.Write(h.out); err != nil {
		return nil, fmt.Errorf("send: %w", err)
	}
	status, length, err := h.readHead()
	if err != nil {
		return nil, fmt.Errorf("read the answer's head: %w", err)
	}
	h.in = h.in[:0]
	if length >= 0 {
		err = h.readBody(length)
	} else {
		err = h.readChunks()
	}
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if status != 200 {
		return nil, fmt.Errorf("status %d: %s", status, h.in)
	}
	return h.in, nil
}

// readHead returns the status and the body's length, -1 for chunks.
func (h *httpConn) readHead() (status, length int, err error) {
	line, err := h.r.ReadSlice('\n')
	if err != nil {
		return 0, 0, err
	}
	if len(line) < 12 {
		return 0, 0, fmt.Errorf("status line %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, 0, fmt.Errorf("status line %q", line)
	}
	length, framed := -1, false
	for {
		if line, err = h.r.ReadSlice('\n'); err != nil {
			return 0, 0, err
		}
		if len(line) <= 2 {
			break
		}
		// Only two fields matter, and most others begin with another letter.
		switch line[0] | 0x20 {
		case 'c', 't':
		default:
			continue
		}
		name, value, _ := strings.Cut(string(line), ":")
		switch strings.ToLower(name) {
		case "content-length":
			framed = true
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return 0, 0, fmt.Errorf("content length %q", value)
			}
		case "transfer-encoding":
			framed = true
		}
	}
	if !framed {
		return 0, 0, errors.New("an answer without a length")
	}
	return status, length, nil
}

func (h *httpConn) readBody(n int) error {
	k := len(h.in)
	h.in = append(h.in, make([]byte, n)...)
	_, err := io.ReadFull(h.r, h.in[k:])
	return err
}

func (h *httpConn) readChunks() error {
	for {
		line, err := h.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		n, err := strconv.ParseUint(strings.TrimSpace(string(line)), 16, 24)
		if err != nil {
			return fmt.Errorf("chunk %q: %w", line, err)
		}
		if err := h.readBody(int(n)); err != nil {
			return err
		}
		if _, err := h.r.Discard(2); err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
	}
}
