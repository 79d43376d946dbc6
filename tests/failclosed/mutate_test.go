package failclosed_test

import (
	"fmt"
	"strconv"
	"strings"
)

// mutant is one spoiled query. broken says that it is no JSON text that may be
// read at all, which not every oracle could tell.
type mutant struct {
	name   string
	query  func() string
	broken bool
}

// mutants returns every mutation of a query: one change at one place, for each
// place; settings, which change a query as a whole; and spoiled JSON text.
func mutants(q *node) []mutant {
	var out []mutant
	walk(q, "", func(path string, edit func(func(*node) *node) *node, at *node) {
		for _, c := range changes(at) {
			out = append(out, mutant{name: path + ": " + c.name, query: func() string { return edit(c.apply).String() }})
		}
	})
	for _, s := range settings() {
		c := q.clone()
		if c.get("mcp", "params", "name") == nil {
			break // the settings are about calls of tools
		}
		if s.apply(c) {
			out = append(out, mutant{name: "setting: " + s.name, query: c.String})
		}
	}
	return append(out, spoiled(q.String())...)
}

// walk calls visit for every value below n, with a function that returns a copy
// of the whole with that one value edited (nil removes it).
func walk(n *node, path string, visit func(string, func(func(*node) *node) *node, *node)) {
	var step func(at *node, path string, edit func(func(*node) *node) *node)
	step = func(at *node, path string, edit func(func(*node) *node) *node) {
		visit(path, edit, at)
		for i, v := range at.items {
			step(v, fmt.Sprintf("%s/%d", path, i), func(f func(*node) *node) *node {
				return edit(func(a *node) *node {
					if v := f(a.items[i]); v != nil {
						a.items[i] = v
					} else {
						a.items = append(a.items[:i], a.items[i+1:]...)
					}
					return a
				})
			})
		}
		for i, m := range at.members {
			step(m.value, path+"/"+m.name, func(f func(*node) *node) *node {
				return edit(func(a *node) *node {
					if v := f(a.members[i].value); v != nil {
						a.members[i].value = v
					} else {
						a.members = append(a.members[:i], a.members[i+1:]...)
					}
					return a
				})
			})
		}
	}
	step(n, path, func(f func(*node) *node) *node {
		if c := f(n.clone()); c != nil {
			return c
		}
		return nullNode()
	})
}

type change struct {
	name  string
	apply func(*node) *node
}

func to(name string, v *node) change {
	return change{"to " + name, func(*node) *node { return v.clone() }}
}

// changes are the mutations that make sense for a value of this kind.
func changes(n *node) []change {
	all := []change{
		{"missing", func(*node) *node { return nil }},
		{"in an array", func(n *node) *node { return list(n) }},
		{"twice in an array", func(n *node) *node { return list(n, n.clone()) }},
		{"in an object", func(n *node) *node { return obj(member{name: "value", value: n}) }},
		{"indexed object", func(n *node) *node { return obj(member{name: "0", value: n}) }},
		to("null", nullNode()),
		to("true", boolNode(true)), to("false", boolNode(false)),
		to("empty string", str("")), to("empty array", list()), to("empty object", obj()),
		to("0", num("0")), to("-1", num("-1")), to("7", num("7")),
		to("a string", str("x")),
		to("array of null", list(nullNode())),
	}
	switch n.kind {
	case null, boolean:
	case text:
		return append(all, textChanges(n.text)...)
	case number:
		return append(all, numberChanges(n.text)...)
	case array:
		return append(all, arrayChanges(n)...)
	case object:
		return append(all, objectChanges(n)...)
	}
	return all
}

func numberChanges(s string) []change {
	out := []change{to("the same as a string", str(s))}
	for _, v := range []string{
		"-" + strings.TrimPrefix(s, "-"), "-0", "0.1", "1e2", "1E-400", "1e400", "-1e400", "1e401", "1e99999", "1e999999999999",
		"9007199254740993", "9007199254740992.5", "1000000000000000000000000000000000000001", "-1000000000000000000000000000000000000001",
		strings.Repeat("9", 400), "0." + strings.Repeat("0", 400) + "1", s + "e0", s + "E+1", s + "e-1", "99.999999999999999999999999999999999999", "999.9999999999999999999999999",
	} {
		out = append(out, to(short(v), num(v)))
	}
	if !strings.Contains(s, ".") {
		out = append(out, to("a fraction", num(s+".5")), to("a written fraction", num(s+".0")))
	}
	return out
}

