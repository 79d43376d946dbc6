package engine

import (
	"context"
	"maps"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/authzd/authzd/engine/internal/contract"
	"github.com/authzd/authzd/engine/internal/weaken"
	"github.com/authzd/authzd/rar"
)

// filter is a snapshot's policy without what depends on arguments (package
// engine/internal/weaken), and what it has answered lately.
type filter struct {
	// eval is nil if the weaker policy could not be made: then every tool may be
	// possible. It shares the snapshot's data.
	eval      *topdownEvaluator
	words     *vocabulary
	readsTime bool
	cache     filterCache
}

// lazyFilter is a filter that is made once, when it is wanted.
type lazyFilter struct {
	once sync.Once
	from func() *filter
	made *filter
	done chan struct{}
}

func newLazyFilter(from func() *filter) *lazyFilter {
	return &lazyFilter{from: from, done: make(chan struct{})}
}

// make makes it in this goroutine, or waits for who does.
func (l *lazyFilter) make() {
	l.once.Do(func() {
		l.made, l.from = l.from(), nil // which would keep the modules
		close(l.done)
	})
}

// get waits no longer than ctx. The goroutine ends when the filter is made.
func (l *lazyFilter) get(ctx context.Context) (*filter, error) {
	select {
	case <-l.done:
		return l.made, nil
	default:
	}
	go l.make()
	select {
	case <-l.done:
		return l.made, nil
	case <-ctx.Done():
		return nil, contextError(ctx)
	}
}

// filterModule is the key of the weaker policy among the modules; a path of a
// bundle has no NUL.
const filterModule = "\x00filter"

// newFilter compiles the weaker policy beside the one it was made of, which it
// looks at where it does not depend on arguments. It is not part of what a
// bundle has to pass: what can not be weakened hides nothing.
func newFilter(modules map[string]*ast.Module, eval *topdownEvaluator, entrypoint ast.Ref) *filter {
	weaker := weaken.Make(eval.written, entrypoint)
	f := &filter{readsTime: weaker.ReadsTime, words: eval.words}
	all := maps.Clone(modules)
	all[filterModule] = weaker.Module
	compiler := ast.NewCompiler().WithCapabilities(contract.Capabilities())
	if compiler.Compile(all); compiler.Failed() {
		return f
	}
	t := &topdownEvaluator{compiler: compiler, written: compiler, store: eval.store, txn: eval.txn, words: eval.words}
	t.lookUp(lookUps{all, eval.indexes}) // by what the store has, no more
	if len(weaker.Module.Rules) > 0 {
		if err := t.prepare(packageRef(weaken.Package), [4]string{weaken.Permits, weaken.Forbids}); err != nil {
			return f
		}
	}
	f.eval = t
	return f
}

// holding are the permits and forbids of the weaker policy that hold for one
// tool, by name.
type holding struct {
	permits []permit
	forbids []forbid
}

// evaluate asks the weaker policy. It is false where that is at fault: then
// nothing is known.
func (f *filter) evaluate(ctx context.Context, in *input, document ast.Value, types *rar.Types, steps int64) (holding, bool) {
	var out holding
	if f.eval.body == nil { // there is no rule at all
		return out, true
	}
	terms, fault := f.eval.solve(ctx, document, in.now, in.decisionID, steps, nil)
	if fault != nil {
		return out, false
	}
	for i, read := range []func(document string, name, value ast.Value) bool{
		func(doc string, name, value ast.Value) bool { return out.addPermit(doc, name, value, types) },
		out.addForbid,
	} {
		if !eachHolding(terms[i], read) {
			return out, false
		}
	}
	return out, true
}

// eachHolding reads the one value of a document of the weaker policy.
func eachHolding(found *ast.Term, read func(document string, name, value ast.Value) bool) bool {
	if found == nil {
		return true // the document has no rules
	}
	list, ok := found.Value.(*ast.Array)
	if !ok || list.Len() > 1 {
		return false
	}
	if list.Len() == 0 {
		return true
	}
	set, ok := list.Elem(0).Value.(ast.Set)
	if !ok {
		return false
	}
	for _, e := range set.Slice() { // sorted
		triple, ok := e.Value.(*ast.Array)
		if !ok || triple.Len() != 3 {
			return false
		}
		document, ok := triple.Elem(0).Value.(ast.String)
		if !ok || !read(string(document), triple.Elem(1).Value, triple.Elem(2).Value) {
			return false
		}
	}
	return true
}

// addForbid reads a forbid, which depends on no argument. A malformed one makes
// the decision a fault, and what a fault means is not for this to say.
func (h *holding) addForbid(document string, name, value ast.Value) bool {
	text, ok := name.(ast.String)
	if !ok {
		return false
	}
	v, err := jsonValue(value, 0)
	if err != nil {
		return false
	}
	if document == plainDeny && v.Kind() == rar.Bool && !v.Bool() {
		return true
	}
	f := forbid{name: string(text), remediation: Undisclosed}
	if document != plainDeny || v.Kind() == rar.Object {
		var shape *shapeError
		if f, shape = readForbid("forbid", string(text), v); shape != nil {
			return false
		}
	} else if v.Kind() != rar.Bool && v.Kind() != rar.String {
		return false
	}
	h.forbids = append(h.forbids, f)
	return true
}
