# One payment: a scope, and a token whose details cover this very payment.
package authz

import data.authzd.v1 as authzd

permit["initiate-payment"] := {"require": [
	authzd.scopes(["payments"]),
	authzd.authorization_details([{
		"type": "payment_initiation",
		"actions": ["initiate"],
		"instructedAmount": {"currency": args.currency, "amount": authzd.decimal(args.amount)},
		"creditorAccount": {"iban": args.creditorAccount},
	}]),
]} if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	input.resource.id == "payments.initiate"
	args := input.mcp.params.arguments
}

permit["payment-status"] := {"require": [authzd.scopes(["payments:read"])]} if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	input.resource.id == "payments.status"
}

forbid["blocked-payee"] := {"message": "This payee is blocked."} if {
	input.mcp.params.arguments.creditorAccount in data.blocked_accounts
}
