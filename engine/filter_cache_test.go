package engine_test

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

// clock is a clock that a test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// TestFilterRoles: who has no role for a tool does not see it, and who has not
// the tenant sees none.
func TestFilterRoles(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, `package authz

import data.authzd.v1 as authzd

permit["by-role"] := {"require": [authzd.scopes([scope])]} if {
	input.action.name == "tools/call"
	some role in data.users[input.subject.id]
	input.resource.id in data.roles[role]
	args.limit <= data.most[role]
	scope := data.scopes[input.resource.id]
}

forbid["frozen"] := {} if input.resource.id in data.frozen

forbid["too-much"] := {} if args.limit > 1000

args := input.mcp.params.arguments
`, `{"users": {"alice@example.com": ["reader"], "bob": ["reader", "writer"]}, "roles": {"reader": ["read", "list"], "writer": ["write", "frozen"]},
		"most": {"reader": 5, "writer": 9}, "scopes": {"read": "r", "list": "l", "write": "w", "frozen": "f"}, "frozen": ["frozen"],
		"authzd_tools": {`+toolsOf("read", "list", "write", "frozen", "other")+`}}`))
	tools := []string{"read", "list", "write", "frozen", "other"}
	for who, want := range map[string][]string{
		alice:  {"possible scopes=r", "after scopes=l", "hidden", "hidden", "hidden"},
		"bob":  {"possible scopes=r", "after scopes=l", "after scopes=w", "hidden", "hidden"},
		"carl": {"hidden", "hidden", "hidden", "hidden", "hidden"},
	} {
		cred := credential(t, "c", strings.Replace(claims(`"scope": "r"`), alice, who, 1))
		var got []string
		for _, tool := range filterTools(t, e, filterQuery(tools, cred)) {
			got = append(got, show(tool))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", who, diff)
		}
	}
}

func toolsOf(names ...string) string {
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = fmt.Sprintf(`%q: {"arguments": {"type": "object", "properties": {"limit": {"type": "number"}}, "required": ["limit"]}}`, name)
	}
	return strings.Join(list, ", ")
}

