// Command tsnet_bridge is repo-guardian's embedded Tailscale Funnel node.
//
// It is a child process: the parent writes one JSON document to its stdin,
// reads its state on a Unix socket and answers what it lets through on another.
// The whole contract is docs/bridge-protocol.md.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// version is set by the build: -ldflags "-X main.version=…".
var version = "0.0.0"

// memoryLimit keeps wireguard-go's unbounded packet pools from growing for
// ever: without it the process stays at 300 MB and more after one large upload.
const memoryLimit = 144 << 20

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Println(versionLine())
		return
	}
	if len(os.Args) > 1 {
		fmt.Fprintln(os.Stderr, "tsnet_bridge takes no arguments: it reads a JSON document on stdin")
		os.Exit(exitRefused)
	}
	os.Exit(run(os.Stdin, os.Stderr))
}

// Exit codes of the process; any other is a crash.
const (
	exitStopped = 0
	exitRefused = 2
	exitReplace = 3 // the public path is down and only a new process is left to try
)

// run is the process: it returns its exit code when it was asked to stop, or
// at once when the start document or the sockets are wrong.
func run(stdin io.Reader, stderr io.Writer) int {
	quietEnvironment()
	input := bufio.NewReader(stdin)
	cfg, err := readConfig(input)
	redact, kept := newRedactor(string(cfg.AuthKey), string(cfg.Identity.IDToken)), newLineRing()
	log := newLogger(stderr, cfg.LogLevel, redact, kept)
	if err != nil {
		return refuse(log, err)
	}
	// net/http says some things through the standard logger only.
	stdlog.SetFlags(0)
	stdlog.SetOutput(lineWriter(func(line string) { log.Debug("http.said", "text", line) }))
	board := newBoard(cfg, redact)
	edge := newEdge(cfg, log)
	node := newNode(cfg, log, board, edge)

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go stopAtEndOf(input, os.Getppid(), node, stop)
	go stopAtSignal(ctx, stop)
	patience := min(cfg.Grace+lockPatience, maxSocketPatience)
	control, err := openControl(ctx, cfg.ControlSocket, patience, served{
		board: board, lines: kept, metrics: node.metrics, probe: node.probeNow, drain: stop,
	})
	switch {
	case errors.Is(err, context.Canceled):
		return exitStopped
	case err != nil:
		return refuse(log, err)
	}
	log.Info("bridge.started", "pid", os.Getpid(), "versions", board.current().Versions)
	code := node.run(ctx)
	control.close()
	return code
}

// quietEnvironment takes away what would change tsnet behind the contract's
// back, and sets what holds for the whole process.
func quietEnvironment() {
	for _, name := range []string{
		"TS_AUTHKEY", "TS_AUTH_KEY", "TS_CONTROL_URL", "TS_CLIENT_SECRET", "TS_CLIENT_ID",
		"TS_ID_TOKEN", "TS_AUDIENCE", "TSNET_FORCE_LOGIN",
	} {
		os.Unsetenv(name)
	}
	debug.SetMemoryLimit(memoryLimit)
	syscall.Umask(0o077)
	// A dead parent closes our stderr; a log line must not kill the drain.
	signal.Ignore(syscall.SIGPIPE)
}

// refuse writes the last line that the parent reads before exit code 2.
func refuse(log *slog.Logger, err error) int {
	var f *fault
	if !errors.As(err, &f) {
		f = &fault{Code: codeConfigInvalid, Message: err.Error()}
	}
	log.Error("bridge.refused", "code", f.Code, "message", f.Message, "hint", f.Hint)
	return exitRefused
}

// stopAtEndOf stops when the parent has closed our stdin, or died: then nobody is
// left to answer what is in flight, and a successor waits for our locks.
func stopAtEndOf(input io.Reader, parent int, n *node, stop func()) {
	_, _ = io.Copy(io.Discard, input)
	if os.Getppid() != parent {
		n.orphaned.Store(true)
	}
	stop()
}

// stopAtSignal stops at SIGTERM; SIGINT comes from a terminal's Ctrl-C. A
// service manager and the parent may both send one: the second changes nothing.
func stopAtSignal(ctx context.Context, stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	select {
	case <-signals:
		stop()
	case <-ctx.Done():
	}
}
