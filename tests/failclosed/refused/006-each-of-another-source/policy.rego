package authz

import data.authzd.v1 as authzd

args := input.mcp.params.arguments

call(name) if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	input.resource.id == name
}

permit["p"] := {"require": authzd.each(args.operations, [authzd.scopes(["pay"]) | some p in args.paths])} if call("ops")
