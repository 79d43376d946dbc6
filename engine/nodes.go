package engine

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/engine/internal/compiled"
	"github.com/authzd/authzd/rar"
)

// nodes builds values of the compiled evaluator.
type nodes struct {
	in    *compiled.Input
	names *[wordCount]compiled.Name
}

func (n nodes) word(w word) compiled.Value { return n.names[w].Value() }

func (n nodes) text(s string) compiled.Value { return n.in.Text(s) }

func (n nodes) texts(list []string) compiled.Value { return n.in.Texts(list) }

func (n nodes) boolean(b bool) compiled.Value { return n.in.Bool(b) }

func (n nodes) array(elements []compiled.Value) compiled.Value { return n.in.Array(elements...) }

func (n nodes) json(v rar.Value) compiled.Value { return n.in.JSON(v) }

func (n nodes) object(size int) compiled.Object { return n.in.Object(size) }

func (n nodes) set(o compiled.Object, name word, v compiled.Value) compiled.Object {
	o.Add(n.names[name], v)
	return o
}

func (n nodes) setText(o compiled.Object, name string, v compiled.Value) compiled.Object {
	o.SetText(name, v)
	return o
}

func (nodes) close(o compiled.Object) compiled.Value { return o.Value() }

// program is a policy as package compiled evaluates it.
type program struct {
	code  *compiled.Program
	names [wordCount]compiled.Name
	// documents are the places of permit, forbid, allow and deny among the results;
	// -1 if the policy has none.
	documents [4]int
}

// newProgram compiles the documents that t asks for, of policy as it is written: it knows no
// indexes, and leaves what walks through large documents to t. An error is a
// *compiled.RefusalError, or the context's.
func newProgram(ctx context.Context, t *topdownEvaluator, entrypoint ast.Ref, documents [4]string, data rar.Value) (*program, error) {
	p := &program{}
	var refs []ast.Ref
	for i, name := range documents {
		p.documents[i] = -1
		if ref := entrypoint.Append(ast.StringTerm(name)); name != "" && ruleExists(t.written.RuleTree, ref) {
			p.documents[i] = len(refs)
			refs = append(refs, ref)
		}
	}
	var err error
	if p.code, err = compiled.Compile(ctx, compiled.Options{Compiler: t.written, Documents: refs, Data: data}); err != nil {
		return nil, err //nolint:wrapcheck // says what is not supported
	}
	for i, text := range wordTexts() {
		p.names[i] = p.code.Name(text)
	}
	return p, nil
}

// evaluate answers as topdown would, or says that topdown must be asked. An account
// that is not nil is told what rules came out as.
func (p *program) evaluate(ctx context.Context, in *input, to *account) (output, *compiled.HandoverError) {
	doc := p.code.NewInput()
	defer doc.Release()
	value := documentOf[compiled.Value, compiled.Object](in, nodes{doc, &p.names})
	out, handover := p.eval(ctx, doc, value, in.now, &seed{id: in.decisionID})
	if to != nil && handover == nil {
		to.outcomes = doc.Outcomes()
	}
	return out, handover
}

func (p *program) eval(ctx context.Context, doc *compiled.Input, value compiled.Value, now time.Time, random io.Reader) (output, *compiled.HandoverError) {
	results, err := doc.Eval(ctx, value, now, random)
	if err != nil {
		var handover *compiled.HandoverError
		if !errors.As(err, &handover) {
			handover = &compiled.HandoverError{Reason: compiled.Failed, Err: err}
		}
		return output{}, handover
	}
	var docs [4]document
	for i, at := range p.documents {
		if at < 0 {
			continue
		}
		if at >= len(results) {
			return output{}, &compiled.HandoverError{Reason: compiled.Failed, Err: errors.New("a document has no result")}
		}
		if r := &results[at]; r.Defined {
			docs[i] = document{value: r.Value, set: r.Set}
		}
	}
	return output{permit: docs[0], forbid: docs[1], allow: docs[2], deny: docs[3]}, nil
}
