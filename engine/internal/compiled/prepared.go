package compiled

import "regexp"

// prepared is a builtin whose first operand is constant and made ready once; the
// second operand is left. nil if there is none.
func prepared(name string, args []operand) func(*machine, *node) *node {
	if name != "regex.match" || len(args) != 2 || args[0].constant == nil || args[0].constant.k != kStr {
		return nil
	}
	re, err := regexp.Compile(args[0].constant.s)
	if err != nil {
		return nil // an error of the evaluation, if it comes to that
	}
	return func(m *machine, text *node) *node {
		if text.k != kStr || !m.charge(1+len(text.s)/64) {
			return delegate
		}
		return boolNode(re.MatchString(text.s))
	}
}
