//go:build !linux

package main

import (
	"os/exec"
	"time"
)

// cpuPlan does nothing where cores cannot be had for one process: figures are
// then noisier, and processor time is not shown.
type cpuPlan struct{}

func (cpuPlan) pinned() bool { return false }

func (cpuPlan) String() string { return "servers and generator share all cores" }

func chooseCPUs(string) cpuPlan { return cpuPlan{} }

func (cpuPlan) restart() error { return nil }

func (cpuPlan) server(argv []string) (name string, args []string) { return argv[0], argv[1:] }

func dieWithParent(*exec.Cmd) {}

func processUsage(int) (cpu time.Duration, rssMB float64) { return 0, 0 }

func peakMemory(int) float64 { return 0 }

func cpuModel() string { return "" }
