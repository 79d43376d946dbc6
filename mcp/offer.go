package mcp

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/authzd/authzd/rar"
)

// offer is one way out of a denial: what must be got together. Either
// credentials is set, or approval, or both when everything is needed.
type offer struct {
	credentials *need
	approvals   []Remedy
}

// need joins all credential kinds of an offer, because one challenge must tell
// them all.
type need struct {
	token          *TokenRemedy
	authentication *AuthenticationRemedy
	proof          *ProofOfPossessionRemedy
	txn            string
	details        []rar.Value
	singleUse      bool
	reference      string
	scopes         []string
	// lacking: some of the scopes are not held.
	lacking     bool
	description string
}

// offers sorts the remedies into ways out, in policy's order. A remedy that is
// malformed takes with it everything that it is needed together with: part of
// what is needed is not a remedy. The error tells what was left out.
func offers(d Denial) ([]offer, error) {
	var (
		list     []offer
		faults   []error
		together offer // the credentials, and with AllNeeded everything
		at       = -1  // where in list the credentials stand
		broken   bool
	)
	for i, r := range d.Remedies {
		path := fmt.Sprintf("/remedies/%d", i)
		credential := isCredential(r)
		err := checkRemedy(r, path)
		if err != nil {
			faults = append(faults, err)
		}
		if !credential && !d.AllNeeded {
			if err == nil {
				list = append(list, offer{approvals: []Remedy{r}})
			}
			continue
		}
		if at < 0 {
			at = len(list)
			list = append(list, offer{})
		}
		if err == nil {
			err = together.add(r, path)
			if err != nil {
				faults = append(faults, err)
			}
		}
		broken = broken || err != nil
	}
	if at >= 0 {
		list[at] = together
		if broken {
			list = slices.Delete(list, at, at+1)
		}
	}
	return list, errors.Join(faults...)
}

func isCredential(r Remedy) bool {
	switch r.(type) {
	case ScopesRemedy, AuthorizationDetailsRemedy, TxnChallengeRemedy,
		AuthenticationRemedy, ProofOfPossessionRemedy, TokenRemedy:
		return true
	case URLRemedy, OutOfBandRemedy:
		return false
	default:
		// Not one of ours: it then spoils what it stands beside.
		return true
	}
}

// add joins r, which is well-formed, to the offer.
func (o *offer) add(r Remedy, path string) error {
	if !isCredential(r) {
		o.approvals = append(o.approvals, r)
		return nil
	}
	if o.credentials == nil {
		o.credentials = &need{}
	}
	n := o.credentials
	switch r := r.(type) {
	case ScopesRemedy:
		n.scopes = union(n.scopes, r.Scopes)
		n.lacking = n.lacking || !r.Held
		if n.description == "" {
			n.description = r.Description
		}
	case AuthorizationDetailsRemedy:
		n.addDetails(r.AuthorizationDetails, r.SingleUse, r.AuthorizationReference)
	case TxnChallengeRemedy:
		txn := r.Challenge
		if len(n.details) > 0 { // The challenge alone would not do.
			txn = ""
		}
		n.addDetails(r.AuthorizationDetails, true, "")
		n.txn = txn
	case AuthenticationRemedy:
		return n.addAuthentication(r, path)
	case ProofOfPossessionRemedy:
		if n.proof == nil {
			n.proof = &ProofOfPossessionRemedy{}
		}
		n.proof.Algs = union(n.proof.Algs, r.Algs)
	case TokenRemedy:
		n.token = &r
		n.scopes = union(n.scopes, r.Scopes)
	case URLRemedy, OutOfBandRemedy:
	}
	return nil
}

// addDetails appends the objects of one demand. A reference names one demand,
// so it survives only alone, and never with a single-use credential (SEP-2643).
func (n *need) addDetails(details rar.Value, singleUse bool, reference string) {
	first := len(n.details) == 0
	for i := range details.Len() {
		n.details = append(n.details, details.Index(i))
	}
	n.txn = ""
	n.singleUse = n.singleUse || singleUse
	n.reference = ""
	if first && !n.singleUse {
		n.reference = reference
	}
}

// addAuthentication joins two demands on the sign-in: an acr that both accept,
// and the shorter age.
func (n *need) addAuthentication(r AuthenticationRemedy, path string) error {
	if n.authentication == nil {
		n.authentication = &r
		return nil
	}
	both := *n.authentication
	if both.MaxAge == nil || r.MaxAge != nil && *r.MaxAge < *both.MaxAge {
		both.MaxAge = r.MaxAge
	}
	switch {
	case len(both.ACRValues) == 0:
		both.ACRValues = r.ACRValues
	case len(r.ACRValues) > 0:
		common := make([]string, 0, len(both.ACRValues))
		for _, acr := range both.ACRValues {
			if slices.Contains(r.ACRValues, acr) {
				common = append(common, acr)
			}
		}
		if len(common) == 0 {
			return fail(CodeDenialInvalid, path+"/acr_values", "no value satisfies both authentication remedies")
		}
		both.ACRValues = common
	}
	n.authentication = &both
	return nil
}

