package main

import (
	"bytes"
	"net/url"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// A flag that says "not with --pdp" is refused with it, and does not silently do
// nothing: --extra-mcp-methods=false asks for less to pass.
func TestFlagsNotWithPDP(t *testing.T) {
	t.Parallel()
	validate := func(args ...string) error {
		var c enforceConfig
		f := pflag.NewFlagSet("x", pflag.ContinueOnError)
		c.define(f, "info")
		if err := f.Parse(append([]string{"--pdp", "127.0.0.1:8182"}, args...)); err != nil {
			t.Fatal(err)
		}
		return c.validate()
	}
	if err := validate(); err != nil {
		t.Fatal(err)
	}
	for _, flag := range []string{"--extra-mcp-methods=false", "--denial-form=result", "--denial-code=-31000", "--decision-timeout=1ms"} {
		if err := validate(flag); err == nil {
			t.Errorf("%s does nothing with --pdp, and is taken", flag)
		}
	}
}

// What stands behind ? in a URL is often a key.
func TestReadyLineTellsNoKey(t *testing.T) {
	t.Parallel()
	u, err := url.Parse("https://mcp.example.com/mcp?api_key=s3cret")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	c := proxyConfig{upstream: u}
	if err := c.ready(&out, "127.0.0.1:1", "r"); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "s3cret") {
		t.Errorf("the ready line: %s", out.String())
	}
}
