package pep

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// What pages of an allowed origin may send and read (Fetch, CORS protocol).
const (
	pageMethods = "GET, POST, DELETE"
	pageSends   = "Authorization, Content-Type, Accept, DPoP, Last-Event-ID, Mcp-Session-Id, Mcp-Protocol-Version, Mcp-Method, Mcp-Name"
	pageReads   = "Mcp-Session-Id, Mcp-Protocol-Version, WWW-Authenticate"
)

// page looks at requests of web pages. It reports whether the request may go on;
// otherwise it is answered.
//
// A page of another origin must not act with what its visitor can reach (MCP,
// streamable HTTP, security: DNS rebinding). The metadata is for everybody.
func (p *Proxy) page(w http.ResponseWriter, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	public := p.isMetadata(r)
	switch {
	case origin == "" || sameHost(origin, r.Host):
		return true
	case !public && !slices.Contains(p.o.AllowedOrigins, origin):
		http.Error(w, "this origin may not call", http.StatusForbidden)
		return false
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	h.Set("Access-Control-Allow-Origin", origin)
	if public {
		h.Set("Access-Control-Allow-Origin", "*")
	}
	h.Set("Access-Control-Expose-Headers", pageReads)
	asked := r.Header.Get("Access-Control-Request-Method")
	if r.Method != http.MethodOptions || asked == "" {
		return true
	}
	h.Set("Access-Control-Allow-Methods", pageMethods)
	h.Set("Access-Control-Allow-Headers", pageSends+params(r.Header.Get("Access-Control-Request-Headers")))
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return false
}

// params are the Mcp-Param-* fields among the names that a page wants to send.
func params(names string) string {
	var out strings.Builder
	for name := range strings.SplitSeq(names, ",") {
		name = strings.TrimSpace(name)
		if rest, ok := strings.CutPrefix(strings.ToLower(name), "mcp-param-"); ok && strings.Trim(rest, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == "" {
			out.WriteString(", " + name)
		}
	}
	return out.String()
}

// isMetadata tells requests for the resource's metadata, which stands with and
// without the endpoint's path (RFC 9728 section 3.1).
func (p *Proxy) isMetadata(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodOptions) &&
		(r.URL.Path == metadataPath || r.URL.Path == metadataPath+strings.TrimSuffix(p.endpoint(), "/"))
}

// sameHost tells a page of this very host, which was looked at already.
func sameHost(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && strings.EqualFold(u.Host, host)
}
