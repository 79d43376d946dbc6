package policies_test

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// spot is a place in a document.
type spot struct {
	in    any
	name  string
	index int
}

func (s spot) get() any {
	if m := object(s.in); m != nil {
		return m[s.name]
	}
	return array(s.in)[s.index]
}

func (s spot) set(v any) {
	if m := object(s.in); m != nil {
		m[s.name] = v
		return
	}
	array(s.in)[s.index] = v
}

// spots lists the places below v.
func spots(v any, name string) []spot {
	var out []spot
	for i, e := range array(v) {
		out = append(append(out, spot{v, name, i}), spots(e, name)...)
	}
	m := object(v)
	for _, k := range names(m) {
		out = append(append(out, spot{v, k, 0}), spots(m[k], k)...)
	}
	return out
}

func (d *draft) changeBelow(v any) {
	all := spots(v, "")
	if len(all) == 0 {
		return
	}
	s := all[d.r.IntN(len(all))]
	if m := object(s.in); m != nil && d.coin(8) {
		if d.coin(2) {
			delete(m, s.name)
		} else {
			m[d.one("extra", "path", "amount", s.name+"2")] = s.get()
		}
		return
	}
	s.set(d.changed(s.get(), s.name))
}

// changed is another value, mostly of the same kind.
func (d *draft) changed(v any, name string) any {
	if d.coin(2) {
		return d.other(name)
	}
	if d.coin(25) {
		return []any{nil, true, "", "x", json.Number("0"), []any{}, map[string]any{}, []any{v}}[d.r.IntN(8)]
	}
	switch v := v.(type) {
	case string:
		return d.changedText(v)
	case json.Number:
		return json.Number(d.changedNumber(v.String()))
	case bool:
		return !v
	case []any:
		return d.changedList(v, name)
	case map[string]any:
		d.changeBelow(v)
	}
	return v
}

func (d *draft) changedText(s string) string {
	if _, err := strconv.ParseFloat(s, 64); err == nil && d.coin(2) {
		return d.changedNumber(s)
	}
	switch d.r.IntN(8) {
	case 0:
		return s + d.one("x", "0", "/", ".", "/x", " ", "*", "2", "/../x", "\n")
	case 1:
		return s[:max(len(s)-1, 0)]
	case 2:
		return strings.ToUpper(s)
	case 3:
		parts := strings.Split(s, "/")
		i := d.r.IntN(len(parts))
		parts[i] = d.one(".ssh", ".env", "id_rsa", "main", "*", "**", "..", "alice", "bob", "shared", "x")
		return strings.Join(parts, "/")
	case 4:
		return s[:strings.LastIndex(s, "/")+1]
	default:
		return d.texts[d.r.IntN(len(d.texts))]
	}
}

func (d *draft) changedNumber(s string) string {
	n, err := strconv.ParseInt(strings.SplitN(s, ".", 2)[0], 10, 64)
	if err != nil {
		return "1"
	}
	return d.one(strconv.FormatInt(n+1, 10), strconv.FormatInt(n-1, 10), s+".0", s+".50", "0", "-1", "1", "9999.99", "10000", "10000.00", "10001", "1e3",
		"9007199254740990", "9007199254740991", "9007199254740993", s+"0")
}

func (d *draft) changedList(v []any, name string) []any {
	switch out := slices.Clone(v); d.r.IntN(4) {
	case 0:
		slices.Reverse(out)
		return out
	case 1:
		if len(out) > 0 {
			return slices.Delete(out, 0, 1)
		}
		return out
	case 2:
		if len(out) > 0 {
			return append(out, cloned(out[d.r.IntN(len(out))]))
		}
		return append(out, "x")
	default:
		if more := array(d.other(name)); len(more) > 0 {
			return append(out, cloned(more[d.r.IntN(len(more))]))
		}
		return out
	}
}