func short(s string) string {
	if len(s) > 44 {
		return fmt.Sprintf("%s… (%d)", s[:8], len(s))
	}
	return s
}

func textChanges(s string) []change {
	values := map[string]string{
		"space before":      " " + s,
		"space behind":      s + " ",
		"line break behind": s + "\n",
		"NUL behind":        s + "\x00",
		"upper case":        strings.ToUpper(s),
		"lower case":        strings.ToLower(s),
		"more behind":       s + "x",
		"digit behind":      s + "0",
		"more before":       "x" + s,
		"slash behind":      s + "/",
		"climbing":          s + "/../" + s,
		"zero width":        s + "\u200b",
		"comma list":        s + "," + s,
		"twice by space":    s + " " + s,
		"wildcard":          "*",
		"places":            "{/mcp/params/arguments}",
		"sign before":       "-" + s,
		"exponent behind":   s + "e9",
		"full width":        fullWidth(s),
		"Cyrillic":          strings.NewReplacer("a", "а", "e", "е", "o", "о", "E", "Е", "B", "В").Replace(s),
		"Turkish":           strings.NewReplacer("i", "ı", "I", "İ").Replace(s),
		"Kelvin":            strings.NewReplacer("k", "\u212a", "s", "ſ").Replace(s),
		"percent":           strings.NewReplacer(".", "%2e", "/", "%2f", ":", "%3a").Replace(s),
		"long":              strings.Repeat(s+"a", 300),
		"tab for space":     strings.ReplaceAll(s, " ", "\t"),
		"other bracket":     "[" + s + "]",
		"JSON":              `{"value":"` + s + `"}`,
		"negative":          "-5",
		"exponent":          "1e2",
		"40 digits":         "1000000000000000000000000000000000000001",
	}
	if len(s) > 1 {
		values["last cut"] = s[:len(s)-1]
		values["first cut"] = s[1:]
	}
	var out []change
	for _, name := range sortedKeys(values) {
		if values[name] != s && !strings.ContainsRune(values[name], '\uFFFD') {
			out = append(out, to(name, str(strings.ToValidUTF8(values[name], "?"))))
		}
	}
	if decimal(s) != nil {
		out = append(out, to("the same as a number", num(s)))
	}
	return out
}

func fullWidth(s string) string {
	return strings.Map(func(r rune) rune {
		if r > ' ' && r < 0x7f {
			return r + 0xfee0
		}
		return r
	}, s)
}

func arrayChanges(n *node) []change {
	out := []change{
		{"reversed", func(n *node) *node {
			r := list()
			for i := len(n.items) - 1; i >= 0; i-- {
				r.items = append(r.items, n.items[i])
			}
			return r
		}},
		{"as an object", func(n *node) *node {
			o := obj()
			for i, v := range n.items {
				o.members = append(o.members, member{name: strconv.Itoa(i), value: v})
			}
			return o
		}},
	}
	for _, v := range []*node{nullNode(), boolNode(true), num("0"), str(""), str("x"), list(), obj()} {
		out = append(out,
			change{v.String() + " behind", func(n *node) *node { n.items = append(n.items, v.clone()); return n }},
			change{v.String() + " before", func(n *node) *node { n.items = append([]*node{v.clone()}, n.items...); return n }})
	}
	if len(n.items) > 0 {
		out = append(out,
			to("its first element", n.items[0]),
			change{"first element twice", func(n *node) *node { n.items = append(n.items, n.items[0].clone()); return n }},
			change{"first element 30 times", func(n *node) *node {
				for range 29 {
					n.items = append(n.items, n.items[0].clone())
				}
				return n
			}},
			change{"nested behind", func(n *node) *node { return list(append(n.items, list(n.items[0].clone()))...) }})
	}
	return out
}

