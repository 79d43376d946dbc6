package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/authzd/authzd/api/callers"
	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/bundles/registry"
	"github.com/authzd/authzd/engine"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/store"
)

const (
	// maxReports bounds the reports in one answer, in bytes, so that it stays below
	// the 4 MiB that gRPC clients take.
	maxReports = 3 << 20
	// pieceBytes is how much of an archive goes in one message.
	pieceBytes = 64 << 10
	// maxWatchers bounds the callers who watch at once.
	maxWatchers = 256
	// watchTime is how long one watches before who they are is asked again.
	watchTime = 5 * time.Minute
)

// ListBundles lists one page of bundles.
func (b *bundleService) ListBundles(ctx context.Context, m *authzdv1.ListBundlesRequest) (*authzdv1.ListBundlesResponse, error) {
	r, err := b.server.registry()
	if err != nil {
		return nil, err
	}
	size, err := pageSize(m.GetPageSize())
	if err != nil {
		return nil, err
	}
	var after store.Place
	if after.Stored, after.Name, err = readPageToken(m.GetPageToken()); err != nil {
		return nil, err
	}
	list, err := r.List(ctx, after, size+1)
	if err != nil {
		return nil, err //nolint:wrapcheck // classed by its code
	}
	out := &authzdv1.ListBundlesResponse{}
	if len(list) > size {
		list = list[:size]
		last := list[size-1].Bundle
		out.NextPageToken = pageToken(last.Stored, last.Name)
	}
	for i := range list {
		list[i].Report = list[i].Report.Brief()
	}
	out.Bundles = bundlesOf(list)
	return out, nil
}

// GetBundle shows one name.
func (b *bundleService) GetBundle(ctx context.Context, m *authzdv1.GetBundleRequest) (*authzdv1.GetBundleResponse, error) {
	r, err := b.server.registry()
	if err != nil {
		return nil, err
	}
	list, events, err := r.Show(ctx, m.GetName())
	if err != nil {
		return nil, err //nolint:wrapcheck // classed by its code
	}
	left := maxReports
	fit := func(report *registry.Report) *registry.Report {
		if left -= proto.Size(reportOf(report)); left < 0 {
			return report.Brief()
		}
		return report
	}
	out := &authzdv1.GetBundleResponse{}
	for i := range list {
		list[i].Report = fit(list[i].Report)
	}
	out.Bundles = bundlesOf(list)
	for _, one := range out.GetBundles() {
		if live := b.server.opts.Engine.Snapshot(); live != nil && one.GetState() == string(store.StateActive) {
			one.Evaluator = evaluatorOf(live)
		}
	}
	for i := range events {
		e := eventOf(&events[i])
		e.Report = reportOf(fit(registry.ParseReport(events[i].Report)))
		out.Events = append(out.Events, e)
	}
	return out, nil
}

// evaluatorOf says what evaluates a policy, and why not the faster one.
func evaluatorOf(s *engine.Snapshot) string {
	state, why := s.Evaluator()
	if why != "" {
		return valid(string(state) + ": " + why)
	}
	return string(state)
}

// eventOf is an event without its report.
func eventOf(e *store.Event) *authzdv1.BundleEvent {
	return &authzdv1.BundleEvent{
		Name: e.Name, At: timestamppb.New(e.At), Digest: e.Digest, Revision: e.Revision, Who: e.Who, Why: e.Why, What: e.What,
		From: string(e.From), To: string(e.To), AllowOlder: e.AllowOlder, Path: e.Path,
	}
}

// found is an archive that is being handed out, until leave is called.
type found struct {
	bundle  registry.Result
	archive []byte
	leave   func()
}

// find waits for a place and reads an archive.
func (s *Server) find(ctx context.Context, c call, m *authzdv1.DownloadBundleRequest) (found, error) {
	r, err := s.registry()
	if err != nil {
		return found{}, err
	}
	var f found
	if f.bundle, err = r.Find(ctx, m.GetName(), m.GetRevision(), m.GetDigest()); err != nil {
		return found{}, err //nolint:wrapcheck // classed by its code
	}
	if f.leave, err = s.enterDownload(ctx, c, f.bundle.Bundle.Size); err != nil {
		return found{}, err
	}
	if f.archive, err = r.Archive(f.bundle.Bundle.Digest); err != nil {
		f.leave()
		return found{}, err //nolint:wrapcheck // classed by its code
	}
	return f, nil
}

