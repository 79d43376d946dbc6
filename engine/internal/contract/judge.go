package contract

import (
	"slices"
	"strconv"
	"strings"
)

// judge turns facts into findings, by what the rules that hold them serve.
type judge struct {
	policy   *policy
	in       Input
	schemas  *schemas
	passed   parameters
	services map[*group]service
	via      map[reached]string

	// values are what callers pass for the parameters of functions.
	values map[param]operand

	found []Finding
	data  []dataRead
	reads []argumentRead
}

// argumentRead is a read below the arguments that must not be undefined, kept
// to judge a schema that comes with a query.
type argumentRead struct {
	finding Finding
	origin  origin
}

func (j *judge) run() []Finding {
	j.policy.collectFacts()
	j.passed = j.policy.passed()
	j.services, j.via = j.policy.reach()
	j.values = j.policy.values()
	for _, g := range j.policy.groups {
		s := j.services[g]
		if s == 0 {
			continue
		}
		for _, f := range g.facts {
			j.fact(f, g, s)
		}
	}
	return j.found
}

func (j *judge) fact(f fact, g *group, s service) {
	switch f.kind {
	case factIterates:
		j.iterates(f, g, s)
	case factReads, factMatches:
		j.readsData(f)
		j.undefined(f, g, s)
		j.oneOfMany(f, g, s)
	case factAsks:
		j.asks(f)
		j.oneOfMany(f, g, s)
	case factChooses:
		j.chooses(f, g, s)
		j.oneOfMany(f, g, s)
	case factSome:
		j.oneOfMany(f, g, s)
	case factMember:
		j.member(f)
	case factWith:
		j.with(f, g, s)
	case factUnknown:
		j.add(f, CodePolicyCompile, Error, "the policy contract does not know this construct: "+f.text)
	case factOrders:
		j.orders(f, g, s)
	case factNumber:
		j.number(f, g, s)
	case factCalls:
	}
}

func (j *judge) iterates(f fact, g *group, s service) {
	if f.given != nil && !j.passed.anySeveral(f.given) {
		return
	}
	what := f.text + " iterates over " + f.origin.String()
	if f.text == emptyComprehension {
		what = "a comprehension that iterates over nothing hides what is undefined"
	}
	const advice = "; under a permit use every, or authzd.each(SRC, [… | some x in SRC]); free are base data, input.subject and input.credentials"
	switch {
	case s&servesAnyPermit != 0:
		j.add(f, CodeUnboundedIteration, Error, what+j.reachedFrom(g, s&servesAnyPermit)+advice)
	case j.hidesForbid(f, s) != 0:
		j.add(f, CodeUnboundedIteration, errorUnless(j.in.LaxForbids), what+j.reachedFrom(g, j.hidesForbid(f, s))+
			" where one harmless member can take a forbid away: under not, in a comprehension that filters, in a default, an else or a set that is counted")
	case s&servesAnyAllow != 0:
		j.add(f, CodeUnboundedIteration, Warning, what+j.reachedFrom(g, s&servesAnyAllow)+advice)
	}
}

// hidesForbid: iteration is what forbids are for, any bad member forbids; but
// where its result is turned around, any good member would permit.
func (j *judge) hidesForbid(f fact, s service) service {
	if f.text == emptyComprehension || f.origin.kind == fromPolicy {
		return 0
	}
	by := s & (servesForbidHidden | servesDenyHidden)
	if f.hidden {
		by |= s & servesAnyForbid
	}
	return by
}

// chooses judges a lookup in what a caller sends, by a key that a caller
// sends: it would choose the member that is looked at.
func (j *judge) chooses(f fact, g *group, s service) {
	if f.origin.rules || f.origin.mayBeIterated() || !j.passed.holdsInput(f.origin) || !j.callersChoice(f.key) {
		return
	}
	message := f.text + ": the caller chooses which member is looked at"
	switch {
	case s&servesAnyPermit != 0:
		j.add(f, CodeUnboundedIteration, Error, message+j.reachedFrom(g, s&servesAnyPermit))
	case s&servesAnyForbid != 0:
		j.add(f, CodeUnboundedIteration, errorUnless(j.in.LaxForbids), message+j.reachedFrom(g, s&servesAnyForbid))
	case s&servesAnyAllow != 0:
		j.add(f, CodeUnboundedIteration, Warning, message+j.reachedFrom(g, s&servesAnyAllow))
	}
}

// callersChoice: the subject, its credentials and the tenant are none.
func (j *judge) callersChoice(key origin) bool {
	if key.kind == fromInput && len(key.steps) > 0 && key.steps[0].kind == stepName && key.steps[0].name == "tenant" {
		return false
	}
	return !key.mayBeIterated() && j.passed.holdsInput(key)
}

// member notes base data on the right of in, also where a function is given it.
func (j *judge) member(f fact) {
	origins := []origin{f.origin}
	if f.origin.kind == fromParam && len(f.origin.steps) == 0 {
		passed := j.passed.data[f.origin.param]
		for _, text := range sortedKeys(passed) {
			origins = append(origins, passed[text])
		}
	}
	for _, o := range origins {
		if o.kind == fromData && o.soft == 0 && ground(o.steps) {
			j.data = append(j.data, dataRead{file: f.file, rule: f.rule, loc: f.loc, path: o.steps, member: true})
		}
	}
}

