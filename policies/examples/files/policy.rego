# METADATA
# title: Files
# description: |
#   What an agent may do with the tools files.list, files.read and files.write.
#   What is below /shared/ may be read by anybody with the scope; everything else
#   also needs authorization_details for its path.
#
#   Paths are safe to compare because the tools' schemas admit one spelling of
#   each: a call with "..", "%2e", "\", "//" or "*" in its path never gets here.
package authz

import data.authzd.v1 as authzd

permit["list-shared"] := {"require": [authzd.scopes(["files:read"])]} if {
	calls("files.list")
	shared
}

permit["read-shared"] := {"require": [authzd.scopes(["files:read"])]} if {
	calls("files.read")
	shared
}

permit["list-folder"] := {"require": [
	authzd.scopes(["files:read"]),
	authzd.authorization_details([access("list")]),
]} if {
	calls("files.list")
}

permit["read-file"] := {"require": [
	authzd.scopes(["files:read"]),
	authzd.authorization_details([access("read")]),
]} if {
	calls("files.read")
}

permit["write-file"] := {"require": [
	authzd.scopes(["files:write"]),
	authzd.authorization_details([access("write")]),
]} if {
	calls("files.write")
}

# Files that hold credentials are not for agents, whatever was granted. Lower
# case, because a file system may find .SSH where it was asked for .ssh. Which
# name it was is the caller's own text.
forbid["protected-file"] := {
	"code": "files.protected",
	"message": "{/mcp/params/arguments/path} may hold credentials and is not for agents.",
	"message_admin": "A part of the path is listed in data.protected_names.",
	"remediation": "unavailable",
} if {
	some name in split(lower(args.path), "/")
	name in data.protected_names
}

args := input.mcp.params.arguments

calls(tool) if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	input.resource.id == tool
}

# With the slash at its end: /shared2 is somebody else's.
shared if {
	startswith(args.path, "/shared/")
	not contains(args.path, "..")
}

access(action) := {
	"type": "file_access",
	"actions": [action],
	"paths": [args.path],
	"locations": [input.mcp.server],
}