// DownloadBundle sends an archive in pieces.
func (b *bundleService) DownloadBundle(m *authzdv1.DownloadBundleRequest, stream authzdv1.BundleService_DownloadBundleServer) error {
	s, c := b.server, callFrom(stream.Context())
	err := s.guardFor(stream.Context(), c, downloadTime, func(ctx context.Context) error {
		f, err := s.find(ctx, c, m)
		if err != nil {
			return err
		}
		defer f.leave()
		to := newSender(stream)
		err = to.send(ctx, &authzdv1.DownloadBundleResponse{Part: &authzdv1.DownloadBundleResponse_Bundle{Bundle: bundleOf(f.bundle)}})
		for rest := f.archive; err == nil && len(rest) > 0; {
			piece := rest[:min(len(rest), pieceBytes)]
			rest = rest[len(piece):]
			err = to.send(ctx, &authzdv1.DownloadBundleResponse{Part: &authzdv1.DownloadBundleResponse_Chunk{Chunk: piece}})
		}
		return err
	})
	if err != nil {
		return grpcError(err, c.requestID)
	}
	return nil
}

// restDownload sends an archive as the body.
func (s *Server) restDownload(w http.ResponseWriter, r *http.Request, c call) {
	err := s.guardFor(r.Context(), c, downloadTime, func(ctx context.Context) error {
		if err := knownQuery(r, "revision", "digest"); err != nil {
			return err
		}
		query := r.URL.Query()
		f, err := s.find(ctx, c, &authzdv1.DownloadBundleRequest{
			Name:     strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, pathBundles+"/"), pathDownload),
			Revision: query.Get("revision"), Digest: query.Get("digest"),
		})
		if err != nil {
			return err
		}
		defer f.leave()
		deadline := time.Now().Add(downloadTime)
		_ = http.NewResponseController(w).SetReadDeadline(deadline)
		header := w.Header()
		header["Content-Type"] = []string{typeArchive}
		header["Cache-Control"] = []string{"private, no-cache"}
		header["Etag"] = []string{etagOf(f.bundle.Bundle.Digest)}
		sendArchive(w, r, f.archive, deadline)
		return nil
	})
	if err != nil {
		s.refuse(w, r, c, err)
	}
}

// WatchBundles tells what happens until the caller goes, or watchTime.
func (b *bundleService) WatchBundles(m *authzdv1.WatchBundlesRequest, stream authzdv1.BundleService_WatchBundlesServer) error {
	s, c := b.server, callFrom(stream.Context())
	err := s.guardFor(stream.Context(), c, watchTime+downloadTime, func(ctx context.Context) error {
		r, err := s.registry()
		if err != nil {
			return err
		}
		if m.GetName() != "" && !registry.Named(m.GetName()) {
			return &bundles.Error{Code: bundles.CodeNameInvalid, Path: "/name", Err: errors.New("is no name of a bundle")}
		}
		if m.GetPosition() < 0 {
			return errorf(CodeInvalidValue, "/position", "must not be negative")
		}
		select {
		case s.watchers <- struct{}{}:
			defer func() { <-s.watchers }()
		default:
			return errorf(CodeOverloaded, "", "%d clients watch bundles already", maxWatchers)
		}
		return s.tellNews(ctx, c, r, m, stream)
	})
	if err != nil {
		return grpcError(err, c.requestID)
	}
	return nil
}

// tellNews sends what there is, and then what comes, for watchTime.
func (s *Server) tellNews(ctx context.Context, c call, r *registry.Registry, m *authzdv1.WatchBundlesRequest, stream authzdv1.BundleService_WatchBundlesServer) (err error) {
	late := time.NewTimer(watchTime)
	defer late.Stop()
	to := newSender(stream)
	var news registry.News
	if m.Position == nil {
		news, err = r.Now(ctx)
	} else {
		news, err = r.Since(ctx, m.GetPosition())
	}
	for first := true; ; first = false {
		if err != nil {
			return err //nolint:wrapcheck // classed by its code
		}
		out := newsOf(&news, m.GetName())
		if !first && len(out.GetEvents()) > 0 { // for who may still hear of it
			if err := s.enter(ctx, &c, authzdv1.BundleService_WatchBundles_FullMethodName, func() (callers.Caller, *refused) { return s.rpcCaller(ctx) }); err != nil {
				return err
			}
		}
		if first || len(out.GetEvents()) > 0 {
			if err := to.send(ctx, out); err != nil {
				return err
			}
		}
		if len(news.Events) == 0 {
			select {
			case <-news.More:
			case <-late.C:
				return nil
			case <-s.health.ended:
				return &engine.Error{Code: engine.CodeNotReady, Err: errors.New("the server is stopping")}
			case <-ctx.Done():
				return ctx.Err() //nolint:wrapcheck // classed by its identity
			}
		}
		news, err = r.Since(ctx, news.Position)
	}
}

// newsOf is what is told to who asked for one name, or for all.
func newsOf(n *registry.News, name string) *authzdv1.WatchBundlesResponse {
	out := &authzdv1.WatchBundlesResponse{Position: n.Position}
	for _, a := range n.Active {
		if name == "" || name == a.Bundle.Name {
			a.Report = a.Report.Brief()
			out.Active = append(out.Active, bundleOf(a))
		}
	}
	for i := range n.Events {
		if name == "" || name == n.Events[i].Name {
			out.Events = append(out.Events, eventOf(&n.Events[i]))
		}
	}
	return out
}
