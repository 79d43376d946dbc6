package rar_test

import (
	"fmt"

	"github.com/authzd/authzd/rar"
)

// A token grants transfers of up to 100 EUR to one account. It covers 80, and
// for 250 it says which field stands in the way.
func Example() {
	document, err := rar.DecodeStrict([]byte(`{
		"type": "transfer",
		"schema": {
			"$schema": "https://json-schema.org/draft/2020-12/schema",
			"type": "object",
			"properties": {
				"type": {"const": "transfer"},
				"amount": {"type": "string", "pattern": "^(0|[1-9][0-9]*)([.][0-9]+)?$"},
				"currency": {"type": "string"},
				"to": {"type": "string"}
			},
			"required": ["type", "amount", "currency", "to"],
			"additionalProperties": false
		},
		"compare": {"/amount": "max", "/currency": "equal", "/to": "equal"}
	}`), rar.Limits{})
	if err != nil {
		fmt.Println(err)
		return
	}
	types, _, err := rar.CompileTypes([]rar.Declaration{{Name: "transfer", Document: document}})
	if err != nil {
		fmt.Println(err)
		return
	}
	granted, skipped := types.GrantedText([]byte(`[{"type":"transfer","amount":"100.00","currency":"EUR","to":"acct-1"}]`), rar.Limits{})
	for _, amount := range []string{"80", "250"} {
		required, err := types.Parse([]byte(`[{"type":"transfer","amount":"`+amount+`","currency":"EUR","to":"acct-1"}]`), rar.Limits{})
		if err != nil {
			fmt.Println(err)
			return
		}
		result, err := types.Covers(granted, required, rar.CoverOptions{GrantedValidated: true, RequiredValidated: true, Skipped: skipped})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(amount, result.Covered)
		for _, reason := range result.Because {
			fmt.Println(reason.Pointer, reason.Code)
		}
	}
	// Output:
	// 80 true
	// 250 false
	// /amount rar.above_max
}
