package base

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/authzd/authzd/rar"
)

// IndexRoot is where policy finds the rows of a document by a member of theirs:
// data.authzd_index["org/teams"].owner[KEY] are those of data.org.teams, in an object with
// the keys that they have there, or in an array in their order. Nothing else of it can be
// read, and it is no part of data as a whole.
const IndexRoot = "authzd_index"

// OtherKey is the key of rows whose member is no text.
const OtherKey = "o"

// TextKey is the key of rows whose member is a text.
func TextKey(text string) string { return "s" + text }

// Positional tells a name that OPA's store would find an element of an array by. There is
// no index by such a member.
func Positional(name string) bool {
	_, ok := util.Atoi(name)
	return ok
}

// indexed is a document with the indexes of its rows by some members.
type indexed struct {
	path []string
	from rar.Value
	by   map[string]*index
}

// index finds rows. It holds no pointers to speak of, so that the garbage collector has
// nothing to look through.
type index struct {
	member string
	seed   maphash.Seed
	// texts are the rows whose member is a text, as the hash of that, 32 bits, and the
	// number of the row, in order. Others are those with another value.
	texts  []uint64
	others []uint32
}

const rowBits = 32

// Index has rows of the document at a path be found by members, from before the Store is
// read on. It ends with the context.
func (s *Store) Index(ctx context.Context, path, members []string) error {
	d := &indexed{path: path, by: map[string]*index{}}
	for _, m := range members {
		d.by[m] = &index{member: m, seed: maphash.MakeSeed()}
	}
	return s.index(ctx, d)
}

// index builds the indexes of d, which may be that of other data: what is the same is
// taken over.
func (s *Store) index(ctx context.Context, d *indexed) error {
	at := s.root
	from := at.from
	for _, name := range d.path {
		if at = at.member(name); at != nil {
			from = at.from // of one that is packed within another there is one
		} else {
			from, _ = from.Get(name)
		}
	}
	if k := from.Kind(); k != rar.Array && k != rar.Object {
		return fmt.Errorf("index data.%s: it is of kind %s", strings.Join(d.path, "."), k)
	}
	next := &indexed{path: d.path, from: from, by: map[string]*index{}}
	for name, x := range d.by {
		if d.from.Kind() == rar.Absent || !rar.Same(d.from, from) {
			x = &index{member: name, seed: x.seed}
			if err := x.build(ctx, from); err != nil {
				return err
			}
		}
		next.by[name] = x
	}
	if s.indexes == nil {
		s.indexes = map[string]*indexed{}
	}
	s.indexes[strings.Join(d.path, "/")] = next
	return nil
}

func (x *index) build(ctx context.Context, from rar.Value) error {
	for i := range from.Len() {
		if i%lookEvery == 0 && ctx.Err() != nil {
			return fmt.Errorf("index data: %w", ctx.Err())
		}
		v, ok := x.at(from, i)
		switch {
		case !ok:
		case v.Kind() == rar.String:
			x.texts = append(x.texts, x.hash(v.Text())<<rowBits|uint64(i))
		default:
			x.others = append(x.others, uint32(i))
		}
	}
	slices.Sort(x.texts)
	x.texts, x.others = slices.Clip(x.texts), slices.Clip(x.others)
	return nil
}

func (x *index) hash(text string) uint64 {
	return maphash.String(x.seed, text) >> rowBits
}

// at is the member of row i. No more than that is decoded of a short row; a long one may
// be packed itself.
func (x *index) at(from rar.Value, i int) (rar.Value, bool) {
	if from.ChildSize(i) <= longChild {
		return from.ChildAt(i, x.member)
	}
	return child(from, i).Get(x.member)
}

// is tells whether row i has a key.
func (x *index) is(from rar.Value, i int, key string) bool {
	v, ok := x.at(from, i)
	switch {
	case !ok:
		return false
	case v.Kind() == rar.String:
		return key == TextKey(v.Text())
	}
	return key == OtherKey
}

