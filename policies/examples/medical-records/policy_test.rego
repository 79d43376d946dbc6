package authz_test

import data.authz
import data.authzd.v1 as authzd

# What a policy yields is tested here; whether credentials meet it is tested by
# the decision cases in cases/.

query(tool, purpose) := {
	"subject": {
		"type": "identity",
		"id": "adams@clinic.example",
		"properties": {"issuer": "https://as.example.com"},
	},
	"action": {"name": "tools/call", "properties": {}},
	"resource": {"type": "tool", "id": tool, "properties": {}},
	"context": {},
	"mcp": {
		"method": "tools/call",
		"params": {"name": tool, "arguments": {
			"patient": "pat-7f3a9c21",
			"datatypes": ["allergies", "medications"],
			"purpose": purpose,
			"practitioner": "HP-1001",
		}},
		"server": "https://records.example.com",
	},
	"credentials": [],
	"rejected_credentials": [],
	"tenant": "default",
	"now": "2026-11-22T18:00:00Z",
}

changed(document, path, value) := json.patch(document, [{"op": "replace", "path": path, "value": value}])

argument(document, name, value) := changed(document, sprintf("/mcp/params/arguments/%s", [name]), value)

details(action, purpose) := authzd.authorization_details([{
	"type": "patient_record_access",
	"identifier": "pat-7f3a9c21",
	"actions": [action],
	"datatypes": ["allergies", "medications"],
	"purpose": purpose,
	"practitioner": "HP-1001",
	"locations": ["https://records.example.com"],
}])

test_reading_needs_scope_and_details if {
	authz.permit == {"read-record": {"require": [
		authzd.scopes(["records:read"]),
		details("read", "treatment"),
	]}} with input as query("records.read", "treatment")
}

test_export_needs_a_recent_login_and_is_audited if {
	authz.permit == {"export-record": {
		"require": [
			authzd.scopes(["records:export"]),
			details("export", "treatment"),
			authzd.authentication({"max_age": 600}),
		],
		"obligations": [{"id": "audit", "event": "export"}],
	}} with input as query("records.export", "treatment")
}

test_break_glass_needs_a_strong_login_and_is_audited if {
	permits := authz.permit with input as query("records.read", "emergency")
	object.keys(permits) == {"break-glass"}
	permits["break-glass"].require == [
		authzd.scopes(["records:read"]),
		details("read", "emergency"),
		authzd.authentication({"acr_values": ["urn:example:acr:hardware-key"], "max_age": 120}),
	]
	permits["break-glass"].obligations[0].id == "audit"
}

test_break_glass_is_for_what_an_emergency_needs if {
	every datatypes in [["genetics"], ["allergies", "lab_results"], "allergies", null] {
		authz.permit == {} with input as argument(query("records.read", "emergency"), "datatypes", datatypes)
	}
}

test_no_emergency_is_assigned if {
	authz.permit == {} with input as query("records.export", "emergency")
		with data.assignments as {"HP-1001": {"emergency": ["pat-7f3a9c21"]}}
}

# Whatever data says, a hint holds only what the caller sent.
test_details_hold_nothing_of_data if {
	sent := query("records.read", "treatment")
	required := authz.permit["read-record"].require[1] with input as sent
	every name in ["identifier", "purpose", "practitioner"] {
		some value in sent.mcp.params.arguments
		required.authorization_details[0][name] == value
	}
	required.authorization_details[0].datatypes == sent.mcp.params.arguments.datatypes
}

test_no_permit_for_another if {
	others := {
		"/subject/id": "baker@clinic.example",
		"/subject/properties/issuer": "https://as.example.org",
		"/action/name": "tools/list",
		"/resource/id": "records.delete",
		"/resource/type": "file",
		"/mcp/params/arguments/patient": "pat-00000000",
		"/mcp/params/arguments/practitioner": "HP-1002",
		"/mcp/params/arguments/purpose": "research",
	}
	every path, value in others {
		every tool in ["records.read", "records.export"] {
			authz.permit == {} with input as changed(query(tool, "treatment"), path, value)
		}
	}
}

test_no_permit_without if {
	paths := [
		"/mcp",
		"/mcp/server",
		"/mcp/params/arguments",
		"/mcp/params/arguments/patient",
		"/mcp/params/arguments/datatypes",
		"/mcp/params/arguments/purpose",
		"/mcp/params/arguments/practitioner",
		"/action/name",
		"/resource/id",
		"/resource/type",
		"/subject/id",
		"/subject/properties",
		"/subject/properties/issuer",
	]
	every path in paths {
		every purpose in ["treatment", "emergency"] {
			authz.permit == {} with input as json.remove(query("records.read", purpose), [path])
		}
	}
}

test_refusals_are_alike if {
	blocked := authz.forbid with input as argument(query("records.read", "treatment"), "patient", "pat-c0ffee11")
	restricted := authz.forbid with input as query("records.read", "treatment")
		with data.restricted_datatypes as {"pat-7f3a9c21": ["medications"]}
	both := authz.forbid with input as query("records.read", "treatment")
		with data.restricted_datatypes as {"pat-7f3a9c21": ["medications"]}
		with data.blocked_patients as ["pat-7f3a9c21"]
	blocked == restricted
	blocked == both
	object.keys(blocked) == {"refused"}
}

test_refusals_say_nothing_to_the_client if {
	forbids := authz.forbid with input as argument(query("records.read", "treatment"), "patient", "pat-c0ffee11")
	object.keys(forbids.refused) == {"code", "message_admin"}
}

test_others_are_not_refused if {
	every tool in ["records.read", "records.export"] {
		authz.forbid == {} with input as query(tool, "treatment")
	}
}
