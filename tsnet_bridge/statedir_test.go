package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The folder is made for us alone and locked; a second process is told so.
func TestStateDirIsMadeAndLocked(t *testing.T) {
	dir := filepath.Join(shortDir(t), "a", "b")
	lock, err := openStateDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(dir); info.Mode().Perm() != 0o700 {
		t.Error(info.Mode())
	}
	_, err = openStateDir(dir)
	var f *fault
	if !errors.As(err, &f) || codeStateLocked != f.Code {
		t.Error(err)
	}
	lock.Close()
	again, err := openStateDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	if files, _ := filepath.Glob(filepath.Join(dir, ".bridge-write-*")); len(files) != 0 {
		t.Error(files)
	}
}

// A predecessor that is about to end is waited for, unless we are to stop.
func TestLockIsWaitedFor(t *testing.T) {
	dir := shortDir(t)
	lock, err := openStateDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	silent := func(f *fault) { t.Error("said too early:", f) }
	if _, err := awaitStateDir(ctx, dir, time.Hour, silent); err == nil {
		t.Error("took a lock that is held")
	}
	time.AfterFunc(50*time.Millisecond, func() { lock.Close() })
	next, err := awaitStateDir(t.Context(), dir, 5*time.Second, silent)
	if err != nil {
		t.Fatal(err)
	}
	next.Close()
}

// A holder that does not end is told, and its end is noticed.
func TestLockThatStaysIsTold(t *testing.T) {
	dir := shortDir(t)
	lock, err := openStateDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	next, err := awaitStateDir(t.Context(), dir, 0, func(f *fault) {
		told = append(told, f.Code)
		lock.Close()
	})
	if err != nil || len(told) != 1 || codeStateLocked != told[0] {
		t.Fatal(told, err)
	}
	next.Close()
}

// The name that was served is there at the next start; a crash in between leaves the old one.
func TestServedNameIsKept(t *testing.T) {
	dir := t.TempDir()
	if got := keptName(dir); got != "" {
		t.Error(got)
	}
	for _, name := range []string{"guard", "other"} {
		if err := keepName(dir, name); err != nil || name != keptName(dir) {
			t.Error(name, keptName(dir), err)
		}
	}
	if err := keepName("/nowhere", "guard"); err == nil {
		t.Error("nothing was said")
	}
}

// A folder that cannot be made is told before tsnet stumbles over it.
func TestUnwritableStateDirIsTold(t *testing.T) {
	file := filepath.Join(shortDir(t), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := openStateDir(filepath.Join(file, "state"))
	var f *fault
	if !errors.As(err, &f) || codeStateDirUnwritable != f.Code || f.Hint == "" {
		t.Error(err)
	}
}

// A node is enrolled when its state has a profile, and only then.
func TestEnrolledStateIsRecognised(t *testing.T) {
	state := func(entries map[string]string) []byte {
		store := map[string][]byte{}
		for key, value := range entries {
			store[key] = []byte(value)
		}
		raw, _ := json.Marshal(store)
		return raw
	}
	for name, c := range map[string]struct {
		file []byte
		want bool
	}{
		"no file":            {nil, false},
		"a cut file":         {[]byte(`{"_machin`), false},
		"a machine key only": {state(map[string]string{"_machinekey": "privkey:00"}), false},
		"logged out":         {state(map[string]string{"_machinekey": "privkey:00", "_profiles": "{}"}), false},
		"a profile":          {state(map[string]string{"_profiles": `{"1a2b":{"ID":"1a2b","Key":"profile-1a2b"}}`}), true},
	} {
		dir := t.TempDir()
		if c.file != nil {
			if err := os.WriteFile(filepath.Join(dir, "tailscaled.state"), c.file, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := enrolled(dir); c.want != got {
			t.Errorf("%s: want %v, got %v", name, c.want, got)
		}
	}
}

// The UDP port is the same at each start, and another one when it is taken.
func TestPortIsKept(t *testing.T) {
	dir := t.TempDir()
	first, err := keptPort(dir)
	if err != nil || first == 0 {
		t.Fatal(first, err)
	}
	if second, _ := keptPort(dir); first != second {
		t.Errorf("want %d again, got %d", first, second)
	}
	taken, err := net.ListenUDP("udp", &net.UDPAddr{Port: int(first)})
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	third, err := keptPort(dir)
	if err != nil || first == third || third == 0 {
		t.Error(third, err)
	}
	if fourth, _ := keptPort(dir); third != fourth {
		t.Errorf("want the new one, %d, kept, got %d", third, fourth)
	}
}
