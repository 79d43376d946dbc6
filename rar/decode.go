package rar

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// Defaults of Limits.
const (
	DefaultMaxBytes    = 64 << 10
	DefaultMaxDepth    = 32
	DefaultMaxExponent = 400 // covers every IEEE double
	DefaultMaxObjects  = 64
)

// Limits bounds what DecodeStrict and the parsing functions accept. A zero
// field means its default.
type Limits struct {
	// MaxBytes bounds the length of the text; default 64 KiB.
	MaxBytes int
	// MaxDepth bounds how deep arrays and objects nest; [] is 1. Default 32.
	MaxDepth int
	// MaxExponent bounds the written exponent of a number either way; default
	// 400. Libraries that expand 1e999999999 would stand still for minutes.
	MaxExponent int
	// MaxObjects bounds the elements of authorization_details; default 64.
	// DecodeStrict itself does not look at it.
	MaxObjects int
	// RejectCaseVariants also refuses member names of one object that are equal
	// under Unicode simple case folding; readers that match loosely would see
	// another document.
	RejectCaseVariants bool
}

func (l Limits) withDefaults() Limits {
	l.MaxBytes = orDefault(l.MaxBytes, DefaultMaxBytes)
	l.MaxDepth = orDefault(l.MaxDepth, DefaultMaxDepth)
	l.MaxExponent = orDefault(l.MaxExponent, DefaultMaxExponent)
	l.MaxObjects = orDefault(l.MaxObjects, DefaultMaxObjects)
	return l
}

func orDefault(n, byDefault int) int {
	if n == 0 {
		return byDefault
	}
	return n
}

// DecodeStrict decodes one JSON text (RFC 8259) and nothing after it. Every
// error is an *Error; a syntax error wins over a duplicate name wherever each
// of them stands. The result does not alias data.
func DecodeStrict(data []byte, l Limits) (Value, error) {
	if l = l.withDefaults(); len(data) > l.MaxBytes {
		return Value{}, l.tooLarge(len(data)) // before it is copied
	}
	return DecodeText(string(data), l)
}

// DecodeText is DecodeStrict of a string, of which the result holds views.
func DecodeText(text string, l Limits) (Value, error) {
	v, names, err := decode(text, l.withDefaults())
	if err != nil {
		return Value{}, err
	}
	if names != nil {
		return Value{}, names.err()
	}
	return v, nil
}

// nameFault is the first duplicate or case variant of a document. It is kept
// apart from other faults because the order of faults in authorization_details
// puts it after the checks of earlier elements.
type nameFault struct {
	code Code
	path []string // innermost first
}

func (f *nameFault) err() error {
	return &Error{Code: f.code, Path: joinReversed(f.path), Err: errors.New("the object has this member already")}
}

// joinReversed makes a JSON Pointer of tokens that were noted from inside out.
func joinReversed(tokens []string) string {
	pointer := ""
	for i := len(tokens) - 1; i >= 0; i-- {
		pointer = appendToken(pointer, tokens[i])
	}
	return pointer
}

func (l Limits) tooLarge(n int) error {
	return &Error{Code: CodeTooLarge, Err: fmt.Errorf("%d bytes where %d are allowed", n, l.MaxBytes)}
}

// decode is DecodeText with the fault of names kept apart; l has no zeros.
func decode(text string, l Limits) (Value, *nameFault, error) {
	if len(text) > l.MaxBytes {
		return Value{}, nil, l.tooLarge(len(text))
	}
	scratch := takeScratch()
	d := decoder{src: text, limits: l, stack: *scratch}
	v, err := d.document()
	d.giveScratch(scratch)
	if err != nil {
		return Value{}, nil, err
	}
	return v, d.names, nil
}

// takeScratch and giveScratch are a decoder's stack, which is used again.
func takeScratch() *[]Value {
	if scratch, _ := scratches.Get().(*[]Value); scratch != nil {
		return scratch
	}
	made := make([]Value, 0, scratchValues)
	return &made
}

func (d *decoder) giveScratch(scratch *[]Value) {
	if cap(d.stack) > mostScratch {
		return
	}
	*scratch = d.stack[:0]
	clear((*scratch)[:cap(*scratch)]) // or it would keep the text alive
	scratches.Put(scratch)
}

// decoder reads one document in one pass.
type decoder struct {
	src    string
	pos    int
	depth  int
	limits Limits
	// stack holds the children of the containers that are still open; a closed
	// container takes its children over into arena, so that a document costs
	// few allocations.
	stack []Value
	arena []Value
	// expected is how many values the arena has yet to take, by a count of
	// commas, colons and brackets: exact, unless strings hold such characters.
	expected int
	// names is the first fault of member names; names.path grows while the
	// recursion unwinds from it to the root.
	names *nameFault
	// trusted: the names are known to differ.
	trusted bool
}

// scratches are stacks of decoders, of []Value.
//
//nolint:gochecknoglobals // memory to be used again, by whoever decodes
var scratches sync.Pool

const (
	scratchValues = 64
	mostScratch   = 512 // larger ones are not kept
	maxChunk      = 512 // values in one allocation of the arena
)

func (d *decoder) document() (Value, error) {
	if err := d.begin(); err != nil {
		return Value{}, err
	}
	for _, mark := range [...]string{",", ":", "[", "{"} {
		d.expected += strings.Count(d.src, mark)
	}
	if err := d.value(); err != nil {
		return Value{}, err
	}
	if err := d.end(); err != nil {
		return Value{}, err
	}
	return d.stack[0], nil
}

