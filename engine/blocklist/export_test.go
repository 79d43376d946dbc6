package blocklist

import (
	"strconv"
	"time"

	"github.com/authzd/authzd/engine"
)

// Fill makes n blocks hold that no store knows of.
func Fill(l *List, n int, until time.Time) {
	for i := range n {
		l.holds = append(l.holds, engine.Block{ID: strconv.Itoa(i), Kind: engine.BlockTool, Value: strconv.Itoa(i), Until: until})
	}
}
