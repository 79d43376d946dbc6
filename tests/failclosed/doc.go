// Package failclosed holds policies in the contract of authzd, queries to them,
// systematic mutations of those queries, and for each policy an oracle that
// reads the query alone and says whether an allow is permissible. The tests
// drive every interface of authzd with all of it: an allow that the oracle does
// not permit is the one fault that must never happen.
//
// The data is meant for other engines too; README.md describes it.
package failclosed