// fail makes an error at the current place; the callers add the path on their
// way out, so that a document without faults pays nothing for paths.
func (d *decoder) fail(code Code, what string) error {
	return &Error{Code: code, Err: fmt.Errorf("offset %d: %s", d.pos, what)}
}

// below adds a pointer token in front of the path of a fault found below it.
func below(err error, token string) error {
	var e *Error
	if errors.As(err, &e) {
		e.Path = appendToken("", token) + e.Path
	}
	return err
}

func (d *decoder) space() {
	for d.pos < len(d.src) {
		switch d.src[d.pos] {
		case ' ', '\t', '\n', '\r':
			d.pos++
		default:
			return
		}
	}
}

// value reads the value that starts at pos and pushes it on the stack.
func (d *decoder) value() error {
	if d.pos >= len(d.src) {
		return d.fail(CodeSyntax, "the text ends where a value should be")
	}
	switch c := d.src[d.pos]; {
	case c == '"':
		s, err := d.text()
		d.stack = append(d.stack, textValue(String, s))
		return err
	case c == '{':
		return d.container(Object)
	case c == '[':
		return d.container(Array)
	case c == '-' || (c >= '0' && c <= '9'):
		literal, err := d.number()
		d.stack = append(d.stack, textValue(Number, literal))
		return err
	case d.literal("true"):
		d.stack = append(d.stack, Value{kind: Bool, bool: true})
	case d.literal("false"):
		d.stack = append(d.stack, Value{kind: Bool})
	case d.literal("null"):
		d.stack = append(d.stack, Value{kind: Null})
	default:
		return d.fail(CodeSyntax, "not a JSON value")
	}
	return nil
}

func (d *decoder) literal(word string) bool {
	if !strings.HasPrefix(d.src[d.pos:], word) {
		return false
	}
	d.pos += len(word)
	return true
}

// container reads an array or an object and moves its children to the arena.
func (d *decoder) container(kind Kind) error {
	if d.depth >= d.limits.MaxDepth {
		return d.fail(CodeTooDeep, fmt.Sprintf("more than %d levels", d.limits.MaxDepth))
	}
	d.depth++
	d.pos++
	base := len(d.stack)
	var err error
	if kind == Array {
		err = d.elements()
	} else {
		err = d.members(base)
	}
	if err != nil {
		return err
	}
	d.depth--
	kids := d.keep(d.stack[base:])
	d.stack = append(d.stack[:base], listValue(kind, kids))
	return nil
}

// keep copies the children of a closed container into the arena.
func (d *decoder) keep(kids []Value) []Value {
	if len(kids) == 0 {
		return nil
	}
	if cap(d.arena)-len(d.arena) < len(kids) {
		chunk := max(len(kids), min(d.expected, maxChunk))
		d.expected -= chunk
		d.arena = make([]Value, 0, chunk)
	}
	from := len(d.arena)
	d.arena = append(d.arena, kids...)
	return d.arena[from:len(d.arena):len(d.arena)]
}

func (d *decoder) elements() error {
	d.space()
	if d.peek(']') {
		d.pos++
		return nil
	}
	for i := 0; ; i++ {
		faulty := d.names != nil
		if err := d.value(); err != nil {
			return below(err, strconv.Itoa(i))
		}
		if !faulty && d.names != nil {
			d.names.path = append(d.names.path, strconv.Itoa(i))
		}
		more, err := d.comma(']')
		if !more {
			return err
		}
	}
}

func (d *decoder) members(base int) error {
	d.space()
	if d.peek('}') {
		d.pos++
		return nil
	}
	var seen nameSet
	for {
		if !d.peek('"') {
			return d.fail(CodeSyntax, "not a member name")
		}
		name, err := d.text()
		if err != nil {
			return err
		}
		if d.names == nil && !d.trusted {
			if code := seen.add(d.stack[base:], name, d.limits.RejectCaseVariants); code != "" {
				d.names = &nameFault{code: code, path: []string{name}}
			}
		}
		if err := d.member(name); err != nil {
			return err
		}
		more, err := d.comma('}')
		if !more {
			return err
		}
	}
}

// member reads the colon and the value after a name.
func (d *decoder) member(name string) error {
	d.space()
	if !d.peek(':') {
		return d.fail(CodeSyntax, "no colon after a member name")
	}
	d.pos++
	d.space()
	d.stack = append(d.stack, textValue(String, name))
	faulty := d.names != nil
	if err := d.value(); err != nil {
		return below(err, name)
	}
	if !faulty && d.names != nil {
		d.names.path = append(d.names.path, name)
	}
	return nil
}

// comma reads what follows a child: true for a comma, false for the end and with an
// error.
func (d *decoder) comma(end byte) (bool, error) {
	d.space()
	switch {
	case d.peek(','):
		d.pos++
		d.space()
		return true, nil
	case d.peek(end):
		d.pos++
		return false, nil
	case d.pos >= len(d.src):
		return false, d.fail(CodeSyntax, "the text ends inside an array or object")
	}
	return false, d.fail(CodeSyntax, "neither a comma nor the end of an array or object")
}

func (d *decoder) peek(c byte) bool { return d.pos < len(d.src) && d.src[d.pos] == c }
