package api

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/mcp"
	"github.com/authzd/authzd/rar"
)

// Defaults of Limits.
const (
	DefaultMaxBytes      = 256 << 10
	DefaultMaxBatchBytes = 4 << 20
	DefaultMaxDepth      = 64
	DefaultMaxBatch      = 100
	DefaultMaxTools      = 1000
	maxCredentials       = 16
	maxName              = 4096
	// maxExponent keeps a short number from being long when it is written out.
	maxExponent = 100
)

// Limits bounds what one request may hold. A zero field means its default.
type Limits struct {
	// MaxBytes bounds one query, and each piece of JSON in a gRPC message;
	// default 256 KiB.
	MaxBytes int
	// MaxBatchBytes bounds a batch, and any gRPC message; default 4 MiB.
	MaxBatchBytes int
	// MaxDepth bounds how deep a query nests, arguments included; default 64.
	MaxDepth int
	// MaxBatch bounds the queries of a batch; default 100.
	MaxBatch int
	// MaxTools bounds the tools of one FilterTools; default 1000.
	MaxTools int
}

func (l Limits) withDefaults() Limits {
	def := func(n *int, d int) {
		if *n <= 0 {
			*n = d
		}
	}
	def(&l.MaxBytes, DefaultMaxBytes)
	def(&l.MaxBatchBytes, DefaultMaxBatchBytes)
	def(&l.MaxDepth, DefaultMaxDepth)
	def(&l.MaxBatch, DefaultMaxBatch)
	def(&l.MaxTools, DefaultMaxTools)
	return l
}

// strict are the limits of JSON that stands below outer containers.
func (l Limits) strict(below int) rar.Limits {
	return rar.Limits{MaxBytes: l.MaxBytes, MaxDepth: max(l.MaxDepth-below, 1), MaxExponent: maxExponent, RejectCaseVariants: true}
}

// Request is a decoded query and what only the door needs of it.
type Request struct {
	// Query is ready for engine.Decide, but for the caller's tenant and
	// audience.
	Query *engine.Query
	// Capabilities are the MCP client's, for the form of a denial.
	Capabilities rar.Value
	// DenialForm is the caller's choice of form; empty: DenialOptions.Form.
	DenialForm mcp.Preference
	// Require is the revision to wait for; zero: none.
	Require engine.PolicyRef
	// Handle is the handle of a denial that the message echoes, for the log;
	// policy does not see it. Empty: none.
	Handle string
	// presented is what has to be verified before Query is decided.
	presented []presented
}

// DecodeQuery decodes the JSON of POST /v1/check (message CheckRequest),
// strictly: unknown, repeated and misspelt members are errors. What the MCP
// message implies and the caller left out is filled in. Every error is an
// *Error or an *mcp.Error with a JSON Pointer into data. Access tokens are
// refused: whoever has a Verifier runs a Server.
func DecodeQuery(data []byte, l Limits) (Request, error) {
	return decodeQuery(data, l.withDefaults(), false, asker{extraMethods: true})
}

func decodeQuery(data []byte, l Limits, verifying bool, ask asker) (Request, error) {
	v, err := decodeDocument(data, l.strict(0))
	if err != nil {
		return Request{}, err
	}
	p := parts{credentials: credentialSet{verifying: verifying}, ask: ask}
	if err := p.read(v); err != nil {
		return Request{}, err
	}
	return p.request()
}

// decodeDocument decodes a whole request body.
func decodeDocument(data []byte, l rar.Limits) (rar.Value, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return rar.Value{}, errorf(CodeEmpty, "", "the request is empty where a JSON object is expected")
	}
	v, err := rar.DecodeStrict(data, l)
	if err != nil {
		return rar.Value{}, requestError(err, "")
	}
	return v, nil
}

// requestError gives a fault of strict decoding the code of the request that
// it was found in, and its place there.
func requestError(err error, at string) *Error {
	var e *rar.Error
	if !errors.As(err, &e) {
		return &Error{Code: CodeInternal, Path: at, Err: err}
	}
	out := &Error{Path: at + e.Path, Err: e.Err}
	switch e.Code {
	case rar.CodeSyntax:
		out.Code = CodeSyntax
	case rar.CodeTrailingData:
		out.Code = CodeTrailingData
	case rar.CodeDuplicateKey:
		out.Code = CodeDuplicateKey
	case rar.CodeCaseVariantKey:
		out.Code = CodeCaseVariantKey
	case rar.CodeTooDeep:
		out.Code = CodeTooDeep
	case rar.CodeTooLarge:
		out.Code = CodeTooLarge
	case rar.CodeNumberOutOfRange:
		out.Code = CodeNumberOutOfRange
	default:
		out.Code = CodeInternal
	}
	return out
}

