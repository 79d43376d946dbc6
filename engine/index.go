package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/authzd/authzd/engine/internal/base"
	"github.com/authzd/authzd/engine/internal/contract"
	"github.com/authzd/authzd/engine/internal/narrow"
	"github.com/authzd/authzd/rar"
)

// Codes of declared indexes.
const (
	// CodeBundleIndexInvalid refuses a declaration of data.authzd_indexes, or policy that
	// reads what the engine makes of them.
	CodeBundleIndexInvalid Code = "bundle.index_invalid"
	// CodeBundleIndexSuggested warns of a rule that walks through a large document for
	// rows with one value of a member.
	CodeBundleIndexSuggested Code = "bundle.index_suggested"
)

const (
	indexesRoot = "authzd_indexes"
	// maxIndexes is how many members of documents may be declared in all.
	maxIndexes = 32
)

// readIndexes reads data.authzd_indexes: by which members rows of documents are looked up.
func (c *compilation) readIndexes() {
	doc, _ := c.data.Get(indexesRoot)
	if k := doc.Kind(); k != rar.Absent && k != rar.Object {
		c.fault(CodeBundleIndexInvalid, indexesRoot, "data.authzd_indexes must be an object of arrays of members, by the paths of documents")
		return
	}
	c.indexes = nil
	n := 0
	for i := range doc.Len() {
		name, list := doc.Member(i).Name, doc.Member(i).Value
		d, why := c.readIndex(name, list)
		if n += len(d.Members); why == "" && n > maxIndexes {
			why = fmt.Sprintf("there may be %d indexes in all", maxIndexes)
		}
		if why != "" {
			c.fault(CodeBundleIndexInvalid, indexesRoot+"/"+name, "index of %q: %s", name, why)
			continue
		}
		c.indexes = append(c.indexes, d)
	}
}

// readIndex reads one declaration; why says what is wrong with it.
func (c *compilation) readIndex(name string, list rar.Value) (d narrow.Document, why string) {
	d.Path = strings.Split(name, "/")
	members, ok := stringList(list)
	switch {
	case slices.Contains(d.Path, "") || reservedRoot(d.Path[0]) || strings.HasPrefix(d.Path[0], "authzd_"):
		return d, "it is not the path of a document below a root that is not reserved, such as \"org/teams\""
	case !slices.ContainsFunc(c.bundles, func(b Bundle) bool { return inRoots(b.Roots, name) }):
		return d, "it is outside the roots of the bundles"
	case !ok || len(members) == 0 || slices.Contains(members, ""):
		return d, "it must be an array of names of members, such as [\"user\"]"
	}
	for i, m := range members {
		if base.Positional(m) {
			return d, fmt.Sprintf("member %q looks like a number, which would also be the place of an element", m)
		}
		if slices.Contains(members[:i], m) {
			return d, fmt.Sprintf("member %q is there twice", m)
		}
	}
	switch k := lookPath(c.data, d.Path).Kind(); k {
	case rar.Array, rar.Object:
		d.Array = k == rar.Array
	case rar.Absent:
		return d, "there is no such document in data"
	case rar.Null, rar.Bool, rar.Number, rar.String:
		return d, fmt.Sprintf("the document must be an array or an object, not a %s", k)
	}
	d.Members = members
	return d, ""
}

func lookPath(v rar.Value, path []string) rar.Value {
	for _, name := range path {
		v, _ = v.Get(name)
	}
	return v
}

// sameIndexes tells whether policy that looks rows up in the documents of c does so in
// those of data: the keys of arrays and objects are not the same.
func (c *compilation) sameIndexes(data rar.Value) bool {
	return !slices.ContainsFunc(c.indexes, func(d narrow.Document) bool {
		kind := rar.Object
		if d.Array {
			kind = rar.Array
		}
		return lookPath(data, d.Path).Kind() != kind
	})
}

// checkIndexReads refuses policy that names what only the engine reads.
func (c *compilation) checkIndexReads(compiler *ast.Compiler) {
	root := ast.DefaultRootRef.Append(ast.StringTerm(base.IndexRoot))
	for key, m := range compiler.Modules {
		ast.WalkRefs(m, func(ref ast.Ref) bool {
			if ref.HasPrefix(root) {
				f := Finding{Code: CodeBundleIndexInvalid, Severity: SeverityError, File: key, Message: "policy may not read data.authzd_index: read the document that is indexed"}
				if l := ref[0].Location; l != nil {
					f.Row, f.Col = l.Row, l.Col
				}
				c.add(f)
			}
			return false
		})
	}
}

