package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

const good = "POST /webhooks/github HTTP/1.1\r\nHost: " + ownName + "\r\nContent-Length: 4\r\n\r\ngood"

// brief has connections that end soon after their last answer.
func brief(c *config) { c.Limits.IdleTimeout = 50 * time.Millisecond }

// answers writes bytes as they are, reads until the connection ends and returns
// the status of each answer.
func (s *publicSide) answers(t *testing.T, text string) (codes []int) {
	t.Helper()
	conn := s.dial(t)
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	for {
		res, err := http.ReadResponse(reader, nil)
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("after %v the connection stays", codes)
			}
			return codes
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Error(err)
		}
		codes = append(codes, res.StatusCode)
	}
}

// bodies are those of the requests that reached the parent.
func (p *parent) bodies() (all []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.got {
		all = append(all, string(r.body))
	}
	p.got = nil
	return all
}

// What is not well-formed gets one answer, is counted, and nothing of it, or of
// what follows it, reaches the parent.
func TestIllFormedRequestsNeverReachTheParent(t *testing.T) {
	s := open443(t, brief)
	for i, c := range illFormed {
		text := strings.Replace(c.text, "Host: h\r\n", "Host: "+ownName+"\r\n", 1)
		if codes := s.answers(t, text+good); fmt.Sprint([]int{c.code}) != fmt.Sprint(codes) {
			t.Errorf("%s: want %d, got %d", c.name, c.code, codes)
		}
		if bodies := s.parent.bodies(); bodies != nil {
			t.Errorf("%s: the parent got %q", c.name, bodies)
		}
		s.counted(t, outcomeMalformed, int64(i+1))
	}
	if codes := s.answers(t, good); fmt.Sprint(codes) != "[202]" {
		t.Errorf("a good one gets %d", codes)
	}
}

// What net/http refuses without asking the handler is counted as well.
func TestRefusalsOfTheServerAreCounted(t *testing.T) {
	s := open443(t, brief)
	for i, c := range []struct {
		text string
		code int
	}{
		{"POST /%zz HTTP/1.1\r\nHost: " + ownName + "\r\n\r\n", 400},
		{"POST /webhooks/github HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
		{"POST /webhooks/github HTTP/1.1\r\nHost: " + ownName + "\r\nContent-Length: 1\r\nExpect: tea\r\n\r\nx", 417},
	} {
		if codes := s.answers(t, c.text); fmt.Sprint([]int{c.code}) != fmt.Sprint(codes) {
			t.Errorf("%q: %d", c.text, codes)
		}
		s.counted(t, outcomeMalformed, int64(i+1))
	}
}

// A delivery without a length is told to give one.
func TestDeliveryNeedsALength(t *testing.T) {
	s := open443(t, brief)
	if codes := s.answers(t, "POST /webhooks/github HTTP/1.1\r\nHost: "+ownName+"\r\n\r\n"+good); fmt.Sprint(codes) != "[411]" {
		t.Error(codes)
	}
	if codes := s.answers(t, "POST /webhooks/github HTTP/1.1\r\nHost: "+ownName+"\r\nContent-Length: 0\r\n\r\n"); fmt.Sprint(codes) != "[202]" {
		t.Error(codes)
	}
}

// Requests in a row are judged one by one; what follows a refused one is not read.
func TestPipelinedRequestsAreJudgedOneByOne(t *testing.T) {
	s := open443(t, brief)
	one := func(body string) string { return strings.Replace(good, "good", body, 1) }
	scan := "GET /.env HTTP/1.1\r\nHost: " + ownName + "\r\n\r\n"
	for _, c := range []struct {
		name, text, codes, bodies string
	}{
		{"three good ones", one("aaaa") + one("bbbb") + one("cccc"), "[202 202 202]", `["aaaa" "bbbb" "cccc"]`},
		{"a scan between", one("aaaa") + scan + one("bbbb"), "[202 404]", `["aaaa"]`},
		{"a scan first", scan + one("aaaa"), "[404]", `[]`},
		{"an ill-formed one between", one("aaaa") + "GET / HTTP/1.1\n\n" + one("bbbb"), "[202 400]", `["aaaa"]`},
		{"LF between", one("aaaa") + "\n" + one("bbbb"), "[202 400]", `["aaaa"]`},
		{"CRLF between", one("aaaa") + "\r\n" + one("bbbb"), "[202 400]", `["aaaa"]`},
		{"a NUL between", one("aaaa") + "\x00" + one("bbbb"), "[202 400]", `["aaaa"]`},
		{"a request in a body", one("GET ") + one("bbbb"), "[202 202]", `["GET " "bbbb"]`},
		{"a request in a refused body", strings.Replace(scan, "\r\n\r\n", "\r\nContent-Length: 104\r\n\r\n", 1) + one("aaaa"), "[404]", `[]`},
	} {
		codes := s.answers(t, c.text)
		if bodies := fmt.Sprintf("%q", s.parent.bodies()); fmt.Sprint(codes) != c.codes || bodies != c.bodies {
			t.Errorf("%s: want %s and %s, got %d and %s", c.name, c.codes, c.bodies, codes, bodies)
		}
	}
}

// An ill-formed request that is read ahead does not cut off the answer before it.
func TestReadAheadCutsNothingOff(t *testing.T) {
	s := open443(t, func(c *config) { c.Limits.WriteTimeout = 5 * time.Second })
	entered, finish := make(chan struct{}), make(chan struct{})
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		close(entered)
		select {
		case <-finish:
		case <-r.Context().Done():
		}
		w.WriteHeader(http.StatusAccepted)
	})
	s.parent.answer.Store(&answer)
	conn := s.dial(t)
	io.WriteString(conn, good)
	<-entered
	io.WriteString(conn, "\nGET / HTTP/1.1\n\n")
	time.Sleep(20 * time.Millisecond) // for the read ahead, which nothing tells of
	close(finish)
	reader := bufio.NewReader(conn)
	for _, want := range []int{202, 400} {
		if res, err := http.ReadResponse(reader, nil); err != nil || res.StatusCode != want {
			t.Error(want, res, err)
		}
	}
}

