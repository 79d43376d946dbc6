package engine_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/authzd/authzd/engine"
)

const visitPolicy = `package authz

import data.authzd.v1 as authzd

args := input.mcp.params.arguments

permit["visit"] := {"require": [authzd.authorization_details([{"type": "visit", "place": %s}])]} if input.resource.id == "visit"

unrelated := {"s", "3", "t"}

label(x) := sprintf("room %%s of %%d", [x, 7])
`

const visitData = `{
	"owners": {"flat": "Dora-314159", "n": 271828, "list": ["s3cret"]},
	"public": {"flat": "Lobby"},
	"authzd_tools": {"visit": {"arguments": {"type": "object", "properties": {
		"room": {"type": "string"}, "floor": {"type": "number"}, "guests": {"type": "array", "items": {"type": "string"}}, "nested": {"type": "object", "properties": {"owner": {"type": "string"}, "name": {"type": "string"}}}},
		"required": ["room", "floor", "guests"]}}},
	"authzd_types": {"visit": {"type": "visit", "schema": {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
		"properties": {"type": {"const": "visit"}, "place": {}}, "required": ["type", "place"], "additionalProperties": false}, "compare": {"/place": "equal"}}}
}`

// TestHintsShowWhatTheCallerKnows: a value of a hint comes from the call, from
// the text of policy or from data that is declared public; else there is no hint.
func TestHintsShowWhatTheCallerKnows(t *testing.T) {
	t.Parallel()
	const noted = `{"room": "flat", "floor": 12.50, "guests": ["Ann", "s", "3", "c", "r", "e", "t"]}`
	for name, c := range map[string]struct {
		place     string
		metadata  string
		arguments string
		status    engine.Status
	}{
		"an argument":                    {`args.room`, ``, noted, engine.Available},
		"a number of the call":           {`args.floor`, ``, noted, engine.Available},
		"its text":                       {`authzd.decimal(args.floor)`, ``, noted, engine.Available},
		"in other case":                  {`upper(args.room)`, ``, noted, engine.Available},
		"without its blanks":             {`trim_space(args.room)`, ``, `{"room": " flat ", "floor": 1, "guests": []}`, engine.Available},
		"a constant":                     {`"anywhere"`, ``, noted, engine.Available},
		"the caller":                     {`input.subject.id`, ``, noted, engine.Available},
		"its client":                     {`input.context.agent`, ``, noted, engine.Available},
		"the server":                     {`input.mcp.server`, ``, noted, engine.Available},
		"composed":                       {`concat("/", ["at", args.room, "at", input.subject.id])`, ``, noted, engine.Available},
		"composed by a format":           {`label(args.room)`, ``, noted, engine.Undisclosed},
		"composed by a format of a text": {`sprintf("room %s!", [args.room])`, ``, noted, engine.Available},
		"in an array":                    {`["anywhere", {"at": args.room}]`, ``, noted, engine.Available},
		"null and booleans":              {`[null, true]`, ``, noted, engine.Available},
		"from data":                      {`data.owners.flat`, ``, noted, engine.Undisclosed},
		"from data, in an array":         {`[{"at": data.owners.flat}]`, ``, noted, engine.Undisclosed},
		"a number from data":             {`data.owners.n`, ``, noted, engine.Undisclosed},
		"composed with data":             {`concat("/", [args.room, data.owners.flat])`, ``, noted, engine.Undisclosed},
		"letters do not spell it":        {`data.owners.list[0]`, ``, noted, engine.Undisclosed},
		"public data":                    {`data.public.flat`, `, "public_data": ["public"]`, noted, engine.Available},
		"beside public data":             {`data.owners.flat`, `, "public_data": ["public"]`, noted, engine.Undisclosed},
		"a public path":                  {`data.owners.flat`, `, "public_data": ["owners/flat"]`, noted, engine.Available},
		"open hints":                     {`data.owners.flat`, `, "open_hints": true`, noted, engine.Available},
		"a nested argument":              {`sprintf("repo:%s/%s", [args.nested.owner, args.nested.name])`, ``, `{"room": "flat", "floor": 1, "guests": [], "nested": {"owner": "alice", "name": "notes"}}`, engine.Available},
		"one argument twice":             {`sprintf("%s-%s", [args.room, args.room])`, ``, noted, engine.Available},
		"a folder of an argument":        {`concat("/", array.slice(split(args.room, "/"), 0, 3))`, ``, `{"room": "/home/alice/notes.txt", "floor": 1, "guests": []}`, engine.Available},
		"a long argument":                {`sprintf("file://%s", [args.room])`, ``, `{"room": "` + strings.Repeat("x", 2000) + `", "floor": 1, "guests": []}`, engine.Available},
		"a name from data":               {`{data.owners.flat: true}`, ``, noted, engine.Undisclosed},
		"a name of the call":             {`{args.room: true}`, ``, noted, engine.Available},
		"digits do not compose":          {`data.owners.n`, ``, `{"room": "271", "floor": 828, "guests": []}`, engine.Undisclosed},
		"nor their text":                 {`sprintf("%d", [data.owners.n])`, ``, `{"room": "271", "floor": 1, "guests": [], "nested": {"owner": "828"}}`, engine.Undisclosed},
		"zeroes do not compose":          {`data.owners.n * 100`, ``, `{"room": "x", "floor": 271828, "guests": []}`, engine.Undisclosed},
		"short parts do not compose":     {`data.owners.flat`, ``, `{"room": "do", "floor": 1, "guests": ["ra-314159"], "nested": {"owner": "ra", "name": "-314159"}}`, engine.Undisclosed},
		"many guesses are not looked at": {`data.owners.n`, ``, `{"room": "x", "floor": 1, "guests": [` + strings.Repeat(`"no", `, 400) + `"271828"]}`, engine.Undisclosed},
		"from context":                   {`input.context.secret`, ``, noted, engine.Undisclosed},
		"who guesses learns":             {`data.owners.flat`, ``, strings.Replace(noted, `"flat"`, `"dora-314159"`, 1), engine.Available},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEngine(compileWith(t, fmt.Sprintf(visitPolicy, c.place), visitData, `{"contract": 1`+c.metadata+`}`))
			q := call(t, "visit", c.arguments, credential(t, "c", claims("")))
			q.Context = decode(t, `{"secret": "hidden-value"}`)
			d := decide(t, e, q)
			if d.Allow || d.Error != nil || d.Remediation.Status != c.status {
				t.Fatalf("%+v, error %v, reasons %+v", d.Remediation, d.Error, d.Reasons)
			}
			told := false
			for _, r := range d.Reasons {
				told = told || r.Code == engine.CodeHintDropped && strings.Contains(r.Message, "/0/place")
			}
			if told != (c.status == engine.Undisclosed) {
				t.Errorf("reasons %+v", d.Reasons)
			}
		})
	}
}

