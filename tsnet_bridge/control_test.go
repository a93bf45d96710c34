package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// overSocket is an HTTP client of the control socket.
func overSocket(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
}

type controlled struct {
	*control
	path    string
	client  *http.Client
	drained chan struct{}
}

func openTestControl(t *testing.T) *controlled {
	t.Helper()
	c := &controlled{path: filepath.Join(shortDir(t), "c.sock"), drained: make(chan struct{}, 1)}
	yes := true
	c.client = overSocket(c.path)
	var err error
	c.control, err = openControl(t.Context(), c.path, 0, served{
		board: newBoard(config{}, newRedactor()), lines: newLineRing(),
		metrics: func() string { return "m 1\n" },
		probe:   func(context.Context) probeStatus { return probeStatus{OK: &yes} },
		drain:   func() { c.drained <- struct{}{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c
}

func (c *controlled) ask(t *testing.T, method, path string) (*http.Response, string) {
	t.Helper()
	req, _ := http.NewRequest(method, "http://bridge"+path, nil)
	res, err := c.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return res, string(body)
}

// The socket is ours alone and answers what the protocol names.
func TestControlSocketAnswers(t *testing.T) {
	c := openTestControl(t)
	if info, err := os.Stat(c.path); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
	var doc status
	if res, body := c.ask(t, "GET", "/v1/status"); res.StatusCode != 200 || json.Unmarshal([]byte(body), &doc) != nil || stateStarting != doc.State {
		t.Error(res.StatusCode, body)
	}
	if res, body := c.ask(t, "GET", "/metrics"); body != "m 1\n" || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/plain") {
		t.Error(body, res.Header)
	}
	var probe probeStatus
	if res, body := c.ask(t, "POST", "/v1/probe"); res.StatusCode != 200 || json.Unmarshal([]byte(body), &probe) != nil || !*probe.OK {
		t.Error(res.StatusCode, body)
	}
	for _, asked := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/v1/probe", 405},
		{"POST", "/v1/status", 405},
		{"GET", "/v1/drain", 405},
		{"GET", "/", 404},
		{"POST", "/v1/drain", 202},
	} {
		if res, _ := c.ask(t, asked.method, asked.path); asked.status != res.StatusCode {
			t.Errorf("%s %s: want %d, got %d", asked.method, asked.path, asked.status, res.StatusCode)
		}
	}
	select {
	case <-c.drained:
	case <-time.After(time.Second):
		t.Error("drain was not passed on")
	}
}

// The stream begins with the present status, tells each change, beats when all is quiet, and ends.
func TestEventsAreStreamed(t *testing.T) {
	c := openTestControl(t)
	c.heartbeat = 20 * time.Millisecond
	res, err := c.client.Get("http://bridge/v1/events")
	if err != nil || res.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatal(err, res)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	next := func() (e event) {
		if !lines.Scan() || json.Unmarshal(lines.Bytes(), &e) != nil {
			t.Fatalf("no event: %q %v", lines.Text(), lines.Err())
		}
		return e
	}
	if first := next(); first.Event != "status" || stateStarting != first.Status.State {
		t.Fatal(first)
	}
	if second := next(); second.Event != "heartbeat" || second.Status != nil {
		t.Fatal(second)
	}
	c.board.update(func(d *status) { d.State = stateReady })
	for e := next(); e.Event != "status" || e.Status.State != stateReady; e = next() {
	}
	c.board.update(func(d *status) { d.State = stateStopped })
	c.board.close()
	for e := next(); e.Event != "status"; e = next() {
	}
	if lines.Scan() {
		t.Error("the stream goes on after the end:", lines.Text())
	}
}

// Our own lines are lines of the fixtures' form.
func TestEventLinesAreAsInTheFixtures(t *testing.T) {
	file, err := os.Open(filepath.Join(fixtures, "events.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		if written, _ := json.Marshal(e); lines.Text() != string(written) {
			t.Errorf("\nwant %s\ngot  %s", lines.Text(), written)
		}
	}
}

// A socket that nobody serves is replaced.
func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(shortDir(t), "c.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	ln.Close()
	c, err := openControl(t.Context(), path, 0, served{board: newBoard(config{}, newRedactor())})
	if err != nil {
		t.Fatal(err)
	}
	c.close()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Error("close leaves the socket behind")
	}
}

// A served socket, and anything that is not a socket, is left alone.
func TestForeignPathIsLeftAlone(t *testing.T) {
	c := openTestControl(t)
	file := filepath.Join(shortDir(t), "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{c.path, file} {
		_, err := openControl(t.Context(), path, 0, c.served)
		var f *fault
		if !errors.As(err, &f) || codeSocketInUse != f.Code || f.Hint == "" {
			t.Errorf("%s: %v", path, err)
		}
	}
	if text, _ := os.ReadFile(file); string(text) != "precious" {
		t.Error("the file was touched")
	}
	c.ask(t, "GET", "/v1/status")
}

// A folder that is not there is named.
func TestMissingSocketFolderIsNamed(t *testing.T) {
	_, err := openControl(t.Context(), "/nowhere/c.sock", 0, served{})
	var f *fault
	if !errors.As(err, &f) || codeConfigInvalid != f.Code || !strings.Contains(f.Message, "control_socket") {
		t.Error(err)
	}
}

// A predecessor that ends in time leaves its socket to us; a stop ends the wait.
func TestPredecessorGetsPatience(t *testing.T) {
	path := filepath.Join(shortDir(t), "c.sock")
	before, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if err := waitForSocket(stopped, path, time.Minute); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	go func() {
		if c, err := before.Accept(); err == nil { // we were asked whether we are there
			c.Close()
		}
		before.Close()
	}()
	if err := waitForSocket(t.Context(), path, 5*time.Second); err != nil {
		t.Error(err)
	}
}

// The kept lines are read with those to come, the newest thousand of them, whatever the level is.
func TestLogLinesAreKeptAndFollowed(t *testing.T) {
	c := openTestControl(t)
	log := newLogger(io.Discard, slog.LevelError, newRedactor(), c.lines)
	for i := range linesKept + 10 {
		log.Debug("line", "number", i)
	}
	res, body := c.ask(t, "GET", "/v1/logs")
	lines := strings.Split(strings.TrimSpace(body), "\n")
	if res.Header.Get("Content-Type") != "application/x-ndjson" || len(lines) != linesKept {
		t.Fatal(len(lines), res.Header)
	}
	if !strings.Contains(lines[0], `"number":10}`) || !strings.Contains(lines[linesKept-1], `"number":1009}`) {
		t.Error(lines[0], lines[linesKept-1])
	}
	stream, err := c.client.Get("http://bridge/v1/logs?follow=1")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	reader := bufio.NewScanner(stream.Body)
	for range linesKept {
		reader.Scan()
	}
	log.Info("later")
	if !reader.Scan() || !strings.Contains(reader.Text(), "later") {
		t.Error(reader.Text())
	}
}
