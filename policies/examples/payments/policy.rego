# METADATA
# title: Payments
# description: |
#   What an agent may do with the tools payments.initiate and payments.status.
#   Each payment must be authorized for itself: a scope alone never moves money.
package authz

import data.authzd.v1 as authzd

# What any session needs before its first call: to begin, and to see which tools
# there are. Who may use the server at all is the token's audience to say.
permit["session"] := {} if {
	input.resource.type == "mcp_server"
	input.action.name in {"initialize", "server/discover", "tools/list"}
}

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

# What the call says of the payment. What it leaves open stays open in the
# details too, and then a grant that fixes it does not cover them.
this_payment := object.union(required_part, object.union(debtor, reference))

required_part := {
	"type": "payment_initiation",
	"actions": ["initiate"],
	"locations": [input.mcp.server],
	"instructedAmount": {"currency": args.currency, "amount": authzd.decimal(args.amount)},
	"creditorAccount": {"iban": args.creditorAccount},
}

# An optional argument: two rules with conditions that exclude each other, and no
# else, which would also take over where the first rule fails for another reason.
debtor := {} if object.get(args, "debtorAccount", null) == null

debtor := {"debtorAccount": {"iban": args.debtorAccount}} if object.get(args, "debtorAccount", null) != null

reference := {} if object.get(args, "reference", null) == null

reference := {"remittanceInformationUnstructured": args.reference} if object.get(args, "reference", null) != null