// TestHiddenInWords: what a hint may not show is not told in words, either.
func TestHiddenInWords(t *testing.T) {
	t.Parallel()
	for place, want := range map[string]bool{`args.room`: true, `data.owners.flat`: false} {
		e := newEngine(compile(t, fmt.Sprintf(visitPolicy, place), visitData))
		q := call(t, "visit", `{"room": "x", "floor": 1, "guests": []}`, credential(t, "c", claims("")))
		q.Actionable = engine.NewKindSet()
		if d := decide(t, e, q); d.Allow || d.Remediation.Status != engine.Undisclosed || d.Remediation.InWords != want {
			t.Errorf("%s: %+v", place, d.Remediation)
		}
	}
}

// TestPublicDataExists: a misspelt path would keep hints from clients.
func TestPublicDataExists(t *testing.T) {
	t.Parallel()
	for metadata, want := range map[string]string{
		`"public_data": ["nowhere"]`: "the bundle has no data at",
		`"public_data": "public"`:    "public_data",
		`"open_hints": 1`:            "open_hints",
	} {
		b := bundle(t, fmt.Sprintf(visitPolicy, "args.room"), visitData, `{"contract": 1, `+metadata+`}`)
		_, _, err := engine.Compile(t.Context(), []engine.Bundle{b})
		var refused *engine.CompileError
		if !errors.As(err, &refused) || refused.Findings[0].Code != engine.CodeBundleMetadata || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", metadata, err)
		}
	}
}

// TestDisclosureIsBounded: what would take long to take apart is not shown.
func TestDisclosureIsBounded(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, fmt.Sprintf(visitPolicy, `sprintf("%s/%s", [args.room, data.owners.flat])`)+"\nwords := {\"aa\", \"aaa\", \"aaaa\"}\n", visitData))
	q := call(t, "visit", `{"room": "`+strings.Repeat("a", 3900)+`", "floor": 1, "guests": [], "nested": {"owner": "`+strings.Repeat("a", 31)+`", "name": "`+strings.Repeat("a", 17)+`"}}`,
		credential(t, "c", claims("")))
	if d := decide(t, e, q); d.Allow || d.Remediation.Status != engine.Undisclosed {
		t.Errorf("%+v", d.Remediation)
	}
}

// TestOpenHintsOfTheMainBundle: a side bundle does not open the hints of the one
// that decides.
func TestOpenHintsOfTheMainBundle(t *testing.T) {
	t.Parallel()
	main := bundle(t, fmt.Sprintf(visitPolicy, "data.owners.flat"), visitData, `{"contract": 1}`)
	main.Roots = []string{"authz", "owners", "public", "authzd_tools", "authzd_types"}
	side := engine.Bundle{Name: "side", Roots: []string{"teams"}, Metadata: decode(t, `{"contract": 1, "open_hints": true}`), Data: decode(t, `{"teams": {}}`)}
	s, _, err := engine.Compile(t.Context(), []engine.Bundle{main, side})
	if err != nil {
		t.Fatal(err)
	}
	q := call(t, "visit", `{"room": "x", "floor": 1, "guests": []}`, credential(t, "c", claims("")))
	if d := decide(t, newEngine(s), q); d.Allow || d.Remediation.Status != engine.Undisclosed {
		t.Errorf("%+v", d.Remediation)
	}
}
