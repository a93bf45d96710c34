package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"
)

const (
	heartbeatEvery = 5 * time.Second
	controlTimeout = 5 * time.Second
	// maxSocketPatience ends before the parent takes a silent child for hung.
	maxSocketPatience = 15 * time.Second
)

// control serves the parent, and anyone with curl --unix-socket, on our socket.
type control struct {
	served
	heartbeat time.Duration
	server    *http.Server
	ended     chan struct{}
}

// served is what the control socket gives access to.
type served struct {
	board   *board
	lines   *lineRing
	metrics func() string
	probe   func(context.Context) probeStatus
	drain   func()
}

// openControl listens on the socket. It takes the place of a stale socket and
// of nothing else.
// A predecessor that still serves it, to end its requests, gets until patience
// ends; when ctx ends before, the error is that of ctx.
func openControl(ctx context.Context, path string, patience time.Duration, what served) (*control, error) {
	if err := waitForSocket(ctx, path, patience); err != nil {
		return nil, err
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, invalid("control_socket: " + err.Error())
	}
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		return nil, invalid("control_socket: " + err.Error())
	}
	c := &control{served: what, heartbeat: heartbeatEvery, ended: make(chan struct{})}
	c.server = &http.Server{Handler: c.routes(), ReadHeaderTimeout: controlTimeout, ErrorLog: slogLines(func(string) {})}
	go func() {
		defer close(c.ended)
		_ = c.server.Serve(ln) // always ErrServerClosed
	}()
	return c, nil
}

// waitForSocket clears the path as soon as nobody serves it.
func waitForSocket(ctx context.Context, path string, patience time.Duration) error {
	for end := time.Now().Add(patience); ; {
		err := clearSocket(path)
		if !errors.Is(err, errServed) {
			return err
		}
		if time.Now().After(end) {
			return &fault{codeSocketInUse, path + " " + err.Error(), "stop the other repo-guardian, or give this one its own DATA_DIR"}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

var errServed = errors.New("is served by another process")

// clearSocket removes a socket that nobody listens on.
func clearSocket(path string) error {
	inUse := func(why, hint string) error { return &fault{codeSocketInUse, path + " " + why, hint} }
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return invalid("control_socket: " + err.Error())
	case info.Mode().Type() != fs.ModeSocket:
		return inUse("is there and is not a socket", "move that file away, or choose another folder for the sockets")
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
		return errServed
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return inUse("cannot be checked: "+err.Error(), "remove it when no repo-guardian is running")
	}
	return os.Remove(path)
}

func (c *control) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", c.getStatus)
	mux.HandleFunc("GET /v1/events", c.getEvents)
	mux.HandleFunc("POST /v1/drain", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		c.drain()
	})
	mux.HandleFunc("GET /v1/logs", c.getLogs)
	mux.HandleFunc("POST /v1/probe", func(w http.ResponseWriter, r *http.Request) { writeJSON(w, c.probe(r.Context())) })
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = w.Write([]byte(c.metrics()))
	})
	return mux
}

func (c *control) getStatus(w http.ResponseWriter, _ *http.Request) { writeJSON(w, c.board.current()) }

func writeJSON(w http.ResponseWriter, document any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(document) // a reader that went away is no news
}

// getLogs writes the kept log lines and, when it is asked to follow, those to come.
func (c *control) getLogs(w http.ResponseWriter, r *http.Request) {
	kept, coming, done := c.lines.follow()
	defer done()
	w.Header().Set("Content-Type", "application/x-ndjson")
	for _, line := range kept {
		_, _ = w.Write(line)
	}
	flush := http.NewResponseController(w)
	for ok := r.URL.Query().Get("follow") == "1"; ok && flush.Flush() == nil; {
		select {
		case line := <-coming:
			_, err := w.Write(line)
			ok = err == nil
		case <-c.ended:
			ok = false
		case <-r.Context().Done():
			ok = false
		}
	}
}

// event is one line of the stream.
type event struct {
	Event  string  `json:"event"`
	Status *status `json:"status,omitempty"`
}

// getEvents writes the present status, then each change, then a heartbeat in
// every quiet interval, until the reader goes or the bridge has stopped.
func (c *control) getEvents(w http.ResponseWriter, r *http.Request) {
	now, changes, done := c.board.subscribe()
	defer done()
	w.Header().Set("Content-Type", "application/x-ndjson")
	lines, flush := json.NewEncoder(w), http.NewResponseController(w)
	send := func(e event) bool { return lines.Encode(e) == nil && flush.Flush() == nil }
	beat := time.NewTicker(c.heartbeat)
	defer beat.Stop()
	for ok := send(event{"status", &now}); ok; {
		select {
		case next, more := <-changes:
			ok = more && send(event{"status", &next})
		case <-beat.C:
			ok = send(event{Event: "heartbeat"})
		case <-r.Context().Done():
			return
		}
	}
}

// close ends the streams after their last event and stops serving.
func (c *control) close() {
	c.board.close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if c.server.Shutdown(ctx) != nil {
		c.server.Close()
	}
	<-c.ended
}
