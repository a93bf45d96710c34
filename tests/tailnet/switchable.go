package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
)

// switchable is an HTTP server that can go away, with every open connection
// (hijacked ones too), and come back on the same port: an outage.
type switchable struct {
	addr    string
	tls     *tls.Config // nil: plain HTTP
	handler http.Handler

	mu   sync.Mutex
	ln   net.Listener // nil: down
	open map[net.Conn]struct{}
}

// listenSwitchable takes a port and queues connections until serve is called, so
// that the handler can be made with the address in hand.
func listenSwitchable(config *tls.Config) (*switchable, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return &switchable{addr: ln.Addr().String(), tls: config, ln: ln, open: map[net.Conn]struct{}{}}, nil
}

// serve begins to answer with h.
func (s *switchable) serve(h http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handler = h
	s.serveLocked()
}

func (s *switchable) serveLocked() {
	var ln net.Listener = tracking{s.ln, s}
	if s.tls != nil {
		ln = tls.NewListener(ln, s.tls)
	}
	server := &http.Server{Handler: s.handler, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = server.Serve(ln) }() // ends, always with an error, when the listener is closed
}

// up listens again on the same port; it does nothing when the server is up.
func (s *switchable) up() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ln != nil {
		return nil
	}
	ln, err := net.Listen("tcp", s.addr)
	if err != nil {
		return fmt.Errorf("listen again on %s: %w", s.addr, err)
	}
	s.ln = ln
	s.serveLocked()
	return nil
}

// down stops listening and cuts every connection.
func (s *switchable) down() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ln == nil {
		return nil
	}
	err := s.ln.Close()
	for c := range s.open {
		_ = c.Close() // cut on purpose
	}
	clear(s.open)
	s.ln = nil
	return err
}

func (s *switchable) close() error { return s.down() }

// tracking is a listener that tells its switchable about each connection.
type tracking struct {
	net.Listener
	owner *switchable
}

// Accept returns a connection that down will cut.
func (t tracking) Accept() (net.Conn, error) {
	c, err := t.Listener.Accept()
	if err != nil {
		return nil, err
	}
	t.owner.mu.Lock()
	defer t.owner.mu.Unlock()
	if t.owner.ln != t.Listener { // went down while this one waited in the queue
		_ = c.Close()
		return nil, net.ErrClosed
	}
	t.owner.open[c] = struct{}{}
	return tracked{c, t.owner}, nil
}

// tracked forgets itself when it is closed.
type tracked struct {
	net.Conn
	owner *switchable
}

// Close closes the connection.
func (t tracked) Close() error {
	t.owner.mu.Lock()
	delete(t.owner.open, t.Conn)
	t.owner.mu.Unlock()
	return t.Conn.Close()
}
