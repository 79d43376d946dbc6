# What the worked examples do without: permits of several ranks for one call,
# every kind of requirement, faults of policy, forbids of both kinds and deny.
package authz

import data.authzd.v1 as authzd

permit["late"] := {"priority": 500, "require": [authzd.scopes(["late"])]} if calls({"any", "easy"})

permit["two-scopes"] := {"require": [authzd.scopes(["a", "b"])]} if calls({"any", "easy"})

permit["two-needs"] := {"require": [authzd.scopes(["a"]), authzd.scopes(["b", "c"])]} if calls({"any", "easy"})

permit["proof"] := {"require": [authzd.scopes(["a"]), authzd.proof_of_possession]} if calls({"any", "proof"})

permit["proof-audited"] := {
	"require": [authzd.proof_of_possession],
	"obligations": [{"id": "audit"}],
} if {
	calls({"any", "proof", "audited"})
}

permit["audited"] := {"priority": 300, "obligations": [{"id": "audit"}, {"id": "tell", "n": 1.5}]} if calls({"audited"})

permit["login"] := {"priority": 50, "require": [
	authzd.authentication({"acr_values": ["high", "higher"]}),
	authzd.authentication({"max_age": 120}),
]} if {
	calls({"any", "audited"})
	args.to == "acc-1"
}

permit["order"] := {"require": [
	authzd.authorization_details([
		{"type": "order", "to": args.to, "least": authzd.decimal(object.get(args, "n", 0))},
		{"type": "order", "to": "acc-2", "locations": ["https://other.example.com"]},
	]),
	authzd.authorization_details([{"type": "order", "to": args.to, "most": object.get(args, "n", 0)}]),
]} if {
	calls({"any", "order"})
}

permit["once"] := {"priority": 90, "require": [authzd.single_use([{"type": "order", "to": args.to}])]} if calls({"once"})

permit["or-scope"] := {"require": [authzd.scopes(["c"])]} if calls({"once", "approved"})

permit["approved"] := {"priority": 90, "require": [
	authzd.scopes(["a"]),
	authzd.approval({"workflow": "w", "approver": "subject"}),
]} if {
	calls({"approved"})
}

# A builtin error where the amount is no number.
permit["number"] := {"require": [authzd.scopes(["a"])]} if {
	calls({"number"})
	to_number(args.amount) > 5
}

# Two values where both hold.
permit["twice"] := {"priority": 1} if {
	calls({"twice"})
	args.amount == "1"
}

permit["twice"] := {"priority": 2} if {
	calls({"twice"})
	args.to == "acc-1"
}

# Refused as soon as it holds: the requirement demands nothing.
permit["empty"] := {"require": [authzd.scopes([s | some s in input.subject.properties.scopes])]} if calls({"empty"})

forbid["held"] := {"code": "steps.held", "message": "{/mcp/params/arguments/to} is held.", "remediation": "unavailable"} if {
	args.to in data.held
}

forbid["long"] := {"message": "Too long: {/mcp/params/arguments/to}, {/mcp/params/arguments/n}."} if count(args.to) > 12

deny contains "Not to nobody." if args.to == ""

deny contains {"code": "steps.loud", "remediation": "unavailable", "message": "Not so loud."} if {
	args.amount != ""
	upper(args.amount) == args.amount
	not regex.match(`^[0-9.]*$`, args.amount)
}

args := input.mcp.params.arguments

calls(ways) if {
	input.action.name == "tools/call"
	input.resource.id == "steps.run"
	args.how in ways
}
