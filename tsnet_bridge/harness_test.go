package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tailscale.com/ipn"
)

// hostile is the whole edge between a caller that has all it says written down
// and a parent that is stricter than any.
type hostile struct {
	*edge
	parent  *strictParent
	callers chan net.Conn
	tries   int
	taken   int

	mu       sync.Mutex
	panicked string
}

func openHostile(t testing.TB) *hostile {
	cfg := smallConfig(t)
	cfg.Limits.MaxConnections, cfg.Limits.SourceConnections, cfg.Limits.SourceRate = 100_000, 100_000, 1e6
	cfg.Limits.ReadHeaderTimeout = 100 * time.Millisecond
	cfg.Limits.ReadTimeout, cfg.Limits.WriteTimeout, cfg.Limits.IdleTimeout = time.Minute, time.Minute, time.Minute
	h := &hostile{parent: &strictParent{}, callers: make(chan net.Conn)}
	h.edge = newEdge(cfg, slog.New(panicHandler{slog.DiscardHandler, h}))
	name := ownName
	h.ownName.Store(&name)
	h.parent.listen(t, cfg.AppSocket)
	go h.serve(h)
	t.Cleanup(func() { close(h.callers); h.server.Close() })
	return h
}

// Accept hands out the next caller.
func (h *hostile) Accept() (net.Conn, error) {
	if c, ok := <-h.callers; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

// Close does nothing.
func (h *hostile) Close() error { return nil }

// Addr is of no network.
func (h *hostile) Addr() net.Addr { return &net.TCPAddr{} }

// panicHandler keeps what the edge says about a panic of its own.
type panicHandler struct {
	slog.Handler
	h *hostile
}

// Enabled lets errors pass.
func (panicHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelError
}

// Handle keeps a panic.
func (p panicHandler) Handle(_ context.Context, r slog.Record) error {
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	r.Attrs(func(a slog.Attr) bool {
		p.h.panicked += r.Message + ": " + a.Value.String()
		return true
	})
	return nil
}

// try sends a stream and holds what came of it against what may come.
func (h *hostile) try(t testing.TB, stream []byte, piece int) {
	answered := h.send(t, stream, piece)
	got, wrong := h.parent.take()
	h.taken += len(got)
	sent := deliveriesIn(stream)
	for i, r := range got {
		if i >= len(sent) || r.body != sent[i] {
			wrong = append(wrong, "a body that nobody sent so")
		}
		wrong = append(wrong, r.judge()...)
	}
	if accepted := bytes.Count(answered, []byte("HTTP/1.1 202 Accepted\r\n")); accepted != len(got) {
		wrong = append(wrong, fmt.Sprintf("%d times 202 for %d deliveries", accepted, len(got)))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if wrong = append(wrong, h.panicked); strings.Join(wrong, "") != "" {
		t.Errorf("%q\nanswer %q\nat the parent %+v", wrong, answered, got)
	}
	// A good delivery now and then: the edge must stay usable.
	if h.tries++; h.tries%64 == 0 {
		answered := h.send(t, []byte(good), 0)
		if got, _ := h.parent.take(); len(got) != 1 || !bytes.HasPrefix(answered, []byte("HTTP/1.1 202 ")) {
			t.Errorf("a good delivery gets %q after %q", answered, stream)
		}
	}
}

// send is one connection: all that it was answered.
func (h *hostile) send(t testing.TB, stream []byte, piece int) []byte {
	c := &scriptedCaller{say: stream, piece: piece, over: make(chan struct{})}
	c.wake.L = &c.mu
	h.callers <- &ipn.FunnelConn{Conn: c, Src: netip.MustParseAddrPort("203.0.113.7:5555")}
	select {
	case <-c.over:
	case <-time.After(time.Minute):
		t.Fatalf("the connection stays open after %q", stream)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.heard)
}

// scriptedCaller is a connection that says its bytes and then hangs up, but not
// while the server reads ahead, one byte at a time, during a request.
type scriptedCaller struct {
	mu       sync.Mutex
	wake     sync.Cond
	say      []byte
	piece    int // bytes in one read; 0: as many as there are
	heard    []byte
	deadline time.Time
	closed   bool
	over     chan struct{} // the last answer was given
	isOver   bool
}

// Read hands out the next piece.
func (c *scriptedCaller) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		late := !c.deadline.IsZero() && !time.Now().Before(c.deadline)
		switch {
		case c.closed:
			return 0, net.ErrClosed
		case late:
			return 0, os.ErrDeadlineExceeded
		case len(c.say) > 0:
			if c.piece > 0 {
				p = p[:min(len(p), c.piece)]
			}
			n := copy(p, c.say)
			c.say = c.say[n:]
			return n, nil
		case len(p) > 1:
			return 0, io.EOF
		}
		if !c.deadline.IsZero() {
			time.AfterFunc(time.Until(c.deadline), c.wake.Broadcast)
		}
		c.wake.Wait()
	}
}

// Write hears an answer.
func (c *scriptedCaller) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard = append(c.heard, p...)
	if bytes.Contains(p, []byte("Connection: close\r\n")) {
		c.end() // the server may keep an unread body for half a second
	}
	return len(p), nil
}

func (c *scriptedCaller) end() {
	if !c.isOver {
		c.isOver = true
		close(c.over)
	}
}

// Close hangs up.
func (c *scriptedCaller) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.end()
	c.wake.Broadcast()
	return nil
}

// SetReadDeadline bounds a read.
func (c *scriptedCaller) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	c.wake.Broadcast()
	return nil
}