// detailsOnly: the hint of SEP-2643 promises that a credential for its details
// satisfies the call, so nothing else may be missing. Scopes that are held are
// not missing: what a client asks for besides is its own.
func (n *need) detailsOnly() bool {
	return len(n.details) > 0 && n.token == nil && n.authentication == nil &&
		n.proof == nil && !n.lacking
}

// union appends to a what it lacks of b, in order.
func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// checkRemedy refuses what could not be sent as it is. The path points into the
// denial in the spelling of its JSON form.
func checkRemedy(r Remedy, path string) error {
	switch r := r.(type) {
	case ScopesRemedy:
		if len(r.Scopes) == 0 {
			return fail(CodeDenialInvalid, path+"/scopes", "no scope")
		}
		return checkAll(r.Scopes, isScope, path+"/scopes", "not a scope (RFC 6750 section 3)")
	case AuthorizationDetailsRemedy:
		return checkDetails(r.AuthorizationDetails, path+"/authorization_details")
	case TxnChallengeRemedy:
		if !isCompactJWS(r.Challenge) {
			return fail(CodeDenialInvalid, path+"/challenge", "not a JWS in compact form")
		}
		return checkDetails(r.AuthorizationDetails, path+"/authorization_details")
	case AuthenticationRemedy:
		return checkAuthentication(r, path)
	case ProofOfPossessionRemedy:
		return checkAll(r.Algs, isProofAlg, path+"/algs", "not an asymmetric algorithm (RFC 9449)")
	case TokenRemedy:
		return checkAll(r.Scopes, isScope, path+"/scopes", "not a scope (RFC 6750 section 3)")
	case URLRemedy:
		return checkURLRemedy(r, path)
	case OutOfBandRemedy:
		return checkTask(r.Task, path+"/task")
	default:
		return fail(CodeDenialInvalid, path, "not a remedy of this package")
	}
}

func checkAll(list []string, ok func(string) bool, path, text string) error {
	for i, s := range list {
		if !ok(s) {
			return fail(CodeDenialInvalid, fmt.Sprintf("%s/%d", path, i), text)
		}
	}
	return nil
}

// checkDetails wants the request form of RFC 9396 section 2: an array of
// objects, each with a type.
func checkDetails(v rar.Value, path string) error {
	if v.Kind() != rar.Array || v.Len() == 0 {
		return fail(CodeDenialInvalid, path, "not an array with members")
	}
	for i := range v.Len() {
		if t, _ := text(v.Index(i), "type"); t == "" {
			return fail(CodeDenialInvalid, fmt.Sprintf("%s/%d", path, i), "not an object with a type")
		}
	}
	return nil
}

func checkAuthentication(r AuthenticationRemedy, path string) error {
	if len(r.ACRValues) == 0 && r.MaxAge == nil {
		return fail(CodeDenialInvalid, path, "neither acr_values nor max_age")
	}
	if r.MaxAge != nil && *r.MaxAge < 0 {
		return fail(CodeDenialInvalid, path+"/max_age", "negative")
	}
	return checkAll(r.ACRValues, isWord, path+"/acr_values", "not a word of visible ASCII")
}

func checkURLRemedy(r URLRemedy, path string) error {
	if r.Key == "" {
		return fail(CodeDenialInvalid, path+"/key", "empty")
	}
	if r.Message == "" {
		return fail(CodeDenialInvalid, path+"/message", "empty")
	}
	u, err := url.Parse(r.URL)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return fail(CodeDenialInvalid, path+"/url", "not an absolute URL")
	case u.User != nil:
		return fail(CodeDenialInvalid, path+"/url", "carries credentials")
	case u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())):
		return fail(CodeDenialInvalid, path+"/url", "not https")
	}
	return nil
}

func checkTask(t Task, path string) error {
	switch {
	case t.ID == "":
		return fail(CodeDenialInvalid, path+"/taskId", "empty")
	case t.CreatedAt.IsZero():
		return fail(CodeDenialInvalid, path+"/createdAt", "missing")
	case t.LastUpdatedAt.IsZero():
		return fail(CodeDenialInvalid, path+"/lastUpdatedAt", "missing")
	case t.TTLMillis != nil && *t.TTLMillis < 0:
		return fail(CodeDenialInvalid, path+"/ttlMs", "negative")
	case t.PollIntervalMillis < 0:
		return fail(CodeDenialInvalid, path+"/pollIntervalMs", "negative")
	}
	return nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, _ := netip.ParseAddr(host) // the zero one if it is none
	return addr.IsLoopback()
}

// isScope: scope-token of RFC 6749 section 3.3.
func isScope(s string) bool {
	return isWord(s) && !strings.ContainsAny(s, `"\`)
}

// isWord: visible ASCII without spaces, which the lists of challenge parameters
// are separated by.
func isWord(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

// isProofAlg: a proof is signed with an asymmetric key (RFC 9449 section 4.2).
func isProofAlg(s string) bool {
	return isScope(s) && s != "none" && !strings.HasPrefix(s, "HS")
}

func isCompactJWS(s string) bool {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return false
	}
	for _, part := range parts {
		if part == "" || strings.Trim(part, base64urlAlphabet) != "" {
			return false
		}
	}
	return true
}

const base64urlAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
