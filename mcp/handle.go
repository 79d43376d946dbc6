package mcp

import "github.com/authzd/authzd/rar"

// HandleKey is the member of params._meta in which a client that tries again
// echoes the authorizationContextId of the denial (SEP-2643).
const HandleKey = "io.modelcontextprotocol/authorization-context-id"

// EchoedHandle gives the handle that the message echoes, empty if it has none
// that could have been issued. It is the client's text, for logs and
// correlation: it grants nothing, and its absence refuses nothing.
func EchoedHandle(params rar.Value) string {
	meta, _ := params.Get("_meta")
	handle, ok := text(meta, HandleKey)
	if !ok || !isHandle(handle) {
		return ""
	}
	return handle
}

// WithoutHandle leaves the echoed handle out of params, whatever it is: a server
// must not rely on it, so policy does not get to see it.
func WithoutHandle(params rar.Value) rar.Value {
	meta, _ := params.Get("_meta")
	if _, has := meta.Get(HandleKey); !has {
		return params
	}
	return replace(params, "_meta", without(meta, HandleKey))
}

func without(v rar.Value, name string) rar.Value {
	members := make([]rar.Member, 0, v.Len())
	for i := range v.Len() {
		if m := v.Member(i); m.Name != name {
			members = append(members, m)
		}
	}
	return object(members...)
}

func replace(v rar.Value, name string, by rar.Value) rar.Value {
	members := make([]rar.Member, 0, v.Len())
	for i := range v.Len() {
		m := v.Member(i)
		if m.Name == name {
			m.Value = by
		}
		members = append(members, m)
	}
	return object(members...)
}

// IssuedHandle is the handle of a denial and who it was issued to.
type IssuedHandle struct{ ContextID, Principal string }

// EchoedBy tells whether principal's message continues that denial. Another
// principal's does not: it is neither joined to it nor punished.
func (h IssuedHandle) EchoedBy(principal string, params rar.Value) bool {
	return h.ContextID != "" && h.Principal == principal && EchoedHandle(params) == h.ContextID
}
