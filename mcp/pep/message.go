package pep

import (
	"bytes"
	"errors"
	"strings"

	"github.com/authzd/authzd/rar"
)

// Methods that this package treats in a way of their own.
const (
	methodInitialize    = "initialize"
	methodDiscover      = "server/discover"
	methodToolsList     = "tools/list"
	methodToolsCall     = "tools/call"
	methodResourcesList = "resources/list"
	methodResourcesRead = "resources/read"
	methodTemplatesList = "resources/templates/list"
	methodPromptsList   = "prompts/list"
	methodPromptsGet    = "prompts/get"
	methodPing          = "ping"

	notifications            = "notifications/"
	notificationToolsChanged = "notifications/tools/list_changed"
	// listChanged is the part of it that is the same however / is escaped.
	listChanged = "list_changed"
)

// stateless is the revision since which every request says all about its client.
const stateless = "2026-07-28"

// maxDepth bounds how deep a message nests; far more than any tool needs, and
// above what the service takes.
const maxDepth = 128

// maxID bounds the text of a request's id, which is sent back.
const maxID = 1024

// kind tells the three kinds of JSON-RPC messages apart.
type kind int

const (
	kindRequest kind = iota + 1
	kindNotification
	kindResponse
)

// message is one decoded JSON-RPC message of a client.
type message struct {
	kind   kind
	id     rar.Value
	method string
	// params is an object, or absent.
	params rar.Value
	value  rar.Value
}

var (
	errNotJSON    = errors.New("the message is not JSON, or not as it should be: a name stands twice, or it nests too deep")
	errNotMessage = errors.New("the message is not one of JSON-RPC 2.0")
)

// decode reads what a client sent: one message, or the messages of a batch.
// What two readers could read differently, such as a name that stands twice, is
// an error, because it would go on as it is.
func decode(raw []byte, limit int) (list []message, batch bool, err error) {
	v, err := rar.DecodeStrict(raw, rar.Limits{
		MaxBytes: limit, MaxDepth: maxDepth, MaxExponent: rar.DefaultMaxExponent, RejectCaseVariants: true,
	})
	if err != nil {
		return nil, false, errNotJSON
	}
	if v.Kind() != rar.Array {
		m, err := messageOf(v)
		return []message{m}, false, err
	}
	if v.Len() == 0 {
		return nil, true, errNotMessage
	}
	for i := range v.Len() {
		m, err := messageOf(v.Index(i))
		if err != nil {
			return nil, true, err
		}
		list = append(list, m)
	}
	return list, true, nil
}

// messageOf sorts a value into the kinds of JSON-RPC 2.0 (sections 4 and 5).
// What fits two of them is none.
func messageOf(v rar.Value) (message, error) {
	m := message{value: v}
	if version, _ := v.Get("jsonrpc"); v.Kind() != rar.Object || version.Kind() != rar.String || version.Text() != "2.0" {
		return m, errNotMessage
	}
	method, hasMethod := v.Get("method")
	_, hasResult := v.Get("result")
	_, hasError := v.Get("error")
	var hasID bool
	m.id, hasID = v.Get("id")
	if hasID && !validID(m.id) {
		m.id = rar.Value{}
		return m, errNotMessage
	}
	switch {
	case !plain(v):
		return m, errNotMessage
	case hasMethod && !hasResult && !hasError:
		m.method, m.kind = method.Text(), kindRequest
		if !hasID {
			m.kind = kindNotification
		}
		// Servers have been seen to do what a request without an id says.
		if method.Kind() != rar.String || m.method == "" || !hasID && !strings.HasPrefix(m.method, notifications) {
			return m, errNotMessage
		}
		var given bool
		if m.params, given = v.Get("params"); given && m.params.Kind() != rar.Object {
			return m, errNotMessage
		}
	case !hasMethod && hasID && hasResult != hasError:
		m.kind = kindResponse
	default:
		return m, errNotMessage
	}
	return m, nil
}

// plain: no name that another reader may take for one of JSON-RPC's.
func plain(v rar.Value) bool {
	for i := range v.Len() {
		switch v.Member(i).Name {
		case "jsonrpc", "id", "method", "params", "result", "error":
		default:
			return false
		}
	}
	return true
}

// validID: MCP takes strings and numbers; null would be nobody's request.
func validID(id rar.Value) bool {
	return (id.Kind() == rar.String || id.Kind() == rar.Number) && len(id.Text()) <= maxID
}

// idKey makes an id a key: the string "1" and the number 1 are two ids.
func idKey(id rar.Value) string { return string(id.AppendCanonical(nil)) }

// passes tells messages that need no decision: notifications, ping, and answers
// to what the server asked (COAZ-MCP section 7).
func (m *message) passes() bool {
	return m.kind != kindRequest || m.method == methodPing
}

// paramsText is the text of params; nil if there are none.
func (m *message) paramsText() []byte {
	if m.params.Kind() == rar.Absent {
		return nil
	}
	return m.params.AppendJSON(nil)
}

// name is what the request is about, for the log.
func nameIn(params []byte) string {
	if len(params) == 0 {
		return ""
	}
	v, err := rar.DecodeStrict(params, rar.Limits{MaxBytes: DefaultMaxMessage, MaxDepth: maxDepth})
	if err != nil {
		return ""
	}
	for _, member := range []string{"name", "uri"} {
		if s, ok := v.Get(member); ok && s.Kind() == rar.String {
			return s.Text()[:min(len(s.Text()), 256)]
		}
	}
	return ""
}

func text(v rar.Value, name string) string {
	m, ok := v.Get(name)
	if !ok || m.Kind() != rar.String {
		return ""
	}
	return m.Text()
}

// mayMention tells cheaply whether a message of the server could hold word. A
// word that is written with escapes is not found, and no server writes so.
func mayMention(raw []byte, word string) bool { return bytes.Contains(raw, []byte(word)) }
