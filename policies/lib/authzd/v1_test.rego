package authzd.v1_test

import data.authzd.v1 as authzd

# A requirement has exactly the members that the contract names.

test_scopes if authzd.scopes(["a", "b"]) == {"kind": "scopes", "scopes": ["a", "b"]}

test_authorization_details if {
	authzd.authorization_details([{"type": "t"}]) == {
		"kind": "authorization_details",
		"authorization_details": [{"type": "t"}],
	}
}

test_single_use if {
	authzd.single_use([{"type": "t"}]) == {
		"kind": "authorization_details",
		"authorization_details": [{"type": "t"}],
		"single_use": true,
	}
}

test_authentication_both if {
	authzd.authentication({"acr_values": ["urn:example:mfa"], "max_age": 300}) == {
		"kind": "authentication",
		"acr_values": ["urn:example:mfa"],
		"max_age": 300,
	}
}

test_authentication_acr_values if {
	authzd.authentication({"acr_values": ["x"]}) == {"kind": "authentication", "acr_values": ["x"]}
}

test_authentication_max_age if {
	authzd.authentication({"max_age": 0}) == {"kind": "authentication", "max_age": 0}
}

test_proof_of_possession if authzd.proof_of_possession == {"kind": "proof_of_possession"}

test_approval if {
	wanted := {
		"workflow": "payments",
		"approver": "subject",
		"binds": ["/mcp/params/arguments"],
		"expires_in": 600,
		"title": "Pay the supplier",
	}
	authzd.approval(wanted) == object.union(wanted, {"kind": "approval"})
}

# What is empty or of a wrong kind reaches the engine, which refuses it by name.
# Were a constructor undefined here, its permit would vanish, or fall into an else.

test_malformed_lists_are_passed_on if {
	every list in malformed_lists {
		authzd.scopes(list) == {"kind": "scopes", "scopes": list}
		authzd.authorization_details(list) == {"kind": "authorization_details", "authorization_details": list}
		authzd.single_use(list) == {
			"kind": "authorization_details",
			"authorization_details": list,
			"single_use": true,
		}
	}
}

malformed_lists := [[], {}, set(), {"a"}, null, false, 0, 1, "", "a", [1], [null], [["a"]], [{}], {"0": "a"}]

test_empty_objects_are_passed_on if {
	authzd.authentication({}) == {"kind": "authentication"}
	authzd.approval({}) == {"kind": "approval"}
}

test_unknown_members_are_passed_on if {
	authzd.authentication({"level": 2}) == {"kind": "authentication", "level": 2}
	authzd.approval({"by": "me"}) == {"kind": "approval", "by": "me"}
}

# An argument cannot turn one requirement into another.
test_kind_is_the_constructors if {
	authzd.authentication({"kind": "scopes"}) == {"kind": "authentication"}
	authzd.approval({"kind": {"a": 1}}) == {"kind": "approval"}
}

# An error under strict builtin errors; undefined for stock `opa test`.

test_authentication_of_no_object if {
	every x in [null, true, 0, "a", [], ["acr_values"], {"acr_values"}] {
		not authzd.authentication(x)
	}
}

test_approval_of_no_object if {
	every x in [null, true, 0, "a", [], ["workflow"], {"workflow"}] {
		not authzd.approval(x)
	}
}

# Separate rules, because `not f(x)` with x undefined is undefined, not true.
test_undefined_argument if {
	not scopes_of_nothing
	not details_of_nothing
	not authentication_of_nothing
	not decimal_of_nothing
}

scopes_of_nothing := authzd.scopes(input.nowhere)

details_of_nothing := authzd.authorization_details([{"type": input.nowhere}])

authentication_of_nothing := authzd.authentication({"max_age": input.nowhere})

decimal_of_nothing := authzd.decimal(input.nowhere)

# each: defined only for arrays of one length that is not zero.

test_each if authzd.each([1, 2], ["a", "b"]) == ["a", "b"]

test_each_of_a_comprehension if {
	source := [{"to": "a"}, {"to": "b"}]
	authzd.each(source, [{"type": "t", "to": p.to} | some p in source]) == [
		{"type": "t", "to": "a"},
		{"type": "t", "to": "b"},
	]
}

