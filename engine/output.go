package engine

import (
	"fmt"
	"sort"
	"strings"

	"github.com/authzd/authzd/rar"
)

// permit is one way to be allowed.
type permit struct {
	name         string
	requirements []requirement
	require      rar.Value // requirements as policy has them
	obligations  []rar.Value
	priority     int
}

// forbid is one reason to be denied whatever permits say.
type forbid struct {
	name         string
	code         string
	message      string
	messageAdmin string
	remediation  Status
}

const (
	defaultPriority = 100
	maxPriority     = 1000
	plainAllow      = "allow"
	plainDeny       = "deny"
)

// shapeError is a value of policy that the contract does not know. One of
// them denies the whole decision ("closed shapes").
type shapeError struct {
	code Code
	path string
	text string
}

func (e *shapeError) Error() string { return e.path + ": " + e.text }

func malformed(path, format string, args ...any) *shapeError {
	return &shapeError{code: CodeMalformedOutput, path: path, text: fmt.Sprintf(format, args...)}
}

// readPermits reads permit and allow, sorted by name.
func readPermits(o *output, types *rar.Types) ([]permit, *shapeError) {
	var out []permit
	if o.permit.defined() {
		if o.permit.set || o.permit.value.Kind() != rar.Object {
			return nil, malformed("permit", "must be an object of rules, not a %s", describe(o.permit))
		}
		for i := range o.permit.value.Len() {
			m := o.permit.value.Member(i)
			p, err := readPermit(m.Name, m.Value, types)
			if err != nil {
				return nil, err
			}
			out = append(out, p)
		}
	}
	if o.allow.defined() {
		if o.allow.set || o.allow.value.Kind() != rar.Bool {
			return nil, malformed("allow", "must be true or false, not a %s", describe(o.allow))
		}
		if o.allow.value.Bool() {
			out = append(out, permit{name: plainAllow, priority: defaultPriority})
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].name < out[j].name })
	return out, nil
}

func describe(d document) string {
	if d.set {
		return "set"
	}
	return d.value.Kind().String()
}

func readPermit(name string, v rar.Value, types *rar.Types) (permit, *shapeError) {
	path := fmt.Sprintf("permit[%q]", name)
	p := permit{name: name, priority: defaultPriority}
	if name == "" {
		return p, malformed(path, "a rule needs a name")
	}
	if v.Kind() != rar.Object {
		return p, malformed(path, "must be an object, not a %s", v.Kind())
	}
	for i := range v.Len() {
		m := v.Member(i)
		at := path + "." + m.Name
		var err *shapeError
		switch m.Name {
		case "require":
			p.require = m.Value
			p.requirements, err = readRequirements(at, m.Value, types)
		case "obligations":
			p.obligations, err = readObligations(at, m.Value)
		case "priority":
			p.priority, err = readPriority(at, m.Value)
		default:
			err = malformed(at, "is not a member of a permit")
		}
		if err != nil {
			return p, err
		}
	}
	return p, nil
}

