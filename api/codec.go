package api

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

// MarshalJSON encodes m as REST does: proto field names, JSON inline where the
// option (authzd.v1.json) says that the bytes are JSON, enum values without the
// name of their enum, timestamps by RFC 3339, 64-bit integers as numbers, and
// unset members left out unless they are always_present. It is not protojson.
func MarshalJSON(m proto.Message) ([]byte, error) {
	return appendMessage(nil, m.ProtoReflect())
}

// UnmarshalJSON decodes what MarshalJSON encodes into m, strictly: each fault is
// an *Error with a JSON Pointer into data.
func UnmarshalJSON(data []byte, m proto.Message, l Limits) error {
	l = l.withDefaults()
	// A batch nests its queries two levels deeper than a query stands alone.
	limits := l.strict(-2)
	limits.MaxBytes = l.MaxBatchBytes
	v, err := decodeDocument(data, limits)
	if err != nil {
		return err
	}
	return errOrNil(readMessage(m.ProtoReflect(), v, ""))
}

func isJSON(fd protoreflect.FieldDescriptor) bool {
	set, _ := proto.GetExtension(fd.Options(), authzdv1.E_Json).(bool)
	return set
}

func alwaysPresent(fd protoreflect.FieldDescriptor) bool {
	set, _ := proto.GetExtension(fd.Options(), authzdv1.E_AlwaysPresent).(bool)
	return set
}

func isTimestamp(fd protoreflect.FieldDescriptor) bool {
	return fd.Kind() == protoreflect.MessageKind && fd.Message().FullName() == "google.protobuf.Timestamp"
}

// appendMessage writes the members in the order of their numbers.
func appendMessage(dst []byte, m protoreflect.Message) ([]byte, error) {
	fields := m.Descriptor().Fields()
	order := make([]protoreflect.FieldDescriptor, fields.Len())
	for i := range order {
		order[i] = fields.Get(i)
	}
	slices.SortFunc(order, func(a, b protoreflect.FieldDescriptor) int { return int(a.Number() - b.Number()) })
	dst = append(dst, '{')
	first := true
	for _, fd := range order {
		if !m.Has(fd) && !alwaysPresent(fd) {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(appendString(dst, string(fd.Name())), ':')
		var err error
		if dst, err = appendField(dst, fd, m); err != nil {
			return nil, fmt.Errorf("encode %s: %w", fd.FullName(), err)
		}
	}
	return append(dst, '}'), nil
}

func appendField(dst []byte, fd protoreflect.FieldDescriptor, m protoreflect.Message) ([]byte, error) {
	switch {
	case fd.IsList():
		return appendList(dst, fd, m.Get(fd).List())
	case fd.IsMap():
		return appendMap(dst, fd, m.Get(fd).Map())
	case !m.Has(fd) && (fd.HasPresence() || fd.Kind() == protoreflect.BytesKind):
		return append(dst, "null"...), nil
	default:
		return appendValue(dst, fd, m.Get(fd))
	}
}

func appendList(dst []byte, fd protoreflect.FieldDescriptor, list protoreflect.List) ([]byte, error) {
	dst = append(dst, '[')
	for i := range list.Len() {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = appendValue(dst, fd, list.Get(i)); err != nil {
			return nil, err
		}
	}
	return append(dst, ']'), nil
}

func appendMap(dst []byte, fd protoreflect.FieldDescriptor, entries protoreflect.Map) ([]byte, error) {
	if fd.MapKey().Kind() != protoreflect.StringKind || fd.MapValue().Kind() != protoreflect.StringKind {
		return nil, errorf(CodeInternal, "", "only maps of strings to strings have a JSON form")
	}
	names := make([]string, 0, entries.Len())
	entries.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		names = append(names, k.String())
		return true
	})
	slices.Sort(names)
	dst = append(dst, '{')
	for i, name := range names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, name), ':')
		dst = appendString(dst, entries.Get(protoreflect.ValueOfString(name).MapKey()).String())
	}
	return append(dst, '}'), nil
}

