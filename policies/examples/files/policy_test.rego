package authz_test

import data.authz
import data.authzd.v1 as authzd

# What a policy yields is tested here. That unsafe paths never reach it is tested
# in cases/paths.yaml, since the tools' schemas refuse them.

call(tool, path) := {
	"subject": {"type": "identity", "id": "alice@example.com", "properties": {}},
	"action": {"name": "tools/call", "properties": {}},
	"resource": {"type": "tool", "id": tool, "properties": {}},
	"context": {},
	"mcp": {
		"method": "tools/call",
		"params": {"name": tool, "arguments": {"path": path}},
		"server": "https://files.example.com",
	},
	"credentials": [],
	"rejected_credentials": [],
	"tenant": "default",
	"now": "2026-11-22T18:00:00Z",
}

needs(scope, action, path) := {"require": [
	authzd.scopes([scope]),
	authzd.authorization_details([{
		"type": "file_access",
		"actions": [action],
		"paths": [path],
		"locations": ["https://files.example.com"],
	}]),
]}

test_each_tool_needs_its_action if {
	file := "/home/alice/notes.txt"
	folder := "/home/alice/"
	authz.permit == {"read-file": needs("files:read", "read", file)} with input as call("files.read", file)
	authz.permit == {"write-file": needs("files:write", "write", file)} with input as call("files.write", file)
	authz.permit == {"list-folder": needs("files:read", "list", folder)} with input as call("files.list", folder)
}

test_shared_needs_the_scope_only if {
	permit := {"require": [authzd.scopes(["files:read"])]}
	authz.permit["read-shared"] == permit with input as call("files.read", "/shared/handbook.md")
	authz.permit["list-shared"] == permit with input as call("files.list", "/shared/")
}

test_shared_is_not_written_by_a_scope if {
	permits := authz.permit with input as call("files.write", "/shared/handbook.md")
	object.keys(permits) == {"write-file"}
}

test_not_shared if {
	every path in ["/shared", "/shared2/x", "/Shared/x", "/home/shared/x", "shared/x", "/shared/../home/x", ""] {
		permits := object.keys(authz.permit) with input as call("files.read", path)
		not "read-shared" in permits
	}
}

test_no_permit_without if {
	whole := call("files.read", "/shared/handbook.md")
	paths := [
		"/mcp",
		"/mcp/params/arguments",
		"/mcp/params/arguments/path",
		"/action",
		"/action/name",
		"/resource",
		"/resource/id",
		"/resource/type",
	]
	every path in paths {
		authz.permit == {} with input as json.remove(whole, [path])
	}
}

test_no_details_without_a_server if {
	authz.permit == {} with input as json.remove(call("files.read", "/home/alice/x"), ["/mcp/server"])
}

test_no_permit_for_another if {
	others := {
		"/action/name": "resources/read",
		"/resource/id": "files.read2",
		"/resource/type": "file",
	}
	every path, value in others {
		authz.permit == {} with input as json.patch(call("files.read", "/shared/x"), [{
			"op": "replace",
			"path": path,
			"value": value,
		}])
	}
}

test_protected_names_are_lower_case if {
	every name in data.protected_names {
		name == lower(name)
	}
}

test_protected_names_anywhere if {
	every name in data.protected_names {
		paths := [
			sprintf("/%s", [name]),
			sprintf("/home/alice/%s", [name]),
			sprintf("/shared/%s/x", [upper(name)]),
			sprintf("/home/alice/%s/", [name]),
		]
		every path in paths {
			object.keys(authz.forbid) == {"protected-file"} with input as call("files.read", path)
		}
	}
}

test_other_names_are_not_protected if {
	every path in ["/home/alice/ssh/x", "/home/alice/x.env", "/home/alice/my.ssh/x"] {
		authz.forbid == {} with input as call("files.read", path)
	}
}
