package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// client is a caller on the internet: it knows the relay's address, the public
// name and the public CA. It speaks HTTP/1.1 by hand, because it shares two
// cores with what it measures.
type client struct {
	relay   string
	host    string
	caFile  string
	path    string
	body    int
	resume  bool // TLS sessions, as one caller that comes back does
	timeout time.Duration

	tls     *tls.Config
	request []byte
}

// flags declares what both kinds of caller need to know.
func (c *client) flags(f *flag.FlagSet) {
	f.StringVar(&c.relay, "relay", "", "address of the public relay")
	f.StringVar(&c.host, "host", "", "public name of the node, which is the server name too")
	f.StringVar(&c.caFile, "ca", "", "file with the public CA")
	f.StringVar(&c.path, "path", "/webhooks/github", "path to POST to")
	f.IntVar(&c.body, "body", 10_000, "bytes of the body")
	f.BoolVar(&c.resume, "resume", false, "resume TLS sessions")
	f.DurationVar(&c.timeout, "timeout", 10*time.Second, "for one request, its connection included; GitHub's is 10s")
}

// prepare makes all that is the same for every request.
func (c *client) prepare() error {
	pem, err := os.ReadFile(c.caFile)
	if err != nil {
		return fmt.Errorf("read the public CA: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s: expected a certificate", c.caFile)
	}
	c.tls = &tls.Config{RootCAs: roots, ServerName: c.host, NextProtos: []string{"http/1.1"}}
	if c.resume {
		c.tls.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: GitHub-Hookshot/bench\r\nAccept: */*\r\n", c.path, c.host)
	fmt.Fprintf(&b, "Content-Type: application/json\r\nX-GitHub-Event: repository\r\nX-GitHub-Delivery: 72d3162e-cc78-11e3-81ab-4c9367dc0958\r\n")
	fmt.Fprintf(&b, "X-Hub-Signature-256: sha256=%064d\r\nContent-Length: %d\r\n\r\n", 0, c.body)
	b.Write(bytes.Repeat([]byte("x"), c.body))
	c.request = b.Bytes()
	return nil
}

// conn is one TLS connection to the node, with what was read ahead.
type conn struct {
	*tls.Conn
	reader *bufio.Reader
}

// dial connects and verifies the node. The end of ctx breaks the connection.
func (c *client) dial(ctx context.Context) (*conn, error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", c.relay)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(raw, c.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	return &conn{secure, bufio.NewReader(secure)}, nil
}

// post sends the request and reads the answer; only 202 is success.
func (c *client) post(on *conn) error {
	if _, err := on.Write(c.request); err != nil {
		return err
	}
	answer, err := http.ReadResponse(on.reader, nil)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusAccepted {
		return errors.New(answer.Status)
	}
	return nil
}

// once is a whole request on a connection of its own.
func (c *client) once(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	on, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer breakAtEnd(ctx, on)()
	return c.post(on)
}

// breakAtEnd closes the connection when ctx ends; the function that it returns
// closes it now.
func breakAtEnd(ctx context.Context, on *conn) func() {
	stop := context.AfterFunc(ctx, func() { _ = on.NetConn().Close() })
	return func() {
		stop()
		_ = on.NetConn().Close()
	}
}
