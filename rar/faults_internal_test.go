package rar

import (
	"errors"
	"strconv"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// TestUnknownVerdictRefuses: whatever a library says that is no list of faults, the value
// is refused.
func TestUnknownVerdictRefuses(t *testing.T) {
	t.Parallel()
	for _, verdict := range []error{errors.New("unknown"), &jsonschema.ValidationError{ErrorKind: &kind.Group{}}} {
		if err := schemaFault(ObjectValue(), verdict); err == nil || err.Code != CodeInvalidValue || err.Err == nil {
			t.Errorf("%T: %v", verdict, err)
		}
	}
}

// TestPlacesAreFoundByIndex: a large object is indexed once for all faults in it.
func TestPlacesAreFoundByIndex(t *testing.T) {
	t.Parallel()
	members := make([]Member, 1000)
	for i := range members {
		members[i] = Member{Name: "k" + strconv.Itoa(i), Value: StringValue("v")}
	}
	large := ObjectValue(members...)
	doc := ObjectValue(Member{Name: "small", Value: BoolValue(true)}, Member{Name: "large", Value: large})
	l := locator{}
	for i, m := range members {
		if diff := gocmp.Diff([]int{3, 2*i + 1}, l.places(doc, []string{"large", m.Name})); diff != "" {
			t.Fatal(diff)
		}
	}
	if diff := gocmp.Diff([]int{3, 2 * len(members)}, l.places(doc, []string{"large", "absent"})); diff != "" {
		t.Error(diff)
	}
	if index := l[&large.list()[0]].index; len(l) != 2 || len(index) != len(members) {
		t.Errorf("%d objects are known, the large one by %d names", len(l), len(index))
	}
}
