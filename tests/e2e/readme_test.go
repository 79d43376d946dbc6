package e2e_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// TestReadme holds the README to what the quick start's commands print. Ids,
// times and ports differ each time and are left out of the comparison.
func TestReadme(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	root := repository(t)
	blocks := regexp.MustCompile("(?s)```json\n(.*?)\n```").FindAllStringSubmatch(read(t, "README.md"), -1)
	if len(blocks) != 4 {
		t.Fatalf("README shows %d JSON blocks, want ready line, deny, allow and gRPC", len(blocks))
	}
	s := start(t, nil, "--bundle", "payments="+filepath.Join(root, "policies", "examples", "payments"))
	ready := map[string]any{"event": "ready", "http": "", "grpc": "", "revision": s.Revision}
	for i, got := range []any{
		ready,
		decoded(t, s.must(t, http.MethodPost, "/v1/check", read(t, "examples/payments/deny.json"))),
		decoded(t, s.must(t, http.MethodPost, "/v1/check", read(t, "examples/payments/allow.json"))),
		decoded(t, overGRPC(t, s.GRPC, read(t, "examples/payments/deny.grpc.json"))),
	} {
		if diff := cmp.Diff(masked(decoded(t, blocks[i][1])), masked(got)); diff != "" {
			t.Errorf("README's JSON block %d is not what the command prints (-README +printed):\n%s", i+1, diff)
		}
	}
}

func decoded(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return v
}

// decodedBytes reads JSON that protobuf's JSON mapping shows in base64; what is
// none stays as it is.
func decodedBytes(text string) any {
	data, err := base64.StdEncoding.DecodeString(text)
	var v any
	if err != nil || json.Unmarshal(data, &v) != nil {
		return text
	}
	return v
}

// masked blanks the members that differ each time.
func masked(v any) any {
	switch x := v.(type) {
	case map[string]any:
		for k := range x {
			switch k {
			case "http", "grpc":
				if _, ok := x[k].(string); ok {
					x[k] = ""
					continue
				}
			case "decision_id", "decisionId", "authorization_context_id", "authorizationContextId", "expires_at", "expiresAt":
				x[k] = ""
				continue
			case "mcpError": // bytes of JSON, in base64
				if text, ok := x[k].(string); ok {
					x[k] = decodedBytes(text)
				}
			}
			masked(x[k])
		}
	case []any:
		for _, e := range x {
			masked(e)
		}
	}
	return v
}

// overGRPC asks as grpcurl does: messages in the protobuf JSON mapping.
func overGRPC(t *testing.T, addr, query string) string {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	var req authzdv1.CheckRequest
	if err := protojson.Unmarshal([]byte(query), &req); err != nil {
		t.Fatal(err)
	}
	resp, err := authzdv1.NewDecisionServiceClient(conn).Check(t.Context(), &req)
	if err != nil {
		t.Fatal(err)
	}
	text, err := protojson.Marshal(resp)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
