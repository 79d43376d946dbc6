# METADATA
# title: Repositories
# description: |
#   What an agent may do with the tools repo.read, repo.merge and
#   repo.delete_branch. Two questions are kept apart: may this person do this to
#   this repository at all (a role, from data), and was this agent sent to do it
#   (authorization_details of the token). Neither answers the other.
package authz

import data.authzd.v1 as authzd

permit["read-branch"] := {"require": [
	authzd.scopes(["repo"]),
	authzd.authorization_details([access("read")]),
]} if {
	calls("repo.read")
	role_allows("read")
}

# The details name repository and branch, not the pull request: a grant is for
# merging into main, whichever pull request comes next. To have each one approved,
# the type would need a field for it.
permit["merge"] := {"require": [
	authzd.scopes(["repo"]),
	authzd.authorization_details([access("merge")]),
]} if {
	calls("repo.merge")
	role_allows("merge")
}

# What can not be undone also needs a person who logged in strongly, just now.
permit["delete-branch"] := {"require": [
	authzd.scopes(["repo"]),
	authzd.authorization_details([access("delete_branch")]),
	authzd.authentication({"acr_values": ["urn:example:acr:mfa"], "max_age": 300}),
]} if {
	calls("repo.delete_branch")
	role_allows("delete_branch")
}

# A repository of another tenant and one that does not exist are answered alike,
# down to the rule's name: nobody learns here what others have.
forbid["unknown-repository"] := {
	"code": "repo.unknown_repository",
	"message": "There is no repository {/mcp/params/arguments/repository}.",
} if {
	repository == {}
}

forbid["protected-branch"] := {
	"code": "repo.protected_branch",
	"message": "The branch {/mcp/params/arguments/branch} is protected and can not be deleted.",
	"remediation": "unavailable",
} if {
	input.resource.id == "repo.delete_branch"
	args.branch in object.get(repository, "protected_branches", [])
}

args := input.mcp.params.arguments

calls(tool) if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	input.resource.id == tool
}

# The forbids look at this. A plain data.repositories[input.tenant][args.repository]
# would be undefined for a repository that is not there, and what is undefined
# does not forbid; object.get says what "not there" is.
repository := object.get(data.repositories, [input.tenant, args.repository], {})

# Permits look at this. Here undefined is right: nobody without a role gets past
# the lookup. A person is an issuer and an id, because another issuer may know
# another alice@example.com.
role_allows(action) if {
	role := repository.members[input.subject.properties.issuer][input.subject.id]
	action in data.roles[role]
}

access(action) := {
	"type": "repository_access",
	"identifier": args.repository,
	"actions": [action],
	"branches": [args.branch],
	"locations": [input.mcp.server],
}
