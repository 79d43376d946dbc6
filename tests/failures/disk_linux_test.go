package failures_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/authzd/authzd/tests/internal/binary"
)

// A limit on the size of files stops every file that would grow, which needs no right.
func TestDiskFullByLimit(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	dir := keys(t)
	k := keep(t, dir, serve(t, "", storing(dir, filepath.Join(dir, "data"))...))
	limit := func(most string) {
		out, err := exec.CommandContext(t.Context(), "prlimit", "--pid", strconv.Itoa(k.server.Cmd.Process.Pid), "--fsize="+most+":").CombinedOutput()
		if err != nil {
			t.Fatalf("prlimit: %v: %s", err, out)
		}
	}
	k.outage(t, func() {
		limit("4096")
		// Not half of it: nobody is blocked of whom it was not confirmed.
		for i := range 50 {
			if got := k.block(t, "bob"+strconv.Itoa(i)); got.Status == http.StatusServiceUnavailable && got.Code == "api.store_unavailable" {
				return
			}
		}
		t.Error("the block list took everything")
	}, func() { limit("unlimited") })
}

// A small file system that is full.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	binary.SkipIfShort(t)
	own := &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	dir := keys(t)
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	mount := `mount -t tmpfs -o size=6m none "` + data + `"`
	try := exec.CommandContext(t.Context(), "sh", "-c", mount)
	try.SysProcAttr = own
	if out, err := try.CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED: the kernel refuses a file system of one's own: %v: %s; TestDiskFullByLimit stands in", err, out)
	}
	cmd := serve(t, mount+` && exec "$@"`, storing(dir, data)...)
	cmd.SysProcAttr = own
	k := keep(t, dir, cmd)
	filler := fmt.Sprintf("/proc/%d/root%s/filler", k.server.Cmd.Process.Pid, data)
	k.outage(t, func() {
		f, err := os.Create(filler)
		if err != nil {
			t.Fatal(err)
		}
		for text := noise(1 << 10); err == nil; {
			_, err = f.WriteString(text)
		}
		_ = f.Close()
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}, func() {
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
	})
}