// TestFilterTime: an answer that hangs on the clock is made anew each time, and
// no other counts for long.
func TestFilterTime(t *testing.T) {
	t.Parallel()
	for name, policy := range map[string]string{
		"input.now":           `permit["a"] := {} if input.now < "2026-11-22T18:00:01Z"`,
		"now_ns":              `permit["a"] := {} if time.now_ns() < 1795370401000000000`,
		"now, in a helper":    "early if input.now < \"2026-11-22T18:00:01Z\"\n" + `permit["a"] := {} if early`,
		"now, under a forbid": "permit[\"a\"] := {}\n" + `forbid["f"] := {} if input.now >= "2026-11-22T18:00:01Z"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &clock{at: testNow()}
			e := engine.New(engine.Options{Now: c.now})
			e.Swap(compile(t, "package authz\n\n"+policy, anyTool))
			cred := credential(t, "c", claims(""))
			for _, want := range []string{"possible", "hidden"} {
				if got := filterTools(t, e, filterQuery([]string{"t"}, cred)); show(got[0]) != want {
					t.Errorf("at %v: %s, want %s", c.now(), show(got[0]), want)
				}
				c.move(time.Second)
			}
		})
	}
	// A sign-in grows old while an answer is remembered, and no longer than that.
	c := &clock{at: testNow()}
	e := engine.New(engine.Options{Now: c.now})
	e.Swap(compile(t, "package authz\n\nimport data.authzd.v1 as authzd\n\n"+`permit["a"] := {"require": [authzd.authentication({"max_age": 5})]}`, anyTool))
	cred := credential(t, "c", claims(fmt.Sprintf(`"auth_time": %d`, testNow().Unix())))
	for _, want := range []string{"possible age=5s", "possible age=5s", "after age=5s"} {
		if got := filterTools(t, e, filterQuery([]string{"t"}, cred)); show(got[0]) != want {
			t.Errorf("at %v: %s, want %s", c.now(), show(got[0]), want)
		}
		c.move(6 * time.Second)
	}
	// A credential that ends is another question.
	cred.ExpiresAt = c.now().Add(time.Second)
	for _, want := range []string{"after age=5s", "after token"} {
		if got := filterTools(t, e, filterQuery([]string{"t"}, cred)); show(got[0]) != want {
			t.Errorf("at %v: %s, want %s", c.now(), show(got[0]), want)
		}
		c.move(time.Second)
	}
}

// TestFilterKeepsCallersApart changes one thing about the caller at a time,
// under a policy that permits by exactly that thing.
func TestFilterKeepsCallersApart(t *testing.T) {
	t.Parallel()
	base := func() *engine.FilterQuery {
		return filterQuery([]string{"t"}, credential(t, "c", claims(`"scope": "s"`)))
	}
	for name, c := range map[string]struct {
		condition string
		change    func(*engine.FilterQuery)
	}{
		"context":      {`input.context.mode == "on"`, func(q *engine.FilterQuery) { q.Caller.Context = decode(t, `{"mode": "on"}`) }},
		"tenant":       {`input.tenant == "other"`, func(q *engine.FilterQuery) { q.Caller.Tenant = "other" }},
		"transport":    {`input.mcp.transport == "stdio"`, func(q *engine.FilterQuery) { q.Caller.MCP.Transport = "stdio" }},
		"version":      {`input.mcp.protocol_version == "x"`, func(q *engine.FilterQuery) { q.Caller.MCP.ProtocolVersion = "x" }},
		"subject type": {`input.subject.type == "robot"`, func(q *engine.FilterQuery) { q.Caller.Subject = &engine.Subject{Type: "robot", ID: alice} }},
		"properties": {`input.subject.properties.x == 1`, func(q *engine.FilterQuery) {
			q.Caller.Subject = &engine.Subject{Type: "identity", ID: alice, Properties: decode(t, `{"x": 1}`)}
		}},
		"annotations": {`input.mcp.tool.annotations.readOnlyHint`, func(q *engine.FilterQuery) {
			q.Tools[0].Entry = decode(t, `{"annotations": {"readOnlyHint": true}}`)
		}},
		"rejected": {`count(input.rejected_credentials) > 0`, func(q *engine.FilterQuery) {
			q.Caller.Rejected = []engine.RejectedCredential{{ID: "x", Code: "token.malformed"}}
		}},
		"two credentials": {`count(input.credentials) == 2`, func(q *engine.FilterQuery) {
			q.Caller.Credentials = append(q.Caller.Credentials, credential(t, "d", claims("")))
		}},
		"server": {`input.mcp.server == "https://other.example.com"`, func(q *engine.FilterQuery) {
			q.Caller.MCP.Server = "https://other.example.com"
			q.Caller.Credentials[0].Audience = []string{q.Caller.MCP.Server}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEngine(compileWith(t, "package authz\n\npermit[\"a\"] := {} if "+c.condition, anyTool, `{"contract": 1, "lax_forbids": true}`))
			changed := base()
			c.change(changed)
			for range 2 {
				if got := filterTools(t, e, base()); show(got[0]) != "hidden" {
					t.Errorf("unchanged: %s", show(got[0]))
				}
				if got := filterTools(t, e, changed); show(got[0]) != "possible" {
					t.Errorf("changed: %s", show(got[0]))
				}
			}
		})
	}
}

// TestFilterKeepsCredentialsApart: whatever changes about a credential makes
// another question, so that no field that is added can be forgotten.
func TestFilterKeepsCredentialsApart(t *testing.T) {
	t.Parallel()
	// What policy does not see, and what no requirement is judged by.
	unseen := map[string]bool{"Withheld": true, "NotBefore": true, "Bound": true, "AllClaims": true}
	// "Details" that are not of a declared type are not seen either.
	e := newEngine(compile(t, paymentsPolicy, paymentsData))
	whole := credential(t, "c", claims(details8050))
	fields := reflect.TypeFor[engine.Credential]()
	for i := range fields.NumField() {
		name := fields.Field(i).Name
		if unseen[name] {
			continue
		}
		cred := whole
		f := reflect.ValueOf(&cred).Elem().Field(i)
		switch old := f.Interface().(type) {
		case string:
			f.SetString(old + "x")
		case bool:
			f.SetBool(!old)
		case time.Time:
			f.Set(reflect.ValueOf(testNow().Add(-time.Hour)))
			if name == "ExpiresAt" {
				f.Set(reflect.ValueOf(old.Add(time.Hour)))
			}
		case []string:
			f.Set(reflect.ValueOf(append([]string{"x"}, old...)))
		case []engine.Actor:
			f.Set(reflect.ValueOf([]engine.Actor{{Issuer: "i", Subject: "s"}}))
		case rar.Value:
			f.Set(reflect.ValueOf(rar.ObjectValue(rar.Member{Name: "x", Value: rar.BoolValue(true)})))
			if name == "Details" {
				f.Set(reflect.ValueOf(rar.Value{}))
			}
		default:
			t.Fatalf("%s: a field of type %T", name, old)
		}
		if engine.SameFilterKey(e, filterQuery(nil, whole), filterQuery(nil, cred)) {
			t.Errorf("%s makes no difference", name)
		}
	}
	if !engine.SameFilterKey(e, filterQuery(nil, whole), filterQuery(nil, whole)) {
		t.Error("the same caller has two keys")
	}
}

// TestFilterSnapshots: what another policy said does not count.
func TestFilterSnapshots(t *testing.T) {
	t.Parallel()
	cred := credential(t, "c", claims(""))
	e := newEngine(compile(t, `package authz
permit["a"] := {}`, anyTool))
	for _, want := range []string{"possible", "hidden"} {
		if got := filterTools(t, e, filterQuery([]string{"t"}, cred)); show(got[0]) != want {
			t.Errorf("got %s, want %s", show(got[0]), want)
		}
		e.Swap(compile(t, `package authz
permit["a"] := {} if input.subject.id == "bob"`, anyTool))
	}
}

// TestFilterBudget: what takes too long is possible, and asked again.
func TestFilterBudget(t *testing.T) {
	t.Parallel()
	slow := `package authz
allow if count([1 | some a in numbers.range(1, 3000); some b in numbers.range(1, 3000); a == b + 5000]) == 1`
	s := compile(t, slow, anyTool)
	e := engine.New(engine.Options{Now: testNow, Budget: time.Millisecond})
	e.Swap(s)
	q := filterQuery([]string{"t", "none"}, credential(t, "c", claims("")))
	got := filterTools(t, e, q)
	if show(got[0]) != "possible" || show(got[1]) != "hidden" {
		t.Errorf("got %s, %s", show(got[0]), show(got[1]))
	}
}

// TestFilterTogether asks from many goroutines while policy is swapped.
func TestFilterTogether(t *testing.T) {
	t.Parallel()
	e := newEngine(compile(t, paymentsPolicy, paymentsData))
	var group sync.WaitGroup
	for i := range 8 {
		cred := credential(t, "c", claims(fmt.Sprintf(`"scope": "payments", "jti": "%d"`, i%3)))
		group.Go(func() {
			for range 20 {
				out, err := e.FilterTools(t.Context(), e.Snapshot(), filterQuery([]string{"pay", "none"}, cred))
				if err != nil || show(out.Tools[0]) != "after scopes=payments types=payment" || show(out.Tools[1]) != "hidden" {
					t.Errorf("%+v, %v", out, err)
				}
			}
		})
	}
	e.Swap(compile(t, paymentsPolicy, paymentsData))
	group.Wait()
}