# The second element has no `to`: the comprehension drops it, each notices.
test_each_notices_what_was_dropped if {
	source := [{"to": "a"}, {"amount": 1}]
	not authzd.each(source, [{"type": "t", "to": p.to} | some p in source])
}

test_each_refuses if {
	pairs := [
		[[], []],
		[[1], []],
		[[], [1]],
		[[1, 2], [1]],
		[[1], [1, 2]],
		[{"a": 1}, [1]],
		[{1}, [1]],
		["a", ["a"]],
		[1, [1]],
		[null, []],
		[null, null],
		[[1], {"a": 1}],
		[[1], {1}],
		[[1], "a"],
		[{"a": 1}, {"a": 1}],
		[{1}, {1}],
		["a", "a"],
	]
	every p in pairs {
		not authzd.each(p[0], p[1])
	}
}

# decimal: strings of the one form pass as they are.

test_decimal_strings if {
	every s in ["0", "-0", "1", "-1", "10", "0.0", "0.10", "12000.50", "-0.5", "9007199254740993", "100.000"] {
		authzd.decimal(s) == s
	}
}

test_decimal_refuses_strings if {
	strings := [
		"",
		" ",
		"1 ",
		" 1",
		"1\n",
		"\n1",
		"+1",
		"--1",
		"01",
		"-01",
		"00",
		".5",
		"5.",
		"1.2.3",
		"1,5",
		"1_000",
		"1e2",
		"1E2",
		"0x10",
		"NaN",
		"Infinity",
		"-Infinity",
		"١٢",
		"1０",
		"12\u0000",
	]
	every s in strings {
		not authzd.decimal(s)
	}
}

test_decimal_refuses_kinds if {
	every x in [null, true, false, [], ["1"], {}, {"a": 1}, set(), {1}] {
		not authzd.decimal(x)
	}
}

# Numbers as they come in a call. OPA remembers what a function gave for an
# argument and takes equal numbers for one, so each zero has a test of its own.
test_decimal_numbers if {
	every text, want in numbers_written_out {
		authzd.decimal(json.unmarshal(text)) == want
	}
}

numbers_written_out := {
	"0": "0",
	"7": "7",
	"-7": "-7",
	"12000.50": "12000.50",
	"-12000.50": "-12000.50",
	"9007199254740993": "9007199254740993",
	"123456789012345678901234567890": "123456789012345678901234567890",
	"12345678901234567890.123456789012345678901234567890": "12345678901234567890.123456789012345678901234567890",
	"0.0000001": "0.0000001",
	"1e2": "100",
	"1E2": "100",
	"1e+2": "100",
	"-1e2": "-100",
	"1E-2": "0.01",
	"-1e-2": "-0.01",
	"1.50e1": "15.0",
	"1.50e2": "150",
	"1.50e3": "1500",
	"1.50e0": "1.50",
	"1.5e-3": "0.0015",
	"120e-1": "12.0",
	"120e-3": "0.120",
	"0.5e1": "5",
	"0.05e1": "0.5",
	"0.005e2": "0.5",
	"1e007": "10000000",
	"1e-000": "1",
	"9007199254740993e0": "9007199254740993",
	"9007199254740993e-1": "900719925474099.3",
}

test_decimal_zero if authzd.decimal(json.unmarshal("0")) == "0"

test_decimal_minus_zero if authzd.decimal(json.unmarshal("-0")) == "-0"

test_decimal_zero_with_fraction if authzd.decimal(json.unmarshal("0.00")) == "0.00"

test_decimal_zero_with_exponent if authzd.decimal(json.unmarshal("0e5")) == "0"

test_decimal_minus_zero_with_exponent if authzd.decimal(json.unmarshal("-0e5")) == "-0"

test_decimal_zero_moved_right if authzd.decimal(json.unmarshal("0.0e1")) == "0"

test_decimal_zero_moved_left if authzd.decimal(json.unmarshal("0e-2")) == "0.00"

test_decimal_zero_is_bounded_too if not authzd.decimal(json.unmarshal("0e401"))

test_decimal_of_policy_literals if {
	authzd.decimal(8000.50) == "8000.50"
	authzd.decimal(3e2) == "300"
	authzd.decimal(9007199254740995) == "9007199254740995"
}

test_decimal_bounds_the_exponent if {
	count(authzd.decimal(json.unmarshal("1e400"))) == 401
	count(authzd.decimal(json.unmarshal("1e-400"))) == 402
	every text in ["1e401", "1e-401", "1e999", "1e1000", "-1e-1000"] {
		not authzd.decimal(json.unmarshal(text))
	}
}

