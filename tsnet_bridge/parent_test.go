package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// countedParent is a server on a Unix socket that counts its connections.
type countedParent struct {
	path   string
	server *http.Server
	opened atomic.Int64
}

func startCountedParent(t *testing.T, path string, handle http.HandlerFunc) *countedParent {
	t.Helper()
	p := &countedParent{path: path, server: &http.Server{Handler: handle}}
	p.server.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			p.opened.Add(1)
		}
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.server.Serve(ln) }()
	t.Cleanup(func() { p.server.Close() })
	return p
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	_, _ = w.Write(body)
}

// ask sends one request and returns the answer's body.
func ask(ctx context.Context, transport http.RoundTripper, body io.Reader) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://parent/", body)
	if err != nil {
		return "", err
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return string(text), err
}

// One connection serves one request after the other.
func TestConnectionToTheParentIsUsedAgain(t *testing.T) {
	p := startCountedParent(t, filepath.Join(shortDir(t), "a.sock"), echo)
	transport := &parentTransport{socket: p.path}
	for range 5 {
		if got, err := ask(t.Context(), transport, strings.NewReader("body")); got != "body" || err != nil {
			t.Fatal(got, err)
		}
	}
	if got := p.opened.Load(); got != 1 {
		t.Errorf("%d connections", got)
	}
}

// A parent that was replaced is asked on a new connection, and no request is lost.
func TestConnectionOfAFormerParentIsNotUsed(t *testing.T) {
	path := filepath.Join(shortDir(t), "a.sock")
	former := startCountedParent(t, path, echo)
	transport := &parentTransport{socket: path}
	if _, err := ask(t.Context(), transport, strings.NewReader("1")); err != nil {
		t.Fatal(err)
	}
	former.server.Close()
	startCountedParent(t, path, echo)
	if got, err := ask(t.Context(), transport, strings.NewReader("2")); got != "2" || err != nil {
		t.Error(got, err)
	}
}

// A parent that refuses a body before it has read it is heard all the same.
func TestEarlyAnswerIsHeard(t *testing.T) {
	p := startCountedParent(t, filepath.Join(shortDir(t), "a.sock"), func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusForbidden)
	})
	req, _ := http.NewRequest(http.MethodPost, "http://parent/", strings.NewReader(strings.Repeat("x", 8<<20)))
	res, err := (&parentTransport{socket: p.path}).RoundTrip(req)
	if err != nil || res.StatusCode != http.StatusForbidden {
		t.Fatal(res, err)
	}
	res.Body.Close()
}

// A parent that says nothing costs no more than the request's own time, and its connection is not used again.
func TestSilentParentEndsWithTheRequest(t *testing.T) {
	silent := make(chan struct{})
	p := startCountedParent(t, filepath.Join(shortDir(t), "a.sock"), func(http.ResponseWriter, *http.Request) { <-silent })
	defer close(silent)
	transport := &parentTransport{socket: p.path}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := ask(ctx, transport, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if len(transport.idle) != 0 {
		t.Error("it is kept")
	}
}

// Nobody there is told at once, whether there is a body or not.
func TestAbsentParentIsTold(t *testing.T) {
	transport := &parentTransport{socket: filepath.Join(shortDir(t), "nobody.sock")}
	for _, body := range []io.Reader{nil, strings.NewReader("x")} {
		if _, err := ask(t.Context(), transport, body); err == nil {
			t.Error("no error")
		}
	}
}

// No more connections are kept than the next burst needs.
func TestKeptConnectionsAreBounded(t *testing.T) {
	transport := &parentTransport{}
	for range maxIdleToParent + 3 {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		transport.keep(&parentConn{Conn: ours})
	}
	if got := len(transport.idle); got != maxIdleToParent {
		t.Error(got)
	}
}
