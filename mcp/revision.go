package mcp

// revision groups the protocol versions that are served alike. The zero value
// is the one that promises a client the least.
type revision uint8

const (
	// revisionUnknown stands for a missing or malformed protocol version. Such
	// a client is offered nothing that its revision would have to define.
	revisionUnknown revision = iota
	// revisionOld is 2025-06-18 and before: no URL elicitation, no resultType.
	revisionOld
	// revision2025 is 2025-11-25: URL elicitation by error -32042.
	revision2025
	// revision2026 is 2026-07-28 and whatever follows it: stateless requests,
	// resultType, the tasks extension.
	revision2026
)

// revisionOf reads a protocol version. Versions are dates, so they order as
// text; one later than 2026-07-28 is served as 2026-07-28, one between two known
// versions as the earlier of them.
func revisionOf(version string) revision {
	switch {
	case !isDate(version):
		return revisionUnknown
	case version >= "2026-07-28":
		return revision2026
	case version >= "2025-11-25":
		return revision2025
	default:
		return revisionOld
	}
}

func isDate(s string) bool {
	if len(s) != len("2026-07-28") {
		return false
	}
	for i := range len(s) {
		if i == 4 || i == 7 {
			if s[i] != '-' {
				return false
			}
			continue
		}
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
