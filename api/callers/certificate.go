package callers

import (
	"crypto/x509"
	"errors"
	"strings"
)

const (
	spiffeScheme = "spiffe"
	lower        = "abcdefghijklmnopqrstuvwxyz0123456789._-"
	upper        = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// NameOf is the name of whoever holds a verified certificate: its SPIFFE id,
// or else the common name of its subject. A certificate that could be read as
// two names has none.
func NameOf(cert *x509.Certificate) (string, error) {
	for _, uri := range cert.URIs {
		if uri.Scheme != spiffeScheme {
			continue
		}
		// X509-SVID section 2: exactly one URI SAN.
		if len(cert.URIs) != 1 {
			return "", errors.New("a certificate with a SPIFFE id has no other URI")
		}
		id := uri.String()
		if len(id) > maxNameBytes || !isSPIFFE(id) {
			return "", errors.New("the SPIFFE id is malformed")
		}
		return id, nil
	}
	name := cert.Subject.CommonName
	if err := checkName(name); err != nil {
		return "", err
	}
	// Whoever may choose a common name must not choose a SPIFFE id by it.
	if scheme, _, found := strings.Cut(name, ":"); found && strings.EqualFold(scheme, spiffeScheme) {
		return "", errors.New("the common name poses as a SPIFFE id")
	}
	return name, nil
}

// isSPIFFE knows the characters of SPIFFE-ID sections 2.1 and 2.2: nothing in
// them has two spellings.
func isSPIFFE(id string) bool {
	rest := strings.TrimPrefix(id, spiffeScheme+"://")
	domain, path, hasPath := strings.Cut(rest, "/")
	if domain == "" || len(domain) > 255 || strings.Trim(domain, lower) != "" {
		return false
	}
	if !hasPath {
		return true
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" || segment == "." || segment == ".." || strings.Trim(segment, lower+upper) != "" {
			return false
		}
	}
	return true
}
