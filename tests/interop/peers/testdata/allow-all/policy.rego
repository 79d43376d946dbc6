# METADATA
# title: Everything is allowed
# description: For comparing what is behind authzd with what is not. Never use it for anything else.
package authz

permit["all"] := {}
