package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"tailscale.com/ipn"
)

const (
	lockFile = "bridge.lock"
	portFile = "bridge.port"
	nameFile = "bridge.name"
	// lockAgain and stateDirAgain are the pauses between two tries.
	lockAgain     = 100 * time.Millisecond
	stateDirAgain = 2 * time.Second
	// minFree is what a start needs: a full disk would throw away an issued
	// certificate after the CA has counted it.
	minFree = 1 << 20
)

// openStateDir makes the folder, proves that it can be written and locks it
// for this process, or says what is in the way now.
func openStateDir(dir string) (*os.File, error) {
	unwritable := func(err error) error {
		return &fault{codeStateDirUnwritable, err.Error(),
			"give repo-guardian a folder that it may write: TS_STATE_DIR, or a volume at DATA_DIR"}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, unwritable(err)
	}
	if err := checkFree(dir); err != nil {
		return nil, unwritable(err)
	}
	probe, err := os.CreateTemp(dir, ".bridge-write-*")
	if err != nil {
		return nil, unwritable(err)
	}
	_, err = probe.WriteString("test")
	if err = errors.Join(err, probe.Close(), os.Remove(probe.Name())); err != nil {
		return nil, unwritable(err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, unwritable(err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, unwritable(fmt.Errorf("lock %s: %w", lock.Name(), err))
		}
		return nil, &fault{codeStateLocked, "another process uses " + dir,
			"stop the other repo-guardian, or give this one its own TS_STATE_DIR"}
	}
	return lock, nil
}

// awaitStateDir opens the folder as soon as it can be opened, and reports what is
// in the way until then. A holder that is on its way out is no news for a while.
func awaitStateDir(ctx context.Context, dir string, patience time.Duration, report func(*fault)) (*os.File, error) {
	patient := time.Now().Add(patience)
	for ctx.Err() == nil {
		lock, err := openStateDir(dir)
		if err == nil {
			return lock, nil
		}
		f, _ := errors.AsType[*fault](err)
		pause := lockAgain
		if f.Code != codeStateLocked || time.Now().After(patient) {
			report(f)
			pause = stateDirAgain
		}
		sleepUntil(ctx, time.Now().Add(pause))
	}
	return nil, ctx.Err()
}

// checkFree fails when the disk of dir is all but full.
func checkFree(dir string) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("statfs %s: %w", dir, err)
	}
	if fs.Bavail*uint64(fs.Bsize) < minFree {
		return fmt.Errorf("%s: %w: less than 1 MiB is free", dir, syscall.ENOSPC)
	}
	return nil
}

// enrolled reports whether the folder holds a node that has logged in. tsnet
// writes a profile only once control has given the node its identity
// (ipn/ipnlocal/profiles.go, SetPrefs).
func enrolled(dir string) bool {
	raw, err := os.ReadFile(filepath.Join(dir, "tailscaled.state"))
	if err != nil {
		return false
	}
	var store map[ipn.StateKey][]byte
	var profiles map[ipn.ProfileID]json.RawMessage
	return json.Unmarshal(raw, &store) == nil &&
		json.Unmarshal(store[ipn.KnownProfilesStateKey], &profiles) == nil &&
		len(profiles) > 0
}

// keptPort returns the UDP port of the last start, or a new one when that is
// taken. With a port of its own for each start, peers go on sending to the old
// one and the public path is dead for 10 s and more.
func keptPort(dir string) (uint16, error) {
	path := filepath.Join(dir, portFile)
	if raw, err := os.ReadFile(path); err == nil {
		if n, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 16); err == nil && n != 0 {
			if port, err := freePort(uint16(n)); err == nil {
				return port, nil
			}
		}
	}
	port, err := freePort(0)
	if err != nil {
		return 0, err
	}
	return port, writeWhole(path, []byte(strconv.Itoa(int(port))+"\n"))
}

// keptName returns the name that was served last, or nothing.
func keptName(dir string) string {
	raw, err := os.ReadFile(filepath.Join(dir, nameFile))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}

// keepName remembers the name that is served.
func keepName(dir, name string) error {
	return writeWhole(filepath.Join(dir, nameFile), []byte(name+"\n"))
}

// writeWhole replaces a file: a crash or a full disk leaves the old one.
func writeWhole(path string, content []byte) error {
	next := path + ".new"
	if err := os.WriteFile(next, content, 0o600); err != nil {
		return err
	}
	return os.Rename(next, path)
}

// freePort proves that the UDP port can be bound; 0 lets the kernel choose.
func freePort(port uint16) (uint16, error) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{Port: int(port)})
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	return uint16(conn.LocalAddr().(*net.UDPAddr).Port), nil
}
