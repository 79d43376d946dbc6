//go:build !unix

package main

import "os/exec"

func ownGroup(*exec.Cmd) {}

// There is no gentler way that all systems know.
func terminateGroup(cmd *exec.Cmd) { _ = cmd.Process.Kill() }

func killGroup(cmd *exec.Cmd) { _ = cmd.Process.Kill() }
