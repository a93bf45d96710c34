package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

const (
	// maxIdleToParent is how many connections are kept for the next requests.
	maxIdleToParent = 64
	parentBuffer    = 16 << 10
)

// parentTransport brings requests to the parent's Unix socket, each on the
// goroutine that it came with: net/http's own transport hands it to two others
// and back, which costs a tenth of all CPU time here.
type parentTransport struct {
	socket string
	dialer net.Dialer

	mu   sync.Mutex
	idle []*parentConn // the one used last is at the end
}

// parentConn is one connection to the parent.
type parentConn struct {
	net.Conn
	in       *bufio.Reader
	out      *bufio.Writer
	unwanted bool // it takes no more of what we write
	idleAt   time.Time
}

// Write passes on and notes whether the parent still takes it.
func (c *parentConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.unwanted = c.unwanted || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
	return n, err
}

// RoundTrip sends one request and returns its answer, whose body must be read to
// its end or closed.
func (t *parentTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	c, err := t.take(ctx)
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	res, err := c.exchange(req)
	if err != nil {
		stop()
		c.Close()
		return nil, errors.Join(err, ctx.Err())
	}
	res.Body = &parentBody{ReadCloser: res.Body, t: t, c: c, stop: stop, reusable: !res.Close}
	return res, nil
}

// exchange writes the request and reads the head of its answer. A parent that
// refuses a body answers before it has read it, and may close then.
func (c *parentConn) exchange(req *http.Request) (*http.Response, error) {
	err := req.Write(c.out)
	if err == nil {
		err = c.out.Flush()
	}
	if err != nil && !c.unwanted {
		return nil, err
	}
	res, readErr := http.ReadResponse(c.in, req)
	if readErr != nil {
		return nil, errors.Join(err, readErr)
	}
	res.Close = res.Close || c.unwanted
	return res, nil
}

// take returns a connection that the parent still has open.
func (t *parentTransport) take(ctx context.Context) (*parentConn, error) {
	for c := t.pop(); c != nil; c = t.pop() {
		if time.Since(c.idleAt) < idleToParent && c.alive() {
			return c, nil
		}
		c.Close()
	}
	conn, err := t.dialer.DialContext(ctx, "unix", t.socket)
	if err != nil {
		return nil, err
	}
	c := &parentConn{Conn: conn, in: bufio.NewReader(conn)}
	c.out = bufio.NewWriterSize(c, parentBuffer)
	return c, nil
}

func (t *parentTransport) pop() *parentConn {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := len(t.idle) - 1
	if last < 0 {
		return nil
	}
	c := t.idle[last]
	t.idle = t.idle[:last]
	return c
}

func (t *parentTransport) keep(c *parentConn) {
	c.idleAt = time.Now()
	t.mu.Lock()
	full := len(t.idle) >= maxIdleToParent
	if !full {
		t.idle = append(t.idle, c)
	}
	t.mu.Unlock()
	if full {
		c.Close()
	}
}

// alive reports whether there is neither an end nor a word that nobody asked for.
func (c *parentConn) alive() bool {
	raw, err := c.Conn.(syscall.Conn).SyscallConn()
	if err != nil || c.in.Buffered() > 0 {
		return false
	}
	silent := false
	err = raw.Read(func(fd uintptr) bool {
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		silent = errors.Is(err, syscall.EAGAIN)
		return true
	})
	return err == nil && silent
}

// parentBody gives its connection back at the end of the answer.
type parentBody struct {
	io.ReadCloser
	t        *parentTransport
	c        *parentConn
	stop     func() bool
	reusable bool
	ended    bool
	once     sync.Once
}

// Read reads on and notes the end.
func (b *parentBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.ended = errors.Is(err, io.EOF)
		b.finish()
	}
	return n, err
}

// Close ends an answer that was not read to its end, and its connection.
func (b *parentBody) Close() error {
	b.finish()
	return nil
}

func (b *parentBody) finish() {
	b.once.Do(func() {
		// A deadline that was set by the end of the context would hit the next request.
		if b.stop() && b.ended && b.reusable {
			b.t.keep(b.c)
			return
		}
		b.c.Close()
	})
}
