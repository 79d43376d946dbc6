package authz_test

import data.authz

test_any_call_is_permitted if {
	authz.permit == {"all": {}} with input as {"action": {"name": "tools/call"}, "resource": {"type": "tool", "id": "any"}}
}
