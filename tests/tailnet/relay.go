package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"tailscale.com/tsnet"
)

const (
	helloTimeout   = 10 * time.Second
	locateTimeout  = 2 * time.Second // from the first sign of a node to its peerAPI port
	firstDial      = 3 * time.Second
	secondDial     = 10 * time.Second // a new WireGuard handshake with a restarted node takes 5
	ingressTimeout = 15 * time.Second
	lingerTimeout  = 30 * time.Second       // for the client to close when the node has
	acceptPause    = 100 * time.Millisecond // after an error that passes
)

// relay is the public side of Funnel: a TCP port of 127.0.0.1 that stands for port 443
// of every name of the tailnet, and the ingress node that brings what arrives there to
// the node of that name.
//
//	client ──TLS──► relay: reads the name in the hello
//	                  ├─WireGuard─► node's peerAPI: POST /v0/ingress
//	                  ◄─────────── 101
//	                  └─ the hello and all that follows, both ways, unread
type relay struct {
	node    *tsnet.Server
	control *control
	faults  *faultBox
	journal *journal
	ctx     context.Context // ends with close
	stop    context.CancelFunc

	mu     sync.Mutex
	public net.Listener
	fault  string // see relayFaults; what a new connection meets
	open   map[net.Conn]struct{}
}

// startRelay enrols the ingress node and begins to accept.
func startRelay(ctx context.Context, dir string, public net.Listener, c *control, f *faultBox, j *journal) (*relay, error) {
	node := newOwnNode(ingressLabel, dir, c.ownURL)
	upCtx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	status, err := node.Up(upCtx)
	if err != nil {
		return nil, errorsAfter(fmt.Errorf("enrol the ingress node: %w", err), closeInTime(node))
	}
	c.setIngress(status.Self.PublicKey, status.TailscaleIPs)
	r := &relay{node: node, control: c, faults: f, journal: j, public: public, open: map[net.Conn]struct{}{}}
	r.ctx, r.stop = context.WithCancel(context.Background())
	go r.accept(public)
	return r, nil
}

// follow makes the public port fail as the fault says. Each change ends the connections
// that are open: a client that keeps one would not meet the fault.
func (r *relay) follow() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.fault
	r.fault = r.faults.get().relay
	if r.fault == before {
		return nil
	}
	for c := range r.open {
		_ = c.Close() // cut on purpose
	}
	switch {
	case r.fault == relayDown:
		return r.public.Close()
	case before == relayDown:
		return r.listenAgain()
	}
	return nil
}

// listenAgain opens the port that the public knows; r.mu is held.
func (r *relay) listenAgain() error {
	public, err := net.Listen("tcp", r.public.Addr().String())
	if err != nil {
		return fmt.Errorf("listen again for the public: %w", err)
	}
	r.public = public
	go r.accept(public)
	return nil
}

// accept ends when the port is closed. Any other error, such as too many open files, is
// one that passes.
func (r *relay) accept(public net.Listener) {
	for {
		client, err := public.Accept()
		switch {
		case err == nil:
			go r.serve(client)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			r.journal.add(relayLog, "accept: %v", err)
			pause(r.ctx, acceptPause)
		}
	}
}

func (r *relay) serve(client net.Conn) {
	fault := r.track(client)
	defer r.forget(client)
	if err := r.meet(client, fault); err != nil && r.ctx.Err() == nil {
		r.journal.add(relayLog, "%s: %v", client.RemoteAddr(), err)
	}
}

// meet forwards a client, or does to it what the fault says.
func (r *relay) meet(client net.Conn, fault string) error {
	switch fault {
	case relayDown:
		return errors.New("fault: down") // it was accepted a moment before
	case relayReset:
		_ = client.(*net.TCPConn).SetLinger(0) // the close that follows is then a reset
		return errors.New("fault: reset")
	case relayStall:
		r.journal.add(relayLog, "%s: fault: stall", client.RemoteAddr()) // now, not at its end
		_, _ = io.Copy(io.Discard, client)                               // until the client gives up
		return nil
	}
	return r.forward(r.ctx, client, fault == relayCut)
}

// forward brings one connection to its node and returns when both sides are done, or, to
// cut it, when the node has the hello.
func (r *relay) forward(ctx context.Context, client net.Conn, cut bool) error {
	if err := client.SetReadDeadline(time.Now().Add(helloTimeout)); err != nil {
		return err
	}
	name, hello, err := readHello(client)
	if err != nil {
		return err
	}
	if err := client.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	label, err := r.control.labelOf(name)
	if err != nil {
		return err
	}
	peerAPI, err := r.locate(ctx, label)
	if err != nil {
		return err
	}
	node, err := r.dial(ctx, peerAPI)
	if err != nil {
		return fmt.Errorf("dial %s at %s: %w", label, peerAPI, err)
	}
	r.track(node)
	defer r.forget(node)
	fromNode, err := enter(node, peerAPI, name, r.source(client))
	if err != nil {
		return fmt.Errorf("ingress of %s: %w", label, err)
	}
	if cut {
		_, err := node.Write(hello)
		return errors.Join(errors.New("fault: cut"), err)
	}
	return splice(client, io.MultiReader(bytes.NewReader(hello), client), node, fromNode)
}

