package bundles_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/rar"
)

func value(t testing.TB, text string) rar.Value {
	t.Helper()
	v, err := rar.DecodeStrict([]byte(text), rar.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// caseFiles is a bundle that holds nothing but these case files.
func caseFiles(files map[string]string) bundles.Content {
	var c bundles.Content
	for _, name := range []string{"cases/a.yaml", "cases/b.yaml", "cases/q.json"} {
		if text, ok := files[name]; ok {
			c.Cases = append(c.Cases, bundles.File{Path: name, Data: []byte(text)})
		}
	}
	return c
}

// asked runs the cases and returns the queries they asked, by time.
func asked(t testing.TB, files map[string]string) (queries []string, clocks []time.Time) {
	t.Helper()
	_, err := bundles.RunCases(t.Context(), caseFiles(files), func(_ context.Context, q []byte, now time.Time) (bundles.Answer, error) {
		queries, clocks = append(queries, string(q)), append(clocks, now)
		return bundles.Answer{Response: value(t, `{"decision":"DENY"}`)}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return queries, clocks
}

func TestCasesMakeQueries(t *testing.T) {
	t.Parallel()
	queries, clocks := asked(t, map[string]string{
		"cases/a.yaml": `
cases:
  as it is: {query: base, want: {decision: DENY}}
  edited:
    query: base
    now: "2026-11-22T18:00:00+01:00"
    why: each way to edit
    set: {/a/n: 12000.50, /a/new: [1], /list/0: x, /list/2: z, /a~1b: 1, /gone: {deep: 1}}
    remove: [/list/1, /gone/deep]
    want: {decision: DENY}
  of a file: {query_file: q.json, set: {/k: null}, want: {decision: DENY}}
`,
		"cases/b.yaml": "queries:\n  base: {a: {n: 1}, list: [p, q]}\n",
		"cases/q.json": `{"k": 9007199254740993}`,
	})
	want := []string{
		`{"a":{"n":1},"list":["p","q"]}`,
		`{"a":{"n":12000.50,"new":[1]},"list":["x","z"],"a/b":1,"gone":{}}`,
		`{"k":null}`,
	}
	if diff := cmp.Diff(want, queries); diff != "" {
		t.Error(diff)
	}
	if got := clocks[0].UTC().Format(time.RFC3339); got != "2026-01-01T00:00:00Z" {
		t.Errorf("clock %s where none is given", got)
	}
	if got := clocks[1].UTC().Format(time.RFC3339); got != "2026-11-22T17:00:00Z" {
		t.Errorf("clock %s", got)
	}
}

func TestCasesRefuse(t *testing.T) {
	t.Parallel()
	const base = "queries: {q: {a: [1], b: {}}}\ncases:\n  c: "
	tests := []struct{ name, text string }{
		{"no YAML", "cases: ["},
		{"no map", "- a"},
		{"unknown member", "case: {}"},
		{"queries are no map", "queries: []"},
		{"cases are no map", "cases: [{}]"},
		{"a name twice", "cases:\n  a: {query: q, want: {decision: DENY}}\n  a: {query: q, want: {decision: DENY}}"},
		{"a case is no map", base + "[]"},
		{"unknown member of a case", base + "{query: q, wants: {}, want: {decision: DENY}}"},
		{"no query", base + "{want: {decision: DENY}}"},
		{"two queries", base + "{query: q, query_file: q.json, want: {decision: DENY}}"},
		{"unknown query", base + "{query: x, want: {decision: DENY}}"},
		{"query given in place", base + "{query: {}, want: {decision: DENY}}"},
		{"unknown file", base + "{query_file: x.json, want: {decision: DENY}}"},
		{"file outside", base + "{query_file: ../../q.json, want: {decision: DENY}}"},
		{"no want", base + "{query: q}"},
		{"empty want", base + "{query: q, want: {}}"},
		{"want is no map", base + "{query: q, want: DENY}"},
		{"no decision", base + "{query: q, want: {rule: x}}"},
		{"decision in lower case", base + "{query: q, want: {decision: deny}}"},
		{"unknown member of want", base + "{query: q, want: {decision: DENY, reason: []}}"},
		{"error beside others", base + "{query: q, want: {error: request.empty, decision: DENY}}"},
		{"reasons are text", base + "{query: q, want: {decision: DENY, reasons: a}}"},
		{"reasons are numbers", base + "{query: q, want: {decision: DENY, reasons: [1]}}"},
		{"unknown member of remediation", base + "{query: q, want: {decision: DENY, remediation: {hint: []}}}"},
		{"hints are text", base + "{query: q, want: {decision: DENY, remediation: {hints: [a]}}}"},
		{"no time", base + "{query: q, now: yesterday, want: {decision: DENY}}"},
		{"set of nothing", base + "{query: q, set: {a: 1}, want: {decision: DENY}}"},
		{"set of the whole", base + "{query: q, set: {\"\": 1}, want: {decision: DENY}}"},
		{"set below nothing", base + "{query: q, set: {/x/y: 1}, want: {decision: DENY}}"},
		{"set beyond the end", base + "{query: q, set: {/a/2: 1}, want: {decision: DENY}}"},
		{"set below a scalar", base + "{query: q, set: {/a/0/x: 1}, want: {decision: DENY}}"},
		{"set is a list", base + "{query: q, set: [/a], want: {decision: DENY}}"},
		{"remove of nothing", base + "{query: q, remove: [/x], want: {decision: DENY}}"},
		{"remove of an index that is none", base + "{query: q, remove: [/a/1], want: {decision: DENY}}"},
		{"remove is a map", base + "{query: q, remove: {/a: 1}, want: {decision: DENY}}"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := bundles.RunCases(t.Context(), caseFiles(map[string]string{"cases/a.yaml": tt.text}),
				func(context.Context, []byte, time.Time) (bundles.Answer, error) {
					t.Error("asked although the file is wrong")
					return bundles.Answer{}, nil
				})
			wantCode(t, err, bundles.CodeCaseInvalid, "")
		})
	}
	const one = "queries: {q: {}}\ncases: {c: {query: q, want: {decision: DENY}}}"
	_, err := bundles.RunCases(t.Context(), caseFiles(map[string]string{"cases/a.yaml": one, "cases/b.yaml": one}), nil)
	wantCode(t, err, bundles.CodeCaseInvalid, "cases/b.yaml")
}

const response = `{"decision":"DENY","rule":"r","reasons":[{"code":"a.b"},{"code":"c.d"},{"code":"a.b"}],"credential_ids":["y","x"],
"obligations":[{"id":"o","n":1.0}],"remediation":{"status":"available","hints":[{"type":"scopes","scopes":["s"],"held":true},{"type":"authorization_details","authorization_details":[{"type":"t","n":2}]}]},
"denial":{"http":{"status":401,"headers":{"WWW-Authenticate":"Bearer","Cache-Control":"no-store"}},"mcp_result":null,"mcp_error":{"data":[{"n":1,"m":2}]}}}`

const requirements = `[{"kind":"scopes","scopes":["s"]}]`

func TestCasesCompare(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, want string
		answer     bundles.Answer
		differs    []string // path want got
	}{
		{"decision", "{decision: DENY}", bundles.Answer{}, nil},
		{"everything", "{decision: DENY, rule: r, reasons: [c.d, a.b], credentials: [x, y], obligations: [{n: 1, id: o}], remediation: {status: available, hints: [{type: scopes, scopes: [s]}]}}", bundles.Answer{}, nil},
		{"hints in another order", "{decision: DENY, remediation: {hints: [{type: authorization_details}, {type: scopes}]}}", bundles.Answer{}, nil},
		{"other decision", "{decision: ALLOW}", bundles.Answer{}, []string{`/decision "ALLOW" "DENY"`}},
		{"other rule", "{decision: DENY, rule: x}", bundles.Answer{}, []string{`/rule "x" "r"`}},
		{"no rule", "{decision: DENY, rule: \"\"}", bundles.Answer{}, []string{`/rule "" "r"`}},
		{"fewer reasons", "{decision: DENY, reasons: [a.b]}", bundles.Answer{}, []string{`/reasons ["a.b"] ["a.b","c.d"]`}},
		{"no credentials", "{decision: DENY, credentials: []}", bundles.Answer{}, []string{`/credential_ids [] ["x","y"]`}},
		{"other obligation", "{decision: DENY, obligations: [{id: o, n: 2}]}", bundles.Answer{}, []string{`/obligations/0/n 2 1.0`}},
		{"more obligations", "{decision: DENY, obligations: []}", bundles.Answer{}, []string{`/obligations [] [{"id":"o","n":1.0}]`}},
		{"other status", "{decision: DENY, remediation: {status: undisclosed}}", bundles.Answer{}, []string{`/remediation/status "undisclosed" "available"`}},
		{"no hints", "{decision: DENY, remediation: {hints: []}}", bundles.Answer{}, []string{`/remediation/hints [] ` + `[{"type":"scopes","scopes":["s"],"held":true},{"type":"authorization_details","authorization_details":[{"type":"t","n":2}]}]`}},
		{"other details", "{decision: DENY, remediation: {hints: [{type: authorization_details, authorization_details: [{type: t, n: 3}]}]}}", bundles.Answer{}, []string{`/remediation/hints/1/authorization_details/0/n 3 2`}},
		{"a member less", "{decision: DENY, remediation: {hints: [{type: authorization_details, authorization_details: [{type: t}]}]}}", bundles.Answer{}, []string{`/remediation/hints/1/authorization_details/0/n  2`}},
		{"a member that hints lack", "{decision: DENY, remediation: {hints: [{type: scopes, x: 1}]}}", bundles.Answer{}, []string{`/remediation/hints/0/x 1 `}},
		{"the requirements", "{decision: DENY, requirements: [{kind: scopes, scopes: [s]}]}", bundles.Answer{}, nil},
		{"other requirements", "{decision: DENY, requirements: [{kind: scopes, scopes: [t]}]}", bundles.Answer{}, []string{`/requirements/0/scopes/0 "t" "s"`}},
		{"a requirement with less", "{decision: DENY, requirements: [{kind: scopes}]}", bundles.Answer{}, []string{`/requirements/0/scopes  ["s"]`}},
		{"no requirements", "{decision: DENY, requirements: []}", bundles.Answer{}, []string{`/requirements [] ` + requirements}},
		{"parts of the denial", "{decision: DENY, denial: {http: {headers: {WWW-Authenticate: Bearer}}, mcp_result: null}}", bundles.Answer{}, nil},
		{"another denial", "{decision: DENY, denial: {http: {status: 403, headers: {X: y}}, mcp_result: {isError: true}}}", bundles.Answer{}, []string{
			`/denial/http/status 403 401`, `/denial/http/headers/X "y" `, `/denial/mcp_result {"isError":true} null`,
		}},
		{"less in a list of the denial", "{decision: DENY, denial: {mcp_error: {data: [{n: 1}]}}}", bundles.Answer{}, []string{`/denial/mcp_error/data/0/m  2`}},
		{"no answer of the server", "{decision: DENY}", bundles.Answer{Error: "request.empty", ErrorText: "why"}, []string{`/error  "request.empty": why`}},
		{"the error", "{error: request.empty}", bundles.Answer{Error: "request.empty"}, nil},
		{"another error", "{error: request.empty}", bundles.Answer{Error: "request.syntax"}, []string{`/error "request.empty" "request.syntax"`}},
		{"a decision where an error was due", "{error: request.empty}", bundles.Answer{}, []string{`/error "request.empty" `}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := caseFiles(map[string]string{"cases/a.yaml": "queries: {q: {}}\ncases: {c: {query: q, want: " + tt.want + "}}"})
			got, err := bundles.RunCases(t.Context(), c, func(context.Context, []byte, time.Time) (bundles.Answer, error) {
				if tt.answer.Error == "" {
					tt.answer.Response, tt.answer.Require = value(t, response), value(t, requirements)
				}
				return tt.answer, nil
			})
			if err != nil || len(got) != 1 {
				t.Fatalf("results %v, %v", got, err)
			}
			var differs []string
			for _, d := range got[0].Differences {
				differs = append(differs, d.Path+" "+d.Want+" "+d.Got)
			}
			if diff := cmp.Diff(tt.differs, differs); diff != "" {
				t.Error(diff)
			}
			if pass := got[0].Outcome == bundles.OutcomePass; pass != (tt.differs == nil) {
				t.Errorf("outcome %s", got[0].Outcome)
			}
		})
	}
}

func TestCasesStopWhenAskingFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	c := caseFiles(map[string]string{"cases/a.yaml": "queries: {q: {}}\ncases: {c: {query: q, want: {decision: DENY}}}"})
	got, err := bundles.RunCases(t.Context(), c, func(context.Context, []byte, time.Time) (bundles.Answer, error) {
		return bundles.Answer{}, broken
	})
	if !errors.Is(err, broken) || got != nil {
		t.Errorf("results %v, %v", got, err)
	}
}
