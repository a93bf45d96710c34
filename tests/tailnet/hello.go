package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// errSeen ends a handshake when all that we want of it is there.
var errSeen = errors.New("the hello was read")

// readHello reads a TLS ClientHello and returns the server name in it and all bytes
// read, which are to be sent on: the TLS of a Funnel connection ends at the node.
func readHello(r io.Reader) (name string, seen []byte, err error) {
	var copied bytes.Buffer
	seenHello := false
	config := &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		name, seenHello = hello.ServerName, true
		return nil, errSeen
	}}
	err = tls.Server(readOnly{io.TeeReader(r, &copied)}, config).Handshake()
	switch {
	case !seenHello:
		return "", nil, fmt.Errorf("no TLS hello from the client: %w", err)
	case name == "":
		return "", nil, errors.New("the client's TLS hello names no server")
	}
	return name, copied.Bytes(), nil
}

// readOnly makes a reader look like a connection that swallows what is written, which
// here is the alert that ends the handshake.
type readOnly struct{ io.Reader }

// Write swallows p.
func (readOnly) Write(p []byte) (int, error) { return len(p), nil }

// Close does nothing.
func (readOnly) Close() error { return nil }

// LocalAddr returns nil.
func (readOnly) LocalAddr() net.Addr { return nil }

// RemoteAddr returns nil.
func (readOnly) RemoteAddr() net.Addr { return nil }

// SetDeadline does nothing.
func (readOnly) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (readOnly) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (readOnly) SetWriteDeadline(time.Time) error { return nil }
