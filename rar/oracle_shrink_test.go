package rar_test

import "slices"

// shrink drops grants, needs and members while the case still fails.
func shrink(c coverCase, fails func(coverCase) bool) coverCase {
	for again := true; again; {
		again = false
		for _, next := range smaller(c) {
			if fails(next) {
				c, again = next, true
				break
			}
		}
	}
	return c
}

func smaller(c coverCase) []coverCase {
	var out []coverCase
	if c.singleUse {
		out = append(out, coverCase{c.granted, c.required, false})
	}
	for _, list := range smallerLists(c.granted) {
		out = append(out, coverCase{list, c.required, c.singleUse})
	}
	for _, list := range smallerLists(c.required) {
		out = append(out, coverCase{c.granted, list, c.singleUse})
	}
	for i, g := range c.granted { // one field on both sides, where they stand together
		for j, r := range c.required {
			for _, name := range sortedNames(asObject(g)) {
				if name == "type" {
					continue
				}
				out = append(out, coverCase{replaced(c.granted, i, without(g, name)), replaced(c.required, j, without(r, name)), c.singleUse})
			}
		}
	}
	return out
}

func smallerLists(list []any) [][]any {
	var out [][]any
	for i := range list {
		out = append(out, slices.Delete(slices.Clone(list), i, i+1))
	}
	for i, v := range list {
		for _, s := range smallerValues(v) {
			out = append(out, replaced(list, i, s))
		}
	}
	return out
}

func smallerValues(v any) []any {
	var out []any
	if list, ok := v.([]any); ok {
		for _, l := range smallerLists(list) {
			out = append(out, l)
		}
	}
	object := asObject(v)
	for _, name := range sortedNames(object) {
		if name == "type" {
			continue
		}
		out = append(out, without(v, name))
		for _, s := range smallerValues(object[name]) {
			next := asObject(without(v, name))
			next[name] = s
			out = append(out, next)
		}
	}
	return out
}

func asObject(v any) map[string]any {
	object, _ := v.(map[string]any)
	return object
}

func without(v any, name string) any {
	object, ok := v.(map[string]any)
	if !ok || name == "type" {
		return v
	}
	out := make(map[string]any, len(object))
	for n, value := range object {
		if n != name {
			out[n] = value
		}
	}
	return out
}

func replaced(list []any, i int, v any) []any {
	out := slices.Clone(list)
	out[i] = v
	return out
}