// suggestIndexes warns of rules that walk through a large document, and would not if it had
// an index.
func (c *compilation) suggestIndexes(compiler *ast.Compiler) {
	if !c.data.HasPacked() {
		return
	}
	found := narrow.Find(compiler, func(path []string) *narrow.Document {
		v := lookPath(c.data, path)
		if !v.Packed() || reservedRoot(path[0]) || strings.HasPrefix(path[0], "authzd_") ||
			slices.ContainsFunc(c.indexes, func(d narrow.Document) bool { return slices.Equal(d.Path, path) }) {
			return nil
		}
		return &narrow.Document{Path: path, Array: v.Kind() == rar.Array}
	})
	for _, p := range found {
		name := strings.Join(p.Path, "/")
		c.add(Finding{
			Code: CodeBundleIndexSuggested, Severity: SeverityWarning, File: p.File, Row: p.Row, Col: p.Col, Rule: p.Rule,
			Message: fmt.Sprintf("data.%s is large, and walked through for rows by %q: declare data.authzd_indexes = {%q: [%q]}", strings.Join(p.Path, "."), p.Member, name, p.Member),
		})
	}
}

// lookingUp compiles modules once more, with look-ups in place of iterations over
// documents; nil if there are none, or it can not be: then all is as written.
func lookingUp(modules map[string]*ast.Module, documents []narrow.Document) (*ast.Compiler, []narrow.Document) {
	if len(documents) == 0 {
		return nil, nil
	}
	var places []narrow.Place
	compiler := ast.NewCompiler().WithCapabilities(contract.Capabilities()).WithStageAfterID(ast.StageBuildComprehensionIndices, ast.CompilerStageDefinition{
		Name: "Narrow", MetricName: "authzd_narrow",
		Stage: func(c *ast.Compiler) *ast.Error {
			places = narrow.Rewrite(c, documents)
			return nil
		},
	})
	if compiler.Compile(modules); compiler.Failed() || len(places) == 0 {
		return nil, nil
	}
	return compiler, used(documents, places)
}

// used are the documents and members that are looked up.
func used(documents []narrow.Document, places []narrow.Place) []narrow.Document {
	members := map[string]map[string]bool{}
	for _, p := range places {
		name := strings.Join(p.Path, "/")
		if members[name] == nil {
			members[name] = map[string]bool{}
		}
		members[name][p.Member] = true
	}
	var out []narrow.Document
	for _, d := range documents {
		if m := members[d.Name()]; m != nil {
			d.Members = slices.Sorted(maps.Keys(m))
			out = append(out, d)
		}
	}
	return out
}

// indexBuiltins is what evaluates the builtin that policy can not name.
func indexBuiltins() map[string]*topdown.Builtin {
	return map[string]*topdown.Builtin{narrow.KeyBuiltin: {
		Decl: narrow.Declaration(),
		Func: func(_ topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
			key, ok := narrow.Key(operands[0].Value)
			if !ok {
				// Without a value there is no answer, least of all that there are no rows.
				return topdown.Halt{Err: fmt.Errorf("%s of what is not known", narrow.KeyBuiltin)}
			}
			return iter(ast.NewTerm(key))
		},
	}}
}

// lookUps is what look-ups are made of: the modules as parsed, and the documents that may be
// looked into. Its zero value has none.
type lookUps struct {
	modules   map[string]*ast.Module
	documents []narrow.Document
}

// lookUp has t look rows up by what is declared, where its policy lets it.
func (t *topdownEvaluator) lookUp(l lookUps) {
	if compiler, used := lookingUp(l.modules, l.documents); compiler != nil {
		t.compiler, t.indexes, t.builtins = compiler, used, indexBuiltins()
	}
}

// index has documents be indexed as t needs it.
func (t *topdownEvaluator) index(ctx context.Context, documents *base.Store) error {
	for _, d := range t.indexes {
		if err := documents.Index(ctx, d.Path, d.Members); err != nil {
			return fmt.Errorf("open the data: %w", err)
		}
	}
	return nil
}
