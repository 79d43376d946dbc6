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
	input.resource.id == "payments.initiate"
	args := input.mcp.params.arguments
}

forbid["blocked-payee"] := {"message": "This payee is blocked."} if {
	input.mcp.params.arguments.creditorAccount in data.blocked_accounts
}
