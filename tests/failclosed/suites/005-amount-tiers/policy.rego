# The larger the amount, the stronger the login; from 1000 on, never.
package authz

import data.authzd.v1 as authzd

transfer if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	input.resource.id == "transfer"
}

permit["small"] := {"require": [authzd.scopes(["transfer"])]} if {
	transfer
	input.mcp.params.arguments.amount < 100
}

permit["medium"] := {"require": [
	authzd.scopes(["transfer"]),
	authzd.authentication({"acr_values": ["urn:example:strong"], "max_age": 315360000}),
]} if {
	transfer
	input.mcp.params.arguments.amount >= 100
	input.mcp.params.arguments.amount < 1000
}

forbid["too-large"] := {"message": "Transfers of 1000 and more are not possible here."} if {
	input.mcp.params.arguments.amount >= data.limits.never
}

forbid["frozen"] := {"message": "The account {/mcp/params/arguments/to} is frozen."} if {
	input.mcp.params.arguments.to in data.frozen
}