// parts are the members of a query as either door found them. What is nil or
// zero was not given.
type parts struct {
	mcp          *engine.MCP
	capabilities rar.Value
	denialForm   string
	subject      *engine.Subject
	action       *engine.Action
	resource     *engine.Resource
	credentials  credentialSet
	context      rar.Value
	commit       *engine.Commit
	require      *engine.PolicyRef
	// ask says how the message is read where the caller leaves out what it asks.
	ask asker
}

// request checks what both doors must check alike, and fills in what follows
// from the MCP message.
func (p *parts) request() (Request, error) {
	if p.mcp == nil && p.action == nil && p.resource == nil {
		return Request{}, errorf(CodeEmpty, "", "a query needs mcp, or action and resource")
	}
	if err := p.check(); err != nil {
		return Request{}, err
	}
	handle := ""
	if m := p.mcp; m != nil {
		// SEP-2643: nothing may rest on the handle, so policy does not get it.
		handle, m.Params = mcp.EchoedHandle(m.Params), mcp.WithoutHandle(m.Params)
	}
	q := &engine.Query{
		Subject: p.subject, Context: p.context, MCP: p.mcp, Commit: p.commit,
		// Clipped, because the queries of a batch share them.
		Credentials: slices.Clip(p.credentials.good), Rejected: slices.Clip(p.credentials.bad),
		CarriesObligations: true,
	}
	if p.action != nil {
		q.Action = *p.action
	}
	if p.resource != nil {
		q.Resource = *p.resource
	}
	if err := p.derive(q); err != nil {
		return Request{}, err
	}
	q.Actionable = actionable(p.mcp, p.capabilities)
	r := Request{
		Query: q, Capabilities: p.capabilities, DenialForm: mcp.Preference(p.denialForm),
		presented: p.credentials.presented, Handle: handle,
	}
	if p.require != nil {
		r.Require = *p.require
	}
	return r, nil
}

// check looks at required members and closed sets of values.
func (p *parts) check() error {
	switch m := p.mcp; {
	case m == nil:
	case m.Method == "":
		return missing("/mcp/method")
	case m.Transport != "" && m.Transport != mcp.TransportHTTP && m.Transport != mcp.TransportStdio:
		return errorf(CodeInvalidValue, "/mcp/transport", `is "http" or "stdio"`)
	case p.denialForm != "" && !ValidDenialForm(p.denialForm):
		return errorf(CodeInvalidValue, "/mcp/denial_form", `is "challenge", "result" or "auto"`)
	}
	if s := p.subject; s != nil {
		if err := required("/subject", "type", s.Type, "id", s.ID); err != nil {
			return err
		}
		issuer, given := s.Properties.Get("issuer")
		if given && (issuer.Kind() != rar.String || issuer.Text() == "") {
			return errorf(CodeWrongType, "/subject/properties/issuer", "must be a string that is not empty")
		}
		s.Issuer = issuer.Text()
	}
	if a := p.action; a != nil && a.Name == "" {
		return missing("/action/name")
	}
	if r := p.resource; r != nil {
		if err := required("/resource", "type", r.Type, "id", r.ID); err != nil {
			return err
		}
	}
	if c := p.commit; c != nil && c.IdempotencyKey == "" {
		return missing("/commit/idempotency_key")
	}
	if r := p.require; r != nil {
		return errOrNil(required("/require_revision", "bundle", r.Bundle, "revision", r.Revision))
	}
	return nil
}

// derive applies the COAZ-MCP default mapping to what the caller left out. What
// was given stays; the engine checks that it agrees with the message. A mapping
// that the called tool declares waits for the credentials and for policy, which
// has to admit it.
func (p *parts) derive(q *engine.Query) error {
	if v, declared := p.declared(); declared {
		q.Mapping = p.ask.mapping(v)
		return nil
	}
	if p.action != nil && p.resource != nil {
		return nil
	}
	if p.mcp == nil {
		if p.action == nil {
			return missing("/action")
		}
		return missing("/resource")
	}
	m, err := mcp.Map(p.mcp.Method, p.mcp.Params, mcp.MapOptions{
		ServerID: p.mcp.Server, TrustServerID: true,
		ProtocolVersion: p.mcp.ProtocolVersion, HasID: true, ExtraMethods: p.ask.extraMethods,
	})
	if err != nil {
		return mapError(err, "/mcp")
	}
	if m.PassThrough {
		return errorf(CodeInvalidValue, "/mcp/method", "this method needs no decision; to have one, give action and resource")
	}
	if p.action == nil {
		q.Action = engine.Action{Name: m.Action}
	}
	if p.resource == nil {
		q.Resource = engine.Resource{Type: m.ResourceType, ID: m.ResourceID}
	}
	q.Context = withMembers(q.Context, m.Context)
	return nil
}

// mapError places an error of a mapping, which counts from at, in the request.
func mapError(err error, at string) error {
	var e *mcp.Error
	if !errors.As(err, &e) {
		return err
	}
	return &mcp.Error{Code: e.Code, Path: at + e.Path, Err: e.Err}
}

