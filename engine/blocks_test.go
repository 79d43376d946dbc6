package engine_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authzd/authzd/engine"
)

// blocksPolicy permits every call, with or without credentials.
const blocksPolicy = `package authz

permit["any"] := {}
`

const blocksData = `{"authzd_tools": {"pay": {"arguments": {"type": "object"}}, "read": {"arguments": {"type": "object"}}}}`

func block(kind engine.BlockKind, value, issuer string) engine.Block {
	return engine.Block{ID: "b1", Kind: kind, Value: value, Issuer: issuer, Until: testNow().Add(time.Hour), Why: "stolen laptop"}
}

func setBlocks(t testing.TB, e *engine.Engine, list ...engine.Block) {
	t.Helper()
	if err := e.SetBlocks(list); err != nil {
		t.Fatal(err)
	}
}

// wantBlocked is a deny by block b1 that tells the client nothing.
func wantBlocked(t testing.TB, d engine.Decision) {
	t.Helper()
	if d.Allow || len(d.Reasons) != 1 || d.Reasons[0].Code != engine.CodeBlocked || !slices.Equal(d.Reasons[0].Detail, []string{"b1"}) {
		t.Fatalf("not blocked: %+v", d)
	}
	if d.Remediation.Status != engine.Unavailable || len(d.Remediation.Remedies) != 0 || d.Rule != "" || d.Error != nil {
		t.Errorf("more than a block: %+v", d)
	}
	if strings.Contains(d.Message, "laptop") || strings.Contains(d.Message, "b1") || d.Message == "" {
		t.Errorf("the client is told %q", d.Message)
	}
	if !strings.Contains(d.MessageAdmin, "stolen laptop") || !strings.Contains(d.MessageAdmin, "b1") {
		t.Errorf("the administrator is told %q", d.MessageAdmin)
	}
}

