package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/authzd/authzd/api/callers"
	"github.com/authzd/authzd/bundles/follow"
	"github.com/authzd/authzd/bundles/registry"
	"github.com/authzd/authzd/engine"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

const (
	headerRequestID = "X-Request-Id"
	typeJSON        = "application/json"
	maxHeaderBytes  = 32 << 10
	maxPooled       = 256 << 10
)

// route is what one path answers.
type route struct {
	method string
	door   door
	// name stands for the path in the table of needs.
	name  string
	serve func(w http.ResponseWriter, r *http.Request, c call)
}

// routes is fixed once the server runs; looked up by exact path, so that no
// spelling of a path reaches a handler that another one is meant for. Only the
// names of bundles, the paths of their data and the ids of blocks are variable.
func (s *Server) routes(g *gateway) map[string][]route {
	byGateway := func(w http.ResponseWriter, r *http.Request, c call) { g.serve(w, r, c) }
	// The parameters of the URL that a method has.
	withQuery := func(names ...string) func(http.ResponseWriter, *http.Request, call) {
		return func(w http.ResponseWriter, r *http.Request, c call) {
			if err := knownQuery(r, names...); err != nil {
				s.refuse(w, r, c, err)
				return
			}
			g.serve(w, r, c)
		}
	}
	metrics := promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{})
	return map[string][]route{
		"/v1/check":                          {{http.MethodPost, doorREST, authzdv1.DecisionService_Check_FullMethodName, s.restCheck}},
		"/v1/check:batch":                    {{http.MethodPost, doorGateway, authzdv1.DecisionService_CheckBatch_FullMethodName, byGateway}},
		"/v1/check:explain":                  {{http.MethodPost, doorGateway, authzdv1.DecisionService_Explain_FullMethodName, byGateway}},
		"/v1/tools:filter":                   {{http.MethodPost, doorGateway, authzdv1.DecisionService_FilterTools_FullMethodName, byGateway}},
		"/v1/authorization-details:compare":  {{http.MethodPost, doorGateway, authzdv1.AuthorizationDetailsService_Compare_FullMethodName, byGateway}},
		"/v1/authorization-details:validate": {{http.MethodPost, doorGateway, authzdv1.AuthorizationDetailsService_Validate_FullMethodName, byGateway}},
		"/v1/authorization-details:plan":     {{http.MethodPost, doorGateway, authzdv1.AuthorizationDetailsService_Plan_FullMethodName, byGateway}},
		"/v1/authorization-details/types":    {{http.MethodGet, doorGateway, authzdv1.AuthorizationDetailsService_ListTypes_FullMethodName, withQuery("resource")}},
		pathBundles:                          {{http.MethodGet, doorGateway, authzdv1.BundleService_ListBundles_FullMethodName, withQuery("page_size", "page_token")}},
		pathBundle: {
			{http.MethodGet, doorGateway, authzdv1.BundleService_GetBundle_FullMethodName, withQuery()},
			{http.MethodPut, doorREST, authzdv1.BundleService_PushBundle_FullMethodName, s.restPush},
		},
		pathBundle + pathData: {
			{http.MethodGet, doorREST, authzdv1.BundleService_GetData_FullMethodName, s.restGetData},
			{http.MethodPut, doorREST, authzdv1.BundleService_ChangeData_FullMethodName, s.restChangeData},
			{http.MethodDelete, doorREST, authzdv1.BundleService_ChangeData_FullMethodName, s.restChangeData},
			{http.MethodPatch, doorREST, authzdv1.BundleService_ChangeData_FullMethodName, s.restChangeData},
		},
		pathBundle + pathDownload: {{http.MethodGet, doorREST, authzdv1.BundleService_DownloadBundle_FullMethodName, s.restDownload}},
		pathBundle + ":activate":  {{http.MethodPost, doorGateway, authzdv1.BundleService_ActivateBundle_FullMethodName, withQuery()}},
		pathBundle + ":rollback":  {{http.MethodPost, doorGateway, authzdv1.BundleService_RollbackBundle_FullMethodName, withQuery()}},
		pathBlocks: {
			{http.MethodGet, doorGateway, authzdv1.BlockService_ListBlocks_FullMethodName, withQuery("page_size", "page_token")},
			{http.MethodPost, doorGateway, authzdv1.BlockService_CreateBlock_FullMethodName, withQuery()},
		},
		pathBlock:   {{http.MethodDelete, doorGateway, authzdv1.BlockService_LiftBlock_FullMethodName, withQuery("why")}},
		pathArchive: {{http.MethodGet, doorREST, pathArchive, s.restArchive}},
		pathHealth:  {{http.MethodGet, doorREST, pathHealth, s.restHealth}},
		pathReady:   {{http.MethodGet, doorREST, pathReady, s.restReady}},
		pathMetrics: {{http.MethodGet, doorREST, pathMetrics, func(w http.ResponseWriter, r *http.Request, _ call) { metrics.ServeHTTP(w, r) }}},
		pathOpenAPI: {{http.MethodGet, doorREST, pathOpenAPI, s.restOpenAPI}},
	}
}

