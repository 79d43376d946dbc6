package compiled

import (
	"cmp"
	"slices"
	"strings"
)

// Held is what the document of a rule came out as.
type Held string

// The values of Held.
const (
	// True and False are these values.
	True  Held = "true"
	False Held = "false"
	// Defined is any other value, but for those of no elements, which are Empty.
	Defined Held = "defined"
	Empty   Held = "empty"
	// NotDefined is a rule of which no definition held.
	NotDefined Held = "undefined"
)

// outermost begins the path of functions as they are outside of every with that
// gives rules other values (the planner's first generation).
const outermost = "g0"

// Outcome is what one rule came out as.
type Outcome struct {
	// Path is that of the rule's document, without "data".
	Path []string
	Held Held
}

// Outcomes tells the rules that the last Eval of in evaluated, sorted by path:
// those without arguments, as they came out for the input and data that it began
// with: neither what a with made of them, nor what the body of a rule asks for after
// a with, which the plan evaluates within it. It is read from what the evaluation
// keeps anyway, and may be called between an Eval without error and Release.
func (in *Input) Outcomes() []Outcome {
	m := in.m
	if m == nil || m.err != nil {
		return nil
	}
	var out []Outcome
	for _, f := range m.p.ruled {
		if e := &m.memos[f.memo]; e.generation == m.generation {
			out = append(out, Outcome{Path: slices.Clone(f.path), Held: e.value.held()})
		}
	}
	slices.SortFunc(out, func(a, b Outcome) int {
		return cmp.Compare(strings.Join(a.Path, "\x00"), strings.Join(b.Path, "\x00"))
	})
	return out
}

func (n *node) held() Held {
	switch {
	case n == nil:
		return NotDefined
	case n == nodeTrue:
		return True
	case n == nodeFalse:
		return False
	case n.composite() && n.size() == 0:
		return Empty
	}
	return Defined
}
