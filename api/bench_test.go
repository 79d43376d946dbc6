package api_test

import (
	"bytes"
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/engine"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

func mustJSON(text string) rar.Value {
	v, err := rar.DecodeStrict([]byte(text), rar.Limits{})
	if err != nil {
		panic(err)
	}
	return v
}

func benchQuery() []byte {
	return []byte(query("pay", `{"amount": "12.50"}`,
		claims(`, "scope": "payments read write admin audit", "jti": "0123456789abcdef", "iat": 1795370000,
		"authorization_details": [{"type": "payment", "amount": "10"}, {"type": "payment", "amount": "12"}],
		"act": {"sub": "agent", "iss": "https://as.example.com", "act": {"sub": "gateway"}}`)))
}

func BenchmarkDecodeQuery(b *testing.B) {
	data := benchQuery()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := api.DecodeQuery(data, api.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRespond is all of an answer but the decision: denial, then wire.
func BenchmarkRespond(b *testing.B) {
	e := engine.New(engine.Options{Now: now})
	e.Swap(snapshot(b, "r1"))
	req, err := api.DecodeQuery(benchQuery(), api.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	d, err := e.Decide(b.Context(), req.Query)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("json", func(b *testing.B) {
		b.ReportAllocs()
		var buf []byte
		for b.Loop() {
			resp := api.Respond(d, req, api.DenialOptions{})
			buf = resp.AppendJSON(buf[:0])
		}
	})
	b.Run("proto", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			resp := api.Respond(d, req, api.DenialOptions{})
			if _, err := proto.Marshal(resp.Proto()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Whatever comes in, decoding ends with a query or with a coded error, and what
// is accepted by the hand-written reader is accepted by the codec.
func FuzzDecodeQuery(f *testing.F) {
	for _, c := range badInput() {
		if len(c.body) < 4<<10 {
			f.Add([]byte(c.body))
		}
	}
	for _, q := range queries() {
		f.Add([]byte(q.query))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := api.DecodeQuery(data, api.Limits{MaxBytes: 64 << 10})
		codecErr := api.UnmarshalJSON(data, &authzdv1.CheckRequest{}, api.Limits{MaxBytes: 64 << 10})
		if err == nil {
			if r.Query == nil || codecErr != nil {
				t.Fatalf("accepted %q, the codec says %v", data, codecErr)
			}
			return
		}
		var own *api.Error
		if errors.As(err, &own) && own.Code == api.CodeInternal {
			t.Fatalf("%q: %v", bytes.Clone(data), err)
		}
	})
}