func objectChanges(n *node) []change {
	var out []change
	add := func(what string, m member, first bool) {
		out = append(out, change{what, func(n *node) *node {
			c := member{name: m.name, raw: m.raw, value: m.value.clone()}
			if first {
				n.members = append([]member{c}, n.members...)
			} else {
				n.members = append(n.members, c)
			}
			return n
		}})
	}
	for _, name := range []string{"x_extra", "", "__proto__", "default", "kind", "allow"} {
		if n.get(name) == nil {
			add(fmt.Sprintf("extra member %q", name), member{name: name, value: boolNode(true)}, false)
		}
	}
	for i, m := range n.members {
		if len(m.name) == 0 {
			continue
		}
		for _, v := range []*node{m.value, nullNode(), str("x"), list(), obj()} {
			add("duplicate "+m.name+" as "+short(v.String()), member{name: m.name, value: v}, false)
			add("duplicate first "+m.name+" as "+short(v.String()), member{name: m.name, value: v}, true)
		}
		upper := strings.ToUpper(m.name[:1]) + m.name[1:]
		if upper == m.name {
			upper = strings.ToLower(m.name[:1]) + m.name[1:]
		}
		add("case variant of "+m.name, member{name: upper, value: nullNode()}, false)
		rename := func(what, name, raw string) {
			out = append(out, change{what + " " + m.name, func(n *node) *node {
				n.members[i].name, n.members[i].raw = name, raw
				return n
			}})
		}
		rename("renamed by case", upper, "")
		rename("renamed by space", m.name+" ", "")
		rename("renamed by Kelvin", strings.NewReplacer("k", "\u212a", "s", "ſ").Replace(m.name)+"\u200b", "")
		rename("escaped name", m.name, fmt.Sprintf(`"\u%04x%s"`, m.name[0], m.name[1:]))
		add("escaped duplicate of "+m.name, member{name: m.name, raw: fmt.Sprintf(`"\u%04x%s"`, m.name[0], m.name[1:]), value: str("x")}, false)
	}
	return out
}

// spoiled are texts that no reader may take as this query.
func spoiled(q string) []mutant {
	var out []mutant
	for _, s := range [][2]string{
		{"empty", ""},
		{"white space", " \n"},
		{"cut", q[:len(q)-1]},
		{"cut in half", q[:len(q)/2]},
		{"more behind", q + "{}"},
		{"comma behind", q + ","},
		{"twice", q + q},
		{"NUL behind", q + "\x00"},
		{"BOM", "\ufeff" + q},
		{"invalid UTF-8", strings.Replace(q, "example", "ex\xffample", 1)},
		{"overlong UTF-8", strings.Replace(q, "example", "ex\xc0\xafample", 1)},
		{"lone surrogate", strings.Replace(q, "example", `ex\ud800ample`, 1)},
		{"control character", strings.Replace(q, "example", "ex\nample", 1)},
		{"trailing comma", q[:len(q)-1] + ",}"},
		{"comment", "/**/" + q},
		{"single quotes", strings.ReplaceAll(q, `"`, `'`)},
		{"NaN", strings.Replace(q, `"exp":4102444800`, `"exp":NaN`, 1)},
		{"Infinity", strings.Replace(q, `"exp":4102444800`, `"exp":Infinity`, 1)},
		{"leading zero", strings.Replace(q, `"exp":4102444800`, `"exp":04102444800`, 1)},
		{"plus", strings.Replace(q, `"exp":4102444800`, `"exp":+4102444800`, 1)},
		{"hexadecimal", strings.Replace(q, `"exp":4102444800`, `"exp":0xF4865700`, 1)},
		{"bare point", strings.Replace(q, `"exp":4102444800`, `"exp":4102444800.`, 1)},
		{"deep array", strings.Repeat("[", 20000) + strings.Repeat("]", 20000)},
		{"deep context", q[:len(q)-1] + `,"context":{"x":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "}}"},
		{"in an array", "[" + q + "]"},
		{"as a string", fmt.Sprintf("%q", q)},
	} {
		if s[1] != q {
			out = append(out, mutant{name: "text: " + s[0], query: func() string { return s[1] }, broken: true})
		}
	}
	return out
}
