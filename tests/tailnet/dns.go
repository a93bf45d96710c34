package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// txtKept bounds the TXT values of one name: two orders for one name may run at
// once, older values are of no use.
const txtKept = 4

// dnsServer is the public DNS of the tailnet's domain: every name under ts.net is
// on 127.0.0.1, and holds the TXT records that nodes set for the CA. The CA asks at
// an address of its own and meets no fault: it would leave this machine for an
// address that a fault gives.
type dnsServer struct {
	faults  *faultBox
	public  net.Listener // and the UDP port of the same number
	forCA   net.Listener
	servers []*dns.Server

	mu  sync.Mutex
	txt map[string][]string // by lower-case name with its last dot
}

// startDNS answers on one port of 127.0.0.1, UDP and TCP, and to the CA, which asks
// by TCP, on another.
func startDNS(f *faultBox) (*dnsServer, error) {
	public, pc, err := listenBoth()
	if err != nil {
		return nil, fmt.Errorf("listen for DNS: %w", err)
	}
	forCA, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for the CA's DNS: %w", err), public.Close(), pc.Close())
	}
	d := &dnsServer{faults: f, public: public, forCA: forCA, txt: map[string][]string{}}
	faulty := d.handler(f.get)
	d.servers = []*dns.Server{
		{Listener: public, Handler: faulty},
		{PacketConn: pc, Handler: faulty},
		{Listener: forCA, Handler: d.handler(defaultFaults)},
	}
	for _, s := range d.servers {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { _ = s.ActivateAndServe() }() // ends by Shutdown only
		<-started
	}
	return d, nil
}

func (d *dnsServer) handler(now func() faults) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		if m := d.answer(q, now()); m != nil {
			_ = w.WriteMsg(m)
		}
	}
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

func (d *dnsServer) addr() string { return d.public.Addr().String() }

// addTXT publishes a value under a name.
func (d *dnsServer) addTXT(name, value string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name = strings.ToLower(dns.Fqdn(name))
	values := append(d.txt[name], value)
	d.txt[name] = values[max(0, len(values)-txtKept):]
}

// answer returns what is known, or nil when the fault is silence. No record of a type
// is no error.
func (d *dnsServer) answer(q *dns.Msg, f faults) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.Authoritative = true
	for _, question := range q.Question {
		name := strings.ToLower(question.Name)
		head := dns.RR_Header{Name: name, Rrtype: question.Qtype, Class: dns.ClassINET, Ttl: 1}
		switch {
		case !strings.HasSuffix(name, ".ts.net."):
			return m.SetRcode(q, dns.RcodeRefused)
		case question.Qtype == dns.TypeTXT:
			m.Answer = append(m.Answer, d.texts(head)...)
		case f.lookup == lookupSilent:
			return nil
		case f.lookup == lookupNoName:
			return m.SetRcode(q, dns.RcodeNameError)
		case f.lookup == lookupFails:
			return m.SetRcode(q, dns.RcodeServerFailure)
		default:
			m.Answer = append(m.Answer, addressesOf(head, f.addresses)...)
		}
	}
	return m
}

func (d *dnsServer) texts(head dns.RR_Header) (out []dns.RR) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, value := range d.txt[head.Name] {
		out = append(out, &dns.TXT{Hdr: head, Txt: []string{value}})
	}
	return out
}

// addressesOf returns the addresses of the kind that is asked for.
func addressesOf(head dns.RR_Header, all []netip.Addr) (out []dns.RR) {
	if all == nil {
		all = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	}
	for _, addr := range all {
		switch {
		case addr.Is4() && head.Rrtype == dns.TypeA:
			out = append(out, &dns.A{Hdr: head, A: addr.AsSlice()})
		case addr.Is6() && head.Rrtype == dns.TypeAAAA:
			out = append(out, &dns.AAAA{Hdr: head, AAAA: addr.AsSlice()})
		}
	}
	return out
}

func (d *dnsServer) close() error {
	var errs []error
	for _, s := range d.servers {
		errs = append(errs, s.Shutdown())
	}
	return errors.Join(errs...)
}
