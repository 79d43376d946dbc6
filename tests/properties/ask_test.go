package properties_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/mcp"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	served "github.com/authzd/authzd/tests/internal/doors"
)

// Ids are the same in every answer, so that answers can be compared to the letter.
const (
	decisionID = "decision-id"
	contextID  = "context-id"
	requestID  = "request-id"
)

// answer is what any interface answers, in the form of REST: a decision as JSON, or an
// error as "error CODE at PATH: MESSAGE".
type answer string

func errorAnswer(code, path, message string) answer {
	return placeless(fmt.Appendf(nil, "error %s at %q: %s", code, path, message))
}

// offset is where a text is no JSON: in REST that of the request, in gRPC that of the field.
var offset = regexp.MustCompile(`offset [0-9]+: `)

// placeless leaves out of an answer what is not the same of the two by design.
func placeless(text []byte) answer { return answer(offset.ReplaceAll(text, nil)) }

// doors are the interfaces of authzd over one engine in this process.
type doors struct {
	*served.Doors
	engine *engine.Engine
	local  *api.Local
	rpc    authzdv1.DecisionServiceClient
}

// newEngine decides by compiled policy or by OPA's interpreter alone, always at the same
// time. A busy machine must not make a deny of an allow.
func newEngine(compiled bool) *engine.Engine {
	return engine.New(engine.Options{
		Now: now, NewID: func() string { return decisionID }, NewContextID: func() string { return contextID },
		Budget: time.Minute, VerifySample: -1, Compiled: compiled,
	})
}

// openDoors serves e on free ports until the test ends.
func openDoors(t *testing.T, e *engine.Engine) *doors {
	t.Helper()
	d := served.Open(t, api.Options{
		Engine: e, MaxDuration: time.Minute, QueueTime: time.Minute, NewRequestID: func() string { return requestID },
	})
	return &doors{d, e, d.Server.Local(), authzdv1.NewDecisionServiceClient(d.Conn)}
}

// post asks REST.
func (d *doors) post(ctx context.Context, path string, m proto.Message) (answer, error) {
	body, err := api.MarshalJSON(m)
	if err != nil {
		return "", fmt.Errorf("write %s: %w", path, err)
	}
	decided, text, err := d.Send(ctx, http.MethodPost, path, body)
	if err != nil {
		return "", err
	}
	return read(bytes.TrimSpace(text), decided, requestID)
}

// read reads an answer as REST and authzd check give it; an error has to have the id of
// the request.
func read(text []byte, decided bool, id string) (answer, error) {
	if decided {
		return placeless(text), nil
	}
	var e struct {
		Code, Message, Path string
		RequestID           string `json:"request_id"`
	}
	if err := json.Unmarshal(text, &e); err != nil || e.Code == "" || e.RequestID != id {
		return "", fmt.Errorf("an error without code, or of another request: %s", text)
	}
	return errorAnswer(e.Code, e.Path, e.Message), nil
}

// message makes an answer of one of gRPC.
func message(m proto.Message, err error) (answer, error) {
	if err == nil {
		text, err := api.MarshalJSON(m)
		return placeless(text), err
	}
	info, fault := served.Info(err)
	if fault == nil && info.GetMetadata()["request_id"] != requestID {
		fault = fmt.Errorf("an error of another request: %w", err)
	}
	if fault != nil {
		return "", fault
	}
	return errorAnswer(info.GetReason(), info.GetMetadata()["path"], status.Convert(err).Message()), nil
}

// library asks e by itself, as a program does that has no server. The decision has more
// than the answer.
func library(ctx context.Context, e *engine.Engine, query []byte) (answer, *engine.Decision, error) {
	r, err := api.DecodeQuery(query, api.Limits{})
	var d engine.Decision
	if err == nil {
		d, err = e.Decide(ctx, r.Query)
	}
	if err == nil {
		resp := api.Respond(d, r, api.DenialOptions{})
		return answer(resp.AppendJSON(nil)), &d, nil
	}
	if d.Allow {
		return "", nil, fmt.Errorf("allow and error: %w", err)
	}
	a, err := libraryError(err)
	return a, &d, err
}

func libraryError(err error) (answer, error) {
	text := func(err error) string {
		if err == nil {
			return ""
		}
		return err.Error()
	}
	if e, ok := errors.AsType[*api.Error](err); ok {
		return errorAnswer(string(e.Code), e.Path, text(e.Err)), nil
	}
	if e, ok := errors.AsType[*engine.Error](err); ok {
		return errorAnswer(string(e.Code), e.Path, text(e.Err)), nil
	}
	if e, ok := errors.AsType[*mcp.Error](err); ok {
		return errorAnswer(string(e.Code), e.Path, text(e.Err)), nil
	}
	return "", fmt.Errorf("an error without code: %w", err)
}

// save writes the bundles into folders below dir, and returns them by name.
func (p *policy) save(dir string) (map[string]string, error) {
	out := map[string]string{}
	for name, files := range p.bundles {
		out[name] = filepath.Join(dir, name)
		for path, text := range files {
			at := filepath.Join(out[name], path)
			if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
				return nil, err
			}
			if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// compile compiles the bundles in dirs.
func compile(ctx context.Context, dirs map[string]string) (*engine.Snapshot, error) {
	var list []engine.Bundle
	for name, dir := range dirs {
		content, err := bundles.Open(dir, bundles.Limits{})
		if err != nil {
			return nil, err
		}
		content.Bundle.Name = name
		list = append(list, content.Bundle)
	}
	s, _, err := engine.Compile(ctx, list)
	return s, err
}

// tooSlow is what the program, with its own budget, answers on a busy machine: a deny.
const tooSlow = `"engine.budget"`

// check runs authzd check, a process, with the ids that it makes replaced by ours.
func check(ctx context.Context, authzd string, dirs map[string]string, query []byte) (answer, error) {
	args := []string{"check", "-f", "-", "-o", "json", "--now", now().Format(time.RFC3339)}
	for name, dir := range dirs {
		args = append(args, "--bundle", name+"="+dir)
	}
	cmd := exec.CommandContext(ctx, authzd, args...)
	cmd.Stdin = bytes.NewReader(query)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
		return "", fmt.Errorf("authzd check: %w", err)
	}
	code := cmd.ProcessState.ExitCode()
	text := bytes.TrimSpace(out.Bytes())
	if code == 1 {
		return read(text, false, "")
	}
	var a struct {
		Decision    string
		ID          string `json:"decision_id"`
		Remediation struct {
			ContextID string `json:"authorization_context_id"`
		}
	}
	if err := json.Unmarshal(text, &a); err != nil || a.ID == "" || map[string]int{"ALLOW": 0, "DENY": 2}[a.Decision] != code {
		return "", fmt.Errorf("authzd check exits with %d: %s%s", code, text, &errs)
	}
	ids := []string{a.ID, decisionID}
	if a.Remediation.ContextID != "" {
		ids = append(ids, a.Remediation.ContextID, contextID)
	}
	return answer(strings.NewReplacer(ids...).Replace(string(text))), nil
}
