package engine_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/authzd/authzd/engine"
)

// TestAsks: the scopes that policy writes out, wherever a requirement is made.
func TestAsks(t *testing.T) {
	t.Parallel()
	const policy = `package authz

import data.authzd.v1 as authzd
import data.authzd.v1 as lib

permit["a"] := {"require": [authzd.scopes(["read", "write"])]} if input.resource.id == "a"

permit["b"] := {"require": [common, lib.scopes(["other"]), authzd.scopes([input.resource.id])]} if input.resource.id == "b"

permit["c"] := {"require": [made("x")]} if input.resource.id == "c"

common := authzd.scopes(["read"])

made(_) := authzd.scopes(["made"])

unused := ["not-asked"]
`
	tools := `{"authzd_tools": {"a": {"arguments": {}}, "b": {"arguments": {}}, "c": {"arguments": {}}}}`
	got := compile(t, policy, tools).Asks()
	if diff := cmp.Diff(engine.Asks{Scopes: []string{"made", "other", "read", "write"}}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if got := compile(t, planPolicy, planData).Asks(); !got.ProofOfPossession || len(got.Scopes) != 5 {
		t.Errorf("got %+v", got)
	}
	if got := compile(t, paymentsPolicy, paymentsData).Asks(); got.ProofOfPossession {
		t.Errorf("got %+v", got)
	}
}
