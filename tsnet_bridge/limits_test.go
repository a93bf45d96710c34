package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A caller over its rate is told when to come back; others are not touched, and
// what is not found or not well-formed counts too.
func TestRateIsOfOneSource(t *testing.T) {
	s := open443(t, func(c *config) {
		brief(c)
		c.Limits.SourceRate = 0.3 // a burst of three
	})
	for _, text := range []string{good, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"} {
		s.answers(t, text)
	}
	for range 3 {
		res := s.say(t, good)
		if res.StatusCode != 429 || !res.Close || res.Header.Get("Retry-After") != "4" {
			t.Error(res.StatusCode, res.Header)
		}
	}
	if conn, err := tls.Dial("tcp", s.addr, &tls.Config{RootCAs: s.roots, ServerName: ownName}); err == nil {
		conn.Close()
		t.Error("a connection was taken from who has spent its answers too")
	}
	s.counted(t, outcomeLimited, 3)
	if s.unread[unreadRate].Load() != 1 || len(s.parent.bodies()) != 1 {
		t.Error(s.unread[unreadRate].Load())
	}
	s.from("203.0.113.8")
	if codes := s.answers(t, good); fmt.Sprint(codes) != "[202]" {
		t.Error(codes)
	}
}

// Connections of one source are limited, those of others are not; a /64 is one source.
func TestConnectionsAreOfOneSource(t *testing.T) {
	s := open443(t, func(c *config) {
		brief(c)
		c.Limits.SourceConnections = 1
		c.Limits.ReadHeaderTimeout = 5 * time.Second
	})
	start := time.Now()
	s.from("2001:db8:1:2::1")
	s.dial(t)
	s.from("2001:db8:1:2::2")
	if res := s.say(t, good); res.StatusCode != 503 || res.Header.Get("Retry-After") != "5" || !res.Close {
		t.Error(res.StatusCode, res.Header)
	}
	s.counted(t, outcomeBusy, 1)
	soon(t, "the second is closed", func() bool { return s.open.Load() == 1 })
	s.dial(t)
	if conn, err := tls.Dial("tcp", s.addr, &tls.Config{RootCAs: s.roots, ServerName: ownName}); err == nil {
		conn.Close()
		t.Error("a third connection of one source was taken")
	}
	if got := s.unread[unreadSource].Load(); got != 1 || !s.turnedAway(start) || s.turnedAway(time.Now()) {
		t.Error(got)
	}
	s.from("2001:db8:1:3::1")
	if codes := s.answers(t, good); fmt.Sprint(codes) != "[202]" {
		t.Error(codes)
	}
}

// Each way in which a handshake fails has its reason.
func TestFailedHandshakesAreSorted(t *testing.T) {
	s := open443(t, nil)
	raw := func(text string, wait bool) func() {
		return func() {
			conn, err := net.Dial("tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			io.WriteString(conn, text)
			if wait {
				io.Copy(io.Discard, conn)
			}
		}
	}
	hello := func(c *tls.Config) func() {
		return func() {
			if conn, err := tls.Dial("tcp", s.addr, c); err == nil {
				conn.Read(make([]byte, 1))
				conn.Close()
			}
		}
	}
	for reason, fail := range map[handshakeReason]func(){
		handshakeUnknownName: hello(&tls.Config{ServerName: "other.example", InsecureSkipVerify: true}),
		handshakeVersion:     hello(&tls.Config{ServerName: ownName, InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}),
		handshakeNoTLS:       raw("GET / HTTP/1.1\r\n\r\n", true),
		handshakeTimeout:     raw("", true),
		handshakeHungUp:      raw("\x16\x03\x01\x02\x00", false),
		handshakeRefused:     hello(&tls.Config{ServerName: ownName}), // it knows no CA of ours
		handshakeOther:       hello(&tls.Config{ServerName: ownName, InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}}),
	} {
		fail()
		soon(t, reason.String(), func() bool { return s.handshakes[reason].Load() == 1 })
	}
	for reason := range handshakeReasons {
		if got := s.handshakes[reason].Load(); got != 1 {
			t.Errorf("%s: %d", reason, got)
		}
	}
}

// A validation of the certificate authority is a handshake and nothing more.
func TestValidationEndsAfterItsHandshake(t *testing.T) {
	pair, roots := newCertificate(t, ownName)
	s := &publicSide{edge: newEdge(smallConfig(t), quiet()), roots: roots}
	s.from("203.0.113.7")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.serve(funnelListener{ln, &tls.Config{Certificates: []tls.Certificate{*pair}, NextProtos: []string{acmeALPN}}, &s.src})
	t.Cleanup(func() { ln.Close(); s.server.Close() })
	conn, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{RootCAs: roots, ServerName: ownName, NextProtos: []string{acmeALPN}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(conn, good)
	if answer, _ := io.ReadAll(conn); len(answer) != 0 {
		t.Errorf("%q", answer)
	}
	soon(t, "the connection is over", func() bool { return s.open.Load() == 0 })
	for reason := range handshakeReasons {
		if s.handshakes[reason].Load() != 0 {
			t.Error(reason)
		}
	}
}

// Of what scanners do, one line a second is logged.
func TestNoiseIsLoggedNowAndThen(t *testing.T) {
	var logged bytes.Buffer
	e := newEdge(smallConfig(t), slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug})))
	for range 100 {
		e.serverError("http: TLS handshake error")
	}
	e.serverError("http: panic serving 203.0.113.7: oh")
	if text := logged.String(); strings.Count(text, "\n") != 2 || !strings.Contains(text, "level=ERROR msg=edge.panicked") {
		t.Error(text)
	}
}

