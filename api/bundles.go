package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/authzd/authzd/api/callers"
	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/bundles/registry"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/store"
)

const (
	// pushTime bounds a push or an activation: upload, compiling and tests.
	pushTime = 2 * time.Minute
	maxWhy   = 1000
	// uploadIdle is how long an upload may be silent.
	uploadIdle = 15 * time.Second
)

// bundleService implements the generated interface on the registry.
type bundleService struct {
	authzdv1.UnimplementedBundleServiceServer
	server *Server
}

// registry is where bundles are pushed to, if anywhere.
func (s *Server) registry() (*registry.Registry, error) {
	if s.opts.Bundles == nil {
		return nil, &bundles.Error{Code: bundles.CodePushUnavailable, Err: errors.New("this server takes no pushed bundles: it has no --data-dir")}
	}
	return s.opts.Bundles, nil
}

// PushBundle takes an upload in pieces.
func (b *bundleService) PushBundle(stream authzdv1.BundleService_PushBundleServer) error {
	s, c := b.server, callFrom(stream.Context())
	var result registry.Result
	err := s.guardFor(stream.Context(), c, pushTime, func(ctx context.Context) error {
		leave, err := s.pushes.enter(c.caller.Name)
		if err != nil {
			return err
		}
		defer leave()
		p, err := s.receive(ctx, stream, c)
		if err != nil {
			return err
		}
		result, err = s.push(ctx, c, p)
		return err
	})
	if err != nil {
		return grpcError(err, c.requestID)
	}
	return stream.SendAndClose(pushed(result)) //nolint:wrapcheck // grpc-go's own
}

func pushed(r registry.Result) *authzdv1.PushBundleResponse {
	return &authzdv1.PushBundleResponse{Bundle: bundleOf(r), Unchanged: r.Unchanged}
}

// receive reads the messages of an upload.
func (s *Server) receive(ctx context.Context, stream authzdv1.BundleService_PushBundleServer, c call) (registry.Push, error) {
	var p registry.Push
	next := pieces(ctx, stream, uploadIdle)
	first, err := next()
	if err != nil {
		return p, err
	}
	o := first.GetOptions()
	if o == nil {
		return p, errorf(CodeMissingMember, "/options", "the first message must have options")
	}
	p = registry.Push{Name: o.GetName(), Activate: o.GetActivate(), AllowOlder: o.GetAllowOlder(), DropChanges: o.GetDropChanges(), Why: o.GetWhy()}
	if err := mayPush(c, p); err != nil {
		return p, err
	}
	for {
		m, err := next()
		if errors.Is(err, io.EOF) {
			return p, nil
		}
		if err != nil {
			return p, err
		}
		if m.GetOptions() != nil {
			return p, errorf(CodeInvalidValue, "/options", "stands in the first message only")
		}
		if p.Archive = append(p.Archive, m.GetChunk()...); len(p.Archive) > bundles.DefaultMaxArchiveBytes {
			return p, archiveTooLarge()
		}
	}
}

func archiveTooLarge() error {
	return &bundles.Error{Code: bundles.CodeTooLarge, Err: errors.New("the archive is larger than " + strconv.Itoa(bundles.DefaultMaxArchiveBytes) + " bytes")}
}

