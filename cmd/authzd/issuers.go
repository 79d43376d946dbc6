package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/credentials"
	"github.com/authzd/authzd/rar"
)

// issuersFile is the file of --issuers: credentials.Config as text. What is left
// out has the default of the package, and of the preset for a mapping.
type issuersFile struct {
	Issuers []issuerEntry `yaml:"issuers"`
}

type issuerEntry struct {
	Issuer                string            `yaml:"issuer"`
	Keys                  keysEntry         `yaml:"keys"`
	Algorithms            []string          `yaml:"algorithms"`
	AcceptJWT             bool              `yaml:"accept_jwt"`
	Audiences             []string          `yaml:"audiences"`
	AudienceNames         map[string]string `yaml:"audience_names"`
	RequireSingleAudience bool              `yaml:"require_single_audience"`
	RequireBound          bool              `yaml:"require_bound"`
	MaxLifetime           time.Duration     `yaml:"max_lifetime"`
	Preset                string            `yaml:"preset"`
	Mapping               mappingEntry      `yaml:"mapping"`
	DetailsTypes          []string          `yaml:"details_types"`
	Introspection         *introspectEntry  `yaml:"introspection"`
	AcceptAsserted        bool              `yaml:"accept_asserted"`
}

type keysEntry struct {
	JWKSURL      string        `yaml:"jwks_url"`
	Discover     bool          `yaml:"discover"`
	File         string        `yaml:"file"`
	RefreshEvery time.Duration `yaml:"refresh_every"`
	MinInterval  time.Duration `yaml:"min_interval"`
	MaxAge       time.Duration `yaml:"max_age"`
}

type introspectEntry struct {
	Endpoint         string        `yaml:"endpoint"`
	ClientID         string        `yaml:"client_id"`
	ClientSecretFile string        `yaml:"client_secret_file"`
	Opaque           bool          `yaml:"opaque"`
	TokenPrefix      string        `yaml:"token_prefix"`
	CheckJWTs        bool          `yaml:"check_jwts"`
	CacheFor         time.Duration `yaml:"cache_for"`
}

type mappingEntry struct {
	SubjectClaim string            `yaml:"subject_claim"`
	ClientClaims []string          `yaml:"client_claims"`
	TokenIDClaim string            `yaml:"token_id_claim"`
	ScopeClaim   string            `yaml:"scope_claim"`
	ScopeArray   *bool             `yaml:"scope_array"`
	TenantClaim  string            `yaml:"tenant_claim"`
	ClientTokens *matchEntry       `yaml:"client_tokens"`
	Expose       map[string]string `yaml:"expose"`
}

type matchEntry struct {
	Claim  string `yaml:"claim"`
	Equals string `yaml:"equals"`
	Prefix string `yaml:"prefix"`
}

func presets() map[string]func() credentials.Mapping {
	return map[string]func() credentials.Mapping{
		"keycloak": credentials.Keycloak, "entra-id": credentials.EntraID, "okta": credentials.Okta, "ping": credentials.Ping,
	}
}

// readIssuers reads the file of --issuers, strictly: who writes a name wrong
// would trust another token than they think. Files in it are relative to it.
func readIssuers(name string) (credentials.Config, []byte, error) {
	file, err := os.Open(name) //nolint:gosec // the operator names the file
	if err != nil {
		return credentials.Config{}, nil, fmt.Errorf("read issuers: %w", err)
	}
	defer file.Close() //nolint:errcheck // read only, nothing to lose
	if info, err := file.Stat(); err == nil && info.Mode().Perm()&0o002 != 0 {
		return credentials.Config{}, nil, fmt.Errorf("%s: everybody may write to it, and so decide whom to trust: chmod o-w", name)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxConfigBytes+1))
	if err != nil {
		return credentials.Config{}, nil, fmt.Errorf("read issuers: %w", err)
	}
	c, err := parseIssuers(data, filepath.Dir(name))
	if err != nil {
		return credentials.Config{}, nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, data, nil
}

func parseIssuers(data []byte, folder string) (credentials.Config, error) {
	// First the bounds, and what YAML has beyond JSON.
	doc, err := bundles.DecodeYAML(data, bundles.Limits{MaxYAMLBytes: maxConfigBytes})
	if err != nil {
		return credentials.Config{}, err //nolint:wrapcheck // names the place
	}
	if err := meantSettings(doc, "", ""); err != nil {
		return credentials.Config{}, err
	}
	var f issuersFile
	if err := yaml.UnmarshalWithOptions(data, &f, yaml.Strict()); err != nil {
		return credentials.Config{}, errors.New(strings.TrimSpace(yaml.FormatError(err, false, false)))
	}
	if len(f.Issuers) == 0 {
		return credentials.Config{}, errors.New("issuers: none is given")
	}
	var c credentials.Config
	var faults []error
	for i := range f.Issuers {
		is, err := f.Issuers[i].issuer(folder)
		if err != nil {
			faults = append(faults, fmt.Errorf("issuer %d (%s): %w", i, is.Issuer, err))
		}
		c.Issuers = append(c.Issuers, is)
	}
	faults = append(faults, c.Validate())
	return c, errors.Join(faults...)
}

