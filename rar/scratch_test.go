package rar_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/authzd/authzd/rar"
)

// What was decoded stays what it is, whatever is decoded afterwards and at once:
// decoders use their stacks again.
func TestDecodedValuesStay(t *testing.T) {
	t.Parallel()
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			var values []rar.Value
			var texts [][]byte
			for i := range 200 {
				text := fmt.Appendf(nil, `{"g":%d,"i":[%d%s],"s":{"t":["x%d",{"u":null}]}}`, g, i, strings.Repeat(",1", i*5%700), i)
				if i%7 == 0 { // a fault must leave nothing behind either
					if _, err := rar.DecodeStrict(append(text, '}'), rar.Limits{}); err == nil {
						t.Error("a fault was not seen")
					}
				}
				v, err := rar.DecodeStrict(text, rar.Limits{})
				if err != nil {
					t.Error(err)
					return
				}
				values, texts = append(values, v), append(texts, text)
			}
			for i, v := range values {
				if got := v.AppendJSON(nil); !bytes.Equal(got, texts[i]) {
					t.Errorf("%s became %s", texts[i], got)
				}
			}
		})
	}
	group.Wait()
}