func appendValue(dst []byte, fd protoreflect.FieldDescriptor, v protoreflect.Value) ([]byte, error) {
	switch kind := fd.Kind(); {
	case kind == protoreflect.StringKind:
		return appendString(dst, v.String()), nil
	case kind == protoreflect.BoolKind:
		return strconv.AppendBool(dst, v.Bool()), nil
	case kind == protoreflect.EnumKind:
		return appendString(dst, enumName(fd.Enum(), v.Enum())), nil
	case kind == protoreflect.Int32Kind || kind == protoreflect.Int64Kind:
		return strconv.AppendInt(dst, v.Int(), 10), nil
	case kind == protoreflect.BytesKind && isJSON(fd):
		if len(v.Bytes()) == 0 {
			return append(dst, "null"...), nil
		}
		return append(dst, v.Bytes()...), nil
	case isTimestamp(fd):
		at, ok := v.Message().Interface().(*timestamppb.Timestamp)
		if !ok {
			break
		}
		return appendTime(dst, at.AsTime()), nil
	case kind == protoreflect.MessageKind:
		return appendMessage(dst, v.Message())
	}
	return nil, errorf(CodeInternal, "", "a field of kind %s has no JSON form", fd.Kind())
}

func appendTime(dst []byte, t time.Time) []byte {
	dst = append(dst, '"')
	dst = t.UTC().AppendFormat(dst, time.RFC3339Nano)
	return append(dst, '"')
}

// appendString appends s as a JSON string; what is no UTF-8 becomes U+FFFD.
func appendString(dst []byte, s string) []byte {
	return rar.StringValue(s).AppendJSON(dst)
}

// enumName is the value's name without the enum's own, which buf's lint demands
// as a prefix: DECISION_ALLOW is ALLOW.
func enumName(ed protoreflect.EnumDescriptor, n protoreflect.EnumNumber) string {
	v := ed.Values().ByNumber(n)
	if v == nil {
		return strconv.Itoa(int(n))
	}
	return strings.TrimPrefix(string(v.Name()), enumPrefix(ed))
}

func enumPrefix(ed protoreflect.EnumDescriptor) string {
	var b strings.Builder
	for i, r := range string(ed.Name()) {
		if i > 0 && unicode.IsUpper(r) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToUpper(r))
	}
	return b.String() + "_"
}

func readMessage(m protoreflect.Message, v rar.Value, at string) *Error {
	return eachMember(v, at, func(member rar.Member) *Error {
		fd := m.Descriptor().Fields().ByName(protoreflect.Name(member.Name))
		if fd == nil {
			return unknown(at, member.Name)
		}
		path := at + "/" + member.Name
		if member.Value.Kind() == rar.Null && alwaysPresent(fd) {
			return nil
		}
		// The oneofs that proto3 makes up for optional fields hold one field only
		// and so never clash.
		if group := fd.ContainingOneof(); group != nil && m.WhichOneof(group) != nil {
			return errorf(CodeInvalidValue, path, "stands beside %q, and only one of them may be given", m.WhichOneof(group).Name())
		}
		return readField(m, fd, member.Value, path)
	})
}

func readField(m protoreflect.Message, fd protoreflect.FieldDescriptor, v rar.Value, path string) *Error {
	switch {
	case fd.IsList():
		return readList(m, fd, v, path)
	case fd.IsMap():
		return readMap(m, fd, v, path)
	case fd.Kind() == protoreflect.MessageKind && !isTimestamp(fd):
		// Mutable also marks an empty message as given.
		return readMessage(m.Mutable(fd).Message(), v, path)
	}
	value, err := readValue(fd, v, path)
	if err == nil {
		m.Set(fd, value)
	}
	return err
}

func readList(m protoreflect.Message, fd protoreflect.FieldDescriptor, v rar.Value, path string) *Error {
	if v.Kind() != rar.Array {
		return wrongType(path, "an array", v)
	}
	list := m.Mutable(fd).List()
	for i := range v.Len() {
		at := path + "/" + strconv.Itoa(i)
		if fd.Kind() == protoreflect.MessageKind && !isTimestamp(fd) {
			if err := readMessage(list.AppendMutable().Message(), v.Index(i), at); err != nil {
				return err
			}
			continue
		}
		value, err := readValue(fd, v.Index(i), at)
		if err != nil {
			return err
		}
		list.Append(value)
	}
	return nil
}

