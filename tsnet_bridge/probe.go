package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"tailscale.com/net/tsaddr"
)

const (
	// lookTimeout is GitHub's own patience for an answer.
	lookTimeout = 10 * time.Second
	// firstLookTimeout is shorter: right after a start a new connection is
	// answered sooner than one whose first packet went to our predecessor.
	firstLookTimeout = 3 * time.Second
	probePrefix      = "/.well-known/repo-guardian/"
	longestAnswer    = 256
)

// probeFault is the part of the public path at which a look ended.
type probeFault string

const (
	faultDNS     probeFault = "dns"     // no answer, or none that the public could use
	faultTailnet probeFault = "tailnet" // DNS named an address inside the tailnet
	faultConnect probeFault = "connect"
	faultTLS     probeFault = "tls"
	faultAnswer  probeFault = "answer"
)

// curable reports whether anything that this node can do may mend it.
func (f probeFault) curable() bool { return f != faultDNS && f != faultTailnet }

// look is one request to our own public address.
type look struct {
	at        time.Time
	took      time.Duration
	addresses []netip.Addr
	fault     probeFault // empty: it was answered
	err       error
}

func (l look) failed(f probeFault, err error) look {
	l.fault, l.err = f, err
	return l
}

// document is the look as the status shows it; nothing when there was none.
func (l look) document() probeStatus {
	if l.at.IsZero() {
		return probeStatus{Addresses: []string{}}
	}
	ok, ms := l.err == nil, float64(l.took.Microseconds())/1000
	doc := probeStatus{OK: &ok, At: secondsOrNil(l.at), Addresses: []string{}}
	if ok {
		doc.LatencyMS = &ms
	} else {
		doc.Error = string(l.fault) + ": " + l.err.Error()
	}
	for _, a := range l.addresses {
		doc.Addresses = append(doc.Addresses, a.String())
	}
	return doc
}

// prober asks for our own public address as anybody would: public DNS, a new
// connection to what it names, TLS with our name, one request. The edge answers
// it, and only when it came through the Funnel.
type prober struct {
	port     int
	relay    string // of the local tailnet, instead of port
	resolver *net.Resolver
	cert     func() *servedCert
	expect   func(nonce string) (answer string, forget func())
}

func newProber(cfg config, cert func() *servedCert, expect func(string) (string, func())) *prober {
	p := &prober{port: cfg.Port, relay: cfg.Loopback, resolver: net.DefaultResolver, cert: cert, expect: expect}
	if cfg.Probe.Resolver != "" {
		p.resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, cfg.Probe.Resolver)
		}}
	}
	return p
}

// look asks once. It never fails in another way than by its result.
func (p *prober) look(ctx context.Context, timeout time.Duration) look {
	l := look{at: time.Now()}
	cert := p.cert()
	if cert == nil {
		return l.failed(faultAnswer, errors.New("the public address is not served yet"))
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	l = p.ask(ctx, l, cert)
	l.took = time.Since(l.at)
	return l
}

// ask goes the way of a stranger. A proxy resolves for us, so that what DNS says
// stays unknown then.
func (p *prober) ask(ctx context.Context, l look, cert *servedCert) look {
	nonce := rand.Text()
	answer, forget := p.expect(nonce)
	defer forget()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, publicURL(cert.domain, p.port, probePrefix+nonce), nil)
	if err != nil {
		return l.failed(faultAnswer, err)
	}
	if proxy, err := http.ProxyFromEnvironment(req); err != nil || proxy == nil {
		addresses, fault, err := p.resolve(ctx, cert.domain)
		if l.addresses = addresses; err != nil {
			return l.failed(fault, err)
		}
	}
	client := p.client(l.addresses, cert)
	defer client.CloseIdleConnections()
	res, err := client.Do(req)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // without the address, which is another each time
		}
		if failed, isNet := errors.AsType[*net.OpError](err); isNet && failed.Op == "dial" {
			return l.failed(faultConnect, err)
		}
		return l.failed(faultTLS, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, longestAnswer))
	switch {
	case err != nil:
		return l.failed(faultAnswer, err)
	case res.StatusCode == http.StatusServiceUnavailable:
		return l // by TLS it is ourselves: all places are taken, but the path is good
	case res.StatusCode != http.StatusOK || !bytes.Equal(body, []byte(answer)):
		return l.failed(faultAnswer, fmt.Errorf("another answer than ours: %s", res.Status))
	}
	return l
}

// resolve returns what public DNS says, when the public could use it.
func (p *prober) resolve(ctx context.Context, domain string) ([]netip.Addr, probeFault, error) {
	found, err := p.resolver.LookupNetIP(ctx, "ip", domain+".")
	if err != nil {
		return nil, faultDNS, err
	}
	for i, a := range found {
		found[i] = a.Unmap()
		if tsaddr.IsTailscaleIP(found[i]) {
			return found[:i+1], faultTailnet, fmt.Errorf(
				"DNS names %s, which is inside the tailnet: an answer from there would prove nothing", found[i])
		}
	}
	return found, "", nil
}

// client makes one connection, to the first of the addresses that answers.
func (p *prober) client(addresses []netip.Addr, cert *servedCert) *http.Client {
	var dialer net.Dialer
	public := net.JoinHostPort(cert.domain, strconv.Itoa(p.port))
	return &http.Client{Transport: &http.Transport{
		Proxy:             http.ProxyFromEnvironment,
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, to string) (net.Conn, error) {
			if to != public {
				return dialer.DialContext(ctx, network, to) // the proxy
			}
			var errs []error
			for _, a := range addresses {
				conn, err := dialer.DialContext(ctx, network, p.target(a))
				if err == nil {
					return conn, nil
				}
				errs = append(errs, err)
			}
			return nil, errors.Join(errs...)
		},
		TLSClientConfig: &tls.Config{
			ServerName: cert.domain,
			// The chain is the CA's business: it must be our own certificate.
			InsecureSkipVerify: true,
			VerifyConnection:   p.verify,
		},
	}}
}

// target is where port of an address is; on the local tailnet that is the relay.
func (p *prober) target(a netip.Addr) string {
	if p.relay != "" {
		return p.relay
	}
	return net.JoinHostPort(a.String(), strconv.Itoa(p.port))
}

// verify takes no certificate but the one that we serve.
func (p *prober) verify(state tls.ConnectionState) error {
	leaf := state.PeerCertificates[0]
	if own := p.cert(); own == nil || !leaf.Equal(own.pair.Leaf) {
		return fmt.Errorf("another certificate than ours is served, for %v", leaf.DNSNames)
	}
	if time.Now().After(leaf.NotAfter) {
		return fmt.Errorf("the certificate has ended at %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}
