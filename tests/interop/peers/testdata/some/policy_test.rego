package authz_test

import data.authz

call(tool, arguments) := {
	"action": {"name": "tools/call"},
	"resource": {"type": "tool", "id": tool},
	"mcp": {"method": "tools/call", "params": {"name": tool, "arguments": arguments}},
}

read(uri) := {"action": {"name": "resources/read"}, "resource": {"type": "resource", "id": uri}}

test_reading_is_permitted if {
	object.keys(authz.permit) == {"read"} with input as call("echo", {"message": "hello"})
}

test_what_is_not_named_is_not if {
	authz.permit == {} with input as call("write_file", {"path": "/a", "content": ""})
}

test_words if {
	authz.forbid.words with input as call("echo", {"message": "forbidden words"})
}

test_other_words if {
	authz.forbid == {} with input as call("echo", {"message": "forbidden word"})
}

test_document if {
	authz.forbid.document with input as read("demo://resource/static/document/architecture.md")
}

test_other_document if {
	authz.forbid == {} with input as read("demo://resource/static/document/features.md")
}
