package engine

import (
	"testing"

	"github.com/authzd/authzd/rar"
)

// TestReviewedDifferences: whole decisions that came out otherwise once the policy
// was compiled, most of them as an allow.
func TestReviewedDifferences(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ policy, data, properties string }{
		"a key is a number where data has text": {
			"permit[\"x\"] := {}\n\nblocked contains id if data.blocked[id]\n\n" +
				"forbid[\"b\"] := {} if blocked[object.get(input, [\"resource\", \"properties\", \"account\"], null)]\n",
			`{"blocked": {"42": true}}`, `{"account": 42}`,
		},
		"a variable of every leaks into a comprehension": {
			"permit[\"x\"] := {} if {\n\tevery s in object.get(input, [\"resource\", \"properties\", \"scopes\"], []) { data.known[i] == s }\n" +
				"\tcount([i | data.blocked[i] == object.get(input, [\"resource\", \"properties\", \"owner\"], null)]) == 0\n}\n",
			`{"known": ["read", "write"], "blocked": ["bob", "carol"]}`, `{"scopes": ["read"], "owner": "bob"}`,
		},
		"a variable of every leaks into another": {
			"permit[\"x\"] := {}\n\nforbid[\"b\"] := {} if {\n\tevery s in object.get(input, [\"resource\", \"properties\", \"scopes\"], []) { data.known[i] == s }\n" +
				"\tevery s in object.get(input, [\"resource\", \"properties\", \"owners\"], []) { data.blocked[i] == s }\n}\n",
			`{"known": ["read", "write"], "blocked": ["bob", "carol"]}`, `{"scopes": ["read"], "owners": ["bob"]}`,
		},
		"a pattern reads what another definition left": {
			"level := 1 if {\n\ta := input.resource.id\n\tb := input.action.name\n\tc := input.resource.type\n\td := a\n\te := b\n\td == e\n\te == c\n\tc == d\n}\n\n" +
				"level := 2 if {\n\t[p, q] = [q, input.resource.type]\n\tp == \"page\"\n}\n\nlevel := 3 if input.action.name == \"read\"\n\npermit[\"x\"] := {} if level == 3\n",
			`{}`, `{"owner": "bob"}`,
		},
		"a call with an equal number": {
			"key(v) := json.marshal(v)\n\npermit[\"x\"] := {} if {\n\tkey([1]) == \"[1]\"\n\tkey([object.get(input, [\"resource\", \"properties\", \"n\"], null)]) == \"[1.0]\"\n}\n",
			`{}`, `{"n": 1.0}`,
		},
		"numbers beyond a double": {
			"permit[\"x\"] := {} if {\n\tcount({object.get(input, [\"resource\", \"properties\", \"a\"], null), object.get(input, [\"resource\", \"properties\", \"b\"], null)}) == 1\n}\n",
			`{}`, `{"a": 1e400, "b": 10e399}`,
		},
		"a negated block": {
			"import rego.v2\n\npermit[\"x\"] := {}\n\nforbid[\"b\"] := {} if {\n\tsome v in object.get(input, [\"resource\", \"properties\", \"scopes\"], [])\n\tnot { some w in data.allowed; v == w }\n}\n",
			`{"allowed": ["read"]}`, `{"scopes": ["read", "admin"]}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			metadata, err := rar.DecodeStrict([]byte(`{"contract": 1, "untyped_tools": true}`), rar.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			data, err := rar.DecodeStrict([]byte(c.data), rar.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			s, faults, err := Compile(t.Context(), []Bundle{{
				Name: "main", Revision: "1", Roots: []string{""}, Metadata: metadata, Data: data,
				Modules: []Module{{Path: "p.rego", Text: "package authz\n\n" + c.policy}},
			}})
			if err != nil {
				t.Fatal(err, faults)
			}
			properties, err := rar.DecodeStrict([]byte(c.properties), rar.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			e := New(Options{VerifySample: 1})
			e.Swap(s)
			ask := func() Decision {
				q := readQuery("p")
				q.Resource.Properties = properties
				d, err := e.Decide(t.Context(), q)
				if err != nil {
					t.Fatal(err)
				}
				return d
			}
			interpreted := ask()
			prepare(s)
			compiled := ask()
			if interpreted.Allow != compiled.Allow || VerifyPending(t.Context(), e) != 0 {
				t.Errorf("allow is %v, compiled %v", interpreted.Allow, compiled.Allow)
			}
		})
	}
}
