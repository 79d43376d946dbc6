package engine

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/authzd/authzd/rar"
)

// schemaGen makes schemas of the simple kind, now and then with something that is
// not, and values around them.
type schemaGen struct{ r *rand.Rand }

func (g *schemaGen) pick(list ...string) string { return list[g.r.IntN(len(list))] }

func (g *schemaGen) number() string {
	return g.pick("0", "-0", "1", "2", "3", "-1", "1.0", "1.5", "2.50", "1e0", "1E2", "100", "0.1", "123456789012345", "123456789012346", "99999999999999999999", "1.000000000000001", "-2.5")
}

func (g *schemaGen) text() string {
	return g.pick("", "a", "ab", "abc", "ä", "éé", "x1", "GBP", "a\\nb", "😀")
}

func (g *schemaGen) schema(depth int) string {
	if g.r.IntN(25) == 0 {
		return g.pick("true", "false", `{}`)
	}
	var m []string
	add := func(chance int, format string, args ...any) {
		if g.r.IntN(chance) == 0 {
			m = append(m, fmt.Sprintf(format, args...))
		}
	}
	kinds := []string{`"string"`, `"number"`, `"integer"`, `"boolean"`, `"null"`, `"array"`, `"object"`}
	kind := g.pick(kinds...)
	switch g.r.IntN(6) {
	case 0:
	case 1:
		if other := g.pick(kinds...); other != kind {
			m = append(m, fmt.Sprintf(`"type":[%s,%s]`, kind, other))
		}
	default:
		m = append(m, `"type":`+kind)
	}
	add(8, `"enum":["a","ab",%s]`, g.pick(`"GBP"`, `1`, `null`, `"x1"`))
	add(25, `"const":"a"`)
	add(6, `"minLength":%d`, g.r.IntN(3))
	add(6, `"maxLength":%d`, g.r.IntN(4))
	add(8, `"pattern":"%s"`, g.pick("^a", "b$", "^[a-z]+$", "."))
	add(6, `"minimum":%s`, g.number())
	add(6, `"maximum":%s`, g.number())
	add(40, `"exclusiveMinimum":1`)
	add(40, `"multipleOf":2`)
	add(30, `"uniqueItems":true`)
	add(6, `"minItems":%d`, g.r.IntN(3))
	add(8, `"maxItems":%d`, g.r.IntN(3))
	add(10, `"minProperties":%d`, g.r.IntN(3))
	add(10, `"maxProperties":%d`, g.r.IntN(3))
	add(10, `"format":"date"`)
	add(10, `"title":"t","x-more":{"type":"no"}`)
	if depth > 0 {
		if g.r.IntN(2) == 0 {
			var p []string
			for _, name := range []string{"a", "b", "c"} {
				if g.r.IntN(2) == 0 {
					p = append(p, fmt.Sprintf("%q:%s", name, g.schema(depth-1)))
				}
			}
			m = append(m, `"properties":{`+strings.Join(p, ",")+`}`)
		}
		add(3, `"required":[%s]`, g.pick(`"a"`, `"a","b"`, ``, `"z"`))
		add(5, `"additionalProperties":%s`, g.pick("false", "true", g.schema(depth-1)))
		add(12, `"unevaluatedProperties":%s`, g.pick("false", "true", g.schema(depth-1)))
		add(3, `"items":%s`, g.schema(depth-1))
		add(40, `"anyOf":[{"type":"object"},{"type":"string"}]`)
		add(60, `"patternProperties":{"^a":{"type":"string"}}`)
	}
	g.r.Shuffle(len(m), func(i, j int) { m[i], m[j] = m[j], m[i] })
	return `{` + strings.Join(m, ",") + `}`
}

func (g *schemaGen) value(depth int) string {
	switch n := g.r.IntN(8); {
	case n < 2 && depth > 0:
		var m []string
		for _, name := range []string{"a", "b", "c", "d"} {
			if g.r.IntN(2) == 0 {
				m = append(m, fmt.Sprintf("%q:%s", name, g.value(depth-1)))
			}
		}
		return `{` + strings.Join(m, ",") + `}`
	case n == 2 && depth > 0:
		var list []string
		for range g.r.IntN(4) {
			list = append(list, g.value(depth-1))
		}
		return `[` + strings.Join(list, ",") + `]`
	case n < 5:
		return `"` + g.text() + `"`
	case n < 7:
		return g.number()
	}
	return g.pick("true", "false", "null")
}

// What the plain schema admits, the full validator admits: always. And it admits
// most of what is valid, or it would be of no use.
func TestPlainSchema(t *testing.T) {
	t.Parallel()
	g := &schemaGen{rand.New(rand.NewPCG(7, 7))} //nolint:gosec // a fixed seed
	plain, valid, sure, all := 0, 0, 0, 0
	schemas := 30_000
	if testing.Short() {
		schemas = 3000
	}
	for range schemas {
		text := g.schema(2)
		schema, err := rar.DecodeStrict([]byte(text), rar.Limits{})
		if err != nil || schema.Kind() != rar.Object {
			continue
		}
		s, err := compileArguments(schema, false)
		if err != nil || s.plain == nil {
			continue
		}
		plain++
		for range 12 {
			value := g.value(2)
			v, err := rar.DecodeStrict([]byte(value), rar.Limits{})
			if err != nil {
				t.Fatal(value, err)
			}
			all++
			ok := s.compiled.Validate(v.Any()) == nil
			if ok {
				valid++
			}
			if s.plain.admits(v) {
				if sure++; !ok {
					t.Fatalf("%s is admitted by %s", value, text)
				}
			}
		}
	}
	t.Logf("%d plain schemas, %d values, %d valid, %d at once", plain, all, valid, sure)
	if plain*6 < schemas || valid*6 < schemas || sure*10 < valid*7 {
		t.Error("hardly anything was compared, or known")
	}
}
