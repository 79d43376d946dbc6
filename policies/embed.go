// Package policies holds the Rego that authzd ships: the policy library, the
// default policy, and, outside the binary, worked examples.
//
// It only carries files and refuses nothing. The engine reads Library beside
// every bundle; cmd loads Default when no bundle was given. Everything here is
// read-only and safe for concurrent use.
package policies

import (
	"embed"
	"io/fs"
)

// The patterns name each file, so that tests stay out of the binary and hidden
// manifests get in.
//
//go:embed lib/authzd/v1.rego default/.manifest default/policy.rego
var files embed.FS

// Folders of FS, each laid out as a bundle.
const (
	// Library is the library data.authzd.v1.
	Library = "lib"
	// Default is the policy of a server that was given none: it denies every
	// call.
	Default = "default"
)

// FS returns the files of the binary, below Library and Default. Use fs.Sub to
// read one of the two as the root of a bundle.
func FS() fs.FS { return files }
