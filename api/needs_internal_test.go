package api

import (
	"context"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/authzd/authzd/api/callers"
	"github.com/authzd/authzd/engine"
)

// openMethods are all that anybody may call. A method that is added here needs
// a reason.
func openMethods() []string {
	return []string{"/healthz", "/readyz", "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/List", "/grpc.health.v1.Health/Watch"}
}

func serverWithKeys(t *testing.T) (s *Server, powerless string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "keys.json")
	err := callers.UpdateKeys(file, true, func([]callers.Key) ([]callers.Key, error) {
		// A right that no method asks for yet.
		k, text, err := callers.NewKey(callers.Key{Name: "powerless", Rights: callers.Approve, Created: testTime()}, testRandom{})
		powerless = text
		return []callers.Key{k}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err = New(Options{Engine: engine.New(engine.Options{}), HTTPAddr: "127.0.0.1:0", GRPCAddr: "127.0.0.1:0", Access: Access{KeysFile: file}})
	if err != nil {
		t.Fatal(err)
	}
	return s, powerless
}

// Every method of both doors is in the table, and refuses who is not known
// before it reads a message. One that is registered and not in the table
// refuses everybody.
func TestEveryMethodChecksItsCaller(t *testing.T) {
	t.Parallel()
	s, powerless := serverWithKeys(t)
	rpc := s.newGRPC(t.Context())
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- rpc.Serve(s.grpc) }()
	defer func() {
		rpc.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		_ = s.http.Close()
	}()
	conn, err := grpc.NewClient(s.grpc.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	open, walked := 0, 0
	for service, info := range rpc.GetServiceInfo() {
		for _, m := range info.Methods {
			name := "/" + service + "/" + m.Name
			n := needOf(name)
			walked++
			switch {
			case !n.known:
				t.Errorf("%s is not in the table", name)
			case n.open:
				open++
				if !slices.Contains(openMethods(), name) {
					t.Errorf("%s asks nobody who they are", name)
				}
				continue
			}
			if err := invoke(t, conn, name, ""); status.Code(err) != codes.Unauthenticated || reason(err) != string(CodeUnauthenticated) {
				t.Errorf("%s without a caller: %v", name, err)
			}
			err := invoke(t, conn, name, powerless)
			if n.right != 0 && (status.Code(err) != codes.PermissionDenied || reason(err) != string(CodeRightMissing) || !strings.Contains(err.Error(), n.right.String())) {
				t.Errorf("%s without the right: %v", name, err)
			}
			if n.right == 0 && (status.Code(err) == codes.PermissionDenied || status.Code(err) == codes.Unauthenticated) {
				t.Errorf("%s needs no right: %v", name, err)
			}
		}
	}
	if walked < 10 || open != 3 {
		t.Errorf("walked %d methods, %d of them open", walked, open)
	}
	for name, want := range map[string]Code{"": CodeUnauthenticated, powerless: CodeNotFound} {
		if err := invoke(t, conn, "/authzd.v1.DecisionService/Explode", name); reason(err) != string(want) {
			t.Errorf("an unknown method: %v, want %s", err, want)
		}
	}
}

// invoke makes a call whose message is no protobuf: who is refused is refused
// before anybody looks at it.
func invoke(t *testing.T, conn *grpc.ClientConn, method, key string) error {
	t.Helper()
	ctx := t.Context()
	if key != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method, grpc.ForceCodec(rawCodec{}))
	if err != nil {
		return err
	}
	_ = stream.SendMsg([]byte{0xff})
	_ = stream.CloseSend()
	var answer []byte
	return stream.RecvMsg(&answer)
}

type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) {
	b, _ := v.([]byte)
	return b, nil
}
func (rawCodec) Unmarshal([]byte, any) error { return nil }
func (rawCodec) Name() string                { return "proto" }

