package policies_test

import (
	"encoding/json"
	"math/big"
	"slices"
	"strings"
	"time"
)

// who asks: the subject, the agent and the credentials that count.
type who struct {
	subjectType, subject, issuer, agent string
	usable, rejected                    []*token
}

// token is one credential.
type token struct {
	id, code                             string // code: why it is not usable
	iss, sub, client, tenant, acr, bound string
	aud, scopes, amr                     []string
	exp, nbf, iat, auth                  time.Time
	keyed                                bool // bound to a key
	actors                               []any
	details                              []map[string]any // usable ones
	skipped                              []any
	detailsClaim                         any
}

const skew = 60 * time.Second

// whoAsks reads the credentials, and settles subject and agent.
func (r *reading) whoAsks(a *asked) (*who, string) {
	w := &who{subjectType: "identity"}
	var sound, malformed []*token
	for _, c := range array(a.tree["credentials"]) {
		k := readToken(object(c))
		if k.code != "" {
			malformed = append(malformed, k) // the door rejects them
			continue
		}
		if k.code = k.unusable(serverOf(a), a.now); k.code != "" {
			w.rejected = append(w.rejected, k)
			continue
		}
		sound = append(sound, k)
	}
	w.rejected = append(malformed, w.rejected...)
	if code := w.settleSubject(object(a.tree["subject"]), sound); code != "" {
		return nil, code
	}
	for _, k := range sound {
		if k.sub != w.subject || k.iss != w.issuer {
			k.code = "token.subject"
			w.rejected = append(w.rejected, k)
			continue
		}
		w.usable = append(w.usable, k)
	}
	for _, k := range append(slices.Clone(w.usable), w.rejected...) {
		r.readDetails(k)
	}
	return w, w.settleAgent(a)
}

func (w *who) settleSubject(given map[string]any, sound []*token) string {
	if given == nil {
		if len(sound) > 0 {
			w.subject, w.issuer = sound[0].sub, sound[0].iss
		} else {
			w.subjectType = ""
		}
		return ""
	}
	w.subjectType, w.subject, w.issuer = stringOf(given["type"]), stringOf(given["id"]), stringOf(at(given, "properties", "issuer"))
	if w.issuer != "" {
		return ""
	}
	for _, k := range sound {
		if k.sub != w.subject {
			continue
		}
		if w.issuer != "" && w.issuer != k.iss {
			return "request.subject_ambiguous"
		}
		w.issuer = k.iss
	}
	return ""
}

func (w *who) settleAgent(a *asked) string {
	given, has := object(a.tree["context"])["agent"]
	if has && !isText(given) {
		return "request.wrong_type"
	}
	if len(w.usable) == 0 {
		if len(w.rejected) == 0 {
			w.agent = stringOf(given)
		}
		return ""
	}
	w.agent = w.usable[0].client
	for _, k := range w.usable {
		if k.client != w.agent {
			return "request.agent_mismatch"
		}
	}
	if has && given != w.agent {
		return "request.agent_mismatch"
	}
	return ""
}

// unusable says why a well-formed credential does not count.
func (k *token) unusable(server string, now time.Time) string {
	switch {
	case !now.Before(k.exp):
		return "token.expired"
	case k.nbf.After(now.Add(skew)) || k.iat.After(now.Add(skew)):
		return "token.not_yet"
	case server == "" || !slices.Contains(k.aud, server):
		return "token.audience"
	case k.keyed && k.bound == "":
		return "token.proof"
	}
	return ""
}

