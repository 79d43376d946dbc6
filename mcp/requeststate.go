package mcp

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"github.com/authzd/authzd/rar"
)

// RequestState is what a server hands to a client with an InputRequiredResult
// and gets back with the retry (MCP 2026-07-28, multi round trips). The client
// can change it, so it travels sealed, and it counts only for the request that
// it was made for.
type RequestState struct {
	// Principal is who was denied; Method and ArgumentsDigest are the request
	// (the decision's call_digest).
	Principal, Method, ArgumentsDigest string
	// Expires is when it ceases to count, to the second.
	Expires time.Time
}

// minStateKey is the least length of a key in bytes.
const minStateKey = 32

// maxState bounds the text of a sealed state.
const maxState = 4096

// Seal makes the text that the client is sent: the state, which it can read,
// and an HMAC-SHA256 of it. The key has 32 bytes or more.
func (s RequestState) Seal(key []byte) (string, error) {
	if len(key) < minStateKey {
		return "", fail(CodeRequestState, "", "the key is shorter than 32 bytes")
	}
	body := object(
		member("p", str(s.Principal)), member("m", str(s.Method)), member("a", str(s.ArgumentsDigest)),
		member("e", rar.IntValue(s.Expires.Unix())),
	).AppendJSON(nil)
	text := base64.RawURLEncoding.EncodeToString(body)
	text += "." + base64.RawURLEncoding.EncodeToString(stateSum(key, text))
	if len(text) > maxState {
		return "", fail(CodeRequestState, "", "the state is too long")
	}
	return text, nil
}

func stateSum(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	_, _ = h.Write([]byte("authzd request state v1\x00" + text)) // a hash takes everything
	return h.Sum(nil)
}

// OpenRequestState gives back what was sealed by one of keys, the current one
// first, if it still counts for this principal and request at now. Else it is an
// *Error with CodeRequestState: the request is then refused (MCP: state that
// influences authorization must be verified). It never allows anything; the
// retry is decided from scratch.
func OpenRequestState(keys [][]byte, sealed string, now time.Time, principal, method, argumentsDigest string) (RequestState, error) {
	refused := fail(CodeRequestState, "/params/requestState", "the state is not one of this server for this request, or has expired")
	encoded, sum, _ := strings.Cut(sealed, ".")
	if len(sealed) > maxState {
		return RequestState{}, refused
	}
	got, err := base64.RawURLEncoding.Strict().DecodeString(sum)
	if err != nil {
		return RequestState{}, refused
	}
	genuine := 0
	for _, key := range keys {
		if len(key) >= minStateKey {
			genuine |= subtle.ConstantTimeCompare(got, stateSum(key, encoded))
		}
	}
	body, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if genuine != 1 || err != nil {
		return RequestState{}, refused
	}
	v, err := rar.DecodeStrict(body, rar.Limits{MaxBytes: maxState})
	if err != nil {
		return RequestState{}, refused
	}
	s := RequestState{}
	s.Principal, _ = text(v, "p")
	s.Method, _ = text(v, "m")
	s.ArgumentsDigest, _ = text(v, "a")
	expires, _ := v.Get("e")
	seconds, err := strconv.ParseInt(expires.Text(), 10, 64)
	s.Expires = time.Unix(seconds, 0)
	if err != nil || !now.Before(s.Expires) || s.Principal == "" || s.Principal != principal || s.Method != method || s.ArgumentsDigest != argumentsDigest {
		return RequestState{}, refused
	}
	return s, nil
}
