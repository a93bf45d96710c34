package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

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
	d, err := startDNS()
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
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
		in, _, err := (&dns.Client{Net: c.network}).Exchange(new(dns.Msg).SetQuestion(c.name, c.qtype), d.addr())
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, rr := range in.Answer {
			got += strings.TrimPrefix(rr.String(), rr.Header().String())
		}
		if in.Rcode != c.rcode || got != c.want {
			t.Errorf("%s %d: got %d %q, want %d %q", c.name, c.qtype, in.Rcode, got, c.rcode, c.want)
		}
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
	if got := j.read(); len(got) != 3 || len(got[relayLog]) != 0 || got[relayLog] == nil {
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
