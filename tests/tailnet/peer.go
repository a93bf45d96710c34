package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"tailscale.com/tsnet"
)

const (
	attackTimeout = 8 * time.Second
	maxAnswer     = 64 << 10
)

// peer is an ordinary node of the tailnet, to try what such a node can do and what it must
// not be able to. It enrols when it is first used, so that the start of the kit does not
// wait for it.
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
	method    string // this and what follows: of the request that is made at last
	path      *url.URL
	headers   map[string]string
}

// result says how far an attempt came.
type result struct {
	Stage string `json:"stage"` // dial, ingress, tls, request or done
	Error string `json:"error"`
	answered
}

// answered is the last HTTP answer.
type answered struct {
	Status  string            `json:"status"`
	Headers map[string]string `json:"headers,omitempty"` // several of a name have a comma between them
	Body    string            `json:"body"`              // 64 KiB of a longer one
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
	return a, errors.Join(append(errs, a.parseRequest(form))...)
}

// parseRequest reads what is asked of the node; headers are a JSON object.
func (a *attempt) parseRequest(form url.Values) (err error) {
	a.method = orElse(form.Get("method"), http.MethodGet)
	if a.path, err = url.ParseRequestURI(orElse(form.Get("path"), "/")); err != nil {
		return fmt.Errorf("path: %w", err)
	}
	if err := json.Unmarshal([]byte(orElse(form.Get("headers"), "{}")), &a.headers); err != nil {
		return fmt.Errorf("headers: %w", err)
	}
	return nil
}

// request is what is asked of the node. A header Host takes the place of the node's name.
func (a attempt) request(host string) *http.Request {
	req := &http.Request{Method: a.method, URL: a.path, Header: http.Header{}}
	for name, value := range a.headers {
		req.Header.Set(name, value)
	}
	req.Host = orElse(req.Header.Get("Host"), host)
	return req
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
	if err := awaitRoute(ctx, from, to); err != nil {
		return result{Stage: "dial", Error: err.Error()}, nil
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
		answer, err := exchange(conn, reader, ingressRequest(to, target, source))
		if err != nil || answer.Status != "101 Switching Protocols" || a.tlsName == "" {
			return result{Stage: "ingress", Error: errorText(err), answered: answer}
		}
	}
	if a.tlsName != "" {
		secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: a.tlsName})
		if err := secure.HandshakeContext(ctx); err != nil {
			return result{Stage: "tls", Error: err.Error()}
		}
		conn, reader = secure, bufio.NewReader(secure)
	}
	answer, err := exchange(conn, reader, a.request(a.host+"."+p.control.faults.get().domain))
	if err != nil {
		return result{Stage: "request", Error: err.Error(), answered: answer}
	}
	return result{Stage: "done", answered: answer}
}

// exchange sends a request and returns the answer.
func exchange(conn net.Conn, reader *bufio.Reader, req *http.Request) (answered, error) {
	if err := req.Write(conn); err != nil {
		return answered{}, err
	}
	res, err := http.ReadResponse(reader, req)
	if err != nil {
		return answered{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	headers := map[string]string{}
	for name, values := range res.Header {
		headers[name] = strings.Join(values, ", ")
	}
	return answered{Status: res.Status, Headers: headers, Body: string(body)}, err
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
