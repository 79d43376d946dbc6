# METADATA
# title: The authzd policy library, version 1
# description: |
#   Constructors for what a permit requires of the caller's credentials.
#   Import it as `import data.authzd.v1 as authzd`.
#
#   The constructors give a requirement its shape; whether its content makes
#   sense is judged by the engine, on everything a policy yields. So a wrong
#   argument is passed on, for the engine to refuse by name, and never makes a
#   constructor undefined: an undefined requirement would take its permit with
#   it, or drop a rule into its `else`, without a word.
#
#   What a function means never changes within v1.
package authzd.v1

# METADATA
# title: scopes(list)
# description: |
#   Met by one credential that has all these scopes (a declared hierarchy
#   counts). `list` is a non-empty array of strings; the engine refuses any
#   other, an empty one as engine.empty_requirement.
scopes(list) := {"kind": "scopes", "scopes": list}

# METADATA
# title: authorization_details(list)
# description: |
#   Met by one credential whose authorization_details cover each of these
#   objects (RFC 9396). `list` is a non-empty array of objects of declared types,
#   in the form in which a client would request them: on a deny they become the
#   hint.
authorization_details(list) := {"kind": "authorization_details", "authorization_details": list}

# METADATA
# title: single_use(list)
# description: |
#   As authorization_details(list), and what is granted serves one call only: it
#   is used up when the call is about to be executed.
single_use(list) := {"kind": "authorization_details", "authorization_details": list, "single_use": true}

# METADATA
# title: authentication(wanted)
# description: |
#   Met by a credential whose user authenticated well enough (RFC 9470).
#   `wanted` is an object with at least one of `acr_values` (array of strings,
#   one of which the credential must have) and `max_age` (seconds since the user
#   authenticated). An argument that is no object is an error.
authentication(wanted) := object.union(wanted, {"kind": "authentication"})

# METADATA
# title: proof_of_possession
# description: |
#   Met by a credential that is bound to a key and was presented with proof of
#   it (RFC 9449 or RFC 8705). A value, not a function: Rego has no functions
#   without arguments.
proof_of_possession := {"kind": "proof_of_possession"}

# METADATA
# title: approval(wanted)
# description: |
#   Met by a recorded approval of this very call. `wanted` is an object with
#   `workflow`, `approver` ("subject" or a group), `binds`, `expires_in` and
#   `title`. An argument that is no object is an error.
approval(wanted) := object.union(wanted, {"kind": "approval"})

# METADATA
# title: each(source, list)
# description: |
#   `list`, if it has one entry for each entry of `source`; undefined unless both
#   are arrays of one length that is not zero. It is the one way to build
#   requirements from an array in the call, because nothing can be filtered out:
#   authzd.each(args.payments, [need(p) | some p in args.payments]).
each(source, list) := list if {
	is_array(source)
	is_array(list)
	count(source) > 0
	count(source) == count(list)
}

# METADATA
# title: decimal(x)
# description: |
#   `x` as the text of a decimal number, as authorization_details want amounts:
#   a string of the form -?(0|[1-9][0-9]*)(\.[0-9]+)? as it is, a number written
#   out without exponent and with its digits kept (12000.50 gives "12000.50", 1e2
#   gives "100"). Anything else, and an exponent beyond 400, is an error and not
#   undefined, so that a forbid that uses it cannot vanish. Two numbers of one
#   decision that are equal may come out in one spelling.
decimal(x) := x if {
	is_string(x)
	regex.match(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?$`, x)
} else := written_out(x) if {
	is_number(x)
} else := to_number("authzd.decimal: want a decimal string or a number in range")

# A number's digits are kept by json.marshal alone: sprintf, format_int and
# arithmetic turn 12000.50 into 12000.5 or lose digits. But json.marshal keeps an
# exponent too, which details do not allow.
written_out(x) := text if {
	text := json.marshal(x)
	not regex.match(`[eE]`, text)
} else := concat("", [sign, without_leading_zeros(before), with_point(after)]) if {
	form := `^(-?)([0-9]+)(?:\.([0-9]+))?[eE]([+-]?)0*([0-9]{1,3})$`
	[_, sign, units, fraction, exponent_sign, exponent_digits] := regex.find_all_string_submatch_n(
		form,
		json.marshal(x), 1,
	)[0]
	exponent := to_number(concat("", [trim_left(exponent_sign, "+"), exponent_digits]))
	exponent >= -400
	exponent <= 400

	# Move the point by the exponent, over as many zeros as that takes.
	digits := concat("", [units, fraction])
	point := count(units) + exponent
	padded := concat("", [zeros(0 - point), digits, zeros(point - count(digits))])
	before := substring(padded, 0, max([point, 0]))
	after := substring(padded, max([point, 0]), -1)
}

# n zeros, 400 at most; none if n is negative.
zeros(n) := substring(sprintf("%0400d", [0]), 0, max([n, 0]))

without_leading_zeros(digits) := trimmed if {
	trimmed := trim_left(digits, "0")
	trimmed != ""
} else := "0"

with_point("") := ""

with_point(digits) := concat("", [".", digits]) if digits != ""

# Whose authority is used, and who acts with it. These say something of every
# usable credential, so that adding one never makes a permit hold, and are false
# without any. A wrong argument is an error, as in decimal.

# METADATA
# title: person
# description: |
#   Every credential is a person's: none is what a client holds for itself, whose
#   subject may read like a person's (RFC 9068 section 5). A value.
default person := false

person if {
	count(input.credentials) > 0
	every c in input.credentials {
		c.subject_is_client == false
	}
}

# METADATA
# title: agent_among(list)
# description: |
#   The client of every credential, and whoever acts by it (the outermost `act`,
#   RFC 8693 section 4.1), is in `list`, an array or set of ids, byte by byte.
#   Agents further down the chain do not count for anything.
agent_among(list) if {
	is_list(list)
	count(input.credentials) > 0
	every c in input.credentials {
		c.client_id in list
		acts_within(c, list)
	}
} else := to_number("authzd.agent_among: want an array or set") if {
	not is_list(list)
} else := false

# METADATA
# title: hops_at_most(n)
# description: |
#   No credential was handed on more than `n` times: its chain of `act` has at
#   most `n` actors. 0 admits tokens without actors only.
hops_at_most(n) if {
	is_number(n)
	count(input.credentials) > 0
	every c in input.credentials {
		count(c.actors) <= n
	}
} else := to_number("authzd.hops_at_most: want a number") if {
	not is_number(n)
} else := false

# METADATA
# title: agent_of(owners)
# description: |
#   The client of every credential is its subject's own: `owners` is an object of
#   client ids, each with the id of the subject who alone may use that agent.
agent_of(owners) if {
	is_object(owners)
	count(input.credentials) > 0
	every c in input.credentials {
		owners[c.client_id] == c.subject
	}
} else := to_number("authzd.agent_of: want an object") if {
	not is_object(owners)
} else := false

# METADATA
# title: cimd_origin(id)
# description: |
#   The origin ("https://agent.example") of a client id that is a URL
#   (draft-ietf-oauth-client-id-metadata-document), undefined of any other: of
#   other schemes, with a fragment, a user, a host in capitals or no path.
#   A domain vouches for what is served on it; compare ids themselves with ==.
cimd_origin(id) := origin if {
	[_, origin] := regex.find_all_string_submatch_n(
		`^(https://[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]{1,5})?)/[^\x00-\x20#\\]*$`,
		id, 1,
	)[0]
}

acts_within(c, _) if count(c.actors) == 0

acts_within(c, list) if c.actors[0].subject in list

is_list(x) if is_array(x)

is_list(x) if is_set(x)
