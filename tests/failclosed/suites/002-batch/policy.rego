# A batch of payments: every single one is small and covered by the token.
package authz

import data.authzd.v1 as authzd

permit["small-batch"] := {"require": [
	authzd.scopes(["payments"]),
	authzd.authorization_details(authzd.each(args.payments, [{
		"type": "payment_initiation",
		"actions": ["initiate"],
		"instructedAmount": {"currency": p.currency, "amount": authzd.decimal(p.amount)},
		"creditorAccount": {"iban": p.creditorAccount},
	} |
		some p in args.payments
	])),
]} if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	input.resource.id == "payments.batch"
	args := input.mcp.params.arguments
	every p in args.payments {
		p.amount < 100
	}
}

forbid["blocked-payee"] := {"message": "A payee of this batch is blocked."} if {
	some p in input.mcp.params.arguments.payments
	p.creditorAccount in data.blocked_accounts
}
