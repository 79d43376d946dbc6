package engine

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/authzd/authzd/rar"
)

// DecideOn answers q on s, which lets several queries of one batch share a
// snapshot. The steps are those of the contract (docs/architecture.md, "One
// decision"); their numbers stand beside them.
func (e *Engine) DecideOn(ctx context.Context, s *Snapshot, q *Query) (Decision, error) {
	d, err := e.begin(ctx, s, q)
	if err != nil {
		return Decision{}, err
	}
	return d.run(ctx)
}

// begin refuses what no decision can be made about.
func (e *Engine) begin(ctx context.Context, s *Snapshot, q *Query) (*deciding, error) {
	if s == nil {
		return nil, errorf(CodeNotReady, "", "no policy is loaded")
	}
	if err := contextError(ctx); err != nil {
		return nil, err
	}
	if q == nil {
		return nil, errorf(CodeEmptyQuery, "", "no query")
	}
	mapped, err := s.mapped(ctx, q)
	if err == nil {
		err = q.validate(mapped) // 1
	}
	if err != nil {
		return nil, err
	}
	if q.isToolCall() && q.MCP == nil && !s.untypedTools {
		return nil, errorf(CodeMCPMissing, "/mcp", "a tools/call needs the MCP message, so that its arguments can be validated")
	}
	return &deciding{engine: e, snapshot: s, mapping: mapped, in: input{query: q, now: e.opts.Now(), decisionID: e.opts.NewID()}}, nil
}

// mapped tells whether a declared mapping says what q asks. Policy that refuses
// them decides only about what the caller itself says of the call.
func (s *Snapshot) mapped(ctx context.Context, q *Query) (bool, error) {
	if q.Mapping == nil {
		return false, nil
	}
	if s.DeclaredMappings() != RefuseDeclared {
		return true, nil
	}
	if q.Action.Name != "" && q.Resource.Type != "" && q.Resource.ID != "" {
		return false, nil
	}
	_, err := q.Mapping(ctx, MappingInput{Mode: RefuseDeclared})
	if err == nil {
		err = errorf(CodeMCPMismatch, "/mcp/tool/inputSchema", "policy takes no declared mappings")
	}
	return false, err
}

// maxDetails bounds what one reason lists.
const maxDetails = 8

// reportSkipped tells PEP and log which granted authorization_details were not
// used; they grant nothing (rar.md section 4).
func (d *deciding) reportSkipped() {
	for _, u := range d.in.usable {
		if len(u.skipped) == 0 {
			continue
		}
		r := Reason{
			Code: CodeTokenDetails, Kind: KindAuthorizationDetails,
			Message: fmt.Sprintf("%d authorization_details of credential %s were skipped", len(u.skipped), clip(u.ID, maxPlace)),
		}
		for _, s := range u.skipped[:min(len(u.skipped), maxDetails)] {
			r.Detail = append(r.Detail, clip(s.Err.Error(), maxPlace))
		}
		d.decision.Reasons = append(d.decision.Reasons, r)
	}
}

func contextError(ctx context.Context) error {
	if err := paceError(ctx); err != nil {
		return err
	}
	err := ctx.Err()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: CodeDeadline, Err: err}
	default:
		return &Error{Code: CodeCancelled, Err: err}
	}
}

// deciding is one decision in the making.
type deciding struct {
	engine   *Engine
	snapshot *Snapshot
	in       input
	decision Decision
	// mapping: a declared mapping says what is asked.
	mapping bool
	// known is what the caller knows, made when first asked for.
	known *callValues
	// explain collects what led to the decision; nil: nobody asks.
	explain *explaining
}

func (d *deciding) run(ctx context.Context) (Decision, error) {
	if d.mapping {
		done, err := d.prepare()
		if err != nil {
			return Decision{}, err
		}
		if done {
			return d.decision, nil
		}
		return d.mapped(ctx)
	}
	out, err := d.evaluate(ctx)
	if err != nil {
		return Decision{}, err
	}
	if out != nil {
		d.judge(out)
	}
	return d.decision, nil
}

// evaluate takes steps 1 to 4. It returns nothing if the decision is made
// already: a deny that policy was not needed, or not able, for.
func (d *deciding) evaluate(ctx context.Context) (*output, error) {
	done, err := d.prepare()
	if err != nil || done {
		return nil, err
	}
	return d.ask(ctx, time.Now().Add(d.engine.opts.Budget))
}

