package engine

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/rar"
)

// terms builds values of topdown.
type terms struct{ words *vocabulary }

// pairs is an object of terms in the making.
type pairs [][2]*ast.Term

func (t terms) word(w word) *ast.Term { return t.words.fixed[w] }

func (t terms) text(s string) *ast.Term { return t.words.text(s) }

func (t terms) texts(list []string) *ast.Term {
	elements := make([]*ast.Term, len(list))
	for i, s := range list {
		elements[i] = t.words.text(s)
	}
	return ast.ArrayTerm(elements...)
}

func (terms) boolean(b bool) *ast.Term { return ast.InternedTerm(b) }

func (terms) array(elements []*ast.Term) *ast.Term { return ast.ArrayTerm(elements...) }

func (t terms) json(v rar.Value) *ast.Term { return t.words.term(v) }

func (terms) object(size int) pairs { return make(pairs, 0, size) }

func (t terms) set(o pairs, name word, v *ast.Term) pairs {
	return append(o, [2]*ast.Term{t.words.fixed[name], v})
}

func (t terms) setText(o pairs, name string, v *ast.Term) pairs {
	return append(o, [2]*ast.Term{t.words.text(name), v})
}

func (terms) close(o pairs) *ast.Term {
	if len(o) == 0 {
		return ast.InternedEmptyObject
	}
	return ast.NewTerm(ast.NewObject(o...))
}

// document is the input document for topdown.
func (in *input) document(words *vocabulary) ast.Value {
	return documentOf[*ast.Term, pairs](in, terms{words}).Value
}
