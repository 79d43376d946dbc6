package contract

import "github.com/open-policy-agent/opa/v1/ast"

// service is how a rule serves a decision. The same rule may serve in several
// ways.
type service uint16

const (
	servesPermit service = 1 << iota
	// servesPermitHidden: where undefined does not take the permit away.
	servesPermitHidden
	servesAllow
	servesAllowHidden
	servesForbid
	servesForbidHidden
	servesDeny
	servesDenyHidden
)

const (
	servesAnyPermit = servesPermit | servesPermitHidden
	servesAnyAllow  = servesAllow | servesAllowHidden
	servesAnyForbid = servesForbid | servesForbidHidden | servesDeny | servesDenyHidden

	servesVisibly = servesPermit | servesAllow | servesForbid | servesDeny
)

// hidden is the service of what is reached where undefined is not seen.
func (s service) hidden() service {
	if s&servesVisibly != 0 {
		return s << 1
	}
	return s
}

// reached is one group with one service, and the document it serves.
type reached struct {
	group   *group
	service service
}

// reach walks from the four documents of the entry point over references and
// calls. For each group it tells the services and, for messages, the document
// that first needed it.
func (p *policy) reach() (map[*group]service, map[reached]string) {
	services := make(map[*group]service)
	via := make(map[reached]string)
	var queue []reached
	visit := func(g *group, s service, from string) {
		if services[g]&s != 0 {
			return
		}
		services[g] |= s
		via[reached{g, s}] = from
		queue = append(queue, reached{g, s})
	}
	for _, d := range documents() {
		s := serviceOf(d)
		path := p.documentPath(d)
		for _, m := range p.matches(path) {
			g := m.group
			// A default or an else gives the document another value where a rule is
			// undefined. Of allow, false is as good as undefined; of permit, {} is.
			harmless := g.defaultsToFalse() || emptyObject(g.fallback) && len(g.path) == len(path)
			if g.hasElse || g.fallback != nil && !harmless {
				visit(g, s.hidden(), g.name(p))
				continue
			}
			visit(g, s, g.name(p))
		}
	}
	for len(queue) > 0 {
		r := queue[0]
		queue = queue[1:]
		for _, f := range r.group.facts {
			for _, c := range f.calls {
				s := r.service
				if c.vanishes {
					s = s.hidden()
				}
				visit(c.group, s, via[r])
			}
		}
	}
	return services, via
}

// documents are what the engine evaluates (contract, decision step 4).
func documents() []string { return []string{"permit", "forbid", "allow", "deny"} }

func serviceOf(document string) service {
	switch document {
	case "permit":
		return servesPermit
	case "forbid":
		return servesForbid
	case "allow":
		return servesAllow
	}
	return servesDeny
}

func (p *policy) documentPath(name string) []place {
	return append(entryPlaces(p.entry), place{name: name})
}

// parameters answers what the callers of the policy's functions pass.
type parameters struct {
	// several: some caller passes what has several values.
	several map[param]bool
	// input: some caller passes what may hold part of input.
	input map[param]bool
	// data: base data that callers pass, by its text.
	data map[param]map[string]origin
}

// passed looks at every call in the policy, reached or not, until nothing
// changes: a function may pass its own parameters on.
func (p *policy) passed() parameters {
	out := parameters{several: make(map[param]bool), input: make(map[param]bool), data: make(map[param]map[string]origin)}
	for changed := true; changed; {
		changed = false
		for _, g := range p.groups {
			for _, f := range g.facts {
				for _, c := range f.calls {
					changed = out.add(c) || changed
				}
			}
		}
	}
	return out
}

func (q parameters) add(c call) bool {
	changed := false
	set := func(m map[param]bool, k param, v bool) {
		if v && !m[k] {
			m[k], changed = true, true
		}
	}
	for i, a := range c.args {
		k := param{c.group, i}
		set(q.several, k, !a.values.single || q.anySeveral(a.values.given))
		set(q.input, k, q.holdsInput(a.origin))
		changed = q.addData(k, a.origin) || changed
	}
	return changed
}

// addData notes the paths of base data that a caller passes, or passes on.
func (q parameters) addData(k param, o origin) bool {
	passed := map[string]origin{o.String(): o}
	switch {
	case o.kind == fromParam && len(o.steps) == 0:
		passed = q.data[o.param]
	case o.kind != fromData || o.soft > 0:
		return false
	}
	changed := false
	for text, from := range passed {
		if _, known := q.data[k][text]; known {
			continue
		}
		if q.data[k] == nil {
			q.data[k] = make(map[string]origin)
		}
		q.data[k][text] = from
		changed = true
	}
	return changed
}

func (q parameters) anySeveral(given []param) bool {
	for _, g := range given {
		if q.several[g] {
			return true
		}
	}
	return false
}

func (q parameters) holdsInput(o origin) bool {
	if o.kind == fromParam {
		return q.input[o.param]
	}
	return !o.innocent()
}

// lineOf is the place of a rule's head.
func lineOf(r *ast.Rule) *ast.Location {
	if r.Head != nil && r.Head.Location != nil {
		return r.Head.Location
	}
	return r.Location
}