// rows are the numbers of the rows with a key, in order.
func (x *index) rows(from rar.Value, key string) []uint32 {
	if key == OtherKey {
		return x.others
	}
	var rows []uint32
	hash := x.hash(strings.TrimPrefix(key, TextKey("")))
	at, _ := slices.BinarySearch(x.texts, hash<<rowBits)
	for ; at < len(x.texts) && x.texts[at]>>rowBits == hash; at++ {
		if i := uint32(x.texts[at]); x.is(from, int(i), key) { //nolint:gosec // the number of the row
			rows = append(rows, i)
		}
	}
	return rows
}

// errIndex is a fault of ours: policy can not ask that. No answer would be right, least of
// all that there is nothing.
func errIndex(path storage.Path) error {
	return fmt.Errorf("there is no index for %q", path)
}

// readIndex reads below IndexRoot.
func (s *Store) readIndex(ctx context.Context, path storage.Path) (any, error) {
	const document, member, key, row = 0, 1, 2, 3
	if len(path) <= key {
		return nil, errIndex(path)
	}
	d := s.indexes[path[document]]
	if d == nil || d.by[path[member]] == nil || path[key] != OtherKey && !strings.HasPrefix(path[key], TextKey("")) {
		return nil, errIndex(path)
	}
	rows := d.by[path[member]].rows(d.from, path[key])
	if len(path) == row {
		if len(rows) == 0 {
			return nil, errNotFound
		}
		return s.rowsOf(ctx, d, rows)
	}
	i := -1
	if d.from.Kind() == rar.Array {
		if n, ok := util.Atoi(path[row]); ok && n >= 0 && n < len(rows) {
			i = int(rows[n])
		}
	} else if n := d.from.Find(path[row]); n >= 0 && slices.Contains(rows, uint32(n)) { //nolint:gosec // the number of a row
		i = n
	}
	if i < 0 {
		return nil, errNotFound
	}
	return s.Read(ctx, reading{}, slices.Concat(d.path, []string{nameOf(d.from, i)}, path[row+1:]))
}

func nameOf(v rar.Value, i int) string {
	if v.Kind() == rar.Object {
		return v.Name(i)
	}
	return strconv.Itoa(i)
}

// rowsOf makes AST of rows of d. Where they are many, they are those of the whole document,
// if that is or can be kept: else each decision would make them.
func (s *Store) rowsOf(ctx context.Context, d *indexed, rows []uint32) (any, error) {
	var all ast.Value
	if len(rows) > keptRows && s.canKeep(d.path) {
		v, err := s.Read(ctx, reading{}, d.path)
		if err != nil {
			return nil, err
		}
		all, _ = v.(ast.Value)
	}
	terms := make([]*ast.Term, len(rows))
	for k, i := range rows {
		if k%lookEvery == 0 && ctx.Err() != nil {
			return nil, stopped(ctx)
		}
		var v any
		var err error
		if name := nameOf(d.from, int(i)); all != nil {
			v, err = valueAt(all, storage.Path{name})
		} else {
			v, err = s.Read(ctx, reading{}, slices.Concat(d.path, []string{name}))
		}
		row, ok := v.(ast.Value)
		if err != nil || !ok {
			if err == nil || storage.IsNotFound(err) {
				err = errIndex(d.path)
			}
			return nil, err
		}
		terms[k] = ast.NewTerm(row)
	}
	if d.from.Kind() == rar.Array {
		return ast.NewArray(terms...), nil
	}
	pairs := make([][2]*ast.Term, len(rows))
	for k, i := range rows {
		pairs[k] = [2]*ast.Term{ast.StringTerm(d.from.Name(int(i))), terms[k]}
	}
	return ast.NewObject(pairs...), nil
}

// canKeep tells whether all of what is at a path is kept once it has been read.
func (s *Store) canKeep(path []string) bool {
	d := s.root
	for _, name := range path {
		if d.kids == nil {
			break
		}
		if d = d.kids[name]; d == nil {
			return false
		}
	}
	return d.ast != nil || d.value.Kind() != rar.Absent && (d.made() != nil || d.size <= s.room.Load())
}
