package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

// explainFlags say how much authzd check tells.
type explainFlags struct{ on, trace bool }

// explain is decide with what led to the decision, as REST writes it.
func explain(ctx context.Context, s *engine.Snapshot, now func() time.Time, query []byte, o explainFlags) (rar.Value, error) {
	r, err := decodeFor(s, query)
	if err != nil {
		return rar.Value{}, err
	}
	x, err := engine.New(engine.Options{Now: now}).ExplainOn(ctx, s, r.Query, engine.ExplainOptions{Trace: o.trace})
	if err != nil {
		return rar.Value{}, err
	}
	text, err := api.MarshalJSON(api.Explained(&x, r, api.DenialOptions{}))
	if err != nil {
		return rar.Value{}, fmt.Errorf("write the response: %w", err)
	}
	return readBack(text)
}

// reportExplanation writes the decision, then what led to it.
func reportExplanation(w io.Writer, format string, response rar.Value) error {
	check, _ := response.Get("check")
	if format != "text" {
		return reportAnswer(w, append(response.AppendJSON(nil), '\n'), check)
	}
	out := appendText(nil, check)
	t := textWriter{v: response}
	t.each("/evaluations", func(e rar.Value) { t.evaluation(e) })
	return reportAnswer(w, append(out, t.b.String()...), check)
}

func (t *textWriter) evaluation(e rar.Value) {
	t.line("")
	t.line("Policy was asked about %s of %s %s, and %s", textAt(e, "/action/name"), textAt(e, "/resource/type"), textAt(e, "/resource/id"), textAt(e, "/evaluator"))
	t.field("handed over", textAt(e, "/handed_over"))
	t.field("incomplete", textAt(e, "/incomplete"))
	for _, p := range elements(e, "permits") {
		t.line("  permit %s holds (priority %s)", textAt(p, "/rule"), jsonAt(p, "priority"))
		for _, m := range elements(p, "met") {
			t.line("    met: %s by credential %s", textAt(m, "/kind"), textAt(m, "/credential_id"))
		}
		for _, r := range elements(p, "unmet") {
			t.line("    unmet: %s: %s", textAt(r, "/kind"), textAt(r, "/message"))
			for _, d := range elements(r, "detail") {
				t.line("      - %s", d.Text())
			}
		}
	}
	for _, f := range elements(e, "forbids") {
		t.line("  forbid %s holds", f.Text())
	}
	for _, r := range elements(e, "rules") {
		t.line("  %-10s %s", textAt(r, "/outcome"), textAt(r, "/path"))
		for _, d := range elements(r, "definitions") {
			t.definition(d)
		}
	}
	for _, l := range elements(e, "trace") {
		t.line("  | %s", l.Text())
	}
}

func (t *textWriter) definition(d rar.Value) {
	at := fmt.Sprintf("%s:%s", textAt(d, "/file"), jsonAt(d, "line"))
	times := ""
	if n := jsonAt(d, "evaluated"); n != "1" {
		times = " (evaluated " + n + " times)"
	}
	stop, _ := d.Get("stopped_at")
	switch outcome := textAt(d, "/outcome"); {
	case outcome == string(engine.OutcomeError):
		t.line("    %s fails%s: %s", at, times, textAt(d, "/error"))
	case stop.Kind() != rar.Absent:
		t.line("    %s stops at line %s%s: %s", at, jsonAt(stop, "line"), times, textAt(stop, "/text"))
	default:
		t.line("    %s is %s%s", at, outcome, times)
	}
}

func elements(v rar.Value, name string) []rar.Value {
	list, _ := v.Get(name)
	out := make([]rar.Value, list.Len())
	for i := range out {
		out[i] = list.Index(i)
	}
	return out
}

// jsonAt is a member as it stands in JSON; a number that is left out is 0.
func jsonAt(v rar.Value, name string) string {
	m, ok := v.Get(name)
	if !ok {
		return "0"
	}
	return string(m.AppendJSON(nil))
}
