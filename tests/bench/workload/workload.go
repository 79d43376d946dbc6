// Package workload is the one question that authzd and a stock OPA are
// measured with: may this agent make this MCP tool call of about 1.6 KB, judged
// on 200 tools and 20 roles, by role, tenant, actor, scopes and
// authorization_details.
//
// Data and requests are made by a seeded generator, so every machine measures
// the same bytes. Each request carries its expected answer, worked out here in
// Go and not by either engine.
//
// It is used by the benchmarks beside it and by tests/bench/run. It keeps no
// state; what New returns is read-only.
package workload

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

//go:embed authzd.rego
var authzdPolicy []byte

//go:embed opa.rego
var opaPolicy []byte

// Size of the data and the number of distinct requests.
const (
	toolCount   = 200
	roleCount   = 20
	tenantCount = 40
	// RequestCount is how many distinct requests New makes.
	RequestCount = 2000
)

// Request is one question with its answer.
type Request struct {
	// Query is the body of POST /v1/check; OPA gets it as its input.
	Query json.RawMessage
	// Allow is the answer that every engine must give.
	Allow bool
}

// Workload is data and requests that belong together.
type Workload struct {
	data     data
	queries  []*query
	Requests []Request
}

// New makes the workload, the same on every call.
func New() (*Workload, error) {
	w := &Workload{data: newData()}
	g := newGenerator(&w.data)
	for range RequestCount {
		q := g.next()
		text, err := json.Marshal(q)
		if err != nil {
			return nil, fmt.Errorf("write a request: %w", err)
		}
		w.queries = append(w.queries, q)
		w.Requests = append(w.Requests, Request{Query: text, Allow: w.data.allows(q)})
	}
	return w, nil
}

// Allowed counts the requests whose answer is allow.
func (w *Workload) Allowed() int {
	n := 0
	for i := range w.Requests {
		if w.Requests[i].Allow {
			n++
		}
	}
	return n
}

// ToolNames are the names of all tools.
func ToolNames() []string {
	names := make([]string, toolCount)
	for i := range names {
		names[i] = toolName(i)
	}
	return names
}

// WriteBundle writes the bundle for authzd into dir.
func (w *Workload) WriteBundle(dir string) error {
	manifest := map[string]any{
		"revision": "bench-1", "roots": []string{""},
		"metadata": map[string]any{"authzd": map[string]any{"contract": 1}},
	}
	return write(dir, map[string]any{".manifest": manifest, "policy.rego": authzdPolicy, "data.json": w.data.withTypes()})
}

// WriteOPA writes policy and data for a stock OPA into dir.
func (w *Workload) WriteOPA(dir string) error {
	return write(dir, map[string]any{"policy.rego": opaPolicy, "data.json": w.data})
}

// write writes files: bytes as they are, anything else as JSON.
func write(dir string, files map[string]any) error {
	for name, content := range files {
		text, ok := content.([]byte)
		if !ok {
			var err error
			if text, err = json.MarshalIndent(content, "", " "); err != nil {
				return fmt.Errorf("write %s: %w", name, err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return fmt.Errorf("write the workload: %w", err)
		}
	}
	return nil
}
