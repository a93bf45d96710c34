package main

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// txtKept bounds the TXT values of one name: two orders for one name may run at
// once, older values are of no use.
const txtKept = 4

// dnsServer is the public DNS of the tailnet's domain: every name under ts.net is
// on 127.0.0.1, and holds the TXT records that nodes set for the CA.
type dnsServer struct {
	udp *dns.Server
	tcp *dns.Server

	mu  sync.Mutex
	txt map[string][]string // by lower-case name with its last dot
}

// startDNS answers on one port of 127.0.0.1, UDP and TCP (the CA asks by TCP).
func startDNS() (*dnsServer, error) {
	ln, pc, err := listenBoth()
	if err != nil {
		return nil, fmt.Errorf("listen for DNS: %w", err)
	}
	d := &dnsServer{txt: map[string][]string{}}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { _ = w.WriteMsg(d.answer(q)) })
	d.tcp = &dns.Server{Listener: ln, Handler: handler}
	d.udp = &dns.Server{PacketConn: pc, Handler: handler}
	for _, s := range []*dns.Server{d.tcp, d.udp} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { _ = s.ActivateAndServe() }() // ends by Shutdown only
		<-started
	}
	return d, nil
}

// listenBoth takes a TCP port and the UDP port of the same number. The kernel
// chooses the first, so the second may be taken: then another pair is tried.
func listenBoth() (net.Listener, net.PacketConn, error) {
	var errs []error
	for range 10 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, nil, err
		}
		pc, err := net.ListenPacket("udp", ln.Addr().String())
		if err == nil {
			return ln, pc, nil
		}
		errs = append(errs, err, ln.Close())
	}
	return nil, nil, errors.Join(errs...)
}

func (d *dnsServer) addr() string { return d.tcp.Listener.Addr().String() }

// addTXT publishes a value under a name.
func (d *dnsServer) addTXT(name, value string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name = strings.ToLower(dns.Fqdn(name))
	values := append(d.txt[name], value)
	d.txt[name] = values[max(0, len(values)-txtKept):]
}

func (d *dnsServer) answer(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.Authoritative = true
	for _, question := range q.Question {
		name := strings.ToLower(question.Name)
		if !strings.HasSuffix(name, ".ts.net.") {
			return m.SetRcode(q, dns.RcodeRefused)
		}
		m.Answer = append(m.Answer, d.records(name, question.Qtype)...)
	}
	return m
}

// records returns what is known of a name; no record of a type is no error.
func (d *dnsServer) records(name string, qtype uint16) []dns.RR {
	head := dns.RR_Header{Name: name, Rrtype: qtype, Class: dns.ClassINET, Ttl: 1}
	switch qtype {
	case dns.TypeA:
		return []dns.RR{&dns.A{Hdr: head, A: net.IPv4(127, 0, 0, 1)}}
	case dns.TypeTXT:
		d.mu.Lock()
		defer d.mu.Unlock()
		var out []dns.RR
		for _, value := range d.txt[name] {
			out = append(out, &dns.TXT{Hdr: head, Txt: []string{value}})
		}
		return out
	default:
		return nil
	}
}

func (d *dnsServer) close() error {
	return errors.Join(d.tcp.Shutdown(), d.udp.Shutdown())
}
