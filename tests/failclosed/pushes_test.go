package failclosed_test

import (
	"cmp"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// pushFile is pushes/pushes.json.
type pushFile struct {
	// Query is allowed by both bundles, Trap by next alone.
	Query  json.RawMessage `json:"query"`
	Trap   json.RawMessage `json:"trap"`
	Pushes []push          `json:"pushes"`
}

// push is a change of the archive of pushes/next that makes it one to refuse.
type push struct {
	Name string `json:"name"`
	Why  string `json:"why"`
	// Codes are what refuses it; one of them is enough, since where a flipped bit
	// is noticed depends on what it hits.
	Codes []string `json:"codes"`
	Edits []edit   `json:"edits,omitempty"`
	Seal  seal     `json:"seal,omitzero"`
	// As is the name that it is pushed under; default main.
	As string `json:"as,omitempty"`
}

// TestNoWrongPush: an archive with a fault is refused with a code at both doors,
// and what was active decides on, also after a restart. The same archive without
// the fault would allow more, and in the end it does.
func TestNoWrongPush(t *testing.T) {
	t.Parallel()
	authzd := os.Getenv(binaryVariable)
	if testing.Short() || authzd == "" {
		t.Skip("runs the binary")
	}
	data, err := os.ReadFile("pushes/pushes.json")
	if err != nil {
		t.Fatal(err)
	}
	var file pushFile
	decodeStrict(t, "pushes.json", data, &file)
	keys, dir := newKeyring(t), t.TempDir()
	public := filepath.Join(dir, "release.pem")
	if err := os.WriteFile(public, keys.publicPEM(t), 0o600); err != nil {
		t.Fatal(err)
	}
	serve := []string{"--data-dir", filepath.Join(dir, "data"), "--bundle-key", "release=" + public, "--bundle-scope", "failclosed"}
	good, next := readEntries(t, "pushes/good"), readEntries(t, "pushes/next")

	d, stop := startBinary(t, authzd, serve...)
	if got := d.pushREST(t, "main", keys.archive(t, good, seal{}, nil)); got.code != "" {
		t.Fatalf("the good bundle is refused: %v", got)
	}
	file.stands(t, d, "good", "5", "DENY")
	for _, p := range file.Pushes {
		for _, edits := range eachPlace(p.Edits) {
			archive, name := keys.archive(t, next, p.Seal, edits), cmp.Or(p.As, "main")
			for door, got := range map[string]outcome{"REST": d.pushREST(t, name, archive), "gRPC": d.pushGRPC(t, name, archive)} {
				if !slices.Contains(p.Codes, got.code) {
					t.Errorf("%s %v: %s answers %v, want one of %v (%s)", p.Name, edits, door, got, p.Codes, p.Why)
				}
			}
			file.stands(t, d, p.Name, "5", "DENY")
		}
	}
	stop()
	d, _ = startBinary(t, authzd, serve...)
	file.stands(t, d, "restart", "5", "DENY")
	if got := d.pushGRPC(t, "main", keys.archive(t, next, seal{}, nil)); got.code != "" {
		t.Fatalf("the next bundle is refused, so that its mutants say nothing: %v", got)
	}
	file.stands(t, d, "next", "6", "ALLOW")
}

// stands says which revision decides: it allows the query, and answers the trap so.
func (f pushFile) stands(t *testing.T, d *doors, after, revision, trap string) {
	t.Helper()
	for _, c := range []baseQuery{{Want: trap, Query: f.Trap}, {Want: "ALLOW", Query: f.Query}} {
		ok, body, err := d.Send(t.Context(), http.MethodPost, checkPath, c.Query)
		if err != nil {
			t.Fatal(err)
		}
		got := outcomeOf(t, ok, body)
		answer, err := parse(body)
		if err != nil {
			t.Fatal(err)
		}
		if got.decision == "ALLOW" && !c.mayAllow() {
			t.Errorf("WRONG ALLOW after %s: %s", after, body)
		}
		if !c.meets(got) && got.code != tooSlow || !answer.get("policy", "revision").is(revision) {
			t.Fatalf("after %s: want %s by revision %s, got %s", after, c.Want, revision, body)
		}
	}
}

// pushREST puts an archive and activates it: OK, or the code that refuses it.
func (d *doors) pushREST(t *testing.T, name string, archive []byte) outcome {
	t.Helper()
	ok, body, err := d.Send(t.Context(), http.MethodPut, "/v1/bundles/"+name+"?activate=true", archive)
	if err != nil {
		t.Fatal(err)
	}
	if ok {
		return outcome{"OK", ""}
	}
	return outcomeOf(t, false, body)
}

func (d *doors) pushGRPC(t *testing.T, name string, archive []byte) outcome {
	t.Helper()
	stream, err := d.pushes.PushBundle(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// A server that has refused already takes no more; why is in its answer.
	_ = stream.Send(&authzdv1.PushBundleRequest{Part: &authzdv1.PushBundleRequest_Options{
		Options: &authzdv1.PushBundleOptions{Name: name, Activate: true},
	}})
	_ = stream.Send(&authzdv1.PushBundleRequest{Part: &authzdv1.PushBundleRequest_Chunk{Chunk: archive}})
	if _, err := stream.CloseAndRecv(); err != nil {
		return outcome{"ERROR", codeOfStatus(t, err)}
	}
	return outcome{"OK", ""}
}
