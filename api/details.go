package api

import (
	"context"
	"errors"
	"slices"

	"github.com/authzd/authzd/engine"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

// detailsService implements the generated interface on the types of the live
// snapshot.
type detailsService struct {
	authzdv1.UnimplementedAuthorizationDetailsServiceServer
	server *Server
}

// liveSnapshot returns the snapshot to answer on.
func (s *Server) liveSnapshot() (*engine.Snapshot, error) {
	if err := s.opts.Follow.Fresh(); err != nil {
		return nil, err //nolint:wrapcheck // classed by its code
	}
	snapshot := s.opts.Engine.Snapshot()
	if snapshot == nil {
		return nil, &engine.Error{Code: engine.CodeNotReady, Err: errors.New("no policy is loaded")}
	}
	return snapshot, nil
}

// array decodes the JSON array of a field of the request's top level.
func (w *wire) array(data []byte, name string) rar.Value {
	if len(data) == 0 || w.err != nil {
		return rar.Value{}
	}
	v, err := rar.DecodeStrict(data, w.limits.strict(1))
	if err != nil {
		w.fail(requestError(err, "/"+name))
		return rar.Value{}
	}
	if v.Kind() != rar.Array {
		w.fail(wrongType("/"+name, "an array", v))
	}
	return v
}

// onSnapshot runs answer on a worker of the pool, on the live snapshot.
func onSnapshot[T any](ctx context.Context, s *Server, answer func(*engine.Snapshot) (T, error)) (T, error) {
	var out T
	snapshot, err := s.liveSnapshot()
	if err != nil {
		return out, err
	}
	if full := s.pool.seat(callFrom(ctx).caller.Name, 1).onWorker(ctx, func(context.Context) { out, err = answer(snapshot) }); full != nil {
		return out, full
	}
	return out, err
}

// Compare answers by the rules of the declared types.
func (d *detailsService) Compare(ctx context.Context, m *authzdv1.CompareRequest) (*authzdv1.CompareResponse, error) {
	return onSnapshot(ctx, d.server, func(s *engine.Snapshot) (*authzdv1.CompareResponse, error) {
		return CompareDetails(s, m, d.server.opts.Limits)
	})
}

// CompareDetails answers AuthorizationDetailsService.Compare on the types of s.
// Errors are an *Error, or a *rar.Error of a need that is at fault, with a JSON
// Pointer into the request.
func CompareDetails(s *engine.Snapshot, m *authzdv1.CompareRequest, l Limits) (*authzdv1.CompareResponse, error) {
	if err := checkKnown(m.ProtoReflect(), ""); err != nil {
		return nil, err
	}
	w := wire{limits: l.withDefaults()}
	granted, required := w.array(m.GetGranted(), "granted"), w.array(m.GetRequired(), "required")
	if w.err != nil {
		return nil, w.err
	}
	if required.Kind() == rar.Absent {
		return nil, missing("/required")
	}
	out, err := compare(s.Types(), granted, required, m.GetSingleUse())
	if err != nil {
		return nil, err
	}
	out.Policy = policyProto(s.Policy())
	return out, nil
}

// maxDetails bounds either side of a comparison; a token of more is refused by
// rar as a whole.
const maxDetails = rar.DefaultMaxObjects

func compare(types *rar.Types, granted, required rar.Value, singleUse bool) (*authzdv1.CompareResponse, error) {
	if required.Len() > maxDetails {
		return nil, errorf(CodeTooLarge, "/required", "%d objects where %d are allowed", required.Len(), maxDetails)
	}
	needs := make([]rar.Value, required.Len())
	for i := range needs {
		needs[i] = required.Index(i)
	}
	usable, skipped := types.Granted(granted)
	res, err := types.Covers(usable, needs, rar.CoverOptions{SingleUse: singleUse, GrantedValidated: true, Skipped: skipped})
	if err != nil {
		var e *rar.Error
		if errors.As(err, &e) {
			return nil, &rar.Error{Code: e.Code, Path: "/required" + e.Path, Err: e.Err}
		}
		return nil, err
	}
	out := &authzdv1.CompareResponse{Covered: res.Covered}
	for _, r := range res.Because {
		out.Because = append(out.Because, &authzdv1.CompareReason{Required: int32(r.Required), Pointer: valid(r.Pointer), Reason: string(r.Code)}) //nolint:gosec // at most 64
	}
	for _, s := range skipped {
		out.Skipped = append(out.Skipped, faultProto(s.Index, s.Err))
	}
	if res.Covered {
		at := placesOf(granted.Len(), skipped)
		for _, used := range res.Used {
			out.CoveredBy = append(out.CoveredBy, int32(at[used])) //nolint:gosec // at most 64
		}
	}
	return out, nil
}

// placesOf tells for each usable object where it stands in the claim.
func placesOf(n int, skipped []rar.Skipped) []int {
	var at []int
	for i := range n {
		if !slices.ContainsFunc(skipped, func(s rar.Skipped) bool { return s.Index == i }) {
			at = append(at, i)
		}
	}
	return at
}

// faultProto splits the path of a fault, which starts at the array, into the
// object and the place in it.
func faultProto(index int, e *rar.Error) *authzdv1.DetailsFault {
	out := &authzdv1.DetailsFault{Index: -1, Code: string(e.Code), Message: text(e.Err), Pointer: valid(e.Path)}
	if index >= 0 {
		out.Index = int32(index) //nolint:gosec // at most 64
		out.Pointer = valid(afterIndex(e.Path))
	}
	return out
}

// afterIndex cuts the first token off a pointer.
func afterIndex(path string) string {
	for i := 1; i < len(path); i++ {
		if path[i] == '/' {
			return path[i:]
		}
	}
	return ""
}

// Validate answers with every object at fault.
func (d *detailsService) Validate(ctx context.Context, m *authzdv1.ValidateRequest) (*authzdv1.ValidateResponse, error) {
	return onSnapshot(ctx, d.server, func(s *engine.Snapshot) (*authzdv1.ValidateResponse, error) {
		return ValidateDetails(s, m, d.server.opts.Limits)
	})
}

// ValidateDetails answers AuthorizationDetailsService.Validate on the types of
// s. Errors are as those of CompareDetails.
func ValidateDetails(s *engine.Snapshot, m *authzdv1.ValidateRequest, l Limits) (*authzdv1.ValidateResponse, error) {
	if err := checkKnown(m.ProtoReflect(), ""); err != nil {
		return nil, err
	}
	if len(m.GetAuthorizationDetails()) == 0 {
		return nil, missing("/authorization_details")
	}
	details, err := rar.DecodeStrict(m.GetAuthorizationDetails(), l.withDefaults().strict(1))
	if err != nil {
		return nil, requestError(err, "/authorization_details")
	}
	faults := s.Types().Validate(details)
	out := &authzdv1.ValidateResponse{Valid: len(faults) == 0, Policy: policyProto(s.Policy())}
	for _, f := range faults {
		out.Faults = append(out.Faults, faultProto(indexOf(f.Path), f))
		out.Error = f.Code.OAuthError()
	}
	return out, nil
}

// indexOf reads the first token of a pointer into an array; -1 is the array.
func indexOf(path string) int {
	if path == "" {
		return -1
	}
	n := 0
	for _, c := range []byte(path[1:]) {
		if c < '0' || c > '9' {
			break
		}
		n = 10*n + int(c-'0')
	}
	return n
}

func policyProto(p engine.PolicyRef) *authzdv1.PolicyRevision {
	return &authzdv1.PolicyRevision{Bundle: valid(p.Bundle), Revision: valid(p.Revision)}
}
