package sample

import "testing"

func TestOld(t *testing.T) {
	if Old(17) || !Old(18) || !Old(19) {
		t.Error("17, 18 or 19")
	}
}

func TestCount(t *testing.T) {
	if n := Count(true, false, true); n != 2 {
		t.Errorf("%d", n)
	}
}
