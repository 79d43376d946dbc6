# METADATA
# title: Files
# description: A second type for the loop, one with paths, a single use and a number.
package authz

import data.authzd.v1 as authzd

permit["read"] := {"require": [authzd.authorization_details([access("read")])]} if {
	input.resource.id == "files.read"
}

permit["write"] := {"require": [
	authzd.scopes(["files"]),
	authzd.authorization_details([access("write")]),
]} if {
	input.resource.id == "files.write"
}

permit["export"] := {"require": [authzd.single_use([access("export")])]} if {
	input.resource.id == "files.export"
}

permit["reserve"] := {"require": [authzd.authorization_details([{
	"type": "storage_quota",
	"bytes": input.mcp.params.arguments.bytes,
}])]} if {
	input.resource.id == "files.reserve"
}

access(action) := {
	"type": "file_access",
	"actions": [action],
	"paths": [input.mcp.params.arguments.path],
}
