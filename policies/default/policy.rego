# METADATA
# title: The policy of a server that was given none
# description: |
#   Denies every call and says what to do about it. It is embedded in the binary
#   and stands until a bundle with an entry point is loaded. The manifest allows
#   untyped tools, so that a call of any tool gets this answer and not the one
#   that its tool is unknown.
package authz

forbid["no-policy-loaded"] := {
	"code": "policy.not_loaded",
	"message": "No policy is loaded. Start authzd with --bundle NAME=PATH.",
	"message_admin": "No bundle with an entry point is active, so the embedded policy denied this call. Start authzd with --bundle NAME=PATH (a folder or an archive), or push and activate a bundle. See docs/policy.md.",
}
