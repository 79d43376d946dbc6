package bundles

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/authzd/authzd/rar"
)

// DecodeYAML reads the part of YAML that JSON can say and that every reader
// understands alike: one document, string keys, no tags, anchors or merges, and
// numbers spelt as JSON spells them, kept letter by letter. What YAML 1.1 and
// 1.2 read differently (0x1F, 007, 1_000, .5) is refused; quote it, or write
// the number as JSON does. Decision cases and configuration files are read with
// it too.
func DecodeYAML(data []byte, l Limits) (v rar.Value, err error) {
	l = l.withDefaults()
	if len(data) > l.MaxYAMLBytes {
		return v, fmt.Errorf("%d bytes of YAML where %d are allowed (JSON may be larger)", len(data), l.MaxYAMLBytes)
	}
	if !utf8.Valid(data) {
		return v, errors.New("not UTF-8")
	}
	if err := yamlDepth(string(data)); err != nil {
		return v, err
	}
	// The parser is not ours, and must not be able to end the process.
	defer func() {
		if p := recover(); p != nil {
			v, err = rar.Value{}, fmt.Errorf("the YAML parser gave up: %v", p)
		}
	}()
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return v, fmt.Errorf("YAML: %w", err)
	}
	var body ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if body != nil {
			return v, yamlFault(doc.Body, "a second document")
		}
		body = doc.Body
	}
	if body == nil {
		return v, errors.New("an empty YAML document")
	}
	d := yamlDecoder{depth: l.MaxDataDepth}
	return d.value(body)
}

// yamlSyntaxError is a fault of YAML with its place.
type yamlSyntaxError struct {
	line, column int
	what         string
}

// Error says where and what.
func (e *yamlSyntaxError) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.line, e.column, e.what)
}

func yamlFault(n ast.Node, format string, args ...any) error {
	e := &yamlSyntaxError{what: fmt.Sprintf(format, args...)}
	if t := n.GetToken(); t != nil && t.Position != nil {
		e.line, e.column = t.Position.Line, t.Position.Column
	}
	return e
}

// yamlError codes a fault of DecodeYAML.
func yamlError(code Code, file string, err error) error {
	return &Error{Code: code, Path: file, Err: err}
}

// maxYAMLNesting bounds what the recursive parser is given at all. It is
// coarse; the exact depth is counted afterwards.
const maxYAMLNesting = 512

// yamlDepth refuses text that nests deeper than any data we would accept.
func yamlDepth(text string) error {
	brackets := 0
	for line := range strings.Lines(text) {
		if lead := len(line) - len(strings.TrimLeft(line, " -?:\t")); lead > maxYAMLNesting {
			return errors.New("the YAML nests too deeply")
		}
		brackets += strings.Count(line, "[") + strings.Count(line, "{")
		brackets = max(0, brackets-strings.Count(line, "]")-strings.Count(line, "}"))
		if brackets > maxYAMLNesting || strings.Count(line, "[")+strings.Count(line, "{") > maxYAMLBrackets {
			return errors.New("the YAML nests too deeply")
		}
	}
	return nil
}

// maxYAMLBrackets bounds the opening brackets of one line.
const maxYAMLBrackets = 4 * maxYAMLNesting

type yamlDecoder struct{ depth int }

func (d *yamlDecoder) value(n ast.Node) (rar.Value, error) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return d.object(n, n.Values)
	case *ast.MappingValueNode:
		return d.object(n, []*ast.MappingValueNode{n})
	case *ast.SequenceNode:
		return d.array(n)
	case *ast.StringNode:
		return plainText(n)
	case *ast.LiteralNode:
		return rar.StringValue(n.Value.Value), nil
	case *ast.IntegerNode:
		return yamlNumber(n, n.Token)
	case *ast.FloatNode:
		return yamlNumber(n, n.Token)
	case *ast.BoolNode:
		return rar.BoolValue(n.Value), nil
	case *ast.NullNode:
		return rar.NullValue(), nil
	case *ast.InfinityNode, *ast.NanNode:
		return rar.Value{}, yamlFault(n, "JSON has no such number")
	case nil:
		return rar.NullValue(), nil
	}
	return rar.Value{}, yamlFault(n, "anchors, aliases, tags and merges are not taken")
}

func (d *yamlDecoder) enter(n ast.Node) error {
	if d.depth--; d.depth < 0 {
		return yamlFault(n, "nested too deeply")
	}
	return nil
}

func (d *yamlDecoder) object(n ast.Node, entries []*ast.MappingValueNode) (rar.Value, error) {
	if err := d.enter(n); err != nil {
		return rar.Value{}, err
	}
	defer func() { d.depth++ }()
	seen := make(map[string]bool, len(entries))
	members := make([]rar.Member, 0, len(entries))
	for _, e := range entries {
		key, ok := e.Key.(*ast.StringNode)
		if !ok {
			return rar.Value{}, yamlFault(e.Key, "keys are strings: quote it")
		}
		if seen[key.Value] {
			return rar.Value{}, yamlFault(key, "the key %q is given twice", key.Value)
		}
		seen[key.Value] = true
		v, err := d.value(e.Value)
		if err != nil {
			return rar.Value{}, err
		}
		members = append(members, rar.Member{Name: key.Value, Value: v})
	}
	return rar.ObjectValue(members...), nil
}

func (d *yamlDecoder) array(n *ast.SequenceNode) (rar.Value, error) {
	if err := d.enter(n); err != nil {
		return rar.Value{}, err
	}
	defer func() { d.depth++ }()
	elements := make([]rar.Value, 0, len(n.Values))
	for _, e := range n.Values {
		v, err := d.value(e)
		if err != nil {
			return rar.Value{}, err
		}
		elements = append(elements, v)
	}
	return rar.ArrayValue(elements...), nil
}

func yamlNumber(n ast.Node, t *token.Token) (rar.Value, error) {
	v, err := rar.NumberValue(strings.TrimSpace(t.Value))
	if err != nil {
		return rar.Value{}, yamlFault(n, "%q is not a number as JSON spells it: quote it, or rewrite it", t.Value)
	}
	return v, nil
}

// plainText decides what unquoted text is. The parser at hand takes 1e3 and
// integers beyond 64 bits for text; other readers, OPA's among them, do not.
func plainText(n *ast.StringNode) (rar.Value, error) {
	switch n.Token.Type {
	case token.SingleQuoteType, token.DoubleQuoteType:
		return rar.StringValue(n.Value), nil
	default:
	}
	if v, err := rar.NumberValue(n.Value); err == nil {
		return v, nil
	}
	if looksNumeric(n.Value) {
		return rar.Value{}, yamlFault(n, "%q is a number to some readers of YAML and text to others: quote it", n.Value)
	}
	return rar.StringValue(n.Value), nil
}

// looksNumeric is true of text made of nothing but digits and what numbers of
// any YAML version are spelt with, dates excepted.
func looksNumeric(s string) bool {
	s = strings.ToLower(strings.TrimLeft(s, "+-"))
	if s == "" {
		return false
	}
	digits := strings.Trim(s, "0123456789_.")
	switch {
	case digits == "":
		return strings.ContainsAny(s, "0123456789") && strings.Count(s, ".") <= 1
	case strings.HasPrefix(s, "0x"), strings.HasPrefix(s, "0o"), strings.HasPrefix(s, "0b"):
		return strings.Trim(s[2:], "0123456789abcdef_") == ""
	case digits == "e", digits == "e+", digits == "e-":
		return s[0] != 'e' && s[len(s)-1] != 'e'
	}
	return s == ".inf" || s == ".nan"
}
