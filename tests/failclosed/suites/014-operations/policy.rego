# A list of operations: harmless only if each one is, and the empty list is
# nothing to permit. The schema does not say minItems on purpose.
package authz

import data.authzd.v1 as authzd

permit["harmless"] := {"require": [authzd.scopes(["ops"])]} if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	input.resource.id == "ops.run"
	operations := input.mcp.params.arguments.operations
	count(operations) > 0
	every operation in operations {
		operation in {"read", "list"}
	}
}

forbid["same-target"] := {"message": "Source and target are the same."} if {
	args := input.mcp.params.arguments
	object.get(args, "source", null) == object.get(args, "target", null)
}
