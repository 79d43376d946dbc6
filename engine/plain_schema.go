package engine

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/authzd/authzd/rar"
)

// plainSchema is a schema of the simple kind that most tools have. It can only
// tell that a value is valid: whatever it does not know, or does not like, is for
// the full validator, whose answer counts.
type plainSchema struct {
	// kinds are the types that are admitted, all if there are none.
	kinds   []rar.Kind
	integer bool // a number must be a whole one
	enum    []string
	runes   span
	pattern *regexp.Regexp
	// bounds of numbers, nil for none.
	minimum, maximum *float64
	properties       map[string]*plainSchema
	additional       *plainSchema // of other members; nil: there are none
	required         []string
	items            *plainSchema // nil: any
	length, size     span         // of items, and of members
}

// span bounds a number; most is -1 for no bound.
type span struct{ least, most int }

func (s span) holds(n int) bool { return n >= s.least && (s.most < 0 || n <= s.most) }

func anyNumber() span { return span{0, -1} }

// newPlain reads a closed schema; nil if it is not of the simple kind.
func newPlain(doc any) *plainSchema {
	if doc == true {
		anything := &plainSchema{runes: anyNumber(), length: anyNumber(), size: anyNumber()}
		anything.additional = anything
		return anything
	}
	m, ok := doc.(map[string]any)
	if !ok {
		return nil
	}
	p := &plainSchema{runes: anyNumber(), length: anyNumber(), size: anyNumber()}
	_, closed := m["unevaluatedProperties"]
	_, said := m["additionalProperties"]
	if closed && said {
		return nil
	}
	if !closed && !said {
		p.additional = newPlain(true)
	}
	for keyword, v := range m {
		if !p.read(keyword, v) {
			return nil
		}
	}
	return p
}

// read takes in a keyword.
func (p *plainSchema) read(keyword string, v any) bool {
	ok := true
	switch keyword {
	case "type":
		return p.readTypes(v)
	case "enum":
		return p.readEnum(v)
	case "const":
		return p.readEnum([]any{v})
	case "pattern":
		text, isText := v.(string)
		if !isText {
			return false
		}
		var err error
		p.pattern, err = regexp.Compile(text)
		ok = err == nil
	case "minimum":
		p.minimum, ok = bound(v)
	case "maximum":
		p.maximum, ok = bound(v)
	case "properties":
		return p.readProperties(v)
	case "additionalProperties", "unevaluatedProperties":
		if v != false {
			p.additional = newPlain(v)
			ok = p.additional != nil && keyword == "additionalProperties"
		}
	case "required":
		p.required, ok = names(v)
	case "items":
		p.items = newPlain(v)
		ok = p.items != nil
	case "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties":
		return p.readCount(keyword, v)
	case "title", "description", "$comment", "default", "examples", "deprecated", "readOnly", "writeOnly", "format":
	default:
		return strings.HasPrefix(keyword, "x-")
	}
	return ok
}

func (p *plainSchema) readCount(keyword string, v any) bool {
	n, ok := count(v)
	switch keyword {
	case "minLength":
		p.runes.least = n
	case "maxLength":
		p.runes.most = n
	case "minItems":
		p.length.least = n
	case "maxItems":
		p.length.most = n
	case "minProperties":
		p.size.least = n
	case "maxProperties":
		p.size.most = n
	}
	return ok
}

func (p *plainSchema) readTypes(v any) bool {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	number := false
	for _, t := range list {
		switch t {
		case "null":
			p.kinds = append(p.kinds, rar.Null)
		case "boolean":
			p.kinds = append(p.kinds, rar.Bool)
		case "number":
			number = true
			p.kinds = append(p.kinds, rar.Number)
		case "integer":
			p.integer = true
			p.kinds = append(p.kinds, rar.Number)
		case "string":
			p.kinds = append(p.kinds, rar.String)
		case "array":
			p.kinds = append(p.kinds, rar.Array)
		case "object":
			p.kinds = append(p.kinds, rar.Object)
		default:
			return false
		}
	}
	p.integer = p.integer && !number
	return len(list) > 0
}

