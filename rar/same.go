package rar

// Same tells whether a and b are one Value in memory, which Equal values need not be: in
// no time, whatever there is in them.
func Same(a, b Value) bool {
	return a.at == b.at && a.size == b.size && a.kind == b.kind && a.bool == b.bool
}
