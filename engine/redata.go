package engine

import (
	"context"
	"slices"

	"github.com/authzd/authzd/engine/internal/contract"
	"github.com/authzd/authzd/rar"
)

// WithData is Compile of bundles that differ from those of s in data and revision
// at most: policy is neither parsed nor compiled again, and what the data says of it
// is judged as Compile does. Bundles that differ in more, or in what data declares
// (authzd_tools, authzd_types, authzd_indexes), are compiled. S stays as it is.
func (s *Snapshot) WithData(ctx context.Context, bundles []Bundle) (*Snapshot, []Finding, error) {
	from := s.made
	if !samePolicy(from.bundles, bundles) {
		return Compile(ctx, bundles)
	}
	data := mergeData(bundles)
	for _, root := range []string{"authzd_tools", "authzd_types", "authzd_indexes"} {
		a, _ := from.data.Get(root)
		b, _ := data.Get(root)
		if !rar.Equal(a, b) {
			return Compile(ctx, bundles)
		}
	}
	if !from.sameIndexes(data) {
		return Compile(ctx, bundles)
	}
	next := *from
	next.bundles, next.data, next.findings, next.snapshot = bundles, data, nil, nil
	next.redo(ctx, s)
	return next.result(ctx)
}

// redo makes the snapshot of other data.
func (c *compilation) redo(ctx context.Context, from *Snapshot) {
	for i := range c.bundles {
		c.add(checkData(&c.bundles[i])...)
	}
	for _, f := range c.analysis.Findings() {
		if f.Severity == contract.Warning {
			c.addJudged([]contract.Finding{f})
		}
	}
	c.addJudged(c.analysis.CheckData(c.data))
	c.warnLax(c.settings[c.main])
	c.checkPublicData()
	if c.failed || ctx.Err() != nil {
		return
	}
	c.suggestIndexes(from.eval.topdown.written)
	eval, err := from.eval.topdown.withData(ctx, c.data)
	if err != nil {
		c.fault(CodePolicyCompile, c.bundles[c.main].Name, "%v", err)
		return
	}
	s := &Snapshot{
		untypedTools: from.untypedTools, declared: from.declared, types: from.types, tools: from.tools,
		asks: from.asks, disclosable: from.disclosable,
		eval: newEvaluation(eval, packageRef(c.settings[c.main].entrypoint), c.data),
	}
	s.eval.inherit(from.eval)
	if slices.ContainsFunc(c.settings, func(s settings) bool { return len(s.publicData) > 0 }) {
		s.disclosable = c.disclosable(s.types)
	}
	c.finish(s, eval)
}

// samePolicy tells whether bundles differ in data and revision alone.
func samePolicy(a, b []Bundle) bool {
	return slices.EqualFunc(a, b, func(x, y Bundle) bool {
		return x.Name == y.Name && slices.Equal(x.Roots, y.Roots) && slices.Equal(x.Modules, y.Modules) && rar.Equal(x.Metadata, y.Metadata)
	})
}

// WritableData are the paths of data, member by member, that the manifest of b lets
// be changed without a signature (metadata.authzd.writable_data): these documents, and
// all that lies below them.
func (b *Bundle) WritableData() [][]string {
	s, found := readSettings(b)
	if len(found) > 0 {
		return nil
	}
	paths := make([][]string, len(s.writableData))
	for i, path := range s.writableData {
		paths[i] = dataNames(path)
	}
	return paths
}
