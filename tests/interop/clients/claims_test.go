package clients_test

import (
	"net/url"
	"slices"
	"strings"
)

// claim says whether it speaks of s, and if so, whether it is true of s.
type claim func(s seen) (applies, ok bool)

// untouched: the denial cost the client nothing.
func (s seen) untouched() bool {
	return s.SameToken && s.Alive && len(s.log.Authorize)+len(s.log.Grants) == 0
}

func (s seen) typescript() bool { return s.client.sdk != "go" }

// of401 speaks of the challenges that ask for something else than a scope.
func (s seen) of401() bool { return s.form.status == 401 }

// claims are what the choices of package mcp rest on, by name.
func claims() map[string]claim {
	return map[string]claim{
		// For details over HTTP the tool result is the form that works.
		"a tool result costs nothing and is read by all": func(s seen) (bool, bool) {
			return s.form.name == formResult,
				s.untouched() && s.calls() == 1 && s.First.Kind == "refused" && s.First.reads() == "words and hint"
		},
		"so does a JSON-RPC error with status 200": func(s seen) (bool, bool) {
			return s.form.name == formError,
				s.untouched() && s.calls() == 1 && s.First.Kind == "thrown" && s.First.reads() == "words and hint"
		},
		// Why the challenge does not.
		"nobody asks for the details of a challenge": func(s seen) (bool, bool) {
			return true, !slices.ContainsFunc(s.log.Authorize, asksForDetails)
		},
		"a 401 makes who can sign in sign in, in vain": func(s seen) (bool, bool) {
			return s.of401() && s.client.signsIn() && s.client.mode != goReader,
				len(s.log.Authorize)+len(s.log.Grants) > 0 && s.First.Kind == "thrown" && (s.Second == nil || s.Second.Kind == "thrown")
		},
		"a TypeScript client that signs in tells nothing of a 401": func(s seen) (bool, bool) {
			return s.of401() && s.client.signsIn() && s.typescript() && s.client.mode != goReader, s.First.reads() == "nothing"
		},
		"a 401 without scope asks the user for all that there are": func(s seen) (bool, bool) {
			return s.of401() && len(s.log.Authorize) > 0 && s.form.name != form401Held+withError,
				s.asks() == "page payments:admin payments:read payments:write"
		},
		"a 401 with scope asks for that": func(s seen) (bool, bool) {
			return s.form.name == form401Held+withError && len(s.log.Authorize) > 0, s.asks() == "page "+heldScopes
		},
		"no provider is told to throw a token away": func(s seen) (bool, bool) {
			return s.typescript(), !slices.ContainsFunc(s.Events, isInvalidation)
		},
		"a 401 is tried again once": func(s seen) (bool, bool) { return s.of401(), s.calls() <= 2 },
		// How a client gets at a challenge: before its SDK does.
		"a client with a handler of its own reads the challenge": func(s seen) (bool, bool) {
			return s.client.mode == goReader && strings.HasPrefix(s.form.name, form401),
				s.untouched() && s.calls() == 1 && s.First.Name == "challenged" && s.First.reads() == "hint"
		},
		// Why a challenge carries a JSON-RPC error.
		"only a JSON-RPC error keeps a Go session open": func(s seen) (bool, bool) {
			return s.client.mode == goPlain && s.client.sdk == "go" && s.form.status != 200, s.Alive == (s.form.body == bodyError)
		},
		"a JSON-RPC error is read by clients that do not sign in": func(s seen) (bool, bool) {
			return !s.client.signsIn() && s.form.body == bodyError && s.form.status == 401,
				s.untouched() && s.First.reads() == "words and hint"
		},
		"a TypeScript session survives everything": func(s seen) (bool, bool) { return s.typescript(), s.Alive },
		// 403 for details, the status of an earlier draft.
		"a 403 for details signs nobody in": func(s seen) (bool, bool) {
			return s.form.name == form403+withError && s.client.mode != goReader,
				s.untouched() && s.First.reads() == "words and hint" && s.calls() <= 2
		},
		// Scopes.
		"a client of 2025-11-25 asks for the scopes of the challenge only": func(s seen) (bool, bool) {
			return s.form.name == formScope && s.client == client{"ts1", "redirect"}, s.asks() == "page "+neededScopes
		},
		"clients of 2026-07-28 keep the scopes they have": func(s seen) (bool, bool) {
			return strings.HasPrefix(s.form.name, formScope) && s.Version == "2026-07-28" && len(s.log.Authorize) > 0,
				s.asks() == "page "+heldScopes+" "+neededScopes
		},
		"a challenge that varies is followed for ever by some": func(s seen) (bool, bool) {
			return s.form.lacks == "patience" && s.client.sdk == "ts1" && (s.client.mode == "refresh" || s.client.mode == "machine"),
				s.calls() > patience
		},
		"one that does not is followed once": func(s seen) (bool, bool) {
			return s.form.lacks != "patience", s.calls() <= 2
		},
	}
}

func asksForDetails(q url.Values) bool { return q.Get("authorization_details") != "" }

func isInvalidation(event string) bool { return strings.HasPrefix(event, "invalidate") }
