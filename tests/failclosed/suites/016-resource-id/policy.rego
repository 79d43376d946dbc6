# Rules that look at resource.id alone, as most do: it must be the called tool.
package authz

import data.authzd.v1 as authzd

permit["read"] := {"require": [authzd.scopes(["payments:read"])]} if {
	input.action.name == "tools/call"
	input.resource.id == "payments.status"
}

permit["pay"] := {"require": [authzd.scopes(["payments"])]} if {
	input.action.name == "tools/call"
	input.resource.id == "payments.initiate"
}