// readToken reads claims (RFC 9068); a claim of the wrong kind spoils all.
func readToken(c map[string]any) *token {
	k := &token{id: stringOf(c["id"]), bound: stringOf(c["bound_by"])}
	claims := object(c["claims"])
	ok := true
	text := func(name string) string {
		v, has := claims[name]
		ok = ok && (!has || isText(v))
		return stringOf(v)
	}
	list := func(name string) []string {
		v, has := claims[name]
		if has {
			elements, isList := v.([]any)
			ok = ok && isList && !slices.ContainsFunc(elements, func(e any) bool { return !isText(e) })
		}
		return strs(v)
	}
	moment := func(name string) time.Time {
		v, has := claims[name]
		if !has {
			return time.Time{}
		}
		seconds, good := wholeSeconds(v)
		ok = ok && good
		return time.Unix(seconds, 0).UTC()
	}
	k.iss, k.sub, k.client, k.tenant, k.acr = text("iss"), text("sub"), text("client_id"), text("tenant"), text("acr")
	text("txn")
	text("jti")
	if k.aud = []string{stringOf(claims["aud"])}; !isText(claims["aud"]) {
		k.aud = list("aud")
	}
	k.amr = list("amr")
	k.scopes = strings.FieldsFunc(text("scope"), func(c rune) bool { return c == ' ' })
	k.exp, k.nbf, k.iat, k.auth = moment("exp"), moment("nbf"), moment("iat"), moment("auth_time")
	_, k.keyed = claims["cnf"]
	k.detailsClaim = claims["authorization_details"]
	switch {
	case !ok:
		k.code = "token.claims"
	case k.iss == "":
		k.code = "token.issuer"
	case k.sub == "" || k.exp.IsZero():
		k.code = "token.claims"
	case !k.readActors(claims):
		k.code = "token.actors"
	}
	return k
}

func wholeSeconds(v any) (int64, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	r := rational(n)
	whole := new(big.Int).Quo(r.Num(), r.Denom())
	return whole.Int64(), r.Sign() > 0 && whole.Sign() > 0 && whole.Cmp(big.NewInt(253402300799)) <= 0
}

// readActors walks the chain, outermost first. A null is there, and is no actor.
func (k *token) readActors(claims map[string]any) bool {
	for act, given := claims["act"]; given; act, given = object(act)["act"] {
		sub, iss := stringOf(at(act, "sub")), stringOf(at(act, "iss"))
		if v := at(act, "iss"); v != nil && !isText(v) || sub == "" {
			return false
		}
		if iss == "" {
			iss = k.iss
		}
		k.actors = append(k.actors, map[string]any{"issuer": iss, "subject": sub})
	}
	return len(k.actors) <= 8
}

// readDetails sorts out what a token was granted: a claim that is no array of
// objects grants nothing, and neither does an object that is not of its type.
func (r *reading) readDetails(k *token) {
	list := array(k.detailsClaim)
	if len(list) > 64 || slices.ContainsFunc(list, func(e any) bool { return object(e) == nil }) {
		return
	}
	for _, e := range list {
		if d := r.types[stringOf(at(e, "type"))]; d != nil && d.schema.Validate(e) == nil {
			k.details = append(k.details, object(e))
		} else {
			k.skipped = append(k.skipped, e)
		}
	}
}

// document is what policy sees of a token.
func (k *token) document() map[string]any {
	auth := map[string]any{"amr": anys(k.amr)}
	if !k.auth.IsZero() {
		auth["time"] = k.auth.Format(time.RFC3339)
	}
	if k.acr != "" {
		auth["acr"] = k.acr
	}
	granted := []any{}
	for _, d := range k.details {
		granted = append(granted, d)
	}
	actors := k.actors
	if actors == nil {
		actors = []any{}
	}
	out := map[string]any{
		"id": k.id, "verified_by": "pep", "issuer": k.iss, "subject": k.sub, "client_id": k.client,
		"subject_is_client": k.sub == k.client, "audience": anys(k.aud), "scopes": anys(k.scopes),
		"authorization_details": granted, "actors": actors, "auth": auth, "bound_by": k.bound,
		"expires_at": k.exp.Format(time.RFC3339),
	}
	if k.tenant != "" {
		out["tenant"] = k.tenant
	}
	return out
}
