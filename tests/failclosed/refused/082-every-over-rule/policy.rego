package authz

import data.authzd.v1 as authzd

args := input.mcp.params.arguments

call(name) if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	input.resource.id == name
}

violations contains "region" if args.region == "eu"

permit["p"] := {"require": [authzd.scopes(["pay"])]} if {
	call("pay")
	every v in violations {
		v == "none"
	}
}
