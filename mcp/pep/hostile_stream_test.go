package pep_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// readEvents gives the data of a stream as the WHATWG algorithm reads it: a line
// ends with CRLF, LF or CR, and one byte order mark in front is dropped.
func readEvents(raw string) []string {
	raw = strings.TrimPrefix(raw, "\ufeff")
	raw = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(raw)
	var out, data []string
	for _, line := range strings.Split(raw, "\n") {
		switch name, value, _ := strings.Cut(line, ":"); {
		case line == "":
			if len(data) > 0 {
				out = append(out, strings.Join(data, "\n"))
			}
			data = nil
		case name == "data":
			data = append(data, strings.TrimPrefix(value, " "))
		}
	}
	return out
}

func TestStreamsThatHideAList(t *testing.T) {
	t.Parallel()
	const list = `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"echo"},{"name":"rm"}]}}`
	for name, stream := range map[string]string{
		"plain":                        "data: " + list + "\n\n",
		"CRLF":                         "data: " + list + "\r\n\r\n",
		"a byte order mark":            "\ufeffdata: " + list + "\n\n",
		"CR after a comment":           ": hello\rdata: " + list + "\n\n",
		"CR after the name":            "event: message\rdata: " + list + "\n\n",
		"CR alone":                     "event: message\rdata: " + list + "\r\r",
		"CR alone, then another event": "data: " + list + "\r\r: x\n\n",
		"two lines of data":            "data: " + strings.Replace(list, `,"result"`, ",\ndata: \"result\"", 1) + "\n\n",
	} {
		for _, method := range []string{http.MethodPost, http.MethodGet} {
			t.Run(name+" "+method, func(t *testing.T) {
				t.Parallel()
				upstream := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "text/event-stream")
					_, _ = io.WriteString(w, stream)
				})
				front, _ := behind(t, upstream, &pdp{deny: []string{"rm"}})
				var got string
				if method == http.MethodPost {
					_, got = postAs(t, front, "alice", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, nil)
				} else {
					got = getAs(t, front.URL)
				}
				events := readEvents(got)
				for _, e := range events {
					if strings.Contains(e, `"rm"`) {
						t.Errorf("the hidden tool is listed: %q", got)
					}
				}
				if len(events) == 0 {
					t.Logf("nothing came through: %q", got)
				}
			})
		}
	}
}

func getAs(t *testing.T, base string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/mcp", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Authorization", "Bearer alice")
	r.Header.Set("Last-Event-ID", "1")
	resp, err := http.DefaultClient.Do(r)
	if err != nil { // a stream that breaks off before its first event
		return ""
	}
	defer func() { _ = resp.Body.Close() }()
	raw, _ := io.ReadAll(resp.Body) // a stream may be broken off
	return string(raw)
}

// What answers a stream that is resumed is looked at whatever form it has.
func TestResumedInAnotherForm(t *testing.T) {
	t.Parallel()
	const list = `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"echo"},{"name":"rm"}]}}`
	for _, kind := range []string{"application/json", `text/event-stream; charset=utf-8; charset=utf-8`} {
		upstream := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			if kind == "application/json" {
				_, _ = io.WriteString(w, list)
				return
			}
			_, _ = fmt.Fprintf(w, "data: %s\n\n", list)
		})
		front, _ := behind(t, upstream, &pdp{deny: []string{"rm"}})
		if got := getAs(t, front.URL); strings.Contains(got, `"rm"`) {
			t.Errorf("%s: the hidden tool is listed: %q", kind, got)
		}
	}
}
