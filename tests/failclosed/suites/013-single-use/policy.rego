# A wire transfer uses up the token it rests on: the PEP must say that it is
# about to execute (commit), or nothing can be recorded as used.
package authz

import data.authzd.v1 as authzd

permit["wire"] := {"require": [authzd.single_use([{
	"type": "wire",
	"amount": authzd.decimal(args.amount),
	"to": args.to,
}])]} if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	input.resource.id == "wire.send"
	args := input.mcp.params.arguments
}
