# Rows of a table: listed columns only, no more rows than the table's limit and
# than the token grants.
package authz

import data.authzd.v1 as authzd

permit["query"] := {"require": [authzd.authorization_details([{
	"type": "data_access",
	"table": args.table,
	"columns": args.columns,
	"limit": args.limit,
}])]} if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	input.resource.id == "db.query"
	args := input.mcp.params.arguments
	args.limit <= data.tables[args.table].max_rows
	every column in args.columns {
		column in data.tables[args.table].columns
	}
}
