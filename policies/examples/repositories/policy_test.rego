package authz_test

import data.authz
import data.authzd.v1 as authzd

# What a policy yields is tested here; tenants too, since decision cases are all
# asked by the tenant "default".

issuer := "https://as.example.com"

call(tool, repository, branch) := {
	"subject": {"type": "identity", "id": "alice@example.com", "properties": {"issuer": issuer}},
	"action": {"name": "tools/call", "properties": {}},
	"resource": {"type": "tool", "id": tool, "properties": {}},
	"context": {},
	"mcp": {
		"method": "tools/call",
		"params": {"name": tool, "arguments": {"repository": repository, "branch": branch}},
		"server": "https://forge.example.com",
	},
	"credentials": [],
	"rejected_credentials": [],
	"tenant": "default",
	"now": "2026-11-22T18:00:00Z",
}

changed(query, path, value) := json.patch(query, [{"op": "replace", "path": path, "value": value}])

details(action, repository, branch) := authzd.authorization_details([{
	"type": "repository_access",
	"identifier": repository,
	"actions": [action],
	"branches": [branch],
	"locations": ["https://forge.example.com"],
}])

strong := authzd.authentication({"acr_values": ["urn:example:acr:mfa"], "max_age": 300})

test_each_tool_needs_its_action if {
	authz.permit == {"read-branch": {"require": [
		authzd.scopes(["repo"]),
		details("read", "acme/api", "main"),
	]}} with input as call("repo.read", "acme/api", "main")
	authz.permit == {"merge": {"require": [
		authzd.scopes(["repo"]),
		details("merge", "acme/api", "main"),
	]}} with input as call("repo.merge", "acme/api", "main")
	authz.permit == {"delete-branch": {"require": [
		authzd.scopes(["repo"]),
		details("delete_branch", "acme/api", "docs"),
		strong,
	]}} with input as call("repo.delete_branch", "acme/api", "docs")
}

test_roles if {
	allowed := {
		"alice@example.com": {"repo.read", "repo.merge", "repo.delete_branch"},
		"bob@example.com": {"repo.read", "repo.merge"},
		"carol@example.com": {"repo.read"},
		"mallory@example.com": set(),
		"": set(),
	}
	every person, tools in allowed {
		tools == {tool |
			some tool in ["repo.read", "repo.merge", "repo.delete_branch"]
			permits := authz.permit with input as changed(call(tool, "acme/api", "docs"), "/subject/id", person)
			count(permits) > 0
		}
	}
}

test_no_permit_for_another if {
	others := {
		"/subject/properties/issuer": "https://as.example.org",
		"/action/name": "tools/list",
		"/resource/id": "repo.reads",
		"/resource/type": "file",
		"/tenant": "globex",
		"/mcp/params/arguments/repository": "globex/site",
	}
	every path, value in others {
		authz.permit == {} with input as changed(call("repo.read", "acme/api", "main"), path, value)
	}
}

test_no_permit_without if {
	whole := call("repo.read", "acme/api", "main")
	paths := [
		"/mcp",
		"/mcp/server",
		"/mcp/params/arguments",
		"/mcp/params/arguments/repository",
		"/mcp/params/arguments/branch",
		"/action/name",
		"/resource/id",
		"/resource/type",
		"/subject/id",
		"/subject/properties",
		"/subject/properties/issuer",
		"/tenant",
	]
	every path in paths {
		authz.permit == {} with input as json.remove(whole, [path])
	}
}

test_a_repository_belongs_to_its_tenant if {
	theirs := call("repo.read", "globex/site", "main")
	object.keys(authz.forbid) == {"unknown-repository"} with input as theirs
	object.keys(authz.permit) == {"read-branch"} with input as changed(theirs, "/tenant", "globex")
	authz.forbid == {} with input as changed(theirs, "/tenant", "globex")
	every tenant in ["", "Globex", "globex/site"] {
		object.keys(authz.forbid) == {"unknown-repository"} with input as changed(theirs, "/tenant", tenant)
	}
}

test_absent_and_foreign_are_answered_alike if {
	every tool in ["repo.read", "repo.merge", "repo.delete_branch"] {
		foreign := authz.forbid with input as call(tool, "globex/site", "main")
		absent := authz.forbid with input as call(tool, "globex/nowhere", "main")
		foreign == absent
		object.keys(absent) == {"unknown-repository"}
	}
}

test_protected_branches_stay if {
	every branch in data.repositories["default"]["acme/api"].protected_branches {
		object.keys(authz.forbid) == {"protected-branch"} with input as call("repo.delete_branch", "acme/api", branch)
		authz.forbid == {} with input as call("repo.merge", "acme/api", branch)
	}
}

test_roles_allow_actions_that_the_tools_need if {
	every actions in data.roles {
		every action in actions {
			action in {"read", "merge", "delete_branch"}
		}
	}
}

# bob@example.com is an intern there, which is no key of data.roles.
test_an_unknown_role_allows_nothing if {
	query := changed(call("repo.read", "acme/web", "main"), "/subject/id", "bob@example.com")
	authz.permit == {} with input as query
	authz.permit["read-branch"] with input as query with data.roles as {"intern": ["read"]}
}