// Slow headers are counted, as the first and as a later one, and so are callers
// that stay and say nothing; those that are done are not.
func TestSlowCallersAreCounted(t *testing.T) {
	s := open443(t, func(c *config) { c.Limits.IdleTimeout = 100 * time.Millisecond })
	for _, text := range []string{"", "POST", "POST / HTTP/1.1\r\nHost: ", good + "POST /webho"} {
		conn := s.dial(t)
		io.WriteString(conn, text)
		io.Copy(io.Discard, conn)
	}
	soon(t, "four headers were slow", func() bool { return s.timeouts[timeoutHeader].Load() >= 4 })
	conn := s.dial(t)
	io.WriteString(conn, good)
	io.Copy(io.Discard, conn)
	soon(t, "one was idle", func() bool { return s.timeouts[timeoutIdle].Load() == 1 })
	s.answers(t, strings.Replace(good, "\r\n", "\r\nConnection: close\r\n", 1))
	s.answers(t, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	if header, idle := s.timeouts[timeoutHeader].Load(), s.timeouts[timeoutIdle].Load(); header != 4 || idle != 1 {
		t.Error(header, idle)
	}
}

// A caller that does not take its answer is given up.
func TestUnreadAnswerIsGivenUp(t *testing.T) {
	s := open443(t, func(c *config) { c.Limits.WriteTimeout = 300 * time.Millisecond })
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, io.LimitReader(endless{}, 64<<20))
	})
	s.parent.answer.Store(&answer)
	io.WriteString(s.dial(t), good)
	soon(t, "the write is given up", func() bool { return s.timeouts[timeoutWrite].Load() == 1 })
	soon(t, "the connection is gone", func() bool { return s.open.Load() == 0 })
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// A look at our own address is answered with what only this process knows, also
// when everything is full, and never from inside the tailnet.
func TestProbeIsAnsweredByThisProcess(t *testing.T) {
	s := open443(t, func(c *config) {
		brief(c)
		c.Limits.MaxConnections, c.Limits.SourceRate = 1, 0.1
	})
	answer, forget := s.expectProbe("NONCE")
	look := func(method, nonce string) (int, string) {
		soon(t, "there is a place for an answer", func() bool { return s.open.Load() <= 1 })
		res := s.say(t, method+" "+probePrefix+nonce+" HTTP/1.1\r\nHost: "+ownName+":443\r\n\r\n")
		body, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(body)
	}
	for i := range 3 {
		if code, body := look("GET", "NONCE"); code != 200 || body != answer || len(body) < 20 {
			t.Error(code, body)
		}
		if i == 0 {
			soon(t, "the first look is over", func() bool { return s.open.Load() == 0 })
			if codes := s.answers(t, good); fmt.Sprint(codes) != "[202]" {
				t.Error(codes)
			}
			soon(t, "the delivery is over", func() bool { return s.open.Load() == 0 })
			s.dial(t)
			soon(t, "the one place is taken", func() bool { return s.open.Load() == 1 })
		}
	}
	s.counted(t, outcomeProbe, 3)
	s.from("203.0.113.9")
	if code, _ := look("POST", "NONCE"); code != 503 {
		t.Error(code)
	}
	forget()
	s.from("203.0.113.10")
	if code, body := look("GET", "NONCE"); code == 200 {
		t.Error(code, body)
	}
	if s.parent.bodies(); len(s.parent.got) != 0 {
		t.Error("the parent was bothered")
	}
}

// Unknown nonces, other names and callers inside the tailnet are told nothing.
func TestProbeIsForWhoAskedForIt(t *testing.T) {
	s := open443(t, func(c *config) { c.TailnetPaths = []string{probePrefix + "NONCE"} })
	s.expectProbe("NONCE")
	for _, text := range []string{
		"GET " + probePrefix + "OTHER HTTP/1.1\r\nHost: " + ownName + "\r\n\r\n",
		"GET " + probePrefix + " HTTP/1.1\r\nHost: " + ownName + "\r\n\r\n",
		"GET " + probePrefix + "NONCE HTTP/1.1\r\nHost: other.example\r\n\r\n",
		"HEAD " + probePrefix + "NONCE HTTP/1.1\r\nHost: " + ownName + "\r\n\r\n",
	} {
		if res := s.say(t, text); res.StatusCode != 404 {
			t.Errorf("%q: %d", text, res.StatusCode)
		}
	}
	s.from("")
	if res := s.say(t, "GET "+probePrefix+"NONCE HTTP/1.1\r\nHost: "+ownName+"\r\n\r\n"); res.StatusCode != 403 {
		t.Error(res.StatusCode)
	}
}

// Every counter of the edge is in the metrics, with all its reasons.
func TestEdgeMetricsHaveAllReasons(t *testing.T) {
	var x exposition
	x.writeEdge(newEdge(smallConfig(t), quiet()))
	for _, want := range []string{
		`requests_total{outcome="limited"} 0`, `requests_total{outcome="malformed"} 0`,
		`connections_refused_total{reason="cap"} 0`, `connections_refused_total{reason="source"} 0`, `connections_refused_total{reason="rate"} 0`,
		`connection_timeouts_total{phase="header"} 0`, `handshake_errors_total{reason="unknown_name"} 0`,
		`handshake_errors_total{reason="other"} 0`, "sources 0",
	} {
		if !bytes.Contains([]byte(x.String()), []byte(metricPrefix+want+"\n")) {
			t.Errorf("%s is missing", want)
		}
	}
}
