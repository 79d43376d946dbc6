package failclosed_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

type kind int

const (
	null kind = iota
	boolean
	number
	text
	array
	object
)

// node is a JSON value that keeps what a mutation may want to spoil: number
// literals as written, the order of members, and members that occur twice.
type node struct {
	kind    kind
	text    string // the literal of null, a boolean or a number; the content of a string
	items   []*node
	members []member
}

type member struct {
	name  string
	raw   string // how the name is written, if not in the usual way
	value *node
}

func str(s string) *node          { return &node{kind: text, text: s} }
func num(literal string) *node    { return &node{kind: number, text: literal} }
func list(items ...*node) *node   { return &node{kind: array, items: items} }
func obj(members ...member) *node { return &node{kind: object, members: members} }
func nullNode() *node             { return &node{kind: null, text: "null"} }

func boolNode(b bool) *node { return &node{kind: boolean, text: strconv.FormatBool(b)} }

// parse reads one JSON text, with members in order and duplicates kept.
func parse(data []byte) (*node, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("invalid UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	n, err := parseValue(d)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("data after the value")
	}
	return n, nil
}

func parseValue(d *json.Decoder) (*node, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case nil:
		return nullNode(), nil
	case bool:
		return boolNode(t), nil
	case json.Number:
		return num(t.String()), nil
	case string:
		return str(t), nil
	case json.Delim:
		if t == '[' {
			return parseArray(d)
		}
		return parseObject(d)
	}
	return nil, fmt.Errorf("token %v", t)
}

func parseArray(d *json.Decoder) (*node, error) {
	n := list()
	for d.More() {
		v, err := parseValue(d)
		if err != nil {
			return nil, err
		}
		n.items = append(n.items, v)
	}
	_, err := d.Token()
	return n, err
}

func parseObject(d *json.Decoder) (*node, error) {
	n := obj()
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, ok := t.(string)
		if !ok {
			return nil, fmt.Errorf("member name %v", t)
		}
		v, err := parseValue(d)
		if err != nil {
			return nil, err
		}
		n.members = append(n.members, member{name: name, value: v})
	}
	_, err := d.Token()
	return n, err
}

// write appends the JSON text of n.
func (n *node) write(b *bytes.Buffer) {
	switch n.kind {
	case null, boolean, number:
		b.WriteString(n.text)
	case text:
		writeString(b, n.text)
	case array:
		b.WriteByte('[')
		for i, v := range n.items {
			if i > 0 {
				b.WriteByte(',')
			}
			v.write(b)
		}
		b.WriteByte(']')
	case object:
		b.WriteByte('{')
		for i, m := range n.members {
			if i > 0 {
				b.WriteByte(',')
			}
			if m.raw != "" {
				b.WriteString(m.raw)
			} else {
				writeString(b, m.name)
			}
			b.WriteByte(':')
			m.value.write(b)
		}
		b.WriteByte('}')
	}
}

func writeString(b *bytes.Buffer, s string) {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a bytes.Buffer takes everything
	b.Truncate(b.Len() - 1)
}

func (n *node) String() string {
	var b bytes.Buffer
	n.write(&b)
	return b.String()
}

// get follows member names; nil if one is missing or n is no object there.
func (n *node) get(names ...string) *node {
	for _, name := range names {
		if n == nil || n.kind != object {
			return nil
		}
		var found *node
		for i := range n.members {
			if n.members[i].name == name {
				found = n.members[i].value
			}
		}
		n = found
	}
	return n
}

// set replaces or adds a member.
func (n *node) set(name string, v *node) {
	for i := range n.members {
		if n.members[i].name == name {
			n.members[i].value = v
			return
		}
	}
	n.members = append(n.members, member{name: name, value: v})
}

// drop removes a member.
func (n *node) drop(name string) {
	for i := range n.members {
		if n.members[i].name == name {
			n.members = append(n.members[:i], n.members[i+1:]...)
			return
		}
	}
}

// clone copies n, so that a mutation leaves the original alone.
func (n *node) clone() *node {
	c := &node{kind: n.kind, text: n.text}
	for _, v := range n.items {
		c.items = append(c.items, v.clone())
	}
	for _, m := range n.members {
		c.members = append(c.members, member{name: m.name, raw: m.raw, value: m.value.clone()})
	}
	return c
}

// unambiguous tells whether no object in n has a member name twice, counting
// names that differ only in case: half of all JSON readers would take the one,
// half the other.
func (n *node) unambiguous() bool {
	for _, v := range n.items {
		if !v.unambiguous() {
			return false
		}
	}
	for i, m := range n.members {
		for _, o := range n.members[:i] {
			if strings.EqualFold(m.name, o.name) {
				return false
			}
		}
		if !m.value.unambiguous() {
			return false
		}
	}
	return true
}

// str is the content of a string, and whether n is one.
func (n *node) str() (string, bool) {
	if n == nil || n.kind != text {
		return "", false
	}
	return n.text, true
}

// is tells whether n is the string s.
func (n *node) is(s string) bool { return n != nil && n.kind == text && n.text == s }

// has tells whether n is an object whose members are among names.
func (n *node) within(names ...string) bool {
	if n == nil || n.kind != object {
		return false
	}
	for _, m := range n.members {
		if !contains(names, m.name) {
			return false
		}
	}
	return true
}

// strs is the content of an array of strings, and whether n is one.
func (n *node) strs() ([]string, bool) {
	if n == nil || n.kind != array {
		return nil, false
	}
	out := []string{}
	for _, v := range n.items {
		s, ok := v.str()
		if !ok {
			return nil, false
		}
		out = append(out, s)
	}
	return out, true
}

func contains(all []string, s string) bool {
	for _, a := range all {
		if a == s {
			return true
		}
	}
	return false
}
