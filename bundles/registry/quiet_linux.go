package registry

import "syscall"

// nice is the least that a thread may ask for.
const nice = 19

// yieldCores gives this thread the lowest priority: on Linux a priority is of one
// thread. It is no error if that is not granted.
func yieldCores() { _ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, nice) }
