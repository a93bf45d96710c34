package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// stagedPath is what a look meets: DNS and a TLS server, both of the test.
type stagedPath struct {
	prober  *prober
	cert    *servedCert
	server  *httptest.Server
	answer  string
	address netip.Addr // what DNS says; invalid: nothing
}

func newPath(t *testing.T) *stagedPath {
	t.Helper()
	pair, _ := newCertificate(t, ownName)
	p := &stagedPath{cert: &servedCert{ownName, pair}, address: netip.MustParseAddr("127.0.0.1")}
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != ownName || !strings.HasPrefix(r.URL.Path, probePrefix) {
			t.Error(r.Host, r.URL.Path)
		}
		_, _ = w.Write([]byte(p.answer))
	}))
	p.server.TLS = tlsOf(pair)
	p.server.StartTLS()
	t.Cleanup(p.server.Close)
	cfg := smallConfig(t)
	cfg.Loopback, cfg.Probe.Resolver = p.server.Listener.Addr().String(), p.startDNS(t)
	p.prober = newProber(cfg, func() *servedCert { return p.cert }, func(nonce string) (string, func()) {
		p.answer = "answer to " + nonce
		return p.answer, func() {}
	})
	return p
}

// startDNS answers every question with the one address.
func (p *stagedPath) startDNS(t *testing.T) string {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		for buf := make([]byte, 512); ; {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil {
				continue
			}
			m.Response, m.Additionals = true, nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA && p.address.Is4() {
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
					Body:   &dnsmessage.AResource{A: p.address.As4()},
				}}
			} else if !p.address.IsValid() {
				m.RCode = dnsmessage.RCodeNameError
			}
			raw, _ := m.Pack()
			_, _ = conn.WriteTo(raw, from)
		}
	}()
	return conn.LocalAddr().String()
}

// An answer that only we can give, with our own certificate, is proof.
func TestOwnAnswerIsProof(t *testing.T) {
	p := newPath(t)
	l := p.prober.look(t.Context(), 5*time.Second)
	doc := l.document()
	if l.err != nil || l.fault != "" || !*doc.OK || *doc.LatencyMS <= 0 || doc.Addresses[0] != "127.0.0.1" || doc.Error != "" {
		t.Errorf("%+v %+v", l, doc)
	}
}

// Each part of the path that fails is named.
func TestBrokenPartIsNamed(t *testing.T) {
	other, _ := newCertificate(t, ownName)
	for _, c := range []struct {
		name   string
		broken func(*stagedPath)
		fault  probeFault
		says   string
	}{
		{"no record", func(p *stagedPath) { p.address = netip.Addr{} }, faultDNS, "no such host"},
		{"MagicDNS", func(p *stagedPath) { p.address = netip.MustParseAddr("100.64.0.9") }, faultTailnet, "100.64.0.9"},
		{"nobody there", func(p *stagedPath) { p.server.Close() }, faultConnect, "refused"},
		{"another certificate", func(p *stagedPath) { p.cert = &servedCert{ownName, other} }, faultTLS, "another certificate"},
		{"another answer", func(p *stagedPath) {
			p.prober.expect = func(string) (string, func()) { return "ours", func() {} }
		}, faultAnswer, "another answer"},
		{"nothing served yet", func(p *stagedPath) { p.cert = nil }, faultAnswer, "not served yet"},
	} {
		p := newPath(t)
		c.broken(p)
		l := p.prober.look(t.Context(), 5*time.Second)
		if c.fault != l.fault || l.err == nil || !strings.Contains(l.document().Error, c.says) || *l.document().OK {
			t.Errorf("%s: %+v", c.name, l)
		}
	}
}

// A server that says nothing costs no more than the time that the look has.
func TestSilenceEndsALook(t *testing.T) {
	p := newPath(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	p.prober.relay = ln.Addr().String()
	l := p.prober.look(t.Context(), 50*time.Millisecond)
	if !errors.Is(l.err, context.DeadlineExceeded) || l.fault != faultTLS {
		t.Errorf("%+v", l)
	}
}
