package main

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const fixtures = "../tests/fixtures/bridge"

// fixture reads one file that the Python tests read too.
func fixture[T any](t *testing.T, name string) T {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(fixtures, name))
	if err != nil {
		t.Fatal(err)
	}
	var value T
	if err := json.Unmarshal(raw, &value); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return value
}

// shortDir is a folder whose sockets' paths fit; t.TempDir has the test's name in it.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "bridge")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// smallConfig has limits that a test reaches quickly.
func smallConfig(t testing.TB) config {
	dir := shortDir(t)
	return config{
		Hostname: "repo-guardian", StateDir: filepath.Join(dir, "state"),
		ControlSocket: filepath.Join(dir, "control.sock"), AppSocket: filepath.Join(dir, "app.sock"),
		WebhookPath: "/webhooks/github", Port: 443, Loopback: "127.0.0.1:1", LogLevel: slog.LevelInfo,
		Limits: limits{
			MaxBody: 1000, MaxHeader: 4096, MaxConnections: 8, SourceConnections: 8, SourceRate: 1000, ReadHeaderTimeout: 300 * time.Millisecond,
			ReadTimeout: 600 * time.Millisecond, WriteTimeout: time.Second, IdleTimeout: time.Second,
		},
	}
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// soon waits for something that another goroutine does.
func soon(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func count(text, part string) int { return strings.Count(text, part) }

func tlsOf(pair *tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{*pair}}
}
