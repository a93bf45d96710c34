package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/miekg/dns"
)

// helloOf returns the bytes that a TLS client says first.
func helloOf(t *testing.T, name string) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer server.Close()
	go func() {
		_ = tls.Client(client, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake()
	}()
	defer client.Close()
	buf := make([]byte, 1<<16)
	n, err := server.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

func TestHelloIsReadAndKept(t *testing.T) {
	hello := helloOf(t, "host.tail-box.ts.net")
	name, seen, err := readHello(iotest.OneByteReader(bytes.NewReader(hello)))
	if name != "host.tail-box.ts.net" || !bytes.Equal(seen, hello) || err != nil {
		t.Errorf("got %q, %d of %d bytes, %v", name, len(seen), len(hello), err)
	}
}

func TestWhatIsNoHelloIsRefused(t *testing.T) {
	for name, input := range map[string][]byte{
		"plain HTTP": []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"nothing":    nil,
		"a part":     helloOf(t, "host")[:40],
		"no name":    helloOf(t, ""),
	} {
		if _, _, err := readHello(bytes.NewReader(input)); err == nil {
			t.Errorf("%s was taken for a hello", name)
		}
	}
}

func TestDNSAnswersForTheTailnetOnly(t *testing.T) {
	d := startedDNS(t, newFaultBox())
	d.addTXT("_acme-challenge.Host.tail-box.ts.net", "proof")
	for _, c := range []struct {
		network, name string
		qtype         uint16
		rcode         int
		want          string
	}{
		{"tcp", "_acme-challenge.host.tail-box.ts.net.", dns.TypeTXT, dns.RcodeSuccess, `"proof"`},
		{"udp", "host.tail-box.ts.net.", dns.TypeA, dns.RcodeSuccess, "127.0.0.1"},
		{"udp", "host.tail-box.ts.net.", dns.TypeAAAA, dns.RcodeSuccess, ""},
		{"udp", "github.com.", dns.TypeA, dns.RcodeRefused, ""},
	} {
		rcode, got, err := lookUp(c.network, d.addr(), c.name, c.qtype)
		if rcode != c.rcode || got != c.want || err != nil {
			t.Errorf("%s %d: got %d %q %v, want %d %q", c.name, c.qtype, rcode, got, err, c.rcode, c.want)
		}
	}
}

func startedDNS(t *testing.T, f *faultBox) *dnsServer {
	t.Helper()
	d, err := startDNS(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.close() })
	return d
}

// lookUp returns the code of the answer and the values of its records.
func lookUp(network, server, name string, qtype uint16) (rcode int, values string, err error) {
	client := &dns.Client{Net: network, Timeout: 100 * time.Millisecond}
	in, _, err := client.Exchange(new(dns.Msg).SetQuestion(name, qtype), server)
	if err != nil {
		return 0, "", err
	}
	for _, rr := range in.Answer {
		values += strings.TrimPrefix(rr.String(), rr.Header().String()) + " "
	}
	return in.Rcode, strings.TrimSpace(values), nil
}

func TestFaultsOfPublicAddressesLeaveTheCAAlone(t *testing.T) {
	f := newFaultBox()
	d := startedDNS(t, f)
	const name = "host.tail-box.ts.net."
	d.addTXT(name, "proof")
	for _, c := range []struct {
		fault, value string
		qtype        uint16
		rcode        int
		want         string
	}{
		{"a_answer", "100.64.0.9,fd7a:115c:a1e0::9,127.0.0.1", dns.TypeA, dns.RcodeSuccess, "100.64.0.9 127.0.0.1"},
		{"a_answer", "100.64.0.9,fd7a:115c:a1e0::9", dns.TypeAAAA, dns.RcodeSuccess, "fd7a:115c:a1e0::9"},
		{"a_fail", lookupNoName, dns.TypeA, dns.RcodeNameError, ""},
		{"a_fail", lookupFails, dns.TypeAAAA, dns.RcodeServerFailure, ""},
	} {
		f.reset()
		if err := f.set(url.Values{c.fault: {c.value}}); err != nil {
			t.Fatal(err)
		}
		if rcode, got, err := lookUp("udp", d.addr(), name, c.qtype); rcode != c.rcode || got != c.want || err != nil {
			t.Errorf("%s=%s: got %d %q %v", c.fault, c.value, rcode, got, err)
		}
		if _, got, err := lookUp("udp", d.addr(), name, dns.TypeTXT); got != `"proof"` || err != nil {
			t.Errorf("%s=%s: TXT is %q %v", c.fault, c.value, got, err)
		}
		if _, got, err := lookUp("tcp", d.forCA.Addr().String(), name, dns.TypeA); got != "127.0.0.1" || err != nil {
			t.Errorf("%s=%s: the CA gets %q %v", c.fault, c.value, got, err)
		}
	}
	if err := f.set(url.Values{"a_fail": {lookupSilent}}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := lookUp("udp", d.addr(), name, dns.TypeA); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("silence: %v", err)
	}
}

func TestOldTXTValuesGo(t *testing.T) {
	d := &dnsServer{txt: map[string][]string{}}
	for _, v := range []string{"1", "2", "3", "4", "5", "6"} {
		d.addTXT("x.ts.net", v)
	}
	if got := d.txt["x.ts.net."]; !slices.Equal(got, []string{"3", "4", "5", "6"}) {
		t.Errorf("kept %q", got)
	}
}

func TestServerGoesAwayAndComesBack(t *testing.T) {
	s, err := listenSwitchable(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	s.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here") }))
	held, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func() error {
		res, err := client.Get("http://" + s.addr)
		if err != nil {
			return err
		}
		return res.Body.Close()
	}
	for _, step := range []struct {
		name string
		do   func() error
		up   bool
	}{{"at the start", nil, true}, {"down", s.down, false}, {"down again", s.down, false}, {"up", s.up, true}, {"up again", s.up, true}} {
		if step.do != nil {
			if err := step.do(); err != nil {
				t.Fatal(err)
			}
		}
		if err := get(); (err == nil) != step.up {
			t.Errorf("%s: %v", step.name, err)
		}
	}
	if _, err := held.Read(make([]byte, 1)); err == nil {
		t.Error("a connection outlived the outage")
	}
}

func TestJournalForgetsTheOldest(t *testing.T) {
	j := newJournal()
	for range journalLimit + 1 {
		j.add(relayLog, "line")
	}
	if got := len(j.read()[relayLog]); got != journalLimit/2+1 {
		t.Errorf("%d lines", got)
	}
	j.clear()
	if got := j.read(); len(got) != 4 || len(got[relayLog]) != 0 || got[relayLog] == nil {
		t.Errorf("after clear: %v", got)
	}
}

func TestPauseEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	if !pause(ctx, 0) {
		t.Error("no pause was cut short")
	}
	cancel()
	if pause(ctx, startTimeout) {
		t.Error("a pause went on after its context")
	}
}
