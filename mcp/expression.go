package mcp

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/authzd/authzd/rar"
)

// Bounds of evaluating: of one expression, of all expressions of a mapping
// together, and of what they yield. CEL counts cost in steps; a step takes some
// tens of nanoseconds.
const (
	maxExpressionCost  = 50_000
	maxMappingCost     = 200_000
	maxResultBytes     = 64 << 10
	maxResultDepth     = 32
	maxParseDepth      = 32
	maxExpressionNodes = 2_000
	maxLoopNesting     = 2
	// interruptEvery is how many rounds of a loop pass between two looks at the
	// clock: what CEL counts as one step may be a comparison of all arguments.
	interruptEvery = 16
	// maxInputNodes bounds the values of params and token together, and so such a
	// comparison.
	maxInputNodes = 10_000
)

// mappingCompiler is the state of compiling one mapping.
type mappingCompiler struct {
	env      *cel.Env
	barePath *regexp.Regexp
	count    int
	bytes    int
	warnings []MappingWarning
}

// newMappingCompiler makes CEL's standard library with optional types, on which
// absence rests, over the two variables of the binding. Further libraries would
// make mappings that other enforcement points refuse. Nothing here reads a
// clock, the network or the environment.
func newMappingCompiler() (*mappingCompiler, error) {
	env, err := cel.NewCustomEnv(append(matches(),
		cel.OptionalTypes(),
		cel.Variable("params", cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable("token", cel.MapType(cel.StringType, cel.DynType)),
		cel.ParserRecursionLimit(maxParseDepth),
		cel.ParserExpressionSizeLimit(maxExpressionBytes),
		cel.ExpressionNodeLimit(maxExpressionNodes),
		cel.ASTValidators(cel.ValidateComprehensionNestingLimit(maxLoopNesting)),
	)...)
	if err != nil {
		return nil, fmt.Errorf("make the expression environment: %w", err)
	}
	return &mappingCompiler{env: env, barePath: barePath()}, nil
}

// expression is one compiled expression.
type expression struct {
	text    string
	program cel.Program
	// subject: it is token.sub, which as subject.id is read as the
	// subject-identity claim.
	subject bool
}

// expression compiles text. A panic of the compiler, which reads texts of
// strangers, is one more way to be no expression; evaluating recovers by itself.
func (c *mappingCompiler) expression(text, path string) (x *expression, err error) {
	defer func() {
		if recover() != nil {
			x, err = nil, invalid(path, "the expression can not be compiled")
		}
	}()
	c.count++
	c.bytes += len(text)
	switch {
	case len(text) > maxExpressionBytes:
		return nil, invalid(path, "the expression is longer than %d bytes", maxExpressionBytes)
	case c.count > maxExpressions || c.bytes > maxExpressionsBytes:
		return nil, invalid(path, "more than %d expressions, or %d bytes of them", maxExpressions, maxExpressionsBytes)
	case strings.TrimSpace(text) == "":
		return nil, invalid(path, "the expression is empty")
	}
	ast, issues := c.env.Compile(text)
	if err := issues.Err(); err != nil {
		// The issues quote the text over several lines; the first says enough.
		first, _, _ := strings.Cut(err.Error(), "\n")
		return nil, invalid(path, "the expression does not compile: %s", printable(first))
	}
	program, err := c.env.Program(ast, cel.CostLimit(maxExpressionCost), cel.InterruptCheckFrequency(interruptEvery))
	if err != nil {
		return nil, invalid(path, "the expression can not be planned")
	}
	return &expression{text: text, program: program, subject: strings.TrimSpace(text) == "token.sub"}, nil
}

// evaluating is the state of one evaluation of a mapping.
type evaluating struct {
	variables map[string]any
	// claim is the value of the subject-identity claim.
	claim string
	cost  uint64
	bytes int
}

// expression evaluates x: its value, or Absent for an optional that has none.
func (e *evaluating) expression(ctx context.Context, x *expression, path string) (rar.Value, error) {
	failed := func(why string) error {
		return &Error{Code: CodeMapping, Path: path, Err: fmt.Errorf("%s in the expression %s", why, printable(x.text))}
	}
	if ctx.Err() != nil {
		return rar.Value{}, failed(tooLate)
	}
	out, details, err := x.program.ContextEval(ctx, e.variables)
	if err != nil {
		return rar.Value{}, failed(cause(err))
	}
	if cost := details.ActualCost(); cost != nil {
		e.cost += *cost
	}
	if e.cost > maxMappingCost {
		return rar.Value{}, failed("the mapping costs too much: limit reached")
	}
	if o, ok := out.(*types.Optional); ok {
		if !o.HasValue() {
			return rar.Value{}, nil
		}
		out = o.GetValue()
	}
	v, why := e.value(out, 0)
	if why != "" {
		return rar.Value{}, failed(why)
	}
	return v, nil
}

// cause words a fault of CEL without what it quotes: a missing key may be a
// value of the token.
func cause(err error) string {
	text := err.Error()
	for _, known := range []string{
		"no such key", "no such overload", "no such attribute", "division by zero", "modulus by zero",
		"index out of bounds", "out of range", "overflow", "cost limit exceeded", "optional.none() dereference", inexact, "not a pattern", patternLimit, tooLate,
	} {
		if strings.Contains(text, known) {
			return known
		}
	}
	return "evaluation fails"
}

// value makes JSON of a result; the second result says why that can not be. Of
// CEL's types, bytes, timestamps, durations and types have no JSON form here.
func (e *evaluating) value(v ref.Val, depth int) (rar.Value, string) {
	if e.bytes += 8; e.bytes > maxResultBytes || depth > maxResultDepth {
		return rar.Value{}, "too large a result"
	}
	switch v := v.(type) {
	case types.Null:
		return rar.NullValue(), ""
	case types.Bool:
		return rar.BoolValue(bool(v)), ""
	case types.String:
		if e.bytes += len(v); e.bytes > maxResultBytes {
			return rar.Value{}, "too large a result"
		}
		return str(string(v)), ""
	case types.Int:
		return rar.IntValue(int64(v)), ""
	case types.Uint:
		return number(strconv.FormatUint(uint64(v), 10))
	case types.Double:
		return number(formatDouble(float64(v)))
	case *types.Err:
		return rar.Value{}, cause(v)
	case traits.Lister:
		return e.list(v, depth)
	case traits.Mapper:
		return e.mapping(v, depth)
	}
	return rar.Value{}, "a result that is no JSON value"
}

func (e *evaluating) list(v traits.Lister, depth int) (rar.Value, string) {
	var elements []rar.Value
	for it := v.Iterator(); it.HasNext() == types.True; {
		element, why := e.value(it.Next(), depth+1)
		if why != "" {
			return rar.Value{}, why
		}
		elements = append(elements, element)
	}
	return rar.ArrayValue(elements...), ""
}

func (e *evaluating) mapping(v traits.Mapper, depth int) (rar.Value, string) {
	var members []rar.Member
	for it := v.Iterator(); it.HasNext() == types.True; {
		name, ok := it.Next().(types.String)
		if !ok {
			return rar.Value{}, "a map with keys that are no strings"
		}
		if e.bytes += len(name); e.bytes > maxResultBytes {
			return rar.Value{}, "too large a result"
		}
		kid, why := e.value(v.Get(name), depth+1)
		if why != "" {
			return rar.Value{}, why
		}
		members = append(members, member(string(name), kid))
	}
	// CEL's maps have no order, and an answer is to be the same each time.
	slices.SortFunc(members, func(a, b rar.Member) int { return strings.Compare(a.Name, b.Name) })
	return object(members...), ""
}

func number(literal string) (rar.Value, string) {
	v, err := rar.NumberValue(literal)
	if err != nil { // NaN and the infinities
		return rar.Value{}, "a number that JSON does not have"
	}
	return v, ""
}

// formatDouble writes whole numbers out, as a reader expects them.
func formatDouble(f float64) string {
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}

// tooLate is how cel-go words that its context is done.
const tooLate = "interrupted"

const inexact = "a number that a double can not hold"

// native makes CEL's input of JSON. Numbers are doubles; one that a double would
// change is an error as soon as it is read, or policy would judge another number
// than the tool gets.
func native(v rar.Value, nodes *int) any {
	*nodes++
	switch v.Kind() {
	case rar.Bool:
		return v.Bool()
	case rar.String:
		return v.Text()
	case rar.Number:
		return double(v)
	case rar.Array:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = native(v.Index(i), nodes)
		}
		return list
	case rar.Object:
		m := make(map[string]any, v.Len())
		for i := range v.Len() {
			m[v.Member(i).Name] = native(v.Member(i).Value, nodes)
		}
		return m
	case rar.Absent, rar.Null:
	}
	return types.NullValue
}

func double(v rar.Value) any {
	if f, err := strconv.ParseFloat(v.Text(), 64); err == nil {
		if same, why := number(formatDouble(f)); why == "" && rar.Equal(v, same) {
			return f
		}
	}
	return types.NewErr(inexact)
}

const maxPrintable = 160

// printable makes a text of the mapping fit for a message.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	if runes := []rune(s); len(runes) > maxPrintable {
		s = string(runes[:maxPrintable]) + "…"
	}
	return s
}