// Each kind blocks its target and nothing that is one letter away.
func TestBlocks(t *testing.T) {
	t.Parallel()
	s := compile(t, blocksPolicy, blocksData)
	own := credential(t, "c", claims(""))
	acted := credential(t, "c", claims(`"act": {"sub": "inner", "act": {"sub": "outer"}}`))
	withSubject := func(issuer string) *engine.Query {
		q := call(t, "pay", `{}`)
		q.Subject = &engine.Subject{Type: "identity", ID: alice, Issuer: issuer}
		q.Context = decode(t, `{"agent": "agent"}`)
		return q
	}
	noMCP := &engine.Query{
		Action: engine.Action{Name: "use"}, Resource: engine.Resource{Type: "tool", ID: "pay"},
		Subject: &engine.Subject{Type: "identity", ID: alice},
	}
	tenant := credential(t, "c", claims(`"tenant": "acme"`))
	other := call(t, "pay", `{}`, own)
	other.Tenant = "acme"
	file := &engine.Query{
		Action: engine.Action{Name: "use"}, Resource: engine.Resource{Type: "file", ID: "pay"},
		Subject: &engine.Subject{Type: "identity", ID: alice},
	}
	for name, c := range map[string]struct {
		b    engine.Block
		q    *engine.Query
		want bool
	}{
		"subject of any issuer":           {block("subject", alice, ""), call(t, "pay", `{}`, own), true},
		"subject of its issuer":           {block("subject", alice, testIssuer), call(t, "pay", `{}`, own), true},
		"subject of another issuer":       {block("subject", alice, testIssuer+"/"), call(t, "pay", `{}`, own), false},
		"subject in another case":         {block("subject", strings.ToUpper(alice), ""), call(t, "pay", `{}`, own), false},
		"a part of the subject":           {block("subject", "alice", ""), call(t, "pay", `{}`, own), false},
		"subject, asserted":               {block("subject", alice, ""), withSubject(""), true},
		"subject, asserted with issuer":   {block("subject", alice, testIssuer), withSubject(testIssuer), true},
		"subject, asserted with another":  {block("subject", alice, testIssuer), withSubject("https://other.example"), false},
		"subject, asserted without":       {block("subject", alice, testIssuer), withSubject(""), true},
		"agent by credential":             {block("agent", "agent", ""), call(t, "pay", `{}`, own), true},
		"agent by context":                {block("agent", "agent", ""), withSubject(""), true},
		"another agent":                   {block("agent", "agent2", ""), call(t, "pay", `{}`, own), false},
		"the subject is no agent":         {block("agent", alice, ""), call(t, "pay", `{}`, own), false},
		"an actor is not the agent":       {block("agent", "inner", ""), call(t, "pay", `{}`, acted), false},
		"client":                          {block("client", "agent", ""), call(t, "pay", `{}`, own), true},
		"client of context alone":         {block("client", "agent", ""), withSubject(""), false},
		"client that acts":                {block("client", "inner", ""), call(t, "pay", `{}`, acted), true},
		"client that acted first":         {block("client", "outer", ""), call(t, "pay", `{}`, acted), true},
		"another client":                  {block("client", "inner2", ""), call(t, "pay", `{}`, acted), false},
		"the subject is no client":        {block("client", alice, ""), call(t, "pay", `{}`, own), false},
		"tool":                            {block("tool", "pay", ""), call(t, "pay", `{}`, own), true},
		"another tool":                    {block("tool", "pay", ""), call(t, "read", `{}`, own), false},
		"a tool that begins alike":        {block("tool", "pa", ""), call(t, "pay", `{}`, own), false},
		"a tool without a message":        {block("tool", "pay", ""), noMCP, true},
		"tenant of the caller":            {block("tenant", "acme", ""), other, true},
		"tenant of callers without one":   {block("tenant", "default", ""), call(t, "pay", `{}`, own), true},
		"tenant of a credential":          {block("tenant", "acme", ""), call(t, "pay", `{}`, tenant), true},
		"another tenant":                  {block("tenant", "acme2", ""), call(t, "pay", `{}`, tenant), false},
		"a tenant that the caller is not": {block("tenant", "default", ""), other, false},
		"a file of the name":              {block("tool", "pay", ""), file, false},
		"a tool of the subject's name":    {block("tool", alice, ""), call(t, "pay", `{}`, own), false},
		"a subject of the tool's name":    {block("subject", "pay", ""), call(t, "pay", `{}`, own), false},
		"a block that has just not ended": {engine.Block{ID: "b1", Kind: "tool", Value: "pay", Until: testNow().Add(time.Nanosecond), Why: "stolen laptop"}, call(t, "pay", `{}`, own), true},
		"a block that has just ended":     {engine.Block{ID: "b1", Kind: "tool", Value: "pay", Until: testNow()}, call(t, "pay", `{}`, own), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEngine(s)
			if d := decide(t, e, c.q); !d.Allow {
				t.Fatalf("denied without a block: %+v", d)
			}
			setBlocks(t, e, c.b)
			d := decide(t, e, c.q)
			if !c.want {
				if !d.Allow {
					t.Fatalf("denied: %+v", d)
				}
				return
			}
			wantBlocked(t, d)
			setBlocks(t, e)
			if d := decide(t, e, c.q); !d.Allow {
				t.Errorf("denied after the block was lifted: %+v", d)
			}
		})
	}
}

// A block ends by the engine's clock alone, and one of several is enough.
func TestBlocksEnd(t *testing.T) {
	t.Parallel()
	now := testNow()
	e := engine.New(engine.Options{Now: func() time.Time { return now }, Budget: 5 * time.Second})
	e.Swap(compile(t, blocksPolicy, blocksData))
	short, long := block("tool", "pay", ""), block("tool", "pay", "")
	short.ID, short.Until = "short", now.Add(time.Minute)
	setBlocks(t, e, short, long)
	q := call(t, "pay", `{}`, credential(t, "c", claims("")))
	for _, c := range []struct {
		after time.Duration
		by    string
	}{{0, "short"}, {time.Minute, "b1"}, {time.Hour - 1, "b1"}, {time.Hour, ""}} {
		now = testNow().Add(c.after)
		d := decide(t, e, q)
		if d.Allow != (c.by == "") || c.by != "" && d.Reasons[0].Detail[0] != c.by {
			t.Errorf("after %s: %+v", c.after, d.Reasons)
		}
	}
}

