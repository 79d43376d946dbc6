package lint

const codePrefix = "lint."

// The codes of findings. They are API: listed in docs/errors.md, never reused.
const (
	CodeBadIgnore   = "lint.bad_ignore"
	CodeNeverFires  = "lint.never_fires"
	CodeUndefined   = "lint.may_be_undefined"
	CodeGuardOrder  = "lint.guard_order"
	CodeSlowForm    = "lint.slow_form"
	CodeSprintf     = "lint.sprintf_requirement"
	CodeUnmeetable  = "lint.unmeetable_requirement"
	CodeUnknownTool = "lint.unknown_tool"
	CodeIncomplete  = "lint.incomplete"
)

// Code is a code of this package and its meaning in one line.
type Code struct{ Name, Meaning string }

// Codes lists every code that Run can return.
func Codes() []Code {
	return []Code{
		{CodeBadIgnore, "a comment that ignores nothing, or gives no reason"},
		{CodeNeverFires, "a rule that can never hold, or that nothing reads"},
		{CodeUndefined, "a forbid or permit that is silently undefined where something it reads is missing"},
		{CodeGuardOrder, "a condition that is cheap and stands behind an iteration"},
		{CodeSlowForm, "a form that reads more than it needs, or that is interpreted"},
		{CodeSprintf, "text that is made of values, and demanded of a credential"},
		{CodeUnmeetable, "a requirement that no credential can meet"},
		{CodeUnknownTool, "a tool that is named in policy and not declared"},
		{CodeIncomplete, "policy that is too much to be read, of which nothing else is told"},
	}
}
