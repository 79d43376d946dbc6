package bundles

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/authzd/authzd/rar"
)

// expectation is the member want of a case. What is absent is not compared.
type expectation struct {
	errorCode   rar.Value
	decision    rar.Value
	rule        rar.Value
	reasons     rar.Value // codes
	credentials rar.Value // ids
	obligations rar.Value
	require     rar.Value
	denial      rar.Value
	status      rar.Value
	hints       rar.Value
}

func readExpectation(v rar.Value) (expectation, error) {
	var e expectation
	if err := wantKind(v, rar.Object); err != nil {
		return e, err
	}
	for i := range v.Len() {
		m := v.Member(i)
		if err := e.member(m.Name, m.Value); err != nil {
			return e, fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	if e.errorCode.Kind() != rar.Absent {
		if v.Len() > 1 {
			return e, errors.New("error stands alone: without a decision there is nothing else to compare")
		}
		return e, nil
	}
	if d := e.decision.Text(); d != "ALLOW" && d != "DENY" {
		return e, errors.New("decision must be ALLOW or DENY")
	}
	return e, nil
}

func (e *expectation) member(name string, v rar.Value) error {
	switch name {
	case "error":
		e.errorCode = v
		return wantKind(v, rar.String)
	case "decision":
		e.decision = v
		return wantKind(v, rar.String)
	case "rule":
		e.rule = v
		return wantKind(v, rar.String)
	case "reasons":
		e.reasons = v
		return wantTexts(v)
	case "credentials":
		e.credentials = v
		return wantTexts(v)
	case "obligations":
		e.obligations = v
		return wantKind(v, rar.Array)
	case "requirements":
		e.require = v
		return wantKind(v, rar.Array)
	case "denial":
		e.denial = v
		return wantKind(v, rar.Object)
	case "remediation":
		return e.remediation(v)
	}
	return errors.New("not a member of want")
}

func (e *expectation) remediation(v rar.Value) error {
	if err := wantKind(v, rar.Object); err != nil {
		return err
	}
	for i := range v.Len() {
		m := v.Member(i)
		switch m.Name {
		case "status":
			e.status = m.Value
			if err := wantKind(m.Value, rar.String); err != nil {
				return fmt.Errorf("status: %w", err)
			}
		case "hints":
			e.hints = m.Value
			if err := wantKind(m.Value, rar.Array); err != nil {
				return fmt.Errorf("hints: %w", err)
			}
			for n := range m.Value.Len() {
				if err := wantKind(m.Value.Index(n), rar.Object); err != nil {
					return fmt.Errorf("hints/%d: %w", n, err)
				}
			}
		default:
			return fmt.Errorf("%s: not a member of remediation", m.Name)
		}
	}
	return nil
}

func wantTexts(v rar.Value) error {
	if err := wantKind(v, rar.Array); err != nil {
		return err
	}
	for i := range v.Len() {
		if err := wantKind(v.Index(i), rar.String); err != nil {
			return fmt.Errorf("%d: %w", i, err)
		}
	}
	return nil
}

// compare returns how the answer differs from what was expected.
func (e *expectation) compare(a Answer) []Difference {
	var d differences
	got := rar.Value{}
	if a.Error != "" {
		got = rar.StringValue(a.Error)
	}
	if e.errorCode.Kind() != rar.Absent || a.Error != "" {
		d.equal("/error", e.errorCode, got)
		if e.errorCode.Kind() == rar.Absent {
			d.list = []Difference{{Path: "/error", Got: string(got.AppendJSON(nil)) + ": " + a.ErrorText}}
		}
		return d.list
	}
	r := a.Response
	d.equal("/decision", e.decision, at(r, "/decision"))
	rule := at(r, "/rule")
	if rule.Kind() == rar.Absent {
		rule = rar.StringValue("")
	}
	d.equal("/rule", e.rule, rule)
	d.set("/reasons", e.reasons, codes(at(r, "/reasons")))
	d.set("/credential_ids", e.credentials, at(r, "/credential_ids"))
	d.equal("/obligations", e.obligations, list(at(r, "/obligations")))
	d.equal("/remediation/status", e.status, at(r, "/remediation/status"))
	d.equal("/requirements", e.require, list(a.Require))
	d.hints(e.hints, list(at(r, "/remediation/hints")))
	d.within("/denial", e.denial, at(r, "/denial"))
	return d.list
}

func at(v rar.Value, pointer string) rar.Value {
	found, _ := v.Lookup(pointer)
	return found
}

// list reads an absent array as an empty one.
func list(v rar.Value) rar.Value {
	if v.Kind() == rar.Absent {
		return rar.ArrayValue()
	}
	return v
}

func codes(reasons rar.Value) rar.Value {
	out := make([]rar.Value, 0, reasons.Len())
	for i := range reasons.Len() {
		out = append(out, at(reasons.Index(i), "/code"))
	}
	return rar.ArrayValue(out...)
}

type differences struct{ list []Difference }

func (d *differences) add(path string, want, got rar.Value) {
	d.list = append(d.list, Difference{Path: path, Want: string(want.AppendJSON(nil)), Got: string(got.AppendJSON(nil))})
}

// equal compares values, and where both are objects or arrays tells the parts
// that differ.
func (d *differences) equal(path string, want, got rar.Value) {
	if want.Kind() == rar.Absent || rar.Equal(want, got) {
		return
	}
	switch {
	case want.Kind() == rar.Object && got.Kind() == rar.Object:
		d.members(path, want, got)
	case want.Kind() == rar.Array && got.Kind() == rar.Array && want.Len() == got.Len():
		for i := range want.Len() {
			d.equal(path+"/"+strconv.Itoa(i), want.Index(i), got.Index(i))
		}
	default:
		d.add(path, want, got)
	}
}

func (d *differences) members(path string, want, got rar.Value) {
	for i := range want.Len() {
		m := want.Member(i)
		other, ok := got.Get(m.Name)
		if !ok {
			d.add(path+"/"+escapeToken(m.Name), m.Value, rar.Value{})
			continue
		}
		d.equal(path+"/"+escapeToken(m.Name), m.Value, other)
	}
	for i := range got.Len() {
		m := got.Member(i)
		if _, ok := want.Get(m.Name); !ok {
			d.add(path+"/"+escapeToken(m.Name), rar.Value{}, m.Value)
		}
	}
}

// within is equal, but that objects may have more members than are wanted.
func (d *differences) within(path string, want, got rar.Value) {
	if want.Kind() != rar.Object || got.Kind() != rar.Object {
		d.equal(path, want, got)
		return
	}
	for i := range want.Len() {
		m := want.Member(i)
		other, _ := got.Get(m.Name)
		d.within(path+"/"+escapeToken(m.Name), m.Value, other)
	}
}

// set compares arrays of strings as sets.
func (d *differences) set(path string, want, got rar.Value) {
	if want.Kind() == rar.Absent {
		return
	}
	if w, g := texts(want), texts(got); !slices.Equal(w, g) {
		d.add(path, textsValue(w), textsValue(g))
	}
}

func texts(v rar.Value) []string {
	out := make([]string, 0, v.Len())
	for i := range v.Len() {
		out = append(out, v.Index(i).Text())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func textsValue(list []string) rar.Value {
	out := make([]rar.Value, 0, len(list))
	for _, s := range list {
		out = append(out, rar.StringValue(s))
	}
	return rar.ArrayValue(out...)
}

// hints wants each expected hint found among those given: one that has at
// least its members. An empty list wants none.
func (d *differences) hints(want, got rar.Value) {
	const path = "/remediation/hints"
	if want.Kind() == rar.Absent {
		return
	}
	if want.Len() == 0 && got.Len() > 0 {
		d.add(path, want, got)
		return
	}
	for i := range want.Len() {
		d.hint(path, want.Index(i), got)
	}
}

func (d *differences) hint(path string, want, got rar.Value) {
	var near []Difference
	for i := range got.Len() {
		var diff differences
		for n := range want.Len() {
			m := want.Member(n)
			place := path + "/" + strconv.Itoa(i) + "/" + escapeToken(m.Name)
			if other, ok := got.Index(i).Get(m.Name); ok {
				diff.equal(place, m.Value, other)
			} else {
				diff.add(place, m.Value, rar.Value{})
			}
		}
		if len(diff.list) == 0 {
			return
		}
		// Of hints of one type, say where they differ.
		if rar.Equal(at(want, "/type"), at(got.Index(i), "/type")) && (near == nil || len(diff.list) < len(near)) {
			near = diff.list
		}
	}
	if near == nil {
		d.add(path, want, got)
		return
	}
	d.list = append(d.list, near...)
}