// pieces reads the messages in a goroutine of their own, which ends with the
// stream: grpc-go offers no other way to stop waiting for one.
func pieces(ctx context.Context, stream authzdv1.BundleService_PushBundleServer, idle time.Duration) (next func() (*authzdv1.PushBundleRequest, error)) {
	type received struct {
		m   *authzdv1.PushBundleRequest
		err error
	}
	read := make(chan received)
	go func() {
		for {
			m, err := part(stream)
			select {
			case read <- received{m, err}:
			case <-stream.Context().Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return func() (*authzdv1.PushBundleRequest, error) {
		silent := time.NewTimer(idle)
		defer silent.Stop()
		select {
		case r := <-read:
			return r.m, r.err
		case <-silent.C:
			return nil, errorf(CodeRequestBody, "", "nothing came for %s", idle)
		case <-ctx.Done():
			return nil, ctx.Err() //nolint:wrapcheck // classed by its identity
		}
	}
}

func part(stream authzdv1.BundleService_PushBundleServer) (*authzdv1.PushBundleRequest, error) {
	m, err := stream.Recv()
	switch {
	case errors.Is(err, io.EOF):
		return nil, io.EOF
	case stream.Context().Err() != nil:
		return nil, stream.Context().Err() //nolint:wrapcheck // classed by its identity
	case err != nil:
		return nil, &Error{Code: CodeRequestBody, Err: errors.New("the upload could not be read to its end")}
	case isMalformed(m.ProtoReflect().GetUnknown()):
		return nil, errorf(CodeMalformed, "", "the message is not protobuf of its type")
	}
	return m, nil
}

// mayPush refuses before the archive is read what its options forbid. The
// right to push was asked for before.
func mayPush(c call, p registry.Push) error {
	if p.Activate && !c.caller.Rights.Has(callers.Activate) {
		return rightMissing("/activate", callers.Activate)
	}
	return validWhy(p.Why)
}

// validWhy keeps the record readable.
func validWhy(why string) error {
	if len(why) > maxWhy || strings.ContainsFunc(why, unicode.IsControl) {
		return errorf(CodeInvalidValue, "/why", "is one line of at most %d bytes", maxWhy)
	}
	return nil
}

func (s *Server) push(ctx context.Context, c call, p registry.Push) (registry.Result, error) {
	r, err := s.registry()
	if err != nil {
		return registry.Result{}, err
	}
	p.Who = c.caller.Name
	result, err := r.Push(ctx, p)
	if err == nil {
		s.observe()
	}
	return result, err //nolint:wrapcheck // classed by its code
}

// restPush takes the archive as the body of a PUT.
func (s *Server) restPush(w http.ResponseWriter, r *http.Request, c call) {
	var body []byte
	err := s.guardFor(r.Context(), c, pushTime, func(ctx context.Context) error {
		leave, err := s.pushes.enter(c.caller.Name)
		if err != nil {
			return err
		}
		defer leave()
		p, err := pushOf(r)
		if err != nil {
			return err
		}
		if err := mayPush(c, p); err != nil {
			return err
		}
		if r.ContentLength > bundles.DefaultMaxArchiveBytes {
			return archiveTooLarge()
		}
		// Queries come within seconds; an archive may take its time. A connection
		// that has no deadlines needs none.
		deadline, control := time.Now().Add(pushTime), http.NewResponseController(w)
		_ = control.SetWriteDeadline(deadline.Add(s.opts.MaxDuration))
		upload := &impatient{from: r.Body, control: control, idle: uploadIdle, until: deadline}
		p.Archive, err = io.ReadAll(io.LimitReader(upload, bundles.DefaultMaxArchiveBytes+1))
		_ = control.SetReadDeadline(deadline) // or the end of a silence would end the push
		if err != nil {
			return &Error{Code: CodeRequestBody, Err: errors.New("the body could not be read to its end")}
		}
		if len(p.Archive) > bundles.DefaultMaxArchiveBytes {
			return archiveTooLarge()
		}
		result, err := s.push(ctx, c, p)
		if err != nil {
			return err
		}
		body, err = MarshalJSON(pushed(result))
		return err
	})
	if err != nil {
		s.refuse(w, r, c, err)
		return
	}
	writeJSON(w, http.StatusOK, append(body, '\n'))
}

// impatient reads a body that may be silent for a while, and lasts until a time.
type impatient struct {
	from    io.Reader
	control *http.ResponseController
	idle    time.Duration
	until   time.Time
}

func (i *impatient) Read(p []byte) (int, error) {
	late := time.Now().Add(i.idle)
	if late.After(i.until) {
		late = i.until
	}
	_ = i.control.SetReadDeadline(late)
	return i.from.Read(p) //nolint:wrapcheck // io.EOF among them
}

// pushOf reads the options of a PUT from its URL.
func pushOf(r *http.Request) (registry.Push, error) {
	p := registry.Push{Name: strings.TrimPrefix(r.URL.Path, pathBundles+"/")}
	if err := knownQuery(r, "activate", "allow_older", "drop_changes", "why"); err != nil {
		return p, err
	}
	query := r.URL.Query()
	for name, into := range map[string]*bool{"activate": &p.Activate, "allow_older": &p.AllowOlder, "drop_changes": &p.DropChanges} {
		switch query.Get(name) {
		case "true":
			*into = true
		case "", "false":
		default:
			return p, errorf(CodeInvalidValue, "/"+name, "must be true or false")
		}
	}
	p.Why = query.Get("why")
	return p, nil
}

// ActivateBundle activates a stored revision.
func (b *bundleService) ActivateBundle(ctx context.Context, m *authzdv1.ActivateBundleRequest) (*authzdv1.ActivateBundleResponse, error) {
	change := registry.Change{Name: m.GetName(), Revision: m.GetRevision(), Digest: m.GetDigest(), AllowOlder: m.GetAllowOlder(), DropChanges: m.GetDropChanges(), Why: m.GetWhy()}
	result, err := b.change(ctx, change, (*registry.Registry).Activate)
	if err != nil {
		return nil, err
	}
	return &authzdv1.ActivateBundleResponse{Bundle: bundleOf(result), Unchanged: result.Unchanged}, nil
}

// RollbackBundle goes back.
func (b *bundleService) RollbackBundle(ctx context.Context, m *authzdv1.RollbackBundleRequest) (*authzdv1.RollbackBundleResponse, error) {
	change := registry.Change{Name: m.GetName(), Revision: m.GetRevision(), Digest: m.GetDigest(), Why: m.GetWhy()}
	result, err := b.change(ctx, change, (*registry.Registry).Rollback)
	if err != nil {
		return nil, err
	}
	return &authzdv1.RollbackBundleResponse{Bundle: bundleOf(result), Unchanged: result.Unchanged}, nil
}

func (b *bundleService) change(ctx context.Context, c registry.Change, do func(*registry.Registry, context.Context, registry.Change) (registry.Result, error)) (registry.Result, error) {
	r, err := b.server.registry()
	if err != nil {
		return registry.Result{}, err
	}
	if err := validWhy(c.Why); err != nil {
		return registry.Result{}, err
	}
	c.Who = callFrom(ctx).caller.Name
	// What the caller has asked for is not half done because it went away, and
	// compiling may take longer than a decision may.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pushTime)
	defer cancel()
	result, err := do(r, ctx, c)
	if err == nil {
		b.server.observe()
	}
	return result, err
}

func bundlesOf(list []registry.Result) []*authzdv1.Bundle {
	out := make([]*authzdv1.Bundle, 0, len(list))
	for _, r := range list {
		out = append(out, bundleOf(r))
	}
	return out
}

func bundleOf(r registry.Result) *authzdv1.Bundle {
	b := r.Bundle
	return &authzdv1.Bundle{
		Name: b.Name, Digest: b.Digest, Revision: b.Revision, Sequence: b.Sequence, Size: b.Size,
		State: string(stateOf(b.State)), Kept: b.Kept, UploadedBy: b.UploadedBy,
		UploadedAt: timestamppb.New(b.UploadedAt), ChangedAt: timestamppb.New(b.ChangedAt), Report: reportOf(r.Report), Changes: r.Changes,
	}
}

// stateOf never tells that something is active that does not say so itself.
func stateOf(s store.State) store.State {
	if s == "" {
		return store.StateRejected
	}
	return s
}

func reportOf(r *registry.Report) *authzdv1.BundleReport {
	if r == nil {
		return nil
	}
	return &authzdv1.BundleReport{
		Code: string(r.Code), Problems: problemsOf(r.Problems), Warnings: problemsOf(r.Warnings),
		Omitted: small(r.Omitted), Passed: small(r.Passed), Failed: small(r.Failed), Skipped: small(r.Skipped),
	}
}

func problemsOf(list []registry.Problem) []*authzdv1.BundleProblem {
	out := make([]*authzdv1.BundleProblem, 0, len(list))
	for _, p := range list {
		out = append(out, &authzdv1.BundleProblem{
			Code: p.Code, File: p.File, Line: small(p.Line), Test: p.Test, Path: p.Path, Expected: p.Expected, Got: p.Got, Message: p.Message,
		})
	}
	return out
}

// small is for numbers that are, and stays one if they are not.
func small(n int) int32 { return int32(min(max(n, 0), 1<<30)) }
