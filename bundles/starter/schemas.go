package starter

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

const toolsRoot = "authzd_tools"

// declare keeps the schemas that the engine accepts, and looks for arguments
// that fit each.
func (b *Bundle) declare(ctx context.Context) error {
	for i := range b.Tools {
		p := &b.Tools[i]
		if p.schema.Kind() == rar.Absent {
			if p.Group != Doubtful {
				b.refuse(p, "there is none, or it is too large or nests too deep")
			}
			continue
		}
		if len(p.schema.AppendJSON(nil)) > MaxSchemaBytes {
			b.refuse(p, fmt.Sprintf("larger than %d bytes", MaxSchemaBytes))
		}
		if n, lossy := beyondDoubles(p.schema); lossy {
			b.warn("the schema of tool %s holds %s, which may have been another number when it was sent", quote(p.Name), oneLine(n))
		}
	}
	snapshot, err := b.compile(ctx)
	if err != nil {
		return err
	}
	e := engine.New(engine.Options{})
	e.Swap(snapshot)
	for i := range b.Tools {
		if err := b.Tools[i].probe(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// compile compiles all schemas beside a policy that permits every call. Those
// that are refused are taken back, and the others are compiled again.
func (b *Bundle) compile(ctx context.Context) (*engine.Snapshot, error) {
	for {
		snapshot, _, err := engine.Compile(ctx, []engine.Bundle{{
			Name: "trial", Roots: []string{"authz", toolsRoot},
			Metadata: rar.ObjectValue(rar.Member{Name: "contract", Value: rar.IntValue(engine.ContractVersion)}),
			Modules:  []engine.Module{{Path: "policy.rego", Text: "package authz\n\npermit[\"call\"] := {} if input.action.name == \"tools/call\"\n"}},
			Data:     rar.ObjectValue(rar.Member{Name: toolsRoot, Value: b.tools()}),
		}})
		if err == nil {
			return snapshot, nil
		}
		var refused *engine.CompileError
		if !errors.As(err, &refused) || !b.refuseAll(refused.Findings) {
			return nil, fmt.Errorf("compile the schemas: %w", err)
		}
	}
}

// refuseAll takes back the schemas that findings are about; false if there is
// none.
func (b *Bundle) refuseAll(findings []engine.Finding) bool {
	found := false
	for _, f := range findings {
		name, isTool := strings.CutPrefix(f.File, toolsRoot+"/")
		if f.Code != engine.CodeBundleToolInvalid || !isTool {
			continue
		}
		for i := range b.Tools {
			if p := &b.Tools[i]; p.Name == name && p.schema.Kind() != rar.Absent {
				_, why, _ := strings.Cut(f.Message, "schema of tool ")
				why = strings.TrimPrefix(why, fmt.Sprintf("%q: ", name))
				b.refuse(p, why)
				found = true
			}
		}
	}
	return found
}

// tools is data.authzd_tools.
func (b *Bundle) tools() rar.Value {
	var members []rar.Member
	for _, p := range b.Tools {
		if p.schema.Kind() != rar.Absent {
			members = append(members, rar.Member{
				Name:  p.Name,
				Value: rar.ObjectValue(rar.Member{Name: "arguments", Value: p.schema}),
			})
		}
	}
	return rar.ObjectValue(members...)
}

// undeclared is an argument that no tool has.
const undeclared = "authzd-init-undeclared"

// probe asks the engine whether the sample fits, and whether the schema is
// closed.
func (p *Placed) probe(ctx context.Context, e *engine.Engine) error {
	if p.schema.Kind() == rar.Absent {
		return nil
	}
	sample := sampleOf(p.schema)
	if sample.Kind() != rar.Object || len(sample.AppendJSON(nil)) > maxSampleBytes {
		return nil
	}
	fits, err := fit(ctx, e, p.Name, sample)
	if err != nil || !fits {
		return err
	}
	p.sample = sample
	fits, err = fit(ctx, e, p.Name, with(sample, undeclared, rar.BoolValue(true)))
	p.closed = !fits
	return err
}

func fit(ctx context.Context, e *engine.Engine, name string, arguments rar.Value) (bool, error) {
	d, err := e.Decide(ctx, &engine.Query{
		Subject:  &engine.Subject{Type: "identity", ID: "alice"},
		Action:   engine.Action{Name: callMethod},
		Resource: engine.Resource{Type: "tool", ID: name},
		MCP: &engine.MCP{Method: callMethod, Params: rar.ObjectValue(
			rar.Member{Name: "name", Value: rar.StringValue(name)},
			rar.Member{Name: "arguments", Value: arguments},
		)},
	})
	if err != nil {
		return false, fmt.Errorf("try arguments of tool %s: %w", quote(name), err)
	}
	return d.Allow, nil
}

const callMethod = "tools/call"

func with(v rar.Value, name string, to rar.Value) rar.Value {
	members := make([]rar.Member, 0, v.Len()+1)
	for i := range v.Len() {
		members = append(members, v.Member(i))
	}
	return rar.ObjectValue(append(members, rar.Member{Name: name, Value: to})...)
}
