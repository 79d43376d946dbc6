// Package sample is what the tests of the tool mutate.
package sample

// Old reports whether age is at least 18.
func Old(age int) bool {
	return age >= 18
}

// Sign is what no test looks at.
func Sign(n int) int {
	if n < 0 {
		return -1
	}
	return n
}

// Count counts what is true.
func Count(list ...bool) int {
	n := 0
	for _, is := range list {
		if !is {
			continue
		}
		n++
	}
	log(n)
	return n
}

func log(int) {}
