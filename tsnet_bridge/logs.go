package main

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// linesKept is how many log lines a reader of /v1/logs finds.
const linesKept = 1000

// newLogger writes one JSON object a line, in the form of the protocol: what the
// level lets through to w, and everything to kept.
func newLogger(w io.Writer, level slog.Level, r redactor, kept *lineRing) *slog.Logger {
	form := func(w io.Writer, level slog.Level) slog.Handler {
		return slog.NewJSONHandler(redactingWriter{w, r}, &slog.HandlerOptions{Level: level, ReplaceAttr: protocolAttr})
	}
	return slog.New(slog.NewMultiHandler(form(w, level), form(kept, slog.LevelDebug)))
}

// protocolAttr names levels and writes times as docs/bridge-protocol.md says.
func protocolAttr(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch v := a.Value.Any().(type) {
	case slog.Level:
		return slog.String(a.Key, levelName(v))
	case time.Time:
		return slog.String(a.Key, v.UTC().Format("2006-01-02T15:04:05.000Z07:00"))
	case time.Duration:
		return slog.Float64(a.Key, v.Seconds())
	}
	return a
}

func levelName(l slog.Level) string {
	if l == slog.LevelWarn {
		return "warning"
	}
	return strings.ToLower(l.String())
}

// lineRing keeps the last lines of the log, so that the cause of an event can be
// read after it, whatever the level is.
type lineRing struct {
	mu    sync.Mutex
	lines [][]byte // the oldest is at next, once all places are taken
	next  int
	subs  map[chan []byte]struct{}
}

func newLineRing() *lineRing { return &lineRing{subs: map[chan []byte]struct{}{}} }

// Write keeps one whole line.
func (k *lineRing) Write(line []byte) (int, error) {
	own := bytes.Clone(line)
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.lines) < linesKept {
		k.lines = append(k.lines, own)
	} else {
		k.lines[k.next] = own
		k.next = (k.next + 1) % linesKept
	}
	for sub := range k.subs {
		select {
		case sub <- own:
		default: // a slow reader misses lines; the log is not held up
		}
	}
	return len(line), nil
}

// follow returns the kept lines, a channel of those to come, and its end.
func (k *lineRing) follow() (kept [][]byte, coming <-chan []byte, done func()) {
	sub := make(chan []byte, linesKept)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.subs[sub] = struct{}{}
	kept = append(append(kept, k.lines[k.next:]...), k.lines[:k.next]...)
	return kept, sub, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.subs, sub)
	}
}
