package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tailscale.com/ipn"
)

const (
	// lingerTime and lingerBytes are what a caller that is refused gets for what it
	// is still sending: a connection closed over it would lose our answer.
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 256 << 10
)

// publicListener hands out the connections that are worth an answer. It never
// holds an accept back: tsnet drops what waits for a second.
type publicListener struct {
	net.Listener
	e *edge
}

// Accept returns the next connection that is worth an answer.
func (l publicListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if taken := l.e.admit(c, time.Now()); taken != nil {
			return taken, nil
		}
		c.Close()
	}
}

// Close does nothing: endSession closes the listener, in its order and bounded.
// The server would wait for it while holding a lock.
func (l publicListener) Close() error { return nil }

// admit counts a connection for its caller, or says no.
func (e *edge) admit(c net.Conn, now time.Time) *publicConn {
	if e.open.Load() >= answeredOver*int64(e.cfg.Limits.MaxConnections) {
		e.turnAway(unreadCap, now)
		return nil
	}
	addr, tailnet := trueAddress(c)
	from, over, why := e.sources.enter(sourceKey(addr, tailnet), now)
	if from == nil {
		e.turnAway(why, now)
		return nil
	}
	e.accepted.Add(1)
	full := e.open.Add(1) > int64(e.cfg.Limits.MaxConnections)
	return &publicConn{
		Conn: c, e: e, from: from, addr: addr, tailnet: tailnet, over: over || full,
		gate: gate{maxHeader: e.cfg.Limits.MaxHeader},
	}
}

func (e *edge) turnAway(why unread, now time.Time) {
	e.unread[why].Add(1)
	e.turnedAwayAt.Store(now.UnixNano())
}

// turnedAway reports whether a connection was closed unread since then. Who does
// not get in meanwhile has learnt nothing about the public path.
func (e *edge) turnedAway(since time.Time) bool { return e.turnedAwayAt.Load() >= since.UnixNano() }

// trueAddress is where the caller is. A Funnel connection's RemoteAddr is the
// relay's; another connection comes from inside the tailnet.
func trueAddress(c net.Conn) (addr netip.Addr, tailnet bool) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if f, ok := c.(*ipn.FunnelConn); ok {
		return f.Src.Addr().Unmap(), false
	}
	remote, _ := netip.ParseAddrPort(c.RemoteAddr().String()) // none: all of them share a limit
	return remote.Addr().Unmap(), true
}

// publicConn is one connection of a caller. It makes the handshake itself, on
// the server's goroutine, to know how it failed; it lets only well-formed
// messages through to net/http, and counts how the connection ended.
type publicConn struct {
	net.Conn
	e       *edge
	from    *source
	addr    netip.Addr
	tailnet bool
	over    bool // over a limit: answer 503

	// Of the one goroutine that reads.
	shaken bool
	gate   gate
	held   []byte     // read, and part of the next message
	bad    *rejection // to be answered at the next read
	end    error      // of all reading

	idle     atomic.Bool // between two requests
	answered atomic.Bool // the present request came to the handler, or was refused
	stuck    atomic.Bool // a write did not end in time
	closed   atomic.Bool

	asking sync.Once
	who    tailnetCaller
	whoErr error
}

// Read hands out the bytes of the present message, after the handshake.
func (c *publicConn) Read(p []byte) (int, error) {
	if !c.shaken {
		c.shaken = true
		if !c.handshake() {
			c.end = io.EOF // the server says nothing to that
		}
	}
	switch {
	case c.end != nil:
		return 0, c.end
	case c.bad != nil:
		return 0, c.refuse()
	case len(c.held) > 0:
		n, err := c.pass(p[:copy(p, c.held)])
		c.held = c.held[n:]
		return n, err
	}
	n, err := c.Conn.Read(p)
	if n == 0 {
		if isTimeout(err) {
			c.timedOut(err)
		}
		return 0, err
	}
	// An error that came with bytes comes again.
	passed, err := c.pass(p[:n])
	if passed < n {
		c.held = bytes.Clone(p[passed:n])
	}
	return passed, err
}

// pass lets bytes through to the end of the present message.
func (c *publicConn) pass(p []byte) (n int, err error) {
	if n, c.bad = c.gate.pass(p); c.bad != nil && n == 0 {
		err = c.refuse()
	}
	return n, err
}

