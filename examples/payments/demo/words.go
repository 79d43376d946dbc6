package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// screen is where the demo talks.
type screen struct {
	out     io.Writer
	verbose bool
}

func (s *screen) say(format string, args ...any) {
	_, _ = fmt.Fprintf(s.out, "  "+format+"\n", args...)
}

func (s *screen) heading(text string) {
	_, _ = fmt.Fprintf(s.out, "\n%s\n%s\n", text, strings.Repeat("-", len(text)))
}

// raw shows a message as it was on the wire, with -v only.
func (s *screen) raw(text string) {
	if !s.verbose || text == "" {
		return
	}
	for line := range strings.SplitSeq(text, "\n") {
		s.say("  | %s", line)
	}
}

// approval says in plain words what the customer is to approve.
func (s *screen) approval(r *refusal) {
	if len(r.details) == 0 && len(r.scopes) == 0 {
		return
	}
	s.say("The refusal says what would help. Ask the customer to approve exactly this:")
	if len(r.details) == 0 {
		for _, scope := range r.scopes {
			s.say("    the permission %q", scope)
		}
		return
	}
	for _, line := range inWords(r.details) {
		s.say("    %s", line)
	}
}

// detail is the type of authorization_details that the payments policy uses.
type detail struct {
	Type             string
	Actions          []string
	Locations        []string
	InstructedAmount struct{ Currency, Amount string }
	CreditorAccount  struct{ IBAN string }
}

func payments(details json.RawMessage) ([]detail, error) {
	var list []detail
	err := json.Unmarshal(details, &list)
	return list, err
}

func inWords(details json.RawMessage) []string {
	list, err := payments(details)
	if err != nil {
		return []string{string(details)}
	}
	var lines []string
	for _, d := range list {
		if d.Type != "payment_initiation" {
			return []string{string(details)}
		}
		lines = append(lines,
			fmt.Sprintf("%s one payment of %s %s", strings.Join(d.Actions, " and "), d.InstructedAmount.Amount, d.InstructedAmount.Currency),
			"to the account "+d.CreditorAccount.IBAN,
			"at "+strings.Join(d.Locations, ", "))
	}
	return lines
}
