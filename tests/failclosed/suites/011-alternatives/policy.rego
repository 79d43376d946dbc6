# Two ways to the same call: a broad scope, or a narrow scope with details for
# this repository. Neither half of one adds to the other.
package authz

import data.authzd.v1 as authzd

merge if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	input.resource.id == "repo.merge"
}

permit["maintainer"] := {
	"priority": 10,
	"require": [authzd.scopes(["repo:admin", "repo:write"])],
} if {
	merge
}

permit["this-repository"] := {
	"priority": 20,
	"require": [
		authzd.scopes(["repo:write"]),
		authzd.authorization_details([{
			"type": "repo_access",
			"repo": input.mcp.params.arguments.repo,
			"actions": ["merge"],
		}]),
	],
} if {
	merge
	input.mcp.params.arguments.branch in data.open_branches
}
