package mcp_test

import (
	"strings"
	"testing"

	"github.com/authzd/authzd/mcp"
	"github.com/authzd/authzd/rar"
)

func allKinds() []string {
	return []string{
		mcp.KindScopes, mcp.KindAuthorizationDetails, mcp.KindAuthentication,
		mcp.KindProofOfPossession, mcp.KindURL, mcp.KindOutOfBand,
	}
}

func TestActionable(t *testing.T) {
	t.Parallel()
	const (
		credentials = "scopes authorization_details authentication proof_of_possession"
		both        = `{"elicitation":{"url":{}},"extensions":{"io.modelcontextprotocol/tasks":{}}}`
	)
	tests := []struct {
		name, transport, version, method, caps, want string
	}{
		{"http", "http", "2026-07-28", "tools/call", `{}`, credentials},
		{"http, everything declared", "http", "2026-07-28", "tools/call", both, credentials + " url out_of_band"},
		{"http, no capabilities given", "http", "2026-07-28", "tools/call", ``, credentials},
		{"stdio", "stdio", "2026-07-28", "tools/call", `{}`, "authorization_details"},
		{"stdio, everything declared", "stdio", "2026-07-28", "tools/call", both, "authorization_details url out_of_band"},
		{"stdio, no result for a hint", "stdio", "2026-07-28", "resources/read", both, "url"},
		{"form only", "http", "2026-07-28", "tools/call", `{"elicitation":{"form":{}}}`, credentials},
		{"empty elicitation", "http", "2026-07-28", "tools/call", `{"elicitation":{}}`, credentials},
		{"url is no object", "http", "2026-07-28", "tools/call", `{"elicitation":{"url":true}}`, credentials},
		{"legacy tasks", "http", "2026-07-28", "tools/call", `{"tasks":{"requests":{}}}`, credentials},
		{"capabilities are no object", "http", "2026-07-28", "tools/call", `["elicitation"]`, credentials},
		{"prompt", "http", "2026-07-28", "prompts/get", both, credentials + " url"},
		{"list", "http", "2026-07-28", "tools/list", both, credentials},
		{"no method", "http", "2026-07-28", "", both, credentials},
		{"2025-11-25", "http", "2025-11-25", "tools/call", both, credentials + " url"},
		{"2025-11-25 stdio", "stdio", "2025-11-25", "tools/call", both, "authorization_details url"},
		{"2025-06-18", "http", "2025-06-18", "tools/call", both, credentials},
		{"2025-06-18 stdio", "stdio", "2025-06-18", "tools/call", both, "authorization_details"},
		{"later", "stdio", "2027-02-03", "tools/call", both, "authorization_details url out_of_band"},
		{"no version", "http", "", "tools/call", both, credentials},
		{"no version stdio", "stdio", "", "tools/call", both, ""},
		{"malformed version", "stdio", "2026/07/28", "tools/call", both, ""},
		{"no transport", "", "2026-07-28", "tools/call", both, ""},
		{"unknown transport", "HTTP", "2026-07-28", "tools/call", both, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var caps rar.Value
			if tt.caps != "" {
				caps = value(t, []byte(tt.caps))
			}
			kinds := mcp.Actionable(tt.transport, tt.version, tt.method, caps)
			var got []string
			for _, kind := range allKinds() {
				if kinds.Has(kind) {
					got = append(got, kind)
				}
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("got %q, want %q", s, tt.want)
			}
			if kinds.Has("ciba") || kinds.Has("") {
				t.Error("an unknown kind is actionable")
			}
		})
	}
}

func TestKindsHasAll(t *testing.T) {
	t.Parallel()
	caps := value(t, []byte(`{"elicitation":{"url":{}},"extensions":{"io.modelcontextprotocol/tasks":{}}}`))
	http := mcp.Actionable("http", "2026-07-28", "tools/call", caps)
	stdio := mcp.Actionable("stdio", "2026-07-28", "tools/call", caps)
	tests := []struct {
		name  string
		kinds mcp.Kinds
		all   []string
		want  bool
	}{
		{"http takes all together", http, allKinds(), true},
		{"http, one unknown", http, []string{mcp.KindScopes, "ciba"}, false},
		{"stdio, details alone", stdio, []string{mcp.KindAuthorizationDetails}, true},
		{"stdio, details twice", stdio, []string{mcp.KindAuthorizationDetails, mcp.KindAuthorizationDetails}, true},
		{"stdio, details and scopes", stdio, []string{mcp.KindAuthorizationDetails, mcp.KindScopes}, false},
		{"stdio, details and a page", stdio, []string{mcp.KindAuthorizationDetails, mcp.KindURL}, false},
		{"stdio, two approvals", stdio, []string{mcp.KindURL, mcp.KindOutOfBand}, true},
		{"nothing is missing", stdio, nil, true},
		{"zero value", mcp.Kinds{}, []string{mcp.KindScopes}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.kinds.HasAll(tt.all...); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
