package authz_test

import data.authz
import data.authzd.v1 as authzd

# What a policy yields is tested here; whether credentials meet it is tested by
# the decision cases in cases/.

report := {
	"subject": {"type": "identity", "id": "alice@example.com", "properties": {}},
	"action": {"name": "tools/call", "properties": {}},
	"resource": {"type": "tool", "id": "db.query", "properties": {}},
	"context": {},
	"mcp": {
		"method": "tools/call",
		"params": {"name": "db.query", "arguments": {
			"dataset": "orders",
			"columns": [
				{"name": "placed"},
				{"name": "country", "returned": false, "filter": {"is": "equal", "value": "DE"}},
			],
			"limit": 500,
			"purpose": "reporting",
		}},
		"server": "https://warehouse.example.com",
	},
	"credentials": [],
	"rejected_credentials": [],
	"tenant": "default",
	"now": "2026-11-22T18:00:00Z",
}

changed(path, value) := json.patch(report, [{"op": "replace", "path": path, "value": value}])

argument(name, value) := changed(sprintf("/mcp/params/arguments/%s", [name]), value)

needs(columns, rows) := {"query": {"require": [
	authzd.scopes(["db:query"]),
	authzd.authorization_details([{
		"type": "data_query",
		"datasets": ["orders"],
		"columns": columns,
		"max_rows": rows,
		"purpose": "reporting",
		"locations": ["https://warehouse.example.com"],
	}]),
]}}

test_filtered_columns_are_required_like_returned_ones if {
	authz.permit == needs(["placed", "country"], 500) with input as report
}

test_rows_follow_the_call if {
	every rows in [1, 499, 501, 10000] {
		authz.permit == needs(["placed", "country"], rows) with input as argument("limit", rows)
	}
}

test_no_permit_beyond_the_limit_of_the_data_set if {
	every name, dataset in data.datasets {
		query := json.patch(report, [
			{"op": "replace", "path": "/mcp/params/arguments/dataset", "value": name},
			{"op": "replace", "path": "/mcp/params/arguments/columns", "value": [{"name": "id"}]},
			{"op": "replace", "path": "/mcp/params/arguments/limit", "value": dataset.max_rows + 1},
		])
		authz.permit == {} with input as query
		authz.permit.query with input as json.patch(query, [{
			"op": "replace",
			"path": "/mcp/params/arguments/limit",
			"value": dataset.max_rows,
		}])
	}
}

test_no_permit_for_other_columns if {
	others := [
		[{"name": "placed"}, {"name": "margin"}],
		[{"name": "margin"}, {"name": "placed"}],
		[{"name": "placed"}, {"filter": {"is": "equal", "value": 1}}],
		[{"name": "placed"}, {"name": null}],
		[{"name": "*"}],
		[{}],
		[],
		{},
		"placed",
		null,
	]
	every columns in others {
		authz.permit == {} with input as argument("columns", columns)
	}
}

test_no_permit_for_another if {
	others := {
		"/action/name": "tools/list",
		"/resource/id": "db.query2",
		"/resource/type": "file",
		"/mcp/params/arguments/dataset": "payroll",
	}
	every path, value in others {
		authz.permit == {} with input as changed(path, value)
	}
}

test_no_permit_without if {
	paths := [
		"/mcp",
		"/mcp/server",
		"/mcp/params/arguments",
		"/mcp/params/arguments/dataset",
		"/mcp/params/arguments/columns",
		"/mcp/params/arguments/limit",
		"/mcp/params/arguments/purpose",
		"/action/name",
		"/resource/id",
		"/resource/type",
	]
	every path in paths {
		authz.permit == {} with input as json.remove(report, [path])
	}
}

test_secret_columns if {
	every columns in [
		[{"name": "password_hash"}],
		[{"name": "id"}, {"name": "password_hash", "returned": false}],
		[{"name": "password_hash", "filter": {"is": "less", "value": "a"}}, {"name": "id"}],
	] {
		object.keys(authz.forbid) == {"secret-column"} with input as json.patch(report, [
			{"op": "replace", "path": "/mcp/params/arguments/dataset", "value": "customers"},
			{"op": "replace", "path": "/mcp/params/arguments/columns", "value": columns},
		])
	}
	authz.forbid == {} with input as report
}

# A misspelt "never" would keep nothing secret.
test_data_sets_say_all_there_is_to_say if {
	every dataset in data.datasets {
		object.keys(dataset) == {"columns", "never", "max_rows"}
		is_number(dataset.max_rows)
		every column in dataset.never {
			column in dataset.columns
		}
	}
}
