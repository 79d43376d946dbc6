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
	maxPatternSteps = 2_000
	maxMatchWork    = 8 << 20
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
	// Simplified first: counted repetitions are written out there, and count.
	parsed, err := syntax.Parse(string(p), syntax.Perl)
	if err != nil {
		return types.NewErr("not a pattern")
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return types.NewErr("not a pattern")
	}
	if n := len(program.Inst); n > maxPatternSteps || n*(len(s)+1) > maxMatchWork {
		return types.NewErr(patternLimit)
	}
	re, err := regexp.Compile(string(p))
	if err != nil {
		return types.NewErr("not a pattern")
	}
	return types.Bool(re.MatchString(string(s)))
}

const patternLimit = "too large a pattern for the text"
