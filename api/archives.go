package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/authzd/authzd/api/callers"
	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/bundles/registry"
	"github.com/authzd/authzd/engine"
)

const (
	pathArchives  = "/bundles/"
	archiveSuffix = ".tar.gz"
	typeArchive   = "application/gzip"
	// typeLongPoll is how OPA's clients see that waiting is honoured.
	typeLongPoll = "application/vnd.openpolicyagent.bundles"
	// headerLatest tells an authzd the tag of what is active, if it lacks something still
	// once it has taken this.
	headerLatest = "X-Latest"
	// maxWait bounds one wait; whoever asked for longer asks again. Networks
	// forget connections that are silent for longer.
	maxWait = time.Minute
	// maxWaiters bounds the followers that wait at once.
	maxWaiters = 1024
	// downloadTime bounds the sending of one, downloadIdle that of a piece of it.
	downloadTime = 2 * time.Minute
	downloadIdle = 10 * time.Second
)

// archiveName is the name in /bundles/NAME.tar.gz.
func archiveName(path string) (string, bool) {
	rest, below := strings.CutPrefix(path, pathArchives)
	name, is := strings.CutSuffix(rest, archiveSuffix)
	return name, below && is
}

// restArchive hands the active archive of a name to OPAs and to other authzds:
// the bundle protocol of OPA. Its signature travels within it.
func (s *Server) restArchive(w http.ResponseWriter, r *http.Request, c call) {
	wait := waitOf(r.Header.Values("Prefer"))
	err := s.guardFor(r.Context(), c, wait+downloadTime, func(ctx context.Context) error {
		if err := knownQuery(r); err != nil {
			return err
		}
		bundles, err := s.registry()
		if err != nil {
			return err
		}
		// The deadlines of queries would end the wait. A connection that has none
		// needs none.
		began, control := time.Now(), http.NewResponseController(w)
		deadline := began.Add(wait + downloadTime)
		_, _ = control.SetReadDeadline(deadline), control.SetWriteDeadline(deadline)
		name, _ := archiveName(r.URL.Path)
		tag, err := s.awaitArchive(ctx, bundles, name, r.Header.Values("If-None-Match"), wait)
		if err != nil {
			return err
		}
		if time.Since(began) > time.Second {
			// What has become active since is not for a caller that was struck off
			// meanwhile.
			if err := s.enter(ctx, &c, pathArchive, func() (callers.Caller, *refused) { return s.webCaller(r) }); err != nil {
				return err
			}
		}
		header := w.Header()
		header["Content-Type"] = []string{typeArchive}
		if wait > 0 {
			header["Content-Type"] = []string{typeLongPoll}
		}
		header["Cache-Control"] = []string{"private, no-cache"}
		if has(r.Header.Values("If-None-Match"), tag) {
			header["Etag"] = []string{etagOf(tag)}
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
		had, one := tagAmong(r.Header.Values("If-None-Match"))
		if strings.Contains(tag, ".") && (!one || !takesChanges(r.Header.Values("Prefer"))) {
			// What it would get is not what is active, or not on top of what it has.
			return errorf(CodeNotAcceptable, "", "the data was changed since the release, and the client does not take delta bundles: it says so by Prefer: modes=snapshot,delta")
		}
		step, err := bundles.Next(ctx, name, had)
		if err != nil {
			return err //nolint:wrapcheck // classed by its code
		}
		header["Etag"] = []string{etagOf(step.Tag)}
		if step.Latest != "" {
			header[headerLatest] = []string{etagOf(step.Latest)}
		}
		leave, err := s.enterDownload(ctx, c, step.Size)
		if err != nil {
			return err
		}
		defer leave()
		archive, err := step.Read()
		if err != nil {
			return err //nolint:wrapcheck // classed by its code
		}
		sendArchive(w, r, archive, deadline)
		return nil
	})
	if err != nil {
		header := w.Header()
		header.Del("Etag")
		header.Del(headerLatest)
		s.refuse(w, r, c, err)
	}
}

// awaitArchive is the tag of what is active, once it is one that the client does not
// have; after wait whatever it is.
func (s *Server) awaitArchive(ctx context.Context, r *registry.Registry, name string, had []string, wait time.Duration) (string, error) {
	digest, changed := r.Tag(name)
	if wait > 0 && (digest == "" || has(had, digest)) {
		select {
		case s.waiters <- struct{}{}:
			defer func() { <-s.waiters }()
		default:
			// Not "nothing new": who waits for that would ask again at once.
			return "", errorf(CodeOverloaded, "", "%d clients wait for bundles already", maxWaiters)
		}
		late := time.NewTimer(wait)
		defer late.Stop()
		for waiting := true; waiting && (digest == "" || has(had, digest)); {
			select {
			case <-changed:
				digest, changed = r.Tag(name)
			case <-late.C:
				waiting = false
			case <-s.health.ended:
				return "", &engine.Error{Code: engine.CodeNotReady, Err: errors.New("the server is stopping")}
			case <-ctx.Done():
				return "", ctx.Err() //nolint:wrapcheck // classed by its identity
			}
		}
	}
	if digest == "" {
		return "", &bundles.Error{Code: bundles.CodeNotFound, Path: "/name", Err: errors.New("no pushed bundle of this name is active")}
	}
	return digest, nil
}

// enterDownload takes a place for an archive of this size, unless it is small.
func (s *Server) enterDownload(ctx context.Context, c call, size int64) (leave func(), err error) {
	if size <= smallArchive {
		return func() {}, nil
	}
	return s.downloads.await(ctx, c.caller.Name, placeTime, s.health.ended)
}

// sendArchive writes the archive, in pieces for each of which there is some time.
// What fails after the first byte breaks off, and the length tells the client.
func sendArchive(w http.ResponseWriter, r *http.Request, archive []byte, deadline time.Time) {
	w.Header()["Content-Length"] = []string{strconv.Itoa(len(archive))}
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	control := http.NewResponseController(w)
	for len(archive) > 0 {
		late := time.Now().Add(downloadIdle)
		if late.After(deadline) {
			late = deadline
		}
		_ = control.SetWriteDeadline(late)
		piece := archive[:min(len(archive), pieceBytes)]
		archive = archive[len(piece):]
		if _, err := w.Write(piece); err != nil {
			return // who has gone gets no answer
		}
	}
}

func etagOf(digest string) string { return `"` + digest + `"` }

// has tells whether a digest is among the tags of If-None-Match, compared
// weakly (RFC 9110 section 13.1.2). The tags that this server makes hold no
// comma.
func has(headers []string, digest string) bool {
	for _, h := range headers {
		for tag := range strings.SplitSeq(h, ",") {
			tag = strings.TrimSpace(tag)
			if strings.TrimPrefix(tag, "W/") == etagOf(digest) || tag == "*" && digest != "" {
				return true
			}
		}
	}
	return false
}

// takesChanges tells whether the client takes delta bundles: OPA asks for the mode, an
// authzd by its own word.
func takesChanges(headers []string) bool {
	for _, h := range headers {
		for part := range strings.FieldsFuncSeq(h, func(r rune) bool { return r == ',' || r == ';' || r == '=' }) {
			if part = strings.TrimSpace(part); strings.EqualFold(part, "delta") || strings.EqualFold(part, "authzd-changes") {
				return true
			}
		}
	}
	return false
}

// tagAmong is the one tag of If-None-Match, "" if there is none. False: there are
// several, of which nobody knows which one the client has at the moment.
func tagAmong(headers []string) (tag string, one bool) {
	switch {
	case len(headers) == 0:
		return "", true
	case len(headers) > 1 || strings.Contains(headers[0], ","):
		return "", false
	}
	return strings.Trim(strings.TrimPrefix(strings.TrimSpace(headers[0]), "W/"), `"`), true
}

// waitOf reads wait of Prefer (RFC 7240 section 4.3); 0: there is none. OPA
// sends it behind a list of modes, "modes=snapshot,delta;wait=10", which by the
// letter would make it a parameter of another preference.
func waitOf(headers []string) time.Duration {
	for _, h := range headers {
		for part := range strings.FieldsFuncSeq(h, func(r rune) bool { return r == ',' || r == ';' }) {
			name, value, _ := strings.Cut(part, "=")
			if !strings.EqualFold(strings.TrimSpace(name), "wait") {
				continue
			}
			seconds, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 32)
			if err != nil {
				return 0
			}
			return min(time.Duration(seconds)*time.Second, maxWait)
		}
	}
	return 0
}
