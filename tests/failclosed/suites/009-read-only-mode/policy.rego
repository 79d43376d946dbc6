# While the switch is on, only tools that are listed as reading may be called.
package authz

import data.authzd.v1 as authzd

permit["store"] := {"require": [authzd.scopes(["store"])]} if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	input.resource.id in data.tools.known
}

forbid["read-only"] := {"message": "The store is in read-only mode."} if {
	data.maintenance.read_only != false
	not input.resource.id in data.tools.reading
}
