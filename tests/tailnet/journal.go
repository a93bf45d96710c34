package main

import (
	"fmt"
	"sync"
	"time"
)

// Streams of the journal, as GET /logs names them.
const (
	apiLog     = "api"     // requests to the API for credentials, without what is secret
	acmeLog    = "acme"    // requests to the CA and what it decided
	controlLog = "control" // requests of nodes to the control server
	relayLog   = "relay"   // connections from outside that failed, and why
)

// journalLimit bounds one stream: a test reads the end of it, never all.
const journalLimit = 10_000

// journal remembers what the parts of the tailnet saw.
type journal struct {
	mu    sync.Mutex
	lines map[string][]string
}

func newJournal() *journal { return &journal{lines: emptyLines()} }

// emptyLines has every stream, so that a reader never meets a null.
func emptyLines() map[string][]string {
	return map[string][]string{apiLog: {}, acmeLog: {}, controlLog: {}, relayLog: {}}
}

// add appends one line with the time of day to a stream.
func (j *journal) add(stream, format string, args ...any) {
	line := time.Now().Format("15:04:05.000 ") + fmt.Sprintf(format, args...)
	j.mu.Lock()
	defer j.mu.Unlock()
	kept := j.lines[stream]
	if len(kept) >= journalLimit {
		kept = append([]string{}, kept[journalLimit/2:]...)
	}
	j.lines[stream] = append(kept, line)
}

// read returns all streams; the slices are not written to afterwards.
func (j *journal) read() map[string][]string {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := emptyLines()
	for stream, lines := range j.lines {
		out[stream] = append(out[stream], lines...)
	}
	return out
}

func (j *journal) clear() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = emptyLines()
}
