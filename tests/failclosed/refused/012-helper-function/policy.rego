package authz

import data.authzd.v1 as authzd

args := input.mcp.params.arguments

call(name) if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	input.resource.id == name
}

small(list) if {
	some p in list
	p.amount < 100
}

permit["p"] := {"require": [authzd.scopes(["pay"])]} if {
	call("batch")
	small(args.payments)
}