// SetDeadline bounds a read; writes never wait.
func (c *scriptedCaller) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetWriteDeadline does nothing.
func (c *scriptedCaller) SetWriteDeadline(time.Time) error { return nil }

// LocalAddr is of no network.
func (c *scriptedCaller) LocalAddr() net.Addr { return &net.TCPAddr{} }

// RemoteAddr is of no network.
func (c *scriptedCaller) RemoteAddr() net.Addr { return &net.TCPAddr{} }

// strictParent reads requests with a reader of its own, which knows one form only.
type strictParent struct {
	mu    sync.Mutex
	got   []delivered
	wrong []string
}

// delivered is one request as it came.
type delivered struct {
	line   string
	header []string
	body   string
}

func (p *strictParent) listen(t testing.TB, path string) {
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go p.serve(conn)
		}
	}()
}

func (p *strictParent) serve(conn net.Conn) {
	defer conn.Close()
	reader := bufio.NewReaderSize(conn, 1<<16)
	for {
		r, whole, err := readDelivered(reader)
		p.mu.Lock()
		if err != nil {
			p.wrong = append(p.wrong, err.Error())
		} else if whole {
			p.got = append(p.got, r)
		}
		p.mu.Unlock()
		if err != nil || !whole {
			return
		}
		if _, err := io.WriteString(conn, "HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok"); err != nil {
			return
		}
	}
}

// take returns what came since the last time.
func (p *strictParent) take() ([]delivered, []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	got, wrong := p.got, p.wrong
	p.got, p.wrong = nil, nil
	return got, wrong
}

// readDelivered reads one request; it is not whole when the edge gave it up.
func readDelivered(reader *bufio.Reader) (r delivered, whole bool, err error) {
	length := -1
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			if r.line != "" || line != "" {
				return r, false, errors.New("a head without an end")
			}
			return r, false, nil
		}
		text, ok := strings.CutSuffix(line, "\r\n")
		if !ok || strings.ContainsAny(text, "\r\n\x00") {
			return r, false, fmt.Errorf("line %q", line)
		}
		if text == "" {
			break
		}
		if r.line == "" {
			r.line = text
			continue
		}
		r.header = append(r.header, text)
		if value, is := strings.CutPrefix(text, "Content-Length: "); is {
			if length >= 0 {
				return r, false, errors.New("two lengths")
			}
			if length, err = strconv.Atoi(value); err != nil {
				return r, false, err
			}
		}
	}
	if length < 0 {
		return r, false, fmt.Errorf("no length: %q", r)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(reader, body); err != nil {
		return r, false, nil
	}
	r.body = string(body)
	return r, true, nil
}

// A delivery as RFC 9112 writes it, told by other means than the gate's.
var (
	oneHead   = regexp.MustCompile("^POST /webhooks/github(?:\\?[!-\"$-~]*)? HTTP/1\\.1\r\n(?:[-!#$%&'*+.^_`|~0-9A-Za-z]+:[^\\x00-\\x08\\x0a-\\x1f\\x7f]*\r\n)+\r\n")
	oneLength = regexp.MustCompile(`(?mi)^content-length:[ \t]*([0-9]{1,18})[ \t]*\r$`)
	oneName   = regexp.MustCompile(`(?mi)^host:`)
	framing   = regexp.MustCompile(`(?mi)^(?:content-length|transfer-encoding):`)
)

// deliveriesIn are the bodies of the deliveries with which a stream begins.
func deliveriesIn(stream []byte) (bodies []string) {
	for {
		head := oneHead.Find(stream)
		length := oneLength.FindSubmatch(head)
		if length == nil || len(framing.FindAll(head, -1)) != 1 || len(oneName.FindAll(head, -1)) != 1 {
			return bodies
		}
		n, err := strconv.Atoi(string(length[1]))
		if stream = stream[len(head):]; err != nil || n > len(stream) {
			return bodies
		}
		bodies = append(bodies, string(stream[:n]))
		stream = stream[n:]
	}
}

// judge says what is wrong with a request.
func (r delivered) judge() (wrong []string) {
	target, isPost := strings.CutPrefix(r.line, "POST ")
	target, is11 := strings.CutSuffix(target, " HTTP/1.1")
	path, query, _ := strings.Cut(target, "?")
	if !isPost || !is11 || path != "/webhooks/github" || strings.ContainsFunc(query, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '#' }) {
		wrong = append(wrong, r.line)
	}
	ours := map[string]string{"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "", "Host": ""}
	seen := map[string]bool{}
	for _, line := range r.header {
		name, value, ok := strings.Cut(line, ": ")
		want, isOurs := ours[name]
		plain := strings.ReplaceAll(strings.ToLower(name), "_", "-")
		switch {
		case !ok && !strings.HasSuffix(line, ":"), strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }):
			wrong = append(wrong, line)
		case isOurs:
			if seen[name] || want != "" && value != want || want == "" && !strings.HasPrefix(strings.ToLower(value), ownName) {
				wrong = append(wrong, line)
			}
			seen[name] = true
		case strings.HasPrefix(plain, "x-forwarded-"), strings.HasPrefix(plain, "tailscale-"), strings.HasPrefix(plain, "x-tailscale-"),
			slices.Contains([]string{"forwarded", "x-real-ip", "upgrade", "expect", "connection", "transfer-encoding", "trailer", "host"}, plain):
			wrong = append(wrong, line)
		}
	}
	if len(seen) != len(ours) {
		wrong = append(wrong, "a header of ours is missing")
	}
	return wrong
}