func reason(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

func TestEveryRouteChecksItsCaller(t *testing.T) {
	t.Parallel()
	s, powerless := serverWithKeys(t)
	g, err := s.newGateway(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = g.conn.Close() }()
	handler := s.handler(g)
	open := 0
	for path, to := range everyRoute(s.routes(g)) {
		path = strings.NewReplacer("{name}", "main", "{id}", "01ARZ3NDEKTSV4RRFFQ69G5FAV").Replace(path)
		n := needOf(to.name)
		if !n.known {
			t.Errorf("%s (%s) is not in the table", path, to.name)
		}
		if n.open {
			open++
			if !slices.Contains(openMethods(), path) {
				t.Errorf("%s asks nobody who they are", path)
			}
			continue
		}
		ask := func(method, key string) *httptest.ResponseRecorder {
			w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), method, "http://127.0.0.1"+path, unread{t, path})
			r.Header.Set("Content-Type", "application/json")
			if key != "" {
				r.Header.Set("Authorization", "Bearer "+key)
			}
			handler.ServeHTTP(w, r)
			return w
		}
		methods := []string{to.method}
		if to.method == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
		for _, method := range methods {
			if w := ask(method, ""); w.Code != 401 || w.Header().Get("WWW-Authenticate") != "Bearer" || !strings.Contains(w.Body.String(), string(CodeUnauthenticated)) {
				t.Errorf("%s %s without a caller: %d %s", method, path, w.Code, w.Body)
			}
			if n.right == 0 {
				continue
			}
			if w := ask(method, powerless); w.Code != 403 || !strings.Contains(w.Body.String(), string(CodeRightMissing)) || !strings.Contains(w.Body.String(), n.right.String()) {
				t.Errorf("%s %s without the right: %d %s", method, path, w.Code, w.Body)
			}
		}
	}
	if open != 2 {
		t.Errorf("%d open routes", open)
	}
}

// everyRoute walks paths, also those that take two methods.
func everyRoute(routes map[string][]route) iter.Seq2[string, route] {
	return func(yield func(string, route) bool) {
		for path, list := range routes {
			for _, to := range list {
				if !yield(path, to) {
					return
				}
			}
		}
	}
}

// unread is a body that nobody may read.
type unread struct {
	t    *testing.T
	path string
}

func (u unread) Read([]byte) (int, error) {
	u.t.Errorf("%s read a body before it knew its caller", u.path)
	return 0, nil
}

// A gateway that does not say who called has no caller.
func TestGatewayWithoutACaller(t *testing.T) {
	t.Parallel()
	for name, md := range map[string]metadata.MD{
		"none":       {},
		"no rights":  metadata.Pairs(callerNameKey, "x", callerAudienceKey, ""),
		"twice":      metadata.Join(carry(callers.Caller{Name: "x", Rights: 1}), carry(callers.Caller{Name: "x", Rights: 255})),
		"not number": metadata.Pairs(callerNameKey, "x", callerAudienceKey, "", callerRightsKey, "-1"),
	} {
		if c, ok := carried(metadata.NewIncomingContext(t.Context(), md)); ok || c.Rights != 0 {
			t.Errorf("%s: %v", name, c)
		}
	}
	want := callers.Caller{Name: "spiffe://a/ü", Rights: callers.Check | callers.Admin, Audience: "https://x"}
	if got, ok := carried(metadata.NewIncomingContext(t.Context(), carry(want))); !ok || got != want {
		t.Errorf("%v, %v", got, ok)
	}
}

func testTime() time.Time { return time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC) }

// testRandom is predictable.
type testRandom struct{}

func (testRandom) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(i)
	}
	return len(p), nil
}

// The table in docs/security.md is what needOf says.
func TestDocSecurityListsEveryRoute(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, "|"); len(cells) == 5 && strings.HasPrefix(cells[1], " `/") {
			rows[strings.ReplaceAll(strings.TrimSpace(cells[1]), "`", "")] = strings.TrimSpace(cells[3])
		}
	}
	s, _ := serverWithKeys(t)
	routes := s.routes(nil)
	walked := 0
	for path, to := range everyRoute(routes) {
		walked++
		if len(routes[path]) > 1 {
			path += " " + to.method
		}
		n := needOf(to.name)
		want := "a known caller"
		switch {
		case n.open:
			want = "nothing"
		case n.right != 0:
			want = "`" + n.right.String() + "`"
		}
		if got, ok := rows[path]; !ok || !strings.HasPrefix(got, want) {
			t.Errorf("%s: docs/security.md says %q, want %q", path, got, want)
		}
	}
	if len(rows) != walked {
		t.Errorf("docs/security.md lists %d paths of %d", len(rows), walked)
	}
}

// The address that a client connected to is a Host that no name can have been
// made to resolve to; another address is not.
func TestHostIsTheAddressItself(t *testing.T) {
	t.Parallel()
	s, _ := serverWithKeys(t)
	for host, want := range map[string]bool{
		"192.0.2.7": true, "192.0.2.7:8181": true, "[::ffff:192.0.2.7]:8181": true,
		"192.0.2.8": false, "192.0.2.7.example": false, "0300.0.2.7": false, "": false,
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://x/healthz", http.NoBody)
		r.Host = host
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 8181}))
		if got := s.hostAllowed(r); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
	if r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://192.0.2.7/", http.NoBody); s.hostAllowed(r) {
		t.Error("a request without a connection is allowed any address")
	}
}
