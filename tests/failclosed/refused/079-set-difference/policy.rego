package authz

import data.authzd.v1 as authzd

args := input.mcp.params.arguments

call(name) if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	input.resource.id == name
}

denied contains "pay" if args.region == "eu"

permit["p"] := {"require": [authzd.scopes(["pay"])]} if {
	call("pay")
	"pay" in ({"pay"} - denied)
}
