package failclosed_test

// The library form of authzd is what these tests import: packages engine and
// bundles decide, api.DecodeQuery reads the JSON that every other door reads.
// (Elsewhere below tests only the binary and proto/gen are in sight.)

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/mcp"
)

// outcome is what any interface answers. Code is set for ERROR, and for a DENY
// whose cause is a fault of call or policy.
type outcome struct{ decision, code string }

// compile loads the bundle in dir.
func compile(ctx context.Context, dir string) (*engine.Snapshot, error) {
	content, err := bundles.Open(dir, bundles.Limits{})
	if err != nil {
		return nil, err
	}
	content.Bundle.Name = "main"
	s, _, err := engine.Compile(ctx, []engine.Bundle{content.Bundle})
	return s, err
}

// openLibrary is an engine with the bundle of dir live.
func openLibrary(t testing.TB, dir string) *engine.Engine {
	t.Helper()
	s, err := compile(t.Context(), dir)
	if err != nil {
		t.Fatalf("compile %s: %v", dir, err)
	}
	// A busy machine must not make a deny of an allow.
	e := engine.New(engine.Options{Budget: time.Minute})
	e.Swap(s)
	return e
}

// askLibrary decides one query text. An allow together with an error would be
// a fault of its own.
func askLibrary(t testing.TB, e *engine.Engine, query []byte) outcome {
	t.Helper()
	r, err := api.DecodeQuery(query, api.Limits{})
	if err != nil {
		return outcome{"ERROR", codeOf(t, err)}
	}
	d, err := e.Decide(t.Context(), r.Query)
	if err != nil {
		if d.Allow {
			t.Errorf("allow and error: %v", err)
		}
		return outcome{"ERROR", codeOf(t, err)}
	}
	if d.Allow {
		return outcome{"ALLOW", ""}
	}
	if d.Error != nil {
		return outcome{"DENY", string(d.Error.Code)}
	}
	return outcome{"DENY", ""}
}

// codeOf is the code of an error; one without is a fault.
func codeOf(t testing.TB, err error) string {
	t.Helper()
	var ofAPI *api.Error
	var ofEngine *engine.Error
	var ofMCP *mcp.Error
	switch {
	case errors.As(err, &ofAPI):
		return string(ofAPI.Code)
	case errors.As(err, &ofEngine):
		return string(ofEngine.Code)
	case errors.As(err, &ofMCP):
		return string(ofMCP.Code)
	}
	t.Errorf("an error without a code: %v", err)
	return ""
}
