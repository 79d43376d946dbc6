package api

import (
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// Every message that a CheckRequest can hold is looked at: a field of a later
// contract in any of them is seen.
func TestOnlyKnown(t *testing.T) {
	t.Parallel()
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 1999, protowire.VarintType), 1)
	full := &authzdv1.CheckRequest{}
	fillMessages(full.ProtoReflect())
	if !onlyKnown(full) {
		t.Fatal("a message without unknown fields counts as one with")
	}
	seen := map[protoreflect.FullName]bool{}
	eachMessage(full.ProtoReflect(), func(m protoreflect.Message) {
		seen[m.Descriptor().FullName()] = true
		m.SetUnknown(unknown)
		defer m.SetUnknown(nil)
		if onlyKnown(full) {
			t.Errorf("an unknown field in %s is not seen", m.Descriptor().FullName())
		}
		if checkKnown(full.ProtoReflect(), "") == nil {
			t.Errorf("an unknown field in %s is not refused", m.Descriptor().FullName())
		}
	})
	if len(seen) != 8 {
		t.Errorf("%d messages were tried: %v", len(seen), seen)
	}
	if !onlyKnown(proto.CloneOf(full)) || !onlyKnown(&authzdv1.CheckRequest{}) {
		t.Error("a message without unknown fields counts as one with")
	}
}

// fillMessages sets each field that is a message, one of each list.
func fillMessages(m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		switch fd := fields.Get(i); {
		case fd.Message() == nil:
		case fd.IsList():
			list := m.Mutable(fd).List()
			list.AppendMutable()
			fillMessages(list.AppendMutable().Message())
		default:
			fillMessages(m.Mutable(fd).Message())
		}
	}
}

func eachMessage(m protoreflect.Message, visit func(protoreflect.Message)) {
	visit(m)
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				eachMessage(v.List().Get(i).Message(), visit)
			}
		default:
			eachMessage(v.Message(), visit)
		}
		return true
	})
}

// A caller within the process may write to its message afterwards; what was read
// of it stays.
func TestValuesOfALocalCallerAreCopies(t *testing.T) {
	t.Parallel()
	s := &Server{}
	for d, shared := range map[door]bool{doorGRPC: true, doorLocal: false, doorREST: false, doorGateway: false} {
		w := s.wire(call{door: d})
		w.limits = Limits{}.withDefaults()
		data := []byte(`{"name":"pay"}`)
		v := w.object(data, 1, "", "context")
		copy(data, `{"name":"buy"}`)
		name, _ := v.Get("name")
		if want := map[bool]string{false: "pay", true: "buy"}[shared]; name.Text() != want {
			t.Errorf("%s: %q, want %q", d, name.Text(), want)
		}
	}
}
