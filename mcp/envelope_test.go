package mcp_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/authzd/authzd/mcp"
)

type envelopeVector struct {
	vectorHead
	Given struct {
		Envelope json.RawMessage `json:"envelope"`
	} `json:"given"`
	Expect struct {
		Valid   bool   `json:"valid"`
		Problem string `json:"problem"`
		Path    string `json:"path"`
	} `json:"expect"`
}

func TestValidateEnvelopeVectors(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"envelope.json", "own-envelope.json"} {
		for _, v := range load[envelopeVector](t, file, "mcp-envelope/1") {
			t.Run(file+"/"+v.Name, func(t *testing.T) {
				t.Parallel()
				err := mcp.ValidateEnvelope(value(t, v.Given.Envelope))
				if v.Expect.Valid {
					if err != nil {
						t.Errorf("refused: %v; why: %s", err, v.Why)
					}
					return
				}
				var e *mcp.Error
				if !errors.As(err, &e) || e.Code != mcp.CodeEnvelopeInvalid {
					t.Fatalf("got %v, want %s", err, mcp.CodeEnvelopeInvalid)
				}
				// The cause is the problem, in the words of the vectors.
				if got := e.Err.Error(); got != v.Expect.Problem {
					t.Errorf("problem %q, want %q", got, v.Expect.Problem)
				}
				if v.Expect.Path != "" && e.Path != v.Expect.Path {
					t.Errorf("path %q, want %q", e.Path, v.Expect.Path)
				}
			})
		}
	}
}