// Only our own name is served, with our port or none.
func TestHostMustBeOurs(t *testing.T) {
	s := open443(t, brief)
	for host, want := range map[string]int{
		ownName: 202, strings.ToUpper(ownName): 202, ownName + ".": 202, ownName + ":443": 202,
		ownName + ":8443": 404, ownName + ":": 404, "x." + ownName: 404, "localhost": 404, "127.0.0.1": 404, "": 404,
		ownName + "@evil.example": 400, // by net/http
	} {
		if codes := s.answers(t, strings.Replace(good, ownName, host, 1)); fmt.Sprint([]int{want}) != fmt.Sprint(codes) {
			t.Errorf("%q: want %d, got %d", host, want, codes)
		}
	}
	s.ownName.Store(nil)
	if codes := s.answers(t, strings.Replace(good, ownName, "localhost", 1)); fmt.Sprint(codes) != "[202]" {
		t.Errorf("without a name of our own: %d", codes)
	}
}

// Who waits for a 100 gets one when the body is wanted, and else the refusal.
func TestExpectIsSettledHere(t *testing.T) {
	s := open443(t, nil)
	conn := s.dial(t)
	io.WriteString(conn, "POST /webhooks/github HTTP/1.1\r\nHost: "+ownName+"\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
	reader := bufio.NewReader(conn)
	if res, err := http.ReadResponse(reader, nil); err != nil || res.StatusCode != 100 {
		t.Fatal(res, err)
	}
	io.WriteString(conn, "good")
	if res, err := http.ReadResponse(reader, nil); err != nil || res.StatusCode != 202 {
		t.Fatal(res, err)
	}
	if got := s.parent.last(t); string(got.body) != "good" || got.header["Expect"] != nil {
		t.Error(got)
	}
	start := time.Now()
	res := s.say(t, "POST / HTTP/1.1\r\nHost: "+ownName+"\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
	if res.StatusCode != 404 || time.Since(start) > time.Second {
		t.Error(res.StatusCode, time.Since(start))
	}
}

// A body that is refused and does not come holds its connection for a moment only.
func TestRefusedBodyIsNotWaitedFor(t *testing.T) {
	s := open443(t, func(c *config) { c.Limits.ReadTimeout, c.Limits.MaxBody = time.Minute, 1<<20 })
	for _, length := range []int{10, 300_000} {
		conn := s.dial(t)
		start := time.Now()
		fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n", ownName, length)
		if _, err := io.ReadAll(conn); err != nil || time.Since(start) > 2*time.Second {
			t.Error(err, time.Since(start))
		}
	}
}

// A caller that goes on sending still gets its refusal.
func TestRefusalArrivesThroughAFlood(t *testing.T) {
	s := open443(t, nil)
	conn := s.dial(t)
	go io.WriteString(conn, "POST / HTTP/1.1\r\nHost: "+ownName+"\r\n"+strings.Repeat("X: y\r\n", 30_000))
	if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || res.StatusCode != 431 {
		t.Error(res, err)
	}
}

// A request to switch protocols is an ordinary one.
func TestUpgradeIsNotForwarded(t *testing.T) {
	s := open443(t, brief)
	text := strings.Replace(good, "\r\nContent", "\r\nConnection: Upgrade, HTTP2-Settings, Content-Length\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\nContent", 1)
	if codes := s.answers(t, text); fmt.Sprint(codes) != "[202]" {
		t.Error(codes)
	}
	got := s.parent.last(t)
	for _, name := range []string{"Upgrade", "Connection", "Http2-Settings"} {
		if got.header[name] != nil {
			t.Error(name, got.header[name])
		}
	}
	if string(got.body) != "good" {
		t.Errorf("%q", got.body)
	}
}

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
	if got := s.unread[unreadSource].Load(); got != 1 {
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
