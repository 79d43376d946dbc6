package blocklist

import (
	"strconv"
	"time"

	"github.com/authzd/authzd/engine"
)

// Fill makes n blocks hold that no store knows of.
func Fill(l *List, n int, until time.Time) {
	for i := range n {
		l.list = append(l.list, engine.Block{ID: strconv.Itoa(i), Kind: engine.BlockTool, Value: strconv.Itoa(i), Until: until})
	}
}
