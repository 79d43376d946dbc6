# METADATA
# title: Some of what the reference servers offer
# description: |
#   Reading is allowed, with one text and one document forbidden; one tool needs
#   a scope, one needs authorization_details; what is not named is denied.
package authz

import data.authzd.v1 as authzd

permit["protocol"] := {} if {
	input.action.name != "tools/call"
}

permit["read"] := {} if {
	input.action.name == "tools/call"
	input.resource.id in {
		"echo", "get-annotated-message", "get-sum", "get-tiny-image",
		"read_text_file", "list_directory", "list_allowed_directories",
	}
}

permit["weather"] := {"require": [authzd.scopes(["weather"])]} if {
	input.action.name == "tools/call"
	input.resource.id == "get-structured-content"
}

permit["long"] := {"require": [authzd.authorization_details([{"type": "long_operation", "actions": ["run"]}])]} if {
	input.action.name == "tools/call"
	input.resource.id == "trigger-long-running-operation"
}

forbid["words"] := {
	"code": "echo.words",
	"message": "These words are not repeated.",
	"remediation": "unavailable",
} if {
	input.action.name == "tools/call"
	input.resource.id == "echo"
	object.get(input.mcp.params.arguments, "message", "") == "forbidden words"
}

forbid["document"] := {"code": "documents.closed", "message": "This document is closed."} if {
	input.resource.type == "resource"
	input.resource.id == "demo://resource/static/document/architecture.md"
}
