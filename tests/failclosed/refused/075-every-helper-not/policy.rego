package authz

import data.authzd.v1 as authzd

args := input.mcp.params.arguments

call(name) if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	input.resource.id == name
}

ok(p) if not bad(p)

bad(p) if p.via in data.blocked

permit["p"] := {"require": [authzd.scopes(["pay"])]} if {
	call("batch")
	every p in args.payments {
		ok(p)
	}
}
