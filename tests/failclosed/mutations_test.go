package failclosed_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

// summary is mutations.json or calls.json of a suite. It pins the generated queries: a change
// of the mutations or of an oracle shows up there, to be reviewed.
type summary struct {
	Queries  int    `json:"queries"`
	MayAllow int    `json:"may_allow"`
	SHA256   string `json:"sha256"`
}

// checkSummary holds what was generated for s, of a kind, against its KIND.json. With
// -update it writes that file; with -emit DIR it writes what was generated, for other
// engines: DIR/SUITE.KIND.jsonl, one object a line.
func checkSummary(t *testing.T, s suite, kind string, all []testCase) {
	t.Helper()
	var lines bytes.Buffer
	encoder := json.NewEncoder(&lines)
	got := summary{Queries: len(all)}
	for _, c := range all {
		if c.MayAllow {
			got.MayAllow++
		}
		if err := encoder.Encode(c); err != nil {
			t.Fatal(err)
		}
	}
	hash := sha256.Sum256(lines.Bytes())
	got.SHA256 = hex.EncodeToString(hash[:])
	if dir := flag.Lookup("emit").Value.String(); dir != "" {
		writeFile(t, filepath.Join(dir, s.name+"."+kind+".jsonl"), lines.Bytes())
	}
	name := filepath.Join(s.dir, kind+".json")
	if flag.Lookup("update").Value.String() == "true" {
		text, err := json.MarshalIndent(got, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, name, append(text, '\n'))
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var want summary
	decodeStrict(t, name, data, &want)
	if got != want {
		t.Errorf("got %+v, %s says %+v: review the change, then run with -update", got, name, want)
	}
}

func writeFile(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
