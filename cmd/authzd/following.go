package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/authzd/authzd/bundles/follow"
)

const (
	followFlag      = "follow"
	followTokenFlag = "follow-token-file"
)

// following says which bundles other servers have, and how they are asked.
type following struct {
	Sources    []string
	TokenFiles []string
	CA         string
	Cert, Key  string
	AllowOlder bool
	Interval   time.Duration
	MaxAge     time.Duration
}

func (c *following) define(f *pflag.FlagSet) {
	f.StringArrayVar(&c.Sources, followFlag, nil, "NAME=URL of a bundle to keep as another authzd, or any server of OPA's bundle protocol, has it (docs/bundles.md); needs --data-dir; may be repeated")
	f.StringArrayVar(&c.TokenFiles, followTokenFlag, nil, "NAME=FILE with a bearer token for the source of the bundle NAME, read for each request; may be repeated")
	f.StringVar(&c.CA, "follow-ca", "", "PEM file with the authorities of sources' certificates; default the system's")
	f.StringVar(&c.Cert, "follow-cert", "", "PEM file with a client certificate for sources; read again for each connection")
	f.StringVar(&c.Key, "follow-key", "", "PEM file with the key of --follow-cert")
	f.BoolVar(&c.AllowOlder, "follow-allow-older", false, "take a lower sequence from a source, so that a rollback there is one here; recorded")
	f.DurationVar(&c.Interval, "follow-interval", follow.DefaultInterval, "how often a source is asked that does not answer to long polling")
	f.DurationVar(&c.MaxAge, "max-bundle-age", 0, "decide nothing once a source has not confirmed its bundle for this time; 0: go on deciding")
}

// validate reports every fault.
func (c *following) validate(dataDir string, local []bundleRef) error {
	var faults []error
	bad := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	sources, err := c.sources()
	if err != nil {
		faults = append(faults, err)
	}
	for _, s := range sources {
		if slices.ContainsFunc(local, func(r bundleRef) bool { return r.Name == s.Name }) {
			bad("%s: the name %q is one of --%s", followFlag, s.Name, bundleFlag)
		}
	}
	switch {
	case len(c.Sources) == 0 && (c.CA != "" || c.Cert != "" || c.Key != "" || c.AllowOlder || c.MaxAge != 0):
		bad("follow-ca, follow-cert, follow-key, follow-allow-older and max-bundle-age need --%s", followFlag)
	case len(c.Sources) > 0 && dataDir == "":
		bad("%s: followed bundles are kept on disk: give --data-dir", followFlag)
	}
	if (c.Cert == "") != (c.Key == "") {
		bad("follow-cert and follow-key belong together: give both")
	}
	faults = append(faults, validTimes(flagTime{"follow-interval", c.Interval})...)
	if c.MaxAge != 0 && c.MaxAge < follow.MinMaxAge {
		bad("max-bundle-age: %s is below %s", c.MaxAge, follow.MinMaxAge)
	}
	return errors.Join(faults...)
}

// sources reads --follow and the tokens for it.
func (c *following) sources() ([]follow.Source, error) {
	var faults []error
	var out []follow.Source
	at := func(name string) int {
		return slices.IndexFunc(out, func(s follow.Source) bool { return s.Name == name })
	}
	for _, text := range c.Sources {
		name, url, ok := strings.Cut(text, "=")
		s := follow.Source{Name: name, URL: url}
		switch _, err := follow.ParseURL(s); {
		case !ok:
			faults = append(faults, fmt.Errorf("%s: %q is not NAME=URL", followFlag, text))
		case err != nil:
			faults = append(faults, err)
		case at(name) >= 0:
			faults = append(faults, fmt.Errorf("%s: the name %q is given twice", followFlag, name))
		default:
			out = append(out, s)
		}
	}
	for _, text := range c.TokenFiles {
		name, file, ok := strings.Cut(text, "=")
		i := at(name)
		switch {
		case !ok || file == "":
			faults = append(faults, fmt.Errorf("%s: %q is not NAME=FILE", followTokenFlag, text))
		case i < 0:
			faults = append(faults, fmt.Errorf("%s: no bundle %q is followed", followTokenFlag, name))
		case out[i].TokenFile != "":
			faults = append(faults, fmt.Errorf("%s: the name %q is given twice", followTokenFlag, name))
		default:
			out[i].TokenFile = file
		}
	}
	return out, errors.Join(faults...)
}

// open makes the followers; nil: nothing is followed.
func (c *following) open(p *pushed, log *slog.Logger) (*follow.Followers, error) {
	sources, err := c.sources()
	if err != nil || len(sources) == 0 {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		text, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("follow-ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("follow-ca: %s holds no certificate", c.CA)
		}
	}
	if c.Cert != "" {
		load := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
			if err != nil {
				return nil, fmt.Errorf("follow-cert %s with follow-key %s: %w", c.Cert, c.Key, err)
			}
			return &pair, nil
		}
		if _, err := load(); err != nil {
			return nil, err
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return follow.New(follow.Options{ //nolint:wrapcheck // says what it did
		Registry: p.bundles(), Sources: sources, TLS: config, AllowOlder: c.AllowOlder, Interval: c.Interval, MaxAge: c.MaxAge, Log: log,
	})
}
