package pep_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/authzd/authzd/mcp/pep"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

const server = "https://mcp.example.com/mcp"

// pdp is a decision service that answers what a test says, and keeps what it was
// asked. Its zero value allows and lists everything.
type pdp struct {
	mu sync.Mutex
	// deny names tools and other resources (name or uri) that are denied for good;
	// hidden tools are not listed either.
	deny []string
	// needs are tools that a scope is needed for.
	needs map[string]string
	// answer, if set, is given instead.
	answer func(*authzdv1.CheckRequest) (*authzdv1.CheckResponse, error)
	// away: no call gets an answer.
	away bool

	asked   []*authzdv1.CheckRequest
	batches []*authzdv1.CheckBatchRequest
	filters []*authzdv1.FilterToolsRequest
}

func (p *pdp) Check(_ context.Context, q *authzdv1.CheckRequest) (*authzdv1.CheckResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, q)
	if p.away {
		return nil, errors.New("secret cause")
	}
	if p.answer != nil {
		return p.answer(q)
	}
	return p.decide(q.GetMcp(), q.GetResource(), who(q.GetSubject(), q.GetCredentials())), nil
}

// who is the person: a token is "person" or "person/anything".
func who(s *authzdv1.Subject, credentials []*authzdv1.Credential) *authzdv1.Identity {
	if s != nil {
		return &authzdv1.Identity{Id: s.GetId()}
	}
	for _, c := range credentials {
		id, _, _ := strings.Cut(c.GetAccessToken(), "/")
		return &authzdv1.Identity{Issuer: "https://as.example.com", Id: id}
	}
	return nil
}

func (p *pdp) decide(m *authzdv1.MCPMessage, r *authzdv1.Resource, subject *authzdv1.Identity) *authzdv1.CheckResponse {
	if subject == nil {
		return &authzdv1.CheckResponse{Decision: authzdv1.Decision_DECISION_DENY, Denial: &authzdv1.Denial{
			Http: &authzdv1.HTTPDenial{Status: 401, Headers: map[string]string{"WWW-Authenticate": "Bearer"}},
		}}
	}
	var params struct{ Name, URI string }
	if len(m.GetParams()) > 0 {
		if err := json.Unmarshal(m.GetParams(), &params); err != nil {
			return nil
		}
	}
	for _, about := range []string{params.Name, params.URI, r.GetId()} {
		if about != "" && slices.Contains(p.deny, about) {
			return denied(`{"content":[{"type":"text","text":"no"}],"isError":true}`, subject)
		}
	}
	return allowed(subject)
}

func allowed(subject *authzdv1.Identity) *authzdv1.CheckResponse {
	return &authzdv1.CheckResponse{
		Decision: authzdv1.Decision_DECISION_ALLOW, CallDigest: "sha-256:x", Subject: subject,
		ExpiresAt: timestamppb.New(time.Now().Add(time.Minute)),
	}
}

func denied(result string, subject *authzdv1.Identity) *authzdv1.CheckResponse {
	return &authzdv1.CheckResponse{
		Decision: authzdv1.Decision_DECISION_DENY, Subject: subject,
		Denial:      &authzdv1.Denial{McpResult: []byte(result)},
		Remediation: &authzdv1.Remediation{Status: "undisclosed"},
	}
}

func (p *pdp) CheckBatch(_ context.Context, q *authzdv1.CheckBatchRequest) (*authzdv1.CheckBatchResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.batches = append(p.batches, q)
	if p.away {
		return nil, errors.New("secret cause")
	}
	out := &authzdv1.CheckBatchResponse{}
	for _, one := range q.GetQueries() {
		out.Items = append(out.Items, &authzdv1.CheckBatchItem{Answer: &authzdv1.CheckBatchItem_Check{
			Check: p.decide(one.GetMcp(), one.GetResource(), who(one.GetSubject(), q.GetCredentials())),
		}})
	}
	return out, nil
}

func (p *pdp) FilterTools(_ context.Context, q *authzdv1.FilterToolsRequest) (*authzdv1.FilterToolsResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.filters = append(p.filters, q)
	if p.away {
		return nil, errors.New("secret cause")
	}
	out := &authzdv1.FilterToolsResponse{}
	for _, raw := range q.GetTools() {
		var tool struct{ Name string }
		if err := json.Unmarshal(raw, &tool); err != nil {
			return nil, err
		}
		judged := &authzdv1.FilteredTool{Name: tool.Name, Access: authzdv1.ToolAccess_TOOL_ACCESS_POSSIBLE}
		if scope, ok := p.needs[tool.Name]; ok {
			judged.Access = authzdv1.ToolAccess_TOOL_ACCESS_AFTER_REMEDIATION
			judged.Needs = &authzdv1.ToolNeeds{Scopes: []string{scope}}
		}
		if slices.Contains(p.deny, tool.Name) {
			judged = &authzdv1.FilteredTool{Name: tool.Name, Access: authzdv1.ToolAccess_TOOL_ACCESS_HIDDEN}
		}
		out.Tools = append(out.Tools, judged)
	}
	return out, nil
}

// set changes the service while it runs.
func (p *pdp) set(f func(*pdp)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p)
}

// questions are the methods that Check was asked about.
func (p *pdp) questions() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, q := range p.asked {
		out = append(out, q.GetMcp().GetMethod())
	}
	return out
}

func enforcer(t *testing.T, p *pdp, change ...func(*pep.Options)) *pep.Enforcer {
	t.Helper()
	o := pep.Options{Decider: p, Server: server, Timeout: 5 * time.Second}
	for _, f := range change {
		f(&o)
	}
	e, err := pep.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}
