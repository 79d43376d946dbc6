package pep

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
)

// FuzzDecodeMessage: what is taken for JSON-RPC is JSON to a second reader, which
// finds the same id and method in it, and no name but those of JSON-RPC; what has
// the name of a method asks, and what asks is decided about.
func FuzzDecodeMessage(f *testing.F) {
	for _, seed := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay","arguments":{"amount":1}}}`,
		`[{"jsonrpc":"2.0","id":"a","method":"ping"},{"jsonrpc":"2.0","method":"notifications/initialized"}]`,
		`{"jsonrpc":"2.0","id":1.0e0,"result":{}}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-1}}`,
		`{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}`, `{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}`,
		`{"jsonrpc":"2.0","id":1,"\u006dethod":"tools/call"}`, `[]`, `[[]]`, `null`, `{"jsonrpc":"2.0","method":"tools/call"}`, "\ufeff{}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, batch, err := decode(raw, DefaultMaxMessage)
		if err != nil {
			return
		}
		type second struct {
			ID     json.RawMessage `json:"id"`
			Method *string         `json:"method"`
		}
		var seen []map[string]json.RawMessage
		if batch {
			err = json.Unmarshal(raw, &seen)
		} else {
			seen = make([]map[string]json.RawMessage, 1)
			err = json.Unmarshal(raw, &seen[0])
		}
		if err != nil || len(seen) != len(list) || len(list) == 0 {
			t.Fatalf("%d messages, and a second reader sees %d, %v: %q", len(list), len(seen), err, raw)
		}
		for i, m := range list {
			text, err := json.Marshal(seen[i])
			if err != nil {
				t.Fatal(err)
			}
			var other second
			if err := json.Unmarshal(text, &other); err != nil || len(seen[i]) != m.value.Len() {
				t.Fatalf("a second reader fails, %v, or sees other members: %q", err, raw)
			}
			if (other.Method != nil) != (m.kind != kindResponse) || other.Method != nil && (*other.Method != m.method || m.method == "") {
				t.Fatalf("kind %d, method %q: %q", m.kind, m.method, raw)
			}
			if (len(other.ID) > 0) != (m.kind != kindNotification) {
				t.Fatalf("kind %d, id %q: %q", m.kind, other.ID, raw)
			}
			if m.passes() && m.kind == kindRequest && m.method != methodPing || m.kind == kindNotification && !strings.HasPrefix(m.method, notifications) {
				t.Fatalf("%q passes: %q", m.method, raw)
			}
		}
	})
}

// FuzzLines: lines come as they stand in the input, none longer than the limit, and
// those that are too long are reported.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a\nbb\r\n\n"+strings.Repeat("x", 100)+"\nlast"), uint8(5))
	f.Add([]byte(strings.Repeat("y", 40)), uint8(39))
	f.Fuzz(func(t *testing.T, text []byte, limit uint8) {
		lines := lineReader{r: bufio.NewReaderSize(bytes.NewReader(text), 16), limit: int(limit)}
		rest := text
		for {
			got, tooLong, err := lines.next()
			if err != nil {
				if !errors.Is(err, io.EOF) || len(rest) > 0 {
					t.Fatalf("%v with %q left of %q", err, rest, text)
				}
				return
			}
			_, after, _ := bytes.Cut(rest, []byte("\n"))
			line := rest[:len(rest)-len(after)]
			rest = after
			if want := len(line) > int(limit)+1; tooLong != want {
				t.Fatalf("%q is said to be longer than %d: %t", line, limit, tooLong)
			}
			if line = trimEnd(line); !tooLong && !bytes.Equal(got, line) {
				t.Fatalf("line %q, want %q", got, line)
			}
		}
	})
}

// FuzzEvents: where the data of an event is dropped, none of it is passed on, and
// where nothing is changed, every byte of whole events is.
func FuzzEvents(f *testing.F) {
	f.Add([]byte("id: 1\ndata: {\"a\":1}\n\n: note\n\ndata: x\ndata\ndata:y\r\n\r\n"))
	f.Add([]byte("\ufeffdata: secret\n\ndata: sec"))
	f.Add([]byte("data: a\rdata: b\n\n"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		const limit = 1 << 12
		read := func(look func([]byte) ([]byte, bool)) ([]byte, error) {
			return io.ReadAll(newEventReader(io.NopCloser(bytes.NewReader(stream)), limit, look))
		}
		same, err := read(func(data []byte) ([]byte, bool) { return data, true })
		if whole := bytes.TrimPrefix(stream, []byte("\ufeff")); !bytes.HasPrefix(whole, same) {
			t.Fatalf("%q is passed on of %q", same, stream)
		}
		var looked [][]byte
		rest, again := read(func(data []byte) ([]byte, bool) { looked = append(looked, bytes.Clone(data)); return nil, false })
		if (err == nil) != (again == nil) || len(rest) > len(same) {
			t.Fatalf("%v, then %v; %d bytes, then %d", err, again, len(same), len(rest))
		}
		for line := range bytes.SplitSeq(rest, []byte("\n")) {
			if value, is := bytes.CutPrefix(trimEnd(line), []byte("data:")); is && len(bytes.TrimSpace(value)) > 0 {
				t.Fatalf("data %q is left, of %q; looked at %q", value, stream, looked)
			}
		}
	})
}
