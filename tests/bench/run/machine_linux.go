package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cpuPlan gives the servers one core and the generator another, so that
// throughput is one core's and the generator cannot take part of it.
type cpuPlan struct {
	taskset              string
	serverCPU, clientCPU string
}

func (p cpuPlan) pinned() bool { return p.taskset != "" }

func (p cpuPlan) String() string {
	if !p.pinned() {
		return "servers and generator share all cores (no taskset, or one core only)"
	}
	return fmt.Sprintf("servers on core %s, generator on core %s", p.serverCPU, p.clientCPU)
}

// chooseCPUs picks two of the cores that this process may use. given is the
// choice that it made before it restarted itself.
func chooseCPUs(given string) cpuPlan {
	taskset, err := exec.LookPath("taskset")
	if err != nil {
		return cpuPlan{}
	}
	if a, b, ok := strings.Cut(given, ","); ok {
		return cpuPlan{taskset: taskset, serverCPU: a, clientCPU: b}
	}
	cpus := allowedCPUs()
	if len(cpus) < 2 {
		return cpuPlan{}
	}
	return cpuPlan{taskset: taskset, serverCPU: strconv.Itoa(cpus[0]), clientCPU: strconv.Itoa(cpus[1])}
}

// allowedCPUs reads a list such as 0-3,8.
func allowedCPUs() []int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil
	}
	var out []int
	for line := range strings.Lines(string(status)) {
		list, ok := strings.CutPrefix(line, "Cpus_allowed_list:")
		if !ok {
			continue
		}
		for _, part := range strings.Split(strings.TrimSpace(list), ",") {
			from, to, isRange := strings.Cut(part, "-")
			if !isRange {
				to = from
			}
			a, errA := strconv.Atoi(from)
			b, errB := strconv.Atoi(to)
			if errA != nil || errB != nil {
				return nil
			}
			for ; a <= b; a++ {
				out = append(out, a)
			}
		}
	}
	return out
}

// restart replaces this process by itself on the generator's core: Go sizes its
// scheduler by the cores that it may use when it starts.
func (p cpuPlan) restart() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	argv := append([]string{p.taskset, "-c", p.clientCPU, self, "-pinned", p.serverCPU + "," + p.clientCPU}, os.Args[1:]...)
	// It returns only if it failed.
	return fmt.Errorf("restart under taskset: %w", syscall.Exec(p.taskset, argv, os.Environ()))
}

func (p cpuPlan) server(argv []string) (name string, args []string) {
	if !p.pinned() {
		return argv[0], argv[1:]
	}
	return p.taskset, append([]string{"-c", p.serverCPU}, argv...)
}

// dieWithParent makes the kernel end the server if this program is killed.
func dieWithParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// processUsage reads /proc/PID/stat; zero if there is no such process.
func processUsage(pid int) (cpu time.Duration, rssMB float64) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0
	}
	// The second field is a name in parentheses that may hold spaces. After it,
	// utime, stime and rss are fields 14, 15 and 24 (proc(5)), in ticks of 10 ms
	// and in pages.
	f := strings.Fields(string(text)[strings.LastIndexByte(string(text), ')')+1:])
	if len(f) < 22 {
		return 0, 0
	}
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	pages, _ := strconv.ParseFloat(f[21], 64)
	return time.Duration(user+system) * 10 * time.Millisecond, pages * float64(os.Getpagesize()) / 1e6
}

// peakMemory is the most resident memory of a process so far, in MB; 0 if there is no
// such process.
func peakMemory(pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if size, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kB, _ := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(size), "kB")), 64)
			return kB * 1024 / 1e6
		}
	}
	return 0
}

func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.TrimSpace(strings.TrimLeft(strings.TrimSpace(name), ":"))
		}
	}
	return ""
}