func readMap(m protoreflect.Message, fd protoreflect.FieldDescriptor, v rar.Value, path string) *Error {
	if fd.MapKey().Kind() != protoreflect.StringKind || fd.MapValue().Kind() != protoreflect.StringKind {
		return errorf(CodeInternal, path, "only maps of strings to strings have a JSON form")
	}
	entries := m.Mutable(fd).Map()
	return eachMember(v, path, func(member rar.Member) *Error {
		if member.Value.Kind() != rar.String {
			return wrongType(path+"/"+escape(member.Name), "a string", member.Value)
		}
		entries.Set(protoreflect.ValueOfString(member.Name).MapKey(), protoreflect.ValueOfString(member.Value.Text()))
		return nil
	})
}

func readValue(fd protoreflect.FieldDescriptor, v rar.Value, path string) (protoreflect.Value, *Error) {
	var none protoreflect.Value
	switch kind := fd.Kind(); {
	case kind == protoreflect.BytesKind && isJSON(fd):
		return protoreflect.ValueOfBytes(v.AppendJSON(nil)), nil
	case kind == protoreflect.StringKind:
		if v.Kind() != rar.String {
			return none, wrongType(path, "a string", v)
		}
		return protoreflect.ValueOfString(v.Text()), nil
	case kind == protoreflect.BoolKind:
		if v.Kind() != rar.Bool {
			return none, wrongType(path, "true or false", v)
		}
		return protoreflect.ValueOfBool(v.Bool()), nil
	case kind == protoreflect.EnumKind:
		return readEnum(fd.Enum(), v, path)
	case kind == protoreflect.Int32Kind || kind == protoreflect.Int64Kind:
		return readInt(kind, v, path)
	case isTimestamp(fd):
		return readTime(v, path)
	}
	return none, errorf(CodeInternal, path, "a field of kind %s has no JSON form", fd.Kind())
}

func readEnum(ed protoreflect.EnumDescriptor, v rar.Value, path string) (protoreflect.Value, *Error) {
	if v.Kind() != rar.String {
		return protoreflect.Value{}, wrongType(path, "a string", v)
	}
	value := ed.Values().ByName(protoreflect.Name(enumPrefix(ed) + v.Text()))
	if value == nil {
		return protoreflect.Value{}, errorf(CodeInvalidValue, path, "is none of the values of %s", ed.Name())
	}
	return protoreflect.ValueOfEnum(value.Number()), nil
}

func readInt(kind protoreflect.Kind, v rar.Value, path string) (protoreflect.Value, *Error) {
	if v.Kind() != rar.Number {
		return protoreflect.Value{}, wrongType(path, "a number", v)
	}
	n, err := strconv.ParseInt(v.Text(), 10, 64)
	if err != nil || kind == protoreflect.Int32Kind && (n < math.MinInt32 || n > math.MaxInt32) {
		return protoreflect.Value{}, errorf(CodeInvalidValue, path, "must be an integer of %s, written without fraction and exponent", kind)
	}
	if kind == protoreflect.Int32Kind {
		return protoreflect.ValueOfInt32(int32(n)), nil //nolint:gosec // the range was checked above
	}
	return protoreflect.ValueOfInt64(n), nil
}

func readTime(v rar.Value, path string) (protoreflect.Value, *Error) {
	if v.Kind() != rar.String {
		return protoreflect.Value{}, wrongType(path, "a string", v)
	}
	t, err := time.Parse(time.RFC3339Nano, v.Text())
	if err != nil {
		return protoreflect.Value{}, errorf(CodeInvalidValue, path, "must be a time as in RFC 3339")
	}
	return protoreflect.ValueOfMessage(timestamppb.New(t).ProtoReflect()), nil
}