// prepare takes steps 1 to 3, which come before policy. Done: the decision is
// made, a deny.
func (d *deciding) prepare() (done bool, err error) {
	in, q := &d.in, d.in.query
	if err := in.identify(d.snapshot.types); err != nil { // 1
		return false, err
	}
	in.params = presentedParams(q.MCP)
	d.decision = Decision{ID: in.decisionID, Policy: d.snapshot.policy, Rejected: in.rejected}
	d.decision.Subject = SubjectRef{Issuer: in.subject.Issuer, ID: in.subject.ID}
	d.decision.CallDigest = callDigest(in)
	d.decision.GrantedScopes = in.grantedScopes()
	if d.blocked() {
		return true, nil
	}
	d.reportSkipped()
	presented := len(q.Credentials) + len(q.Rejected)
	if len(in.usable) == 0 && (presented > 0 || q.Subject == nil) { // 2
		d.needToken(presented > 0)
		return true, nil
	}
	if fault := d.snapshot.checkArguments(in); fault != nil { // 3
		d.fail(fault)
		d.decision.Message = clientMessage(fault)
		return true, nil
	}
	return false, nil
}

// ask is step 4.
func (d *deciding) ask(ctx context.Context, until time.Time) (*output, error) {
	var to *account
	if d.explain != nil {
		to = &account{}
	}
	out, fault := d.engine.evaluate(ctx, until, d.snapshot, &d.in, to)
	if err := contextError(ctx); err != nil {
		return nil, err
	}
	if d.explain != nil {
		d.explain.evaluation(ctx, d, to)
	}
	if fault != nil {
		d.fail(fault)
		return nil, nil //nolint:nilnil // decided, and not by policy
	}
	return &out, nil
}

// judge takes what policy said to a decision (steps 4 to 8).
func (d *deciding) judge(out *output) {
	if permits, forbids, ok := d.read(out); ok {
		d.weigh(permits, forbids)
	}
}

// read holds what policy said against the closed shapes; where it does not fit
// the decision is a deny.
func (d *deciding) read(out *output) ([]permit, []forbid, bool) {
	forbids, shape := readForbids(out)
	if shape == nil {
		var permits []permit
		if permits, shape = readPermits(out, d.snapshot.types); shape == nil {
			d.locate(permits)
			return permits, forbids, true
		}
	}
	d.fail(&Fault{Code: shape.code, Message: shape.Error()})
	return nil, nil, false
}

// locate names the MCP server in required authorization_details that leave
// their location open where a grant may not (docs/adr/0010).
func (d *deciding) locate(permits []permit) {
	server := d.in.query.audience()
	for i := range permits {
		for _, r := range permits[i].requirements {
			if det, ok := r.(*details); ok {
				det.locate(server)
			}
		}
	}
}

func (d *deciding) weigh(permits []permit, forbids []forbid) {
	if d.explain != nil {
		d.explain.weigh(d, permits, forbids)
	}
	switch {
	case len(forbids) > 0: // 5
		d.forbidden(forbids)
	case len(permits) == 0: // 6
		d.decision.Reasons = append(d.decision.Reasons, Reason{Code: CodeNoPermit, Message: "no permit applies"})
		d.deny(Undisclosed, nil)
	default:
		d.weighPermits(permits)
	}
}

// fail denies because of a fault of the call or the policy.
func (d *deciding) fail(f *Fault) {
	d.decision.Error = f
	d.decision.Reasons = append(d.decision.Reasons, Reason{Code: f.Code, Message: f.Message})
	d.deny(Undisclosed, nil)
}

func (d *deciding) deny(status Status, remedies []Remedy) {
	d.decision.Allow = false
	d.decision.Remediation = &Remediation{Status: status, ContextID: d.engine.opts.NewContextID(), Remedies: remedies}
}

// needToken denies before any policy text is looked at.
func (d *deciding) needToken(presented bool) {
	r := Reason{Code: CodeNoCredential, Message: "neither a credential nor a subject was given"}
	if presented {
		r = Reason{Code: CodeNoUsableCredential, Message: "no presented credential is usable"}
		away := false
		for _, x := range d.in.rejected {
			r.Detail = append(r.Detail, x.ID+": "+string(x.Code))
			away = away || x.Code == CodeIssuerUnavailable
		}
		if away { // another token would not help
			d.decision.Reasons = append(d.decision.Reasons, r)
			d.fail(&Fault{Code: CodeIssuerUnavailable, Message: "the issuer of a presented credential could not be asked"})
			return
		}
	}
	d.decision.Reasons = append(d.decision.Reasons, r)
	d.deny(Available, []Remedy{{Kind: KindToken, TokenPresented: presented, MaxAge: -1}})
}

