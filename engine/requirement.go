package engine

import (
	"time"

	"github.com/authzd/authzd/rar"
)

// requirement is what a permit demands of one credential. Each kind is a file
// of its own: requirement_*.go.
type requirement interface {
	kind() Kind
	// meets judges one usable credential. unmet explains a no; it is never shown
	// to the MCP client.
	meets(u *usable, at *judgement) (ok bool, unmet Reason)
	// remedy is what to obtain.
	remedy() Remedy
}

// judgement is what requirements may look at beside the credential.
type judgement struct {
	types  *rar.Types
	now    time.Time
	commit *Commit
}

// knownRequirement tells the kinds of this engine.
func knownRequirement(k Kind) bool { o := kindOrder(k); return o != unknownKind && k != KindToken }

// readRequirement reads one requirement of policy. An unknown kind denies: what
// it demands cannot be judged.
func readRequirement(path string, v rar.Value, types *rar.Types) (requirement, *shapeError) {
	kind, _ := v.Get("kind")
	if kind.Kind() != rar.String { // as where v is no object
		return nil, malformed(path, "must be an object with a kind, as the constructors of data.authzd.v1 make it")
	}
	m := members{path: path, value: v}
	switch Kind(kind.Text()) {
	case KindScopes:
		return readScopes(&m)
	case KindAuthorizationDetails:
		return readDetails(&m, types)
	case KindAuthentication:
		return readAuthentication(&m)
	case KindProofOfPossession:
		return readPossession(&m)
	case KindApproval:
		return readApproval(&m)
	case KindToken:
	}
	return nil, &shapeError{code: CodeUnknownRequirement, path: path + ".kind", text: "unknown requirement kind " + kind.Text()}
}

// members reads a closed object.
type members struct {
	path  string
	value rar.Value
}

// closed refuses members that are not in names.
func (m *members) closed(names ...string) *shapeError {
	for i := range m.value.Len() {
		if name := m.value.Member(i).Name; name != "kind" && !contains(names, name) {
			return malformed(m.path+"."+name, "is not a member of this requirement")
		}
	}
	return nil
}

// texts reads an array of non-empty strings.
func (m *members) texts(name string) ([]string, *shapeError) {
	v, _ := m.value.Get(name)
	list, ok := stringList(v)
	if !ok {
		return nil, malformed(m.path+"."+name, "must be an array of strings")
	}
	if len(list) == 0 {
		return nil, &shapeError{code: CodeEmptyRequirement, path: m.path + "." + name, text: "is empty"}
	}
	for _, s := range list {
		if s == "" {
			return nil, malformed(m.path+"."+name, "holds an empty string")
		}
	}
	return list, nil
}

func (m *members) text(name string) (string, bool, *shapeError) {
	v, ok := m.value.Get(name)
	if !ok {
		return "", false, nil
	}
	if v.Kind() != rar.String || v.Text() == "" {
		return "", true, malformed(m.path+"."+name, "must be a non-empty string")
	}
	return v.Text(), true, nil
}