// routesOf finds what a path answers: itself, or the pattern for a bundle's
// name or a block's id in it.
func routesOf(routes map[string][]route, path string) []route {
	if id, below := strings.CutPrefix(path, pathBlocks+"/"); below {
		if _, err := ulid.ParseStrict(id); err != nil {
			return nil
		}
		return routes[pathBlock]
	}
	if name, ok := archiveName(path); ok {
		if !registry.Named(name) {
			return nil
		}
		return routes[pathArchive]
	}
	rest, below := strings.CutPrefix(path, pathBundles+"/")
	if !below {
		return routes[path]
	}
	name, verb := rest, ""
	if at := strings.IndexAny(rest, ":/"); at >= 0 {
		name, verb = rest[:at], rest[at:]
	}
	if !registry.Named(name) {
		return nil
	}
	if strings.HasPrefix(verb, pathData+"/") { // the path of a document
		verb = pathData
	}
	return routes[pathBundle+verb]
}

// byMethod picks the route for a method, and tells which methods there are.
func byMethod(list []route, method string) (to route, allowed string, ok bool) {
	methods := make([]string, 0, len(list))
	for _, r := range list {
		if r.method == method || r.method == http.MethodGet && method == http.MethodHead {
			return r, "", true
		}
		methods = append(methods, r.method)
	}
	return route{}, strings.Join(methods, ", "), false
}

// handler is the HTTP door: it refuses what no browser tab may do, and routes.
func (s *Server) handler(g *gateway) http.Handler {
	routes := s.routes(g)
	origin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.handlers.Add(1)
		defer s.handlers.Done()
		c := call{door: doorREST, requestID: s.opts.NewRequestID()}
		header := w.Header()
		header[headerRequestID] = []string{c.requestID}
		header["X-Content-Type-Options"] = []string{"nosniff"}
		defer func() {
			if v := recover(); v != nil {
				s.refuse(w, r, c, panicError(v))
			}
		}()
		if !s.hostAllowed(r) {
			s.refuse(w, r, c, errorf(CodeHostRefused, "", "this server does not answer to that Host"))
			return
		}
		if err := origin.Check(r); err != nil {
			s.refuse(w, r, c, errorf(CodeOriginRefused, "", "this server does not answer pages of other origins"))
			return
		}
		list := routesOf(routes, r.URL.Path)
		to, allowed, ok := byMethod(list, r.Method)
		switch {
		case len(list) == 0:
			s.refuse(w, r, c, errorf(CodeNotFound, "", "nothing is served at this path"))
		case !ok:
			header.Set("Allow", allowed)
			s.refuse(w, r, c, errorf(CodeMethodNotAllowed, "", "this path takes %s only", allowed))
		case to.method == http.MethodPost && !jsonContent(r.Header.Get("Content-Type")):
			c.door = to.door
			s.refuse(w, r, c, errorf(CodeContentType, "", "send JSON as Content-Type application/json"))
		default:
			c.door = to.door
			if err := s.enter(r.Context(), &c, to.name, func() (callers.Caller, *refused) { return s.webCaller(r) }); err != nil {
				s.refuse(w, r, c, err)
				return
			}
			defer c.arrival.leave()
			if c.arrival != nil {
				runtime.Gosched() // whatever has come on other connections arrives, too
			}
			to.serve(w, r, c)
		}
	})
}