// withMembers adds to the object v what it does not have yet.
func withMembers(v, add rar.Value) rar.Value {
	if add.Len() == 0 {
		return v
	}
	members := make([]rar.Member, 0, v.Len()+add.Len())
	for i := range v.Len() {
		members = append(members, v.Member(i))
	}
	for i := range add.Len() {
		if _, has := v.Get(add.Member(i).Name); !has {
			members = append(members, add.Member(i))
		}
	}
	return rar.ObjectValue(members...)
}

// actionable tells the engine which remedies this client can be offered. A
// query without an MCP message is that of an HTTP server, which can send an
// OAuth challenge.
func actionable(m *engine.MCP, capabilities rar.Value) engine.KindSet {
	transport, version, method := mcp.TransportHTTP, "", ""
	if m != nil {
		transport, version, method = m.Transport, m.ProtocolVersion, m.Method
	}
	can := mcp.Actionable(transport, version, method, capabilities)
	kinds := make([]engine.Kind, 0, 6)
	add := func(when bool, k engine.Kind) {
		if when {
			kinds = append(kinds, k)
		}
	}
	add(can.Has(mcp.KindScopes), engine.KindScopes)
	add(can.Has(mcp.KindAuthorizationDetails), engine.KindAuthorizationDetails)
	add(can.Has(mcp.KindAuthentication), engine.KindAuthentication)
	add(can.Has(mcp.KindProofOfPossession), engine.KindProofOfPossession)
	add(can.Has(mcp.KindURL) || can.Has(mcp.KindOutOfBand), engine.KindApproval)
	add(transport == mcp.TransportHTTP, engine.KindToken)
	return engine.NewKindSet(kinds...)
}

// credentialSet collects the credentials of a query: claims that are taken at
// the caller's word, or, if verifying, all that is presented.
type credentialSet struct {
	verifying bool
	presented []presented
	good      []engine.Credential
	bad       []engine.RejectedCredential
	ids       []string
}

// add takes in credential number n. Claims that are no usable credential are
// rejected, which is for the engine to judge; a malformed request is an error.
func (c *credentialSet) add(n int, p presented) *Error {
	at := func(member string) string { return "/credentials/" + strconv.Itoa(n) + member }
	if err := c.check(n, &p, at); err != nil {
		return err
	}
	for _, id := range c.ids {
		if id == p.id {
			return errorf(CodeInvalidValue, at("/id"), "another credential of this query has the same id")
		}
	}
	c.ids = append(c.ids, p.id)
	if c.verifying {
		c.presented = append(c.presented, p)
		return nil
	}
	cred, rejected := engine.CredentialFromClaims(p.id, verifiedByPEP, p.boundBy, p.claims)
	if rejected != nil {
		c.bad = append(c.bad, *rejected)
	} else {
		c.good = append(c.good, cred)
	}
	return nil
}

// check looks at which members go together.
func (c *credentialSet) check(n int, p *presented, at func(string) string) *Error {
	token, claims := p.accessToken != "", p.claims.Kind() != rar.Absent
	switch {
	case n >= maxCredentials:
		return errorf(CodeTooLarge, "/credentials", "more than %d credentials", maxCredentials)
	case p.id == "":
		return missing(at("/id"))
	case token && claims:
		return errorf(CodeInvalidValue, at("/access_token"), "give either claims or access_token")
	case token && !c.verifying:
		return errorf(CodeAccessTokenUnsupported, at("/access_token"),
			"tokens are verified by a server that has issuers (authzd serve --issuers): verify the token and give its claims")
	case !token && !claims:
		return missing(at("/claims"))
	case token && p.boundBy != "":
		return errorf(CodeInvalidValue, at("/bound_by"), "goes with claims; a token comes with the proof itself")
	case !token && p.evidence() != "":
		return errorf(CodeInvalidValue, at("/"+p.evidence()), "goes with access_token; claims have bound_by")
	}
	if s := p.scheme; s != "" && !strings.EqualFold(s, "Bearer") && !strings.EqualFold(s, "DPoP") {
		return errorf(CodeInvalidValue, at("/scheme"), `is "Bearer" or "DPoP"`)
	}
	switch p.boundBy {
	case "", "dpop", "mtls", "mtls+dpop":
		return nil
	}
	return errorf(CodeInvalidValue, at("/bound_by"), `is "dpop", "mtls" or "mtls+dpop"`)
}

func missing(path string) *Error {
	return errorf(CodeMissingMember, path, "is required")
}

// required wants two members of the object at path.
func required(path, name1, value1, name2, value2 string) *Error {
	switch "" {
	case value1:
		return missing(path + "/" + name1)
	case value2:
		return missing(path + "/" + name2)
	}
	return nil
}

// errOrNil keeps a nil *Error from becoming an error that is not nil.
func errOrNil(e *Error) error {
	if e == nil {
		return nil
	}
	return e
}
