package api_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/authzd/authzd/api"
)

// full is a listener that has no descriptors left.
type full struct{ net.Listener }

func (full) Accept() (net.Conn, error) { return nil, syscall.EMFILE }

func (full) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7} }

// A connection that can not be taken is logged, once for a while, and its server is told.
func TestWatched(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	l := api.Watched(full{}, slog.New(slog.NewTextHandler(&log, nil)))
	for range 3 {
		if conn, err := l.Accept(); conn != nil || !errors.Is(err, syscall.EMFILE) {
			t.Errorf("%v, %v", conn, err)
		}
	}
	if strings.Count(log.String(), "127.0.0.1:7") != 1 || !strings.Contains(log.String(), syscall.EMFILE.Error()) {
		t.Errorf("logged: %s", log.String())
	}
}
