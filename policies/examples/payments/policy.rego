# METADATA
# title: Payments
# description: |
#   What an agent may do with the tools payments.initiate and payments.status.
#   Each payment must be authorized for itself: a scope alone never moves money.
package authz

import data.authzd.v1 as authzd

# Read-only: the scope is enough.
permit["payment-status"] := {"require": [authzd.scopes(["payments:read"])]} if {
	calls("payments.status")
}

# A payment needs authorization_details that cover it. On a deny, these very
# objects are the hint: what to ask the authorization server for.
permit["initiate-payment"] := {"require": [
	authzd.scopes(["payments"]),
	authzd.authorization_details([this_payment]),
]} if {
	calls("payments.initiate")
	amount > 0
	amount < large_amount
}

# A large one also needs its payer to have authenticated strongly, just now.
permit["initiate-large-payment"] := {"require": [
	authzd.scopes(["payments"]),
	authzd.authorization_details([this_payment]),
	authzd.authentication({"acr_values": ["urn:example:acr:mfa"], "max_age": 300}),
]} if {
	calls("payments.initiate")
	amount >= large_amount
}

# Whatever the credentials say.
forbid["blocked-payee"] := {
	"code": "payments.payee_blocked",
	"message": "Payments to {/mcp/params/arguments/creditorAccount} are blocked.",
	"message_admin": "The account is listed in data.blocked_accounts.",
	"remediation": "unavailable",
} if {
	args.creditorAccount in data.blocked_accounts
}

args := input.mcp.params.arguments

calls(tool) if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	input.resource.id == tool
}

# The amount is text. Compared as text, "999" is more than "10000".
amount := to_number(args.amount)

large_amount := 10000

this_payment := {
	"type": "payment_initiation",
	"actions": ["initiate"],
	"locations": [input.mcp.server],
	"instructedAmount": {"currency": args.currency, "amount": authzd.decimal(args.amount)},
	"creditorAccount": {"iban": args.creditorAccount},
}