// handshake reports whether there is something to read after it. It has the time
// of a header, and shares it with the first one: the server has set that
// deadline for reading.
func (c *publicConn) handshake() (ok bool) {
	t, isTLS := c.Conn.(*tls.Conn)
	if !isTLS {
		return true
	}
	_ = t.SetWriteDeadline(time.Now().Add(c.e.cfg.Limits.ReadHeaderTimeout)) // what fails here fails below
	if err := t.Handshake(); err != nil {
		why := handshakeFault(err)
		c.e.handshakes[why].Add(1)
		c.e.say("edge.handshake_failed", "reason", why.String(), "error", err.Error(), "client", c.addr.String())
		c.from.take(time.Now())
		return false
	}
	_ = t.SetWriteDeadline(time.Time{})
	return t.ConnectionState().NegotiatedProtocol != acmeALPN // a validation is over with its handshake
}

// handshakeFault sorts what crypto/tls says, which has types for a part of it only.
func handshakeFault(err error) handshakeReason {
	if _, isRecord := errors.AsType[tls.RecordHeaderError](err); isRecord {
		return handshakeNoTLS
	}
	failed, isNet := errors.AsType[*net.OpError](err)
	timeout, hasTimeout := errors.AsType[net.Error](err)
	switch {
	case hasTimeout && timeout.Timeout():
		return handshakeTimeout
	case strings.Contains(err.Error(), "no certificates configured"):
		return handshakeUnknownName // what our tls.Config says to another name
	case strings.Contains(err.Error(), "unsupported versions"):
		return handshakeVersion
	case isNet && failed.Op == "remote error":
		return handshakeRefused
	case isNet, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return handshakeHungUp
	}
	return handshakeOther
}

// refuse answers a message that is not well-formed, and ends all reading with
// an error of a kind to which net/http has nothing to add.
func (c *publicConn) refuse() error {
	c.answered.Store(true)
	c.e.requests[outcomeMalformed].Add(1)
	c.from.take(time.Now())
	c.e.say("edge.refused", "status", c.bad.code, "reason", c.bad.why, "client", c.addr.String())
	_ = c.SetDeadline(time.Now().Add(lingerTime)) // a failure shows in the next line
	if _, err := c.Conn.Write(c.bad.answer()); err == nil && c.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes) // to the end, whichever it is
	}
	c.end = &net.OpError{Op: "read", Err: errors.New(c.bad.why)}
	return c.end
}

// Write passes an answer on. One to a request that never came to the handler is
// of net/http itself, which found something wrong with it.
func (c *publicConn) Write(p []byte) (int, error) {
	if c.answered.CompareAndSwap(false, true) {
		c.e.requests[outcomeMalformed].Add(1)
		c.from.take(time.Now())
	}
	n, err := c.Conn.Write(p)
	if isTimeout(err) && c.stuck.CompareAndSwap(false, true) {
		c.e.timeouts[timeoutWrite].Add(1)
	}
	return n, err
}

// timedOut counts a read that did not end in time: of a header, or between two
// requests. It is the last one, though net/http may ask again. Another timeout
// is of a body, which has its outcome, or of a read ahead that was broken off.
func (c *publicConn) timedOut(err error) {
	switch {
	case c.gate.begun() || c.gate.heads == 0:
		c.e.timeouts[timeoutHeader].Add(1)
	case c.idle.Load():
		c.e.timeouts[timeoutIdle].Add(1)
	default:
		return
	}
	c.end = err
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// CloseWrite tells the caller that nothing more comes.
func (c *publicConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close ends the connection and gives its place free.
func (c *publicConn) Close() error {
	if c.closed.CompareAndSwap(false, true) {
		c.e.open.Add(-1)
		c.e.sources.leave(c.from, time.Now())
	}
	return c.Conn.Close()
}

// connChanged follows a connection from request to request.
func (e *edge) connChanged(nc net.Conn, state http.ConnState) {
	c, ok := nc.(*publicConn)
	if !ok {
		return
	}
	c.idle.Store(state == http.StateIdle)
	if state == http.StateIdle {
		c.answered.Store(false)
	}
}

type connKey struct{}

// withConn lets the handler find the connection of a request.
func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

func connOf(ctx context.Context) *publicConn {
	c, _ := ctx.Value(connKey{}).(*publicConn)
	return c
}
