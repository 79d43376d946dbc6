package engine

import (
	"time"

	"github.com/authzd/authzd/rar"
)

// identify judges the query's credentials and settles who the subject and the
// agent are (contract, "Subject", "Usable credential", "context.agent"). It
// fills in.subject, in.agent, in.usable and in.rejected.
func (in *input) identify(types *rar.Types) error {
	q := in.query
	in.rejected = append(in.rejected, q.Rejected...)
	sound := make([]*Credential, 0, len(q.Credentials))
	seen := make(map[string]bool, len(q.Credentials))
	for i := range q.Credentials {
		c := &q.Credentials[i]
		if c.ID == "" || seen[c.ID] {
			return errorf(CodeInvalidValue, "/credentials", "credential ids must be unique and not empty: %q", c.ID)
		}
		seen[c.ID] = true
		if code := c.check(q.audience(), in.now); code != "" {
			in.rejected = append(in.rejected, RejectedCredential{ID: c.ID, Code: code, would: c})
			continue
		}
		sound = append(sound, c)
	}
	if err := in.settleSubject(sound); err != nil {
		return err
	}
	for _, c := range sound {
		if c.Subject != in.subject.ID || c.Issuer != in.subject.Issuer {
			in.rejected = append(in.rejected, RejectedCredential{ID: c.ID, Code: CodeTokenSubject})
			continue
		}
		u := &usable{Credential: c}
		if c.Details.Kind() != rar.Absent {
			u.details, u.skipped = types.Granted(c.Details)
		}
		u.skipped = append(u.skipped, c.Withheld...)
		in.usable = append(in.usable, u)
	}
	return in.settleAgent()
}

// check applies every condition but the subject's. The same checks hold for
// tokens that the door verified and for claims that a PEP asserts.
func (c *Credential) check(audience string, now time.Time) Code {
	switch {
	case c.Issuer == "":
		return CodeTokenIssuer
	case c.Subject == "" || c.ExpiresAt.IsZero() || c.VerifiedBy == "":
		return CodeTokenClaims
	case !now.Before(c.ExpiresAt):
		return CodeTokenExpired
	case now.Add(clockSkew).Before(c.NotBefore) || now.Add(clockSkew).Before(c.IssuedAt):
		return CodeTokenNotYet
	case audience == "" || !contains(c.Audience, audience):
		return CodeTokenAudience
	case c.Bound && c.BoundBy == "":
		return CodeTokenProof
	}
	return ""
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// settleSubject decides the pair (issuer, id) that the call is judged for.
func (in *input) settleSubject(sound []*Credential) error {
	s := in.query.Subject
	if s == nil {
		if len(sound) > 0 {
			in.subject = Subject{Type: identityType, ID: sound[0].Subject, Issuer: sound[0].Issuer}
		}
		return nil
	}
	in.subject = *s
	if s.Issuer != "" {
		return nil
	}
	for _, c := range sound {
		if c.Subject != s.ID {
			continue
		}
		if in.subject.Issuer != "" && in.subject.Issuer != c.Issuer {
			return errorf(CodeSubjectAmbiguous, "/subject",
				"credentials of two issuers have subject %q: name one in subject.properties.issuer", s.ID)
		}
		in.subject.Issuer = c.Issuer
	}
	return nil
}

// settleAgent takes the client of the credential that names the subject. Only
// without any credential does the caller's word count.
func (in *input) settleAgent() error {
	given, ok := in.query.Context.Get("agent")
	if ok && given.Kind() != rar.String {
		return errorf(CodeWrongType, "/context/agent", "must be a string")
	}
	if len(in.usable) == 0 {
		if len(in.query.Credentials) == 0 && len(in.rejected) == 0 {
			in.agent = given.Text()
		}
		return nil
	}
	in.agent = in.usable[0].ClientID
	for _, u := range in.usable[1:] {
		// ADR 0009: input.context.agent is one client. Another client's token must
		// neither meet what policy requires of it, nor be hidden from policy.
		if u.ClientID != in.agent {
			return errorf(CodeAgentMismatch, "/credentials", "the credentials %q and %q were issued to different clients",
				clip(in.usable[0].ID, maxPlace), clip(u.ID, maxPlace))
		}
	}
	if ok && given.Text() != in.agent {
		return errorf(CodeAgentMismatch, "/context/agent", "the credential %q was issued to another client", in.usable[0].ID)
	}
	return nil
}
