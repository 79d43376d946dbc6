# A record is read with a token of the record's own tenant. Every usable
# credential must be of that tenant, since the scope may come from any of them.
package authz

import data.authzd.v1 as authzd

permit["read-record"] := {"require": [authzd.scopes(["records:read"])]} if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	input.resource.id == "records.read"
	tenant := input.mcp.params.arguments.tenant
	tenant in data.tenants
	count(input.credentials) > 0
	every c in input.credentials {
		c.issuer == "https://as.example.com"
		c.tenant == tenant
	}
}
