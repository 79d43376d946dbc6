# The workload's policy as an author would write it for a stock OPA: the same
# question, the same data, the same request. What authzd does outside Rego (is
# the credential usable, does it hold the scopes, do its details cover the call,
# which remedy helps) is written out here.
package bench

default allow := false

allow if count(deny) == 0

decision := {"allow": allow, "reasons": deny, "hint": hint}

args := input.mcp.params.arguments

claims := input.credentials[0].claims

tool := data.tools[input.mcp.params.name]

credential_ok if {
	claims.aud == input.mcp.server
	claims.iss == input.subject.properties.issuer
	claims.sub == input.subject.id
	claims.exp > time.now_ns() / 1000000000
}

role_ok if {
	some role in input.subject.properties.roles
	data.roles[role].tools[input.mcp.params.name]
}

tenant_ok if {
	input.context.tenant == claims.tenant
	input.context.tenant in tool.tenants
}

actor_ok if not claims.act

actor_ok if claims.act.sub in data.agents

scopes := split(claims.scope, " ")

missing_scopes contains s if {
	some s in tool.required_scopes
	not s in scopes
}

covered if {
	some d in claims.authorization_details
	d.type == tool.detail.type
	tool.detail.location in d.locations
	every a in tool.detail.actions {
		a in d.actions
	}
	d.limit.currency == args.currency
	to_number(args.amount) <= to_number(d.limit.amount)
}

deny contains "credential_unusable" if not credential_ok

deny contains "tool_unknown" if not tool

deny contains "account_blocked" if args.account in data.blocked_accounts

deny contains "role_not_allowed" if not role_ok

deny contains "tenant_mismatch" if not tenant_ok

deny contains "actor_not_trusted" if not actor_ok

deny contains "missing_scope" if count(missing_scopes) > 0

deny contains "details_not_covered" if not covered

hint := {"error": "insufficient_scope", "scope": missing_scopes} if {
	count(missing_scopes) > 0
} else := {"error": "insufficient_authorization", "authorization_details": [{
	"type": tool.detail.type,
	"actions": tool.detail.actions,
	"locations": [tool.detail.location],
	"limit": {"currency": args.currency, "amount": args.amount},
}]} if {
	not covered
} else := {}
