# Optional arguments: what is left out must not be worth more than what is said.
package authz

import data.authzd.v1 as authzd

args := input.mcp.params.arguments

search if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	input.resource.id == "files.search"
}

permit["search-visible"] := {"require": [authzd.scopes(["files:read"])]} if {
	search
	object.get(args, "hidden", false) == false
}

permit["search-hidden"] := {"require": [authzd.scopes(["files:read", "files:hidden"])]} if {
	search
	object.get(args, "hidden", false) == true
}

# Without a path the tool searches everything, the private tree included.
path := object.get(args, "path", "/private")

forbid["private-tree"] := {"message": "The private tree is not searchable."} if {
	path == "/private"
}

forbid["private-tree"] := {"message": "The private tree is not searchable."} if {
	startswith(path, "/private/")
}