// readEnum takes lists of strings only.
func (p *plainSchema) readEnum(v any) bool {
	list, ok := names(v)
	if !ok || p.enum != nil {
		return false
	}
	p.enum = append([]string{}, list...)
	return true
}

func (p *plainSchema) readProperties(v any) bool {
	m, ok := v.(map[string]any)
	if !ok {
		return false
	}
	p.properties = make(map[string]*plainSchema, len(m))
	for name, s := range m {
		sub := newPlain(s)
		if sub == nil {
			return false
		}
		p.properties[name] = sub
	}
	return true
}

func names(v any) ([]string, bool) {
	list, ok := v.([]any)
	if !ok {
		return nil, false
	}
	out := make([]string, len(list))
	for i, e := range list {
		if out[i], ok = e.(string); !ok {
			return nil, false
		}
	}
	return out, true
}

func count(v any) (int, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	i, err := strconv.Atoi(string(n))
	return i, err == nil && i >= 0
}

func bound(v any) (*float64, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return nil, false
	}
	f, ok := plainNumber(string(n))
	return &f, ok
}

// maxDigits is how many digits a number may have so that numbers of a decimal
// point and no exponent are ordered as floats are.
const maxDigits = 15

// plainNumber is the value of a number that a float orders exactly.
func plainNumber(text string) (float64, bool) {
	if len(text) > maxDigits || strings.ContainsAny(text, "eE") {
		return 0, false
	}
	f, err := strconv.ParseFloat(text, 64)
	return f, err == nil
}

// admits is true only for values that the full validator admits.
func (p *plainSchema) admits(v rar.Value) bool {
	kind := v.Kind()
	if len(p.kinds) > 0 {
		ok := false
		for _, k := range p.kinds {
			ok = ok || k == kind
		}
		if !ok {
			return false
		}
	}
	if p.enum != nil && !p.listed(v) {
		return false
	}
	switch kind {
	case rar.String:
		return p.admitsText(v.Text())
	case rar.Number:
		return p.admitsNumber(v.Text())
	case rar.Array:
		if !p.length.holds(v.Len()) {
			return false
		}
		for i := range v.Len() {
			if p.items != nil && !p.items.admits(v.Index(i)) {
				return false
			}
		}
		return true
	case rar.Object:
		return p.admitsObject(v)
	case rar.Null, rar.Bool:
		return true
	default:
		return false
	}
}

func (p *plainSchema) listed(v rar.Value) bool {
	if v.Kind() != rar.String {
		return false
	}
	for _, e := range p.enum {
		if e == v.Text() {
			return true
		}
	}
	return false
}

func (p *plainSchema) admitsText(s string) bool {
	if p.runes != anyNumber() && !p.runes.holds(utf8.RuneCountInString(s)) {
		return false
	}
	return p.pattern == nil || p.pattern.MatchString(s)
}

func (p *plainSchema) admitsNumber(text string) bool {
	if p.integer && strings.ContainsAny(text, ".eE") {
		return false // it may be a whole number all the same
	}
	if p.minimum == nil && p.maximum == nil {
		return true
	}
	f, ok := plainNumber(text)
	return ok && (p.minimum == nil || f >= *p.minimum) && (p.maximum == nil || f <= *p.maximum)
}

func (p *plainSchema) admitsObject(v rar.Value) bool {
	if !p.size.holds(v.Len()) {
		return false
	}
	found := 0
	for i := range v.Len() {
		m := v.Member(i)
		sub := p.properties[m.Name]
		if sub == nil {
			sub = p.additional
		}
		if sub == nil || !sub.admits(m.Value) {
			return false
		}
	}
	for _, name := range p.required {
		if _, ok := v.Get(name); ok {
			found++
		}
	}
	return found == len(p.required)
}
