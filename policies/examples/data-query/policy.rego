# METADATA
# title: Data queries
# description: |
#   What an agent may ask by the tool db.query: columns that the data set has, up
#   to the rows that data set and token allow.
#
#   Filters stand in the list of columns and not beside it. Who may ask for rows
#   where a column has a value can find out the value, so a filter needs the same
#   grant as the column itself, and this way none can be forgotten.
package authz

import data.authzd.v1 as authzd

permit["query"] := {"require": [
	authzd.scopes(["db:query"]),
	authzd.authorization_details([this_query]),
]} if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	input.resource.id == "db.query"

	# The tool's schema makes the limit a number that is there. A limit left out
	# would be none, and null would be less than any number.
	args.limit <= dataset.max_rows
	every column in args.columns {
		column.name in dataset.columns
	}
}

# Not for any purpose, and not to be guessed by filters.
forbid["secret-column"] := {
	"code": "data.secret_column",
	"message": "A column of {/mcp/params/arguments/dataset} that this query uses is never given out.",
	"message_admin": "The column is listed in data.datasets, below never.",
	"remediation": "unavailable",
} if {
	some column in args.columns

	# A data set that is not there has no such columns; no permit lets it pass.
	column.name in object.get(data.datasets, [args.dataset, "never"], [])
}

args := input.mcp.params.arguments

# Undefined for a data set that is not there, and so is the permit.
dataset := data.datasets[args.dataset]

# The limit goes in as the number it is, with every digit.
this_query := {
	"type": "data_query",
	"datasets": [args.dataset],
	"columns": authzd.each(args.columns, [column.name | some column in args.columns]),
	"max_rows": args.limit,
	"purpose": args.purpose,
	"locations": [input.mcp.server],
}