// Who is blocked is not asked for a token, nor offered a plan.
func TestBlocksOfferNothing(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, paymentsPolicy, paymentsData))
	arguments := `{"amount": "80.50", "payee": "bob"}`
	plain := credential(t, "c", claims(`"scope": "payments"`))
	q := call(t, "pay", arguments, plain)
	if d := decide(t, e, q); d.Remediation.Status != engine.Available {
		t.Fatalf("%+v", d)
	}
	for _, b := range []engine.Block{block("tool", "pay", ""), block("subject", alice, ""), block("agent", "agent", ""), block("client", "agent", "")} {
		setBlocks(t, e, b)
		wantBlocked(t, decide(t, e, q))
		p := e.NewPlanner(e.Snapshot())
		if err := p.Add(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		plan, err := p.Plan(t.Context())
		if err != nil || len(plan.Remedies) != 0 || plan.Calls[0].Outcome != engine.PlanDenied {
			t.Errorf("%s: plan %+v, %v", b.Kind, plan, err)
		}
	}
	setBlocks(t, e, block("tool", "pay", ""))
	wantBlocked(t, decide(t, e, call(t, "pay", arguments)))
	// Arguments that fail the schema are not what is told.
	wantBlocked(t, decide(t, e, call(t, "pay", `{}`, plain)))
}

func TestBlocksFilterTools(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, blocksPolicy, blocksData))
	own := credential(t, "c", claims(`"act": {"sub": "inner"}`))
	see := func(creds ...engine.Credential) string {
		out := filterTools(t, e, filterQuery([]string{"pay", "read"}, creds...))
		if out[0].Name != "pay" || out[1].Name != "read" || out[0].Rule != "" && out[0].Access == engine.ToolHidden {
			t.Errorf("%+v", out)
		}
		return show(out[0]) + ", " + show(out[1])
	}
	const both = "possible, possible"
	if got := see(own); got != both {
		t.Fatal(got)
	}
	for name, c := range map[string]struct {
		b    engine.Block
		want string
	}{
		"tool":           {block("tool", "pay", ""), "hidden, possible"},
		"subject":        {block("subject", alice, testIssuer), "hidden, hidden"},
		"agent":          {block("agent", "agent", ""), "hidden, hidden"},
		"client":         {block("client", "agent", ""), "hidden, hidden"},
		"acting client":  {block("client", "inner", ""), "hidden, hidden"},
		"another client": {block("client", "other", ""), both},
		"ended":          {engine.Block{ID: "x", Kind: "tool", Value: "pay", Until: testNow()}, both},
	} {
		// Answers before and after are of the cache, and those between are not.
		setBlocks(t, e, c.b)
		if got := see(own); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		setBlocks(t, e)
		if got := see(own); got != both {
			t.Errorf("%s, lifted: %s", name, got)
		}
	}
	setBlocks(t, e, block("tool", "pay", ""))
	if out := filterTools(t, e, filterQuery([]string{"pay"})); out[0].Access != engine.ToolHidden {
		t.Errorf("without a token: %+v", out)
	}
}

