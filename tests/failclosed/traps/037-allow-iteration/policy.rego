package authz

args := input.mcp.params.arguments

call(name) if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	input.resource.id == name
}

allow if {
	call("batch")
	some p in args.payments
	p.amount < 100
}
