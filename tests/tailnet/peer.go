package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"tailscale.com/tsnet"
)

const attackTimeout = 8 * time.Second

// peer is an ordinary node of the tailnet, to try what such a node must not be able to
// do. It enrols when it is first used, so that the start of the kit does not wait for it.
type peer struct {
	dir     string
	control *control
	relay   *relay

	mu   sync.Mutex
	node *tsnet.Server
}

// attempt is one try to reach a node from inside the tailnet.
type attempt struct {
	host      string
	port      string // of the node; empty with ingress: its peerAPI
	ingress   bool   // POST /v0/ingress to the peerAPI first
	target    string // of that request; empty: the host's own name, port 443
	tlsName   string // speak TLS with this server name; empty: plain
	asIngress bool   // from the ingress node instead of the ordinary one
}

// result says how far an attempt came.
type result struct {
	Stage  string `json:"stage"`  // dial, ingress, tls, request or done
	Status string `json:"status"` // of the last HTTP answer
	Error  string `json:"error"`
}

func newPeer(dir string, c *control, r *relay) *peer {
	return &peer{dir: dir, control: c, relay: r}
}

// parseAttempt reads the form of POST /peer.
func parseAttempt(form url.Values) (attempt, error) {
	a := attempt{host: form.Get("host"), port: form.Get("port"), target: form.Get("target"), tlsName: form.Get("tls")}
	ingress, err := parseFlag(form.Get("papi"))
	errs := []error{err}
	a.ingress = ingress
	switch as := form.Get("as"); as {
	case ingressLabel:
		a.asIngress = true
	case "", peerLabel:
	default:
		errs = append(errs, fmt.Errorf("as=%q: expected %s or %s", as, ingressLabel, peerLabel))
	}
	if a.port == "" && !a.ingress {
		errs = append(errs, errors.New("port is missing"))
	}
	return a, errors.Join(errs...)
}

// try does what the attempt says. The error is of the kit; what the node answers, a
// refusal too, is in the result.
func (p *peer) try(ctx context.Context, a attempt) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, attackTimeout)
	defer cancel()
	from, err := p.from(ctx, a)
	if err != nil {
		return result{}, err
	}
	to, err := p.address(a)
	if err != nil {
		return result{}, err
	}
	conn, err := dialTailnet(ctx, from, to)
	if err != nil {
		return result{Stage: "dial", Error: err.Error()}, nil
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return result{}, err
		}
	}
	return p.speak(ctx, conn, to, a), nil
}

// from returns the node that tries, enrolling it when it is the ordinary one.
func (p *peer) from(ctx context.Context, a attempt) (*tsnet.Server, error) {
	if a.asIngress {
		return p.relay.node, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.node != nil {
		return p.node, nil
	}
	node := newOwnNode(peerLabel, p.dir, p.control.ownURL)
	if _, err := node.Up(ctx); err != nil {
		return nil, errorsAfter(fmt.Errorf("enrol the ordinary node: %w", err), closeInTime(node))
	}
	p.node = node
	return node, nil
}

// address is where the attempt goes.
func (p *peer) address(a attempt) (netip.AddrPort, error) {
	if a.port == "" {
		return p.control.peerAPI(a.host)
	}
	k, err := p.control.keyOf(a.host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ip := p.control.server.Node(k).Addresses[0].Addr()
	return netip.ParseAddrPort(net.JoinHostPort(ip.String(), a.port))
}

func (p *peer) speak(ctx context.Context, conn net.Conn, to netip.AddrPort, a attempt) result {
	reader := bufio.NewReader(conn)
	if a.ingress {
		target := a.target
		if target == "" {
			target = a.host + "." + p.control.faults.get().domain + ":443"
		}
		source := netip.MustParseAddrPort("203.0.113.66:6666") // a lie: nobody asked from there
		status, err := exchange(conn, reader, ingressRequest(to, target, source))
		if err != nil || status != "101 Switching Protocols" || a.tlsName == "" {
			return result{Stage: "ingress", Status: status, Error: errorText(err)}
		}
	}
	if a.tlsName != "" {
		secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: a.tlsName})
		if err := secure.HandshakeContext(ctx); err != nil {
			return result{Stage: "tls", Error: err.Error()}
		}
		conn, reader = secure, bufio.NewReader(secure)
	}
	status, err := exchange(conn, reader, &http.Request{
		Method: http.MethodGet,
		URL:    &url.URL{Path: "/"},
		Host:   a.host + "." + p.control.faults.get().domain,
	})
	if err != nil {
		return result{Stage: "request", Error: err.Error()}
	}
	return result{Stage: "done", Status: status}
}

// exchange sends a request and returns the status of the answer.
func exchange(conn net.Conn, reader *bufio.Reader, req *http.Request) (string, error) {
	if err := req.Write(conn); err != nil {
		return "", err
	}
	res, err := http.ReadResponse(reader, nil)
	if err != nil {
		return "", err
	}
	return res.Status, nil
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (p *peer) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.node == nil {
		return nil
	}
	return closeInTime(p.node)
}
