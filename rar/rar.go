// Package rar decides about Rich Authorization Requests (RFC 9396): it decodes
// authorization_details strictly, holds each object against its declared type,
// and answers whether what was granted covers what a call needs.
//
// DecodeStrict is the one decoder of the project for untrusted JSON outside
// protobuf. It refuses duplicate member names, trailing data, invalid UTF-8,
// deep nesting, long text and numbers with absurd exponents, and it keeps every
// number as it was written. Value is the immutable tree that it returns.
//
// CompileTypes turns type declarations into Types; Types.Parse and
// Types.Granted read authorization_details, Types.Covers compares them. Covers
// is sound before it is complete: it never says yes where the declared rules do
// not, and everything it can not judge is a no with a reason.
//
// The package is pure: no I/O, no clock, no global state. Its callers are the
// engine, the wire and mcp. Values and compiled Types are never modified after
// construction and may be used by any number of goroutines at once.
package rar
