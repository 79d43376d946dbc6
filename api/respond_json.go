package api

import (
	"slices"
	"strconv"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/mcp"
	"github.com/authzd/authzd/rar"
)

// object writes the members of a JSON object one after the other.
type object struct {
	b     []byte
	empty bool
}

func open(b []byte) object { return object{b: append(b, '{'), empty: true} }

func (o *object) close() []byte { return append(o.b, '}') }

// name starts a member; its value is appended to the result.
func (o *object) name(n string) []byte {
	if !o.empty {
		o.b = append(o.b, ',')
	}
	o.empty = false
	// Member names are ours and need no escapes.
	o.b = append(o.b, '"')
	o.b = append(o.b, n...)
	return append(o.b, '"', ':')
}

// text writes a member that is left out when empty.
func (o *object) text(n, s string) {
	if s != "" {
		o.b = appendString(o.name(n), s)
	}
}

func (o *object) flag(n string, set bool) {
	if set {
		o.b = append(o.name(n), "true"...)
	}
}

// texts writes a list that is left out when empty.
func (o *object) texts(n string, list []string) {
	if len(list) > 0 {
		o.b = appendTexts(o.name(n), list)
	}
}

// raw writes a member that is always present.
func (o *object) raw(n string, v rar.Value) {
	o.b = o.name(n)
	if v.Kind() == rar.Absent {
		o.b = append(o.b, "null"...)
		return
	}
	o.b = v.AppendJSON(o.b)
}

func appendTexts(b []byte, list []string) []byte {
	return appendEach(b, list, func(b []byte, s *string) []byte { return appendString(b, *s) })
}

func appendEach[T any](b []byte, list []T, one func([]byte, *T) []byte) []byte {
	b = append(b, '[')
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = one(b, &list[i])
	}
	return append(b, ']')
}

// AppendJSON appends the REST form: the same members as MarshalJSON gives of
// Proto, written without the message in between.
func (r *Response) AppendJSON(dst []byte) []byte {
	d := &r.Decision
	o := open(dst)
	if d.Allow {
		o.b = append(o.name("decision"), `"ALLOW"`...)
	} else {
		o.b = append(o.name("decision"), `"DENY"`...)
	}
	o.text("decision_id", d.ID)
	o.text("rule", d.Rule)
	o.b = appendEach(o.name("reasons"), d.Reasons, appendReason)
	if f := d.Error; f != nil {
		o.b = appendFault(o.name("error"), f)
	}
	if !d.Allow {
		o.b = r.appendRemediation(o.name("remediation"))
		o.b = appendDenial(o.name("denial"), &r.Denial)
	}
	o.b = appendTexts(o.name("credential_ids"), r.CredentialIDs)
	o.b = appendEach(o.name("met"), d.Met, func(b []byte, m *engine.Met) []byte {
		o := open(b)
		o.text("kind", string(m.Kind))
		o.text("credential_id", m.CredentialID)
		return o.close()
	})
	o.b = appendEach(o.name("obligations"), d.Obligations, func(b []byte, v *rar.Value) []byte { return v.AppendJSON(b) })
	o.text("call_digest", d.CallDigest)
	if !d.ExpiresAt.IsZero() {
		o.b = appendTime(o.name("expires_at"), d.ExpiresAt)
	}
	p := open(o.name("policy"))
	p.text("bundle", d.Policy.Bundle)
	p.text("revision", d.Policy.Revision)
	o.b = p.close()
	o.b = appendEach(o.name("rejected_credentials"), d.Rejected, func(b []byte, c *engine.RejectedCredential) []byte {
		o := open(b)
		o.text("id", c.ID)
		o.text("code", string(c.Code))
		return o.close()
	})
	o.text("message", r.Message)
	o.text("message_admin", d.MessageAdmin)
	if d.Subject != (engine.SubjectRef{}) {
		who := open(o.name("subject"))
		who.text("issuer", d.Subject.Issuer)
		who.text("id", d.Subject.ID)
		o.b = who.close()
	}
	return o.close()
}

func appendReason(b []byte, r *engine.Reason) []byte {
	o := open(b)
	o.text("code", string(r.Code))
	o.text("kind", string(r.Kind))
	o.text("rule", r.Rule)
	o.text("message", r.Message)
	o.texts("detail", r.Detail)
	return o.close()
}

func appendFault(b []byte, f *engine.Fault) []byte {
	o := open(b)
	o.text("code", string(f.Code))
	o.text("message", f.Message)
	o.text("path", f.Path)
	return o.close()
}

func (r *Response) appendRemediation(b []byte) []byte {
	o := open(b)
	o.text("status", string(r.Remediation))
	if m := r.Decision.Remediation; m != nil {
		o.text("authorization_context_id", m.ContextID)
	}
	if len(r.Remedies) > 0 {
		o.b = appendEach(o.name("hints"), r.Remedies, appendHint)
	}
	return o.close()
}

func appendHint(b []byte, r *engine.Remedy) []byte {
	o := open(b)
	o.text("type", string(r.Kind))
	o.texts("scopes", r.Scopes)
	if len(r.Details) > 0 {
		o.b = appendEach(o.name("authorization_details"), r.Details, func(b []byte, v *rar.Value) []byte { return v.AppendJSON(b) })
	}
	o.text("authorization_reference", r.Reference)
	o.flag("single_use", r.SingleUse)
	o.texts("acr_values", r.ACRValues)
	if age, ok := maxAge(r); ok {
		o.b = strconv.AppendInt(o.name("max_age"), int64(age), 10)
	}
	o.flag("held", r.Held)
	o.flag("token_presented", r.TokenPresented)
	if r.Approval != nil {
		o.text("title", r.Approval.Title)
	}
	o.texts("previous_authorization_references", r.PreviousReferences)
	return o.close()
}

func appendDenial(b []byte, m *mcp.Response) []byte {
	o := open(b)
	o.b = o.name("http")
	if m.HTTPStatus == 0 {
		o.b = append(o.b, "null"...)
	} else {
		o.b = appendHTTP(o.b, m)
	}
	o.raw("mcp_result", m.Result)
	o.raw("mcp_error", m.Error)
	return o.close()
}

func appendHTTP(b []byte, m *mcp.Response) []byte {
	o := open(b)
	o.b = strconv.AppendInt(o.name("status"), int64(m.HTTPStatus), 10)
	if fields := headers(m.Headers); len(fields) > 0 {
		names := make([]string, 0, len(fields))
		for name := range fields {
			names = append(names, name)
		}
		slices.Sort(names)
		h := open(o.name("headers"))
		for _, name := range names {
			// The names are those of this project's renderer: plain tokens.
			h.text(name, fields[name])
		}
		o.b = h.close()
	}
	return o.close()
}
