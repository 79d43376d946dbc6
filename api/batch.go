package api

import (
	"context"
	"errors"
	"strconv"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/mcp"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

// CheckBatch decides the queries one after the other, each on a worker of the
// pool, all on one snapshot.
func (d *decisionService) CheckBatch(ctx context.Context, m *authzdv1.CheckBatchRequest) (*authzdv1.CheckBatchResponse, error) {
	s := d.server
	shared, err := s.sharedParts(callFrom(ctx), m)
	if err != nil {
		return nil, err
	}
	if shared.require != nil {
		if err := s.awaitRevision(ctx, *shared.require); err != nil {
			return nil, err
		}
	}
	snapshot, err := s.liveSnapshot()
	if err != nil {
		return nil, err
	}
	at := s.pool.seat(callFrom(ctx).caller.Name, len(m.GetQueries()))
	if err := at.take(ctx); err != nil { // as a whole, before any work
		return nil, err
	}
	defer at.leave()
	seen := settling(m.GetListing())
	out := &authzdv1.CheckBatchResponse{Items: make([]*authzdv1.CheckBatchItem, len(m.GetQueries()))}
	for i, q := range m.GetQueries() {
		if out.Items[i], err = s.batchItem(ctx, snapshot, at, shared, i, q, seen); err != nil {
			return nil, err
		}
		if a := out.Items[i].GetCheck(); m.GetListing() && a != nil {
			// Whoever executes wants these, and does not find them.
			a.CallDigest, a.ExpiresAt = "", nil
		}
	}
	return out, nil
}

// sharedParts decodes what the queries of a batch have in common, and checks it
// once for all.
func (s *Server) sharedParts(c call, m *authzdv1.CheckBatchRequest) (parts, error) {
	switch n := len(m.GetQueries()); {
	case n == 0:
		return parts{}, errorf(CodeEmpty, "/queries", "a batch needs at least one query")
	case n > s.opts.Limits.MaxBatch:
		return parts{}, errorf(CodeTooLarge, "/queries", "%d queries where %d are allowed", n, s.opts.Limits.MaxBatch)
	}
	if err := checkKnown(m.ProtoReflect(), ""); err != nil {
		return parts{}, err
	}
	w := s.wire(c)
	p := parts{ask: w.ask, require: w.require(m.GetRequireRevision()), credentials: w.credentials(m.GetCredentials())}
	if w.err != nil {
		return parts{}, w.err
	}
	return p, p.check()
}

// batchItem answers one query. Its own fault is its answer; an error is the
// whole batch's: no time, no room, or a fault of ours.
func (s *Server) batchItem(ctx context.Context, snapshot *engine.Snapshot, at *seat, shared parts, i int, q *authzdv1.CheckBatchQuery, seen settled) (*authzdv1.CheckBatchItem, error) {
	c := callFrom(ctx)
	decode := func() (Request, error) {
		p := shared
		p.require = nil // waited for already
		w := s.wire(c)
		w.query(&p, q)
		if w.err != nil {
			return Request{}, w.err
		}
		return p.request()
	}
	var resp *Response
	var r Request
	var err error
	if s.verifying() {
		r, err = s.prepare(ctx, c, at, decode, seen)
	}
	if err == nil {
		if full := at.onWorker(ctx, func(ctx context.Context) {
			if !s.verifying() {
				r, err = decode()
			}
			if err == nil {
				resp, err = s.decide(ctx, c, snapshot, r)
			}
		}); full != nil {
			return nil, full
		}
	}
	if err == nil {
		return &authzdv1.CheckBatchItem{Answer: &authzdv1.CheckBatchItem_Check{Check: resp.Proto()}}, nil
	}
	if ctx.Err() != nil {
		return nil, err
	}
	var accounted *faultError
	if !errors.As(s.account(ctx, c, within("/queries", i, err)), &accounted) {
		return nil, err
	}
	f := accounted.fault
	return &authzdv1.CheckBatchItem{Answer: &authzdv1.CheckBatchItem_Error{Error: &authzdv1.Error{
		Code: f.code, Message: f.message, Path: f.path, RequestId: c.requestID,
	}}}, nil
}

// within places an error of element i in the list of the request.
func within(list string, i int, err error) error { return placed(list+"/"+strconv.Itoa(i), err) }

// placed places an error of a part of the request that stands at a pointer.
func placed(at string, err error) error {
	var own *Error
	var eng *engine.Error
	var msg *mcp.Error
	var detail *rar.Error
	switch {
	case errors.As(err, &own):
		return &Error{Code: own.Code, Path: at + own.Path, Err: own.Err}
	case errors.As(err, &eng):
		return &engine.Error{Code: eng.Code, Path: at + eng.Path, Err: eng.Err}
	case errors.As(err, &msg):
		return &mcp.Error{Code: msg.Code, Path: at + msg.Path, Err: msg.Err}
	case errors.As(err, &detail):
		return &rar.Error{Code: detail.Code, Path: at + detail.Path, Err: detail.Err}
	}
	return err
}
