package bundles

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/authzd/authzd/rar"
)

// Answer is what a decision case is compared with.
type Answer struct {
	// Response is the JSON of the response (CheckResponse as REST writes it);
	// absent if there is an error instead of a decision.
	Response rar.Value
	// Require is engine.Decision's, which no response has.
	Require rar.Value
	// Error is the code of that error, ErrorText says more.
	Error, ErrorText string
}

// Ask decides query, the body of POST /v1/check, at the time now, on the
// bundle whose cases are run. The error is for faults that are none of the
// query's: they end the run.
type Ask func(ctx context.Context, query []byte, now time.Time) (Answer, error)

// Difference is one way in which an answer is not the expected one.
type Difference struct {
	// Path is a JSON Pointer into the response; what is below /requirements is of the
	// policy's rule.
	Path string `json:"path"`
	// Want and Got are JSON texts; Got is empty if there is nothing at Path.
	Want string `json:"want"`
	Got  string `json:"got"`
}

// CaseResult is one decision case.
type CaseResult struct {
	File     string
	Name     string
	Outcome  Outcome
	Duration time.Duration
	// Differences are why it failed.
	Differences []Difference
}

// RunCases asks the decision cases of a bundle (docs/policy.md, "Decision
// cases"), in the order of files and of cases within them. Every fault of a
// case file is an *Error, and then nothing is asked.
func RunCases(ctx context.Context, c Content, ask Ask) ([]CaseResult, error) {
	cases, err := readCases(c.Cases)
	if err != nil {
		return nil, err
	}
	results := make([]CaseResult, 0, len(cases))
	for _, one := range cases {
		start := time.Now()
		answer, err := ask(ctx, one.query, one.now)
		if err != nil {
			return nil, fmt.Errorf("%s: case %q: %w", one.file, one.name, err)
		}
		r := CaseResult{File: one.file, Name: one.name, Outcome: OutcomePass, Duration: time.Since(start)}
		if r.Differences = one.want.compare(answer); len(r.Differences) > 0 {
			r.Outcome = OutcomeFail
		}
		results = append(results, r)
	}
	return results, nil
}

// decisionCase is one case, ready to be asked.
type decisionCase struct {
	file, name string
	query      []byte
	now        time.Time
	want       expectation
}

// caseClock is the clock of cases that name none: a case must not begin to
// fail because time went by.
func caseClock() time.Time { return time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC) }

// caseReader reads the case files of one bundle.
type caseReader struct {
	files   []File
	queries map[string]rar.Value
	owner   map[string]string // file of each query and case
	cases   []decisionCase
}

func readCases(files []File) ([]decisionCase, error) {
	r := caseReader{files: files, queries: map[string]rar.Value{}, owner: map[string]string{}}
	docs := make([]rar.Value, len(files))
	for i, f := range files {
		if path.Ext(f.Path) == ".json" {
			continue // meant for query_file
		}
		doc, err := DecodeYAML(f.Data, Limits{})
		if err != nil {
			return nil, yamlError(CodeCaseInvalid, f.Path, err)
		}
		if err := r.queriesOf(f.Path, doc); err != nil {
			return nil, err
		}
		docs[i] = doc
	}
	// Cases come second: they may use queries of any file.
	for i, f := range files {
		list, _ := docs[i].Get("cases")
		for n := range list.Len() {
			m := list.Member(n)
			if err := r.unique("case", m.Name, f.Path); err != nil {
				return nil, err
			}
			if err := r.readCase(f.Path, m.Name, m.Value); err != nil {
				return nil, err
			}
		}
	}
	return r.cases, nil
}

func (r *caseReader) unique(kind, name, file string) error {
	key := kind + " " + name
	if other, dup := r.owner[key]; dup {
		return errorf(CodeCaseInvalid, file, "%s %q is in %s already", kind, name, other)
	}
	r.owner[key] = file
	return nil
}

func (r *caseReader) queriesOf(file string, doc rar.Value) error {
	if doc.Kind() != rar.Object {
		return errorf(CodeCaseInvalid, file, "must be a map with the members queries and cases")
	}
	for i := range doc.Len() {
		m := doc.Member(i)
		if m.Name != "queries" && m.Name != "cases" {
			return errorf(CodeCaseInvalid, file+"#/"+escapeToken(m.Name), "not a member of a case file: it has queries and cases")
		}
		if m.Value.Kind() != rar.Object {
			return errorf(CodeCaseInvalid, file+"#/"+m.Name, "must be a map")
		}
	}
	queries, _ := doc.Get("queries")
	for i := range queries.Len() {
		m := queries.Member(i)
		if err := r.unique("query", m.Name, file); err != nil {
			return err
		}
		r.queries[m.Name] = m.Value
	}
	return nil
}

