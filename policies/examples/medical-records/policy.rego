# METADATA
# title: Medical records
# description: |
#   What an agent may do with the tools records.read and records.export.
#
#   A hint goes to an agent that is not authorized yet, so it may tell nothing
#   that needs authorization to read. Everything in access() below is the call's
#   own argument, the server's identifier or a constant of this file; nothing in
#   it comes from data. That is why the practitioner's number is an argument that
#   is checked, and not looked up and filled in.
package authz

import data.authzd.v1 as authzd

permit["read-record"] := {"require": [
	authzd.scopes(["records:read"]),
	authzd.authorization_details([access("read")]),
]} if {
	calls("records.read")
	is_practitioner
	assigned
}

# What has left the house does not come back: a recent login, and the server must
# write down what was taken.
permit["export-record"] := {
	"require": [
		authzd.scopes(["records:export"]),
		authzd.authorization_details([access("export")]),
		authzd.authentication({"max_age": 600}),
	],
	"obligations": [{"id": "audit", "event": "export"}],
} if {
	calls("records.export")
	is_practitioner
	assigned
}

# Break-glass: nobody assigned the patient to this practitioner, and there is no
# time to do so. In its place come a strong login of right now, the data that an
# emergency needs and no more, and an entry that somebody will look at. Details
# are still required, so that the login is for this patient and not for all.
permit["break-glass"] := {
	"require": [
		authzd.scopes(["records:read"]),
		authzd.authorization_details([access("read")]),
		authzd.authentication({"acr_values": ["urn:example:acr:hardware-key"], "max_age": 120}),
	],
	"obligations": [{"id": "audit", "event": "break-glass", "notify": "privacy-officer"}],
} if {
	calls("records.read")
	is_practitioner
	args.purpose == "emergency"
	every datatype in args.datatypes {
		datatype in {"allergies", "conditions", "medications"}
	}
}

# Both forbids have one name and one code, no message and no remediation: the
# client reads the words it reads where no permit applies, and the record of the
# decision does not tell either whether the patient is blocked or a kind of data
# is restricted. They hold in an emergency too.
forbid["refused"] := refused if {
	args.patient in data.blocked_patients
}

forbid["refused"] := refused if {
	some datatype in args.datatypes
	datatype in object.get(data.restricted_datatypes, args.patient, [])
}

refused := {
	"code": "records.refused",
	"message_admin": "Look for {/mcp/params/arguments/patient} in data.blocked_patients and data.restricted_datatypes.",
}

args := input.mcp.params.arguments

calls(tool) if {
	input.action.name == "tools/call"
	input.resource.type == "tool"
	input.resource.id == tool
}

# The number in the call is the caller's own.
is_practitioner if {
	data.practitioners[input.subject.properties.issuer][input.subject.id] == args.practitioner
}

# Nobody is assigned for an emergency: data.assignments has no such key.
assigned if {
	args.purpose in {"treatment", "research"}
	args.patient in data.assignments[args.practitioner][args.purpose]
}

access(action) := {
	"type": "patient_record_access",
	"identifier": args.patient,
	"actions": [action],
	"datatypes": args.datatypes,
	"purpose": args.purpose,
	"practitioner": args.practitioner,
	"locations": [input.mcp.server],
}
