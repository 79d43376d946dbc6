package rar

// HasPacked tells whether v, or something in it, is packed. It walks through what is
// not, as far as the first that is.
func (v Value) HasPacked() bool {
	if v.Packed() {
		return true
	}
	for _, kid := range v.list() {
		if kid.HasPacked() {
			return true
		}
	}
	return false
}