func readRequirements(path string, v rar.Value, types *rar.Types) ([]requirement, *shapeError) {
	if v.Kind() != rar.Array {
		return nil, malformed(path, "must be an array of requirements, not a %s", v.Kind())
	}
	if v.Len() == 0 {
		return nil, &shapeError{code: CodeEmptyRequirement, path: path, text: "is empty: leave require out if nothing is required"}
	}
	out := make([]requirement, 0, v.Len())
	for i := range v.Len() {
		r, err := readRequirement(fmt.Sprintf("%s[%d]", path, i), v.Index(i), types)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

func readObligations(path string, v rar.Value) ([]rar.Value, *shapeError) {
	if v.Kind() != rar.Array {
		return nil, malformed(path, "must be an array of objects with an id, not a %s", v.Kind())
	}
	out := make([]rar.Value, 0, v.Len())
	for i := range v.Len() {
		id, _ := v.Index(i).Get("id")
		if v.Index(i).Kind() != rar.Object || id.Kind() != rar.String || id.Text() == "" {
			return nil, malformed(fmt.Sprintf("%s[%d]", path, i), "must be an object with an id")
		}
		out = append(out, v.Index(i))
	}
	return out, nil
}

func readPriority(path string, v rar.Value) (int, *shapeError) {
	n, ok := smallInt(v, maxPriority)
	if !ok {
		return 0, malformed(path, "must be an integer from 0 to %d", maxPriority)
	}
	return int(n), nil
}

// smallInt reads an integer from 0 to limit in any spelling of its value.
func smallInt(v rar.Value, limit int64) (int64, bool) {
	if v.Kind() != rar.Number {
		return 0, false
	}
	text := v.AppendCanonical(nil)
	if len(text) == 0 || len(text) > 12 {
		return 0, false
	}
	var n int64
	for _, d := range text {
		if d < '0' || d > '9' {
			return 0, false
		}
		n = n*10 + int64(d-'0')
	}
	return n, n <= limit
}

// readForbids reads forbid and deny, sorted by name.
func readForbids(o *output) ([]forbid, *shapeError) {
	var out []forbid
	if o.forbid.defined() {
		if o.forbid.set || o.forbid.value.Kind() != rar.Object {
			return nil, malformed("forbid", "must be an object of rules, not a %s", describe(o.forbid))
		}
		for i := range o.forbid.value.Len() {
			m := o.forbid.value.Member(i)
			f, err := readForbid(fmt.Sprintf("forbid[%q]", m.Name), m.Name, m.Value)
			if err != nil {
				return nil, err
			}
			out = append(out, f)
		}
	}
	plain, err := readDeny(o.deny)
	if err != nil {
		return nil, err
	}
	out = append(out, plain...)
	sort.SliceStable(out, func(i, j int) bool { return out[i].name < out[j].name })
	return out, nil
}

// readDeny reads the plain form: true, or a set of strings or forbid objects.
// An empty set is what a partial set yields when no rule holds.
func readDeny(d document) ([]forbid, *shapeError) {
	if !d.defined() {
		return nil, nil
	}
	if !d.set {
		if d.value.Kind() != rar.Bool {
			return nil, malformed("deny", "must be a boolean or a set, not a %s", d.value.Kind())
		}
		if d.value.Bool() {
			return []forbid{{name: plainDeny, remediation: Undisclosed}}, nil
		}
		return nil, nil
	}
	out := make([]forbid, 0, d.value.Len())
	for i := range d.value.Len() {
		e := d.value.Index(i)
		if e.Kind() == rar.String {
			out = append(out, forbid{name: plainDeny, message: e.Text(), remediation: Undisclosed})
			continue
		}
		f, err := readForbid(fmt.Sprintf("deny[%d]", i), plainDeny, e)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

func readForbid(path, name string, v rar.Value) (forbid, *shapeError) {
	f := forbid{name: name, remediation: Undisclosed}
	if name == "" {
		return f, malformed(path, "a rule needs a name")
	}
	if v.Kind() != rar.Object {
		return f, malformed(path, "must be an object or, in deny, a string, not a %s", v.Kind())
	}
	for i := range v.Len() {
		m := v.Member(i)
		at := path + "." + m.Name
		if m.Value.Kind() != rar.String {
			return f, malformed(at, "must be a string, not a %s", m.Value.Kind())
		}
		text := m.Value.Text()
		switch m.Name {
		case "code":
			if !validForbidCode(text) {
				return f, malformed(at, "must match [a-z0-9_.]+ and not begin with a prefix of authzd")
			}
			f.code = text
		case "message":
			f.message = text
		case "message_admin":
			f.messageAdmin = text
		case "remediation":
			if text != string(Undisclosed) && text != string(Unavailable) {
				return f, malformed(at, "must be \"undisclosed\" or \"unavailable\"")
			}
			f.remediation = Status(text)
		default:
			return f, malformed(at, "is not a member of a forbid")
		}
	}
	return f, nil
}

func validForbidCode(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '.' {
			return false
		}
	}
	for _, own := range []string{"request.", "engine.", "requirement.", "rar.", "token.", "bundle.", "approval.", "mcp.", "api."} {
		if strings.HasPrefix(s, own) {
			return false
		}
	}
	return s != ""
}
