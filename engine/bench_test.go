package engine_test

import (
	"testing"

	"github.com/authzd/authzd/engine"
)

func BenchmarkCompile(b *testing.B) {
	bundles := []engine.Bundle{bundle(b, paymentsPolicy, paymentsData, `{"contract": 1}`)}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := engine.Compile(b.Context(), bundles); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	interpreted, prepared := compile(b, paymentsPolicy, paymentsData), compile(b, paymentsPolicy, paymentsData)
	engine.New(engine.Options{Compiled: true}).Prepare(prepared)
	cred := credential(b, "c", claims(`"scope": "payments", `+details8050))
	for _, c := range []struct {
		name, arguments string
		allow           bool
	}{
		{"allow", `{"amount": "80.50", "payee": "bob"}`, true},
		{"unmet", `{"amount": "80.51", "payee": "bob"}`, false},
		{"forbidden", `{"amount": "80.50", "payee": "mallory"}`, false},
	} {
		q := call(b, "pay", c.arguments, cred)
		for name, s := range map[string]*engine.Snapshot{"interpreted": interpreted, "compiled": prepared} {
			e := engine.New(engine.Options{Now: testNow})
			e.Swap(s)
			b.Run(c.name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if d, err := e.Decide(b.Context(), q); err != nil || d.Allow != c.allow {
						b.Fatal(d, err)
					}
				}
			})
		}
	}
}