// locate waits a moment for a node that is enrolling: its port reaches control a few
// milliseconds after the node says that it is up.
func (r *relay) locate(ctx context.Context, label string) (netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(ctx, locateTimeout)
	defer cancel()
	for {
		changes := r.control.changes()
		addr, err := r.control.peerAPI(label)
		if !errors.Is(err, errNoPeerAPI) {
			return addr, err
		}
		select {
		case <-ctx.Done():
			return addr, err
		case <-changes:
		}
	}
}

// dial tries twice. About one dial in 4000 stalls, because the local port that the
// relay chose is in TIME_WAIT at the node; another try takes another port.
func (r *relay) dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	var errs []error
	for _, timeout := range []time.Duration{firstDial, secondDial} {
		tryCtx, cancel := context.WithTimeout(ctx, timeout)
		conn, err := dialTailnet(tryCtx, r.node, addr)
		cancel()
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// source is the address that the node is told: the public client's, with a port of its
// own for each connection.
func (r *relay) source(client net.Conn) netip.AddrPort {
	port := client.RemoteAddr().(*net.TCPAddr).AddrPort().Port()
	return netip.AddrPortFrom(r.faults.get().clientAddress, port)
}

// enter asks the node to take the connection and waits for its yes. Bytes that came
// with the answer are in the reader that it returns.
func enter(node net.Conn, peerAPI netip.AddrPort, name string, source netip.AddrPort) (io.Reader, error) {
	if err := node.SetDeadline(time.Now().Add(ingressTimeout)); err != nil {
		return nil, err
	}
	if err := ingressRequest(peerAPI, name+":443", source).Write(node); err != nil {
		return nil, fmt.Errorf("ask: %w", err)
	}
	reader := bufio.NewReader(node)
	res, err := http.ReadResponse(reader, nil)
	if err != nil {
		return nil, fmt.Errorf("no answer: %w", err)
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 200)) // for the message only
		return nil, fmt.Errorf("refused with %s %q", res.Status, bytes.TrimSpace(text))
	}
	return reader, node.SetDeadline(time.Time{})
}

// ingressRequest is the request of an ingress node. The node refuses a Host that is
// not its peerAPI.
func ingressRequest(peerAPI netip.AddrPort, target string, source netip.AddrPort) *http.Request {
	return &http.Request{
		Method: http.MethodPost,
		URL:    &url.URL{Path: "/v0/ingress"},
		Host:   peerAPI.String(),
		Header: http.Header{
			"Tailscale-Ingress-Src":    {source.String()},
			"Tailscale-Ingress-Target": {target},
		},
	}
}

// splice copies both ways. The end of one direction is passed on as a half close, so
// that a client that has said all still gets its answer.
func splice(client net.Conn, fromClient io.Reader, node net.Conn, fromNode io.Reader) error {
	up := make(chan error, 1)
	go func() { up <- copyAndFinish(node, fromClient, "client to node") }()
	down := copyAndFinish(client, fromNode, "node to client")
	if down != nil {
		// One direction is broken: the other has no use, and may never end.
		_ = client.Close()
		_ = node.Close()
		<-up
		return down
	}
	if err := client.SetReadDeadline(time.Now().Add(lingerTimeout)); err != nil {
		_ = node.Close()
		<-up
		return ignoreClosed(err)
	}
	return <-up
}

// copyAndFinish copies until the end of src and closes dst for writing.
func copyAndFinish(dst net.Conn, src io.Reader, direction string) error {
	_, err := io.Copy(dst, src)
	if half, ok := dst.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // fails when the other side is gone, which is no news
	}
	if err != nil {
		return fmt.Errorf("%s: %w", direction, err)
	}
	return nil
}

// track notes a connection, so that follow and close can end it, and returns the fault
// that it meets.
func (r *relay) track(c net.Conn) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[c] = struct{}{}
	return r.fault
}

func (r *relay) forget(c net.Conn) {
	r.mu.Lock()
	delete(r.open, c)
	r.mu.Unlock()
	_ = c.Close() // it may be closed already
}

func (r *relay) close() error {
	r.stop()
	r.mu.Lock()
	err := ignoreClosed(r.public.Close())
	for c := range r.open {
		_ = c.Close()
	}
	r.mu.Unlock()
	return errors.Join(err, closeInTime(r.node))
}
