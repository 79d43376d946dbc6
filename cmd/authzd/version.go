package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// versionInfo is what authzd version prints.
type versionInfo struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	// Modified: the tree had changes that are in no commit.
	Modified bool   `json:"modified"`
	OPA      string `json:"opa"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

const unknownVersion = "unknown"

// currentVersion reads what the Go toolchain put into the binary.
func currentVersion() versionInfo {
	v := versionInfo{
		Version: "devel", Commit: unknownVersion, OPA: unknownVersion,
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if m := info.Main.Version; m != "" && m != "(devel)" {
		v.Version = m
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	for _, d := range info.Deps {
		if d.Path == "github.com/open-policy-agent/opa" {
			v.OPA = d.Version
		}
	}
	return v
}

func newVersion(std stdio) *cobra.Command {
	var format *string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version, and what it is built of",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := currentVersion()
			if *format == "json" {
				return json.NewEncoder(std.out).Encode(v)
			}
			modified := ""
			if v.Modified {
				modified = " (modified)"
			}
			_, err := fmt.Fprintf(std.out, "authzd %s\ncommit %s%s\nopa %s\ngo %s %s\n", v.Version, v.Commit, modified, v.OPA, v.Go, v.Platform)
			return err
		},
	}
	format = outputFlag(cmd, "text", "json")
	return cmd
}