// knownQuery refuses parameters of the URL that the method does not have, and
// those that are given twice: the gateway would take one without a word.
func knownQuery(r *http.Request, names ...string) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return errorf(CodeSyntax, "", "the query of the URL is malformed")
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		switch {
		case !slices.Contains(names, name):
			return unknown("", name)
		case len(query[name]) > 1:
			return errorf(CodeDuplicateKey, "/"+name, "the parameter is given twice")
		}
	}
	return nil
}

// jsonContent admits JSON, and what curl -d declares when it is told nothing.
// A web page could send that without asking first; the check of the origin has
// refused those.
func jsonContent(header string) bool {
	if header == typeJSON || header == "" {
		return true
	}
	kind, params, err := mime.ParseMediaType(header)
	if err != nil {
		return false
	}
	if charset, has := params["charset"]; has && !strings.EqualFold(charset, "utf-8") {
		return false
	}
	return kind == typeJSON || kind == "application/x-www-form-urlencoded"
}

// restCheck is the hot path: JSON to query, decision, JSON, with no message in
// between and on the connection's own goroutine.
func (s *Server) restCheck(w http.ResponseWriter, r *http.Request, c call) {
	buffer := s.buffer()
	defer s.reuse(buffer)
	err := s.guard(r.Context(), c, func(ctx context.Context) error {
		if err := s.readQuery(buffer, r); err != nil {
			return err
		}
		at := s.pool.seat(c.caller.Name, 1)
		defer at.leave()
		resp, err := s.decideBody(ctx, c, at, buffer.Bytes())
		if err != nil {
			return err
		}
		// The query's values have copied what they need of the buffer.
		buffer.Reset()
		buffer.Write(append(resp.AppendJSON(buffer.AvailableBuffer()), '\n'))
		return nil
	})
	if err != nil {
		s.refuse(w, r, c, err)
		return
	}
	writeJSON(w, http.StatusOK, buffer.Bytes())
}

// decideBody decodes and decides within one turn, unless something has to be waited
// for in between.
func (s *Server) decideBody(ctx context.Context, c call, at *seat, body []byte) (resp *Response, err error) {
	decode := func() (Request, error) { return decodeQuery(body, s.opts.Limits, s.verifying(), s.asker()) }
	var r Request
	waits := s.verifying()
	if !waits {
		full := at.here(ctx, func(ctx context.Context) {
			if r, err = decode(); err != nil {
				return
			}
			if waits = r.Require != (engine.PolicyRef{}); !waits {
				resp, err = s.decideLive(ctx, c, r)
			}
		})
		if full != nil {
			return nil, full
		}
		if err != nil || !waits {
			return resp, err
		}
	}
	if r, err = s.prepare(ctx, c, at, decode, settling(false)); err != nil {
		return nil, err
	}
	if full := at.here(ctx, func(ctx context.Context) { resp, err = s.decideLive(ctx, c, r) }); full != nil {
		return nil, full
	}
	return resp, err
}

// readQuery reads the body, which is bounded before it is read.
func (s *Server) readQuery(into *bytes.Buffer, r *http.Request) error {
	limit := int64(s.opts.Limits.MaxBytes)
	if r.ContentLength > limit {
		return tooLarge(int(limit))
	}
	if _, err := into.ReadFrom(io.LimitReader(r.Body, limit+1)); err != nil {
		return &Error{Code: CodeRequestBody, Err: errors.New("the body could not be read to its end")}
	}
	if int64(into.Len()) > limit {
		return tooLarge(int(limit))
	}
	return nil
}