// The message names the tool, whatever a mapping makes of the call.
func TestBlocksOfMappedCalls(t *testing.T) {
	t.Parallel()
	e := mappedEngine(t, "any_subject")
	asks := func(subject string) *engine.Query {
		return mappedCall(t, engine.Mapped{
			Subject:     engine.Subject{Type: "identity", ID: subject},
			Evaluations: []engine.MappedEvaluation{{Action: engine.Action{Name: "read"}, Resource: engine.Resource{Type: "file", ID: "f"}}},
		})
	}
	for name, c := range map[string]struct {
		b       engine.Block
		subject string
		want    bool
	}{
		"the tool":                 {block("tool", "copy", ""), alice, true},
		"another tool":             {block("tool", "f", ""), alice, false},
		"the credential's subject": {block("subject", alice, ""), "carol", true},
		"the mapping's subject":    {block("subject", "carol", ""), "carol", true},
		"another subject":          {block("subject", "carol", ""), alice, false},
		"the agent":                {block("agent", "agent", ""), "carol", true},
	} {
		setBlocks(t, e)
		if d := decide(t, e, asks(c.subject)); !d.Allow {
			t.Fatalf("%s: %+v", name, d)
		}
		setBlocks(t, e, c.b)
		d := decide(t, e, asks(c.subject))
		if d.Allow == c.want || c.want && d.Reasons[len(d.Reasons)-1].Code != engine.CodeBlocked {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestSetBlocksRefuses(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, blocksPolicy, blocksData))
	setBlocks(t, e, block("tool", "pay", ""))
	edit := func(change func(*engine.Block)) []engine.Block {
		b := block("tool", "read", "")
		change(&b)
		return []engine.Block{b}
	}
	for name, c := range map[string]struct {
		list []engine.Block
		code engine.Code
	}{
		"no id":          {edit(func(b *engine.Block) { b.ID = "" }), engine.CodeMissingMember},
		"no kind":        {edit(func(b *engine.Block) { b.Kind = "" }), engine.CodeInvalidValue},
		"unknown kind":   {edit(func(b *engine.Block) { b.Kind = "Tool" }), engine.CodeInvalidValue},
		"no value":       {edit(func(b *engine.Block) { b.Value = "" }), engine.CodeMissingMember},
		"no end":         {edit(func(b *engine.Block) { b.Until = time.Time{} }), engine.CodeMissingMember},
		"issuer of tool": {edit(func(b *engine.Block) { b.Issuer = "x" }), engine.CodeInvalidValue},
		"long":           {edit(func(b *engine.Block) { b.Value = strings.Repeat("x", engine.MaxBlockText+1) }), engine.CodeInvalidValue},
		"too many":       {slices.Repeat(edit(func(*engine.Block) {}), engine.MaxBlockList+1), engine.CodeBlocksFull},
	} {
		var coded *engine.Error
		if err := e.SetBlocks(c.list); !errors.As(err, &coded) || coded.Code != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
	wantBlocked(t, decide(t, e, call(t, "pay", `{}`, credential(t, "c", claims("")))))
}

// Whoever is blocked at the start and at the end of a decision is denied,
// whatever else comes and goes meanwhile.
func TestBlocksWhileDeciding(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, blocksPolicy, blocksData))
	always := block("tool", "pay", "")
	setBlocks(t, e, always)
	stop := make(chan struct{})
	var changing, deciding sync.WaitGroup
	changing.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			other := block("subject", fmt.Sprint("s", i), "")
			other.ID = "other"
			if err := e.SetBlocks([]engine.Block{other, always}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 2 {
		deciding.Go(func() {
			q, free := call(t, "pay", `{}`, credential(t, "c", claims(""))), call(t, "read", `{}`, credential(t, "c", claims("")))
			for range 500 {
				d, err := e.Decide(t.Context(), q)
				if err != nil || d.Allow {
					t.Errorf("%+v, %v", d, err)
					return
				}
				if d, err = e.Decide(t.Context(), free); err != nil || !d.Allow {
					t.Errorf("%+v, %v", d, err)
					return
				}
			}
		})
	}
	deciding.Wait()
	close(stop)
	changing.Wait()
}

// A call of a tool is one of a resource of type tool, also where no message comes
// with it: another type would lead around rules and blocks of the tool.
func TestCallOfNoTool(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, blocksPolicy, blocksData))
	for _, kind := range []string{"Tool", "mcp_tool", "tools"} {
		_, err := e.Decide(t.Context(), &engine.Query{
			Action: engine.Action{Name: "tools/call"}, Resource: engine.Resource{Type: kind, ID: "pay"},
			Subject: &engine.Subject{Type: "identity", ID: alice},
		})
		var coded *engine.Error
		if !errors.As(err, &coded) || coded.Code != engine.CodeMCPMismatch || coded.Path != "/resource/type" {
			t.Errorf("%s: %v", kind, err)
		}
	}
}
