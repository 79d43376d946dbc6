package credentials_test

import (
	"context"
	"fmt"

	"github.com/authzd/authzd/credentials"
)

// A Verifier that trusts nobody refuses everything; which check failed is for
// the log, not for the client.
func ExampleVerifier_Verify() {
	v, err := credentials.New(credentials.Config{Issuers: []credentials.Issuer{{
		Issuer: "https://login.example/realms/staff",
		Keys:   credentials.KeySource{Discover: true},
		// Keycloak says JWT, not at+jwt.
		AcceptJWT:    true,
		Mapping:      credentials.Keycloak(),
		DetailsTypes: []string{"payment_initiation"},
	}}}, credentials.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan error)
	go func() { stopped <- v.Run(ctx) }()

	c, rejected := v.Verify(ctx, credentials.Presented{
		ID:       "primary",
		Token:    "eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0.",
		Audience: "https://mcp.example.com",
	})
	if rejected != nil {
		fmt.Println(rejected.ID, rejected.Code)
	} else {
		fmt.Println("verified:", c.Subject)
	}
	stop()
	fmt.Println(<-stopped)
	// Output:
	// primary token.algorithm
	// <nil>
}
