# Role x tool x scope, as tables in data. A role is held by a person of one
# issuer: the same name elsewhere is somebody else.
package authz

import data.authzd.v1 as authzd

permit[role] := {"require": [authzd.scopes([scope])]} if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	some c in input.credentials
	some role in data.members[c.issuer][c.subject]
	scope := data.matrix[role][input.resource.id]
}
