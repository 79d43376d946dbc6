package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync/atomic"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// maxBody bounds a request; a tool call of this server is far smaller.
const maxBody = 1 << 20

type (
	denialKey  struct{}
	denialSlot struct{ held atomic.Pointer[heldDenial] }
	heldDenial struct {
		status   int
		headers  map[string]string
		wordless bool // nothing may stand in the body
	}
)

// put keeps what the HTTP response shall be. A status that would not refuse is
// replaced by one that does.
func (s *denialSlot) put(h *authzdv1.HTTPDenial, wordless bool) {
	status := int(h.GetStatus())
	if !validStatus(status, wordless) {
		status = http.StatusForbidden
	}
	s.held.Store(&heldDenial{status: status, headers: h.GetHeaders(), wordless: wordless})
}

// withDenials lets the guard, which works inside the SDK, answer with an HTTP
// status and headers: an OAuth challenge is not an MCP message. It stands
// directly in front of the SDK's handler, which must be stateless, or a call's
// context would be that of an earlier request.
func withDenials(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && !single(w, r) {
			return
		}
		slot := &denialSlot{}
		next.ServeHTTP(&denialWriter{ResponseWriter: w, slot: slot},
			r.WithContext(context.WithValue(r.Context(), denialKey{}, slot)))
	})
}

// single refuses JSON-RPC batches: one HTTP status cannot answer several calls.
// MCP has none since 2025-06-18, but a client that names no version gets them.
func single(w http.ResponseWriter, r *http.Request) bool {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "request body unreadable or too large", http.StatusRequestEntityTooLarge)
		return false
	}
	if bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("[")) {
		http.Error(w, "JSON-RPC batches are not supported", http.StatusBadRequest)
		return false
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return true
}

// denialWriter replaces the head of a response, and for a challenge drops its
// body, if a denial is held when the response begins.
type denialWriter struct {
	http.ResponseWriter
	slot   *denialSlot
	begun  bool
	silent bool
}

// WriteHeader sends the status given, or the denial's.
func (w *denialWriter) WriteHeader(status int) {
	if w.begun {
		return
	}
	w.begun = true
	if d := w.slot.held.Load(); d != nil {
		status, w.silent = d.status, d.wordless
		if d.wordless {
			w.Header().Del("Content-Type")
		}
		for name, value := range d.headers {
			w.Header().Set(name, value)
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write sends b unless the response is a challenge.
func (w *denialWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.silent {
		return len(b), nil
	}
	return w.ResponseWriter.Write(b)
}
