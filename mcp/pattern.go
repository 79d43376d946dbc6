package mcp

import (
	"regexp"
	"regexp/syntax"

	"cel.dev/cel-go/cel"
	celenv "cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// Bounds of one match: the steps of a pattern's program, and those steps times
// the length of the text, which is what RE2 may take.
const (
	maxPatternBytes = 512
	maxPatternSteps = 1_000
	maxMatchWork    = 1 << 20
)

// matches takes the place of CEL's own function of that name, which may take
// minutes before its cost is counted. cel-go v0.32 has a bound of its own
// (RegexProgramSizeLimit), but compiles an expression with it only to panic on
// patterns like x{3}.
func matches() []cel.EnvOption {
	std := celenv.NewLibrarySubset().AddExcludedFunctions(celenv.NewFunction("matches"))
	two := []*cel.Type{cel.StringType, cel.StringType}
	return []cel.EnvOption{
		cel.StdLib(cel.StdLibSubset(std)),
		cel.Function("matches",
			cel.Overload("matches", two, cel.BoolType),
			cel.MemberOverload("matches_string", two, cel.BoolType),
			cel.SingletonBinaryBinding(match)),
	}
}

func match(text, pattern ref.Val) ref.Val {
	s, ok := text.(types.String)
	p, isText := pattern.(types.String)
	if !ok || !isText {
		return types.NewErr("no such overload")
	}
	if len(p) > maxPatternBytes {
		return types.NewErr(patternLimit)
	}
	parsed, err := syntax.Parse(string(p), syntax.Perl)
	if err != nil {
		return types.NewErr("not a pattern")
	}
	if n := steps(parsed); n > maxPatternSteps || n*(len(s)+1) > maxMatchWork {
		return types.NewErr(patternLimit)
	}
	re, err := regexp.Compile(string(p))
	if err != nil {
		return types.NewErr("not a pattern")
	}
	return types.Bool(re.MatchString(string(s)))
}

// steps estimates the size of the program of a pattern without writing its
// counted repetitions out, which takes long if there are many.
func steps(re *syntax.Regexp) int {
	n := 1
	switch re.Op { //nolint:exhaustive // the others have one step of their own
	case syntax.OpLiteral, syntax.OpCharClass:
		n += len(re.Rune)
	}
	for _, sub := range re.Sub {
		n += steps(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min, re.Max, 1) // at most 1000 each, and together, by the parser
	}
	return n
}

const patternLimit = "too large a pattern for the text"
