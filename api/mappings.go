package api

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/mcp"
	"github.com/authzd/authzd/rar"
)

// mappingPath is where a query holds the mapping that the called tool declares.
const mappingPath = "/mcp/tool/inputSchema/x-authzen-mapping"

// asker says how an MCP message becomes a question. The zero value admits the
// methods of COAZ-MCP only.
type asker struct {
	extraMethods bool
	// compiled keeps mappings; nil: each is compiled anew.
	compiled *mappings
}

func (s *Server) asker() asker {
	return asker{extraMethods: !s.opts.StrictMethods, compiled: s.mappings}
}

// declared gives the mapping that the called tool declares, null and malformed
// ones too.
func (p *parts) declared() (rar.Value, bool) {
	if p.mcp == nil || p.mcp.Method != methodToolsCall {
		return rar.Value{}, false
	}
	schema, _ := p.mcp.Tool.Get("inputSchema")
	return mcp.DeclaredMapping(schema)
}

// mapping evaluates v when the engine asks for it: once it is known whom the
// credentials name, and what policy admits.
func (a asker) mapping(v rar.Value) engine.Mapping {
	return func(ctx context.Context, in engine.MappingInput) (engine.Mapped, error) {
		if in.Mode != engine.VerifiedSubject && in.Mode != engine.AnySubject {
			return engine.Mapped{}, &mcp.Error{
				Code: mcp.CodeMappingUnsupported, Path: "/mcp", Err: errors.New("the tool declares a mapping of its own, which policy does not admit"),
			}
		}
		m, err := a.compiled.get(v)
		if err != nil {
			return engine.Mapped{}, mapError(err, mappingPath)
		}
		asked, err := m.Evaluate(ctx, in.Params, mcp.MappingOptions{
			Token: in.Claims, SubjectID: in.SubjectID, Strict: in.Mode == engine.VerifiedSubject,
		})
		if err != nil {
			return engine.Mapped{}, mapError(err, mappingPath)
		}
		return mapped(&asked), nil
	}
}

func mapped(a *mcp.Asked) engine.Mapped {
	out := engine.Mapped{Subject: engine.Subject{Type: a.Subject.Type, ID: a.Subject.ID, Properties: a.Subject.Properties}}
	for _, e := range a.Evaluations {
		out.Evaluations = append(out.Evaluations, engine.MappedEvaluation{
			Action:   engine.Action{Name: e.Action, Properties: e.ActionProperties},
			Resource: engine.Resource{Type: e.Resource.Type, ID: e.Resource.ID, Properties: e.Resource.Properties},
			Context:  e.Context,
		})
	}
	return out
}

// maxMappings bounds the compiled mappings that are kept, some 100 KiB each.
const maxMappings = 128

// mappings keeps compiled mappings, and the faults of malformed ones, by the
// digest of their content.
type mappings struct {
	// warn is told of each mapping when it is compiled.
	warn func(*mcp.Mapping)

	mu       sync.Mutex
	byDigest map[string]compiledMapping
}

type compiledMapping struct {
	mapping *mcp.Mapping
	err     error
}

func newMappings(warn func(*mcp.Mapping)) *mappings {
	return &mappings{warn: warn, byDigest: map[string]compiledMapping{}}
}

// get compiles v unless it is at hand. Two calls may compile the same mapping at
// once; none waits for another's.
func (m *mappings) get(v rar.Value) (*mcp.Mapping, error) {
	if m == nil {
		return mcp.CompileMapping(v) //nolint:wrapcheck // an *mcp.Error, placed by the caller
	}
	digest := mcp.MappingDigest(v)
	m.mu.Lock()
	c, ok := m.byDigest[digest]
	m.mu.Unlock()
	if ok {
		return c.mapping, c.err
	}
	if c.mapping, c.err = mcp.CompileMapping(v); c.err == nil {
		m.warn(c.mapping)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.byDigest) >= maxMappings {
		clear(m.byDigest)
	}
	m.byDigest[digest] = c
	return c.mapping, c.err
}

// warnMapping logs what looks mistaken in a mapping: kinds and places, for whose
// sake nothing is refused.
func (s *Server) warnMapping(m *mcp.Mapping) {
	for _, w := range m.Warnings() {
		s.log.LogAttrs(context.Background(), slog.LevelWarn, "a declared mapping looks mistaken",
			slog.String("mapping", m.Digest()), slog.String("kind", string(w.Kind)), slog.String("path", clipText(w.Path)))
	}
}

func clipText(s string) string {
	if len(s) > maxLogged {
		return s[:maxLogged]
	}
	return s
}

const maxLogged = 256
