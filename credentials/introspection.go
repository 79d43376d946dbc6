package credentials

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/rar"
)

const (
	maxCached = 10_000
	// maxAsking bounds the calls under way to one issuer; one more is refused
	// rather than kept waiting.
	maxAsking = 32
)

// introspector asks one issuer about tokens (RFC 7662).
type introspector struct {
	config Introspection
	issuer string
	client *http.Client
	places chan struct{}

	mu     sync.Mutex
	cached map[[32]byte]answer
	// swept is when answers that are over were last looked for.
	swept time.Time
	// warned is when a failed call was last told.
	warned time.Time
	log    *slog.Logger
}

// warnEvery keeps an issuer that is away from filling the log.
const warnEvery = 10 * time.Second

func (in *introspector) warn(ctx context.Context, err error, now time.Time) {
	in.mu.Lock()
	due := now.Sub(in.warned) >= warnEvery
	if due {
		in.warned = now
	}
	in.mu.Unlock()
	if due && ctx.Err() == nil {
		in.log.WarnContext(ctx, "introspection failed", "issuer", in.issuer, "error", err)
	}
}

// answer is a response for an active token.
type answer struct {
	claims rar.Value
	until  time.Time
}

func newIntrospector(is Issuer, o Options) *introspector {
	c := *is.Introspection
	c.CacheFor = orDefault(c.CacheFor, MaxCacheFor)
	return &introspector{
		config: c, issuer: is.Issuer, client: newClient(o.Transport),
		places: make(chan struct{}, maxAsking), cached: map[[32]byte]answer{},
		log: o.Log,
	}
}

// ask returns the claims of an active token. Only these are cached: an answer
// that refuses is asked for again, and pushes nobody out of the cache.
func (in *introspector) ask(ctx context.Context, token string, now time.Time) (rar.Value, engine.Code) {
	key := sha256.Sum256([]byte(token))
	if a, ok := in.recall(key, now); ok {
		return a.claims, ""
	}
	select {
	case in.places <- struct{}{}:
		defer func() { <-in.places }()
	default:
		return rar.Value{}, engine.CodeIssuerUnavailable
	}
	v, err := in.call(ctx, token)
	if err != nil {
		in.warn(ctx, err, now)
		return rar.Value{}, engine.CodeIssuerUnavailable
	}
	// Strictly true: a text "true" or a number is a mistake somewhere.
	if active, _ := v.Get("active"); active.Kind() != rar.Bool || !active.Bool() {
		return rar.Value{}, engine.CodeTokenRevoked
	}
	if code := in.checkAnswer(v); code != "" {
		return rar.Value{}, code
	}
	until := now.Add(in.config.CacheFor)
	if exp, ok := date(v, "exp"); ok && exp.Before(until) {
		until = exp
	}
	in.remember(key, answer{claims: v, until: until}, now)
	return v, ""
}

// checkAnswer: an answer speaks of this issuer's access tokens.
func (in *introspector) checkAnswer(v rar.Value) engine.Code {
	if iss, given := v.Get("iss"); given && (iss.Kind() != rar.String || iss.Text() != in.issuer) {
		return engine.CodeTokenIssuer
	}
	kind, given := v.Get("token_type")
	if given && (kind.Kind() != rar.String || !containsFold([]string{"Bearer", "DPoP", "access_token"}, kind.Text())) {
		return engine.CodeTokenWrongKind
	}
	// Some servers call a refresh token active and leave token_type out (RFC 7662
	// section 2.2 makes it optional); what they do say has to fit.
	if !saysAccess(v) {
		return engine.CodeTokenWrongKind
	}
	_, used := v.Get("token_use")
	_, typed := v.Get("typ")
	if !given && !used && !typed && siblingClaims(v) {
		return engine.CodeTokenWrongKind
	}
	return ""
}

func (in *introspector) recall(key [32]byte, now time.Time) (answer, bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	a, ok := in.cached[key]
	return a, ok && now.Before(a.until)
}

func (in *introspector) remember(key [32]byte, a answer, now time.Time) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.cached) >= maxCached && now.Sub(in.swept) >= time.Second {
		in.swept = now
		for k, old := range in.cached {
			if !now.Before(old.until) {
				delete(in.cached, k)
			}
		}
	}
	for k := range in.cached { // still full: any one makes room
		if len(in.cached) < maxCached {
			break
		}
		delete(in.cached, k)
	}
	in.cached[key] = a
}

var errNoSecret = errors.New("the client secret is empty")

func (in *introspector) call(ctx context.Context, token string) (rar.Value, error) {
	secret, err := readFile(in.config.ClientSecretFile)
	if err != nil {
		return rar.Value{}, err
	}
	password := strings.TrimRight(string(secret), "\r\n")
	if password == "" {
		return rar.Value{}, errNoSecret
	}
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, in.config.Endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return rar.Value{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	// RFC 6749 section 2.3.1: both halves are form-encoded first.
	req.SetBasicAuth(url.QueryEscape(in.config.ClientID), url.QueryEscape(password))
	body, err := do(ctx, in.client, req, maxAnswer)
	if err != nil {
		return rar.Value{}, err
	}
	v, err := rar.DecodeStrict(body, rar.Limits{MaxBytes: maxAnswer, MaxDepth: maxTokenDepth})
	if err != nil || v.Kind() != rar.Object {
		return rar.Value{}, errNoJSON
	}
	return v, nil
}
