package contract

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Capabilities returns what policy may use: this OPA's language and an
// allow-list of its builtins, by name or by group of pure functions (a test
// pins what the groups hold, so an OPA that adds one is noticed). Schemas are
// never fetched.
func Capabilities() *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion()
	c.Builtins = slices.DeleteFunc(c.Builtins, func(b *ast.Builtin) bool { return !builtinAllowed(b.Name) })
	// nil would mean any host: a $ref in a schema given to json.match_schema
	// must not make a request.
	c.AllowNet = []string{}
	return c
}

// builtinAllowed leaves out what reaches the network or the process
// (http.send, net.lookup_ip_addr, opa.runtime), what signs with keys that a
// policy would have to hold (io.jwt.encode_sign, providers.aws.sign_req), and
// what no decision needs (trace, rego.parse_module). time.now_ns, rand.intn
// and uuid.rfc4122 stay: the engine fixes them per decision.
func builtinAllowed(name string) bool {
	if group, rest, ok := strings.Cut(name, "."); ok {
		return builtinGroupAllowed(group, rest)
	}
	switch name {
	case "eq", "assign", "equal", "neq", "gt", "gte", "lt", "lte",
		"plus", "minus", "mul", "div", "rem", "round", "ceil", "floor", "abs",
		"and", "or", "intersection", "union", "set_diff",
		"count", "sum", "product", "max", "min", "sort", "all", "any",
		"concat", "contains", "endswith", "format_int", "indexof", "indexof_n", "lower", "replace", "split", "sprintf",
		"startswith", "substring", "trim", "trim_left", "trim_prefix", "trim_right", "trim_suffix", "trim_space", "upper",
		"to_number", "re_match", "walk", "print",
		"cast_array", "cast_set", "cast_string", "cast_boolean", "cast_null", "cast_object",
		"is_number", "is_string", "is_boolean", "is_array", "is_set", "is_object", "is_null", "type_name":
		return true
	}
	return false
}

func builtinGroupAllowed(group, rest string) bool {
	switch group {
	case "bits":
		// A shift to the left by a caller's number takes all memory, and cannot be
		// stopped.
		return rest != "lsh"
	case "array", "base64", "base64url", "glob", "graph", "graphql", "hex", "json", "numbers", "object",
		"regex", "semver", "strings", "time", "units", "uri", "urlquery", "uuid", "yaml":
		return true
	case "internal":
		switch rest {
		case "member_2", "member_3", "print", "template_string", "test_case":
			return true
		}
	case "io":
		return rest == "jwt.decode" || rest == "jwt.decode_verify" || strings.HasPrefix(rest, "jwt.verify_")
	case "crypto":
		switch rest {
		case "x509.parse_certificates", "x509.parse_and_verify_certificates",
			"x509.parse_and_verify_certificates_with_options", "x509.parse_certificate_request":
			return true
		}
		return strings.HasPrefix(rest, "hmac.") || rest == "md5" || rest == "sha1" || rest == "sha256"
	case "net":
		return strings.HasPrefix(rest, "cidr_")
	case "rand":
		return rest == "intn"
	case "rego":
		return strings.HasPrefix(rest, "metadata.")
	}
	return false
}

// checkBuiltins names each use of a builtin outside the allow-list, in every
// module: OPA's compiler would only call it an unknown function.
func (p *policy) checkBuiltins() []Finding {
	known := make(map[string]bool)
	for _, b := range ast.CapabilitiesForThisVersion().Builtins {
		known[b.Name] = builtinAllowed(b.Name)
	}
	var found []Finding
	for _, g := range p.groups {
		if g.library {
			continue
		}
		for _, d := range g.defs {
			ast.WalkRefs(d.rule, func(r ast.Ref) bool {
				// Also where no call stands: with replaces functions by name.
				name := r.String()
				if allowed, ok := known[name]; ok && !allowed {
					loc := r[0].Location
					if loc == nil {
						loc = d.rule.Location
					}
					found = append(found, at(loc, d.file, CodeBuiltinNotAllowed, Error, g.name(p), "policy may not use "+name))
				}
				return false
			})
		}
	}
	return found
}
