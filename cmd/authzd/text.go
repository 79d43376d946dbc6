package main

import (
	"fmt"
	"strings"

	"github.com/authzd/authzd/rar"
)

// appendText writes a response for people: the decision, who decided, and what
// would change a deny.
func appendText(dst []byte, response rar.Value) []byte {
	t := textWriter{v: response}
	t.line("%s", t.text("/decision"))
	t.field("rule", t.text("/rule"))
	t.field("message", t.text("/message"))
	t.field("note", t.text("/message_admin"))
	t.fault()
	t.met()
	t.reasons()
	t.remediation()
	t.rejected()
	t.obligations()
	policy := t.text("/policy/bundle")
	if revision := t.text("/policy/revision"); revision != "" {
		policy += " at " + revision
	}
	t.field("policy", policy)
	t.field("decision id", t.text("/decision_id"))
	return append(dst, t.b.String()...)
}

type textWriter struct {
	v rar.Value
	b strings.Builder
}

func (t *textWriter) text(pointer string) string { return textAt(t.v, pointer) }

func textAt(v rar.Value, pointer string) string {
	found, _ := v.Lookup(pointer)
	return found.Text()
}

// line writes one line; control characters of policy and query must not reach
// a terminal.
func (t *textWriter) line(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	t.b.WriteString(strings.Map(func(r rune) rune {
		if r < ' ' || (r >= 0x7f && r < 0xa0) {
			return ' '
		}
		return r
	}, s))
	t.b.WriteByte('\n')
}

func (t *textWriter) field(name, value string) {
	if value != "" {
		t.line("  %-12s %s", name+":", value)
	}
}

func (t *textWriter) each(pointer string, one func(rar.Value)) {
	list, _ := t.v.Lookup(pointer)
	for i := range list.Len() {
		one(list.Index(i))
	}
}

func (t *textWriter) fault() {
	if code := t.text("/error/code"); code != "" {
		place := ""
		if p := t.text("/error/path"); p != "" {
			place = " at " + p
		}
		t.field("error", code+place+": "+t.text("/error/message"))
	}
}

func (t *textWriter) met() {
	t.each("/met", func(m rar.Value) {
		t.field("met", textAt(m, "/kind")+" by credential "+textAt(m, "/credential_id"))
	})
}

func (t *textWriter) reasons() {
	t.each("/reasons", func(r rar.Value) {
		s := textAt(r, "/code")
		if rule := textAt(r, "/rule"); rule != "" {
			s += " (" + rule + ")"
		}
		if m := textAt(r, "/message"); m != "" {
			s += ": " + m
		}
		t.field("because", s)
		detail, _ := r.Get("detail")
		for i := range detail.Len() {
			t.line("               - %s", detail.Index(i).Text())
		}
	})
}

func (t *textWriter) remediation() {
	t.field("remediation", t.text("/remediation/status"))
	t.each("/remediation/hints", func(h rar.Value) {
		kind := textAt(h, "/type")
		label := "missing:"
		if held, _ := h.Get("held"); held.Bool() {
			label = "and, as now:"
		}
		t.line("  %-12s %s", label, kind)
		for i := range h.Len() {
			m := h.Member(i)
			switch m.Name {
			case "type", "held":
				continue
			}
			if m.Value.Kind() == rar.String {
				t.line("    %s: %s", m.Name, m.Value.Text())
				continue
			}
			t.line("    %s: %s", m.Name, m.Value.AppendJSON(nil))
		}
	})
}

func (t *textWriter) rejected() {
	t.each("/rejected_credentials", func(c rar.Value) {
		t.field("rejected", "credential "+textAt(c, "/id")+": "+textAt(c, "/code"))
	})
}

func (t *textWriter) obligations() {
	t.each("/obligations", func(o rar.Value) {
		t.field("obligation", string(o.AppendJSON(nil)))
	})
}
