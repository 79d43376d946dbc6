# Who acts for the person: first-party software itself, or a listed actor. Only
# the outermost actor grants; an inner one can only take away (RFC 8693, 4.1).
package authz

import data.authzd.v1 as authzd

issuer := "https://as.example.com"

book if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	input.resource.id == "calendar.book"
	count(input.credentials) > 0
	every c in input.credentials {
		c.issuer == issuer
	}
}

permit["direct"] := {"require": [authzd.scopes(["calendar:write"])]} if {
	book
	input.context.agent in data.agents
	every c in input.credentials {
		count(c.actors) == 0
	}
}

permit["delegated"] := {"require": [authzd.scopes(["calendar:write"])]} if {
	book
	every c in input.credentials {
		c.actors[0].issuer == issuer
		c.actors[0].subject in data.actors
	}
}

forbid["revoked-actor"] := {"message": "An actor in the chain is revoked."} if {
	some c in input.credentials
	some actor in c.actors
	actor.subject in data.revoked_actors
}
