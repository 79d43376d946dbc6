package rar

// matching gives each single-use need a granted object of its own. First-fit
// would refuse needs that another assignment serves, so it looks for augmenting
// paths (Kuhn): to serve one more need, those served before may move.
type matching struct {
	c       *coverage
	servant []int  // granted → the required it serves, -1 for none
	edges   []edge // required × granted, filled when first asked for
	visited []bool // granted objects that the current search has tried
}

type edge uint8

const (
	edgeUnknown edge = iota
	edgeYes
	edgeNo
)

func newMatching(c *coverage) *matching {
	m := &matching{
		c:       c,
		servant: make([]int, len(c.granted)),
		edges:   make([]edge, len(c.granted)*len(c.required)),
		visited: make([]bool, len(c.granted)),
	}
	for j := range m.servant {
		m.servant[j] = -1
	}
	return m
}

// edge reports whether granted object j covers required object i.
func (m *matching) edge(i, j int) bool {
	e := &m.edges[i*len(m.c.granted)+j]
	if *e == edgeUnknown {
		*e = edgeNo
		if m.c.covers(j, i) {
			*e = edgeYes
		}
	}
	return *e == edgeYes
}

// serve finds a granted object for need i, moving other needs if it must.
func (m *matching) serve(i int) bool {
	clear(m.visited)
	return m.augment(i)
}

func (m *matching) augment(i int) bool {
	for j := range m.c.granted {
		if m.visited[j] || !m.c.cmp.spend(1) || !m.edge(i, j) {
			continue
		}
		m.visited[j] = true
		if m.servant[j] < 0 || m.augment(m.servant[j]) {
			m.servant[j] = i
			m.c.used[i] = j
			return true
		}
	}
	return false
}

// hasEdge reports whether any granted object would cover need i by itself.
func (m *matching) hasEdge(i int) bool {
	for j := range m.c.granted {
		if m.edge(i, j) {
			return true
		}
	}
	return false
}
