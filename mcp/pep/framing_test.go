package pep_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// anyLines reads lines as Python's text streams do, Java's readLine and C#'s
// ReadLine: CR ends a line, too.
func anyLines(text string) []string {
	return strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text), "\n")
}

// TestCarriageReturnInALine: in what is one line for the pipe a server may
// read several, one of which is a call that nobody was asked about.
func TestCarriageReturnInALine(t *testing.T) {
	t.Parallel()
	const inner = `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"rm","arguments":{}}}`
	for name, line := range map[string]string{
		"in a notification":  `{"jsonrpc":"2.0","method":"notifications/x","params":{"a":` + "\r" + inner + "\r" + `}}`,
		"in a response":      `{"jsonrpc":"2.0","id":1,"result":{"a":` + "\r" + inner + "\r" + `}}`,
		"in an allowed call": `{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"p","a":` + "\r" + inner + "\r" + `}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			service := &pdp{deny: []string{"rm"}}
			x := piped(t, enforcer(t, service))
			x.client(line)
			if got := x.read(x.toClient); !strings.Contains(got, `"error"`) {
				t.Errorf("the client reads %s", got)
			}
			x.client(`{"jsonrpc":"2.0","id":99,"method":"ping"}`)
			for _, read := range anyLines(x.read(x.toServer)) {
				var m struct {
					Method string
					Params struct{ Name string }
				}
				if json.Unmarshal([]byte(read), &m) == nil && m.Params.Name == "rm" {
					t.Errorf("the server reads %s; the service was asked about %v", read, service.questions())
				}
			}
		})
	}
}

// TestCharset: the body was decided as UTF-8, and the server is told to
// read it as something else. In UTF-7 +ACI- is a quote, and express.json() reads
// whatever is called utf-something.
func TestCharset(t *testing.T) {
	t.Parallel()
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"x+ACI-},+ACI-name+ACI-:+ACI-rm+ACI-,+ACI-y+ACI-:{+ACI-z+ACI-:+ACI-"}}}`
	for _, charset := range []string{"utf-7", "UTF-7", "gbk", "utf-16le"} {
		upstream := &looseServer{}
		service := &pdp{deny: []string{"rm"}}
		front, _ := behind(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			raw, _ := io.ReadAll(r.Body)
			if strings.Contains(strings.ToLower(r.Header.Get("Content-Type")), "utf-7") {
				raw = bytes.ReplaceAll(raw, []byte("+ACI-"), []byte(`"`))
			}
			r.Body = io.NopCloser(bytes.NewReader(raw))
			upstream.ServeHTTP(w, r)
		}), service)
		resp, _ := postAs(t, front, "alice", body, map[string]string{"Content-Type": "application/json; charset=" + charset})
		if resp.StatusCode == http.StatusOK {
			t.Errorf("%s: decided as UTF-8 and went on; executed %v", charset, upstream.ran)
		}
	}
}
