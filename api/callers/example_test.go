package callers_test

import (
	"fmt"

	"github.com/authzd/authzd/api/callers"
)

func ExampleParseRights() {
	rights, err := callers.ParseRights([]string{"check", "assert"})
	fmt.Println(rights, err)
	fmt.Println(rights.Has(callers.Check), rights.Has(callers.Admin))
	// Output:
	// check,assert <nil>
	// true false
}