// readBody is readQuery for the gateway.
func readBody(r io.Reader, limit int) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, &Error{Code: CodeRequestBody, Err: errors.New("the body could not be read to its end")}
	}
	if len(data) > limit {
		return nil, tooLarge(limit)
	}
	return data, nil
}

func tooLarge(limit int) *Error {
	return errorf(CodeTooLarge, "", "the request is larger than %d bytes", limit)
}

func (s *Server) buffer() *bytes.Buffer {
	if b, ok := s.buffers.Get().(*bytes.Buffer); ok {
		return b
	}
	return new(bytes.Buffer)
}

func (s *Server) reuse(b *bytes.Buffer) {
	if b.Cap() <= maxPooled {
		b.Reset()
		s.buffers.Put(b)
	}
}

// refuse answers with an error, which guard may have accounted for already.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, c call, err error) {
	var done *faultError
	if !errors.As(err, &done) && !errors.As(s.account(r.Context(), c, err), &done) {
		return
	}
	writeFault(w, done.fault, c.requestID)
}

func writeFault(w http.ResponseWriter, f fault, requestID string) {
	if f.outcome.http == http.StatusUnauthorized {
		w.Header()["Www-Authenticate"] = []string{"Bearer"}
	}
	if f.outcome.http == http.StatusTooManyRequests {
		// RFC 9110 section 10.2.3 has whole seconds.
		w.Header()["Retry-After"] = []string{strconv.Itoa(int(retryAfter().Round(time.Second) / time.Second))}
	}
	writeJSON(w, f.outcome.http, append(f.appendJSON(nil, requestID), '\n'))
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	header := w.Header()
	header["Content-Type"] = []string{typeJSON}
	header["Cache-Control"] = []string{"no-store"}
	w.WriteHeader(status)
	// Who has gone gets no answer; there is nobody to tell.
	_, _ = w.Write(body)
}

func (s *Server) restHealth(w http.ResponseWriter, _ *http.Request, _ call) {
	writeJSON(w, http.StatusOK, []byte("{\"status\":\"live\"}\n"))
}

// restReady is 200 only while a decision can be made.
func (s *Server) restReady(w http.ResponseWriter, _ *http.Request, c call) {
	s.observe()
	live, err := s.liveSnapshot()
	switch {
	case s.health.stopping():
		writeFault(w, faultOf(&engine.Error{Code: engine.CodeNotReady, Err: errors.New("the server is stopping")}), c.requestID)
	case err != nil:
		writeFault(w, faultOf(err), c.requestID)
	case s.opts.Access.known():
		// Whoever asks is not known, and needs no more.
		writeJSON(w, http.StatusOK, []byte("{\"status\":\"ready\"}\n"))
	default:
		body := []byte(`{"status":"ready","policy":{"bundle":`)
		body = appendString(body, live.Policy().Bundle)
		body = append(body, `,"revision":`...)
		body = appendString(body, live.Policy().Revision)
		body = append(body, '}')
		body = appendFollowed(body, s.opts.Follow.Status())
		writeJSON(w, http.StatusOK, append(body, "}\n"...))
	}
}

// appendFollowed tells how old the word of each source is.
func appendFollowed(body []byte, sources []follow.Status) []byte {
	for i, f := range sources {
		body = append(body, ',')
		if i == 0 {
			body = append(body, `"follow":[`...)
		}
		body = appendString(append(body, `{"bundle":`...), f.Bundle)
		body = append(body, `,"age_seconds":`...)
		if f.Age == follow.Never {
			body = append(body, "null"...)
		} else {
			body = strconv.AppendFloat(body, f.Age.Seconds(), 'f', 3, 64)
		}
		if f.Overridden {
			body = append(body, `,"overridden":true`...)
		}
		body = append(body, '}')
	}
	if len(sources) > 0 {
		body = append(body, ']')
	}
	return body
}

func (s *Server) restOpenAPI(w http.ResponseWriter, r *http.Request, c call) {
	if len(s.openapi) == 0 {
		s.refuse(w, r, c, errors.New("no OpenAPI description was built"))
		return
	}
	writeJSON(w, http.StatusOK, s.openapi)
}
