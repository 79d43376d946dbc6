package rar_test

import (
	"fmt"
	"net/url"
	"strconv"
	"testing"

	"github.com/authzd/authzd/rar"
)

// queryText is a decision request of about 1.4 KB, as the engine decodes it.
const queryText = `{"mcp":{"method":"tools/call","params":{"name":"payments.initiate","arguments":{"amount":"123.50","currency":"EUR","creditorAccount":"DE02100100109307118603","creditorName":"Merchant A","reference":"Invoice 2026-11-0042"},"_meta":{"progressToken":"p-17","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}},"server":"https://mcp.example.com","transport":"http","protocol_version":"2026-07-28","client_capabilities":{"elicitation":{"form":{},"url":{}},"sampling":{}},"tool":{"annotations":{"readOnlyHint":false,"destructiveHint":true}}},"credentials":[{"id":"primary","claims":{"iss":"https://as.example.com","sub":"alice@example.com","aud":["https://mcp.example.com"],"exp":1795370000,"iat":1795366400,"scope":"payments accounts","client_id":"https://agent.example/cimd.json","acr":"urn:mace:incommon:iap:silver","auth_time":1795366000,"authorization_details":[{"type":"payment_initiation","actions":["initiate","status"],"locations":["https://mcp.example.com"],"instructedAmount":{"currency":"EUR","amount":"500.00"},"creditorAccount":{"iban":"DE02100100109307118603"}},{"type":"account_information","actions":["list_accounts","read_balances"],"locations":["https://mcp.example.com"]}]}}],"context":{"agent":"https://agent.example/cimd.json","ip":"192.0.2.17","session":"3b1f8f5e-6d2c-4c8e-9b1a-0e2f4a6b8c1d"}}`

func BenchmarkDecodeStrict(b *testing.B) {
	data := []byte(queryText)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := rar.DecodeStrict(data, rar.Limits{RejectCaseVariants: true}); err != nil {
			b.Fatal(err)
		}
	}
}

// benchmarkCovers is one need against grants of which the last one covers it.
func benchmarkCovers(b *testing.B, grants int, o rar.CoverOptions) {
	b.Helper()
	types := vectorTypes(b)
	payment := func(amount, iban string) rar.Value {
		return mustDecode(b, `{"type":"payment_initiation","actions":["initiate","status"],"locations":["https://mcp.example.com"],`+
			`"instructedAmount":{"currency":"EUR","amount":"`+amount+`"},"creditorAccount":{"iban":"`+iban+`"}}`)
	}
	granted := make([]rar.Value, grants)
	for i := range granted {
		granted[i] = payment("10.00", "DE40100100103307118608")
	}
	granted[grants-1] = payment("500.00", "DE02100100109307118603")
	required := []rar.Value{payment("123.50", "DE02100100109307118603")}
	b.ReportAllocs()
	for b.Loop() {
		got, err := types.Covers(granted, required, o)
		if err != nil || !got.Covered {
			b.Fatal(got, err)
		}
	}
}

func BenchmarkCovers(b *testing.B) {
	b.Run("grants=3", func(b *testing.B) {
		benchmarkCovers(b, 3, rar.CoverOptions{GrantedValidated: true})
	})
	b.Run("grants=3/validating", func(b *testing.B) { benchmarkCovers(b, 3, rar.CoverOptions{}) })
	for _, n := range []int{1, 4, 16, 64} {
		b.Run("grants="+strconv.Itoa(n), func(b *testing.B) {
			benchmarkCovers(b, n, rar.CoverOptions{GrantedValidated: true})
		})
	}
	b.Run("grants=64/single_use", func(b *testing.B) {
		benchmarkCovers(b, 64, rar.CoverOptions{GrantedValidated: true, SingleUse: true})
	})
}

// BenchmarkCoversNot is the way of a deny: no grant covers, reasons are wanted.
func BenchmarkCoversNot(b *testing.B) {
	types := vectorTypes(b)
	granted := elements(mustDecode(b, `[{"type":"single_payment","amount":"1","currency":"EUR","payee":"a"},{"type":"single_payment","amount":"100","currency":"USD","payee":"a"}]`))
	required := elements(mustDecode(b, `[{"type":"single_payment","amount":"10","currency":"EUR","payee":"a"}]`))
	b.ReportAllocs()
	for b.Loop() {
		got, err := types.Covers(granted, required, rar.CoverOptions{GrantedValidated: true})
		if err != nil || got.Covered || len(got.Because) != 1 {
			b.Fatal(got, err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	types := vectorTypes(b)
	text := []byte(`[{"type":"payment_initiation","actions":["initiate"],"instructedAmount":{"currency":"EUR","amount":"123.50"},"creditorAccount":{"iban":"DE02100100109307118603"}}]`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := types.Parse(text, rar.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompileTypes(b *testing.B) {
	types := vectorTypes(b)
	var decls []rar.Declaration
	for _, name := range types.Names() {
		decls = append(decls, rar.Declaration{Name: url.PathEscape(name), Document: types.Document(name)})
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := rar.CompileTypes(decls); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCondense puts ten needs together, the most that are tried in every
// way: ten that make one, and ten of which no two can be joined.
func BenchmarkCondense(b *testing.B) {
	types := condenseTypes(b)
	for _, c := range []struct {
		name string
		need func(i int) string
		want int
	}{
		{"one", func(i int) string { return fmt.Sprintf(`"places": ["p%d"], "paths": ["/%d"]`, i%2, i/2) }, 1},
		{"apart", func(i int) string { return fmt.Sprintf(`"places": ["p%d"], "paths": ["/%d"]`, i, i) }, 10},
	} {
		b.Run(c.name, func(b *testing.B) {
			var needs []rar.Value
			for i := range 10 {
				needs = append(needs, object(b, c.need(i)))
			}
			b.ReportAllocs()
			for b.Loop() {
				got, optimal, err := types.Condense(needs, nil)
				if err != nil || !optimal || len(got) != c.want {
					b.Fatal(got, optimal, err)
				}
			}
		})
	}
}

// BenchmarkReference makes the reference of one payment.
func BenchmarkReference(b *testing.B) {
	types := vectorTypes(b)
	key := []rar.ReferenceKey{referenceKey(b, 1)}
	details := []rar.Value{mustDecode(b, `{"type":"payment_initiation","actions":["initiate","status"],"locations":["https://mcp.example.com"],`+
		`"instructedAmount":{"currency":"EUR","amount":"123.50"},"creditorAccount":{"iban":"DE02100100109307118603"}}`)}
	b.ReportAllocs()
	for b.Loop() {
		if refs := types.References(key, "https://mcp.example.com", details, false); len(refs) != 1 {
			b.Fatal(refs)
		}
	}
}
