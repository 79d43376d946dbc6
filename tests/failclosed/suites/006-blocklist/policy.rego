# Mail to anybody but those on the block list, in any of the fields.
package authz

import data.authzd.v1 as authzd

args := input.mcp.params.arguments

permit["send"] := {"require": [authzd.scopes(["mail:send"])]} if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	input.resource.id == "mail.send"
}

forbid["blocked-recipient"] := {"message": "A recipient is blocked."} if {
	some address in args.to
	address in data.blocked
}

forbid["blocked-recipient"] := {"message": "A recipient is blocked."} if {
	some address in args.cc
	address in data.blocked
}

forbid["blocked-domain"] := {"message": "A recipient's domain is blocked."} if {
	some address in args.to
	some domain in data.blocked_domains
	endswith(address, concat("", ["@", domain]))
}

forbid["blocked-domain"] := {"message": "A recipient's domain is blocked."} if {
	some address in args.cc
	some domain in data.blocked_domains
	endswith(address, concat("", ["@", domain]))
}
