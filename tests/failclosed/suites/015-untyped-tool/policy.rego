# A tool without a schema: policy itself says what kinds of values it takes.
package authz

import data.authzd.v1 as authzd

args := object.get(input, ["mcp", "params", "arguments"], {})

permit["counted"] := {"require": [authzd.scopes(["legacy"])]} if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	input.resource.id == "legacy.take"
	amount := object.get(args, "amount", null)
	is_number(amount)
	amount >= 1
	amount <= 10
}

forbid["undeclared-item"] := {"message": "Only listed items may be taken."} if {
	not known_item
}

known_item if object.get(args, "item", null) in data.items
