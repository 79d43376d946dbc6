package authz_test

import data.authz

test_denies_a_call if {
	authz.forbid["no-policy-loaded"] with input as {
		"action": {"name": "tools/call"},
		"resource": {"type": "tool", "id": "any"},
	}
}

test_denies_whatever_the_input if {
	every x in [{}, [], null, 0, "", false, {"subject": null}] {
		count(authz.forbid) == 1 with input as x
	}
}

test_permits_nothing if {
	not authz.permit
	not authz.allow
}

test_says_how_to_load_a_policy if {
	contains(authz.forbid["no-policy-loaded"].message, "--bundle NAME=PATH")
	contains(authz.forbid["no-policy-loaded"].message_admin, "docs/policy.md")
}
