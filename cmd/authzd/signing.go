package main

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/authzd/authzd/bundles"
)

// unsignedFlag is long, as the names of dangerous switches are.
const unsignedFlag = "insecure-unsigned-bundles-off-loopback"

// signing says which signatures bundles need.
type signing struct {
	BundleKeys          []string
	BundleScope         string
	UnsignedOffLoopback bool
}

func (s *signing) define(f *pflag.FlagSet) {
	f.StringArrayVar(&s.BundleKeys, bundleKeyFlag, nil, "[ID=]FILE with public keys, PEM or JWK set, one of which must have signed each --bundle (docs/bundles.md); may be repeated")
	f.StringVar(&s.BundleScope, "bundle-scope", "", "scope that the signatures of bundles must be for; default none")
}

// validate reports every fault; addresses are what is listened to.
func (s *signing) validate(refs []string, addresses ...string) error {
	var faults []error
	bad := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if s.BundleScope != "" && len(s.BundleKeys) == 0 {
		bad("bundle-scope: needs --%s, or no signature is looked at", bundleKeyFlag)
	}
	if s.UnsignedOffLoopback && len(s.BundleKeys) > 0 {
		bad("%s and %s: bundles are either signed or not", unsignedFlag, bundleKeyFlag)
	}
	if len(refs) == 0 || len(s.BundleKeys) > 0 || s.UnsignedOffLoopback {
		return errors.Join(faults...)
	}
	for _, a := range addresses {
		if validAddress(a) == nil && !isLoopback(a) {
			bad("bundle: with the address %s, which is off loopback, bundles must be signed: give --%s", a, bundleKeyFlag)
		}
	}
	return errors.Join(faults...)
}

// verification is what bundles are verified with.
type verification struct {
	keys    bundles.Keys
	options bundles.VerifyOptions
}

// verification reads the keys; nil: bundles need no signature.
func (s *signing) verification() (*verification, error) {
	if len(s.BundleKeys) == 0 {
		return nil, nil //nolint:nilnil // none is an answer
	}
	keys, err := readBundleKeys(bundleKeyFlag, s.BundleKeys)
	if err != nil {
		return nil, err
	}
	return &verification{keys: keys, options: bundles.VerifyOptions{Scope: s.BundleScope}}, nil
}

// open opens one bundle for set.
func (v *verification) open(set *policySet, where string) (bundles.Content, error) {
	if v == nil {
		c, err := bundles.Open(where, bundles.Limits{})
		if err == nil {
			err = c.Whole()
		}
		return c, err
	}
	c, s, err := bundles.OpenSigned(where, v.keys, v.options, bundles.Limits{})
	if err == nil {
		set.signatures = append(set.signatures, s)
		err = c.Whole()
	}
	return c, err
}