func (d *deciding) forbidden(forbids []forbid) {
	first := forbids[0]
	status := Unavailable
	for _, f := range forbids {
		if f.remediation == Undisclosed {
			status = Undisclosed
		}
		code := CodeForbidden
		if f.code != "" {
			code = Code(f.code)
		}
		d.decision.Reasons = append(d.decision.Reasons, Reason{Code: code, Rule: f.name, Message: fillMessage(f.message, &d.in, false)})
	}
	d.decision.Rule = first.name
	d.decision.Message = fillMessage(first.message, &d.in, false)
	d.decision.MessageAdmin = fillMessage(first.messageAdmin, &d.in, true)
	d.deny(status, nil)
}

// weighed is a permit with its requirements judged.
type weighed struct {
	permit  *permit
	met     []Met
	unmet   []requirement
	reasons []Reason
	// stuck: something is unmet that no client can remedy.
	stuck bool
}

func (d *deciding) weighPermits(permits []permit) {
	at := judgement{types: d.snapshot.types, now: d.in.now, commit: d.in.query.Commit}
	all := make([]weighed, len(permits))
	var best *weighed
	for i := range permits {
		all[i] = d.weighOne(&permits[i], &at)
		if w := &all[i]; len(w.unmet) == 0 && !w.stuck && (best == nil || w.better(best)) {
			best = w
		}
	}
	if best != nil { // 7
		d.allow(best)
		return
	}
	d.remedy(all, &at) // 8
}

// better orders met permits: lowest priority, fewest obligations, name (they
// come sorted by name).
func (w *weighed) better(o *weighed) bool {
	if w.permit.priority != o.permit.priority {
		return w.permit.priority < o.permit.priority
	}
	return len(w.permit.obligations) < len(o.permit.obligations)
}

// weighOne judges each requirement against each usable credential: one
// requirement is met by one credential, never by adding up two.
func (d *deciding) weighOne(p *permit, at *judgement) weighed {
	w := weighed{permit: p}
	if len(p.obligations) > 0 && !d.in.query.CarriesObligations {
		w.stuck = true
		w.reasons = append(w.reasons, Reason{Code: CodeUnmet, Rule: p.name, Message: "the permit has obligations that this door cannot carry"})
	}
	for _, r := range p.requirements {
		w.judge(r, d.in.usable, at)
	}
	return w
}

func (w *weighed) judge(r requirement, creds []*usable, at *judgement) {
	var reasons []Reason
	stuck := false
	for _, u := range creds {
		ok, reason := r.meets(u, at)
		if ok {
			w.met = append(w.met, Met{Kind: r.kind(), CredentialID: u.ID})
			return
		}
		reason.Rule = w.permit.name
		reasons = append(reasons, reason)
		stuck = stuck || reason.Code != CodeUnmet
	}
	w.stuck = w.stuck || stuck
	if len(creds) == 0 {
		reasons = append(reasons, Reason{Code: CodeUnmet, Kind: r.kind(), Rule: w.permit.name, Message: "no credential was presented"})
	}
	w.unmet = append(w.unmet, r)
	w.reasons = append(w.reasons, reasons...)
}

func (d *deciding) allow(w *weighed) {
	dec := &d.decision
	dec.Rule, dec.Require = w.permit.name, w.permit.require
	dec.Met = w.met
	dec.Obligations = w.permit.obligations
	dec.Reasons = append(dec.Reasons, Reason{Code: CodePermitted, Rule: w.permit.name, Message: "every requirement is met"})
	dec.ExpiresAt = d.in.now.Add(d.engine.opts.AllowTTL)
	for _, u := range d.in.usable {
		// Policy may have looked at any of them, so the earliest end counts.
		if u.ExpiresAt.Before(dec.ExpiresAt) {
			dec.ExpiresAt = u.ExpiresAt
		}
	}
	dec.ExpiresAt = dec.ExpiresAt.UTC().Truncate(time.Millisecond)
	dec.Allow = true
}

func (in *input) grantedScopes() []string {
	var out []string
	for _, u := range in.usable {
		for _, s := range u.Scopes {
			if !contains(out, s) {
				out = append(out, s)
			}
		}
	}
	sort.Strings(out)
	return out
}

func rarCode(err error) Code {
	var e *rar.Error
	if errors.As(err, &e) {
		return Code(e.Code)
	}
	return CodeMalformedOutput
}

// clientMessage words a fault of the call for the client: it is about the
// client's own arguments.
func clientMessage(f *Fault) string {
	if f.Code == CodeArgumentsInvalid {
		return fmt.Sprintf("The arguments do not fit the tool's schema at %s.", quotePointer(f.Path))
	}
	return ""
}

func quotePointer(p string) string {
	if p == "" {
		return "their top"
	}
	return p
}
