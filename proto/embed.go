// Package proto holds the wire contract (authzd/v1/*.proto) and gives Go
// programs the OpenAPI description that is generated from it. The generated Go
// is in gen/authzd/v1.
package proto

import _ "embed" // The OpenAPI description.

//go:embed gen/openapi/authzd.swagger.json
var openapi []byte

// OpenAPI returns the generated OpenAPI 2.0 description as the generator left
// it: package api finishes it. The caller must not change the bytes.
func OpenAPI() []byte { return openapi }
