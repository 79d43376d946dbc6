# The plain forms of OPA policies: allow and deny.
package authz

default allow := false

allow if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	input.resource.id == "weather.get"
	some c in input.credentials
	c.issuer == "https://as.example.com"
	"weather:read" in c.scopes
}

deny contains "This city is under embargo." if {
	input.mcp.params.arguments.city in data.embargoed
}
