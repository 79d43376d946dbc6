package authz

import data.authzd.v1 as authzd

args := input.mcp.params.arguments

call(name) if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	input.resource.id == name
}

permit["pay"] := {"require": [authzd.scopes(["pay"])]} if call("pay")

permit["batch"] := {"require": [authzd.scopes(["pay"])]} if call("batch")

permit["ops"] := {"require": [authzd.scopes(["pay"])]} if call("ops")

forbid["f"] := {} if object.get(args, "risk", 0) > 50
