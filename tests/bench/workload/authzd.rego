# The workload's policy in the contract of authzd: one permit with two
# requirements, one forbid. Same question and same data as opa.rego.
package authz

import data.authzd.v1 as authzd

permit["call-tool"] := {"require": [
	authzd.scopes(tool.required_scopes),
	authzd.authorization_details([{
		"type": tool.detail.type,
		"actions": tool.detail.actions,
		"locations": [tool.detail.location],
		"limit": {"currency": args.currency, "amount": authzd.decimal(args.amount)},
	}]),
]} if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	role_ok
	tenant_ok
	actor_ok
}

forbid["blocked-account"] := {"message": "Transfers to {/mcp/params/arguments/account} are blocked."} if {
	input.mcp.params.arguments.account in data.blocked_accounts
}

args := input.mcp.params.arguments

tool := data.tools[input.resource.id]

role_ok if {
	some role in input.subject.properties.roles
	data.roles[role].tools[input.resource.id]
}

tenant_ok if {
	input.context.tenant == input.credentials[0].tenant
	input.context.tenant in tool.tenants
}

actor_ok if count(input.credentials[0].actors) == 0

actor_ok if input.credentials[0].actors[0].subject in data.agents