// readCase reads one case and makes its query.
func (r *caseReader) readCase(file, name string, v rar.Value) error {
	at := file + "#/cases/" + escapeToken(name)
	if v.Kind() != rar.Object {
		return errorf(CodeCaseInvalid, at, "must be a map")
	}
	c := decisionCase{file: file, name: name, now: caseClock()}
	query, err := r.query(file, at, v)
	if err != nil {
		return err
	}
	hasWant := false
	for i := range v.Len() {
		m := v.Member(i)
		var err error
		switch m.Name {
		case "query", "query_file", "set", "remove":
		case "why":
			err = wantKind(m.Value, rar.String)
		case "now":
			if c.now, err = time.Parse(time.RFC3339, m.Value.Text()); err != nil {
				err = fmt.Errorf("a time as RFC 3339 writes it: %w", err)
			}
		case "want":
			hasWant = true
			c.want, err = readExpectation(m.Value)
		default:
			err = errors.New("not a member of a case")
		}
		if err != nil {
			return &Error{Code: CodeCaseInvalid, Path: at + "/" + escapeToken(m.Name), Err: err}
		}
	}
	if !hasWant {
		return errorf(CodeCaseInvalid, at, "a case needs the member want")
	}
	if query, err = edit(query, v); err != nil {
		return &Error{Code: CodeCaseInvalid, Path: at, Err: err}
	}
	c.query = query.AppendJSON(nil)
	r.cases = append(r.cases, c)
	return nil
}

// query finds the query that a case starts from.
func (r *caseReader) query(file, at string, v rar.Value) (rar.Value, error) {
	name, byName := v.Get("query")
	fileName, byFile := v.Get("query_file")
	if byName == byFile {
		return rar.Value{}, errorf(CodeCaseInvalid, at, "a case needs exactly one of query and query_file")
	}
	if byName {
		q, ok := r.queries[name.Text()]
		if !ok || name.Kind() != rar.String {
			return q, errorf(CodeCaseInvalid, at+"/query", "no query has the name %s", name.AppendJSON(nil))
		}
		return q, nil
	}
	want := path.Join(path.Dir(file), fileName.Text())
	i := slices.IndexFunc(r.files, func(f File) bool { return f.Path == want && path.Ext(want) == ".json" })
	if i < 0 || fileName.Kind() != rar.String {
		return rar.Value{}, errorf(CodeCaseInvalid, at+"/query_file", "no JSON file below cases/ is %s", fileName.AppendJSON(nil))
	}
	q, err := rar.DecodeStrict(r.files[i].Data, rar.Limits{MaxBytes: DefaultMaxYAMLBytes, MaxDepth: DefaultMaxDataDepth})
	if err != nil {
		return rar.Value{}, decodeError(CodeCaseInvalid, want, err)
	}
	return q, nil
}

func wantKind(v rar.Value, k rar.Kind) error {
	if v.Kind() != k {
		return fmt.Errorf("must be %s, not %s", k, v.Kind())
	}
	return nil
}

// edit applies set and then remove of a case to its query.
func edit(query, v rar.Value) (rar.Value, error) {
	set, has := v.Get("set")
	if has && set.Kind() != rar.Object {
		return query, errors.New("set must be a map of JSON Pointers to values")
	}
	for i := range set.Len() {
		m := set.Member(i)
		changed, err := change(query, m.Name, m.Value)
		if err != nil {
			return query, fmt.Errorf("set %q: %w", m.Name, err)
		}
		query = changed
	}
	remove, has := v.Get("remove")
	if has && remove.Kind() != rar.Array {
		return query, errors.New("remove must be a list of JSON Pointers")
	}
	for i := range remove.Len() {
		pointer := remove.Index(i)
		changed, err := change(query, pointer.Text(), rar.Value{})
		if err != nil || pointer.Kind() != rar.String {
			return query, errors.Join(fmt.Errorf("remove %s", pointer.AppendJSON(nil)), err)
		}
		query = changed
	}
	return query, nil
}

// change returns v with the value at pointer replaced, added or, if to is
// absent, removed.
func change(v rar.Value, pointer string, to rar.Value) (rar.Value, error) {
	if pointer == "" || pointer[0] != '/' {
		return v, errors.New("not a JSON Pointer to a part of the query")
	}
	token, rest, deeper := strings.Cut(pointer[1:], "/")
	name := strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
	old, exists := v.Lookup("/" + token)
	if deeper {
		if !exists {
			return v, fmt.Errorf("nothing is at %q", "/"+token)
		}
		changed, err := change(old, "/"+rest, to)
		if err != nil {
			return v, err
		}
		to = changed
	} else if !exists && to.Kind() == rar.Absent {
		return v, errors.New("nothing is there to remove")
	}
	switch v.Kind() { //nolint:exhaustive // other kinds have no parts
	case rar.Object:
		return changeMember(v, name, to), nil
	case rar.Array:
		return changeElement(v, name, exists, to)
	}
	return v, fmt.Errorf("%s has no parts", v.Kind())
}

func changeMember(v rar.Value, name string, to rar.Value) rar.Value {
	members := make([]rar.Member, 0, v.Len()+1)
	found := false
	for i := range v.Len() {
		m := v.Member(i)
		if m.Name == name {
			found, m.Value = true, to
		}
		if m.Value.Kind() != rar.Absent {
			members = append(members, m)
		}
	}
	if !found {
		members = append(members, rar.Member{Name: name, Value: to})
	}
	return rar.ObjectValue(members...)
}

func changeElement(v rar.Value, index string, exists bool, to rar.Value) (rar.Value, error) {
	elements := make([]rar.Value, 0, v.Len()+1)
	for i := range v.Len() {
		e := v.Index(i)
		if index == strconv.Itoa(i) {
			e = to
		}
		if e.Kind() != rar.Absent {
			elements = append(elements, e)
		}
	}
	if !exists {
		if index != strconv.Itoa(v.Len()) {
			return v, fmt.Errorf("%q is no index of the array and not its length", index)
		}
		elements = append(elements, to)
	}
	return rar.ArrayValue(elements...), nil
}