test_decimal_result_is_a_decimal if {
	every text, _ in numbers_written_out {
		written := authzd.decimal(json.unmarshal(text))
		authzd.decimal(written) == written
	}
}

# Whose authority is used.

alice := {
	"subject": "alice", "subject_is_client": false, "client_id": "https://agent.example/cimd.json",
	"actors": [{"issuer": "i", "subject": "a1"}, {"issuer": "i", "subject": "a2"}],
}

robot := object.union(alice, {"subject": "https://agent.example/cimd.json", "subject_is_client": true})

direct := object.union(alice, {"actors": []})

test_person if authzd.person with input.credentials as [alice]

test_person_not_a_client if {
	not authzd.person with input.credentials as [robot]
	not authzd.person with input.credentials as [alice, robot]
}

test_person_needs_a_credential if {
	authzd.person == false with input.credentials as []
	authzd.person == false with input as {}
	authzd.person == false with input.credentials as [{"subject": "alice"}]
}

test_agent_among if {
	authzd.agent_among(["https://agent.example/cimd.json"]) with input.credentials as [direct]
	authzd.agent_among({"https://agent.example/cimd.json", "a1"}) with input.credentials as [alice, direct]
}

test_agent_among_is_exact if {
	every id in ["https://agent.example/cimd.JSON", "https://agent.example/", "https://agent.example/cimd.json/", ""] {
		authzd.agent_among([id]) == false with input.credentials as [direct]
	}
}

test_agent_among_every_credential if {
	authzd.agent_among(["other"]) == false with input.credentials as [direct]
	authzd.agent_among(["https://agent.example/cimd.json"]) == false with input.credentials as [
		direct,
		object.union(direct, {"client_id": "other"}),
	]
	authzd.agent_among(["x"]) == false with input.credentials as []
}

# An agent down the chain lends nothing to the one that acts.
test_agent_among_outermost_actor if {
	authzd.agent_among(["https://agent.example/cimd.json", "a2"]) == false with input.credentials as [alice]
}

test_hops_at_most if {
	authzd.hops_at_most(2) with input.credentials as [alice]
	authzd.hops_at_most(0) with input.credentials as [direct]
	authzd.hops_at_most(1) == false with input.credentials as [alice]
	authzd.hops_at_most(1) == false with input.credentials as [direct, alice]
	authzd.hops_at_most(8) == false with input.credentials as []
}

test_agent_of if {
	authzd.agent_of({"https://agent.example/cimd.json": "alice"}) with input.credentials as [alice]
	authzd.agent_of({"https://agent.example/cimd.json": "bob"}) == false with input.credentials as [alice]
	authzd.agent_of({"other": "alice"}) == false with input.credentials as [alice]
	authzd.agent_of({}) == false with input.credentials as [alice]
	authzd.agent_of({"a": "alice"}) == false with input.credentials as []
}

# In Rego a text is more than any number, so a wrong argument must not compare.
test_wrong_arguments_are_no_yes if {
	every wrong in ["2", null, true, [2], {"2": 2}] {
		not authzd.hops_at_most(wrong) with input.credentials as [alice]
	}
	every wrong in ["https://agent.example/cimd.json", null, 1, {"a": "https://agent.example/cimd.json"}] {
		not authzd.agent_among(wrong) with input.credentials as [direct]
	}
	every wrong in ["alice", ["alice"], null, {"alice"}] {
		not authzd.agent_of(wrong) with input.credentials as [alice]
	}
}

test_cimd_origin if {
	authzd.cimd_origin("https://agent.example/cimd.json") == "https://agent.example"
	authzd.cimd_origin("https://agent.example:8443/a/b?c=d") == "https://agent.example:8443"
}

test_cimd_origin_of_nothing_else if {
	every id in [
		"client-1", "", "http://agent.example/a", "https://agent.example", "https://agent.example@evil.example/a",
		"https://Agent.example/a", "https://agent.example\\@evil.example/a", "https://agent.example/a#b", "https:///a",
		"https://evil.example/https://agent.example/ a", " https://agent.example/a", "https://.example/a", "https://agent.example:/a",
	] {
		not authzd.cimd_origin(id)
	}
}
