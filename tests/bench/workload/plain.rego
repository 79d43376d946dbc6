# The workload's question as a plain policy without requirements, which authzd
# and a stock OPA evaluate as it is. Both get the document that authzd makes of a
# call; what authzd does before policy (is the credential usable?) is no part of
# the question.
package authz

default allow := false

allow if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	role_ok
	tenant_ok
	actor_ok
	scopes_ok
	covered
	not args.account in data.blocked_accounts
}

args := input.mcp.params.arguments

credential := input.credentials[0]

tool := data.tools[input.resource.id]

role_ok if {
	some role in input.subject.properties.roles
	data.roles[role].tools[input.resource.id]
}

tenant_ok if {
	input.context.tenant == credential.tenant
	input.context.tenant in tool.tenants
}

actor_ok if count(credential.actors) == 0

actor_ok if credential.actors[0].subject in data.agents

scopes_ok if {
	every s in tool.required_scopes {
		s in credential.scopes
	}
}

covered if {
	some d in credential.authorization_details
	d.type == tool.detail.type
	tool.detail.location in d.locations
	every a in tool.detail.actions {
		a in d.actions
	}
	d.limit.currency == args.currency
	to_number(args.amount) <= to_number(d.limit.amount)
}
