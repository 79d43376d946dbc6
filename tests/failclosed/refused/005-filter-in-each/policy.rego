package authz

import data.authzd.v1 as authzd

args := input.mcp.params.arguments

call(name) if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	input.resource.id == name
}

permit["p"] := {"require": authzd.each(args.payments, [authzd.scopes(["pay"]) | some p in array.concat(args.payments, args.payments); p.amount < 100])} if call("batch")