// meantSettings refuses what a reader would take for a setting and the decoder for
// none: nothing, an empty text, list or map, and values of another type than
// they are read as. A list of servers that came out empty would mean any.
func meantSettings(v rar.Value, at, name string) error {
	switch v.Kind() {
	case rar.Object, rar.Array:
		if v.Len() == 0 {
			return fmt.Errorf("%s: is empty: leave it out", at)
		}
	case rar.String:
		if v.Text() == "" {
			return fmt.Errorf("%s: is empty: leave it out", at)
		}
	case rar.Bool:
		if !slices.Contains(switches(), name) {
			return fmt.Errorf("%s: is true or false where a text is meant: write it in quotes", at)
		}
	case rar.Number:
		return fmt.Errorf("%s: is a number where a text is meant: write it in quotes, and a time with its unit", at)
	default:
		return fmt.Errorf("%s: has no value: leave it out", at)
	}
	for i := range v.Len() {
		var err error
		if v.Kind() == rar.Object {
			m := v.Member(i)
			err = meantSettings(m.Value, at+"/"+m.Name, m.Name)
		} else {
			err = meantSettings(v.Index(i), at+"/"+strconv.Itoa(i), "")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func switches() []string {
	return []string{
		"discover", "accept_jwt", "require_single_audience", "require_bound", "scope_array",
		"opaque", "check_jwts", "accept_asserted",
	}
}

func (e *issuerEntry) issuer(folder string) (credentials.Issuer, error) {
	is := credentials.Issuer{
		Issuer: e.Issuer, Algorithms: e.Algorithms, AcceptJWT: e.AcceptJWT,
		Audiences: e.Audiences, AudienceNames: e.AudienceNames,
		RequireSingleAudience: e.RequireSingleAudience, RequireBound: e.RequireBound,
		MaxLifetime: e.MaxLifetime, DetailsTypes: e.DetailsTypes, AcceptAsserted: e.AcceptAsserted,
		Keys: credentials.KeySource{
			JWKSURL: e.Keys.JWKSURL, Discover: e.Keys.Discover, File: below(folder, e.Keys.File),
			RefreshEvery: e.Keys.RefreshEvery, MinInterval: e.Keys.MinInterval, MaxAge: e.Keys.MaxAge,
		},
	}
	if in := e.Introspection; in != nil {
		is.Introspection = &credentials.Introspection{
			Endpoint: in.Endpoint, ClientID: in.ClientID, ClientSecretFile: below(folder, in.ClientSecretFile),
			Opaque: in.Opaque, TokenPrefix: in.TokenPrefix, CheckJWTs: in.CheckJWTs, CacheFor: in.CacheFor,
		}
	}
	if e.Preset != "" {
		preset, ok := presets()[e.Preset]
		if !ok {
			return is, fmt.Errorf("preset %q is not one of %s", e.Preset, strings.Join(slices.Sorted(maps.Keys(presets())), ", "))
		}
		is.Mapping = preset()
	}
	e.Mapping.over(&is.Mapping)
	return is, nil
}

// over replaces in m what the file gives.
func (e *mappingEntry) over(m *credentials.Mapping) {
	set := func(dst *string, given string) {
		if given != "" {
			*dst = given
		}
	}
	set(&m.SubjectClaim, e.SubjectClaim)
	set(&m.TokenIDClaim, e.TokenIDClaim)
	set(&m.ScopeClaim, e.ScopeClaim)
	set(&m.TenantClaim, e.TenantClaim)
	if len(e.ClientClaims) > 0 {
		m.ClientClaims = e.ClientClaims
	}
	if e.ScopeArray != nil {
		m.ScopeArray = *e.ScopeArray
	}
	if c := e.ClientTokens; c != nil {
		m.ClientTokens = &credentials.ClaimMatch{Claim: c.Claim, Equals: c.Equals, Prefix: c.Prefix}
	}
	if e.Expose != nil {
		m.Expose = e.Expose
	}
}

// below places a file beside the one that names it.
func below(folder, name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(folder, name)
}