// undefined judges a read where undefined would be taken for a yes: anywhere
// in what forbids reach, and in hidden places of what permits reach.
func (j *judge) undefined(f fact, g *group, s service) {
	hidden := s & (servesPermitHidden | servesAllowHidden)
	if f.hidden {
		hidden |= s & (servesPermit | servesAllow)
	}
	code, severity := CodeNegationUndefined, Error
	by := hidden
	switch {
	case s&servesAnyForbid != 0:
		code, by = CodeForbidUndefined, s&servesAnyForbid
	case hidden == 0:
		j.lint(f)
		return
	case hidden&servesAnyPermit == 0:
		severity = Warning
	}
	if j.in.LaxForbids {
		severity = Warning
	}
	reasons, undeclared := j.doubts(f)
	if undeclared {
		code = CodeUndeclaredPath
		reasons = []string{"no declared tool has it"}
	}
	message := f.text + " may be undefined" + j.reachedFrom(g, by) + ", which would then go unseen: "
	if belowArguments(f.origin.steps) && f.origin.kind == fromInput && f.kind == factReads {
		read := argumentRead{origin: f.origin}
		read.finding = at(f.loc, f.file, code, severity, f.rule, message)
		j.reads = append(j.reads, read)
	}
	if len(reasons) == 0 {
		return
	}
	j.add(f, code, severity, message+strings.Join(reasons, "; ")+advice(f.origin))
}

// advice names the way that always has a value.
func advice(o origin) string {
	path := o.steps
	if o.kind != fromInput || len(path) == 0 || !ground(path) || o.soft > 0 {
		return ""
	}
	from, rest := "input", path
	if belowArguments(path) {
		n := len(argumentsPath())
		from, rest = "input"+pathText(path[:n]), path[n:]
	}
	keys := make([]string, len(rest))
	for i, s := range rest {
		keys[i] = strconv.Itoa(s.index)
		if s.kind == stepName {
			keys[i] = strconv.Quote(s.name)
		}
	}
	key := strings.Join(keys, ", ")
	if len(keys) > 1 {
		key = "[" + key + "]"
	}
	return ". Use object.get(" + from + ", " + key + ", null)"
}

// doubts tells why a fact's value may be undefined.
func (j *judge) doubts(f fact) (reasons []string, undeclared bool) {
	o := f.origin
	taken := f.kind == factMatches
	switch o.kind {
	case fromData, fromPolicy:
		return nil, false
	case fromInput:
		if taken {
			return []string{"a pattern holds only for values of its form"}, false
		}
		return j.schemas.doubtsAbout(o)
	case fromParam:
		if (taken || len(o.steps) > 0) && j.passed.input[o.param] {
			return []string{"a parameter that holds part of input is not looked into: pass what it needs, or use object.get"}, false
		}
	case fromElsewhere:
		if taken || slices.ContainsFunc(o.steps, func(s step) bool { return s.kind != stepEach }) {
			return []string{"a computed value is not known to have it"}, false
		}
	}
	return nil, false
}

// lint tells of a path that no tool declares where it only keeps a permit from
// ever being granted. OPA's type checker refuses most of them.
func (j *judge) lint(f fact) {
	if f.kind != factReads || f.origin.kind != fromInput || !belowArguments(f.origin.steps) {
		return
	}
	if _, undeclared := j.schemas.doubtsAbout(f.origin); undeclared {
		j.add(f, CodeUndeclaredPath, Warning, f.text+" is always undefined: no declared tool has it")
	}
}

func (j *judge) asks(f fact) {
	if !belowArguments(f.origin.steps) {
		return
	}
	o := f.origin
	o.soft = 0
	if slices.ContainsFunc(o.steps, func(s step) bool { return s.kind != stepName && s.kind != stepIndex }) {
		return
	}
	if _, undeclared := j.schemas.doubtsAbout(o); undeclared {
		j.add(f, CodeUndeclaredPath, Warning, f.text+" is always its default: no declared tool has it")
	}
}

func (j *judge) with(f fact, g *group, s service) {
	severity := Error
	switch {
	case s&servesAnyPermit != 0:
	case s&servesAnyForbid != 0:
		if j.in.LaxForbids {
			severity = Warning
		}
	default:
		severity = Warning
	}
	j.add(f, CodeWithNotAllowed, severity, "with "+f.text+" replaces what the rules of the contract were judged by"+j.reachedFrom(g, s))
}

// readsData notes base data that must be there.
func (j *judge) readsData(f fact) {
	o := f.origin
	if f.kind != factReads || o.kind != fromData || o.soft > 0 {
		return
	}
	path := o.steps
	if i := slices.IndexFunc(path, func(s step) bool { return s.kind == stepDynamic }); i >= 0 {
		path = path[:i]
	}
	j.data = append(j.data, dataRead{file: f.file, rule: f.rule, loc: f.loc, path: path})
}

func ground(path []step) bool {
	return !slices.ContainsFunc(path, func(s step) bool { return s.kind == stepEach || s.kind == stepDynamic })
}

// reachedFrom says which document needs the rule, if it is another.
func (j *judge) reachedFrom(g *group, by service) string {
	name := g.name(j.policy)
	for s := servesPermit; s <= servesDenyHidden; s <<= 1 {
		if by&s == 0 {
			continue
		}
		if from, ok := j.via[reached{g, s}]; ok && from != name {
			return " (reached from " + from + ")"
		}
	}
	return ""
}

func (j *judge) add(f fact, code string, severity Severity, message string) {
	// Names were resolved: in the entry point's package, say them as they stand.
	message = strings.ReplaceAll(message, j.policy.entry.String()+".", "")
	j.found = append(j.found, at(f.loc, f.file, code, severity, f.rule, message))
}
