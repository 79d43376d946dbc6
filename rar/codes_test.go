package rar_test

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/authzd/authzd/rar"
)

// Each declared code is listed once, and each is reached by what it stands for.
func TestEveryCodeIsReached(t *testing.T) {
	t.Parallel()
	types := vectorTypes(t)
	rules := rulesUnderTest(t)
	parse := func(text string, l rar.Limits) rar.Code {
		_, err := types.Parse([]byte(text), l)
		return codeOf(err)
	}
	reason := func(granted, required string) rar.Code {
		g, r := []rar.Value{object(t, granted)}, []rar.Value{object(t, required)}
		got := covers(t, rules, g, r, rar.CoverOptions{})
		return got.Because[0].Code
	}
	listed := func(granted, required string, o rar.CoverOptions) rar.Code {
		got, err := types.Covers(elements(mustDecode(t, granted)), elements(mustDecode(t, required)), o)
		if err != nil {
			return codeOf(err)
		}
		return got.Because[0].Code
	}
	_, _, invalidType := rar.CompileTypes([]rar.Declaration{{}})
	_, tooComplex := types.Covers(make([]rar.Value, 2000), []rar.Value{{}}, rar.CoverOptions{})
	_, notFound := rar.Apply(rar.Value{}, []rar.Edit{{Op: rar.Remove, Path: []string{"a"}}}, rar.Limits{})
	_, invalidEdit := rar.Apply(rar.Value{}, []rar.Edit{{}}, rar.Limits{})
	const account = `{"type":"account_information"}`
	reached := map[rar.Code]rar.Code{
		rar.CodeSyntax:            parse(`[`, rar.Limits{}),
		rar.CodeTrailingData:      parse(`[] 1`, rar.Limits{}),
		rar.CodeDuplicateKey:      parse(`[{"a":1,"a":1}]`, rar.Limits{}),
		rar.CodeCaseVariantKey:    parse(`[{"a":1,"A":1}]`, rar.Limits{RejectCaseVariants: true}),
		rar.CodeTooDeep:           parse(`[[]]`, rar.Limits{MaxDepth: 1}),
		rar.CodeTooLarge:          parse(`[]`, rar.Limits{MaxBytes: 1}),
		rar.CodeNumberOutOfRange:  parse(`[1e999]`, rar.Limits{}),
		rar.CodeNotArray:          parse(`{}`, rar.Limits{}),
		rar.CodeNotObject:         parse(`[1]`, rar.Limits{}),
		rar.CodeMissingType:       parse(`[{}]`, rar.Limits{}),
		rar.CodeUnknownType:       parse(`[{"type":"?"}]`, rar.Limits{}),
		rar.CodeUnknownField:      parse(`[{"type":"account_information","x":1}]`, rar.Limits{}),
		rar.CodeWrongType:         parse(`[{"type":"account_information","actions":1}]`, rar.Limits{}),
		rar.CodeInvalidValue:      parse(`[{"type":"payment_initiation","actions":["x"]}]`, rar.Limits{}),
		rar.CodeMissingField:      parse(`[{"type":"customer_information"}]`, rar.Limits{}),
		rar.CodeInvalidType:       codeOf(invalidType),
		rar.CodeInvalidRequired:   listed(`[]`, `[{"type":"account_information","x":1}]`, rar.CoverOptions{}),
		rar.CodeTooComplex:        codeOf(tooComplex),
		rar.CodeNotFound:          codeOf(notFound),
		rar.CodeInvalidEdit:       codeOf(invalidEdit),
		rar.CodeOpenInRequired:    reason(`"eq":1`, ``),
		rar.CodeMissingInGranted:  reason(``, `"eq":1`),
		rar.CodeNotEqual:          reason(`"eq":1`, `"eq":2`),
		rar.CodeTypeMismatch:      reason(`"eq":1`, `"eq":"1"`),
		rar.CodeNotSubset:         reason(`"sub":[1]`, `"sub":[2]`),
		rar.CodeRequiredEmpty:     listed(`[]`, `[]`, rar.CoverOptions{}),
		rar.CodeAboveMax:          reason(`"max":1`, `"max":2`),
		rar.CodeBelowMin:          reason(`"min":1`, `"min":0`),
		rar.CodeNotANumber:        reason(`"max":"1"`, `"max":"one"`),
		rar.CodeNotPrefix:         reason(`"pre":"/a"`, `"pre":"/b"`),
		rar.CodeUnsafePath:        reason(`"pre":"/a"`, `"pre":"/a/../b"`),
		rar.CodeNoGlobMatch:       reason(`"glob":"a*"`, `"glob":"b"`),
		rar.CodePatternInRequired: reason(`"glob":"a*"`, `"glob":"a*b"`),
		rar.CodeGrantedInvalid:    listed(`[{"type":"account_information","x":1}]`, `[`+account+`]`, rar.CoverOptions{}),
		rar.CodeNoGrantedType:     listed(`[]`, `[`+account+`]`, rar.CoverOptions{}),
		rar.CodeGrantedUsedUp:     listed(`[`+account+`]`, `[`+account+`,`+account+`]`, rar.CoverOptions{SingleUse: true}),
	}
	for want, got := range reached {
		if got != want {
			t.Errorf("reached %s instead of %s", got, want)
		}
	}
	all := rar.Codes()
	for _, c := range all {
		if _, ok := reached[c]; !ok {
			t.Errorf("%s is not reached", c)
		}
		if !strings.HasPrefix(string(c), "rar.") {
			t.Errorf("%s lacks the prefix of its package", c)
		}
	}
	declared := declaredCodes(t)
	slices.Sort(all)
	if !slices.Equal(all, declared) {
		t.Errorf("Codes returns %v, declared are %v", all, declared)
	}
}

func codeOf(err error) rar.Code {
	var e *rar.Error
	if !errors.As(err, &e) {
		return ""
	}
	return e.Code
}

// declaredCodes reads the constants from the source, so that a new one can not
// be forgotten in Codes.
func declaredCodes(t *testing.T) []rar.Code {
	t.Helper()
	source, err := os.ReadFile("errors.go")
	if err != nil {
		t.Fatal(err)
	}
	var codes []rar.Code
	for _, m := range regexp.MustCompile(`(?m)^\tCode\w+ +Code += "(.*)"$`).FindAllSubmatch(source, -1) {
		codes = append(codes, rar.Code(m[1]))
	}
	slices.Sort(codes)
	return codes
}

func TestOAuthErrors(t *testing.T) {
	t.Parallel()
	if got := rar.CodeUnknownField.OAuthError(); got != "invalid_authorization_details" {
		t.Errorf("got %q", got)
	}
	for _, c := range []rar.Code{rar.CodeInvalidType, rar.CodeInvalidRequired, rar.CodeNotSubset, "rar.else"} {
		if got := c.OAuthError(); got != "" {
			t.Errorf("%s answers %q", c, got)
		}
	}
	if got := (&rar.Error{Code: rar.CodeSyntax}).Error(); got != "rar.syntax" {
		t.Errorf("got %q", got)
	}
}
